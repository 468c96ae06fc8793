"""Read the figures of a period, as much of them as can be told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import product
from typing import Any

from pagestats.admin.pages import PER_PAGE, Asked
from pagestats.admin.periods import Period
from pagestats.admin.series import Row, Series
from pagestats.stats import MOST_DAYS_BY_HOUR, By, CannotTell, Order, RangeCounts, Report, report


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The figures of a period, of the site or of one page, and the earlier ranges that it is compared with."""

    period: Period
    told: Report
    earlier: list[RangeCounts]
    """The range before it and the same range a year before: those that begin after the recording did."""
    before: Sequence[Row]
    """The range before it, by hour or by day, as the period itself; empty where it is not compared with that."""

    @property
    def is_fair(self) -> bool:
        """Whether it makes sense to compare: a day that has only begun is less than a whole one before."""
        return self.period.is_over or self.period.start < self.period.end

    def series(self, at: datetime) -> Series:
        """Return the figures by hour or by day, as of an instant."""
        return Series(figures=self.told.hours or self.told.days, before=self.before, at=at)


def read(
    period: Period, *, path: str | None = None, asked: Asked | None = None, limit: int | None = PER_PAGE
) -> Reading:
    """Read the figures of a period, by hour if it is short.

    Where page views were pruned, it is by day if hours can't be told, and pages come by views if visitors can't be.
    Raises `CannotTell` when that can't be told either.

    Arguments:
        path: of the one page that all is of; None is the whole site.
        asked: which pages of the site to list; None is none.
        limit: how many of them; None is all.
    """
    is_short = (period.end - period.start).days < MOST_DAYS_BY_HOUR
    units: list[By] = ["hour", "day"] if is_short else ["day"]
    orders: list[Order] = [asked.order, "-views"] if asked else ["-views"]
    what: dict[str, Any] = {"dimension": "page", "value": path, "limit": 0}
    if asked:
        what |= {"search": asked.search, "limit": limit, "offset": 0 if limit is None else asked.offset}
    told = _first(
        partial(report, period.start, period.end, compare=True, by=by, order=order, **what)
        for by, order in product(units, orders)
    )
    earlier = [
        figures
        for figures in (told.previous, told.year_before)
        if figures and period.first_day and figures.start >= period.first_day
    ]
    if len(earlier) == 2 and (earlier[0].start, earlier[0].end) == (earlier[1].start, earlier[1].end):
        earlier.pop()  # of twelve months, the period before is that of a year before
    before: Sequence[Row] = ()
    if told.previous and told.previous in earlier:
        before = _hours(told.previous, path) if told.hours else told.previous.days
    return Reading(period=period, told=told, earlier=earlier, before=before)


def _first(attempts: Iterable[Callable[[], Report]]) -> Report:
    """Return the first report that can be told."""
    reason: CannotTell | None = None
    for attempt in attempts:
        try:
            return attempt()
        except CannotTell as error:
            reason = error
    assert reason is not None
    raise reason


def _hours(figures: RangeCounts, path: str | None) -> Sequence[Row]:
    try:
        return report(figures.start, figures.end, dimension="page", value=path, by="hour", limit=0).hours
    except CannotTell:
        return ()
