"""The figures of the site's own objects in the admin of the site's own models."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.core.checks import CheckMessage, Warning
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
from pagestats.conf import Settings
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
"""Of the bars: from one to the next, and the highest one."""


class ViewsAdminMixin(Base):
    """Put before `ModelAdmin`, it adds a column of views to the list, and a panel to the page of one object.

    Both are for who has the permission to read the stats, and are not there for anybody else, also where a part of them
    is public. The column is the last one, unless `list_display` has "page_views" somewhere else; it is sorted by the
    same statement that lists the rows. The panel has a set of fields of its own, unless `fieldsets` has "page_figures"
    somewhere.
    """

    views_days: int | None = None
    """Of how many of the last reporting days the column is; None is all time."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows with their views, for who may read them."""
        rows: QuerySet[Any] = super().get_queryset(request)
        if not access.may_read_all(request.user):
            return rows
        try:
            rows = stats.with_views(rows, days=self.views_days, name=ANNOTATION)
        except stats.Refused:  # said by `check`
            rows = rows.annotate(**{ANNOTATION: Value(None, BigIntegerField())})
        return rows

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """Return what is wrong with the admin of the model, and that its views can't be a column, if they can't."""
        found = super().check(**kwargs)
        if Settings.CONTENT.fault() or content.find_faults():
            return found  # said by the checks of the settings
        try:
            stats.with_views(self.model._default_manager.all(), days=self.views_days, name=ANNOTATION)
        except stats.Refused as error:
            hint = "Until they can, the column of views is empty."
            found.append(Warning(str(error), hint=hint, obj=type(self), id="pagestats.W006"))
        return found

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return the columns, with the views for who may read them, and without them for others."""
        columns = [column for column in super().get_list_display(request) if column != COLUMN]
        if not access.may_read_all(request.user):
            return columns
        wanted = [*super().get_list_display(request)]
        return wanted if COLUMN in wanted else [*columns, COLUMN]

    @admin.display(description=_("Views"), ordering=F(ANNOTATION).asc(nulls_first=True))
    def page_views(self, thing: Model) -> str:
        """Return the views of an object's page, as the column shows them."""
        views = getattr(thing, ANNOTATION, None)
        return self.get_empty_value_display() if views is None else number(views)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the fields that are only shown, the panel among them."""
        fields = [field for field in super().get_readonly_fields(request, obj) if field != PANEL]
        return [*fields, PANEL] if obj is not None and access.may_read_all(request.user) else fields

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the fields of the form; the panel has a set of its own."""
        return [field for field in super().get_fields(request, obj) if field != PANEL]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the sets of fields, and the panel last, unless one of them has it, for who may read it."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or not access.may_read_all(request.user):
            return _without_panel(fieldsets)
        if PANEL in flatten_fieldsets(fieldsets):
            return fieldsets
        return [*fieldsets, (_("Page views"), {"fields": [PANEL]})]

    @property
    def media(self) -> Media:
        """Return the style sheets and scripts, that of the panel among them."""
        return super().media + Media(css={"all": ["pagestats/panel.css"]})

    @admin.display(description=_("Figures"))
    def page_figures(self, thing: Model) -> SafeString | str:
        """Return the panel: who is reading now, 30 days with a bar for each, and views of all time."""
        try:
            return self._panel(thing)
        except DatabaseError:  # the form matters more: page views may be in a database of their own
            logger.exception("The figures of %r could not be shown.", thing)
            return str(_("The figures can’t be read now."))

    def _panel(self, thing: Model) -> SafeString | str:
        path = content.path_of(thing)
        if path is None:
            return str(_("This has no page of its own yet."))
        end = stats.reporting_day()
        views = stats.views_on(path)
        context: dict[str, Any] = {
            "path": path,
            "more": self._address_of_figures(path),
            "url": stats.address(path),
            "days": DAYS,
            "reading": stats.active_visitors(path),
            "views": views,
        }
        try:
            told = stats.report(end - timedelta(days=DAYS - 1), end, dimension="page", value=path)
        except stats.CannotTell as error:
            context |= {"reason": error, "views_of_days": stats.views_on(path, days=DAYS)}
        else:
            most = max(day.views for day in told.days)
            context |= {
                "told": told,
                "views_of_days": told.views,
                "label": identity.visitors_label(),
                "most": most,
                "bars": _bars(told, most),
            }
        return render_to_string("pagestats/panel.html", context)

    def _address_of_figures(self, path: str) -> str:
        """Return where *Page stats* has all figures of a path, "" where this admin site has no such page."""
        try:
            address = reverse("admin:pagestats_stats_page", current_app=self.admin_site.name)
        except NoReverseMatch:
            return ""
        return f"{address}?{urlencode({'path': path})}"


def _without_panel(fieldsets: Iterable[Any]) -> list[Any]:
    """Return sets of fields without the panel, and without those that have nothing else."""
    left = [(title, {**options, "fields": _fields(options["fields"])}) for title, options in fieldsets]
    return [(title, options) for title, options in left if options["fields"]]


def _fields(lines: Iterable[Any]) -> list[Any]:
    """Return fields without the panel, some of which may stand together in one line."""
    left = [_fields(line) if isinstance(line, (list, tuple)) else line for line in lines]
    return [line for line in left if line and line != PANEL]


class Bar(NamedTuple):
    """The views of one day, as SVG draws them: it reads numbers alike in every language."""

    x: str
    y: str
    height: str
    title: str


def _bars(told: stats.Report, most: int) -> list[Bar]:
    bars = []
    for place, day in enumerate(told.days):
        height = HEIGHT * day.views / (most or 1)
        views = ngettext("%(views)s view", "%(views)s views", day.views) % {"views": number(day.views)}
        title = f"{date_format(day.day)}: {views}"
        bars.append(Bar(f"{place * STEP + 1}", f"{HEIGHT - height:.1f}", f"{height:.1f}", title))
    return bars
