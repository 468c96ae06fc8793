"""The report of a period, with the earlier ranges that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pagestats.admin.periods import Period
from pagestats.admin.series import Row, Series
from pagestats.admin.tables import PER_PAGE, RowsQuery
from pagestats.days import Moment
from pagestats.dimensions import PAGE
from pagestats.stats import MOST_DAYS_BY_HOUR, RangeCounts, Report, report


@dataclass(frozen=True, kw_only=True)
class PeriodReport:
    """The report of a period, of the site or of one page."""

    period: Period
    report: Report
    earlier: list[RangeCounts]
    """The range before it and the same range a year before: those that begin after the recording did."""
    before: Sequence[Row]
    """The range before it, by hour or by day, as the period itself; empty where it is not compared with that."""

    @property
    def is_fair(self) -> bool:
        """Whether to compare in percent: a day that has only begun is less than a whole one before."""
        return self.period.is_over or self.period.start < self.period.end

    def series(self, moment: Moment) -> Series:
        """Return the counts by hour or by day, as of a moment."""
        return Series(counts=self.report.hours or self.report.days, before=self.before, at=moment.at)


def read_report(
    period: Period, moment: Moment, *, path: str | None = None, rows: RowsQuery | None = None
) -> PeriodReport:
    """Read the report of a period, by hour if it is short.

    Where page views were pruned, it comes by day if hours aren't available, and pages come by views if their visitors
    aren't. Raises `CannotTell` when the visitors of the one page aren't available.

    Args:
        path: of the one page to report on; None is the whole site.
        rows: which pages of the site to list; None lists none.
    """
    is_short = (period.end - period.start).days < MOST_DAYS_BY_HOUR
    found = report(
        period.start,
        period.end,
        dimension=PAGE.name if path is not None or rows else None,
        value=path,
        by="hour" if is_short else "day",
        order=rows.order if rows else "-views",
        search=rows.search if rows else "",
        limit=PER_PAGE if rows else 0,
        offset=rows.offset if rows else 0,
        compare=True,
        lenient=True,
        moment=moment,
    )
    earlier = [
        counts
        for counts in (found.previous, found.year_before)
        if counts and period.first_day and counts.start >= period.first_day
    ]
    if len(earlier) == 2 and (earlier[0].start, earlier[0].end) == (earlier[1].start, earlier[1].end):
        earlier.pop()  # of twelve months, the period before is that of a year before
    before: Sequence[Row] = ()
    if found.previous and found.previous in earlier:
        before = found.previous.hours if found.hours else found.previous.days
    return PeriodReport(period=period, report=found, earlier=earlier, before=before)
