"""Page views of your own objects, in the admin of your own models."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.core.checks import CheckMessage
from django.db import DatabaseError
from django.db.models import BigIntegerField, F, Model, QuerySet, Value
from django.forms import Media
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from pagestats import access, content, identity, stats
from pagestats.checks import message
from pagestats.conf import Settings
from pagestats.dimensions import PAGE
from pagestats.formats import number

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = object

logger = logging.getLogger("pagestats")

COLUMN, PANEL = "page_views", "page_figures"
ANNOTATION = "pagestats_views"
DAYS = 30
STEP, HEIGHT = 8, 40
"""The distance from one bar to the next, and the height of the highest bar, in units of the SVG."""


class ViewsAdminMixin(Base):
    """Adds a column of views to the list of objects, and a panel to the page of one object. Goes before `ModelAdmin`.

    Only users who may read all stats see them, even if some stats are public. The column comes last unless
    `list_display` contains "page_views"; sorting by it takes no extra statement. The panel has a fieldset of its own
    unless `fieldsets` contains "page_figures".
    """

    views_days: int | None = None
    """How many of the last reporting days the column counts; None means all time."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows, annotated with their views if the user may read all stats."""
        rows: QuerySet[Any] = super().get_queryset(request)
        if not access.may_read_all(request.user):
            return rows
        try:
            rows = stats.with_views(rows, days=self.views_days, name=ANNOTATION)
        except stats.Refused:  # reported by `check`
            rows = rows.annotate(**{ANNOTATION: Value(None, BigIntegerField())})
        return rows

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """Return the faults of this admin, with a warning if the views of its model can't be a column."""
        found = super().check(**kwargs)
        if Settings.CONTENT.fault() or content.find_faults():
            return found  # reported by the checks of the settings
        try:
            stats.with_views(self.model._default_manager.all(), days=self.views_days, name=ANNOTATION)
        except stats.Refused as error:
            found.append(message("W006", fault=error, obj=type(self)))
        return found

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return the columns, including the views if the user may read all stats."""
        columns = [column for column in super().get_list_display(request) if column != COLUMN]
        if not access.may_read_all(request.user):
            return columns
        wanted = [*super().get_list_display(request)]
        return wanted if COLUMN in wanted else [*columns, COLUMN]

    @admin.display(description=_("Views"), ordering=F(ANNOTATION).asc(nulls_first=True))
    def page_views(self, thing: Model) -> str:
        """Return the views of an object's page as the column shows them."""
        views = getattr(thing, ANNOTATION, None)
        return self.get_empty_value_display() if views is None else number(views)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the read-only fields, including the panel if the user may read all stats."""
        fields = [field for field in super().get_readonly_fields(request, obj) if field != PANEL]
        return [*fields, PANEL] if obj is not None and access.may_read_all(request.user) else fields

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the fields of the form without the panel, which has a fieldset of its own."""
        return [field for field in super().get_fields(request, obj) if field != PANEL]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the fieldsets. If the user may read all stats, add the panel last unless it is already in one."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or not access.may_read_all(request.user):
            return _without_panel(fieldsets)
        if PANEL in flatten_fieldsets(fieldsets):
            return fieldsets
        return [*fieldsets, (_("Page views"), {"fields": [PANEL]})]

    @property
    def media(self) -> Media:
        """Return the style sheets and scripts, including the style sheet of the panel."""
        return super().media + Media(css={"all": ["pagestats/panel.css"]})

    @admin.display(description=_("Page views"))
    def page_figures(self, thing: Model) -> SafeString | str:
        """Return the panel: readers now, views and visitors of 30 days with a bar per day, and views of all time."""
        try:
            return self._panel(thing)
        except DatabaseError:  # page views may be in another database, and the form matters more
            logger.exception("The page views of %r could not be read.", thing)
            return str(_("Page views aren’t available right now."))

    def _panel(self, thing: Model) -> SafeString | str:
        path = content.path_of(thing)
        if path is None:
            return str(_("This object has no page yet."))
        moment = stats.read_moment()
        views = stats.views_on(path)
        context: dict[str, Any] = {
            "path": path,
            "more": self._stats_page_url(path),
            "url": stats.address(path),
            "days": DAYS,
            "reading": stats.active_visitors(path),
            "views": views,
        }
        start = moment.today - timedelta(days=DAYS - 1)
        try:
            report = stats.report(start, moment.today, dimension=PAGE.name, value=path, moment=moment)
        except stats.CannotTell as error:
            context |= {
                "reason": error.reason.translated,
                "views_of_days": stats.views_on(path, days=DAYS, moment=moment),
            }
        else:
            most = max(day.views for day in report.days)
            context |= {
                "report": report,
                "views_of_days": report.views,
                "label": identity.visitors_label(),
                "most": most,
                "bars": _bars(report, most),
            }
        return render_to_string("pagestats/panel.html", context)

    def _stats_page_url(self, path: str) -> str:
        """Return the address of *Page stats* for a path, or "" if this admin site doesn't have that page."""
        try:
            address = reverse("admin:pagestats_stats_page", current_app=self.admin_site.name)
        except NoReverseMatch:
            return ""
        return f"{address}?{urlencode({'path': path})}"


def _without_panel(fieldsets: Iterable[Any]) -> list[Any]:
    """Return fieldsets without the panel. A fieldset that had nothing else is left out."""
    left = [(title, {**options, "fields": _fields(options["fields"])}) for title, options in fieldsets]
    return [(title, options) for title, options in left if options["fields"]]


def _fields(lines: Iterable[Any]) -> list[Any]:
    """Return fields without the panel. A tuple is several fields on one line."""
    left = [_fields(line) if isinstance(line, (list, tuple)) else line for line in lines]
    return [line for line in left if line and line != PANEL]


class Bar(NamedTuple):
    """The views of one day as a bar. The numbers are strings, because SVG needs a decimal point in every language."""

    x: str
    y: str
    height: str
    title: str


def _bars(report: stats.Report, most: int) -> list[Bar]:
    bars = []
    for place, day in enumerate(report.days):
        height = HEIGHT * day.views / (most or 1)
        views = ngettext("%(views)s view", "%(views)s views", day.views) % {"views": number(day.views)}
        title = f"{date_format(day.day)}: {views}"
        bars.append(Bar(f"{place * STEP + 1}", f"{HEIGHT - height:.1f}", f"{height:.1f}", title))
    return bars
