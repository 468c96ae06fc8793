"""The public stats page: `path("stats/", PublicStatsView.as_view())`."""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.cache import get_conditional_response, patch_cache_control
from django.utils.decorators import method_decorator
from django.views.generic import TemplateView

from pagestats import identity
from pagestats.conf import conf
from pagestats.formats import span, thousands
from pagestats.hits import instant
from pagestats.intake import path_of
from pagestats.presence import active_response
from pagestats.stats import address, read_moment, shown_titles, snapshot

FRESH = 10
"""Seconds for which a shared cache may keep the page. A browser asks each time, and gets a 304."""
ACTIVE = "active"
"""The query by which the page asks itself who is here now. The API shows more to readers with the permission."""


@method_decorator(login_not_required, name="dispatch")
class PublicStatsView(TemplateView):
    """The page that shows everybody who is here now and what is read; 404 unless PAGESTATS_PUBLIC is True.

    It names no page but those that a content source knows or PAGESTATS_CLIENT_PATHS matches, to any reader.
    """

    http_method_names = ("get", "head", "options")
    template_name = "pagestats/public.html"
    base_template = "pagestats/public_base.html"
    """What the page extends: it needs a block `content`, and may have `title`, `extra_head` and `extra_body`."""
    most_pages = 100
    """How many rows the lists have at most."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer, if the stats are public. The answer depends on no user, so nobody has to log in."""
        if not conf.PUBLIC:
            raise Http404("The stats are not public. Set PAGESTATS_PUBLIC = True to show them.")
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer with the page, or with who is here now as JSON if its script asks for that."""
        if ACTIVE in request.GET:
            return active_response(request, public=True, limit=self.most_pages)
        return super().get(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return what the template shows."""
        moment = read_moment(instant(None).replace(microsecond=0))
        stats = snapshot(limit=self.most_pages, public=True, moment=moment)
        titles = shown_titles((path for path, _ in stats.active_by_path), public=True)
        most = max((page.views for page in stats.page_stats), default=0)
        figures = {
            "at": moment.at,
            "zone": moment.zone,
            "stats": stats,
            "elsewhere": stats.active_visitors - sum(count for _, count in stats.active_by_path),
            "viewing_now": [
                {"path": path, "title": titles[path].title if path in titles else path, "count": count}
                for path, count in stats.active_by_path
            ],
            "visitors_label": identity.visitors_label(),
            "window": span(conf.DEDUP_WINDOW),
            "lives_a_day": identity.lifetime() == "day",
            "pages": [
                {
                    **page._asdict(),
                    "url": page.href,
                    "share": f"{100 * page.views / most:.2f}",  # an attribute of SVG, the same in every language
                }
                for page in stats.page_stats
            ],
            "thousands": thousands(),
            "active_url": f"{address(path_of(self.request))}?{ACTIVE}",
        }
        # One name, since a base template of the site's own may use any other.
        return super().get_context_data(base_template=self.base_template, pagestats=figures, **kwargs)

    def render_to_response(self, context: dict[str, Any], **response_kwargs: Any) -> HttpResponse:
        """Return the page with an ETag, or 304 if the reader has it already."""
        response = super().render_to_response(context, **response_kwargs)
        assert isinstance(response, TemplateResponse)
        response.render()
        etag = f'W/"{hashlib.blake2b(response.content, digest_size=16).hexdigest()}"'
        response.headers["ETag"] = etag
        if self._is_for_one_reader():
            patch_cache_control(response, private=True, max_age=0)
        else:
            patch_cache_control(response, public=True, max_age=0, s_maxage=FRESH)
        answer = get_conditional_response(self.request, etag=etag, response=response)
        return response if answer is None else answer

    def _is_for_one_reader(self) -> bool:
        """Return whether the page may contain something for its reader only.

        A base template of the site may greet the user, contain a form or a nonce, or show a message; and a cookie may
        choose the language.
        """
        return (
            bool(self.request.COOKIES)
            or not {"CSRF_COOKIE", "HTTP_AUTHORIZATION"}.isdisjoint(self.request.META)
            or bool(getattr(self.request, "_csp_nonce", None))
            or bool(getattr(getattr(self.request, "session", None), "accessed", False))
            or bool(getattr(getattr(self.request, "_messages", None), "used", False))
        )
