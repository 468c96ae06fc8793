"""The figures of any range of reporting days.

Distinct visitors do not add up over days. Those of a range are the visitors of each of its days, less one for each
return within it: every visitor-day of the range but a session's first one has its previous day in the range, too.
Views that no rollup contains yet are looked up and added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

from django.db import router
from django.db.models import (
    BigIntegerField,
    Case,
    Count,
    DateField,
    Exists,
    F,
    Func,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Value,
    When,
)
from django.db.models.functions import Cast
from django.utils.translation import gettext as _

from pagestats import sql
from pagestats.content import Titled
from pagestats.days import YEARS, day_of, start_of
from pagestats.dimensions import PAGE, WHOLE_SITE, Key
from pagestats.hits import instant
from pagestats.models import Calendar, PageView, PageViewQuerySet, Return, Rollup, Seal, Visitor
from pagestats.stats.refusals import CannotTell, Refused, UnknownPage, refuse_no_number_of_rows, stored_path
from pagestats.stats.titled import shown_of, shown_titles

MOST_DAYS = 3660
MOST_DAYS_BY_HOUR = 2

By = Literal["day", "hour"]
Order = Literal["-views", "views", "-visitors", "visitors", "value", "-value"]

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


class DayFigures(NamedTuple):
    """The figures of one reporting day."""

    day: date
    views: int
    visitors: int


class HourFigures(NamedTuple):
    """The figures of one hour of the clock, which begins at an instant in the reporting zone."""

    start: datetime
    views: int
    visitors: int


class Row(NamedTuple):
    """The figures of one value of a dimension: of a page, by its path."""

    value: str
    views: int
    visitors: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """The figures of a range of reporting days, `end` included, and of each of its days.

    None: it can't be told, since the page views that would tell it were pruned.
    """

    start: date
    end: date
    views: int
    visitors: int
    new_visitors: int | None
    days: tuple[DayFigures, ...]

    @property
    def returning_visitors(self) -> int | None:
        """How many visitors had been there before the range."""
        return None if self.new_visitors is None else self.visitors - self.new_visitors

    def written(self, *, lifetime: str) -> dict[str, Any]:
        """Return the figures as JSON has them. Where ids live a day, nobody returns, and no figure pretends it."""
        return {
            "start": self.start,
            "end": self.end,
            "views": self.views,
            "visitors": self.visitors,
            "new_visitors": self.new_visitors,
            "returning_visitors": None if lifetime == "day" else self.returning_visitors,
            "days": [day._asdict() for day in self.days],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Report(Figures):
    """The figures of a range of reporting days of the site or of one page, and what else was asked for."""

    zone: ZoneInfo
    dimension: str | None
    value: str | None
    hours: tuple[HourFigures, ...]
    rows: tuple[Row, ...]
    total_rows: int
    titles: dict[str, Titled]
    """By the value of each row."""
    reason: str
    """Why the visitors of some rows can't be told, else ""."""
    previous: Figures | None
    year_before: Figures | None

    def written(self, *, lifetime: str) -> dict[str, Any]:
        """Return the report as JSON has it, the titles with their rows."""
        return {
            "lifetime": lifetime,
            "zone": str(self.zone),
            "dimension": self.dimension,
            "value": self.value,
            **Figures.written(self, lifetime=lifetime),
            "hours": [hour._asdict() for hour in self.hours],
            "rows": [
                {
                    "value": row.value,
                    **self.titles[row.value]._asdict(),
                    "views": row.views,
                    "visitors": row.visitors,
                }
                for row in self.rows
            ],
            "total_rows": self.total_rows,
            "reason": self.reason,
            "previous": self.previous and self.previous.written(lifetime=lifetime),
            "year_before": self.year_before and self.year_before.written(lifetime=lifetime),
        }


def reporting_day(at: datetime | None = None) -> date:
    """Return the reporting day of an aware datetime; None is now."""
    return day_of(instant(at), _zone())


def _zone() -> ZoneInfo:
    """Return the reporting zone."""
    return Calendar.zone_named(next((zone for (zone,) in _stored_zone()), None))


@sql.prepared
def _stored_zone() -> QuerySet[Any, Any]:
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
        figures = _figures(key, span)
        if dimension is None:
            pages = _Pages()
        elif value is None:
            pages = _pages(span, limit=limit, offset=offset, order=order, search=search, public=public)
        else:
            pages = _page(key.value, figures, limit=limit, offset=offset)
        hours = _hours(key, span) if by == "hour" else ()
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
            previous=_compared(key, span.previous()) if compare else None,
            year_before=_compared(key, span.year_before()) if compare else None,
        )

    while (told := read(Span(start, end, _zone()))).zone != _zone():
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


@dataclass(frozen=True)
class Span:
    """A range of reporting days, and the instants at which they begin, by the clocks of the reporting zone."""

    start: date
    end: date
    zone: ZoneInfo

    @cached_property
    def starts(self) -> list[datetime]:
        """When each day begins, and the day after the last one. Where clocks skip midnight, it is when they do."""
        days = (self.end - self.start).days + 2
        return [start_of(self.start + number * DAY, self.zone) for number in range(days)]

    @property
    def days(self) -> Iterator[date]:
        """The days, in their order."""
        return (self.start + number * DAY for number in range((self.end - self.start).days + 1))

    @property
    def hours(self) -> Iterator[datetime]:
        """When each hour of the clock begins, and the day after the last one.

        One begins wherever the minutes are 0, and wherever clocks are changed: by half an hour, in some zones.
        """
        at, until = self.starts[0], self.starts[-1]
        while at < until:
            yield at
            local = at.astimezone(self.zone)
            following = at + HOUR - timedelta(minutes=local.minute, seconds=local.second)
            at = self._change(at, following) or following
        yield until

    def _change(self, since: datetime, until: datetime) -> datetime | None:
        """Return when clocks are changed between two instants, the later one included, to the second."""

        def offset(at: datetime) -> timedelta | None:
            return at.astimezone(self.zone).utcoffset()

        if offset(since) == offset(until):
            return None
        before, after = 0, int((until - since).total_seconds())
        while after - before > 1:
            middle = (before + after) // 2
            if offset(since + timedelta(seconds=middle)) == offset(since):
                before = middle
            else:
                after = middle
        return since + timedelta(seconds=after)

    @property
    def within(self) -> Q:
        """The page views of the range."""
        return Q(timestamp__gte=self.starts[0], timestamp__lt=self.starts[-1])

    @property
    def before(self) -> Q:
        """The page views before it."""
        return Q(timestamp__lt=self.starts[0])

    @property
    def up_to_its_end(self) -> Q:
        """The page views of the range and before it."""
        return Q(timestamp__lt=self.starts[-1])

    def day(self) -> Case:
        """Return the reporting day of a page view, NULL outside the range.

        No database is asked for a time zone, of which MariaDB need not know any: days of 24 hours on end have one
        distance from UTC, and a day on which clocks are changed is named.
        """
        cases = [When(self.before, then=Value(None, output_field=DateField()))]
        from_utc: timedelta | None = None
        for day, begin, end in zip(self.days, self.starts, self.starts[1:], strict=False):
            if end - begin != DAY:
                from_utc = None
                cases.append(When(timestamp__lt=end, then=Cast(Value(day), DateField())))
                continue
            if from_utc is None:
                from_utc = datetime.combine(day, time(), UTC) - begin
            else:
                cases.pop()
            cases.append(When(timestamp__lt=end, then=sql.ShiftedDay(F("timestamp"), from_utc)))
        return Case(*cases, output_field=DateField())

    def previous(self) -> Span:
        """Return the range of as many days before this one."""
        return Span(self.start - (self.end - self.start) - DAY, self.start - DAY, self.zone)

    def year_before(self) -> Span:
        """Return the same range a year before."""
        return Span(_year_before(self.start), _year_before(self.end), self.zone)


def _year_before(day: date) -> date:
    last = 28 if (day.month, day.day) == (2, 29) else day.day
    return day.replace(year=day.year - 1, day=last)


def _pending(condition: Q) -> PageViewQuerySet:
    """Return the pending page views that meet a condition, found by their own index.

    Nothing is read while none is pending. In a CASE the condition serves no other index: else a database without
    statistics would rather read all page views of the range, or of the page, and find that none is pending.
    """
    return PageView.objects.pending().order_by().alias(meets=_case(condition)).filter(meets=1)


def _case(condition: Q) -> Case:
    return Case(When(condition, then=Value(1)), default=Value(0), output_field=IntegerField())


def _on(key: Key) -> Q:
    """Return the condition of the page views that count for a key."""
    return Q(path=key.value) if key.dimension == PAGE.name else Q()


ZERO = Value(0, output_field=BigIntegerField())
NO_DAY = Cast(Value(None), DateField())
NOTHING = (0, 0)
SESSIONS = Func(F("session_id"), template="COUNT(DISTINCT %(expressions)s)", output_field=BigIntegerField())


def _figures(key: Key, span: Span) -> Figures:
    """Read the figures of a range; raise `CannotTell` when too little is left of the views of a page."""
    figures = _added_up(key, span)
    if key.dimension != PAGE.name:
        return figures
    seals = _seals(key, span)
    if seals.crossed:
        raise CannotTell(seals.reason(key, span))
    return figures if seals.tell_who_is_new else replace(figures, new_visitors=None)


def _compared(key: Key, span: Span) -> Figures | None:
    try:
        return _figures(key, span)
    except CannotTell:
        return None


def _added_up(key: Key, span: Span) -> Figures:
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
    return list(_union([*_rolled_up_summands(*arguments), *_pending_summands(key, span)]))


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


def _pending_summands(key: Key, span: Span) -> list[QuerySet[Any, Any]]:
    """Return what pending views add to the rollups.

    A visitor is added who has no rolled-up view in the range; a new one, who has no view before it either; and who
    was new there by rolled-up views is not when a pending one lies before it.
    """
    pending = _pending(span.within & _on(key))
    by_day = pending.annotate(day=span.day())
    of_session = PageView.objects.order_by().filter(_on(key), session_id=OuterRef("session_id"))
    was_there, was_there_before = _rolled_up(key, span, of_session.rolled_up())
    on_that_day = of_session.rolled_up().alias(day=span.day()).filter(day=OuterRef("day"))
    pending_earlier = of_session.pending().filter(span.before)
    newcomers = pending.exclude(was_there).exclude(was_there_before).exclude(Exists(pending_earlier))
    not_so_new = _pending(span.before & _on(key)).filter(was_there).exclude(was_there_before)
    visitors_by_day = by_day.exclude(Exists(on_that_day)).values("day")
    return [
        by_day.values("day").annotate(n=Count("pk")).values_list("day", "n", ZERO, ZERO, ZERO),
        visitors_by_day.annotate(n=Count("session_id", distinct=True)).values_list("day", ZERO, "n", ZERO, ZERO),
        pending.exclude(was_there).values_list(NO_DAY, ZERO, ZERO, SESSIONS, ZERO),
        newcomers.values_list(NO_DAY, ZERO, ZERO, ZERO, SESSIONS),
        not_so_new.values_list(NO_DAY, ZERO, ZERO, ZERO, -SESSIONS),
    ]


def _rolled_up(key: Key, span: Span, of_session: PageViewQuerySet) -> tuple[Q, Q]:
    """Return the conditions that a session has a rolled-up view in the range, and that it has one before it.

    On the site, its visitor may tell: also of views that were pruned.
    """
    there = Q(Exists(of_session.filter(span.within)))
    if key.dimension == PAGE.name:
        return there, Q(Exists(of_session.filter(span.before)))
    visitor = Visitor.objects.filter(session_id=OuterRef("session_id"))
    days = (span.start, span.end)
    last = visitor.filter(Q(last_day__range=days) | Q(last_sealed_day__range=days))
    return Q(Exists(last)) | there, Q(Exists(visitor.filter(first_seen__lt=span.starts[0])))


def _hours(key: Key, span: Span) -> tuple[HourFigures, ...]:
    """Count the page views of each hour, pending or not; raise `CannotTell` when some were pruned."""
    begins = list(span.hours)
    until = begins.pop()
    hour = Case(
        *(When(timestamp__lt=end, then=Value(hour)) for hour, end in enumerate([*begins[1:], until])),
        output_field=IntegerField(),
    )
    views = PageView.objects.filter(span.within, _on(key)).order_by().annotate(hour=hour).values("hour")
    counts = views.annotate(n=Count("pk"), sessions=Count("session_id", distinct=True))
    counted = {hour: numbers for hour, *numbers in counts.values_list("hour", "n", "sessions")}
    # Asked afterwards: days are sealed before their page views are deleted.
    sealed_before = Calendar.objects.row().values_list("sealed_before", flat=True).first()
    if sealed_before and span.start < sealed_before:
        reason = _(
            "The hours of %(day)s can't be told: page views before %(pruned)s were pruned. Ask for later days, or by"
            " day."
        )
        raise CannotTell(reason % {"day": span.start, "pruned": sealed_before})
    return tuple(
        HourFigures(begin.astimezone(span.zone), *counted.get(hour, (0, 0))) for hour, begin in enumerate(begins)
    )


@dataclass(frozen=True, kw_only=True)
class _Pages:
    """The rows of a report, and what belongs to them."""

    rows: tuple[Row, ...] = ()
    total: int = 0
    titles: dict[str, Titled] = field(default_factory=dict)
    reason: str = ""


def _page(path: str, figures: Figures, *, limit: int | None, offset: int) -> _Pages:
    """Return the one page of a report on it, if it has views."""
    if not figures.views:
        return _Pages()
    most = None if limit is None else offset + limit
    return _Pages(
        rows=(Row(path, figures.views, figures.visitors),)[offset:most],
        total=1,
        titles=shown_titles([path], public=False),
    )


def _pages(span: Span, *, limit: int | None, offset: int, order: Order, search: str, public: bool) -> _Pages:
    """Return the first of the pages that are asked for and may be shown, and the number of all that are asked for.

    Who searches looks at all of them, but the public, that gives a limit, at the most viewed.
    """
    wanted = None if limit is None else offset + limit
    first = 0 if public or search else offset
    ranking = partial(_ranked, span, order)
    shown, titles, total = shown_of(ranking, wanted, public=public, searching=bool(search), first=first)
    if search:
        shown = [row for row in shown if _is_found(search, row.value, titles[row.value].title)]
        total = len(shown)
    seals = _seals(WHOLE_SITE, span)
    untold = _untold(seals, span)
    reason = seals.reason(None, span) if untold else ""
    if reason and order.endswith("visitors"):
        raise CannotTell(reason)
    rows = shown[offset - first :][:limit]
    return _Pages(
        rows=tuple(row._replace(visitors=None) if row.value in untold else row for row in rows),
        total=total,
        titles={row.value: titles[row.value] for row in rows},
        reason=reason,
    )


def _is_found(search: str, *texts: str) -> bool:
    return any(search.casefold() in text.casefold() for text in texts)


def _ranked(span: Span, order: Order, limit: int | None) -> tuple[list[Row], int]:
    rollups = Rollup.objects.filter(dimension=PAGE.name, day__range=(span.start, span.end)).order_by()
    pending = _pending(span.within)
    counted = PageView.objects.rolled_up().filter(span.within, session_id=OuterRef("session_id"), path=OuterRef("path"))
    ranked, total = sql.ranked_of_days(
        [
            rollups.values_list("value", "views", "visitors"),
            pending.values("path").annotate(n=Count("pk")).values_list("path", "n", ZERO),
            pending.exclude(Exists(counted))
            .values("path")
            .annotate(n=Count("session_id", distinct=True))
            .values_list("path", ZERO, "n"),
        ],
        dimension=PAGE.name,
        start=span.start,
        end=span.end,
        order=order,
        limit=limit,
        using=router.db_for_read(Rollup),
    )
    return [Row(*row) for row in ranked], total


class _Seals(NamedTuple):
    """What the seals leave to be told of the visitors of pages."""

    crossed: tuple[date, ...]
    """Those over which visitors may have come back who can't be known again."""
    open_ones: tuple[date, ...]
    """Of these, those after whose pruning views were recorded in the range; of the others, views are pending."""
    tell_who_is_new: bool

    def reason(self, key: Key | None, span: Span) -> str:
        """Return why the visitors of a page, or of all, can't be told of a range, and of which ranges they can."""
        first, last = self.crossed[0], self.crossed[-1]
        if key is None:
            whose = _("The visitors of some pages")
        else:
            whose = _("The visitors of %(page)s") % {"page": repr(key.value)}
        told = _(
            "%(whose)s from %(start)s to %(end)s can't be told: page views before %(pruned)s were pruned, and with them"
            " who of a page's later visitors had been there before. Ask for %(before)s, or for %(after)s."
        )
        return told % {
            "whose": whose,
            "start": span.start,
            "end": span.end,
            "pruned": last,
            "before": _days(span.start, first - DAY),
            "after": _days(last, span.end),
        }


def _days(start: date, end: date) -> str:
    return f"{start}" if start == end else _("%(start)s to %(end)s") % {"start": start, "end": end}


def _seals(key: Key, span: Span) -> _Seals:
    """Return which seals stand against the visitors of a page, or of all pages of the site, and against the new ones.

    Over a seal, each return is known that was counted before the pruning: those to days before `open_from`. A pending
    view will be counted after it. Where nobody was there before a seal, nobody came back over it. Ask when the figures
    have been read: a seal is stored before page views are deleted, and `open_from` is moved together with the views
    that are recorded.
    """
    on = _on(key)
    viewed = Rollup.objects.filter(
        dimension=key.dimension, value=key.value, day__lt=OuterRef("before"), views__gt=0
    ).order_by()
    found = Seal.objects.filter(Exists(viewed), before__lte=span.end).order_by("before")
    crossed, open_ones, tell_who_is_new = [], [], True
    for before, open_from, viewed_within, pending_within, pending_up_to_end in found.values_list(
        "before",
        "open_from",
        Exists(viewed.filter(day__gte=span.start)),
        Exists(_pending(span.within & on)),
        Exists(_pending(span.up_to_its_end & on)),
    ):
        is_open = open_from <= span.end
        if viewed_within and (is_open or pending_within):
            crossed.append(before)
            open_ones += [before] if is_open else []
        if is_open or pending_up_to_end:
            tell_who_is_new = False
    return _Seals(tuple(crossed), tuple(open_ones), tell_who_is_new)


def _untold(seals: _Seals, span: Span) -> set[str]:
    """Return the pages whose visitors can't be told: `_seals` would find a seal against each of them."""
    if not seals.crossed:
        return set()
    viewed = Rollup.objects.filter(
        dimension=PAGE.name, day__gte=span.start, day__lt=seals.crossed[-1], views__gt=0
    ).order_by()
    came_back = Q(Exists(_pending(span.within & Q(path=OuterRef("value")))))
    if seals.open_ones:
        came_back |= Q(day__lt=seals.open_ones[-1])
    return set(viewed.filter(came_back).values_list("value", flat=True).distinct())
