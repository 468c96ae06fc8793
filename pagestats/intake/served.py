"""The steps of a page that the site served: was the response a page that a person asked for?"""

from __future__ import annotations

from pagestats.conf import conf
from pagestats.intake import paths
from pagestats.intake.candidates import Candidate, Drop

HTML = ("text/html", "application/xhtml+xml")
SERVED = (200, 304)

METHOD = Drop("method")
STATUS = Drop("status")
NO_DOCUMENT = Drop("no_document")
FRAGMENT = Drop("fragment")
NO_STORE = Drop("no_store")


def drop_method(candidate: Candidate) -> Drop | None:
    """Drop every request but a GET."""
    return None if candidate.request.method == "GET" else METHOD


def drop_status(candidate: Candidate) -> Drop | None:
    """Drop redirects and errors."""
    return None if candidate.response.status_code in SERVED else STATUS


def drop_no_document(candidate: Candidate) -> Drop | None:
    """Drop what isn't HTML. A 304 has no content type, so it counts by what the request asks for."""
    if candidate.response.status_code == 200:
        return None if is_html(candidate) else NO_DOCUMENT
    destination = candidate.request.META.get("HTTP_SEC_FETCH_DEST")
    is_document = "text/html" in candidate.header("HTTP_ACCEPT") if destination is None else destination == "document"
    return None if is_document else NO_DOCUMENT


def drop_fragment(candidate: Candidate) -> Drop | None:
    """Drop a part of a page, which a script or a frame asked for. A boosted link of htmx asks for a whole page."""
    meta = candidate.request.META
    if meta.get("HTTP_HX_BOOSTED") == "true":
        return None
    if (
        meta.get("HTTP_HX_REQUEST") == "true"
        or meta.get("HTTP_TURBO_FRAME")
        or meta.get("HTTP_X_REQUESTED_WITH") == "XMLHttpRequest"  # from jQuery; an app sends its own name
        or meta.get("HTTP_SEC_FETCH_DEST", "document") != "document"
    ):
        return FRAGMENT
    return None


def drop_no_store(candidate: Candidate) -> Drop | None:
    """Drop a page that nobody may store, unless the site counts those: its path may be a secret."""
    return NO_STORE if is_kept_out(candidate) else None


def read_path(candidate: Candidate) -> None:
    """Add the path of the page."""
    candidate.path = paths.path_of(candidate.request)


def is_html(candidate: Candidate) -> bool:
    """Return whether the response is HTML by its own word."""
    return candidate.response_header("Content-Type").startswith(HTML)


def is_kept_out(candidate: Candidate) -> bool:
    """Return whether the response is `no-store`, and the site doesn't count such pages."""
    return "no-store" in candidate.response_header("Cache-Control") and not conf.COUNT_NO_STORE


SHOWN_LATER = {FRAGMENT.reason, "prefetch", "shared_response"}
"""The reasons why a page wasn't counted that a person may read all the same: a browser or a service worker asked for it
ahead of time, or no cookie could be set on it."""


def signal_to_tracker(candidate: Candidate, drop: Drop) -> str:
    """Return what the tracker of a dropped page should do: "0" or "1", "" if it needs no signal.

    "0": report nothing, as of an error, or a path that may be a secret. "1": report the page when somebody reads it.

    A cache stores the header with the page, so there is a signal only for what holds for everybody who gets that copy.
    """
    if drop is NO_DOCUMENT or not is_html(candidate):
        return ""
    if drop is NO_STORE or candidate.response.status_code not in SERVED or is_kept_out(candidate):
        return "0"
    return "1" if drop.reason in SHOWN_LATER else ""
