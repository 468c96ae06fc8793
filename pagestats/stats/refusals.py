"""Why a figure is not given: each message says what to ask instead."""

from __future__ import annotations

from typing import Any

from pagestats.hits import PATH_LENGTH, shorten, unstorable_in

MOST_ROWS = 10**9
"""Of a limit and an offset; every database can add the two."""


class Refused(ValueError):
    """Figures can't be given as they were asked for. The message says why, and what to ask instead."""


class CannotTell(Refused):
    """Page views that would tell the figure were pruned."""


class UnknownPage(Refused):
    """A page is none that readers without the permission may know of, whether there is one or not."""


def refuse_no_number_of_rows(name: str, number: Any) -> None:
    """Raise `Refused` for a limit or an offset of that name that is none."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MOST_ROWS:
        raise Refused(f"{name} is {number!r:.100}, not a whole number from 0 to {MOST_ROWS:,}.")


def stored_path(name: str, path: Any) -> str:
    """Return a path that is asked for as it is stored; raise `Refused`, with the argument's name, for what is none."""
    if not isinstance(path, str):
        raise Refused(f"{name} is {path!r:.100}, a {type(path).__name__}, not a path.")
    if found := unstorable_in(path):
        raise Refused(f"{name} is {path!r:.100}, with {found}. Leave it out.")
    return shorten(path, PATH_LENGTH)
