"""Which visitors of a range aren't available, because page views were pruned.

A *seal* is the day before which page views were pruned. It hides the visitors of a value in a range when both hold:

- a rolled-up view of the value lies in the range, before the seal: that visitor may have come back after it;
- a view of the value came later than the pruning: its day is from the `open_from` of the seal on, or it is pending.

Returns to earlier days were counted while the page views on both sides of the seal were there. The whole site is never
hidden: the rows of visitors know of pruned views.

Ask for seals after the figures have been read. A seal is stored before page views are deleted, and `open_from` is moved
in the transaction that records a view.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext_noop

from pagestats.days import DAY
from pagestats.dimensions import Dimension, Key, named
from pagestats.models import PageView, Rollup, Seal
from pagestats.stats.pending import pending, pending_of
from pagestats.stats.refusals import Reason
from pagestats.stats.span import Span

OF_VALUE = gettext_noop(
    "Visitors of %(value)s aren't available from %(start)s to %(end)s: page views before %(pruned)s were deleted, so"
    " returning visitors can't be recognised across that date. Choose %(start)s to %(last)s or %(pruned)s to %(end)s."
)
OF_SOME_VALUES = gettext_noop(
    "Visitors of some rows aren't available from %(start)s to %(end)s: page views before %(pruned)s were deleted, so"
    " returning visitors can't be recognised across that date. Choose %(start)s to %(last)s or %(pruned)s to %(end)s."
)


class Seals(NamedTuple):
    """What the seals hide of one value in a range."""

    reason: Reason | None
    """Why its visitors aren't available; None where they are."""
    hides_new_visitors: bool


def seals_over(key: Key, span: Span) -> Seals:
    """Return what the seals hide of a value in a range."""
    dimension = named(key.dimension)
    counts_for = dimension.counts_for(key.value)
    viewed = Rollup.objects.filter(
        dimension=key.dimension, value=key.value, day__lt=OuterRef("before"), views__gt=0
    ).order_by()
    found = Seal.objects.filter(Exists(viewed), before__lte=span.end).order_by("before")
    hiding: list[date] = []
    hides_new_visitors = False
    for before, open_from, viewed_within, pending_within, pending_up_to_end in found.values_list(
        "before",
        "open_from",
        Exists(viewed.filter(day__gte=span.start)),
        Exists(pending(span.within & counts_for)),
        Exists(pending(span.up_to_its_end & counts_for)),
    ):
        is_open = open_from <= span.end
        if viewed_within and (is_open or pending_within):
            hiding.append(before)
        if is_open or pending_up_to_end:
            hides_new_visitors = True
    reason = _reason(OF_VALUE, span, hiding[0], hiding[-1], value=repr(key.value)) if hiding else None
    return Seals(reason, hides_new_visitors)


def hidden(dimension: Dimension, span: Span | None) -> QuerySet[Rollup]:
    """Return the rollups before a seal that hides the visitors of their value in a range.

    Of all time, None, every seal hides them: a visitor may still come back over it. Ask only where there are `seals`.
    """
    rollups = Rollup.objects.filter(dimension=dimension.name, views__gt=0).order_by()
    after = seals(span).filter(before__gt=OuterRef("day"))
    if span is None:
        return rollups.filter(Exists(after))
    is_pending = Exists(PageView.objects.pending()) & Exists(pending_of(dimension, OuterRef("value"), span))
    return rollups.filter(
        Exists(after.filter(open_from__lte=span.end)) | (Exists(after) & is_pending),
        day__gte=span.start,
    )


def seals(span: Span | None) -> QuerySet[Seal]:
    """Return the seals that lie in a range, or all for None."""
    found = Seal.objects.order_by()
    # Django would name the table "U0", as it names others in subqueries. By its own name a plan of the statement shows
    # which of them it is.
    found.query.alias_prefix = "S"
    return found if span is None else found.filter(before__gt=span.start, before__lte=span.end)


def hidden_values(dimension: Dimension, span: Span) -> tuple[set[str], Reason | None]:
    """Return the values of a dimension whose visitors aren't available in a range, and the reason."""
    values = set(hidden(dimension, span).values_list("value", flat=True).distinct())
    if not values:
        return values, None
    viewed = Rollup.objects.filter(
        dimension=dimension.name, day__gte=span.start, day__lt=OuterRef("before"), views__gt=0
    ).order_by()
    may_hide = Q(open_from__lte=span.end) | Q(Exists(pending(span.within)))
    seals = Seal.objects.filter(may_hide, Exists(viewed), before__lte=span.end).order_by("before")
    days = list(seals.values_list("before", flat=True))
    return values, _reason(OF_SOME_VALUES, span, days[0], days[-1])


def _reason(message: str, span: Span, first: date, last: date, **parts: str) -> Reason:
    """Return why visitors aren't available, and the ranges before the first seal and after the last one, which are."""
    return Reason(message, start=span.start, end=span.end, last=first - DAY, pruned=last, **parts)
