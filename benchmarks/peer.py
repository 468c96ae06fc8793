"""This app for a harness that runs recorders of page views side by side: a file for its folder `peers/`.

It counts each visitor by the session cookie that the harness sends, as the references there do.
"""

from datetime import UTC, datetime

from benchlib import data

from .base import Peer


def by_session_cookie(request, *, at, claimed):
    """Return the session id of a request."""
    return request.COOKIES.get("sessionid")


by_session_cookie.lifetime = "lasting"


class PageStats(Peer):
    """Rollups moved with each view."""

    name = "pagestats"
    dist = "django-pagestats"
    apps = ("pagestats",)
    middleware_first = ("pagestats.middleware.PageViewMiddleware",)
    settings = {"PAGESTATS_IDENTITY": "peers.pagestats.by_session_cookie"}
    urls = (("", "pagestats.urls"),)
    stat_pages = (("stats page", "/admin/pagestats/stats/"), ("API", "/stats/"))
    dedup = True

    def recorded(self):
        """Return how many views are stored."""
        from pagestats.models import PageView

        return PageView.objects.filter(path__startswith="/p/").count()

    def seed(self, views, bulk):
        """Store views, and fold them in as the app does; the sessions of the last minutes are active."""
        from pagestats.models import ActiveSession, PageView
        from pagestats.rollups import backfill

        bulk(
            PageView,
            ["path", "session_id", "timestamp", "rolled_up"],
            ((data.path(page), data.session_key(session), at, False) for at, page, session in views),
        )
        for _ in backfill(batch_size=10_000):
            pass
        last = {session: (page, at) for at, page, session in views}
        bulk(
            ActiveSession,
            ["session_id", "current_path", "last_seen"],
            ((data.session_key(session), data.path(page), at) for session, (page, at) in last.items()),
        )

    def read(self, views):
        """Return what answers the harness's questions."""
        from pagestats.stats import snapshot

        at = datetime.fromtimestamp(views.now, UTC)
        return {
            "total": lambda: snapshot(at=at, limit=1).total_page_views,
            "uniques": lambda: snapshot(at=at, limit=1).unique_visitors,
            "per_path": lambda: [(page.path, page.views) for page in snapshot(at=at).page_stats],
            "since": lambda: snapshot(at=at, limit=1).tracking_since,
            "active": lambda: snapshot(at=at, limit=1).active_visitors,
        }


class Deferred(PageStats):
    """Page views stored pending; the folding is the cluster's, and `flush` stands for it."""

    name = "pagestats_deferred"
    settings = {**PageStats.settings, "PAGESTATS_ROLLUPS": "deferred"}

    def flush(self):
        """Fold what is pending."""
        from pagestats.rollups import fold

        sum(fold(batch_size=2_000))
