"""The page *Page stats*, and read-only lists of the raw rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, NamedTuple

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.encoding import escape_uri_path
from django.utils.formats import number_format
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_safe

from pagestats import access, identity, tallies
from pagestats.conf import conf
from pagestats.hits import instant
from pagestats.models import ActiveSession, PageView, Stats
from pagestats.stats import Health, PageStat, Snapshot, Tallied, health, snapshot

MOST_ROWS = 10_000
MOST_PAGES = 100

OUTCOMES = {
    tallies.RECORDED: gettext_lazy("Recorded"),
    tallies.REPEAT: gettext_lazy("Repeats"),
    tallies.NOT_STORED: gettext_lazy("Not recorded"),
    tallies.FAILED: gettext_lazy("Failed"),
}
REASONS = {
    "bad_host": gettext_lazy("Host that is none of the site’s"),
    "bad_session_id": gettext_lazy("Session id that is none"),
    "bot": gettext_lazy("Robot"),
    "cross_origin": gettext_lazy("Sent from another site"),
    "excluded": gettext_lazy("Excluded by PAGESTATS_EXCLUDE"),
    "fragment": gettext_lazy("Part of a page, asked for by a script or a frame"),
    "invalid_body": gettext_lazy("Sent to the API in another shape"),
    "invalid_path": gettext_lazy("Path that no database can keep"),
    "method": gettext_lazy("Not a GET request"),
    "new_paths": gettext_lazy("Too many new paths"),
    "no_address": gettext_lazy("No address of the client"),
    "no_document": gettext_lazy("Not a page: an image, a download, data"),
    "no_session_id": gettext_lazy("No session id from the browser"),
    "no_store": gettext_lazy("Answered with no-store"),
    "prefetch": gettext_lazy("Prefetched, perhaps never seen"),
    "staff": gettext_lazy("Staff"),
    "status": gettext_lazy("Redirect or error"),
    "throttled": gettext_lazy("Sent to the API too often"),
    "too_large": gettext_lazy("Sent to the API, and too large"),
    "unknown_path": gettext_lazy("Path that the site does not have"),
}


class BoundedPaginator(Paginator):
    """A paginator that counts no further than `MOST_ROWS`: a full count reads the whole table on each visit."""

    @cached_property
    def count(self) -> int:
        """Return the number of rows, or `MOST_ROWS` where there are more."""
        rows = self.object_list[:MOST_ROWS]
        assert isinstance(rows, QuerySet)
        return rows.count()


class FactAdmin(admin.ModelAdmin):
    """A list of rows that nobody writes by hand: the rollups would not follow."""

    paginator = BoundedPaginator
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: rows are recorded."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: rows are facts."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: the rollups would keep what is deleted here."""
        return False


@admin.register(PageView)
class PageViewAdmin(FactAdmin):
    """The newest page views, and those of a path or a session."""

    list_display = ("timestamp", "path", "page_type", "session_id", "rolled_up")
    ordering = ("-timestamp", "-pk")
    search_fields = ("path__startswith", "session_id__exact")
    search_help_text = "The beginning of a path, or a whole session id."


@admin.register(ActiveSession)
class ActiveSessionAdmin(FactAdmin):
    """The sessions seen last."""

    list_display = ("last_seen", "current_path", "session_id")
    ordering = ("-last_seen", "session_id")
    search_fields = ("current_path__startswith", "session_id__exact")
    search_help_text = "The beginning of a path, or a whole session id."


class Card(NamedTuple):
    """A figure that is to be seen at first glance."""

    label: str
    figure: str
    note: str = ""
    since: Any = None


@admin.register(Stats)
class StatsAdmin(FactAdmin):
    """The page *Page stats*, for whoever has the permission `pagestats.view_stats`.

    `admin.site` has it. Any other admin site gets it with `site.register(Stats, StatsAdmin)`.
    """

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Tell whether the user has the one permission to read."""
        return access.may_read_all(request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Tell the same: without it there is no entry in the menu."""
        return self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        """Return the address of the page. There is none for one row: those are listed as page views."""
        view = self.admin_site.admin_view(self.changelist_view)
        return [path("", view, name=f"{self.opts.app_label}_{self.opts.model_name}_changelist")]

    @method_decorator(require_safe)
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show who is on the site now, what is read, and how the recording fares."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        at = instant(None)
        stats, state = snapshot(at=at, limit=MOST_PAGES), health(at=at)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Page stats"),
            "opts": self.opts,
            "at": at,
            "zone": state.zone,
            "cards": cards(stats),
            "tracking_since": stats.tracking_since,
            "has_content": bool(stats.published),
            **viewing_now(stats),
            **pages_by_views(stats),
            **fared(state),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/pagestats/stats.html", context)


def number(value: int) -> str:
    """Return a number with its thousands set apart, as the reader's language does."""
    return number_format(value, force_grouping=True)


def span(length: timedelta) -> str:
    """Return a duration in words."""
    seconds = int(length.total_seconds())
    if seconds % 60:
        return ngettext("%(count)s second", "%(count)s seconds", seconds) % {"count": number(seconds)}
    return ngettext("%(count)s minute", "%(count)s minutes", seconds // 60) % {"count": number(seconds // 60)}


def cards(stats: Snapshot) -> list[Card]:
    """Return the figures at first glance."""
    a_day = identity.lifetime() == "day"
    return [
        Card(
            _("Active now"),
            number(stats.active_visitors),
            _("in the last %(span)s") % {"span": span(conf.SESSION_TIMEOUT)},
        ),
        Card(_("Page views"), number(stats.total_page_views), since=stats.tracking_since),
        Card(
            str(identity.visitors_label()),
            number(stats.unique_visitors),
            _("counted once a day") if a_day else _("since tracking began"),
        ),
        *(
            Card(_("Published: %(things)s") % {"things": name}, number(count))
            for name, count in stats.published.items()
        ),
    ]


def viewing_now(stats: Snapshot) -> dict[str, Any]:
    """Return what the table of active visitors shows."""
    elsewhere = stats.active_visitors - sum(count for path, count in stats.active_by_path)
    return {
        "viewing_now": [(path, number(count)) for path, count in stats.active_by_path],
        "elsewhere": elsewhere
        and ngettext(
            "%(count)s more visitor is on other pages.", "%(count)s more visitors are on other pages.", elsewhere
        )
        % {"count": number(elsewhere)},
        "nobody": _("Nobody has been on the site in the last %(span)s.") % {"span": span(conf.SESSION_TIMEOUT)},
    }


def pages_by_views(stats: Snapshot) -> dict[str, Any]:
    """Return what the table of pages shows."""
    most = max((page.views for page in stats.page_stats), default=0)
    shown = len(stats.page_stats)
    return {
        "pages": [
            {
                "title": page.title,
                "path": page.path if page.path != page.title else "",
                "href": address(page),
                "type": page.page_type,
                "views": number(page.views),
                # An attribute of SVG, the same in every language.
                "share": f"{100 * page.views / most:.2f}",
            }
            for page in stats.page_stats
        ],
        "pages_shown": _("The first %(shown)s of %(total)s pages")
        % {"shown": number(shown), "total": number(stats.total_paths)}
        if shown < stats.total_paths
        else ngettext("%(total)s page", "%(total)s pages", shown) % {"total": number(shown)},
    }


def address(page: PageStat) -> str:
    """Return where a page is, or nothing for one that only a visitor named: its path may lead anywhere."""
    # A browser takes "//" and "/\\" for the beginning of another host.
    if page.page_type == "other" or not page.path.startswith("/") or page.path[1:2] in ("/", "\\"):
        return ""
    return escape_uri_path(page.path)


def fared(state: Health) -> dict[str, Any]:
    """Return what the section on health shows."""
    return {
        "outcomes": [outcome(key, label, state.tallied) for key, label in OUTCOMES.items()] if state.tallied else [],
        "pending": number(state.pending) if state.pending else "",
        "last_cleanup": state.last_cleanup,
        "last_cleanup_deleted": number(state.last_cleanup.processed) if state.last_cleanup else "",
        "last_backfill": state.last_backfill,
        "last_backfill_processed": number(state.last_backfill.processed) if state.last_backfill else "",
    }


def outcome(key: str, label: Any, tallied: Iterable[Tallied]) -> dict[str, Any]:
    """Return the row of an outcome, and those of its reasons."""
    rows = [row for row in tallied if row.outcome == key]
    last_days = sum(row.last_days for row in rows)
    return {
        "label": label,
        "alarm": key == tallies.FAILED and last_days > 0,
        "today": number(sum(row.today for row in rows)),
        "last_days": number(last_days),
        "reasons": [
            {
                # Of what has no words here the name is shown: that of an error, or of another reason.
                "label": REASONS.get(row.reason, row.reason),
                "today": number(row.today),
                "last_days": number(row.last_days),
            }
            for row in rows
            if row.reason
        ],
    }
