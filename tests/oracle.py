"""What the package must answer, worked out from the definitions: a plain model, with lists and sets and no increments.

`Site` is the model, and asks no database. `expected_rollups` says what a list of page views must have in the derived
tables; `stored_rollups` reads what is in them, so that a test compares the two as whole values.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
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

VALUE_OF: dict[str, Callable[[str], str]] = {"site": lambda path: "", "page": lambda path: path}
"""The dimensions, and the value that each has for a path."""

Key = tuple[str, str]
"""A dimension and one of its values."""


def is_counted_for(view: RolledUpView, key: Key | None) -> bool:
    """Say whether a view counts for a key; None is the whole site."""
    return key is None or VALUE_OF[key[0]](view.path) == key[1]


@contextlib.contextmanager
def also_counting(dimension: str, value_of: Callable[[str], str]) -> Iterator[None]:
    """Have one more dimension inside."""
    VALUE_OF[dimension] = value_of
    try:
        yield
    finally:
        del VALUE_OF[dimension]


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
    """The day that began last. It is that of the clock but for an hour, where clocks were put back over midnight."""
    local = at.astimezone(ZoneInfo(zone))
    days = [local.date() + datetime.timedelta(days=1), local.date()] if local.fold else [local.date()]
    begins = {day: datetime.datetime.combine(day, datetime.time(), ZoneInfo(zone)) for day in days}
    return next(day for day, begin in begins.items() if begin.astimezone(datetime.UTC) <= at)


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
        for dimension, value_of in VALUE_OF.items():
            value = value_of(view.path)
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
            if start <= reporting_day(view.timestamp, zone) <= end and is_counted_for(view, (dimension, value))
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


# The site over time: rows that are pruned, erased, moved, and counted in another zone


class SealedDay(ValueError):
    """What was asked for is about a day whose page views were pruned."""


class CannotTell(ValueError):
    """Page views that would tell a figure were pruned."""


class Told(NamedTuple):
    """The figures of a range of days. None can't be told. Days: (day, views, visitors)."""

    views: int
    visitors: int
    new_visitors: int | None
    days: tuple[tuple[datetime.date, int, int], ...]


class LastingSite(Site):
    """A site whose page views are also pruned, erased and moved. What was pruned is remembered here, and was counted.

    `seals` has for each boundary at which page views were pruned the earliest day that was counted after that: which
    sessions of a page came back over the boundary is known of earlier days only.
    """

    def __init__(self, *, zone: str) -> None:
        super().__init__()
        self.zone = zone
        self.pruned: list[View] = []
        self.is_deferred = False
        self.sealed_before: datetime.date | None = None
        self.seals: dict[datetime.date, datetime.date] = {}

    def counted(self) -> list[View]:
        """All page views that are in the figures, those that are gone too."""
        return [*self.pruned, *self.views]

    def day(self, view: View) -> datetime.date:
        return reporting_day(view.timestamp, self.zone)

    def is_sealed(self, view: View) -> bool:
        return self.sealed_before is not None and self.day(view) < self.sealed_before

    def unsealed(self) -> list[View]:
        return [view for view in self.views if not self.is_sealed(view)]

    def snapshot(self, at: datetime.datetime) -> dict[str, Any]:
        """Every field of the answer: a page view counts for ever."""
        everything = Site()
        everything.views, everything.sessions, everything.content = self.counted(), self.sessions, self.content
        return everything.snapshot(at)

    # What happens to rows

    def record(self, path: str, session_id: str, at: datetime.datetime, page_type: str = "") -> View | None:
        """Store a view, or None: a repeat. Raise for one of a sealed day; then nothing is stored."""
        view = super().record(path, session_id, at, page_type)
        if view is not None and self.is_sealed(view):
            self.delete([view])
            raise SealedDay(view)
        if view is not None:
            view.rolled_up = False
            if not self.is_deferred:
                self.roll_up(view)
        return view

    def record_all(self, hits: Iterable[tuple[str, str, datetime.datetime, str]]) -> int:
        """Record hits in order, or none of them."""
        views, seals = list(self.views), dict(self.seals)
        try:
            return super().record_all(hits)
        except SealedDay:
            self.views, self.seals = views, seals
            raise

    def roll_up(self, view: View) -> None:
        view.rolled_up = True
        self.open_seals(self.day(view))

    def open_seals(self, day: datetime.date) -> None:
        """Note that a day was counted now."""
        self.seals = {before: min(open_from, day) for before, open_from in self.seals.items()}

    def seal(self, before: datetime.date, *, today: datetime.date) -> None:
        """Note that page views are pruned today."""
        self.sealed_before = before
        self.seals[before] = min(today, self.seals.get(before, today))

    def prune(self, views: Collection[View]) -> None:
        self.delete(views)
        self.pruned += views

    def erase(self, session_id: str) -> int:
        if any(self.is_sealed(view) for view in self.counted() if view.session_id == session_id):
            raise SealedDay(session_id)
        gone = [view for view in self.views if view.session_id == session_id]
        self.delete(gone)
        self.sessions.pop(session_id, None)
        return len(gone)

    def forget(self, session_id: str, random_id: str) -> int:
        for view in self.counted():
            if view.session_id == session_id:
                view.session_id = random_id
        if session_id in self.sessions:
            self.sessions[random_id] = self.sessions.pop(session_id)
        return sum(view.session_id == random_id for view in self.views)

    def merge(self, source: str, target: str) -> int:
        for dimension, value_of in VALUE_OF.items():
            values = value_of(source), value_of(target)
            keys = [(dimension, value) for value in values if values[0] != values[1]]
            if any(self.is_sealed(view) and is_counted_for(view, key) for view in self.counted() for key in keys):
                raise SealedDay(source, target)
        moved = [view for view in self.views if view.path == source]
        for view in moved:
            view.path = target
        here = {id_: (target, last_seen) for id_, (path, last_seen) in self.sessions.items() if path == source}
        self.sessions.update(here)
        return len(moved)

    # What is told of a range of days, both included

    def report(self, start: datetime.date, end: datetime.date, key: Key | None = None) -> Told:
        """Count the figures of the site, or of one value of a dimension; raise where they can't be told."""
        if key is not None and self.is_crossed(start, end, key):
            raise CannotTell(start, end, key)
        sessions: dict[datetime.date, list[str]] = defaultdict(list)
        for view in self.counted():
            if is_counted_for(view, key):
                sessions[self.day(view)].append(view.session_id)
        within = [(day, sessions.get(day, [])) for day in days_of(start, end)]
        visitors = {session_id for _, there in within for session_id in there}
        been_before = {session_id for day, there in sessions.items() if day < start for session_id in there}
        return Told(
            views=sum(len(there) for _, there in within),
            visitors=len(visitors),
            new_visitors=len(visitors - been_before) if key is None or self.knows_who_is_new(end, key) else None,
            days=tuple((day, len(there), len(set(there))) for day, there in within),
        )

    def report_rows(
        self, start: datetime.date, end: datetime.date, dimension: str
    ) -> tuple[tuple[str, int, int | None], ...]:
        """Count (value, views, visitors) of each value of a dimension in a range, most viewed first.

        Visitors are None where page views that would tell them were pruned.
        """
        sessions: dict[str, list[str]] = defaultdict(list)
        for view in self.counted():
            if start <= self.day(view) <= end:
                sessions[VALUE_OF[dimension](view.path)].append(view.session_id)
        rows = [
            (value, None if self.is_crossed(start, end, (dimension, value)) else len(set(there)), len(there))
            for value, there in sessions.items()
        ]
        return tuple((value, views, visitors) for value, visitors, views in most_first(rows))

    def hours(
        self, start: datetime.date, end: datetime.date, key: Key | None = None
    ) -> tuple[tuple[datetime.datetime, int, int], ...]:
        """Count (when it begins, views, visitors) of each hour; raise where views are gone."""
        if self.sealed_before is not None and start < self.sealed_before:
            raise CannotTell(start)
        begins = [begin for day in days_of(start, end) for begin in hours_of(day, self.zone)]
        sessions: dict[datetime.datetime, list[str]] = {begin: [] for begin in begins}
        for view in self.views:
            if is_counted_for(view, key) and start <= self.day(view) <= end:
                sessions[max(begin for begin in begins if begin <= view.timestamp)].append(view.session_id)
        return tuple((begin, len(there), len(set(there))) for begin, there in sessions.items())

    def is_crossed(self, start: datetime.date, end: datetime.date, key: Key | None = None) -> bool:
        """Tell whether sessions may have come back over a seal in the range who can't be known again."""
        return any(
            start < before <= end
            and self.is_any_sealed(start, before, key)
            and (open_from <= end or self.is_any_pending(start, end, key))
            for before, open_from in self.seals.items()
        )

    def knows_who_is_new(self, end: datetime.date, key: Key) -> bool:
        """Tell whether nobody may be new to a page since a seal who had been there before it."""
        return not any(
            before <= end
            and self.is_any_sealed(datetime.date.min, before, key)
            and (open_from <= end or self.is_any_pending(datetime.date.min, end, key))
            for before, open_from in self.seals.items()
        )

    def is_any_sealed(self, start: datetime.date, before: datetime.date, key: Key | None) -> bool:
        """Tell whether a view was counted before a seal."""
        return any(
            is_counted_for(view, key) and view.rolled_up and start <= self.day(view) < before for view in self.counted()
        )

    def is_any_pending(self, start: datetime.date, end: datetime.date, key: Key | None) -> bool:
        return any(is_counted_for(view, key) and start <= self.day(view) <= end for view in self.pending())


def days_of(start: datetime.date, end: datetime.date) -> list[datetime.date]:
    """The days from one to another, both included."""
    return [start + datetime.timedelta(days=number) for number in range((end - start).days + 1)]


@functools.lru_cache(maxsize=256)
def hours_of(day: datetime.date, zone: str) -> list[datetime.datetime]:
    """When the hours of the clock begin on a day, in UTC, found by going through it minute by minute."""
    midnights = (datetime.datetime.combine(day + datetime.timedelta(days=days), datetime.time()) for days in (0, 1))
    at, until = (midnight.replace(tzinfo=ZoneInfo(zone)).astimezone(datetime.UTC) for midnight in midnights)
    begins, before = [], None
    while at < until:
        local = at.astimezone(ZoneInfo(zone))
        if (hour := (local.hour, local.utcoffset())) != before:
            begins.append(at)
        before = hour
        at += datetime.timedelta(minutes=1)
    return begins


@contextlib.contextmanager
def rolled_back() -> Iterator[None]:
    """Undo everything that is written inside: each example of Hypothesis begins with the tables that the test found."""
    from django.db import transaction

    with transaction.atomic():
        yield
        transaction.set_rollback(True)
