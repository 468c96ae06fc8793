"""The endpoints of the API: each calls one verb and translates its answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.http import HttpResponse, HttpResponseBase
from django.utils.decorators import classonlymethod
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, MethodNotAllowed, NotFound, ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import exception_handler
from rest_framework.viewsets import ViewSet

from pagestats import identity
from pagestats.access import may_read_all
from pagestats.api import openapi
from pagestats.api.policies import ClientThrottle, LoggedIn, MayRead, OneRenderer, StrictJSON
from pagestats.api.queries import read_limit, read_report
from pagestats.intake import SUSPICIOUS, UNAVAILABLE, Kind, answer_beacon, not_a_page, outside_transactions
from pagestats.presence import active_response
from pagestats.stats import Refused, UnknownPage, report, snapshot

logger = logging.getLogger("pagestats")

NO_POLICIES: dict[str, Any] = {"authentication_classes": [], "permission_classes": [], "throttle_classes": []}
"""For what any browser may send: the intake applies its own, the same as for the tracker's endpoints."""


class Unavailable(APIException):
    """The database, or the cache, failed."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_detail = UNAVAILABLE.detail
    default_code = UNAVAILABLE.reason


class StatsViewSet(ViewSet):
    """Read the stats, or send a page view or a heartbeat."""

    http_method_names = ["get", "head", "post"]
    renderer_classes = [StrictJSON]
    parser_classes = []
    authentication_classes = [LoggedIn]
    permission_classes = [MayRead]
    throttle_classes = [ClientThrottle]
    content_negotiation_class = OneRenderer
    versioning_class = None
    metadata_class = None
    pagination_class = None
    schema = openapi.StatsSchema() if openapi.IS_INSTALLED else None
    action_map: dict[str, str]

    @classonlymethod
    def as_view(cls, actions: Any = None, **initkwargs: Any) -> Callable[..., HttpResponseBase]:  # type: ignore[override]  # the stubs return a view of their own
        """Return the view, outside ATOMIC_REQUESTS."""
        return outside_transactions(super().as_view(actions, **initkwargs))

    def list(self, request: Request) -> Response:
        """Return the stats; without the permission, the lists have only pages that are public."""
        limit = read_limit(request.query_params)
        stats = snapshot(limit=limit, public=not may_read_all(request.user))
        return Response(stats.written(lifetime=identity.lifetime()))

    @action(detail=False, methods=["get"], url_path="active")
    def active(self, request: Request) -> HttpResponse:
        """Return who is on the site now, or 304 if nothing has changed."""
        limit = read_limit(request.query_params)
        path = request.query_params.get("path")
        try:
            return active_response(request._request, public=not may_read_all(request.user), path=path, limit=limit)
        except Refused as refusal:
            raise _translated(refusal, path) from refusal

    @action(detail=False, methods=["get"], url_path="report")
    def report(self, request: Request) -> Response:
        """Return the stats of a range of days; without the permission, the rows have only pages that are public."""
        arguments = read_report(request.query_params)
        try:
            stats = report(**arguments, public=not may_read_all(request.user))
        except Refused as refusal:
            raise _translated(refusal, arguments["value"]) from refusal
        return Response(stats.written(lifetime=identity.lifetime()))

    @action(detail=False, methods=["post"], url_path="page-views", **NO_POLICIES)
    def page_views(self, request: Request) -> HttpResponse:
        """Take a page view."""
        return answer_beacon(request._request, Kind.PAGE_VIEW)

    @action(detail=False, methods=["post"], url_path="heartbeats", **NO_POLICIES)
    def heartbeats(self, request: Request) -> HttpResponse:
        """Take a heartbeat."""
        return answer_beacon(request._request, Kind.HEARTBEAT)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse another method before anything else. What is wrong with a beacon, the intake finds."""
        if "get" in self.action_map and self.action not in self.action_map.values():
            raise MethodNotAllowed(str(request.method))
        super().initial(request, *args, **kwargs)

    def http_method_not_allowed(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Have the intake refuse and count what isn't a POST."""
        return answer_beacon(request._request, Kind(self.action_map["post"]))

    def perform_authentication(self, request: Request) -> None:
        """Do nothing: `MayRead` looks at the user, and no other endpoint needs one."""

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        """Return DRF's own."""
        return exception_handler

    def handle_exception(self, exc: Exception) -> Response:
        """Answer with what is wrong, never with an error page. Log what failed."""
        if isinstance(exc, SuspiciousOperation):
            exc = ParseError(SUSPICIOUS.detail, SUSPICIOUS.reason)
        elif not isinstance(exc, APIException):
            logger.error("%s %r failed.", self.request.method, self.request.path, exc_info=exc)
            exc = Unavailable()
        return super().handle_exception(exc)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Set `no-store` on every response that has no ETag."""
        final = super().finalize_response(request, response, *args, **kwargs)
        if "ETag" not in final.headers:
            final.headers["Cache-Control"] = "no-store"
        return final


def _translated(refusal: Refused, path: str | None) -> APIException:
    """Return the API's error for a refusal of `stats`."""
    if isinstance(refusal, UnknownPage):
        return NotFound(not_a_page("unknown_path", str(path)).detail)
    return ParseError(str(refusal))
