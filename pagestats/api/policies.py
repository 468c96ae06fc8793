"""Who may read, how often, and how an answer is written: the policies of the API, which are set on its class.

A site's REST_FRAMEWORK settings, which are for its own API, change none of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import NotAuthenticated
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from pagestats.access import may_read
from pagestats.intake.throttling import REQUESTS, count_request


class StrictJSON(JSONRenderer):
    """JSON as the standard defines it, with every option set that a site can set for its own API."""

    compact = True
    ensure_ascii = False
    strict = True
    charset = None


class OneRenderer(BaseContentNegotiation):
    """Answer with the one renderer, whatever the client accepts."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        """Return None: no endpoint reads its body through DRF."""
        return None

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the first renderer."""
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)


class LoggedIn(BaseAuthentication):
    """The user that Django's own authentication has found, if any."""

    def authenticate(self, request: Request) -> tuple[Any, None]:
        """Return the user of the session."""
        return getattr(request._request, "user", None) or AnonymousUser(), None

    def authenticate_header(self, request: Request) -> str:
        """Return the scheme that a 401 names; without one, DRF would answer 403."""
        return "Session"


class MayRead(BasePermission):
    """Allow those who may read the stats."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Check the permission; answer 401 to a client that isn't logged in, since a login may be all it lacks."""
        if may_read(request.user):
            return True
        if not request.user.is_authenticated:
            raise NotAuthenticated
        return False


class ClientThrottle(BaseThrottle):
    """Apply PAGESTATS_THROTTLE, by the same rule as for beacons."""

    seconds = 0

    def allow_request(self, request: Request, view: Any) -> bool:
        """Count the request, and return whether it is allowed."""
        self.seconds = count_request(request._request, view.action, REQUESTS)
        return not self.seconds

    def wait(self) -> float:
        """Return in how many seconds the client may ask again."""
        return self.seconds
