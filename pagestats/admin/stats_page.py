"""The page *Page stats*: the counts of a period, of the site or of one page, and the health of recording."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from pagestats import access, identity
from pagestats.admin import exports
from pagestats.admin.cards import cards, cards_without_visitors
from pagestats.admin.health import health_section
from pagestats.admin.periods import ALL, Period, picked
from pagestats.admin.raw_lists import RawListAdmin
from pagestats.admin.reports import read_report
from pagestats.admin.tables import RowsQuery, dimensions_by_table, page_table, panels, rows_reader
from pagestats.conf import conf
from pagestats.days import Moment, day_of, nearest_instant, start_of
from pagestats.formats import number, span, thousands
from pagestats.models import Stats
from pagestats.presence import MOST_PATHS, active_response
from pagestats.stats import (
    Active,
    CannotTell,
    PageStat,
    Refused,
    Totals,
    active,
    health,
    read_moment,
    read_totals,
    report_rows,
    shown_titles,
    tracking_since,
    views_on,
)

TABLES = ("figures", "active", "requests")
"""The tables that can be had as CSV, beside those of dimensions."""


@admin.register(Stats)
class StatsAdmin(RawListAdmin):
    """The page *Page stats*, for users with the permission `pagestats.view_stats`.

    `admin.site` has it. Any other admin site gets it with `site.register(Stats, StatsAdmin)`.
    """

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Return whether the user has the permission to read."""
        return access.may_read_all(request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return the same: without the permission there is no entry in the menu."""
        return self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        """Return the URLs of this page, that of one path, and what they load. There is no URL for one row."""
        views: list[tuple[str, Callable[..., HttpResponseBase], str]] = [
            ("", self.changelist_view, "changelist"),
            ("page/", self.page_view, "page"),
            ("active/", self.active_view, "active"),
            ("csv/<slug:name>/", self.csv_view, "csv"),
        ]
        return [path(route, self.admin_site.admin_view(view), name=self._name(name)) for route, view, name in views]

    @method_decorator(require_safe)
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show a period: its counts, who is on the site now, the pages and other dimensions, and the health."""
        moment = self._begin(request)
        now, totals = active(at=moment.at, limit=MOST_PATHS), read_totals()
        period = self._period(request, moment, totals.tracking_since)
        asked = RowsQuery.of(request.GET)
        found = read_report(period, moment, rows=asked)
        csv = self._csv({**period.query, **asked.query})
        context = {
            "at": moment.at,
            "zone": moment.zone,
            "period": period,
            "periods": period.links(asked.query),
            "kept": asked.query,
            "csv": csv,
            "active_url": self._url("active"),
            "page_url": self._url("page"),
            "cards": list(cards(found, now.visitors, views=totals.total_page_views)),
            "series": found.series(moment),
            "pages": page_table(found.report, asked, period=period.query),
            "panels": panels(rows_reader(period.start, period.end, moment), csv),
            **viewing_now(now),
            **all_time(totals),
            **health_section(health(moment=moment)),
            **(extra_context or {}),
        }
        return self._response(request, "stats", context)

    @method_decorator(require_safe)
    def page_view(self, request: HttpRequest) -> HttpResponse:
        """Show the counts of one page of the site."""
        moment = self._begin(request)
        path = request.GET.get("path")
        if path is None:
            raise Http404("The address lacks the path of a page: add ?path=.")
        period = self._period(request, moment, tracking_since())
        now = self._or_404(active, at=moment.at, path=path)
        page = PageStat(path, *shown_titles([path], public=False)[path], views_on(path))
        context: dict[str, Any] = {
            "at": moment.at,
            "zone": moment.zone,
            "period": period,
            "periods": period.links({"path": path}),
            "kept": {"path": path},
            "csv": self._csv({**period.query, "path": path}),
            "active_url": f"{self._url('active')}?{urlencode({'path': path})}",
            "page": page,
            "back": urlencode(period.query),
        }
        try:
            found = read_report(period, moment, path=path)
        except CannotTell as error:
            days = (period.end - period.start).days + 1
            views = views_on(path, days=days, at=start_of(period.end, moment.zone))
            context |= {
                "reason": error.reason.translated,
                "cards": list(cards_without_visitors(views, now.visitors, views=page.views)),
            }
        else:
            context |= {
                "cards": list(cards(found, now.visitors, views=page.views)),
                "series": found.series(moment),
            }
        return self._response(request, "page", {"subtitle": page.title, **context})

    @method_decorator(require_safe)
    def active_view(self, request: HttpRequest) -> HttpResponse:
        """Answer who is on the site now, or on one page of it, for the script of the page."""
        self._check(request)
        path = request.GET.get("path")
        response: HttpResponse = self._or_404(active_response, request, public=False, path=path, limit=MOST_PATHS)
        return response

    @method_decorator(require_safe)
    def csv_view(self, request: HttpRequest, name: str) -> HttpResponseBase:
        """Answer with one of the tables, whole."""
        moment = self._begin(request)
        dimensions = dimensions_by_table()
        if name not in (tables := (*TABLES, *dimensions)):
            raise Http404(f"There is no table {name!r:.100}. There are {', '.join(tables)}.")
        needs_first_day = name == "figures" or request.GET.get("period") == ALL
        period = self._period(request, moment, tracking_since() if needs_first_day else None)
        if period.fault:
            raise Http404(period.fault)
        of = f"{period.start}-{period.end}"
        if name == "active":
            now, of = active(at=moment.at), f"{moment.today}"
            rows = exports.active(now, shown_titles((path for path, _ in now.by_path), public=False))
        elif name == "requests":
            rows, of = exports.requests(health(moment=moment)), f"{moment.today}"
        elif name == "figures":
            found = self._or_404(read_report, period, moment, path=request.GET.get("path"))
            rows = exports.figures(found.series(moment))
        else:
            asked, dimension = RowsQuery.of(request.GET), dimensions[name]
            whole = report_rows(
                period.start,
                period.end,
                dimension=dimension.name,
                order=asked.order,
                search=asked.search,
                lenient=True,
                moment=moment,
            )
            rows = exports.values(whole, dimension)
        return exports.response(rows, request, name=f"{name}-{of}")

    def _check(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _begin(self, request: HttpRequest) -> Moment:
        """Check the permission, and read the moment of the request."""
        self._check(request)
        return read_moment()

    def _period(self, request: HttpRequest, moment: Moment, first_view: datetime | None) -> Period:
        """Return the period that a request asks for; None: no first view is known, or none is needed."""
        first_day = first_view and day_of(nearest_instant(first_view), moment.zone)
        return picked(request.GET, today=moment.today, first_day=first_day)

    def _or_404(self, verb: Callable[..., Any], *args: Any, **asked: Any) -> Any:
        """Return what a verb returns; answer 404 if it refuses."""
        try:
            return verb(*args, **asked)
        except Refused as refusal:
            raise Http404(str(refusal)) from refusal

    def _name(self, name: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{name}"

    def _url(self, name: str, *args: str) -> str:
        return reverse(f"admin:{self._name(name)}", args=args, current_app=self.admin_site.name)

    def _csv(self, query: dict[str, str]) -> dict[str, str]:
        """Return the address of each table as CSV."""
        return {name: f"{self._url('csv', name)}?{urlencode(query)}" for name in (*TABLES, *dimensions_by_table())}

    def _response(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        request.current_app = self.admin_site.name
        frame = {
            "title": _("Page stats"),
            "opts": self.opts,
            "stats_url": self._url("changelist"),
            "thousands": thousands(),
        }
        context = {**self.admin_site.each_context(request), **frame, **context}
        return TemplateResponse(request, f"admin/pagestats/{template}.html", context)


def viewing_now(now: Active) -> dict[str, Any]:
    """Return what the table of active visitors shows."""
    elsewhere = now.visitors - sum(count for _, count in now.by_path)
    titles = shown_titles((path for path, _ in now.by_path), public=False)
    return {
        "viewing_now": [
            {"path": path, "title": titles[path].title, "visitors": number(count)} for path, count in now.by_path
        ],
        "elsewhere": number(elsewhere) if elsewhere else "",
        "nobody": _("Nobody has been on the site in the last %(span)s.") % {"span": span(conf.SESSION_TIMEOUT)},
    }


def all_time(totals: Totals) -> dict[str, Any]:
    """Return what the section *All time* shows."""
    return {
        "tracking_since": totals.tracking_since,
        "total_page_views": number(totals.total_page_views),
        "visitors_label": identity.visitors_label(),
        "unique_visitors": number(totals.unique_visitors),
        "total_paths": number(totals.total_paths),
        "published": [(name, number(count)) for name, count in totals.published.items()],
    }
