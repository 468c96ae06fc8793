"""A hit: a request or a beacon made into a value. No database here."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from pagestats.days import EARLIEST, LATEST

PATH_LENGTH = 512
SESSION_ID_LENGTH = 64
PAGE_TYPE_LENGTH = 64

_DIGEST_BYTES = 16


class InvalidHit(ValueError):
    """A hit has a text or an instant that not every database can store as it is."""


def instant(at: datetime | None) -> datetime:
    """Return an instant in UTC; None is now.

    This is the one place where None becomes now. Raises `InvalidHit` for anything but an aware datetime within YEARS.
    """
    if at is None:
        return timezone.now().astimezone(UTC)
    if not isinstance(at, datetime) or timezone.is_naive(at):
        raise InvalidHit(f"at is {at!r}, not an aware datetime. Give it a time zone, or leave it out for now.")
    if not EARLIEST <= at < LATEST:
        raise InvalidHit(f"at is {at!r}, not on or after {EARLIEST:%Y-%m-%d} and before {LATEST:%Y-%m-%d} in UTC.")
    return at.astimezone(UTC)


def shorten(text: str, length: int) -> str:
    """Return the text, or its beginning and a digest of the whole if it is longer than `length` characters.

    Two long texts with the same beginning stay different; the same text always gives the same result.
    """
    if len(text) <= length:
        return text
    digest = hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{text[: length - len(digest) - 1]}~{digest}"


UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""Characters that not every database can store: NUL, and surrogates, which are halves of a character."""


def unstorable_in(text: str) -> str:
    """Return which character of a text not every database can store, in words for an error; "" if there is none."""
    if text.isascii() and "\x00" not in text:
        return ""  # nearly always so, and checked in a tenth of the time
    found = UNSTORABLE.search(text)
    if found is None:
        return ""
    return (
        "a NUL character, which PostgreSQL can't store" if found[0] == "\x00" else "a lone surrogate, half a character"
    )


def storable(text: str) -> str:
    """Return a text with "?" in place of each character that not every database can store."""
    return UNSTORABLE.sub("?", text)


def _clean(name: str, value: Any, length: int) -> str:
    """Return a shortened text that all databases store byte for byte; raise `InvalidHit` for any other value."""
    if not isinstance(value, str):
        raise InvalidHit(f"{name} is {value!r}, a {type(value).__name__}, not a str.")
    if found := unstorable_in(value):
        raise InvalidHit(f"{name} is {value!r}, with {found}. Leave it out, or decode with errors='replace'.")
    return shorten(value, length)


@dataclass(frozen=True, kw_only=True, slots=True, init=False)
class Hit:
    """What arrived, not yet judged: a session was on a path at an instant.

    Args:
        path: the path of the page, never normalised; "/a" and "/a/" are two. Over 512 characters: shortened.
        session_id: the anonymous string that stands for one browser. Over 64 characters: shortened.
        at: an aware datetime, kept in UTC; None is now.
        page_type: "home", "stats", "blog", "page", "other", or a type of the site's own. Over 64: shortened.

    Raises `InvalidHit` for NUL characters, lone surrogates, values that aren't strings, and naive datetimes.
    """

    path: str
    session_id: str
    at: datetime
    page_type: str

    def __init__(self, *, path: str, session_id: str, at: datetime | None = None, page_type: str = "") -> None:
        set_field = object.__setattr__
        set_field(self, "path", _clean("path", path, PATH_LENGTH))
        set_field(self, "session_id", _clean("session_id", session_id, SESSION_ID_LENGTH))
        set_field(self, "at", instant(at))
        set_field(self, "page_type", _clean("page_type", page_type, PAGE_TYPE_LENGTH))
