"""Which paths may be shown to whom, with their titles, and where their links lead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from django.utils.encoding import escape_uri_path

from pagestats import content
from pagestats.content import Titled, is_client_path


def shown_titles(paths: Iterable[str], *, public: bool) -> dict[str, Titled]:
    """Return the titles of paths; for the public, only of those that a content source knows or a setting allows."""
    titles = content.titles(paths)
    if not public:
        return titles
    return {path: titled for path, titled in titles.items() if titled != Titled(path, "other") or is_client_path(path)}


MOST_LOOKED_AT = 2_000
"""How far down a ranking pages are looked for that the public may know of: each path has to be resolved."""


RowT = TypeVar("RowT", bound=Sequence[Any])


def shown_of(
    ranking: Callable[[int | None], tuple[list[RowT], int]],
    wanted: int | None,
    *,
    public: bool,
    searching: bool = False,
    first: int = 0,
) -> tuple[list[RowT], dict[str, Titled], int]:
    """Return the first rows of a ranking of paths that may be shown, the titles of their paths, and the number of all.

    Arguments:
        ranking: returns its first so many rows (None: all), each of which begins with a path, and how many there are.
        wanted: how many rows; None is all. There may be more of them.
        public: whether only those may be shown that everybody may know of.
        searching: whether few of the rows will be found.
        first: how many rows at the beginning are not shown, and need no title.
    """
    shown: list[RowT] = []
    titles: dict[str, Titled] = {}
    total = 0
    for most in _depths(wanted, public=public, searching=searching):
        rows, total = ranking(most)
        titles = shown_titles((row[0] for row in rows[first:]), public=public)
        shown = [row for row in rows if row[0] in titles]
        if wanted is None or most is None or len(shown) >= wanted or most >= total:
            break
    return shown, titles, total


def _depths(wanted: int | None, *, public: bool, searching: bool = False) -> Iterator[int | None]:
    """Yield how far down a ranking to look for some pages that may be shown: four times as far each time.

    Arguments:
        wanted: how many pages; None is all, and then all of the ranking is looked at.
        public: whether only some may be shown, and `MOST_LOOKED_AT` are looked at for so many of them.
        searching: whether few will be found, and it is looked as far as it may be at once.
    """
    if wanted is None or not public:
        yield None if searching else wanted
        return
    depth = MOST_LOOKED_AT if searching else wanted
    while depth < MOST_LOOKED_AT:
        yield depth
        depth = 4 * max(depth, 1)
    yield MOST_LOOKED_AT


def address(path: str) -> str:
    """Return a path as a link has it; "" for one that a browser would take for another host."""
    return escape_uri_path(path) if path.startswith("/") and path[1:2] not in ("/", "\\") else ""
