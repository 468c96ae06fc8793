"""Work on many page views: in chunks of one transaction each, how far it has come, and how much there is to do."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal
from zoneinfo import ZoneInfo

from django.db import models

from pagestats import sql
from pagestats.conf import LARGEST_BATCH
from pagestats.days import DAY, EARLIEST, LATEST, day_of, start_of
from pagestats.formats import counted
from pagestats.models import PageView, PageViewQuerySet

VIEWS_IN_A_CHUNK = 500

Chunk = list[tuple[int, str]]
"""The primary keys of some page views, each with its session."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a piece of work has come: page views processed, and how many there are as far as is known."""

    processed: int = 0
    total: int = 0
    new_visitors: int = 0
    """Of a backfill: sessions that had no rolled-up view before."""
    earlier: int = 0
    """Of a pruning: how many of the processed page views a run deleted before it was stopped."""
    waiting_for: str = ""
    """What the work waits for, in words; "" while it doesn't wait."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """How much a change affects: page views, their sessions and their reporting days."""

    page_views: int
    sessions: int
    days: int

    def __str__(self) -> str:
        """Return the scope in words."""
        counts = {"page view": self.page_views, "session": self.sessions, "reporting day": self.days}
        views, sessions, days = (counted(count, noun) for noun, count in counts.items())
        return f"{views} of {sessions} on {days}"


def scope_of(rows: models.QuerySet[PageView], zone: ZoneInfo) -> Scope:
    """Return how many page views there are, and of how many sessions and days in a zone; an index finds each day."""
    return Scope(
        page_views=rows.count(),
        sessions=rows.aggregate(found=models.Count("session_id", distinct=True))["found"],
        days=sum(1 for _ in _days(rows.filter(timestamp__gte=EARLIEST, timestamp__lt=LATEST), zone)),
    )


def _days(rows: models.QuerySet[PageView], zone: ZoneInfo) -> Iterator[date]:
    ats = rows.order_by("timestamp").values_list("timestamp", flat=True)
    at = ats.first()
    while at is not None:
        day = day_of(at, zone)
        yield day
        at = ats.filter(timestamp__gte=start_of(day + DAY, zone)).first()


def chunk_size(batch_size: int | None, *, default: int = VIEWS_IN_A_CHUNK) -> int:
    """Return how many page views a chunk has, or starts with.

    Args:
        batch_size: page views, 1 to 10,000; None is the default.

    Raises:
        ValueError: for a number out of these bounds.
    """
    size = default if batch_size is None else batch_size
    if not 1 <= size <= LARGEST_BATCH:
        raise ValueError(f"batch_size is {size}, not a number from 1 to {LARGEST_BATCH:,}.")
    return size


def chunks(
    views: Callable[[], PageViewQuerySet], size: int, *, by: Literal["pk", "timestamp"], using: str
) -> Generator[Chunk, None, None]:
    """Yield page views, the first ones first, until none are left.

    The caller deletes or changes the page views of a chunk so that `views` doesn't return them again. Each chunk starts
    where the last one ended, so that the index entries of deleted rows are not read again and again. At the end it
    starts over, until there is nothing from the beginning either.

    Args:
        views: returns the page views that are left. It is called for each chunk, since the condition may change: days
            may be sealed meanwhile, for example.
        by: the column of an index that finds them.
    """
    columns = list(dict.fromkeys(["pk", "session_id", by]))
    # By a bound on the key, also before the first chunk, SQLite finds the index of pending page views, whatever the
    # statistics of the table say.
    beginning = 0 if by == "pk" else None
    reached: Any = beginning
    throttle = sql.WriteThrottle(using)
    while True:
        throttle.pause()
        left = views() if reached is None else views().filter(**{f"{by}__gte": reached})
        found = list(left.order_by(*dict.fromkeys([by, "pk"])).values_list(*columns)[:size])
        if found:
            yield [(row[0], row[1]) for row in found]
        elif reached == beginning:
            return
        reached = found[-1][columns.index(by)] if found else beginning
