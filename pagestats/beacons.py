"""Where the tracker is, and where it sends to: `path("hello/", include("pagestats.beacons"))`.

The names are neutral, and the site chooses the one above them: lists of what to block know `stats` and `track`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
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


@login_not_required  # pages for everybody ask for it
@require_safe
def script(request: HttpRequest) -> HttpResponse:
    """Answer with the tracker, the same for everybody."""
    content, etag = _script()
    answer = HttpResponse(content, content_type="text/javascript; charset=utf-8")
    answer.headers["ETag"] = etag
    answer.headers["Cache-Control"] = f"public, max-age={FRESH}"
    return get_conditional_response(request, etag=etag, response=answer) or answer


def _beacon(action: str) -> Callable[..., HttpResponseBase]:
    """Return the API's own view; its description stands at the API's address, and is not to name this one."""
    return StatsViewSet.as_view({"post": action}, **{**getattr(StatsViewSet, action).kwargs, "schema": None})


app_name = "pagestats_beacons"

urlpatterns = [
    path("page.js", script, name="script"),
    path("page/", _beacon("page_views"), name="views"),
    path("here/", _beacon("heartbeats"), name="beats"),
]
