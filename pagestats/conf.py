"""Every PAGESTATS_* setting: its default, the values it accepts, and what it means."""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Generic, TypeVar, overload

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import empty

LONGEST = timedelta(days=366)
"""The longest duration a setting may have. An instant this much earlier or later still fits in every database."""
LONGEST_KEPT = timedelta(days=36_500)
"""The longest time page views may be kept. To keep them longer, use None, which means for ever."""

LARGEST_BATCH = 10_000
"""The most page views that a backfill writes in one transaction."""
LONGEST_SEARCH = 200
"""The most characters in a search on the admin page or in the API."""

T = TypeVar("T")
Network = IPv4Network | IPv6Network

IDENTITIES = ("anonymous", "cookie", "client")

PROXY_WORDS = {
    "loopback": ("127.0.0.0/8", "::1"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "unix": (),
}
"""The networks that each word of PAGESTATS_TRUSTED_PROXIES stands for. A Unix socket has no address."""


_attributes: dict[str, Any] = object.__getattribute__(settings, "__dict__")
"""Those of the lazy object itself: reading them loads nothing."""


class Setting(Generic[T]):
    """One setting, read from Django's settings each time it is used, so that `override_settings` works.

    Reading raises `ImproperlyConfigured` when the setting does not accept the site's value. The system checks report
    the same fault in the same words.
    """

    def __init__(
        self,
        default: T,
        *,
        fits: Callable[[Any], bool],
        kind: str,
        hint: str,
        meaning: str,
        why: Callable[[Any], str] = lambda value: "",
    ) -> None:
        self.default = default
        self.fits = fits
        self.kind = kind
        self.why = why
        self.hint = hint
        self.meaning = meaning
        self._accepted: Any = object()  # the last value that passed, so that each page does not check it again

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"PAGESTATS_{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> "Setting[T]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> "Setting[T] | T":
        if instance is None:
            return self
        value = self.value()
        if value is not self._accepted:
            if fault := self.fault():
                raise ImproperlyConfigured(f"{fault} {self.hint}")
            self._accepted = value
        return value

    def value(self) -> T:
        """Return the site's value, or the default, without checking it."""
        # `settings` answers by two exceptions for a setting that the site hasn't set; what it wraps answers without.
        source = _attributes["_wrapped"]
        value: T = getattr(settings if source is empty else source, self.name, self.default)
        return value

    def fault(self) -> str | None:
        """Return what is wrong with the site's value, or None."""
        value = self.value()
        if self.fits(value):
            return None
        why = self.why(value)
        return f"{self.name} is {value!r}, not {self.kind}{f': {why}' if why else ''}."


def _switch(*, default: bool, meaning: str) -> Setting[bool]:
    return Setting(
        default,
        fits=lambda value: isinstance(value, bool),
        kind="True or False",
        hint="Use True or False.",
        meaning=meaning,
    )


def _duration(default: timedelta, meaning: str) -> Setting[timedelta]:
    return Setting(
        default,
        fits=lambda value: isinstance(value, timedelta) and timedelta(0) < value <= LONGEST,
        kind=f"a timedelta above zero, of at most {LONGEST.days} days",
        hint=f"Use datetime.timedelta(seconds={default.total_seconds():.0f}), for example.",
        meaning=meaning,
    )


def _are_whole_minutes(value: Any) -> bool:
    """Return whether a value is a timedelta of whole minutes, as a schedule of django-q2 needs it."""
    minute = timedelta(minutes=1)
    return isinstance(value, timedelta) and minute <= value <= timedelta(days=1) and not value % minute


def _are_whole_days(value: Any) -> bool:
    """Return whether a value is None or a timedelta of whole days, at least two, so that yesterday is always kept."""
    day = timedelta(days=1)
    return value is None or (isinstance(value, timedelta) and 2 * day <= value <= LONGEST_KEPT and not value % day)


def _wrong_source(value: Any) -> str:
    """Return the name of the first invalid content source and its fault, or "" if all are valid."""
    if not isinstance(value, dict):
        return ""
    faults = (f"{name!r} {fault}" for name, source in value.items() if (fault := _fault_of(name, source)))
    return next(faults, "")


def _fault_of(name: Any, source: Any) -> str:
    """Return what is wrong with a content source, or "". A source has either a slug or a URL name with arguments."""
    if not isinstance(name, str):
        return "is not a string"
    if not isinstance(source, dict):
        return f"is {source!r}, not a dict"
    kinds = {"model": str, "published": dict, "title": str, "type": str}
    kinds |= {"url_name": str, "arguments": dict} if "url_name" in source else {"slug": str}
    if missing := [key for key in kinds if key not in source]:
        return f"lacks {missing[0]!r}"
    if unknown := [key for key in source if key not in kinds]:
        return f"has {unknown[0]!r}; its keys are {', '.join(kinds)}"
    for key, kind in kinds.items():
        if not isinstance(source[key], kind) or source[key] == "":
            return f"has {source[key]!r} for {key!r}, not a {'dict' if kind is dict else 'string'}"
    if not all(isinstance(lookup, str) for lookup in source["published"]):
        return "has a lookup in 'published' that is not a string"
    if not all(isinstance(text, str) for pair in source.get("arguments", {}).items() for text in pair):
        return "has a name or a lookup in 'arguments' that is not a string"
    return ""


def _is_place(value: Any) -> bool:
    """Return whether a value is a path prefix or a URL namespace."""
    return isinstance(value, str) and (value.startswith("/") or (value.endswith(":") and len(value) > 1))


def _is_identity(value: Any) -> bool:
    """Return whether a value is the name of an identity or looks like a dotted path. It is not imported here."""
    names = value.split(".") if isinstance(value, str) else []
    return value in IDENTITIES or (len(names) > 1 and all(name.isidentifier() for name in names))


@lru_cache(maxsize=1024)
def proxy_networks(entry: str) -> tuple[Network, ...]:
    """Return the networks of one entry of PAGESTATS_TRUSTED_PROXIES; raise ValueError if the entry is invalid."""
    words = PROXY_WORDS.get(entry)
    return tuple(map(ip_network, [entry] if words is None else words))


def _are_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(entry, str) for entry in value)


def _wrong_proxy(value: Any) -> str:
    """Return the first invalid proxy and its fault, or "" if all are valid."""
    for entry in value if _are_texts(value) else ():
        try:
            proxy_networks(entry)
        except ValueError as error:
            return f"{error}{_without_host_bits(entry)}"
    return ""


def _without_host_bits(entry: str) -> str:
    """Return a suggestion for an address inside a network, such as 10.0.0.1/8; "" if it is not an address at all."""
    with suppress(ValueError):
        return f", write {ip_network(entry, strict=False)}"
    return ""


def _wrong_pattern(value: Any) -> str:
    """Return the first invalid regular expression and its fault, or "" if all are valid."""
    for pattern in value if _are_texts(value) else ():
        try:
            re.compile(pattern)
        except (re.error, OverflowError) as error:
            return f"{pattern!r}, {error}"
        if re.match(r"\^?\w", pattern):
            return f"{pattern!r}, which matches no path, because every path begins with a slash"
    return ""


def _rate(default: str, meaning: str) -> Setting[str]:
    return Setting(
        default,
        fits=lambda value: isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,5}/(s|min|h|day)", value) is not None,
        kind="a rate",
        hint=f'Use "{default}", for example; the period is s, min, h or day.',
        meaning=meaning,
    )


class Settings:
    """All settings of a site."""

    ENABLED = _switch(
        default=True,
        meaning="Record page views and heartbeats. If False, the middleware and the API record nothing and issue no"
        " queries; calls from your own code still record.",
    )
    DEDUP_WINDOW = _duration(
        timedelta(minutes=30),
        "A view of a page is a repeat if the same visitor has a stored view of it less than this before or after.",
    )
    SESSION_TIMEOUT = _duration(
        timedelta(minutes=2), "How long after its last heartbeat a session is active, that is, on the site now."
    )
    HEARTBEAT_DEDUP = _duration(
        timedelta(seconds=10),
        "A heartbeat is skipped if the session's last one, on the same path, was less than this ago.",
    )
    ROLLUPS = Setting(
        "immediate",
        fits=lambda value: value in ("immediate", "deferred"),
        kind='"immediate" or "deferred"',
        hint='Use "immediate" unless many processes record at once.',
        meaning="`immediate` stores a page view and updates the rollups in one transaction. `deferred` stores it as "
        "pending, and the cluster rolls it up within seconds. The stats are exact in both modes.",
    )
    BACKFILL_BATCH_SIZE = Setting(
        500,
        fits=lambda value: type(value) is int and 1 <= value <= LARGEST_BATCH,
        kind=f"a whole number from 1 to {LARGEST_BATCH:,}",
        hint="Use 500, for example.",
        meaning="How many page views a backfill rolls up in one transaction.",
    )
    SCHEDULES = _switch(
        default=True, meaning="Create the schedules in django-q2 after `migrate`. If False, create none."
    )
    CLEANUP_INTERVAL: Setting[timedelta] = Setting(
        timedelta(minutes=5),
        fits=_are_whole_minutes,
        kind="a timedelta of whole minutes, one to a day",
        hint="Use datetime.timedelta(minutes=5), for example.",
        meaning="How often stale sessions are deleted. Read when the schedule is created or restored.",
    )
    KEEP_PAGE_VIEWS: Setting[timedelta | None] = Setting(
        None,
        fits=_are_whole_days,
        kind=f"None or a timedelta of whole days, 2 to {LONGEST_KEPT.days:,}",
        hint="Use datetime.timedelta(days=730), for example, or None.",
        meaning="How long page views are kept. Older ones are deleted each night; their counts stay. None keeps them "
        "for ever.",
    )
    EXCLUDE: Setting[tuple[str, ...] | list[str]] = Setting(
        ("admin:", "pagestats:", "pagestats_beacons:"),
        fits=lambda value: isinstance(value, (list, tuple)) and all(map(_is_place, value)),
        kind="a list of path prefixes and URL namespaces",
        hint='Use ["admin:", "pagestats:", "pagestats_beacons:", "/private/"], for example: a namespace ends with a '
        "colon, a path begins with a slash.",
        meaning="What not to record: paths that begin with an entry, or, if the entry ends with a colon, all pages of "
        "that URL namespace, wherever it is mounted. Your list replaces the default.",
    )
    EXCLUDE_STAFF = _switch(default=False, meaning="Do not record the page views of staff members who are logged in.")
    COUNT_NO_STORE = _switch(default=False, meaning="Also record pages that are sent with `Cache-Control: no-store`.")
    OPT_OUTS: Setting[tuple[str, ...] | list[str]] = Setting(
        (),
        fits=lambda value: isinstance(value, (list, tuple)) and all(name in ("dnt", "gpc") for name in value),
        kind='a list of "gpc" and "dnt"',
        hint='Use ["gpc"], for example: Global Privacy Control.',
        meaning="Opt-out signals to honour: `gpc` (Global Privacy Control) and `dnt` (Do Not Track).",
    )
    IDENTITY = Setting(
        "anonymous",
        fits=_is_identity,
        kind='"anonymous", "cookie", "client" or a dotted path',
        hint='Use "anonymous", for example.',
        meaning="How visitors are identified: `anonymous`, `cookie`, `client` (the browser sends an id), or the dotted "
        "path of your own function or class.",
    )
    TRUSTED_PROXIES: Setting[tuple[str, ...] | list[str]] = Setting(
        tuple(PROXY_WORDS),
        fits=lambda value: _are_texts(value) and not _wrong_proxy(value),
        why=_wrong_proxy,
        kind="a list of proxies",
        hint='Use ["loopback", "private", "link-local", "unix"], or networks such as "203.0.113.0/24".',
        meaning="The proxies whose `X-Forwarded-For` and `Forwarded` headers are trusted: words, addresses, networks.",
    )
    PUBLIC = _switch(
        default=False,
        meaning="Let anybody read the stats. The public sees the totals of the whole site, but only these pages by "
        "name: the home page, `/stats`, pages of a content source, and paths that match `PAGESTATS_CLIENT_PATHS`.",
    )
    CLIENT_PATHS: Setting[tuple[str, ...] | list[str]] = Setting(
        (),
        fits=lambda value: _are_texts(value) and not _wrong_pattern(value),
        why=_wrong_pattern,
        kind="a list of regular expressions",
        hint='Use [r"/docs/.*"], for example.',
        meaning="Regular expressions, each for a whole path: paths that the API accepts from browsers although no URL "
        "pattern resolves them.",
    )
    THROTTLE = _rate(
        "120/min",
        "Rate limit of each API endpoint for one client address (for IPv6, one /64 network). Kept in Django's cache.",
    )
    THROTTLE_NEW_PATHS = _rate(
        "100/day", "Rate limit, per client address, for page views of paths that have never been seen before."
    )
    CONTENT: Setting[dict[str, dict[str, Any]]] = Setting(
        {},
        fits=lambda value: isinstance(value, dict) and not _wrong_source(value),
        why=_wrong_source,
        kind="a dict of content sources",
        hint='Use {"posts": {"model": "blog.Post", "published": {"published": True}, '
        '"title": "title", "slug": "slug", "type": "blog"}}, for example.',
        meaning="The content sources: where titles, page types and the counts of published things come from.",
    )

    @classmethod
    def all(cls) -> list[Setting[Any]]:
        """Return every setting in the order of this class."""
        return [setting for setting in vars(cls).values() if isinstance(setting, Setting)]


conf = Settings()
