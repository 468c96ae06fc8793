"""The HTTP answer to a beacon, the same from the tracker's endpoints and from the API."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from django.core.exceptions import SuspiciousOperation
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from pagestats.conf import conf
from pagestats.hits import instant
from pagestats.intake.beacons import SUSPICIOUS
from pagestats.intake.candidates import Candidate, Drop, Kind
from pagestats.intake.guard import Guard
from pagestats.intake.pipeline import take
from pagestats.tallies import NOT_STORED, tally

UNAVAILABLE = Drop(
    "unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "The request could not be completed. Try again later."
)
"""The database or the cache failed. What failed is logged and counted by the name of its error, not by this reason."""

View = TypeVar("View", bound=Callable[..., HttpResponseBase])


def answer_beacon(request: HttpRequest, kind: Kind) -> HttpResponse:
    """Take a beacon, and answer 204 to every one that is well formed, recorded or not; to any other, what is wrong.

    While PAGESTATS_ENABLED is False, answer 204 without a look at it.
    """
    with Guard("%s %r failed.", request.method, request.path):
        return _answer(request, kind)
    return _error(UNAVAILABLE)


def _answer(request: HttpRequest, kind: Kind) -> HttpResponse:
    answer = HttpResponse(status=HTTPStatus.NO_CONTENT)
    del answer.headers["Content-Type"]
    if conf.ENABLED or request.method != "POST":
        try:
            drop = take(Candidate(request=request, response=answer, kind=kind, at=instant(None)))
        except SuspiciousOperation:
            drop = SUSPICIOUS
            tally(NOT_STORED, drop.reason)
        if drop is not None and drop.status != HTTPStatus.NO_CONTENT:
            return _error(drop)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _error(drop: Drop) -> HttpResponse:
    body = json.dumps({"detail": drop.detail}, ensure_ascii=False, separators=(",", ":"))
    answer = HttpResponse(body, status=drop.status, content_type="application/json")
    answer.headers["Cache-Control"] = "no-store"
    if drop.status == HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["Allow"] = "POST"
    if drop.retry_after:
        answer.headers["Retry-After"] = str(drop.retry_after)
    return answer


def outside_transactions(view: View) -> View:
    """Return a view that ATOMIC_REQUESTS leaves alone: inside another transaction, no lock error can be retried."""
    for using in connections:
        view = transaction.non_atomic_requests(using=using)(view)
    return view
