"""Who: the identities, which give a request its session id, and the salts of the anonymous one.

PAGESTATS_IDENTITY names one of three, or the dotted path of a site's own (`Identity` says what that has to be):

- `anonymous`: an HMAC of the client's address, the host and the user agent under the salt of the reporting day. It
  lives one day: when its salt is gone, nobody can tell whose it was, nor join the ids of two days.
- `cookie`: a random id in a signed cookie, which lives a year.
- `client`: the id that a browser sends along and keeps in localStorage.
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
    """Who sent a request: a session id, or else the reason why there is none."""

    session_id: str | None = None
    reason: str = ""
    cookie: Cookie | None = None

    def remember(self, response: HttpResponseBase) -> bool:
        """Set the cookie where the identity gave a new id, and return whether the next request will have this id too.

        False: the response may be kept for others as well, and the id is never seen again.
        """
        return self.cookie is None or self.cookie.set_on(response)


class Identity(Protocol):
    """What gives a request its session id: the contract for a dotted path in PAGESTATS_IDENTITY.

    It is a function, or a class that is made without arguments for each request and then called, with an attribute
    `lifetime`: "day" when an id is another one on each reporting day, "lasting" when it stays with its browser.

        def member(request, *, at, claimed):
            return hash_of(request.user.pk) if request.user.is_authenticated else None

        member.lifetime = "lasting"

    The session id that it returns stands for one browser, and should tell nothing of who that is; over 64 characters,
    it is shortened. None: the hit is not recorded. It may return an `Identified` of its own, with another reason.
    What it raises is logged, and the page is served all the same.

    Arguments:
        request: as it is after the response was made.
        at: the aware datetime of the hit.
        claimed: None; the identity `client` alone is told the session id that a beacon brought, since anybody can
            choose it.
    """

    lifetime: Lifetime

    def __call__(self, request: HttpRequest, *, at: datetime, claimed: str | None) -> Identified | str | None:
        """Return the session id of a request."""


def identify(request: HttpRequest, *, at: datetime, claimed: str | None = None) -> Identified:
    """Return who sent a request, by the identity of the site; a request never raises.

    Arguments:
        at: the aware datetime of the hit.
        claimed: the session id that the body of a beacon brought, which the identity `client` alone believes.
    """
    identity = configured()
    found = identity(request, at=at, claimed=claimed)
    if isinstance(found, Identified):
        return found
    if found is not None and not isinstance(found, str):
        raise TypeError(f"{conf.IDENTITY} returned {found!r}, a {type(found).__name__}, not a str or None.")
    return Identified(session_id=found) if found else Identified(reason="no_session_id")


def lifetime() -> Lifetime:
    """Return how long an id lives: "day", a reporting day, or "lasting", for as long as a browser keeps it."""
    return configured().lifetime


def visitors_label() -> str:
    """Return what distinct session ids are called, in the language that is active: where an id lives a day, a visitor
    of a longer range is one of each day, and never "unique".
    """
    return gettext("Daily visitors") if lifetime() == "day" else gettext("Unique visitors")


def configured() -> Identity:
    """Return the identity of the site. Raise `ImproperlyConfigured` when its dotted path leads to none."""
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
    return cast(Identity, identity)  # as far as can be told without calling it


def refuse_other_arguments() -> None:
    """Raise `ImproperlyConfigured` when the identity of the site can't be called as `Identity` says."""
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
    """Know a browser again for a day, by nothing that is kept.

    Within the dedup window after midnight an id of yesterday's salt is kept if it was seen in that window, so that a
    reload over midnight is a repeat like any other.
    """

    lifetime: Lifetime = "day"

    def __call__(self, request: HttpRequest, *, at: datetime, claimed: str | None) -> Identified:
        """Return the anonymous id; `no_address` or `bad_host` when the request lacks one of its parts."""
        address = client_address(request)
        if address is None:
            return Identified(reason="no_address")
        try:
            host = request.get_host()
        except DisallowedHost:
            return Identified(reason="bad_host")
        agent = request.META.get("HTTP_USER_AGENT", "")
        # The agent, which may hold anything, comes last: no other client can be put together with it.
        client = "\0".join([client_network(address), host, agent]).encode(errors="surrogatepass")
        return Identified(session_id=_over_midnight(client, at))


def _over_midnight(client: bytes, at: datetime) -> str:
    """Return today's id of a client, or yesterday's for who came before midnight and is still here."""
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
    """Know a browser again for a year, by a cookie of the site's own with a random id.

    The id is signed with the SECRET_KEY: nobody can choose one. Who sends none, or a forged one, is a new visitor, so
    that a browser which refuses cookies is one with each page. The year is counted from the first visit; later ones do
    not set the cookie again.
    """

    lifetime: Lifetime = "lasting"

    def __call__(self, request: HttpRequest, *, at: datetime, claimed: str | None) -> Identified:
        """Return the id of the cookie, or a new one, which `remember` then puts into a cookie."""
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
    """Return the session id in the value of the cookie, as its reader sees it, and any other text as it is."""
    return text.partition(":")[0] if _SIGNED_ID.fullmatch(text) else text


@dataclass(frozen=True, kw_only=True, slots=True)
class Cookie:
    """A new id on its way to the browser."""

    value: str
    is_secure: bool

    def set_on(self, response: HttpResponseBase) -> bool:
        """Set the cookie and return True, unless a shared cache may give the response, and so the id, to others.

        That is what `public`, `s-maxage` or a header for CDNs asks for, and what a 304 may be the answer to. The cookie
        then waits for another response. Any other that it is set on is made `private`, since a cache may keep it even
        when nothing was said: the first page of each browser, and no later one.
        """
        if _is_for_all(response):
            return False
        patch_cache_control(response, private=True)
        response.set_cookie(
            COOKIE_NAME, self.value, max_age=COOKIE_AGE, secure=self.is_secure, httponly=True, samesite="Lax"
        )
        return True


def _is_for_all(response: HttpResponseBase) -> bool:
    """Tell whether a cache may keep a response for others than who asked."""
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


# Those of a UUID and of what else a browser makes random ids with; "null" and "undefined" are too short to be one.
_CLIENT_ID = re.compile(r"[A-Za-z0-9._~-]{16,64}")


class ByClient:
    """Know a browser again by the id that it sends and keeps: only a beacon brings one, a page alone does not."""

    lifetime: Lifetime = "lasting"

    def __call__(self, request: HttpRequest, *, at: datetime, claimed: str | None) -> Identified:
        """Return the id that was sent; `no_session_id` or `bad_session_id` where none was, or none that can be one."""
        if not claimed:
            return Identified(reason="no_session_id")
        if not isinstance(claimed, str) or not _CLIENT_ID.fullmatch(claimed):
            return Identified(reason="bad_session_id")
        return Identified(session_id=claimed)


_IDENTITIES: dict[str, type[Identity]] = {"anonymous": Anonymous, "cookie": ByCookie, "client": ByClient}
