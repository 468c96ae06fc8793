"""Who is on the site now, and on which page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from django.db.models import Count, Model

from pagestats import content
from pagestats.content import Titled
from pagestats.hits import instant
from pagestats.models import ActiveSession
from pagestats.stats.refusals import UnknownPage, refuse_no_number_of_rows, stored_path
from pagestats.stats.titled import shown_titles


class PathCount(NamedTuple):
    """How many active visitors are on a path."""

    path: str
    count: int  # type: ignore[assignment]  # it hides tuple.count, which a pair has no use for


@dataclass(frozen=True, kw_only=True, slots=True)
class Active:
    """Who is on the site, or on one of its pages, at one moment."""

    visitors: int
    by_path: tuple[PathCount, ...]


def active(
    *,
    at: datetime | None = None,
    path: str | None = None,
    limit: int | None = None,
    public: bool = False,
    titles: Callable[[Iterable[str]], Mapping[str, Titled]] | None = None,
) -> Active:
    """Read who is on the site now, in one statement that reads the active sessions alone.

    Args:
        at: the aware datetime at which visitors are active or not; None is now.
        path: of one page; None is the whole site.
        limit: the largest number of paths to list; None is all. The number of visitors is of all.
        public: True is for readers without the permission, since a path can be a secret: only paths that a content
            source knows or PAGESTATS_CLIENT_PATHS matches are listed. The number of visitors is of all.
        titles: returns the titles of those paths that may be shown, for a caller that caches them.

    Raises:
        UnknownPage: `public` is True and `path` isn't public.
        Refused: the limit is not a number of rows, or the path is not a path.
    """
    refuse_no_number_of_rows("limit", 0 if limit is None else limit)
    stored = None if path is None else stored_path("path", path)
    titles = titles or partial(shown_titles, public=public)
    if stored is not None and public and stored not in titles([stored]):
        raise UnknownPage(f"path is {path!r:.100}, which isn't a public page.")
    counts = _by_path(instant(at), stored)
    shown = titles(row.path for row in counts) if public else None
    return Active(
        visitors=sum(count for _, count in counts),
        by_path=tuple([row for row in counts if shown is None or row.path in shown][:limit]),
    )


def active_visitors(path: str | None = None, *, at: datetime | None = None) -> int:
    """Return how many visitors are on the site now, or on the page at one path.

    Args:
        path: that of the page; None is the whole site. Raises `Refused` if it is not a path.
        at: the aware datetime at which visitors are active or not; None is now.
    """
    sessions = ActiveSession.objects.active(instant(at))
    return (sessions if path is None else sessions.filter(current_path=stored_path("path", path))).count()


def active_on(thing: Model, *, at: datetime | None = None) -> int:
    """Return how many visitors are on the page of one object now; 0 if no content source has its page."""
    path = content.path_of(thing)
    return 0 if path is None else active_visitors(path, at=at)


def _by_path(at: datetime, path: str | None) -> list[PathCount]:
    """Return the paths, most visitors first, equal counts by path, byte by byte."""
    sessions: Any = ActiveSession.objects.active(at)
    if path is not None:
        sessions = sessions.filter(current_path=path)
    counts = sessions.values("current_path").annotate(count=Count("pk")).order_by("-count", "current_path")
    return [PathCount(*row) for row in counts.values_list("current_path", "count")]
