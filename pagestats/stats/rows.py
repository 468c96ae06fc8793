"""The values of a dimension in a range, ranked, with their titles."""

from __future__ import annotations

from functools import partial
from typing import Literal

from django.db import router
from django.db.models import Count, F, OuterRef
from django.db.models.expressions import RawSQL

from pagestats import sql
from pagestats.dimensions import Dimension
from pagestats.models import Rollup
from pagestats.stats.counts import Row, Rows
from pagestats.stats.pending import pending, was_counted
from pagestats.stats.refusals import CannotTell
from pagestats.stats.seals import hidden_values
from pagestats.stats.span import Span
from pagestats.stats.summed import ZERO, require_zone
from pagestats.stats.titled import shown_to_all, shown_to_public
from pagestats.stats.visitors import returns_within, total

Order = Literal["-views", "views", "-visitors", "visitors", "value", "-value"]


def ranked_rows(
    dimension: Dimension,
    span: Span,
    *,
    limit: int | None,
    offset: int,
    order: Order,
    search: str,
    public: bool,
    lenient: bool,
) -> Rows:
    """Return the rows of a report; the arguments are those of `report`. Raise `OtherZone` if the span's is not stored.

    A search looks at all values; where `public` and a limit are given, at the most viewed ones.
    """
    ranking = _Ranking(dimension, span, order)
    wanted = None if limit is None else offset + limit
    if public:
        shown = shown_to_public(ranking, wanted, look_at_all=bool(search), dimension=dimension)
    elif search:
        shown = shown_to_all(ranking, None, dimension=dimension)
    else:
        shown = shown_to_all(ranking, wanted, skip=offset, dimension=dimension)
    found, number = shown.rows, shown.total
    if search:
        found = [row for row in found if _is_found(search, row.value, shown.titles[row.value].title)]
        number = len(found)
    hidden, reason = hidden_values(dimension, span) if ranking.is_sealed else (set(), None)
    if reason and order.endswith("visitors"):
        if not lenient:
            raise CannotTell(reason)
        again = partial(ranked_rows, dimension, span, limit=limit, offset=offset, order="-views")
        return again(search=search, public=public, lenient=True)
    rows = found[offset:][:limit]
    return Rows(
        rows=tuple(row._replace(visitors=None) if row.value in hidden else row for row in rows),
        total_rows=number,
        titles={row.value: shown.titles[row.value] for row in rows},
        reason=reason or "",
    )


def _is_found(search: str, *texts: str) -> bool:
    return any(search.casefold() in text.casefold() for text in texts)


class _Ranking:
    """The values of a dimension in a range, ranked. Call it with how many to read; None is all."""

    def __init__(self, dimension: Dimension, span: Span, order: Order) -> None:
        self.dimension, self.span, self.order = dimension, span, order
        self.is_sealed = False
        """Whether page views of any day were pruned, as the last call read it."""

    def __call__(self, limit: int | None) -> tuple[list[Row], int]:
        """Return the first rows, and the number of all."""
        dimension, days = self.dimension, (self.span.start, self.span.end)
        value = dimension.expression(F("path"))
        views = pending(self.span.within).annotate(value=value)
        counted = was_counted(dimension, dimension.expression(OuterRef("path")), self.span)
        ranked = sql.ranked_of_days(
            [
                Rollup.objects.filter(dimension=dimension.name, day__range=days)
                .order_by()
                .values_list("value", "views", "visitors"),
                views.values("value").annotate(n=Count("pk")).values_list("value", "n", ZERO),
                views.exclude(counted)
                .values("value")
                .annotate(n=Count("session_id", distinct=True))
                .values_list("value", ZERO, "n"),
            ],
            returned=returns_within(dimension.name, RawSQL("ranked.value", ()), *days).values_list(total("visitors")),
            order=self.order,
            limit=limit,
            using=router.db_for_read(Rollup),
        )
        require_zone(ranked.zone, self.span.zone)
        self.is_sealed = ranked.is_sealed
        return [Row(*row) for row in ranked.rows], ranked.total
