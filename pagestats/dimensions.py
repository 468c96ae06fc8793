"""The register of dimensions: every way in which page views are broken down, each described in one place.

Recording, verification, reports, the API and its schema, the admin, CSV and the commands loop over the register. To add
a dimension, register one more entry; nothing else changes.

What is in the register is verified, and what is not in it can't be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple

from django.db.models import F, Q, Value
from django.db.models.lookups import Exact
from django.utils.translation import gettext_lazy as _

from pagestats import content
from pagestats.content import Titled

Scope = Literal["view", "visit"]
Neighbours = Literal["visitor", "path", "session"]


class Key(NamedTuple):
    """What is counted by day: one value of one dimension."""

    dimension: str
    value: str


def _titled_by_itself(values: Iterable[str]) -> dict[str, Titled]:
    return {value: Titled(value, "") for value in values}


def _never_public(value: str, titled: Titled) -> bool:
    return False


@dataclass(frozen=True, kw_only=True, eq=False)
class Dimension:
    """One way to break page views down.

    Args:
        name: how it is stored, and what `report(dimension=…)`, the API and commands call it. At most 32 characters.
        value_of: returns the value of a page view, given its path. A pure function; its value is at most 512
            characters.
        expression: the same in SQL: returns the ORM expression of the value, given the one of the path.
        label: its values as a heading, in the plural.
        noun: one of its values, in English, as commands and errors say it.
        scope: "view" when each view has a value of its own, "visit" when all views of a visit share one.
        titles: returns the title and the type of each of some values, as a page shows them.
        is_public: returns whether a value, with its title, may be shown to readers without the permission.
        has_rows: whether `report` lists its values; only the whole site, which has one value, doesn't.
        is_rolled_up: whether `Rollup` and `Return` have rows of it.
        neighbours: where a writer finds the days on which a session was last and next counted for a value. "visitor":
            in the row of its visitor, which knows of pruned page views too; "path": the nearest views of the same path,
            which are looked up with each view; "session": among all rolled-up views of the session, one more read for
            each view of a session that was there before.
    """

    name: str
    value_of: Callable[[str], str]
    expression: Callable[[Any], Any]
    label: Any
    noun: str
    scope: Scope = "view"
    titles: Callable[[Iterable[str]], Mapping[str, Titled]] = _titled_by_itself
    is_public: Callable[[str, Titled], bool] = _never_public
    has_rows: bool = True
    is_rolled_up: bool = True
    neighbours: Neighbours = "session"

    def __str__(self) -> str:
        return self.name

    @property
    def is_whole_site(self) -> bool:
        """Whether it has one value, which every page view counts for."""
        return not self.has_rows

    def key(self, path: str) -> Key:
        """Return what a view of a path counts for in this dimension."""
        return Key(self.name, self.value_of(path))

    def counts_for(self, value: Any) -> Q:
        """Return the condition of the page views that count for a value, which may be an `OuterRef`."""
        if self.is_whole_site:
            return Q()
        if self.neighbours == "path":
            return Q(path=value)
        return Q(Exact(self.expression(F("path")), value))


SITE = Dimension(
    name="site",
    value_of=lambda path: "",
    expression=lambda path: Value(""),
    label=_("Whole site"),
    noun="site",
    has_rows=False,
    neighbours="visitor",
)
"""The whole site; its one value is the empty string."""

PAGE = Dimension(
    name="page",
    value_of=lambda path: path,
    expression=lambda path: path,
    label=_("Pages"),
    noun="page",
    titles=content.titles,
    is_public=lambda path, titled: titled != Titled(path, "other") or content.is_client_path(path),
    neighbours="path",
)
"""The pages, each by its path."""

WHOLE_SITE = Key(SITE.name, "")

_register: dict[str, Dimension] = {dimension.name: dimension for dimension in (SITE, PAGE)}


def registered() -> tuple[Dimension, ...]:
    """Return all dimensions, the whole site first."""
    return tuple(_register.values())


@cache
def rolled_up() -> tuple[Dimension, ...]:
    """Return the dimensions of which `Rollup` has rows, the whole site first."""
    return tuple(dimension for dimension in _register.values() if dimension.is_rolled_up)


@cache
def need_all_views() -> bool:
    """Return whether a writer has to read all rolled-up views of a session, for the neighbours in some dimension."""
    return any(dimension.neighbours == "session" for dimension in rolled_up())


def with_rows() -> tuple[Dimension, ...]:
    """Return the dimensions whose values `report` lists, pages first."""
    return tuple(dimension for dimension in _register.values() if dimension.has_rows)


def named(name: str) -> Dimension:
    """Return the dimension of that name; raise `KeyError` for a name that is not registered."""
    return _register[name]


@lru_cache(maxsize=2048)
def keys(path: str) -> tuple[Key, ...]:
    """Return what a view of a path counts for: one key for each dimension that is rolled up."""
    return tuple(dimension.key(path) for dimension in rolled_up())


class NotRegistered(LookupError):
    """Counts of a dimension that is not in the register were about to be stored."""


def refuse_unregistered(names: Iterable[str]) -> None:
    """Raise `NotRegistered` for the name of a dimension of which `Rollup` must have no rows."""
    for name in names:
        if name not in _register or not _register[name].is_rolled_up:
            raise NotRegistered(
                f"No dimension {name!r} that is rolled up is registered, so nothing would verify its counts. Register"
                " it with pagestats.dimensions.register() before anything is recorded."
            )


def register(dimension: Dimension) -> None:
    """Add a dimension; raise `ValueError` when one of that name is there.

    A site that has page views already then runs `manage.py verify_aggregates --repair`, which counts them for it.
    """
    if dimension.name in _register:
        raise ValueError(f"There is a dimension {dimension.name!r} already. Give this one another name.")
    _register[dimension.name] = dimension
    _forget()


@contextmanager
def also(dimension: Dimension) -> Iterator[Dimension]:
    """Register a dimension for the length of a `with` block, as tests do."""
    register(dimension)
    try:
        yield dimension
    finally:
        del _register[dimension.name]
        _forget()


def _forget() -> None:
    for function in (rolled_up, need_all_views, keys):
        function.cache_clear()
