"""All figures of this moment."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple

from django.db import router
from django.db.models import BigIntegerField, DateTimeField, Exists, F, Func, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from pagestats import content, sql
from pagestats.dimensions import WHOLE_SITE
from pagestats.models import Calendar, PageTotal, PageView, Rollup, Visitor
from pagestats.stats.active import PathCount, active
from pagestats.stats.titled import address, shown_of


class PageStat(NamedTuple):
    """The views of one page."""

    path: str
    title: str
    page_type: str
    views: int

    @property
    def href(self) -> str:
        """Return where the page is, "" for one that only a visitor named: its path may lead anywhere."""
        return "" if self.page_type == "other" else address(self.path)


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

    def written(self, *, lifetime: str) -> dict[str, Any]:
        """Return it as objects and lists, as the API answers.

        Args:
            lifetime: how long a session id lives, "day" or "lasting", which says what a visitor is.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            "lifetime": lifetime,
            **values,
            "active_by_path": [row._asdict() for row in self.active_by_path],
            "page_stats": [row._asdict() for row in self.page_stats],
        }


def snapshot(*, at: datetime | None = None, limit: int | None = None, public: bool = False) -> Snapshot:
    """Read all stats, in a number of queries that does not depend on how many views there are.

    Lists begin with the most; equal counts are ordered by path, byte by byte.

    Arguments:
        at: the aware datetime at which visitors are active or not; None is now. All other figures are of now.
        limit: the longest that the two lists may be; None is all. The counts are of all, whatever the limit.
        public: True is for readers without the permission, since a path can be a secret: the two lists are of paths
            that a content source knows or PAGESTATS_CLIENT_PATHS matches, and with a limit the pages are those among
            the 2,000 most viewed paths. The counts, `total_paths` too, are of all.

    Raises `Refused`, a `ValueError`, for a limit that is none.
    """
    now = active(at=at, limit=limit, public=public)
    views, visitors = _totals()
    pages, total_paths = _page_stats(limit, public=public)
    return Snapshot(
        active_visitors=now.visitors,
        active_by_path=now.by_path,
        total_page_views=views,
        unique_visitors=visitors,
        published=content.published_counts(),
        tracking_since=_tracking_since(),
        page_stats=tuple(pages),
        total_paths=total_paths,
    )


def has_views(path: str) -> bool:
    """Tell whether a path has any page view, pending ones and those that were pruned included."""
    totals = PageTotal.objects.filter(path=path, views__gt=0)
    return totals.exists() or PageView.objects.filter(path=path).exists()


def _tracking_since() -> datetime | None:
    """Return when the first page view was; where page views were pruned, the totals of their pages tell."""
    return min((at for [at] in [*_first_view(), *_first_pruned()] if at is not None), default=None)


@sql.prepared
def _first_view() -> QuerySet[Any, Any]:
    return PageView.objects.order_by("timestamp").values_list("timestamp")[:1]


@sql.prepared
def _first_pruned() -> QuerySet[Any, Any]:
    is_sealed = Exists(Calendar.objects.filter(sealed_before__isnull=False))
    first = Func(F("first_viewed"), function="MIN", output_field=DateTimeField())
    return PageTotal.objects.filter(is_sealed, views__gt=0).order_by().values_list(first)


def _counted(rows: QuerySet[Any], what: str, *, distinct: bool = False) -> Coalesce:
    """Return a subquery that counts a column of rows.

    `Func` rather than `Count`, which would group the subquery by its rows.
    """
    template = "COUNT(DISTINCT %(expressions)s)" if distinct else "COUNT(%(expressions)s)"
    count = Func(F(what), template=template, output_field=BigIntegerField())
    return Coalesce(Subquery(rows.order_by().values_list(count)), 0)


def _totals() -> tuple[int, int]:
    """Return all-time views and visitors."""
    [(views, visitors)] = _all_time()
    return int(views), int(visitors)


@sql.prepared
def _all_time() -> QuerySet[Any, Any]:
    """Add the rollup part and the pending part of both in one statement.

    In two, a chunk of a backfill that commits between them would be in neither.
    """
    pending = PageView.objects.pending()
    rolled_up = Visitor.objects.filter(session_id=OuterRef("session_id"), first_seen__isnull=False)
    return (
        Rollup.objects.filter(dimension=WHOLE_SITE.dimension, value=WHOLE_SITE.value)
        .order_by()
        .values_list(
            _sum("views") + _counted(pending, "pk"),
            _sum("new_visitors") + _counted(pending.exclude(Exists(rolled_up)), "session_id", distinct=True),
        )
    )


def _sum(column: str) -> Coalesce:
    """Return the sum over all rows. `Func` rather than `Sum`, which would group them."""
    return Coalesce(Func(F(column), function="SUM", output_field=BigIntegerField()), 0)


def _page_stats(limit: int | None, *, public: bool) -> tuple[list[PageStat], int]:
    """Return the most viewed of the pages that may be shown, and the number of all pages."""
    shown, titles, total_paths = shown_of(_pages, limit, public=public)
    return [PageStat(path, *titles[path], views) for path, views in shown[:limit]], total_paths


def _pages(limit: int | None) -> tuple[list[tuple[str, int]], int]:
    """Return (path, views) of the most viewed pages, and the number of pages.

    The totals alone answer, in the order of their index, while nothing is pending: a condition of the same statement,
    which else returns nothing. Then the totals and the pending views are added up.
    """
    total_paths = sum(count for (count,) in _number_of_pages())
    pages = [] if limit == 0 else _most_viewed(limit)
    if total_paths and (pages or limit == 0):
        return [(path, views) for path, views in pages], total_paths
    return sql.ranked_pages(limit=limit, using=router.db_for_read(PageTotal))


def _rolled_up_pages() -> QuerySet[PageTotal]:
    return PageTotal.objects.filter(~Exists(PageView.objects.pending()), views__gt=0)


@sql.prepared
def _number_of_pages() -> QuerySet[Any, Any]:
    return (
        _rolled_up_pages()
        .order_by()
        .values_list(Func(function="COUNT", template="COUNT(*)", output_field=BigIntegerField()))
    )


@sql.prepared
def _most_viewed(limit: int | None) -> QuerySet[Any, Any]:
    return _rolled_up_pages().order_by("-views", "path").values_list("path", "views")[:limit]
