"""Who is on the site now, as JSON for scripts that poll it: with an ETag, or 304 while it is still the same."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from functools import partial

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.cache import get_conditional_response
from django.utils.translation import get_language

from pagestats.cache import keep, kept
from pagestats.content import Titled
from pagestats.stats import active, shown_titles, stored_path

MOST_PATHS = 100
SECONDS_TITLES_ARE_KEPT = 30
"""In Django's cache, so that a script that polls every 10 to 15 seconds costs one statement, of active sessions."""
MOST_TITLES_KEPT = 500
"""The limit for paths that somebody asked for, since anybody may ask for any."""


def active_response(
    request: HttpRequest, *, public: bool, path: str | None = None, limit: int = MOST_PATHS
) -> HttpResponse:
    """Answer who is on the site now as JSON with an ETag; with 304 if the request has that tag already.

    The tag is computed from the answer itself, so it also changes when sessions expire, which writes nothing.

    Args:
        public: must be True unless the reader may see all. The other arguments, and the errors, are those of
            `stats.active`.
    """
    asked_for = None if path is None else stored_path("path", path)
    titles = partial(_kept_titles, public=public, asked_for=asked_for)
    now = active(path=path, limit=limit, public=public, titles=titles)
    titled = titles(row.path for row in now.by_path)
    answer: HttpResponse = JsonResponse(
        {
            "visitors": now.visitors,
            "by_path": [{"path": row.path, "title": titled[row.path].title, "count": row.count} for row in now.by_path],
        }
    )
    etag = f'"{hashlib.blake2b(answer.content, digest_size=16).hexdigest()}"'
    answer.headers["ETag"] = etag
    answer.headers["Cache-Control"] = "private, no-cache"
    return get_conditional_response(request, etag=etag, response=answer) or answer


def _kept_titles(paths: Iterable[str], *, public: bool, asked_for: str | None) -> Mapping[str, Titled]:
    """Return what `shown_titles` returns, or returned some seconds ago.

    All titles are one entry of the cache, since a cache with room for a few hundred entries would drop others for them.
    A path that somebody asked for is kept only if it may be shown.
    """
    key = f"pagestats.titles.{'public' if public else 'all'}.{get_language()}"
    since, known = kept([key]).get(key, (0.0, {}))
    if not 0 <= time.time() - since < SECONDS_TITLES_ARE_KEPT:
        since, known = time.time(), {}
    wanted = list(paths)
    if fresh := [path for path in wanted if path not in known]:
        shown = shown_titles(fresh, public=public)
        known = {**known, **{path: shown.get(path) for path in fresh}}
        if asked_for not in fresh or (asked_for in shown and len(known) <= MOST_TITLES_KEPT):
            keep({key: (since, known)}, seconds=SECONDS_TITLES_ARE_KEPT)
    return {path: found for path in wanted if (found := known[path]) is not None}
