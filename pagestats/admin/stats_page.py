"""The page *Page stats*: the figures of a period, of the site or of one page, and how the recording fares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from pagestats.admin.facts import FactAdmin
from pagestats.admin.health import fared
from pagestats.admin.pages import Asked, table
from pagestats.admin.periods import Period, picked
from pagestats.admin.reading import read
from pagestats.conf import conf
from pagestats.content import Titled
from pagestats.days import nearest_instant, start_of
from pagestats.formats import number, span, thousands
from pagestats.hits import instant
from pagestats.live import active_response
from pagestats.models import Calendar, Stats
from pagestats.stats import (
    Active,
    CannotTell,
    PageStat,
    Refused,
    Snapshot,
    active,
    health,
    reporting_day,
    shown_titles,
    snapshot,
    views_on,
)

MOST_ROWS = 100
"""Of who is viewing what now."""

TABLES = ("figures", "pages", "active", "requests")


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
        """Return the addresses of the page, of that of one path, and of what they load. There is none for one row."""
        views: list[tuple[str, Callable[..., HttpResponseBase], str]] = [
            ("", self.changelist_view, "changelist"),
            ("page/", self.page_view, "page"),
            ("active/", self.active_view, "active"),
            ("csv/<slug:name>/", self.csv_view, "csv"),
        ]
        return [path(route, self.admin_site.admin_view(view), name=self._name(name)) for route, view, name in views]

    @method_decorator(require_safe)
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the figures of a period, who is on the site now, what is read, and how the recording fares."""
        at, stats, period = self._begin(request)
        asked = Asked.of(request.GET)
        reading = read(period, asked=asked)
        now, state = active(at=at, limit=MOST_ROWS), health(at=at)
        context = {
            "at": at,
            "zone": state.zone,
            "period": period,
            "periods": period.links(asked.query),
            "kept": asked.query,
            "csv": self._csv({**period.query, **asked.query}),
            "active_url": self._url("active"),
            "page_url": self._url("page"),
            "cards": list(cards(reading, now, views=stats.total_page_views)),
            "series": reading.series(at),
            "pages": table(reading.told, asked, period=period.query),
            **viewing_now(now),
            **all_time(stats),
            **fared(state),
            **(extra_context or {}),
        }
        return self._response(request, "stats", context)

    @method_decorator(require_safe)
    def page_view(self, request: HttpRequest) -> HttpResponse:
        """Show the figures of one page of the site."""
        at, _stats, period = self._begin(request)
        of_page = request.GET.get("path")
        if of_page is None:
            raise Http404("The address lacks the path of a page: add ?path=.")
        now = self._asked(active, at=at, path=of_page)
        page = PageStat(of_page, *shown_titles([of_page], public=False)[of_page], views_on(of_page))
        context: dict[str, Any] = {
            "at": at,
            "zone": Calendar.zone_of(Calendar.objects.all()),
            "period": period,
            "periods": period.links({"path": of_page}),
            "kept": {"path": of_page},
            "csv": self._csv({**period.query, "path": of_page}),
            "active_url": f"{self._url('active')}?{urlencode({'path': of_page})}",
            "page": page,
            "back": urlencode(period.query),
        }
        try:
            reading = read(period, path=of_page)
        except CannotTell as reason:
            days, at_end = (period.end - period.start).days + 1, start_of(period.end, context["zone"])
            of_period = views_on(of_page, days=days, at=at_end)
            context |= {
                "reason": reason,
                "cards": list(cards_without_visitors(of_period, now, views=page.views)),
            }
        else:
            context |= {"cards": list(cards(reading, now, views=page.views)), "series": reading.series(at)}
        return self._response(request, "page", {"subtitle": page.title, **context})

    @method_decorator(require_safe)
    def active_view(self, request: HttpRequest) -> HttpResponse:
        """Answer who is on the site now, or on one page of it, for the script of the page."""
        self._check(request)
        path = request.GET.get("path")
        response: HttpResponse = self._asked(active_response, request, public=False, path=path, limit=MOST_ROWS)
        return response

    @method_decorator(require_safe)
    def csv_view(self, request: HttpRequest, name: str) -> HttpResponseBase:
        """Answer with one of the tables, whole."""
        at, _stats, period = self._begin(request)
        if name not in TABLES:
            raise Http404(f"There is no table {name!r:.100}. There are {', '.join(TABLES)}.")
        if period.fault:
            raise Http404(period.fault)
        span = f"{period.start}-{period.end}"
        if name == "active":
            now = active(at=at)
            rows = exports.active(now, titles_of(now))
        elif name == "pages":
            rows = exports.pages(read(period, asked=Asked.of(request.GET), limit=None).told)
        elif name == "figures":
            rows = exports.figures(self._asked(read, period, path=request.GET.get("path")).series(at))
        else:
            rows = exports.requests(health(at=at))
        return exports.response(rows, request, name=f"{name}-{span if name in ('figures', 'pages') else period.today}")

    def _check(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _begin(self, request: HttpRequest) -> tuple[datetime, Snapshot, Period]:
        """Return the moment of a page, the figures of all time, and the period that is asked for."""
        self._check(request)
        at = instant(None)
        stats = snapshot(at=at, limit=0)
        first_day = stats.tracking_since and reporting_day(nearest_instant(stats.tracking_since))
        return at, stats, picked(request.GET, today=reporting_day(at), first_day=first_day)

    def _asked(self, verb: Callable[..., Any], *args: Any, **asked: Any) -> Any:
        """Return what a verb returns; there is no page for what it refuses."""
        try:
            return verb(*args, **asked)
        except Refused as refusal:
            raise Http404(str(refusal)) from refusal

    def _name(self, name: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{name}"

    def _url(self, name: str, *args: str) -> str:
        return reverse(f"admin:{self._name(name)}", args=args, current_app=self.admin_site.name)

    def _csv(self, query: dict[str, str]) -> dict[str, str]:
        """Return where each table is as CSV."""
        return {name: f"{self._url('csv', name)}?{urlencode(query)}" for name in TABLES}

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


def titles_of(now: Active) -> Mapping[str, Titled]:
    """Return the titles of the pages on which somebody is."""
    return shown_titles((path for path, _ in now.by_path), public=False)


def viewing_now(now: Active) -> dict[str, Any]:
    """Return what the table of active visitors shows."""
    elsewhere = now.visitors - sum(count for _, count in now.by_path)
    titles = titles_of(now)
    return {
        "viewing_now": [
            {"path": path, "title": titles[path].title, "visitors": number(count)} for path, count in now.by_path
        ],
        "elsewhere": number(elsewhere) if elsewhere else "",
        "nobody": _("Nobody has been on the site in the last %(span)s.") % {"span": span(conf.SESSION_TIMEOUT)},
    }


def all_time(stats: Snapshot) -> dict[str, Any]:
    """Return what the facts of all time show."""
    return {
        "tracking_since": stats.tracking_since,
        "total_page_views": number(stats.total_page_views),
        "visitors_label": identity.visitors_label(),
        "unique_visitors": number(stats.unique_visitors),
        "total_paths": number(stats.total_paths),
        "published": [(name, number(count)) for name, count in stats.published.items()],
    }
