"""The door through which page views come: one middleware, sync and async."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from crawlerdetect import CrawlerDetect
from django.http import HttpRequest, HttpResponseBase

from pagestats.conf import conf
from pagestats.hits import Hit, InvalidHit, instant
from pagestats.identity import session_id
from pagestats.recording import record_heartbeat, record_page_view

logger = logging.getLogger("pagestats")

Response = HttpResponseBase


class PageViewMiddleware:
    """Record the pages that are read: a page view, or a repeat, and a heartbeat for each.

    A failure to record is logged with the path, and the response is served as if nothing had happened.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Response | Awaitable[Response]]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Response | Awaitable[Response]:
        """Serve a request, then record it."""
        if self.is_async:
            return self._serve(request)
        response = self.get_response(request)
        assert isinstance(response, HttpResponseBase)
        if is_page(request, response):
            record(request)
        return response

    async def _serve(self, request: HttpRequest) -> Response:
        response = self.get_response(request)
        assert isinstance(response, Awaitable)
        served = await response
        if is_page(request, served):
            await sync_to_async(record)(request)
        return served


def is_page(request: HttpRequest, response: Response) -> bool:
    """Tell whether a response is a page that a person asked for and was given."""
    return (
        conf.ENABLED
        and request.method == "GET"
        and response.status_code == 200
        and response.headers.get("Content-Type", "").lower().startswith("text/html")
        and not request.path.startswith(tuple(conf.EXCLUDE))
        and "prefetch" not in request.headers.get("Sec-Purpose", request.headers.get("Purpose", ""))
        and not _is_bot(request.headers.get("User-Agent", ""))
    )


@lru_cache(maxsize=1024)
def _is_bot(user_agent: str) -> bool:
    return not user_agent or bool(CrawlerDetect(user_agent=user_agent).isCrawler())


def record(request: HttpRequest) -> None:
    """Record a page view, or a repeat, and a heartbeat; log what goes wrong."""
    try:
        at = instant(None)
        visitor = session_id(request, at=at)
        if visitor is None:
            return
        try:
            hit = Hit(path=request.path, session_id=visitor, at=at)
        except InvalidHit:
            return
        record_page_view(hit)
        record_heartbeat(hit)
    except Exception:
        logger.exception("The page view of %r was not recorded.", request.path)
