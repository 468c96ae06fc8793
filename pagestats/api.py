"""The door of scripts: read the figures, send a page view or a heartbeat.

Each policy is set on the class, so that a site's REST_FRAMEWORK settings, which are about its own API, change nothing.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import date, datetime
from http import HTTPStatus
from typing import IO, Any, NamedTuple, get_args
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, UnreadablePostError
from django.utils.crypto import salted_hmac
from django.utils.decorators import classonlymethod
from django.utils.encoding import repercent_broken_unicode
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import action
from rest_framework.exceptions import (
    APIException,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    ParseError,
    Throttled,
)
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import exception_handler
from rest_framework.viewsets import ViewSet

from pagestats import identity, openapi
from pagestats.access import may_read, may_read_all
from pagestats.admission import is_excluded, is_known, page_at, whole, why_nobody, why_staff
from pagestats.conf import LONGEST_SEARCH, conf
from pagestats.hits import Hit, instant
from pagestats.identity import client_address, client_network
from pagestats.live import active_response
from pagestats.openapi import DEFAULT_LIMIT, MOST_LIMIT, MOST_OFFSET
from pagestats.recording import record_heartbeat, record_page_view
from pagestats.sql import PATIENCE_OF_A_PAGE
from pagestats.stats import By, Order, Refused, Snapshot, UnknownPage, has_views, report, snapshot
from pagestats.tallies import FAILED, NOT_STORED, RECORDED, REPEAT, tally

logger = logging.getLogger("pagestats")

MOST_BYTES = 4096
"""Of a body. A path and a session id need a few hundred."""


class InvalidBody(ParseError):
    """The body is not what the API takes."""

    default_code = "invalid_body"


class UnknownPath(NotFound):
    """The path is no page of this site."""

    default_code = "unknown_path"


class LengthRequired(APIException):
    """The request does not say how long its body is."""

    status_code = HTTPStatus.LENGTH_REQUIRED
    default_detail = "The request has no Content-Length. Send the body as a whole, not in chunks."
    default_code = "length_required"


class TooLarge(APIException):
    """The body is longer than any hit."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_detail = f"The body is over {MOST_BYTES} bytes."
    default_code = "too_large"


class UnsupportedMedia(APIException):
    """The body is of another type."""

    status_code = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    default_detail = "The body is not application/json or text/plain in UTF-8."
    default_code = "unsupported_media_type"


class Unavailable(APIException):
    """The database, or the cache, did not do its part."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_detail = "It could not be done now."
    default_code = "unavailable"


class JSON(JSONRenderer):
    """JSON as the standard has it, with each option that a site can set for its own API."""

    compact = True
    ensure_ascii = False
    strict = True
    charset = None


class HitParser(BaseParser):
    """A body of JSON, read no further than `MOST_BYTES`."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the value that the body holds."""
        body = stream.read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            raise TooLarge
        return strict_json(body)


class BeaconParser(HitParser):
    """The same as `text/plain`, which is how `navigator.sendBeacon` sends a string."""

    media_type = "text/plain"


class OneOfEach(BaseContentNegotiation):
    """The parser by the type of the body; the one renderer, whatever the client says that it accepts."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        """Return the parser for the body; raise `UnsupportedMedia` when there is none."""
        sent = request._request
        if (sent.content_params or {}).get("charset", "utf-8").lower() in {"utf-8", "utf8"}:
            for parser in parsers:
                if parser.media_type == sent.content_type:
                    return parser
        raise UnsupportedMedia

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the first renderer."""
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)


class LoggedIn(BaseAuthentication):
    """Whoever Django's own authentication says is there, which may be nobody."""

    def authenticate(self, request: Request) -> tuple[Any, None]:
        """Return the user of the session."""
        return getattr(request._request, "user", None) or AnonymousUser(), None

    def authenticate_header(self, request: Request) -> str:
        """Return the scheme of a 401: without one it would be a 403."""
        return "Session"


class MayRead(BasePermission):
    """Those who may read the figures."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Ask for the one permission; tell who is not logged in that this may be all."""
        if may_read(request.user):
            return True
        if not request.user.is_authenticated:
            raise NotAuthenticated
        return False


class SameOrigin(BasePermission):
    """Pages of this site, as their browser says."""

    message = "The request does not come from a page of this site."
    code = "cross_origin"

    def has_permission(self, request: Request, view: Any) -> bool:
        """Go by `Sec-Fetch-Site`, which browsers send over HTTPS; else by `Origin`."""
        host = request._request.get_host()  # raises for one that is not in ALLOWED_HOSTS
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site == "same-origin"
        return is_origin(request.headers.get("Origin", ""), host=host)


class ClientThrottle(SimpleRateThrottle):
    """So many requests of one client to one endpoint in a while, counted in Django's cache.

    The client is the address that the trusted proxies vouch for: DRF's own throttles believe what a client writes into
    `X-Forwarded-For`. Clients without an address are one.
    """

    scope = "requests"
    num_requests: int
    duration: int

    def get_rate(self) -> str:
        """Return how many in which time."""
        return conf.THROTTLE

    def get_cache_key(self, request: Request, view: Any) -> str:
        """Return a key that does not tell the address."""
        address = client_address(request._request)
        client = f"{self.scope} {view.action} {address and client_network(address)}"
        return f"pagestats.throttle.{salted_hmac('pagestats.throttle', client, algorithm='sha256').hexdigest()}"

    def wait(self) -> float:
        """Return the seconds until the next request is allowed."""
        oldest: float = self.history[self.num_requests - 1]
        return max(oldest + self.duration - self.now, 1.0)


class NewPathThrottle(ClientThrottle):
    """So many paths without any page view, so that nobody fills the tables by way of a URL pattern that takes all."""

    scope = "new paths"

    def get_rate(self) -> str:
        """Return how many in which time."""
        return conf.THROTTLE_NEW_PATHS


def is_origin(origin: str, *, host: str) -> bool:
    """Tell whether an `Origin` header names a host.

    Its scheme is not asked: behind a proxy that does not pass it on, the site does not know its own.
    """
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower()


class Beacon(NamedTuple):
    """What a browser says: where it is and, where it keeps that, its session id."""

    path: str
    session_id: str | None = None
    rendered: int | None = None
    """When the page was rendered, by the site's own clock, in milliseconds since 1970."""
    elapsed: int | None = None
    """How many milliseconds ago the browser began to ask for the page, by its own clock."""

    def was_kept(self, at: datetime) -> bool:
        """Tell whether the page was rendered before the browser asked for it: something between had kept it.

        Both are durations, so the clocks need not agree. A message that was long on its way makes a fresh page look
        kept; its view is a repeat of the one that the middleware counted. Whoever lies wins what a page view would.
        """
        if self.rendered is None or self.elapsed is None:
            return False
        return at.timestamp() * 1000 - self.rendered > self.elapsed + LONGEST_WAY


LONGEST_WAY = 2000
"""Milliseconds that a message may take, before its page is taken for a kept one."""


def require_length(request: HttpRequest) -> None:
    """Refuse a body before any of it is read: of unknown length, or too long by its own word."""
    length = request.META.get("CONTENT_LENGTH") or ""
    if not re.fullmatch("[0-9]{1,20}", length):
        raise LengthRequired
    if int(length) > MOST_BYTES:
        raise TooLarge


def strict_json(body: bytes) -> Any:
    """Return the value of a JSON text in UTF-8; raise `InvalidBody` for any other, and for keys that come twice."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique)
    except RecursionError:
        raise InvalidBody("The body is not JSON that is read here: it is nested too deeply.") from None
    except ValueError as error:
        raise InvalidBody(f"The body is not JSON in UTF-8: {error}.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key comes twice")
    return values


def read_beacon(value: Any, *, may_have: Iterable[str] = ()) -> Beacon:
    """Return the beacon that the value of a body is; raise `InvalidBody` for one that is none."""
    takes = {"path", "session_id"} if conf.IDENTITY == "client" else {"path"}
    numbers = set(may_have)
    if not isinstance(value, dict):
        raise InvalidBody(f"The body is {_shown(value)}, not an object.")
    if unknown := value.keys() - takes - numbers:
        raise InvalidBody(f"The body has {_shown(min(unknown))}, which is not taken here. Leave it out.")
    if missing := takes - value.keys():
        raise InvalidBody(f"The body has no {min(missing)}.")
    for name in sorted(takes):
        _check_text(name, value[name])
    for name in sorted(numbers & value.keys()):
        if not isinstance(value[name], int) or isinstance(value[name], bool) or not 0 <= value[name] < 2**53:
            raise InvalidBody(f"{name} is {_shown(value[name])}, not a whole number of milliseconds.")
    if not value["path"].startswith("/"):
        raise InvalidBody(f"path is {_shown(value['path'])}, which does not begin with a slash.")
    return Beacon(**value)


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise InvalidBody(f"{name} is {_shown(text)}, not a string.")
    if not text:
        raise InvalidBody(f"{name} is empty.")
    if "\x00" in text:
        raise InvalidBody(f"{name} is {_shown(text)}, with a NUL character. Leave it out.")
    if re.search("[\ud800-\udfff]", text):
        raise InvalidBody(f"{name} is {_shown(text)}, with a lone surrogate, which is no character. Leave it out.")


def _shown(value: Any) -> str:
    """Return a value as a message shows it: not all of a long one, and nothing that UTF-8 cannot write."""
    if isinstance(value, (list, dict)):
        return "an array" if isinstance(value, list) else "an object"
    return ascii(value)[:100]


def decoded(path: str, *, by_asgi: bool) -> str:
    """Return the path of a URL as `request.path` has it, so that a page is the same page whatever tells of it.

    Bytes that are no UTF-8 stay percent-encoded under WSGI; servers that speak ASGI have put U+FFFD for them.
    """
    return unquote(path) if by_asgi else repercent_broken_unicode(unquote_to_bytes(path)).decode()


def read_limit(query: Mapping[str, str]) -> int:
    """Return how long the lists may be; raise `ParseError` for what is no limit."""
    return _read_number(query, "limit", default=DEFAULT_LIMIT, most=MOST_LIMIT)


def _read_number(query: Mapping[str, str], name: str, *, default: int, most: int) -> int:
    number = query.get(name, f"{default}")
    if not re.fullmatch("[0-9]{1,9}", number) or int(number) > most:
        raise ParseError(f"{name} is {_shown(number)}, not a whole number from 0 to {most}.")
    return int(number)


def _read_day(query: Mapping[str, str], name: str) -> date:
    if name not in query:
        raise ParseError(f"{name} is missing. Give a reporting day, such as 2026-01-31.")
    try:
        if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", query[name]):
            raise ValueError
        return date.fromisoformat(query[name])
    except ValueError:
        raise ParseError(f"{name} is {_shown(query[name])}, not a day, such as 2026-01-31.") from None


def _read_choice(query: Mapping[str, str], name: str, *choices: str) -> str | None:
    if name in query and query[name] not in choices:
        raise ParseError(f"{name} is {_shown(query[name])}. Use {' or '.join(choices)}.")
    return query.get(name)


def _read_search(query: Mapping[str, str]) -> str:
    text = query.get("search", "")
    if len(text) > LONGEST_SEARCH:
        raise ParseError(f"search is {len(text)} characters long, over {LONGEST_SEARCH}.")
    return text


def read_report(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of `report` that a query has; raise `ParseError` for what is none."""
    return {
        "start": _read_day(query, "start"),
        "end": _read_day(query, "end"),
        "dimension": _read_choice(query, "dimension", "page"),
        "value": query.get("value"),
        "limit": read_limit(query),
        "offset": _read_number(query, "offset", default=0, most=MOST_OFFSET),
        "search": _read_search(query),
        "order": _read_choice(query, "order", *get_args(Order)) or "-views",
        "by": _read_choice(query, "by", *get_args(By)) or "day",
        "compare": _read_choice(query, "compare", "true", "false") == "true",
    }


def written(stats: Snapshot) -> dict[str, Any]:
    """Return a snapshot as objects and lists, with what a client needs to label the figure of visitors."""
    figures = {field.name: getattr(stats, field.name) for field in fields(stats)}
    return {
        "lifetime": identity.lifetime(),
        **figures,
        "active_by_path": [row._asdict() for row in stats.active_by_path],
        "page_stats": [row._asdict() for row in stats.page_stats],
    }


Record = Callable[[Request, Hit, Beacon], None]

KEPT = ("rendered", "elapsed")
"""What the first heartbeat of a page tells of it."""

OPEN: dict[str, Any] = {"authentication_classes": [], "permission_classes": [SameOrigin]}
"""The policies of what any browser may send: no login, hence no CSRF, but from a page of this site."""


class StatsViewSet(ViewSet):
    """Read the figures, or send a page view or a heartbeat."""

    http_method_names = ["get", "head", "post"]
    renderer_classes = [JSON]
    parser_classes = [HitParser, BeaconParser]
    authentication_classes = [LoggedIn]
    permission_classes = [MayRead]
    throttle_classes = [ClientThrottle]
    content_negotiation_class = OneOfEach
    versioning_class = None
    metadata_class = None
    pagination_class = None
    schema = openapi.StatsSchema() if openapi.IS_INSTALLED else None
    action_map: dict[str, str]

    @classonlymethod
    def as_view(cls, actions: Any = None, **initkwargs: Any) -> Callable[..., HttpResponseBase]:  # type: ignore[override]  # the stubs return a view of their own
        """Return the view, outside ATOMIC_REQUESTS: in a transaction of somebody else's, no lock error can be cured."""
        view: Callable[..., HttpResponseBase] = super().as_view(actions, **initkwargs)
        for using in connections:
            view = transaction.non_atomic_requests(using=using)(view)
        return view

    def list(self, request: Request) -> Response:
        """Answer with the figures; without the permission, with lists of the pages that are no secret."""
        limit = read_limit(request.query_params)
        return Response(written(snapshot(limit=limit, public=not may_read_all(request.user))))

    @action(detail=False, methods=["get"], url_path="active")
    def active(self, request: Request) -> HttpResponse:
        """Answer who is on the site now, or that it is still the same."""
        limit = read_limit(request.query_params)
        path = request.query_params.get("path")
        try:
            return active_response(request._request, public=not may_read_all(request.user), path=path, limit=limit)
        except UnknownPage:
            raise UnknownPath(f"{_shown(path)} is no page of this site.") from None
        except Refused as refusal:
            raise ParseError(str(refusal)) from refusal

    @action(detail=False, methods=["get"], url_path="report")
    def report(self, request: Request) -> Response:
        """Answer with the figures of a range of days; without the permission, of the pages that are no secret."""
        asked = read_report(request.query_params)
        try:
            told = report(**asked, public=not may_read_all(request.user))
        except UnknownPage:
            raise UnknownPath(f"{_shown(asked['value'])} is no page of this site.") from None
        except Refused as refusal:
            raise ParseError(str(refusal)) from refusal
        return Response(told.written(lifetime=identity.lifetime()))

    @action(detail=False, methods=["post"], url_path="page-views", **OPEN)
    def page_views(self, request: Request) -> Response:
        """Take a page view."""
        return self._take(request, self._page_view)

    @action(detail=False, methods=["post"], url_path="heartbeats", **OPEN)
    def heartbeats(self, request: Request) -> Response:
        """Take a heartbeat."""
        return self._take(request, self._heartbeat)

    def _page_view(self, request: Request, hit: Hit, beacon: Beacon) -> None:
        if not has_views(hit.path):
            throttle = NewPathThrottle()
            if not throttle.allow_request(request, self):
                raise Throttled(throttle.wait(), code="new_paths")
        tally(REPEAT if record_page_view(hit, patience=PATIENCE_OF_A_PAGE) is None else RECORDED)

    def _heartbeat(self, request: Request, hit: Hit, beacon: Beacon) -> None:
        record_heartbeat(hit, patience=PATIENCE_OF_A_PAGE)
        if beacon.was_kept(hit.at):
            self._page_view(request, hit, beacon)

    def _take(self, request: Request, record: Record) -> Response:
        """Answer 204 to all that is well formed, recorded or not."""
        response = Response(status=HTTPStatus.NO_CONTENT)
        if conf.ENABLED and (reason := self._receive(request, response, record)):
            tally(NOT_STORED, reason)
        return response

    def _receive(self, request: Request, response: Response, record: Record) -> str:
        """Record what came, or return the reason why nobody is counted."""
        sent = request._request
        if reason := why_nobody(sent) or why_staff(sent):
            return reason
        at = instant(None)
        require_length(sent)
        beacon = read_beacon(request.data, may_have=KEPT if record == self._heartbeat else ())
        path = whole(decoded(beacon.path, by_asgi=isinstance(sent, ASGIRequest)))
        match = page_at(path, sent)
        if is_excluded(path, match):
            return "excluded"
        if "\x00" in path or not is_known(path, match):
            raise UnknownPath(f"{_shown(path)} is no page of this site.")
        visitor = identity.identify(sent, at=at, claimed=beacon.session_id)
        if visitor.reason == "bad_session_id":
            raise InvalidBody(f"session_id is {_shown(beacon.session_id)}, not 16 to 64 letters, digits and ._~-.")
        if visitor.session_id is None:
            return visitor.reason
        visitor.remember(response)
        if visitor.cookie and record == self._heartbeat and not beacon.was_kept(at):
            return "new_session_id"  # who takes no cookie would be somebody else with each heartbeat
        record(request, Hit(path=path, session_id=visitor.session_id, at=at), beacon)
        return ""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse the method first; while nothing is recorded, ask nothing about what came to be recorded."""
        if self.action not in self.action_map.values():
            raise MethodNotAllowed(str(request.method))
        if conf.ENABLED or not self._is_open():
            super().initial(request, *args, **kwargs)

    def perform_authentication(self, request: Request) -> None:
        """Leave it to `MayRead`: what is open to all asks for nobody."""

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        """Return DRF's own."""
        return exception_handler

    def handle_exception(self, exc: Exception) -> Response:
        """Answer with what is wrong, never with an error page. What failed is logged, and what was sent is tallied."""
        if isinstance(exc, SuspiciousOperation):
            exc = ParseError("The request is not one that a browser sends to a host of this site.", "suspicious")
        elif isinstance(exc, UnreadablePostError):
            exc = InvalidBody("The body did not arrive.")
        outcome, reason = FAILED, type(exc).__name__
        if isinstance(exc, APIException):
            outcome, reason = NOT_STORED, str(exc.get_codes())
        else:
            logger.error("%s %r failed.", self.request.method, self.request.path, exc_info=exc)
            exc = Unavailable()
        if self._is_open():
            tally(outcome, reason)
        return super().handle_exception(exc)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Keep every answer out of caches, but those that ask again: figures are of now, and a hit must arrive."""
        final = super().finalize_response(request, response, *args, **kwargs)
        if "ETag" not in final.headers:
            final.headers["Cache-Control"] = "no-store"
        return final

    def _is_open(self) -> bool:
        """Tell whether this is one of the endpoints that any browser may send to."""
        return "post" in self.action_map
