"""An adapter of this app for a benchmark harness that compares page view recorders: a file for its folder `peers/`.

Like the other adapters there, it identifies visitors by the session cookie that the harness sends.
"""

from datetime import UTC, datetime

from benchlib import data

from .base import Peer


def by_session_cookie(request, *, at, claimed):
    """Return the session id of a request."""
    return request.COOKIES.get("sessionid")


by_session_cookie.lifetime = "lasting"


class PageStats(Peer):
    """Updates the rollups with each page view."""

    name = "pagestats"
    dist = "django-pagestats"
    apps = ("pagestats",)
    middleware_first = ("pagestats.middleware.PageViewMiddleware",)
    settings = {"PAGESTATS_IDENTITY": "peers.pagestats.by_session_cookie"}
    urls = (("", "pagestats.urls"),)
    stat_pages = (("stats page", "/admin/pagestats/stats/"), ("API", "/stats/"))
    dedup = True

    def recorded(self):
        """Return how many page views are stored."""
        from pagestats.models import PageView

        return PageView.objects.filter(path__startswith="/p/").count()

    def seed(self, views, bulk):
        """Store page views, roll them up with a backfill, and make their sessions active."""
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
        """Return a function for each of the harness's questions."""
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
    """Stores page views as pending. `flush` does what the cluster would do."""

    name = "pagestats_deferred"
    settings = {**PageStats.settings, "PAGESTATS_ROLLUPS": "deferred"}

    def flush(self):
        """Roll up pending page views."""
        from pagestats.rollups import roll_up_pending

        sum(roll_up_pending(batch_size=2_000))
