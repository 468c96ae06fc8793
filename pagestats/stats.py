"""The only reader: every figure that is shown anywhere comes from here, pending page views included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.db import router
from django.db.models import BigIntegerField, Count, Exists, F, Func, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from pagestats import content, sql
from pagestats.admission import is_client_path
from pagestats.content import Titled
from pagestats.hits import instant
from pagestats.models import ActiveSession, PageTotal, PageView, ReportingZone, Rollup, Run, Tally, Visitor
from pagestats.rollups import WHOLE_SITE, backfill_status


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


def snapshot(*, at: datetime | None = None, limit: int | None = None, public: bool = False) -> Snapshot:
    """Read all stats, in a number of queries that does not depend on how many views there are.

    Lists begin with the most; equal counts are ordered by path, byte by byte.

    Arguments:
        at: the aware datetime at which visitors are active or not; None is now. All other figures are of now.
        limit: the longest that the two lists may be; None is all. The counts are of all, whatever the limit.
        public: True is for readers without the permission, since a path can be a secret: the two lists are of paths
            that a content source knows or PAGESTATS_CLIENT_PATHS matches. The counts, `total_paths` too, are of all.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}, below zero. Use None for all.")
    active = _active_by_path(instant(at))
    views, visitors = _totals()
    shown = _titles((path for path, _ in active), public=True) if public else {path for path, _ in active}
    pages, total_paths = _page_stats(limit, public=public)
    return Snapshot(
        active_visitors=sum(count for _, count in active),
        active_by_path=tuple([row for row in active if row.path in shown][:limit]),
        total_page_views=views,
        unique_visitors=visitors,
        published=content.published_counts(),
        tracking_since=_tracking_since(),
        page_stats=tuple(pages),
        total_paths=total_paths,
    )


def has_views(path: str) -> bool:
    """Tell whether a path has any page view, other than pending ones."""
    return PageTotal.objects.filter(path=path, views__gt=0).exists()


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


def _page_stats(limit: int | None, *, public: bool) -> tuple[list[PageStat], int]:
    """Return the most viewed of the pages that may be shown, and the number of all pages.

    It looks down the ranking four times as far each time, until enough are found.
    """
    most = limit
    while True:
        pages, total_paths = _pages(most)
        titles = _titles((path for path, _ in pages), public=public)
        shown = [PageStat(path, *titles[path], views) for path, views in pages if path in titles]
        if limit is None or most is None or len(shown) >= limit or most >= total_paths:
            return shown[:limit], total_paths
        most *= 4


def _titles(paths: Iterable[str], *, public: bool) -> dict[str, Titled]:
    """Return the titles of paths; for the public, only of those that a content source knows or a setting allows."""
    titles = content.titles(paths)
    if not public:
        return titles
    return {path: titled for path, titled in titles.items() if titled != Titled(path, "other") or is_client_path(path)}


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


HEALTH_DAYS = 7


class Tallied(NamedTuple):
    """How many hits came to one end. Approximate: processes write what they counted now and then."""

    outcome: str
    reason: str
    today: int
    last_days: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """How the recording fares: what became of hits today and in the last seven reporting days, and the last runs."""

    zone: ZoneInfo
    tallied: tuple[Tallied, ...]
    pending: int
    last_backfill: Run | None
    last_cleanup: Run | None


def health(*, at: datetime | None = None) -> Health:
    """Read what tells whether everything is counted that should be. Tallies: most first, equal ones by outcome, reason.

    Arguments:
        at: the aware datetime whose reporting day is today, the last of the seven; None is now.
    """
    zone = ReportingZone.zone_of(ReportingZone.objects.all())
    today = instant(at).astimezone(zone).date()
    tallies = Tally.objects.filter(day__gt=today - timedelta(days=HEALTH_DAYS), day__lte=today)
    by_outcome = tallies.order_by().values("outcome", "reason")
    tallied = by_outcome.annotate(today=Sum("count", filter=Q(day=today), default=0), last_days=Sum("count"))
    rows = [Tallied(*row) for row in tallied.values_list("outcome", "reason", "today", "last_days")]
    backfill = backfill_status()
    return Health(
        zone=zone,
        tallied=tuple(sorted(rows, key=lambda row: (-row.last_days, row))),
        pending=backfill.pending,
        last_backfill=backfill.last_run,
        last_cleanup=Run.objects.filter(kind=Run.Kind.CLEANUP).order_by("-started", "-pk").first(),
    )
