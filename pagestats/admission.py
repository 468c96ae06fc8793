"""What may be recorded and shown, whichever door it comes by: which paths, and whose requests."""

from __future__ import annotations

from functools import lru_cache

from crawlerdetect import CrawlerDetect
from django.conf import settings
from django.http import HttpRequest
from django.urls import ResolverMatch, get_script_prefix, get_urlconf

from pagestats.conf import conf
from pagestats.content import is_client_path, patterns

LONGEST_USER_AGENT = 300
"""Characters in which a bot has to say that it is one: the time to look for it grows with their square."""


def is_known(path: str, match: ResolverMatch | None) -> bool:
    """Tell whether a path is one of the site: by its URL patterns, which the match is of, or by its own word."""
    return match is not None or is_client_path(path)


def is_excluded(path: str, match: ResolverMatch | None) -> bool:
    """Tell whether the site says that nothing is recorded of a path, which the match says the namespaces of."""
    places = tuple(conf.EXCLUDE)
    if path.startswith(tuple(place for place in places if place.startswith("/"))):
        return True
    if match is None:
        return False
    namespaces = {place.removesuffix(":") for place in places if place.endswith(":")}
    return not namespaces.isdisjoint([*match.namespaces, *match.app_names])


def path_of(request: HttpRequest) -> str:
    """Return the path that a page is recorded under: the whole one, as browsers have it.

    Under ASGI, Django's own has no prefix where FORCE_SCRIPT_NAME gives one that the server before it took away.
    """
    prefix = get_script_prefix()
    return request.path if request.path.startswith(prefix) else prefix + request.path_info.removeprefix("/")


def whole(path: str) -> str:
    """Return the path that a page is recorded under, of one that a browser has: its home may lack the last slash."""
    prefix = get_script_prefix()
    return prefix if f"{path}/" == prefix else path


def page_at(path: str, request: HttpRequest) -> ResolverMatch | None:
    """Return what the URL patterns of a request make of a whole path, or None.

    A middleware may have given the request patterns of its own, which are in use only if a view was looked for.
    """
    return patterns.match(path, urlconf=getattr(request, "urlconf", None) or get_urlconf())


OPT_OUTS = {"dnt": "HTTP_DNT", "gpc": "HTTP_SEC_GPC"}
"""The headers with the value 1 by which a browser asks not to be tracked."""


def why_nobody(request: HttpRequest) -> str:
    """Return the reason why, by its headers, nobody is counted who reads what a request asks for, else "".

    It is a bot, or wants to be none of those who are counted, or asks ahead.
    """
    if is_bot(request.META.get("HTTP_USER_AGENT", "")[:LONGEST_USER_AGENT]):
        return "bot"
    if any(request.META.get(OPT_OUTS[name]) == "1" for name in conf.OPT_OUTS):
        return "opt_out"
    return "prefetch" if is_speculative(request) else ""


def why_staff(request: HttpRequest) -> str:
    """Return the reason why the site leaves out who is logged in, else "". It may read the session."""
    return "staff" if conf.EXCLUDE_STAFF and is_staff(request) else ""


def is_speculative(request: HttpRequest) -> bool:
    """Tell whether a browser asked ahead, for a page that its reader may never open."""
    return any(
        speculation in request.META[header].lower()
        for header in ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_MOZ")
        if header in request.META
        for speculation in ("prefetch", "prerender", "preview")
    )


def is_staff(request: HttpRequest) -> bool:
    """Tell whether a member of the staff is logged in. Without a session cookie nobody is, and no session is read."""
    if settings.SESSION_COOKIE_NAME not in request.COOKIES:
        return False
    return bool(getattr(getattr(request, "user", None), "is_staff", False))


@lru_cache(maxsize=1024)
def is_bot(user_agent: str) -> bool:
    """Tell whether a user agent is a bot's, by its own word; none at all is one."""
    return not user_agent.strip() or bool(CrawlerDetect(user_agent=user_agent).isCrawler())
