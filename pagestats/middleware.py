"""The door through which page views come: one middleware, sync and async."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponseBase

from pagestats.admission import is_excluded, page_at, path_of, why_nobody, why_staff
from pagestats.conf import conf
from pagestats.hits import Hit, InvalidHit, instant
from pagestats.identity import identify
from pagestats.recording import record_visit
from pagestats.sql import PATIENCE_OF_A_PAGE
from pagestats.tallies import FAILED, NOT_STORED, RECORDED, REPEAT, tallies, tally

logger = logging.getLogger("pagestats")

HTML = ("text/html", "application/xhtml+xml")
SHOWN_LATER = {"fragment", "prefetch", "shared_response"}
"""Reasons why a page was not counted that may yet be read: what was asked for ahead, or by a service worker."""


class PageViewMiddleware:
    """Record the pages that people read: for each a page view, or a repeat, and a heartbeat.

    First in MIDDLEWARE it sees what the others answer from a cache, too. It never creates or saves a session and adds
    no Vary. A failure to record is logged with the path and tallied, and the response is served all the same.
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
        with never_in_the_way_of(request):
            if conf.ENABLED:
                path = path_of(request)
                conclude(request, response, path, why_not(request, response, path))
        return response

    async def _serve(self, request: HttpRequest) -> HttpResponseBase:
        """Serve and judge on the event loop; go to a thread only for what may have to write."""
        served = self.get_response(request)
        assert isinstance(served, Awaitable)
        response = await served
        with never_in_the_way_of(request):
            if conf.ENABLED:
                path = path_of(request)
                reason = why_not(request, response, path)
                if reason and not tallies.due():
                    tell_the_tracker(response, reason)
                    tallies.count(NOT_STORED, reason)
                else:
                    await sync_to_async(conclude)(request, response, path, reason)
        return response


@contextmanager
def never_in_the_way_of(request: HttpRequest) -> Iterator[None]:
    """Log and tally whatever goes wrong inside, and go on: a page matters more than its statistics."""
    try:
        yield
    except Exception as error:
        logger.exception("The page view of %r was not recorded.", request.path)
        tallies.count(FAILED, type(error).__name__)


def conclude(request: HttpRequest, response: HttpResponseBase, path: str, reason: str) -> None:
    """Record a page unless there is a reason not to, and tally what came of it."""
    if reason or (reason := record(request, response, path)):
        tell_the_tracker(response, reason)
        tally(NOT_STORED, reason)


def tell_the_tracker(response: HttpResponseBase, reason: str) -> None:
    """Tell the tracker of a page that was not counted what to do, in the one header that a page can read of itself.

    0, say nothing of it: an error, or a path that may be a secret. 1, count it when it is read. A cache keeps the
    header with the page, so it is set only for what holds for whoever reads that copy.
    """
    if not response.headers.get("Content-Type", "").lower().startswith(HTML):
        return
    if not _is_found(response) or _is_kept_out(response):
        told = 0
    elif reason in SHOWN_LATER:
        told = 1
    else:
        return
    # A site may answer with one and the same response again and again, where it is there already.
    timings = response.headers.get("Server-Timing", "").split(", ")
    others = [timing for timing in timings if timing not in ("", "view;dur=0", "view;dur=1")]
    response.headers["Server-Timing"] = ", ".join([*others, f"view;dur={told}"])


def record(request: HttpRequest, response: HttpResponseBase, path: str) -> str:
    """Record a page view, or a repeat, and a heartbeat; or return the reason why nobody is counted."""
    if reason := why_staff(request):
        return reason
    at = instant(None)
    visitor = identify(request, at=at)
    if visitor.session_id is None:
        return visitor.reason
    try:
        hit = Hit(path=path, session_id=visitor.session_id, at=at)
    except InvalidHit:
        return "invalid_path"
    if not visitor.remember(response):
        return "shared_response"  # a new id that no later request would come back with: each page, a new visitor
    tally(RECORDED if record_visit(hit, patience=PATIENCE_OF_A_PAGE) else REPEAT)
    return ""


def why_not(request: HttpRequest, response: HttpResponseBase, path: str) -> str:
    """Return the reason why a response is not a page that a person asked for and was given; "" when it is."""
    if request.method != "GET":
        return "method"
    if not _is_found(response):
        return "status"
    if not _is_document(request, response):
        return "no_document"
    if _is_fragment(request):
        return "fragment"
    if _is_kept_out(response):
        return "no_store"
    # Who is answered by another middleware, from a cache for example, has no match yet.
    if is_excluded(path, request.resolver_match or page_at(path, request)):
        return "excluded"
    return why_nobody(request)


def _is_found(response: HttpResponseBase) -> bool:
    return response.status_code in (200, 304)


def _is_kept_out(response: HttpResponseBase) -> bool:
    """Tell whether a response is for nobody to keep, and the site counts no such pages."""
    return not conf.COUNT_NO_STORE and "no-store" in response.headers.get("Cache-Control", "").lower()


def _is_document(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Tell whether HTML was served, or confirmed: a 304 has no type, and is for what the request asks for."""
    if response.status_code == 200:
        return response.headers.get("Content-Type", "").lower().startswith(HTML)
    wanted: str | None = request.META.get("HTTP_SEC_FETCH_DEST")
    return wanted == "document" or (wanted is None and "text/html" in request.META.get("HTTP_ACCEPT", ""))


def _is_fragment(request: HttpRequest) -> bool:
    """Tell whether a script or a frame asked for a part of a page. A boosted link of htmx asks for a whole one."""
    if request.META.get("HTTP_HX_BOOSTED") == "true":
        return False
    if request.META.get("HTTP_HX_REQUEST") == "true" or request.META.get("HTTP_TURBO_FRAME"):
        return True
    if request.META.get("HTTP_X_REQUESTED_WITH") == "XMLHttpRequest":  # jQuery and others; a web view has its own name
        return True
    wanted: str = request.META.get("HTTP_SEC_FETCH_DEST", "document")
    return wanted != "document"
