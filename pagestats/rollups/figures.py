"""What one session adds to each stored number: a pure function of its views."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from pagestats.dimensions import Key


class Figure(NamedTuple):
    """One stored number: `name` of the key's rollup on `day`; with `previous_day`, the visitors of that return."""

    name: str
    key: Key
    day: date
    previous_day: date | None = None


def cells(days: Mapping[Key, Iterable[date]]) -> Counter[Figure]:
    """Return what one session adds to each stored number.

    Each day with a view is one visitor of that day. The first such day is one new visitor; each later day is one return
    from the day before it.

    Args:
        days: by key, the reporting days of the session's views, one for each view, in any order.
    """
    added: Counter[Figure] = Counter()
    for key, viewed in days.items():
        for name, day, previous_day, count in _of_key(sorted(viewed)):
            added[Figure(name, key, day, previous_day)] += count
    return added


def change(key: Key, before: Days, new: Days) -> Iterator[tuple[Figure, int]]:
    """Yield what new views of a session change in the numbers of a key.

    Args:
        before: the days of the session's other views that count for the key, in order.
        new: the days of its new views, in order, one for each view.
    """
    for name, day, previous_day, count in _change(before, new):
        yield Figure(name, key, day, previous_day), count


Days = tuple[date, ...]
Part = tuple[str, date, date | None, int]
"""The name of a number, its day, for a return the previous day, and by how much it changes."""


def _of_key(viewed: Sequence[date]) -> Iterator[Part]:
    previous_day = None
    for day, views in Counter(viewed).items():
        yield "views", day, None, views
        yield "visitors", day, None, 1
        if previous_day is None:
            yield "new_visitors", day, None, 1
        else:
            yield "returns", day, previous_day, 1
        previous_day = day


@lru_cache(maxsize=512)
def _change(before: Days, new: Days) -> tuple[Part, ...]:
    """Cached: on one day, most sessions change the same numbers in the same way."""
    changed: Counter[tuple[str, date, date | None]] = Counter()
    for sign, viewed in ((1, sorted([*before, *new])), (-1, before)):
        for name, day, previous_day, count in _of_key(viewed):
            changed[name, day, previous_day] += sign * count
    return tuple((*of_day, count) for of_day, count in changed.items() if count)
