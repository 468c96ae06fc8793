"""The counts of one value in some ranges of reporting days, read in one statement.

Of two statements, a chunk of a backfill that is committed between them would be in neither, or in both. The statement
reads the calendar, too, so that its counts are known to be of the days of one zone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.db.models import (
    BigIntegerField,
    Case,
    CharField,
    Count,
    DateField,
    Exists,
    F,
    IntegerField,
    OuterRef,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Cast, Coalesce, Concat

from pagestats import sql
from pagestats.dimensions import Key, named
from pagestats.models import Calendar, PageView, Rollup
from pagestats.stats.counts import DayCounts, RangeCounts
from pagestats.stats.pending import of_session, pending, was_counted, was_counted_before
from pagestats.stats.span import Span
from pagestats.stats.visitors import SESSIONS, returns_into, returns_within, rollups_of, total

ZERO = Value(0, output_field=BigIntegerField())
NO_STATE = Value("", output_field=CharField())
NO_DAY = Cast(Value(None), DateField())
NOTHING = (0, 0)
Summands = QuerySet[Any, Any]


class OtherZone(Exception):
    """The reporting zone is not that of the moment any more: a rebuild has changed it. Read the moment again."""


def require_zone(stored: str | None, zone: ZoneInfo) -> None:
    """Raise `OtherZone` unless a statement that read this name of the stored zone counted days of the given one."""
    if Calendar.zone_named(stored or None) != zone:
        raise OtherZone


class Summed(NamedTuple):
    """What `summed` read."""

    counts: dict[Span, RangeCounts]
    is_sealed: bool
    """Whether page views of any day were pruned."""


def summed(key: Key, spans: Sequence[Span]) -> Summed:
    """Read the counts of a value in some ranges, pending views included; raise `OtherZone` if their zone is not stored.

    Seals may hide some of the visitors: see `seals`.
    """
    spans = list(dict.fromkeys(spans))
    days: list[dict[date, tuple[int, int]]] = [{} for _ in spans]
    visitors, new_visitors = [0] * len(spans), [0] * len(spans)
    state = _State()
    for number, day, views, visitors_of_day, of_range, new_of_range, found in _summands(key, spans):
        if day is not None:
            of_days = days[number]
            before = of_days.get(day)
            of_days[day] = (before[0] + views, before[1] + visitors_of_day) if before else (views, visitors_of_day)
        visitors[number] += of_range or 0
        new_visitors[number] += new_of_range or 0
        if found:
            state = _State.of(found)
    require_zone(state.zone, spans[0].zone)
    counts = [
        RangeCounts(
            start=span.start,
            end=span.end,
            views=sum(views for views, _ in of_days.values()),
            visitors=int(visitors_of_range),
            new_visitors=int(new_of_range),
            days=tuple([DayCounts(day, *of_days.get(day, NOTHING)) for day in span.days]),
        )
        for span, of_days, visitors_of_range, new_of_range in zip(spans, days, visitors, new_visitors, strict=True)
    ]
    return Summed(dict(zip(spans, counts, strict=True)), state.is_sealed)


class _State(NamedTuple):
    """What the statement read of the whole site."""

    is_pending: bool = False
    """Whether any view is pending."""
    is_sealed: bool = False
    zone: str = ""
    """The name of the stored zone; "" before any view was rolled up."""

    @classmethod
    def of(cls, text: str) -> _State:
        return cls(text[0] == PENDING, text[1] == SEALED, text[2:])

    @staticmethod
    def expression() -> Concat:
        """Return the state as one text, since each further column would cost time for each row."""
        calendar = Calendar.objects.row().order_by()
        is_sealed = Exists(calendar.filter(sealed_before__isnull=False))
        return Concat(
            Case(When(Exists(PageView.objects.pending()), then=Value(PENDING)), default=Value("-")),
            Case(When(is_sealed, then=Value(SEALED)), default=Value("-")),
            Coalesce(Subquery(calendar.values("zone")), NO_STATE),
            output_field=CharField(),
        )


PENDING, SEALED = "p", "s"


def _summands(key: Key, spans: Sequence[Span]) -> list[tuple[Any, ...]]:
    """Read the rows to add up.

    Each is (number of the range, day, views, visitors of the day, visitors of the range, new ones of the range, state).

    While nothing is pending the statement is a short one, which shows by itself whether that was so.
    """
    began = _began(*key)
    first = began[0][0] if began else None
    ranges: list[Any] = []
    for span in spans:
        # Of a range near the beginning, fewer visitors return into it than within it.
        returns_into_it = first is None or 3 * (span.start - first) < span.end - span.start
        ranges += [span.start, span.end, returns_into_it]
    if began and not began[0][1]:
        rows = _rolled_up_alone(*key, *ranges)
        if not any(_State.of(found).is_pending for *_, found in rows if found):
            return rows
    parts = _rolled_up(*key, *ranges)
    for number, span in enumerate(spans):
        parts += _of_pending(number, key, span)
    return list(_union(parts))


@sql.prepared
def _began(dimension: str, value: str) -> Summands:
    """Return on which day the rollups of a value begin, and whether any view is pending."""
    rollups = Rollup.objects.filter(dimension=dimension, value=value).order_by("day")
    return rollups.values_list("day", Exists(PageView.objects.pending()))[:1]


@sql.prepared
def _rolled_up_alone(dimension: str, value: str, *ranges: Any) -> Summands:
    return _union(_rolled_up(dimension, value, *ranges))


def _rolled_up(dimension: str, value: str, *ranges: Any) -> list[Summands]:
    """Return what rollups and returns add, and in a row without a day the state.

    Args:
        ranges: the start and the end of each, and whether its visitors are computed by the returns into it rather than
            by those within it: whichever are fewer.
    """
    parts = []
    for number in range(len(ranges) // 3):
        start, end, returns_into_it = ranges[3 * number : 3 * number + 3]
        if returns_into_it:
            visitors, returned = "new_visitors", returns_into(dimension, value, start, end)
            sign = ""
        else:
            visitors, returned = "visitors", returns_within(dimension, value, start, end)
            sign = "-"
        rollups = rollups_of(dimension, value, start, end)
        place = Value(number, output_field=IntegerField())
        state = NO_STATE if number else _State.expression()
        parts += [
            rollups.values_list(place, "day", "views", "visitors", F(visitors), "new_visitors", NO_STATE),
            returned.values_list(place, NO_DAY, ZERO, ZERO, total("visitors", sign=sign), ZERO, state),
        ]
    return parts


def _union(parts: Sequence[Summands]) -> Summands:
    first, *others = parts
    return first.union(*others, all=True)


def _of_pending(number: int, key: Key, span: Span) -> Iterator[Summands]:
    """Yield what pending views add to the rollups.

    They add a visitor who has no rolled-up view in the range; a new one, if that visitor has no view before it either.
    And a visitor who is new by rolled-up views isn't, if a pending view lies before the range.
    """
    dimension = named(key.dimension)
    counts_for = dimension.counts_for(key.value)
    views = pending(span.within & counts_for)
    by_day = views.annotate(day=span.day())
    there, there_before = was_counted(dimension, key.value, span), was_counted_before(dimension, key.value, span)
    on_that_day = of_session(dimension, key.value).rolled_up().alias(day=span.day()).filter(day=OuterRef("day"))
    pending_earlier = of_session(dimension, key.value).pending().filter(span.before)
    new = views.exclude(there).exclude(there_before).exclude(Exists(pending_earlier))
    not_so_new = pending(span.before & counts_for).filter(there).exclude(there_before)
    visitors_by_day = by_day.exclude(Exists(on_that_day)).values("day")
    place = Value(number, output_field=IntegerField())
    yield by_day.values("day").annotate(n=Count("pk")).values_list(place, "day", "n", ZERO, ZERO, ZERO, NO_STATE)
    counted = visitors_by_day.annotate(n=Count("session_id", distinct=True))
    yield counted.values_list(place, "day", ZERO, "n", ZERO, ZERO, NO_STATE)
    yield views.exclude(there).values_list(place, NO_DAY, ZERO, ZERO, SESSIONS, ZERO, NO_STATE)
    yield new.values_list(place, NO_DAY, ZERO, ZERO, ZERO, SESSIONS, NO_STATE)
    yield not_so_new.values_list(place, NO_DAY, ZERO, ZERO, ZERO, -SESSIONS, NO_STATE)
