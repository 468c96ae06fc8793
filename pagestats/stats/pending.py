"""What page views that no rollup contains yet add to the figures of a range."""

from __future__ import annotations

from typing import Any

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

from pagestats.dimensions import PAGE, Key
from pagestats.models import PageView, PageViewQuerySet, Visitor
from pagestats.stats.span import Span

ZERO = Value(0, output_field=BigIntegerField())
NO_DAY = Cast(Value(None), DateField())
SESSIONS = Func(F("session_id"), template="COUNT(DISTINCT %(expressions)s)", output_field=BigIntegerField())


def pending(condition: Q) -> PageViewQuerySet:
    """Return the pending page views that meet a condition, found by their own index.

    Nothing is read while none is pending. In a CASE the condition serves no other index: else a database without
    statistics would rather read all page views of the range, or of the page, and find that none is pending.
    """
    return PageView.objects.pending().order_by().alias(meets=_case(condition)).filter(meets=1)


def _case(condition: Q) -> Case:
    return Case(When(condition, then=Value(1)), default=Value(0), output_field=IntegerField())


def on(key: Key) -> Q:
    """Return the condition of the page views that count for a key."""
    return Q(path=key.value) if key.dimension == PAGE.name else Q()


def pending_summands(key: Key, span: Span) -> list[QuerySet[Any, Any]]:
    """Return what pending views add to the rollups.

    A visitor is added who has no rolled-up view in the range; a new one, who has no view before it either; and who
    was new there by rolled-up views is not when a pending one lies before it.
    """
    views = pending(span.within & on(key))
    by_day = views.annotate(day=span.day())
    of_session = PageView.objects.order_by().filter(on(key), session_id=OuterRef("session_id"))
    was_there, was_there_before = _rolled_up(key, span, of_session.rolled_up())
    on_that_day = of_session.rolled_up().alias(day=span.day()).filter(day=OuterRef("day"))
    pending_earlier = of_session.pending().filter(span.before)
    newcomers = views.exclude(was_there).exclude(was_there_before).exclude(Exists(pending_earlier))
    not_so_new = pending(span.before & on(key)).filter(was_there).exclude(was_there_before)
    visitors_by_day = by_day.exclude(Exists(on_that_day)).values("day")
    return [
        by_day.values("day").annotate(n=Count("pk")).values_list("day", "n", ZERO, ZERO, ZERO),
        visitors_by_day.annotate(n=Count("session_id", distinct=True)).values_list("day", ZERO, "n", ZERO, ZERO),
        views.exclude(was_there).values_list(NO_DAY, ZERO, ZERO, SESSIONS, ZERO),
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
