"""Where the tracker is, and where it sends to: `path("hello/", include("pagestats.beacons"))`.

The names are neutral, and the site chooses the one above them: lists of what to block know `stats` and `track`.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_safe

from pagestats.api import StatsViewSet

FRESH = 3600
"""Seconds for which a browser need not ask for the script again."""


@cache
def _script() -> tuple[bytes, str]:
    content = Path(__file__).with_name("static").joinpath("pagestats", "tracker.min.js").read_bytes()
    return content, f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


@require_safe
def script(request: HttpRequest) -> HttpResponse:
    """Answer with the tracker, the same for everybody."""
    content, etag = _script()
    answer = HttpResponse(content, content_type="text/javascript; charset=utf-8")
    answer.headers["ETag"] = etag
    answer.headers["Cache-Control"] = f"public, max-age={FRESH}"
    return get_conditional_response(request, etag=etag, response=answer) or answer


app_name = "pagestats_beacons"

urlpatterns = [
    path("page.js", script, name="script"),
    path("page/", StatsViewSet.as_view({"post": "page_views"}, **StatsViewSet.page_views.kwargs), name="views"),
    path("here/", StatsViewSet.as_view({"post": "heartbeats"}, **StatsViewSet.heartbeats.kwargs), name="beats"),
]
