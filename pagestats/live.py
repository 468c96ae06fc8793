"""Who is here now, as pages ask for it again and again: an answer with a tag, or that it is still the same."""

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

MOST_ROWS = 100
TITLES_ARE_KEPT = 30
"""Seconds, in Django's cache: so that whoever asks again, each 10 to 15, costs one statement, of active sessions."""
MOST_ASKED_FOR = 500
"""Titles that are kept at most, with those of paths that somebody asked for: anybody may ask for any."""


def active_response(
    request: HttpRequest, *, public: bool, path: str | None = None, limit: int = MOST_ROWS
) -> HttpResponse:
    """Answer who is on the site now as JSON with an ETag; 304 if the request names the one that it would have.

    The tag is that of the answer itself, so that it changes when sessions expire, too, which nobody writes.

    Arguments: as of `stats.active`, and raises what it raises. `public` has to be True unless the reader may read all.
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
    """Return what `shown_titles` does, or did some seconds ago.

    All are one entry: a cache that holds a few hundred would drop others of its own for them. Of a path that was asked
    for it is kept only that it may be shown.
    """
    key = f"pagestats.titles.{'public' if public else 'all'}.{get_language()}"
    since, known = kept([key]).get(key, (0.0, {}))
    if not 0 <= time.time() - since < TITLES_ARE_KEPT:
        since, known = time.time(), {}
    wanted = list(paths)
    if fresh := [path for path in wanted if path not in known]:
        shown = shown_titles(fresh, public=public)
        known = {**known, **{path: shown.get(path) for path in fresh}}
        if asked_for not in fresh or (asked_for in shown and len(known) <= MOST_ASKED_FOR):
            keep({key: (since, known)}, seconds=TITLES_ARE_KEPT)
    return {path: found for path in wanted if (found := known[path]) is not None}
