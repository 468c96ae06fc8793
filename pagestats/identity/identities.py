"""The identities, which give a request its session id.

PAGESTATS_IDENTITY names one of these three, or the dotted path of a site's own (see `Identity`):

- `anonymous`: an HMAC of the client's address, the host and the user agent, with the salt of the reporting day. It
  lives one day: once the salt is deleted, nobody can find out whose id it was, or link the ids of two days.
- `cookie`: a random id in a signed cookie, which lives a year.
- `client`: an id that the browser sends and keeps in localStorage.
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol, cast

from django.core.exceptions import DisallowedHost, ImproperlyConfigured
from django.core.signing import BadSignature, Signer
from django.db import router
from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_cache_control
from django.utils.crypto import salted_hmac
from django.utils.module_loading import import_string
from django.utils.translation import gettext

from pagestats.conf import Settings, conf
from pagestats.identity.addresses import client_address, client_network
from pagestats.identity.salts import day_salts
from pagestats.models import PageView

Lifetime = Literal["day", "lasting"]
LIFETIMES = ("day", "lasting")


@dataclass(frozen=True, kw_only=True, slots=True)
class Identified:
    """Who sent a request: a session id, or the reason why the request has no session id."""

    session_id: str | None = None
    reason: str = ""
    cookie: Cookie | None = None

    def remember(self, response: HttpResponseBase) -> bool:
        """Set the cookie of a new id, if the identity made one; return whether the next request will have this id too.

        If not, a cache may give the response to others, so it can't carry the cookie, and the id is never seen again.
        """
        return self.cookie is None or self.cookie.set_on(response)


class Identity(Protocol):
    """The contract for a dotted path in PAGESTATS_IDENTITY: it gives a request its session id.

    It is a function, or a class that is instantiated without arguments for each request and then called. Its attribute
    `lifetime` is "day" if ids change with each reporting day, "lasting" if a browser keeps its id.

        def member(request, *, at, claimed):
            return hash_of(request.user.pk) if request.user.is_authenticated else None

        member.lifetime = "lasting"

    It returns a session id that stands for one browser and should reveal nothing about its user. An id of over 64
    characters is shortened. If it returns None, the hit is not recorded; to give another reason, it may return an
    `Identified` of its own. What it raises is logged, and the page is served all the same.

    Args:
        request: the request, after the response was made.
        at: the aware datetime of the hit.
        claimed: the session id in the body of a beacon, for the identity `client` only; None for every other, since
            any client can choose it.
    """

    lifetime: Lifetime

    def __call__(self, request: HttpRequest, *, at: datetime, claimed: str | None) -> Identified | str | None:
        """Return the session id of a request."""


def identify(request: HttpRequest, *, at: datetime, claimed: str | None = None) -> Identified:
    """Return who sent a request, by the identity of the site.

    Whatever the request is, this raises nothing but what an identity of the site's own raises.

    Args:
        at: the aware datetime of the hit.
        claimed: the session id in the body of a beacon. Only the identity `client` believes it.
    """
    identity = configured()
    found = identity(request, at=at, claimed=claimed)
    if isinstance(found, Identified):
        return found
    if found is not None and not isinstance(found, str):
        raise TypeError(f"{conf.IDENTITY} returned {found!r}, a {type(found).__name__}, not a str or None.")
    return Identified(session_id=found) if found else Identified(reason="no_session_id")


def lifetime() -> Lifetime:
    """Return how long an id lives: "day" is one reporting day, "lasting" is as long as the browser keeps it."""
    return configured().lifetime


def visitors_label() -> str:
    """Return what distinct session ids are called, in the active language.

    Where an id lives one day, the visitors of a longer range are daily visitors, added up: they are never "unique".
    """
    return gettext("Daily visitors") if lifetime() == "day" else gettext("Unique visitors")


def configured() -> Identity:
    """Return the identity of the site; raise `ImproperlyConfigured` if its dotted path can't be used."""
    name = conf.IDENTITY
    setting = Settings.IDENTITY.name
    if name in _IDENTITIES:
        return _IDENTITIES[name]()
    try:
        identity = import_string(name)
    except ImportError as error:
        raise ImproperlyConfigured(f"{setting} is {name!r}, which cannot be imported: {error}.") from error
    if getattr(identity, "lifetime", None) not in LIFETIMES:
        raise ImproperlyConfigured(
            f"{setting} is {name!r}, which has no lifetime. Give it an attribute `lifetime`, "
            '"day" or "lasting": how long does one of its ids live?'
        )
    identity = identity() if isinstance(identity, type) else identity
    if not callable(identity):
        raise ImproperlyConfigured(f"{setting} is {name!r}, which cannot be called. Use a function or a class.")
    return cast(Identity, identity)  # as far as is known before it is called


def refuse_other_arguments() -> None:
    """Raise `ImproperlyConfigured` if the identity of the site doesn't take the arguments of `Identity`."""
    identity = configured()
    try:
        inspect.signature(identity).bind(None, at=None, claimed=None)
    except TypeError as error:
        raise ImproperlyConfigured(
            f"{Settings.IDENTITY.name} is {conf.IDENTITY!r}, which can't be called as (request, *, at, claimed):"
            f" {error}."
        ) from error


ID_CHARACTERS = 32


class Anonymous:
    """Recognise a browser for one day, without storing anything about it.

    Within the dedup window after midnight, a browser keeps the id that yesterday's salt gave it if it was seen with
    that id within the window: a reload across midnight is a repeat like any other.
    """

    lifetime: Lifetime = "day"

    def __call__(self, request: HttpRequest, *, at: datetime, claimed: str | None) -> Identified:
        """Return the anonymous id, or the reason `no_address` or `bad_host` if the request lacks one of its parts."""
        address = client_address(request)
        if address is None:
            return Identified(reason="no_address")
        try:
            host = request.get_host()
        except DisallowedHost:
            return Identified(reason="bad_host")
        agent = request.META.get("HTTP_USER_AGENT", "")
        # The agent may contain anything, so it comes last: no agent can imitate another client.
        client = "\0".join([client_network(address), host, agent]).encode(errors="surrogatepass")
        return Identified(session_id=_over_midnight(client, at))


def _over_midnight(client: bytes, at: datetime) -> str:
    """Return today's id of a client, or yesterday's id if the client came before midnight and is still here."""
    salts = day_salts.at(at)
    if salts.yesterday is not None and at - salts.begin < conf.DEDUP_WINDOW:
        yesterday = _digest(salts.yesterday, client)
        views = PageView.objects.using(router.db_for_write(PageView))
        if views.filter(session_id=yesterday, timestamp__gt=at - conf.DEDUP_WINDOW).exists():
            return yesterday
    return _digest(salts.today, client)


def _digest(salt: bytes, client: bytes) -> str:
    key = salted_hmac("pagestats.identity", salt, algorithm="sha256").digest()
    return hmac.new(key, client, hashlib.sha256).hexdigest()[:ID_CHARACTERS]


COOKIE_NAME = "pagestats"
COOKIE_AGE = timedelta(days=365)

_SIGNED_ID = re.compile(rf"[0-9a-f]{{{ID_CHARACTERS}}}:[A-Za-z0-9_-]+")

FOR_SHARED_CACHES = {"public", "s-maxage"}
HEADERS_FOR_SHARED_CACHES = ("CDN-Cache-Control", "Surrogate-Control")  # they outweigh Cache-Control: RFC 9213


class ByCookie:
    """Recognise a browser for a year, by a first-party cookie with a random id.

    The id is signed with the SECRET_KEY, so a client can't choose one. A request without a valid cookie counts as a new
    visitor, so a browser that rejects cookies is a new visitor on every page. The year begins with the first visit;
    later visits don't set the cookie again.
    """

    lifetime: Lifetime = "lasting"

    def __call__(self, request: HttpRequest, *, at: datetime, claimed: str | None) -> Identified:
        """Return the id in the cookie, or a new id, which `remember` then puts into a cookie."""
        signer = Signer(salt="pagestats.identity.cookie")
        sent = request.COOKIES.get(COOKIE_NAME, "")
        if _SIGNED_ID.fullmatch(sent):
            try:
                return Identified(session_id=signer.unsign(sent))
            except BadSignature:
                pass
        new = secrets.token_hex(ID_CHARACTERS // 2)
        return Identified(session_id=new, cookie=Cookie(value=signer.sign(new), is_secure=request.is_secure()))


def id_in_cookie(text: str) -> str:
    """Return the session id in the value of a cookie, as a browser shows it; any other text is returned unchanged."""
    return text.partition(":")[0] if _SIGNED_ID.fullmatch(text) else text


@dataclass(frozen=True, kw_only=True, slots=True)
class Cookie:
    """A new id on its way to the browser."""

    value: str
    is_secure: bool

    def set_on(self, response: HttpResponseBase) -> bool:
        """Set the cookie and return True, unless a shared cache may give the response, and so the id, to others.

        `public`, `s-maxage` and headers for CDNs allow that, and a 304 may answer a request for such a response. The
        cookie then waits for another response. A response with the cookie is made `private`, since a cache may store
        even a response without such headers. That is the first page of each browser, and no later one.
        """
        if _is_for_all(response):
            return False
        patch_cache_control(response, private=True)
        response.set_cookie(
            COOKIE_NAME, self.value, max_age=COOKIE_AGE, secure=self.is_secure, httponly=True, samesite="Lax"
        )
        return True


def _is_for_all(response: HttpResponseBase) -> bool:
    """Return whether a cache may give a response to other clients."""
    if response.status_code == 304:
        return True
    directives = {
        directive.partition("=")[0].strip().lower()
        for directive in response.headers.get("Cache-Control", "").split(",")
    }
    if not directives.isdisjoint({"private", "no-store"}):
        return False
    return not directives.isdisjoint(FOR_SHARED_CACHES) or any(
        header in response.headers for header in HEADERS_FOR_SHARED_CACHES
    )


# The characters of UUIDs and other random ids that browsers make. "null" and "undefined" are too short.
_CLIENT_ID = re.compile(r"[A-Za-z0-9._~-]{16,64}")


class ByClient:
    """Recognise a browser by the id that it keeps and sends with its beacons. A request for a page has no id."""

    lifetime: Lifetime = "lasting"

    def __call__(self, request: HttpRequest, *, at: datetime, claimed: str | None) -> Identified:
        """Return the id that was sent, or the reason `no_session_id` or `bad_session_id`."""
        if not claimed:
            return Identified(reason="no_session_id")
        if not isinstance(claimed, str) or not _CLIENT_ID.fullmatch(claimed):
            return Identified(reason="bad_session_id")
        return Identified(session_id=claimed)


_IDENTITIES: dict[str, type[Identity]] = {"anonymous": Anonymous, "cookie": ByCookie, "client": ByClient}
