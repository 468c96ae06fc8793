"""The steps of a beacon: may this browser send it, what does its body say, and is that a page of the site?"""

from __future__ import annotations

import json
import re
from datetime import datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, UnreadablePostError

from pagestats.conf import conf
from pagestats.hits import unstorable_in
from pagestats.intake import paths, throttling
from pagestats.intake.candidates import LONGEST_HEADER, Candidate, Drop, Kind, not_a_page, shown
from pagestats.stats import has_views

MOST_BYTES = 4_096
"""The longest body. A path and a session id need a few hundred bytes."""
TYPES = ("application/json", "text/plain")
"""The types of a body. `navigator.sendBeacon` sends a string as `text/plain`."""

SUSPICIOUS = Drop(
    "suspicious", HTTPStatus.BAD_REQUEST, "The request is malformed, or its Host header isn't in ALLOWED_HOSTS."
)
CROSS_ORIGIN = Drop("cross_origin", HTTPStatus.FORBIDDEN, "The request does not come from a page of this site.")
LENGTH_REQUIRED = Drop(
    "length_required",
    HTTPStatus.LENGTH_REQUIRED,
    "The request has no Content-Length. Send the body as a whole, not in chunks.",
)
TOO_LARGE = Drop("too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is over {MOST_BYTES} bytes.")
NOT_ARRIVED = Drop("invalid_body", HTTPStatus.BAD_REQUEST, "The body did not arrive.")
EMPTY = Drop("invalid_body", HTTPStatus.BAD_REQUEST, "The body is empty.")
UNSUPPORTED_MEDIA_TYPE = Drop(
    "unsupported_media_type",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    f"The body is not {' or '.join(TYPES)} in UTF-8.",
)
NEW_SESSION_ID = Drop("new_session_id")


def drop_method(candidate: Candidate) -> Drop | None:
    """Drop every request but a POST."""
    method = candidate.request.method
    if method == "POST":
        return None
    return Drop(
        "method_not_allowed", HTTPStatus.METHOD_NOT_ALLOWED, f'Method "{ascii(method)[1:-1][:100]}" not allowed.'
    )


def drop_cross_origin(candidate: Candidate) -> Drop | None:
    """Drop what another site sends: by `Sec-Fetch-Site`, which browsers send over HTTPS, otherwise by `Origin`."""
    try:
        host = candidate.request.get_host()
    except DisallowedHost:
        return SUSPICIOUS
    site = candidate.request.META.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return None if site == "same-origin" else CROSS_ORIGIN
    return None if is_origin(candidate.request.META.get("HTTP_ORIGIN", ""), host=host) else CROSS_ORIGIN


def is_origin(origin: str, *, host: str) -> bool:
    """Return whether an `Origin` header names a host.

    The scheme isn't compared: a site behind a proxy that doesn't pass it on doesn't know its own.
    """
    if len(origin) > LONGEST_HEADER:
        return False
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower()


def drop_throttled(candidate: Candidate) -> Drop | None:
    """Drop the request of a client that sends too often. May wait for the cache, which may be in the database."""
    return _throttled(candidate, throttling.REQUESTS, "throttled")


def _throttled(candidate: Candidate, limit: throttling.Limit, reason: str) -> Drop | None:
    wait = throttling.count_request(candidate.request, candidate.kind.value, limit)
    if not wait:
        return None
    text = f"Request was throttled. Expected available in {wait} second{'s' if wait > 1 else ''}."
    return Drop(reason, HTTPStatus.TOO_MANY_REQUESTS, text, wait)


def drop_length(candidate: Candidate) -> Drop | None:
    """Drop a body of unknown length, an empty one, and one that is too long by its own word, before reading any."""
    length = candidate.request.META.get("CONTENT_LENGTH") or ""
    if not re.fullmatch("[0-9]{1,20}", length):
        return LENGTH_REQUIRED
    if int(length) > MOST_BYTES:
        return TOO_LARGE
    return None if int(length) else EMPTY


def drop_media_type(candidate: Candidate) -> Drop | None:
    """Drop a body that is neither JSON nor text, or isn't in UTF-8."""
    request = candidate.request
    charset = (request.content_params or {}).get("charset", "utf-8")
    is_utf8 = charset[:LONGEST_HEADER].lower() in {"utf-8", "utf8"}
    return None if is_utf8 and request.content_type in TYPES else UNSUPPORTED_MEDIA_TYPE


def read_body(candidate: Candidate) -> Drop | None:
    """Add what the body says; drop a body that isn't what the endpoint takes."""
    body = _bytes_of(candidate.request)
    if body is None:
        return NOT_ARRIVED
    if len(body) > MOST_BYTES:
        return TOO_LARGE
    try:
        beacon = parse(body, takes_times=candidate.kind is Kind.HEARTBEAT)
    except InvalidBody as error:
        return Drop("invalid_body", HTTPStatus.BAD_REQUEST, str(error))
    assert candidate.at is not None
    candidate.path = paths.sent_path(beacon.path, candidate.request)
    candidate.claimed = beacon.session_id
    candidate.is_kept_page = beacon.was_kept(candidate.at)
    return None


def _bytes_of(request: HttpRequest) -> bytes | None:
    """Read a body, at most one byte more than it may have; None if the connection broke."""
    try:
        return request.read(MOST_BYTES + 1)
    except UnreadablePostError:
        return None


def drop_unknown_path(candidate: Candidate) -> Drop | None:
    """Drop a path that the site doesn't have: otherwise anybody could store any text."""
    if paths.is_known(candidate.path, candidate.match):
        return None
    return not_a_page("unknown_path", candidate.path)


def drop_new_session_id(candidate: Candidate) -> Drop | None:
    """Drop the heartbeat of a browser that had no cookie yet.

    A browser that rejects cookies would be another visitor with each heartbeat.
    """
    assert candidate.identified is not None
    is_new = candidate.identified.cookie is not None
    return NEW_SESSION_ID if is_new and not candidate.is_kept_page else None


def drop_new_path(candidate: Candidate) -> Drop | None:
    """Drop the page view of a path that has none yet, if the client has sent too many of those."""
    assert candidate.hit is not None
    if not candidate.reports_view or has_views(candidate.hit.path):
        return None
    return _throttled(candidate, throttling.NEW_PATHS, "new_paths")


class InvalidBody(ValueError):
    """The body isn't what the endpoint takes. The message says what is wrong."""


LONGEST_DELAY = 2_000
"""For how many milliseconds a message may be under way before its page counts as one that a cache had kept."""


class Beacon(NamedTuple):
    """What the body of a beacon says: where the browser is and, where it keeps one, its session id."""

    path: str
    session_id: str | None = None
    rendered: int | None = None
    """When the page was rendered, by the site's own clock, in milliseconds since 1970."""
    elapsed: int | None = None
    """How many milliseconds ago the browser began to ask for the page, by its own clock."""

    def was_kept(self, at: datetime) -> bool:
        """Return whether the page was rendered before the browser asked for it: a cache had kept it.

        Both numbers are durations, so the two clocks need not agree. A message that takes long makes a fresh page look
        like a kept one; its view is then a repeat of the one that the middleware counted. A client that lies gains no
        more than it would by sending a page view.
        """
        if self.rendered is None or self.elapsed is None:
            return False
        return at.timestamp() * 1000 - self.rendered > self.elapsed + LONGEST_DELAY


def parse(body: bytes, *, takes_times: bool) -> Beacon:
    """Return the beacon in a body.

    Args:
        body: a JSON object in UTF-8, without keys that come twice.
        takes_times: whether it may have `rendered` and `elapsed`, as the first heartbeat of a page has.

    Raises:
        InvalidBody: for any other body.
    """
    value = _json(body)
    if not isinstance(value, dict):
        raise InvalidBody(f"The body is {shown(value)}, not an object.")
    texts = {"path", "session_id"} if conf.IDENTITY == "client" else {"path"}
    times = {"rendered", "elapsed"} if takes_times else set()
    if unknown := value.keys() - texts - times:
        raise InvalidBody(f"The body has the unknown key {shown(min(unknown))}. Leave it out.")
    if missing := texts - value.keys():
        raise InvalidBody(f"The body has no {min(missing)}.")
    for name in sorted(texts):
        _check_text(name, value[name])
    for name in sorted(times & value.keys()):
        _check_milliseconds(name, value[name])
    if not value["path"].startswith("/"):
        raise InvalidBody(f"path is {shown(value['path'])}, which does not begin with a slash.")
    return Beacon(**value)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique)
    except RecursionError:
        raise InvalidBody("The body is nested too deeply.") from None
    except ValueError as error:
        raise InvalidBody(f"The body is not JSON in UTF-8: {error}.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key comes twice")
    return values


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise InvalidBody(f"{name} is {shown(text)}, not a string.")
    if not text:
        raise InvalidBody(f"{name} is empty.")
    if found := unstorable_in(text):
        raise InvalidBody(f"{name} is {shown(text)}, with {found}. Leave it out.")


def _check_milliseconds(name: str, number: Any) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**53:
        raise InvalidBody(f"{name} is {shown(number)}, not a whole number of milliseconds.")
