"""The snapshot: who is here now, and what was counted since tracking began."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple

from django.db import router
from django.db.models import DateTimeField, Exists, F, Func, QuerySet, Subquery

from pagestats import content, sql
from pagestats.days import Moment
from pagestats.dimensions import SITE, WHOLE_SITE
from pagestats.models import Calendar, PageTotal, PageView, Rollup
from pagestats.stats.active import PathCount, active
from pagestats.stats.pending import was_counted
from pagestats.stats.titled import address, shown_to_all, shown_to_public
from pagestats.stats.visitors import ROWS, SESSIONS, total_or_0


class PageStat(NamedTuple):
    """The views of one page."""

    path: str
    title: str
    page_type: str
    views: int

    @property
    def href(self) -> str:
        """The address of the page; "" where only a visitor named it, since its path may lead anywhere."""
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


def snapshot(
    *,
    at: datetime | None = None,
    limit: int | None = None,
    public: bool = False,
    moment: Moment | None = None,
) -> Snapshot:
    """Read all stats of this moment, in a number of queries that does not depend on how many views there are.

    Lists begin with the most; equal counts are ordered by path, byte by byte.

    Args:
        at: the aware datetime at which visitors are active or not; None is now. All other figures are of now.
        limit: the largest number of rows of the two lists; None is all. The counts are of all, whatever the limit.
        public: True is for readers without the permission, since a path can be a secret: the two lists are of paths
            that a content source knows or PAGESTATS_CLIENT_PATHS matches, and with a limit the pages are those among
            the 2,000 most viewed paths. The counts, including `total_paths`, are of all.
        moment: when the reader asks, if it was read already; it replaces `at`.

    Raises:
        Refused: a `ValueError`, if the limit is not a number of rows.
    """
    now = active(at=moment.at if moment else at, limit=limit, public=public)
    [(views, visitors)] = _views_and_visitors()
    shown, total_paths = _page_stats(limit, public=public)
    return Snapshot(
        active_visitors=now.visitors,
        active_by_path=now.by_path,
        total_page_views=int(views),
        unique_visitors=int(visitors),
        published=content.published_counts(),
        tracking_since=tracking_since(),
        page_stats=shown,
        total_paths=total_paths,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """What was counted since tracking began, without the pages one by one."""

    total_page_views: int
    unique_visitors: int
    published: dict[str, int]
    tracking_since: datetime | None
    total_paths: int


def read_totals() -> Totals:
    """Read what was counted since tracking began, as in the snapshot."""
    [(views, visitors)] = _views_and_visitors()
    _, total_paths = _pages(0)
    return Totals(
        total_page_views=int(views),
        unique_visitors=int(visitors),
        published=content.published_counts(),
        tracking_since=tracking_since(),
        total_paths=total_paths,
    )


def has_views(path: str) -> bool:
    """Return whether a path has any page view, including pending ones and those that were pruned."""
    totals = PageTotal.objects.filter(path=path, views__gt=0)
    return totals.exists() or PageView.objects.filter(path=path).exists()


def tracking_since() -> datetime | None:
    """Return when the first page view was; None before there is any."""
    # Where page views were pruned, the totals of their pages remember the first one.
    return min((at for [at] in [*_first_view(), *_first_pruned()] if at is not None), default=None)


@sql.prepared
def _first_view() -> QuerySet[Any, Any]:
    return PageView.objects.order_by("timestamp").values_list("timestamp")[:1]


@sql.prepared
def _first_pruned() -> QuerySet[Any, Any]:
    is_sealed = Exists(Calendar.objects.filter(sealed_before__isnull=False))
    first = Func(F("first_viewed"), function="MIN", output_field=DateTimeField())
    return PageTotal.objects.filter(is_sealed, views__gt=0).order_by().values_list(first)


@sql.prepared
def _views_and_visitors() -> QuerySet[Any, Any]:
    """Return all-time views and visitors, rolled up and pending ones.

    They come from one statement. Of two, a chunk of a backfill that is committed between them would be in neither.
    """
    views = PageView.objects.pending().order_by()
    new = views.exclude(was_counted(SITE, WHOLE_SITE.value, None))
    return (
        Rollup.objects.filter(dimension=SITE.name, value=WHOLE_SITE.value)
        .order_by()
        .values_list(
            total_or_0("views") + Subquery(views.values(n=ROWS)),
            total_or_0("new_visitors") + Subquery(new.values(n=SESSIONS)),
        )
    )


def _page_stats(limit: int | None, *, public: bool) -> tuple[tuple[PageStat, ...], int]:
    """Return the most viewed of the pages that may be shown, and the number of all pages."""
    shown = shown_to_public(_pages, limit) if public else shown_to_all(_pages, limit)
    return tuple(PageStat(path, *shown.titles[path], views) for path, views in shown.rows[:limit]), shown.total


def _pages(limit: int | None) -> tuple[list[tuple[str, int]], int]:
    """Return (path, views) of the most viewed pages, and the number of pages.

    While nothing is pending, the page totals answer alone, in the order of their index; that nothing is pending is a
    condition of the same statement, which otherwise returns nothing. Then totals and pending views are added up.
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
    return _rolled_up_pages().order_by().values_list(ROWS)


@sql.prepared
def _most_viewed(limit: int | None) -> QuerySet[Any, Any]:
    return _rolled_up_pages().order_by("-views", "path").values_list("path", "views")[:limit]
