"""The page views that no rollup contains yet, and which of their sessions the rollups have counted."""

from __future__ import annotations

from typing import Any

from django.db.models import Case, Exists, IntegerField, OuterRef, Q, Value, When

from pagestats.dimensions import Dimension
from pagestats.models import PageView, PageViewQuerySet, Visitor
from pagestats.stats.span import Span


def pending(condition: Q) -> PageViewQuerySet:
    """Return the pending page views that meet a condition, found by the index of pending views.

    Nothing is read while none is pending. In a CASE the condition serves no other index: otherwise a database without
    statistics would rather read all page views of the range, or of the page, to find that none is pending.
    """
    meets = Case(When(condition, then=Value(1)), default=Value(0), output_field=IntegerField())
    return PageView.objects.pending().order_by().alias(meets=meets).filter(meets=1)


def pending_of(dimension: Dimension, value: Any, span: Span | None) -> PageViewQuerySet:
    """Return the pending page views of one value, found by its index where it has one.

    Ask only where something is pending: a database without partial indexes reads all page views of the value.

    Args:
        value: the value, or an expression of it, such as an `OuterRef`.
        span: the range; None is all time.
    """
    views = PageView.objects.pending().order_by().filter(dimension.counts_for(value))
    return views if span is None else views.filter(span.within)


def of_session(dimension: Dimension, value: Any) -> PageViewQuerySet:
    """Return the page views of a value by the session of an outer page view."""
    return PageView.objects.order_by().filter(dimension.counts_for(value), session_id=OuterRef("session_id"))


def was_counted(dimension: Dimension, value: Any, span: Span | None) -> Q:
    """Return the condition that the session of a page view has a rolled-up view of a value in a range; None: ever.

    For the whole site, the row of the visitor knows of page views that were pruned, too.
    """
    visitor = Visitor.objects.filter(session_id=OuterRef("session_id"))
    knows_visitors = dimension.neighbours == "visitor"
    if span is None:
        if knows_visitors:
            return Q(Exists(visitor.filter(first_seen__isnull=False)))
        return Q(Exists(of_session(dimension, value).rolled_up()))
    there = Q(Exists(of_session(dimension, value).rolled_up().filter(span.within)))
    if not knows_visitors:
        return there
    days = (span.start, span.end)
    return Q(Exists(visitor.filter(Q(last_day__range=days) | Q(last_sealed_day__range=days)))) | there


def was_counted_before(dimension: Dimension, value: Any, span: Span) -> Q:
    """Return the condition that the session of a page view has a rolled-up view of a value before a range."""
    if dimension.neighbours == "visitor":
        first_seen = Visitor.objects.filter(session_id=OuterRef("session_id"), first_seen__lt=span.starts[0])
        return Q(Exists(first_seen))
    return Q(Exists(of_session(dimension, value).rolled_up().filter(span.before)))
