"""The exact counts of any range of reporting days."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date, datetime
from typing import Any, Literal, TypeVar, get_args

from pagestats.days import YEARS, Moment
from pagestats.dimensions import PAGE, WHOLE_SITE, Dimension, Key, named, with_rows
from pagestats.stats.counts import RangeCounts, Report, Row, Rows
from pagestats.stats.hours import Hours, hours_of
from pagestats.stats.moments import read_moment
from pagestats.stats.refusals import (
    CannotTell,
    Reason,
    Refused,
    UnknownPage,
    refuse_no_number_of_rows,
    stored_path,
)
from pagestats.stats.rows import Order, ranked_rows
from pagestats.stats.seals import seals_over
from pagestats.stats.span import Span
from pagestats.stats.summed import OtherZone, summed
from pagestats.stats.titled import shown_titles

MOST_DAYS = 3660
MOST_DAYS_BY_HOUR = 2

By = Literal["day", "hour"]
Answer = TypeVar("Answer")


def report(
    start: date,
    end: date,
    *,
    dimension: str | None = None,
    value: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    order: Order = "-views",
    search: str = "",
    by: By = "day",
    compare: bool = False,
    public: bool = False,
    lenient: bool = False,
    moment: Moment | None = None,
) -> Report:
    """Read the exact counts of a range of reporting days, pending page views included.

    The number of queries does not depend on how many views there are, and their cost depends on the days, not on the
    traffic; except for the hours, which are counted from the page views themselves. A pending view of a sealed day
    counts as one of a session that was not there before, because the views that would show it were pruned.

    Args:
        start: the first reporting day.
        end: the last one, included. A range has at most 3,660 days.
        dimension: the name of a registered dimension, whose values become rows: "page" gives the pages of the range.
        value: a value of the dimension, such as a path. The whole report is then of that one value.
        limit: the largest number of rows; None is all. `total_rows` is of all.
        offset: how many rows to leave out at the beginning.
        order: of the rows: by "views", "visitors" or "value", with a minus the largest first. Equal ones follow by
            value, byte by byte.
        search: only rows whose value or title contains this text, in any case; `total_rows` is of those. It costs as
            much as there are values in the range, since it looks at the titles of all.
        by: "hour" adds the counts of each hour of the clock, for ranges of at most two days whose page views are all
            kept. An hour that comes twice, when clocks are put back, is two.
        compare: also read the range of as many days before this one, and the same range a year before, for which
            29 February is 28 February. None: not available. With `by="hour"`, the former has hours, too, if it can.
        public: True is for readers without the permission, since a path can be a secret: rows are only of values that
            are public, of pages those that a content source knows or PAGESTATS_CLIENT_PATHS matches, and so must be
            `value`. `total_rows` is of all.
        lenient: leave out hours that aren't available, and order rows by views where their visitors aren't, instead of
            raising.
        moment: when the reader asks, if it was read already; None reads it.

    Raises:
        Refused: a `ValueError`, for arguments that it does not take.
        CannotTell: the visitors of `value`, hours, or an order by visitors aren't available, because page views were
            pruned.
        UnknownPage: `public` is True and `value` isn't public.
    """
    _check_range(start, end)
    _check_rows(limit=limit, offset=offset, order=order, search=search)
    _check_choice("by", by, get_args(By))
    if by == "hour" and (days := (end - start).days + 1) > MOST_DAYS_BY_HOUR:
        raise Refused(
            f"{start} to {end} are {days:,} days, too many for hours. Ask for at most {MOST_DAYS_BY_HOUR}, or by day."
        )
    key = _key(dimension, value)
    if search and (dimension is None or value is not None):
        raise Refused(f"search is {search!r:.100}, and there are no rows to search. Give a dimension without a value.")
    if public and value is not None:
        _require_public(key)

    def read(moment: Moment) -> Report:
        span = Span(start, end, moment.zone)
        spans = [span, span.previous(), span.year_before()] if compare else [span]
        counts = _counts(key, spans)
        of_range = counts[span]
        if isinstance(of_range, Reason):
            raise CannotTell(of_range)
        hours, hours_before = _hours(key, span, compare=compare, lenient=lenient) if by == "hour" else ((), ())
        if dimension is None:
            rows = Rows()
        elif value is None:
            rows = ranked_rows(
                named(dimension),
                span,
                limit=limit,
                offset=offset,
                order=order,
                search=search,
                public=public,
                lenient=lenient,
            )
        else:
            rows = _row_of(key, of_range, limit=limit, offset=offset)
        previous, year_before = [_available(counts[other]) for other in spans[1:]] or [None, None]
        return Report(
            **{column.name: getattr(of_range, column.name) for column in fields(of_range) if column.name != "hours"},
            **{column.name: getattr(rows, column.name) for column in fields(rows)},
            zone=span.zone,
            dimension=dimension,
            value=None if value is None else key.value,
            hours=hours,
            previous=previous and replace(previous, hours=hours_before),
            year_before=year_before,
        )

    return _in_one_zone(read, moment)


def report_rows(
    start: date,
    end: date,
    *,
    dimension: str = PAGE.name,
    limit: int | None = None,
    offset: int = 0,
    order: Order = "-views",
    search: str = "",
    public: bool = False,
    lenient: bool = False,
    moment: Moment | None = None,
) -> Rows:
    """Read the rows of a report alone, which takes fewer statements. Arguments and errors are those of `report`."""
    _check_range(start, end)
    _check_rows(limit=limit, offset=offset, order=order, search=search)
    found = _dimension(dimension)

    def read(moment: Moment) -> Rows:
        span = Span(start, end, moment.zone)
        return ranked_rows(
            found,
            span,
            limit=limit,
            offset=offset,
            order=order,
            search=search,
            public=public,
            lenient=lenient,
        )

    return _in_one_zone(read, moment)


def _in_one_zone(read: Callable[[Moment], Answer], moment: Moment | None) -> Answer:
    """Return what is read at a moment; read again if a rebuild changes the reporting zone meanwhile."""
    moment = moment or read_moment()
    while True:
        try:
            return read(moment)
        except OtherZone:
            moment = read_moment(moment.at)


def _check_range(start: Any, end: Any) -> None:
    for name, day in (("start", start), ("end", end)):
        if not isinstance(day, date) or isinstance(day, datetime):
            raise Refused(f"{name} is {day!r:.100}, not a date. Use a datetime.date.")
        if day.year not in YEARS:
            raise Refused(f"{name} is {day}, outside the years {YEARS.start} to {YEARS.stop - 1}.")
    if start > end:
        raise Refused(f"start is {start}, after end, which is {end}. Exchange them.")
    if (days := (end - start).days + 1) > MOST_DAYS:
        raise Refused(f"{start} to {end} are {days:,} days. Ask for at most {MOST_DAYS:,}.")


def _check_rows(*, limit: Any, offset: Any, order: Any, search: Any) -> None:
    refuse_no_number_of_rows("limit", 0 if limit is None else limit)
    refuse_no_number_of_rows("offset", offset)
    if not isinstance(search, str):
        raise Refused(f"search is {search!r:.100}, a {type(search).__name__}, not a text.")
    _check_choice("order", order, get_args(Order))


def _check_choice(name: str, chosen: Any, known: tuple[str, ...]) -> None:
    if chosen not in known:
        raise Refused(f"{name} is {chosen!r:.100}. Use {' or '.join(map(repr, known))}.")


def _dimension(name: Any) -> Dimension:
    """Return the dimension of that name; raise `Refused` unless the rollups have rows of it."""
    found = {dimension.name: dimension for dimension in with_rows() if dimension.is_rolled_up}
    if not isinstance(name, str) or name not in found:
        raise Refused(f"dimension is {name!r:.100}. Use {' or '.join(map(repr, found))}, or None for the whole site.")
    return found[name]


def _key(dimension: Any, value: Any) -> Key:
    if dimension is not None:
        dimension = _dimension(dimension).name
    if value is None:
        return WHOLE_SITE
    if dimension is None:
        raise Refused(f"value is {value!r:.100}, without a dimension. Give the dimension with it.")
    return Key(dimension, stored_path("value", value))


def _require_public(key: Key) -> None:
    dimension = named(key.dimension)
    if key.value not in shown_titles([key.value], public=True, dimension=dimension):
        raise UnknownPage(f"value is {key.value!r:.100}, which isn't a public {dimension.noun}.")


def _counts(key: Key, spans: list[Span]) -> dict[Span, RangeCounts | Reason]:
    """Read the counts of a value in some ranges, or why they aren't available."""
    counts, is_sealed = summed(key, spans)
    if not is_sealed or named(key.dimension).is_whole_site:
        return {**counts}
    found: dict[Span, RangeCounts | Reason] = {}
    for span, of_span in counts.items():
        seals = seals_over(key, span)
        if seals.hides_new_visitors:
            of_span = replace(of_span, new_visitors=None)
        found[span] = seals.reason or of_span
    return found


def _available(counts: RangeCounts | Reason) -> RangeCounts | None:
    return None if isinstance(counts, Reason) else counts


def _hours(key: Key, span: Span, *, compare: bool, lenient: bool) -> tuple[Hours, Hours]:
    """Read the hours of a range, and with `compare` those of the range before it; none where they aren't available."""
    found = hours_of(key, [span.previous(), span] if compare else [span])
    if isinstance(found[-1], Reason) and not lenient:
        raise CannotTell(found[-1])
    *before, of_range = [() if isinstance(hours, Reason) else hours for hours in found]
    return of_range, before[0] if before else ()


def _row_of(key: Key, counts: RangeCounts, *, limit: int | None, offset: int) -> Rows:
    """Return the one row of a report on a value, if it has views."""
    if not counts.views:
        return Rows()
    rows = (Row(key.value, counts.views, counts.visitors),)[offset:][:limit]
    titles = shown_titles([row.value for row in rows], public=False, dimension=named(key.dimension))
    return Rows(rows=rows, total_rows=1, titles=titles)
