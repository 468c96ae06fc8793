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

MOST_ROWS = 10_000


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
    change_list_template = "admin/pagestats/facts.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, and say where it does not go on to the oldest."""
        most = {"most_rows": MOST_ROWS, "most_rows_shown": number(MOST_ROWS)}
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
class PageViewAdmin(FactAdmin):
    """The newest page views, and those of a path or a session."""

    list_display = ("timestamp", "path", "page_type", "session_id", "rolled_up")
    ordering = ("-timestamp", "-pk")
    search_fields = ("path__startswith", "session_id__exact")
    search_help_text = _("The beginning of a path, or a whole session id.")


@admin.register(ActiveSession)
class ActiveSessionAdmin(FactAdmin):
    """The sessions seen last."""

    list_display = ("last_seen", "current_path", "session_id")
    ordering = ("-last_seen", "session_id")
    search_fields = ("current_path__startswith", "session_id__exact")
    search_help_text = _("The beginning of a path, or a whole session id.")
