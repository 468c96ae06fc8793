"""The values of a dimension in a range, ranked, with their titles."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from django.db import router
from django.db.models import Count, Exists, OuterRef

from pagestats import sql
from pagestats.content import Titled
from pagestats.dimensions import PAGE, WHOLE_SITE
from pagestats.models import PageView, Rollup
from pagestats.stats.figures import Figures, Row
from pagestats.stats.pending import ZERO, pending
from pagestats.stats.refusals import CannotTell
from pagestats.stats.seals import seals_of, untold_values
from pagestats.stats.span import Span
from pagestats.stats.titled import shown_of, shown_titles

Order = Literal["-views", "views", "-visitors", "visitors", "value", "-value"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a report, and what belongs to them."""

    rows: tuple[Row, ...] = ()
    total: int = 0
    titles: dict[str, Titled] = field(default_factory=dict)
    reason: str = ""


def row_of(path: str, figures: Figures, *, limit: int | None, offset: int) -> Rows:
    """Return the one page of a report on it, if it has views."""
    if not figures.views:
        return Rows()
    most = None if limit is None else offset + limit
    return Rows(
        rows=(Row(path, figures.views, figures.visitors),)[offset:most],
        total=1,
        titles=shown_titles([path], public=False),
    )


def ranked_rows(span: Span, *, limit: int | None, offset: int, order: Order, search: str, public: bool) -> Rows:
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
    seals = seals_of(WHOLE_SITE, span)
    untold = untold_values(seals, span)
    reason = seals.reason(None, span) if untold else ""
    if reason and order.endswith("visitors"):
        raise CannotTell(reason)
    rows = shown[offset - first :][:limit]
    return Rows(
        rows=tuple(row._replace(visitors=None) if row.value in untold else row for row in rows),
        total=total,
        titles={row.value: titles[row.value] for row in rows},
        reason=reason,
    )


def _is_found(search: str, *texts: str) -> bool:
    return any(search.casefold() in text.casefold() for text in texts)


def _ranked(span: Span, order: Order, limit: int | None) -> tuple[list[Row], int]:
    rollups = Rollup.objects.filter(dimension=PAGE.name, day__range=(span.start, span.end)).order_by()
    views = pending(span.within)
    counted = PageView.objects.rolled_up().filter(span.within, session_id=OuterRef("session_id"), path=OuterRef("path"))
    ranked, total = sql.ranked_of_days(
        [
            rollups.values_list("value", "views", "visitors"),
            views.values("path").annotate(n=Count("pk")).values_list("path", "n", ZERO),
            views.exclude(Exists(counted))
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
