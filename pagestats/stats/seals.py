"""Which visitors of a range are unknown, since page views were pruned."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext as _

from pagestats.days import DAY
from pagestats.dimensions import PAGE, Key
from pagestats.models import Rollup, Seal
from pagestats.stats.pending import on, pending
from pagestats.stats.span import Span


class Seals(NamedTuple):
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


def seals_of(key: Key, span: Span) -> Seals:
    """Return which seals stand against the visitors of a page, or of all pages of the site, and against the new ones.

    Over a seal, each return is known that was counted before the pruning: those to days before `open_from`. A pending
    view will be counted after it. Where nobody was there before a seal, nobody came back over it. Ask when the figures
    have been read: a seal is stored before page views are deleted, and `open_from` is moved together with the views
    that are recorded.
    """
    views = on(key)
    viewed = Rollup.objects.filter(
        dimension=key.dimension, value=key.value, day__lt=OuterRef("before"), views__gt=0
    ).order_by()
    found = Seal.objects.filter(Exists(viewed), before__lte=span.end).order_by("before")
    crossed, open_ones, tell_who_is_new = [], [], True
    for before, open_from, viewed_within, pending_within, pending_up_to_end in found.values_list(
        "before",
        "open_from",
        Exists(viewed.filter(day__gte=span.start)),
        Exists(pending(span.within & views)),
        Exists(pending(span.up_to_its_end & views)),
    ):
        is_open = open_from <= span.end
        if viewed_within and (is_open or pending_within):
            crossed.append(before)
            open_ones += [before] if is_open else []
        if is_open or pending_up_to_end:
            tell_who_is_new = False
    return Seals(tuple(crossed), tuple(open_ones), tell_who_is_new)


def untold_values(seals: Seals, span: Span) -> set[str]:
    """Return the pages whose visitors can't be told: `_seals` would find a seal against each of them."""
    if not seals.crossed:
        return set()
    viewed = Rollup.objects.filter(
        dimension=PAGE.name, day__gte=span.start, day__lt=seals.crossed[-1], views__gt=0
    ).order_by()
    came_back = Q(Exists(pending(span.within & Q(path=OuterRef("value")))))
    if seals.open_ones:
        came_back |= Q(day__lt=seals.open_ones[-1])
    return set(viewed.filter(came_back).values_list("value", flat=True).distinct())
