"""Which values of a dimension may be shown to whom, with their titles, and where the links of pages lead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from django.utils.encoding import escape_uri_path

from pagestats.content import Titled
from pagestats.dimensions import PAGE, Dimension


def shown_titles(values: Iterable[str], *, public: bool, dimension: Dimension = PAGE) -> dict[str, Titled]:
    """Return the titles of values; with `public`, only of those that readers without the permission may see."""
    titles = dict(dimension.titles(values))
    if not public:
        return titles
    return {value: titled for value, titled in titles.items() if dimension.is_public(value, titled)}


MOST_LOOKED_AT = 2_000
"""How far down a ranking to look for values that are public: the title of each has to be read."""

RowT = TypeVar("RowT", bound=Sequence[Any])
Ranking = Callable[[int | None], tuple[list[RowT], int]]
"""Reads its first so many rows (None: all), each of which begins with its value, and the number of all."""


class Shown(NamedTuple, Generic[RowT]):
    """Rows of a ranking that may be shown."""

    rows: list[RowT]
    titles: dict[str, Titled]
    total: int
    """How many rows the ranking has, whether they may be shown or not."""


def shown_to_all(
    ranking: Ranking[RowT], most: int | None, *, skip: int = 0, dimension: Dimension = PAGE
) -> Shown[RowT]:
    """Return the first rows of a ranking for a reader who may see all.

    Args:
        most: how many rows; None is all.
        skip: how many rows at the beginning are not shown, and get no title.
    """
    rows, total = ranking(most)
    return Shown(rows, shown_titles((row[0] for row in rows[skip:]), public=False, dimension=dimension), total)


def shown_to_public(
    ranking: Ranking[RowT], wanted: int | None, *, look_at_all: bool = False, dimension: Dimension = PAGE
) -> Shown[RowT]:
    """Return the rows of a ranking that are public, among its first `MOST_LOOKED_AT`.

    Args:
        wanted: how many rows suffice; there may be more. None is all, and looks at the whole ranking.
        look_at_all: whether to look at as many rows as allowed at once, since few of them will be wanted.
    """
    shown: Shown[RowT] = Shown([], {}, 0)
    for depth in _depths(wanted, look_at_all=look_at_all):
        rows, total = ranking(depth)
        titles = shown_titles((row[0] for row in rows), public=True, dimension=dimension)
        shown = Shown([row for row in rows if row[0] in titles], titles, total)
        if depth is None or wanted is None or len(shown.rows) >= wanted or depth >= total:
            break
    return shown


def _depths(wanted: int | None, *, look_at_all: bool) -> Iterator[int | None]:
    """Yield how far down a ranking to look: four times as far each time."""
    if wanted is None:
        yield None
        return
    depth = MOST_LOOKED_AT if look_at_all else wanted
    while depth < MOST_LOOKED_AT:
        yield depth
        depth = 4 * max(depth, 1)
    yield MOST_LOOKED_AT


def address(path: str) -> str:
    """Return the address of a page for a link; "" for a path that a browser would take for another host."""
    return escape_uri_path(path) if path.startswith("/") and path[1:2] not in ("/", "\\") else ""
