"""What the package must answer, worked out from the definitions: a plain model, with lists and sets and no increments.

`Site` is the model, and asks no database. `expected_rollups` says what a list of page views must have in the derived
tables; `stored_rollups` reads what is in them, so that a test compares the two as whole values.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from pagestats.hits import shorten

DEDUP_WINDOW = datetime.timedelta(minutes=30)
SESSION_TIMEOUT = datetime.timedelta(minutes=2)
HEARTBEAT_DEDUP = datetime.timedelta(seconds=10)
PATH_LENGTH = 512
SESSION_ID_LENGTH = 64
PAGE_TYPE_LENGTH = 64
CONTENT_TYPES = {"posts": "blog", "pages": "page"}


class Refused(ValueError):
    """The text holds a NUL or a lone surrogate, or is no text."""


def is_refused(text: object) -> bool:
    """Say whether no door may store this text: NUL, half of a surrogate pair, or not a string at all."""
    return not isinstance(text, str) or any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)


@dataclasses.dataclass(eq=False)
class View:
    """A stored page view, with its path and session id in full length."""

    path: str
    page_type: str
    session_id: str
    timestamp: datetime.datetime
    rolled_up: bool = True


@dataclasses.dataclass(eq=False)
class Content:
    """A post or a page of the site; ``pk`` is the test's own note of the row that stands for it."""

    slug: str
    title: str
    published: bool
    pk: Any = None


class Site:
    """The rules of the design over plain lists, all rows in order of creation.

    `original=True` neither refuses nor shortens a text, as the recorded system did not. Otherwise sessions and paths
    are told apart by their full text, and shortened only in what comes out: two long ones that were merged would show.
    """

    def __init__(self, *, original: bool = False) -> None:
        self.original = original
        self.views: list[View] = []
        self.sessions: dict[str, tuple[str, datetime.datetime]] = {}
        self.content: dict[str, list[Content]] = {source: [] for source in CONTENT_TYPES}

    # Page views

    def record(self, path: str, session_id: str, at: datetime.datetime, page_type: str = "") -> View | None:
        """Store a view and return it, or return None: a repeat."""
        self.judge(path, session_id, page_type)
        for view in self.views:
            same = view.session_id == session_id and view.path == path
            if same and at - DEDUP_WINDOW < view.timestamp < at + DEDUP_WINDOW:
                return None
        view = View(path, page_type, session_id, at)
        self.views.append(view)
        return view

    def record_all(self, hits: Iterable[tuple[str, str, datetime.datetime, str]]) -> int:
        """Record (path, session id, at, page type) one by one in order of (at, position); return the number stored."""
        in_order = sorted(hits, key=lambda hit: hit[2])
        return sum(self.record(*hit) is not None for hit in in_order)

    def insert(self, path: str, page_type: str, session_id: str, timestamp: datetime.datetime) -> View:
        """Store a pending view behind the rules' back."""
        self.judge(path, session_id, page_type)
        view = View(path, page_type, session_id, timestamp, rolled_up=False)
        self.views.append(view)
        return view

    def delete(self, views: Collection[View]) -> None:
        """Delete views behind the rules' back."""
        self.views = [view for view in self.views if view not in views]

    def pending(self) -> list[View]:
        return [view for view in self.views if not view.rolled_up]

    def rolled_up(self) -> list[View]:
        """The rolled-up views, as they are stored."""
        return [view for view in self.stored_views() if view.rolled_up]

    def stored_views(self) -> list[View]:
        return [
            View(
                self.stored_path(view.path),
                view.page_type if self.original else shorten(view.page_type, PAGE_TYPE_LENGTH),
                self.stored_session_id(view.session_id),
                view.timestamp,
                view.rolled_up,
            )
            for view in self.views
        ]

    def rows(self) -> list[tuple[str, str, str, datetime.datetime, bool]]:
        """The page views as whole rows, in order of creation."""
        return [
            (view.path, view.page_type, view.session_id, view.timestamp, view.rolled_up) for view in self.stored_views()
        ]

    # Active sessions

    def heartbeat(self, path: str, session_id: str, at: datetime.datetime) -> str:
        self.judge(path, session_id, "")
        if session_id not in self.sessions:
            self.sessions[session_id] = (path, at)
            return "created"
        current_path, last_seen = self.sessions[session_id]
        if at < last_seen or (path == current_path and at - last_seen < HEARTBEAT_DEDUP):
            return "skipped"
        self.sessions[session_id] = (path, at)
        return "updated"

    def cleanup(self, at: datetime.datetime) -> list[str]:
        """Delete the stale sessions; return their ids, sorted."""
        stale = [session_id for session_id, (_, last_seen) in self.sessions.items() if last_seen < at - SESSION_TIMEOUT]
        for session_id in stale:
            del self.sessions[session_id]
        return sorted(self.stored_session_id(session_id) for session_id in stale)

    def session_rows(self) -> list[tuple[str, str, datetime.datetime]]:
        """The active sessions as whole rows, in order of creation."""
        return [
            (self.stored_session_id(session_id), self.stored_path(path), last_seen)
            for session_id, (path, last_seen) in self.sessions.items()
        ]

    # Content

    def nth(self, source: str, slug: str, nth: int) -> Content:
        """The nth row of that slug, in order of creation."""
        return [content for content in self.content[source] if content.slug == slug][nth]

    # Stats

    def snapshot(self, at: datetime.datetime) -> dict[str, Any]:
        """Every field of the answer, by its name there."""
        active = [path for path, last_seen in self.sessions.values() if last_seen > at - SESSION_TIMEOUT]
        views = Counter(view.path for view in self.views)
        page_stats = ((self.stored_path(path), *self.title(path), count) for path, count in views.items())
        return {
            "active_visitors": len(active),
            "active_by_path": most_first((self.stored_path(path), count) for path, count in Counter(active).items()),
            "total_page_views": len(self.views),
            "unique_visitors": len({view.session_id for view in self.views}),
            "published": {source: len(self.published(source)) for source in self.content},
            "tracking_since": min((view.timestamp for view in self.views), default=None),
            "page_stats": most_first(page_stats),
            "total_paths": len(views),
        }

    def title(self, path: str) -> tuple[str, str]:
        """The title and the page type of a path."""
        if path in ("", "/"):
            return "Home", "home"
        if path == "/stats":
            return "Stats", "stats"
        slug = path[1:] if path.startswith("/") else path
        for source, page_type in CONTENT_TYPES.items():
            for content in self.published(source):
                if content.slug == slug:
                    return content.title, page_type
        return self.stored_path(path), "other"

    def published(self, source: str) -> list[Content]:
        return [content for content in self.content[source] if content.published]

    # Text

    def judge(self, *texts: object) -> None:
        if not self.original and any(is_refused(text) for text in texts):
            raise Refused(texts)

    def stored_path(self, path: str) -> str:
        return path if self.original else shorten(path, PATH_LENGTH)

    def stored_session_id(self, session_id: str) -> str:
        return session_id if self.original else shorten(session_id, SESSION_ID_LENGTH)


def most_first(rows: Iterable[tuple[Any, ...]]) -> tuple[tuple[Any, ...], ...]:
    """Sort rows that begin with a path and end with a count: most first, equal counts by path."""
    return tuple(sorted(rows, key=lambda row: (-row[-1], row[0])))


# The derived tables


class RolledUpView(Protocol):
    """A page view as far as the rollups are concerned: a View here, or a row of the package's model."""

    path: str
    session_id: str
    timestamp: datetime.datetime


class Rollups(NamedTuple):
    """The derived tables as plain values, zero cells left out."""

    page_totals: dict[str, tuple[int, int, datetime.datetime, datetime.datetime]]
    """path: views, visitors, first viewed, last viewed"""
    rollups: dict[tuple[str, str, datetime.date], tuple[int, int, int]]
    """dimension, value, day: views, visitors, new visitors"""
    returns: dict[tuple[str, str, datetime.date, datetime.date], int]
    """dimension, value, previous day, day: visitors"""
    visitors: dict[str, tuple[datetime.datetime, datetime.date]]
    """session id: first seen, last day"""


def reporting_day(at: datetime.datetime, zone: str) -> datetime.date:
    return at.astimezone(ZoneInfo(zone)).date()


def expected_rollups(views: Iterable[RolledUpView], zone: str) -> Rollups:
    """Work out from the rolled-up views, each table by its definition, what the derived tables must hold."""
    of_page: dict[str, list[RolledUpView]] = defaultdict(list)
    of_session: dict[str, list[RolledUpView]] = defaultdict(list)
    views_of_day: Counter[tuple[str, str, datetime.date]] = Counter()
    days_of_session: dict[tuple[str, str, str], set[datetime.date]] = defaultdict(set)
    for view in views:
        of_page[view.path].append(view)
        of_session[view.session_id].append(view)
        day = reporting_day(view.timestamp, zone)
        for dimension, value in (("site", ""), ("page", view.path)):
            views_of_day[dimension, value, day] += 1
            days_of_session[dimension, value, view.session_id].add(day)

    visitors: Counter[tuple[str, str, datetime.date]] = Counter()
    new_visitors: Counter[tuple[str, str, datetime.date]] = Counter()
    returns: Counter[tuple[str, str, datetime.date, datetime.date]] = Counter()
    for (dimension, value, _), days in days_of_session.items():
        visitors.update((dimension, value, day) for day in days)
        new_visitors[dimension, value, min(days)] += 1
        for day in days - {min(days)}:
            previous_day = max(earlier for earlier in days if earlier < day)
            returns[dimension, value, previous_day, day] += 1

    return Rollups(
        page_totals={
            path: (
                len(page),
                len({view.session_id for view in page}),
                min(view.timestamp for view in page),
                max(view.timestamp for view in page),
            )
            for path, page in of_page.items()
        },
        rollups={key: (count, visitors[key], new_visitors[key]) for key, count in views_of_day.items()},
        returns=dict(returns),
        visitors={
            session_id: (
                min(view.timestamp for view in session),
                max(reporting_day(view.timestamp, zone) for view in session),
            )
            for session_id, session in of_session.items()
        },
    )


def stored_rollups() -> Rollups:
    """Read the derived tables of the default database."""
    # The model above is usable without Django's apps; its reader is not.
    from pagestats.models import PageTotal, Return, Rollup, Visitor

    page_totals = PageTotal.objects.values_list("path", "views", "visitors", "first_viewed", "last_viewed")
    rollups = Rollup.objects.values_list("dimension", "value", "day", "views", "visitors", "new_visitors")
    returns = Return.objects.values_list("dimension", "value", "previous_day", "day", "visitors")
    visitors = Visitor.objects.values_list("session_id", "first_seen", "last_day")
    return Rollups(
        page_totals={path: tuple(cells) for path, *cells in page_totals if any(cells[:2])},
        rollups={(dimension, value, day): tuple(cells) for dimension, value, day, *cells in rollups if any(cells)},
        returns={tuple(key): count for *key, count in returns if count},
        visitors={session_id: tuple(seen) for session_id, *seen in visitors if any(seen)},
    )


def visitors_counted(
    views: Iterable[RolledUpView],
    zone: str,
    start: datetime.date,
    end: datetime.date,
    *,
    dimension: str = "site",
    value: str = "",
) -> int:
    """Count the distinct sessions of a range of days, both included."""
    return len(
        {
            view.session_id
            for view in views
            if start <= reporting_day(view.timestamp, zone) <= end and (dimension == "site" or view.path == value)
        }
    )


def visitors_added_up(
    stored: Rollups, start: datetime.date, end: datetime.date, *, dimension: str = "site", value: str = ""
) -> int:
    """Return the visitors of a range of days, both included, by the formula of the design.

    It is the visitors of each day, less those whose day before was in the range too.
    """
    of_days = sum(
        visitors
        for (key_dimension, key_value, day), (_, visitors, _) in stored.rollups.items()
        if (key_dimension, key_value) == (dimension, value) and start <= day <= end
    )
    returned = sum(
        visitors
        for (key_dimension, key_value, previous_day, day), visitors in stored.returns.items()
        if (key_dimension, key_value) == (dimension, value) and start <= previous_day and day <= end
    )
    return of_days - returned


@contextlib.contextmanager
def rolled_back() -> Iterator[None]:
    """Undo everything that is written inside: each example of Hypothesis begins with the tables that the test found."""
    from django.db import transaction

    with transaction.atomic():
        yield
        transaction.set_rollback(True)
