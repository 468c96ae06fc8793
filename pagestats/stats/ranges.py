"""The figures of any range of reporting days.

Distinct visitors do not add up over days. Those of a range are the visitors of each of its days, less one for each
return within it: every visitor-day of the range but a session's first one has its previous day in the range, too.
Views that no rollup contains yet are looked up and added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import date, datetime
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from django.db.models import BigIntegerField, Case, Exists, F, Func, QuerySet, Value, When

from pagestats import sql
from pagestats.days import YEARS, day_of
from pagestats.dimensions import PAGE, WHOLE_SITE, Key
from pagestats.hits import instant
from pagestats.models import Calendar, PageView, Return, Rollup
from pagestats.stats.figures import DayFigures, Figures, Report
from pagestats.stats.hours import hours_of
from pagestats.stats.pending import NO_DAY, ZERO, pending_summands
from pagestats.stats.refusals import CannotTell, Refused, UnknownPage, refuse_no_number_of_rows, stored_path
from pagestats.stats.rows import Order, Rows, ranked_rows, row_of
from pagestats.stats.seals import seals_of
from pagestats.stats.span import Span
from pagestats.stats.titled import shown_titles

MOST_DAYS = 3660
MOST_DAYS_BY_HOUR = 2

By = Literal["day", "hour"]

NOTHING = (0, 0)


def reporting_day(at: datetime | None = None) -> date:
    """Return the reporting day of an aware datetime; None is now."""
    return day_of(instant(at), zone())


def zone() -> ZoneInfo:
    """Return the reporting zone."""
    return Calendar.zone_named(next((zone for (zone,) in _storedzone()), None))


@sql.prepared
def _storedzone() -> QuerySet[Any, Any]:
    return Calendar.objects.row().order_by().values_list("zone")


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
) -> Report:
    """Read the exact figures of a range of reporting days, pending page views included.

    The number of queries does not depend on how many views there are, and what they cost depends on the days, not on
    the traffic; but for the hours, which are counted from the page views themselves. A pending view of a sealed day is
    taken for one of a session that was not there before: the views that would tell were pruned.

    Arguments:
        start: the first reporting day.
        end: the last one, included. A range has at most 3,660 days.
        dimension: "page" gives the pages of the range as rows.
        value: of the dimension: a path, and the whole report is of that one page.
        limit: the longest that the rows may be; None is all. `total_rows` is of all.
        offset: how many rows are left out at the beginning.
        order: of the rows: by "views", "visitors" or "value", with a minus the most first. Equal ones follow by value,
            byte by byte.
        search: only rows whose value or title has this text, in whatever case; `total_rows` is of those. It costs as
            much as there are pages in the range, since it looks at the titles of all.
        by: "hour" adds the figures of each hour of the clock, for ranges of at most two days whose page views are all
            kept. An hour that comes twice, when clocks are put back, is two.
        compare: also read the range of as many days before this one, and the same range a year before, for which
            29 February is 28 February. None: a comparison that can't be told.
        public: True is for readers without the permission, since a path can be a secret: rows are of paths that a
            content source knows or PAGESTATS_CLIENT_PATHS matches, as is a `value`. `total_rows` is of all.

    Raises `Refused`, a `ValueError`, for arguments that it does not take; `CannotTell` where page views that would
    tell a figure, or an order by visitors, were pruned; `UnknownPage` where the public asks for any other path.
    """
    _check(start, end, limit=limit, offset=offset, by=by, order=order, search=search)
    key = _key(dimension, value)
    if search and (dimension is None or value is not None):
        raise Refused(f"search is {search!r:.100}, and there are no rows to search. Give the dimension {PAGE} alone.")
    if public and value is not None and key.value not in shown_titles([key.value], public=True):
        raise UnknownPage(f"value is {value!r:.100}, which is no page that the public may know of.")

    def read(span: Span) -> Report:
        figures = figures_of(key, span)
        if dimension is None:
            pages = Rows()
        elif value is None:
            pages = ranked_rows(span, limit=limit, offset=offset, order=order, search=search, public=public)
        else:
            pages = row_of(key.value, figures, limit=limit, offset=offset)
        hours = hours_of(key, span) if by == "hour" else ()
        return Report(
            **{column.name: getattr(figures, column.name) for column in fields(figures)},
            zone=span.zone,
            dimension=dimension,
            value=None if value is None else key.value,
            hours=hours,
            rows=pages.rows,
            total_rows=pages.total,
            titles=pages.titles,
            reason=pages.reason,
            previous=compared(key, span.previous()) if compare else None,
            year_before=compared(key, span.year_before()) if compare else None,
        )

    while (told := read(Span(start, end, zone()))).zone != zone():
        pass  # rollups are of the days of the stored zone, pending views of those that were worked out before
    return told


def _check(start: Any, end: Any, *, limit: Any, offset: Any, by: Any, order: Any, search: Any) -> None:
    for name, day in (("start", start), ("end", end)):
        if not isinstance(day, date) or isinstance(day, datetime):
            raise Refused(f"{name} is {day!r:.100}, not a date. Use a datetime.date.")
        if day.year not in YEARS:
            raise Refused(f"{name} is {day}, outside the years {YEARS.start} to {YEARS.stop - 1}.")
    if start > end:
        raise Refused(f"start is {start}, after end, which is {end}. Exchange them.")
    if (days := (end - start).days + 1) > MOST_DAYS:
        raise Refused(f"{start} to {end} are {days:,} days. Ask for at most {MOST_DAYS:,}.")
    refuse_no_number_of_rows("limit", 0 if limit is None else limit)
    refuse_no_number_of_rows("offset", offset)
    if not isinstance(search, str):
        raise Refused(f"search is {search!r:.100}, a {type(search).__name__}, not a text.")
    for name, asked, known in (("by", by, get_args(By)), ("order", order, get_args(Order))):
        if asked not in known:
            raise Refused(f"{name} is {asked!r:.100}. Use {' or '.join(map(repr, known))}.")
    if by == "hour" and days > MOST_DAYS_BY_HOUR:
        raise Refused(
            f"{start} to {end} are {days:,} days, too many for hours. Ask for at most {MOST_DAYS_BY_HOUR}, or by day."
        )


def _key(dimension: Any, value: Any) -> Key:
    if dimension not in (None, PAGE.name):
        raise Refused(f"dimension is {dimension!r:.100}. Use {PAGE.name!r}, or None for the whole site.")
    if value is None:
        return WHOLE_SITE
    if dimension is None:
        raise Refused(f"value is {value!r:.100}, of no dimension. Give the dimension {PAGE} with it.")
    return Key(PAGE.name, stored_path("value", value))


def figures_of(key: Key, span: Span) -> Figures:
    """Read the figures of a range; raise `CannotTell` when too little is left of the views of a page."""
    figures = added_up(key, span)
    if key.dimension != PAGE.name:
        return figures
    seals = seals_of(key, span)
    if seals.crossed:
        raise CannotTell(seals.reason(key, span))
    return figures if seals.tell_who_is_new else replace(figures, new_visitors=None)


def compared(key: Key, span: Span) -> Figures | None:
    try:
        return figures_of(key, span)
    except CannotTell:
        return None


def added_up(key: Key, span: Span) -> Figures:
    of_days: dict[date, tuple[int, int]] = {}
    visitors = new_visitors = 0
    for day, views_of_day, visitors_of_day, of_range, new_of_range in _summands(key, span):
        if day is not None:
            views, of_day = of_days.get(day, NOTHING)
            of_days[day] = views + views_of_day, of_day + visitors_of_day
        visitors += of_range or 0
        new_visitors += new_of_range or 0
    return Figures(
        start=span.start,
        end=span.end,
        views=sum(views for views, _ in of_days.values()),
        visitors=int(visitors),
        new_visitors=int(new_visitors),
        days=tuple([DayFigures(day, *of_days.get(day, NOTHING)) for day in span.days]),
    )


def _summands(key: Key, span: Span) -> list[tuple[Any, ...]]:
    """Read rows to be added up: (day, views, visitors of the day, visitors of the range, new ones of the range).

    They come from one statement. Of two, a chunk that is folded between them would be in neither, or in both. While
    nothing is pending it is a short one, which tells by itself whether that was so.
    """
    began = _began(*key)
    first = began[0][0] if began else span.start
    # Of a range near the beginning, fewer visitors return into it than within it.
    arguments = *key, span.start, span.end, 3 * (span.start - first) < span.end - span.start
    if began and not began[0][1]:
        rows = _rolled_up_alone(*arguments)
        if not any(day is None and is_pending for day, _, is_pending, *_ in rows):
            return rows
    return list(_union([*_rolled_up_summands(*arguments), *pending_summands(key, span)]))


@sql.prepared
def _began(dimension: str, value: str) -> QuerySet[Any, Any]:
    """Return on which day the rollups of a key begin, and whether any view is pending."""
    rollups = Rollup.objects.filter(dimension=dimension, value=value).order_by("day")
    return rollups.values_list("day", Exists(PageView.objects.pending()))[:1]


@sql.prepared
def _rolled_up_alone(
    dimension: str,
    value: str,
    start: date,
    end: date,
    from_before: bool,  # noqa: FBT001  # what is prepared takes its arguments by their places
) -> QuerySet[Any, Any]:
    return _union(_rolled_up_summands(dimension, value, start, end, from_before))


def _rolled_up_summands(
    dimension: str,
    value: str,
    start: date,
    end: date,
    from_before: bool,  # noqa: FBT001  # as above
) -> list[QuerySet[Any, Any]]:
    """Return what rollups and returns add, and in a row without a day whether any view is pending.

    Visitors of a range are those of its days less the returns within it; and, since each visitor of a day is new or
    returns to it, they are the new ones of its days and the returns into it `from_before`. Whichever reads less.
    """
    rollups = Rollup.objects.filter(dimension=dimension, value=value, day__range=(start, end)).order_by()
    returns = Return.objects.filter(dimension=dimension, value=value).order_by()
    returns = returns.alias(later=sql.LaterDay("day")).filter(later__lte=end)
    is_pending = Case(
        When(Exists(PageView.objects.pending()), then=Value(1)), default=Value(0), output_field=BigIntegerField()
    )
    if from_before:
        of_days, sign = "new_visitors", ""
        returns = returns.filter(previous_day__lt=start, later__gte=start)
    else:
        of_days, sign = "visitors", "-"
        returns = returns.filter(previous_day__range=(start, end))
    returned = Func(F("visitors"), template=f"{sign}SUM(%(expressions)s)", output_field=BigIntegerField())
    return [
        rollups.values_list("day", "views", "visitors", F(of_days), "new_visitors"),
        returns.values_list(NO_DAY, ZERO, is_pending, returned, ZERO),
    ]


def _union(parts: Sequence[QuerySet[Any, Any]]) -> QuerySet[Any, Any]:
    first, *others = parts
    return first.union(*others, all=True)
