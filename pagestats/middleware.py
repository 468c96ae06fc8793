"""The middleware, which records the pages that the site serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from pagestats.conf import conf
from pagestats.intake import Candidate, Drop, Guard, Kind, signal_to_tracker, take, take_async

NOT_RECORDED = "The page view of %r was not recorded."


class PageViewMiddleware:
    """Record the pages that people read: for each, a page view, unless it is a repeat, and a heartbeat.

    Put it first in MIDDLEWARE, where it also sees the pages that other middleware answers from a cache. It never
    creates or saves a session and never changes `Vary`. If recording fails, the error is logged with the path and
    counted, and the response is served all the same.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Serve a request, then record it."""
        if self.is_async:
            return self._serve(request)
        response = self.get_response(request)
        assert isinstance(response, HttpResponseBase)
        with Guard(NOT_RECORDED, request.path):
            if conf.ENABLED:
                candidate = Candidate(request=request, response=response, kind=Kind.PAGE)
                if drop := take(candidate):
                    signal_tracker(candidate, drop)
        return response

    async def _serve(self, request: HttpRequest) -> HttpResponseBase:
        served = self.get_response(request)
        assert isinstance(served, Awaitable)
        response = await served
        with Guard(NOT_RECORDED, request.path):
            if conf.ENABLED:
                candidate = Candidate(request=request, response=response, kind=Kind.PAGE)
                if drop := await take_async(candidate):
                    signal_tracker(candidate, drop)
        return response


def signal_tracker(candidate: Candidate, drop: Drop) -> None:
    """Add the signal to the tracker as a `Server-Timing` header, the one header that a page's script can read."""
    signal = signal_to_tracker(candidate, drop)
    if not signal:
        return
    # A site may return the same response object again and again, which has the signal of an earlier request.
    timings = candidate.response.headers.get("Server-Timing", "").split(", ")
    others = [timing for timing in timings if timing not in ("", "view;dur=0", "view;dur=1")]
    candidate.response.headers["Server-Timing"] = ", ".join([*others, f"view;dur={signal}"])
