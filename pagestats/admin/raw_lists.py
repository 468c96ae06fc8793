"""Read-only lists of the raw rows."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from pagestats.formats import number
from pagestats.models import ActiveSession, PageView

MOST_LISTED = 10_000


class BoundedPaginator(Paginator):
    """A paginator that counts no further than `MOST_LISTED`: a full count would read the whole table each time."""

    @cached_property
    def count(self) -> int:
        """Return the number of rows, or `MOST_LISTED` where there are more."""
        rows = self.object_list[:MOST_LISTED]
        assert isinstance(rows, QuerySet)
        return rows.count()


class RawListAdmin(admin.ModelAdmin):
    """A read-only list: the rollups would not follow a row that somebody writes by hand."""

    paginator = BoundedPaginator
    show_full_result_count = False
    change_list_template = "admin/pagestats/raw_list.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, and say so where it ends before the oldest rows."""
        most = {"most_rows": MOST_LISTED, "most_rows_shown": number(MOST_LISTED)}
        return super().changelist_view(request, {**most, **(extra_context or {})})

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
class PageViewAdmin(RawListAdmin):
    """The newest page views; a search finds those of a path or a session."""

    list_display = ("timestamp", "path", "page_type", "session_id", "rolled_up")
    ordering = ("-timestamp", "-pk")
    search_fields = ("path__startswith", "session_id__exact")
    search_help_text = _("The beginning of a path, or a whole session ID.")


@admin.register(ActiveSession)
class ActiveSessionAdmin(RawListAdmin):
    """The active sessions, those seen last first."""

    list_display = ("last_seen", "current_path", "session_id")
    ordering = ("-last_seen", "session_id")
    search_fields = ("current_path__startswith", "session_id__exact")
    search_help_text = _("The beginning of a path, or a whole session ID.")
