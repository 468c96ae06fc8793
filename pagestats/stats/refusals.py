"""Why a figure is not given.

The message of an exception is English, as the API and the commands show it. What a page shows is translated: see
`Reason`.
"""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext

from pagestats.hits import PATH_LENGTH, shorten, unstorable_in

LARGEST_NUMBER_OF_ROWS = 10**9
"""For a limit and for an offset; every database can add the two."""


class Reason(str):
    """Why something isn't available: English text, which a page can translate.

    Args:
        message: the text, marked with `gettext_noop`.
        parts: what stands for its placeholders.
    """

    message: str
    parts: dict[str, Any]

    def __new__(cls, message: str, **parts: Any) -> Reason:
        """Return the English text."""
        reason = super().__new__(cls, message % parts)
        reason.message, reason.parts = message, parts
        return reason

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        """Return the arguments, for pickle: a site may cache a report."""
        return (self.message,), self.parts

    @property
    def translated(self) -> str:
        """The text in the active language."""
        return gettext(self.message) % self.parts


class Refused(ValueError):
    """The stats can't be given as they were asked for. The message says why, and what to ask for instead."""


class CannotTell(Refused):
    """Page views that are needed for the answer were pruned."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class UnknownPage(Refused):
    """Readers without the permission must not learn whether this value exists."""


def refuse_no_number_of_rows(name: str, number: Any) -> None:
    """Raise `Refused` unless a limit or an offset of that name is a number of rows."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= LARGEST_NUMBER_OF_ROWS:
        raise Refused(f"{name} is {number!r:.100}, not a whole number from 0 to {LARGEST_NUMBER_OF_ROWS:,}.")


def stored_path(name: str, path: Any) -> str:
    """Return the given path as it is stored; raise `Refused`, naming the argument, if it is not a path."""
    if not isinstance(path, str):
        raise Refused(f"{name} is {path!r:.100}, a {type(path).__name__}, not a path.")
    if found := unstorable_in(path):
        raise Refused(f"{name} is {path!r:.100}, with {found}. Leave it out.")
    return shorten(path, PATH_LENGTH)
