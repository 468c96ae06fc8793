"""The only reader: every figure that is shown anywhere comes from here, pending page views included."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db import router
from django.db.models import BigIntegerField, Count, Exists, F, Func, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from pagestats import content, sql
from pagestats.hits import instant
from pagestats.models import ActiveSession, PageTotal, PageView, Rollup, Visitor
from pagestats.rollups import WHOLE_SITE


class PathCount(NamedTuple):
    """How many active visitors are on a path."""

    path: str
    count: int  # type: ignore[assignment]  # it hides tuple.count, which a pair has no use for


class PageStat(NamedTuple):
    """The views of one page."""

    path: str
    title: str
    page_type: str
    views: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """All stats at one moment. Each figure is the raw truth at the instant it was read."""

    active_visitors: int
    active_by_path: tuple[PathCount, ...]
    total_page_views: int
    unique_visitors: int
    published: dict[str, int]
    tracking_since: datetime | None
    page_stats: tuple[PageStat, ...]
    total_paths: int


def snapshot(*, at: datetime | None = None, limit: int | None = None) -> Snapshot:
    """Read all stats, in a number of queries that does not depend on how many views or pages there are.

    Lists begin with the most; equal counts are ordered by path, byte by byte.

    Arguments:
        at: the aware datetime at which visitors are active or not; None is now. All other figures are of now.
        limit: the longest that the two lists may be; None is all. The counts are of all, whatever the limit.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}, below zero. Use None for all.")
    active = _active_by_path(instant(at))
    views, visitors = _totals()
    pages, total_paths = _pages(limit)
    titles = content.titles(path for path, _ in pages)
    return Snapshot(
        active_visitors=sum(count for _, count in active),
        active_by_path=tuple(active[:limit]),
        total_page_views=views,
        unique_visitors=visitors,
        published=content.published_counts(),
        tracking_since=_tracking_since(),
        page_stats=tuple(PageStat(path, *titles[path], views) for path, views in pages),
        total_paths=total_paths,
    )


def _active_by_path(at: datetime) -> list[PathCount]:
    active = ActiveSession.objects.active(at).values("current_path").annotate(count=Count("pk"))
    return [PathCount(*row) for row in active.order_by("-count", "current_path").values_list("current_path", "count")]


def _tracking_since() -> datetime | None:
    return PageView.objects.order_by("timestamp").values_list("timestamp", flat=True).first()


def _counted(rows: QuerySet[Any], what: str, *, distinct: bool = False) -> Coalesce:
    """Return a subquery that counts a column of rows.

    `Func` rather than `Count`, which would group the subquery by its rows.
    """
    template = "COUNT(DISTINCT %(expressions)s)" if distinct else "COUNT(%(expressions)s)"
    count = Func(F(what), template=template, output_field=BigIntegerField())
    return Coalesce(Subquery(rows.order_by().values_list(count)), 0)


def _totals() -> tuple[int, int]:
    """Return all-time views and visitors. The rollup part and the pending part are one statement.

    In two, a chunk of a backfill that commits between them would be in neither.
    """
    pending = PageView.objects.pending()
    rolled_up = Visitor.objects.filter(session_id=OuterRef("session_id"), first_seen__isnull=False)
    figures = Rollup.objects.filter(dimension=WHOLE_SITE.dimension, value=WHOLE_SITE.value).aggregate(
        views=Coalesce(Sum("views"), 0) + _counted(pending, "pk"),
        visitors=Coalesce(Sum("new_visitors"), 0)
        + _counted(pending.exclude(Exists(rolled_up)), "session_id", distinct=True),
    )
    return int(figures["views"]), int(figures["visitors"])


def _pages(limit: int | None) -> tuple[list[tuple[str, int]], int]:
    """Return (path, views) of the most viewed pages, and the number of pages.

    The totals alone answer, in the order of their index, while nothing is pending: a condition of the same statement,
    which else returns nothing. Then the totals and the pending views are added up.
    """
    nothing_pending = ~Exists(PageView.objects.pending())
    totals = PageTotal.objects.filter(nothing_pending, views__gt=0)
    if total_paths := totals.count():
        pages = list(totals.order_by("-views", "path").values_list("path", "views")[:limit])
        if pages or limit == 0:
            return pages, total_paths
    return sql.ranked_pages(limit=limit, using=router.db_for_read(PageTotal))
