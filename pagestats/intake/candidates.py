"""What the intake judges: a request that may become a hit."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import cached_property
from http import HTTPStatus
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponseBase
from django.urls import ResolverMatch

from pagestats.hits import Hit
from pagestats.identity import Identified
from pagestats.intake import paths

LONGEST_HEADER = 1_000
"""How many characters of a header a step looks at, so that no client decides how long judging its request takes.
Browsers need fewer than 200."""


class Kind(Enum):
    """What arrived."""

    PAGE = "page"
    """A request that the site answered: the middleware sees it with its response."""
    PAGE_VIEW = "page_views"
    """A beacon that reports a page view."""
    HEARTBEAT = "heartbeats"
    """A beacon that says that a page is still being read. The first one of a page that a cache served reports its view
    as well."""


BEACONS = (Kind.PAGE_VIEW, Kind.HEARTBEAT)


class Drop(NamedTuple):
    """Why a candidate doesn't become a hit."""

    reason: str
    """The name under which it is counted."""
    status: int = HTTPStatus.NO_CONTENT
    """The status of the answer, if the candidate is a beacon. 204 doesn't reveal that the beacon was dropped."""
    detail: str = ""
    """What is wrong, with the value, for the body of the answer."""
    retry_after: int = 0
    """In how many seconds the client may send again; 0: not limited."""


def shown(value: Any) -> str:
    """Return a value as an error text shows it: only the beginning of a long one, and ASCII."""
    if isinstance(value, (list, dict)):
        return "an array" if isinstance(value, list) else "an object"
    return ascii(value)[:100]


def not_a_page(reason: str, path: str) -> Drop:
    """Return the drop of a path that the site doesn't have."""
    return Drop(reason, HTTPStatus.NOT_FOUND, f"{shown(path)} is not a page of this site.")


@dataclass(kw_only=True, eq=False)
class Candidate:
    """A request that may become a hit. Each step may add to it, or drop it.

    Args:
        request: the request, after the site's own code has answered it if it is for a page.
        response: of a page, what the site answers; of a beacon, the empty answer, for a cookie.
        kind: what arrived.
        at: when, as an aware datetime. None until the step `identity` sets it, which few requests reach.
    """

    request: HttpRequest
    response: HttpResponseBase
    kind: Kind
    at: datetime | None = None

    path: str = field(default="", init=False)
    """The path of the page as it is recorded, "" until a step has read it."""
    claimed: str | None = field(default=None, init=False)
    """The session id that a beacon brought."""
    is_kept_page: bool = field(default=False, init=False)
    """Whether a heartbeat is of a page that a cache had kept, so that the middleware never saw the view."""
    identified: Identified | None = field(default=None, init=False)
    """Who sent it."""
    hit: Hit | None = field(default=None, init=False)
    """The hit that the steps made of it. A drop after this one drops the page view, not the heartbeat."""

    @property
    def reports_view(self) -> bool:
        """Whether it counts a page view, unless that is a repeat."""
        return self.kind is not Kind.HEARTBEAT or self.is_kept_page

    @cached_property
    def match(self) -> ResolverMatch | None:
        """What the URL patterns make of the path; None: no pattern matches it."""
        # A page that another middleware answered, from a cache for example, has no match yet.
        found = self.request.resolver_match if self.kind is Kind.PAGE else None
        return found or paths.page_at(self.path, self.request)

    def header(self, name: str) -> str:
        """Return the beginning of a request header, by its name in `request.META`; "" if it is missing."""
        value: str = self.request.META.get(name, "")
        return value[:LONGEST_HEADER]

    def response_header(self, name: str) -> str:
        """Return a header of the response, in lower case; "" if it is missing. It is the site's own, so all is read."""
        value: str = self.response.headers.get(name, "")
        return value.lower()
