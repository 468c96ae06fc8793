"""The path that a page is recorded under, and whether the site has that page."""

from __future__ import annotations

from urllib.parse import unquote, unquote_to_bytes

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.urls import ResolverMatch, get_script_prefix, get_urlconf
from django.utils.encoding import repercent_broken_unicode

from pagestats.content import is_client_path, patterns


def path_of(request: HttpRequest) -> str:
    """Return the path that the page of a request is recorded under: the whole path, as browsers show it.

    Under ASGI, `request.path` lacks the prefix of FORCE_SCRIPT_NAME when the server in front has removed it.
    """
    prefix = get_script_prefix()
    return request.path if request.path.startswith(prefix) else prefix + request.path_info.removeprefix("/")


def sent_path(path: str, request: HttpRequest) -> str:
    """Return the path that a page is recorded under, given the path that a browser has sent for it.

    It equals what `path_of` returns for the request of that page. The browser's path is percent-encoded; bytes that
    aren't UTF-8 stay so under WSGI, and ASGI servers replace them by U+FFFD. Browsers may show the home page of a site
    below a prefix without its last slash.
    """
    is_asgi = isinstance(request, ASGIRequest)
    decoded = unquote(path) if is_asgi else repercent_broken_unicode(unquote_to_bytes(path)).decode()
    prefix = get_script_prefix()
    return prefix if f"{decoded}/" == prefix else decoded


def page_at(path: str, request: HttpRequest) -> ResolverMatch | None:
    """Return what the URL patterns that are in use for a request make of a whole path, or None.

    A middleware may have given the request URL patterns of its own. Django puts those in use only when it resolves the
    request, so they are read from the request first.
    """
    return patterns.match(path, urlconf=getattr(request, "urlconf", None) or get_urlconf())


def is_known(path: str, match: ResolverMatch | None) -> bool:
    """Return whether the site has a page at a path: a URL pattern matched it, or PAGESTATS_CLIENT_PATHS lists it."""
    return match is not None or is_client_path(path)
