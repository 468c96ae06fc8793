"""The tracker's script and the endpoints that it sends to: `path("hello/", include("pagestats.beacons"))`.

They need no Django REST framework. Their names are neutral, and the site chooses the prefix: ad blockers look for
words such as `stats` and `track`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.cache import get_conditional_response
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from pagestats.intake import Kind, answer_beacon, outside_transactions

FRESH = 3600
"""For how many seconds a browser may use the script without asking again."""


@cache
def _script() -> tuple[bytes, str]:
    content = Path(__file__).with_name("static").joinpath("pagestats", "tracker.min.js").read_bytes()
    return content, f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


@login_not_required  # public pages load it
@require_safe
def script(request: HttpRequest) -> HttpResponse:
    """Return the tracker's script, which is the same for everybody."""
    content, etag = _script()
    answer = HttpResponse(content, content_type="text/javascript; charset=utf-8")
    answer.headers["ETag"] = etag
    answer.headers["Cache-Control"] = f"public, max-age={FRESH}"
    return get_conditional_response(request, etag=etag, response=answer) or answer


def _beacon_view(kind: Kind) -> Callable[[HttpRequest], HttpResponse]:
    """Return the view of one endpoint.

    It needs no login and so no CSRF token; that a page of this site sent the request is a step of the intake. It is not
    async: it has to wait for the cache before anything else.
    """

    @csrf_exempt
    @login_not_required
    def view(request: HttpRequest) -> HttpResponse:
        return answer_beacon(request, kind)

    return outside_transactions(view)


app_name = "pagestats_beacons"

urlpatterns = [
    path("page.js", script, name="script"),
    path("page/", _beacon_view(Kind.PAGE_VIEW), name="views"),
    path("here/", _beacon_view(Kind.HEARTBEAT), name="beats"),
]
