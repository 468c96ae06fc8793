"""Add what some views change to the stored counts, given what is stored around them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from operator import attrgetter
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings

from pagestats import dimensions, sql
from pagestats.days import day_of
from pagestats.dimensions import PAGE, WHOLE_SITE, Key, keys
from pagestats.models import Calendar, PageTotal, PageView, Return, Rollup, Seal, Visitor
from pagestats.rollups.figures import Days, Figure, change
from pagestats.sql import Insert, SessionState, Target, View


@dataclass(frozen=True, kw_only=True, slots=True)
class Addition:
    """What some views add to the rollups: worked out before they are stored, and written with them."""

    figures: Mapping[Figure, int]
    visitors: Iterable[tuple[str, datetime, date]]
    instants: Mapping[str, tuple[datetime, datetime]]

    @property
    def new_visitors(self) -> int:
        """The number of sessions that had no rolled-up view before."""
        return sum(
            count
            for figure, count in self.figures.items()
            if figure.name == "new_visitors" and figure.key == WHOLE_SITE
        )


class SealedDay(ValueError):
    """A view is on a reporting day whose page views were pruned."""


def addition(views: Sequence[View], around: Sequence[SessionState], *, using: str) -> Addition:
    """Return what views that are not rolled up yet add to the rollups. Nothing is written.

    No other writer may change their sessions between `sql.load_state` and the write that adds this: hold the locks of
    the sessions, or write only if their versions are unchanged. Fix the reporting zone first (`fix_reporting_zone`),
    and open the seals in the same transaction (`open_seals`).

    Args:
        views: hits, or stored page views.
        around: what is stored around each of them.

    Raises:
        SealedDay: for a view of a day that is sealed.
    """
    zone = Calendar.zone_named(around[0].zone)
    sessions: defaultdict[str, list[_Placed]] = defaultdict(list)
    instants: dict[str, tuple[datetime, datetime]] = {}
    for view, near in zip(views, around, strict=True):
        sessions[view.session_id].append(_Placed(view, near, day_of(view.at, zone)))
        first, last = instants.get(view.path, (view.at, view.at))
        instants[view.path] = min(first, view.at), max(last, view.at)
    refuse_sealed_days(views, around[0])
    stored = _stored_views(sessions, zone, using=using)
    changes: Counter[tuple[Key, Days, Days]] = Counter()
    visitors = []
    for session_id, placed in sessions.items():
        before = _neighbouring_days(placed, stored.get(session_id, ()), zone)
        new: defaultdict[Key, list[date]] = defaultdict(list)
        for view, _, day in placed:
            for key in keys(view.path):
                new[key].append(day)
        for key, days in new.items():
            changes[key, tuple(sorted(before.get(key, ()))), tuple(sorted(days))] += 1
        if (seen := _seen(placed)) != (placed[0].near.first_seen, placed[0].near.last_day):
            visitors.append((session_id, *seen))
    figures: Counter[Figure] = Counter()
    for (key, days_before, new_days), times in changes.items():
        for figure, count in change(key, days_before, new_days):
            figures[figure] += times * count
    return Addition(figures=figures, visitors=visitors, instants=instants)


VISITORS = Target.upserting(Visitor, key=["session_id"], changes={"first_seen": "set", "last_day": "set"})
PAGE_TOTALS = Target.upserting(
    PageTotal,
    key=["path"],
    changes={"views": "add", "visitors": "add", "first_viewed": "least", "last_viewed": "greatest"},
)
RETURNS = Target.upserting(Return, key=["dimension", "value", "previous_day", "day"], changes={"visitors": "add"})
ROLLUPS = Target.upserting(
    Rollup, key=["dimension", "value", "day"], changes={"views": "add", "visitors": "add", "new_visitors": "add"}
)


def add(added: Addition, *, using: str) -> None:
    """Add to the stored counts, and set the columns of the visitors."""
    sql.write([Insert(VISITORS, list(added.visitors)), *inserts(added)], using=using)


def inserts(added: Addition) -> list[Insert]:
    """Return the rows that add to the stored counts, table by table, the site's row last: every writer needs it."""
    rollups: dict[tuple[str, str, date], dict[str, int]] = {}
    totals: dict[str, dict[str, int]] = {}
    returns = []
    for (name, key, day, previous_day), count in added.figures.items():
        if not count:
            continue
        if previous_day is not None:
            returns.append((*key, previous_day, day, count))
            continue
        rollups.setdefault((*key, day), {})[name] = count
        if key.dimension == PAGE.name:
            total = totals.setdefault(key.value, {})
            total[name] = total.get(name, 0) + count
    dimensions.refuse_unregistered({figure.key.dimension for figure in added.figures})
    return [
        Insert(
            PAGE_TOTALS,
            [
                (path, total.get("views", 0), total.get("new_visitors", 0), *added.instants[path])
                for path, total in totals.items()
            ],
        ),
        Insert(RETURNS, returns),
        Insert(
            ROLLUPS,
            [
                (*key, rollup.get("views", 0), rollup.get("visitors", 0), rollup.get("new_visitors", 0))
                for key, rollup in rollups.items()
            ],
        ),
    ]


class _Placed(NamedTuple):
    """A new view, what is stored around it, and the reporting day it is on."""

    view: View
    near: SessionState
    day: date


def _seen(views: Sequence[_Placed]) -> tuple[datetime, date]:
    """Return when a session was first seen and its last reporting day, its new views included."""
    near = views[0].near
    first, last = min(placed.view.at for placed in views), max(placed.day for placed in views)
    if near.first_seen is None or near.last_day is None:
        return first, last
    return min(near.first_seen, first), max(near.last_day, last)


def _neighbouring_days(
    views: Sequence[_Placed], stored: Iterable[tuple[str, date]], zone: ZoneInfo
) -> dict[Key, set[date]]:
    """Return the days, by key, of those rolled-up views of a session between which its new ones come to stand.

    Args:
        views: the new views of one session.
        stored: the path and the day of each of its rolled-up views, where they were read; see `_stored_views`.
    """
    days: defaultdict[Key, set[date]] = defaultdict(set)
    near = views[0].near
    for dimension in dimensions.rolled_up():
        match dimension.neighbours:
            case "visitor":
                # Nothing is later than the visitor's last day; for a view before that, the days were read.
                last = {day for day in (near.last_day, near.last_sealed_day) if day is not None}
                days[dimension.key("")] = last.union(day for _, day in stored)
            case "path":
                for view, near_view, _ in views:
                    around = (at for at in near_view.rolled_up if at is not None)
                    days[dimension.key(view.path)].update(day_of(at, zone) for at in around)
            case "session":
                for path, day in stored:
                    days[dimension.key(path)].add(day)
    return days


def _stored_views(
    sessions: Mapping[str, Sequence[_Placed]], zone: ZoneInfo, *, using: str
) -> dict[str, set[tuple[str, date]]]:
    """Return the path and the day of each rolled-up view of those sessions whose neighbouring days nothing else knows.

    These are the sessions that have a new view before their visitor's last day; and, where a dimension finds its
    neighbours among all views of a session, every session that was there before.
    """
    reads_all = dimensions.need_all_views()
    wanted = [
        session_id
        for session_id, views in sessions.items()
        if (last_day := views[0].near.last_day) and (reads_all or any(placed.day < last_day for placed in views))
    ]
    found: defaultdict[str, set[tuple[str, date]]] = defaultdict(set)
    if wanted:
        rolled_up = PageView.objects.using(using).rolled_up().filter(session_id__in=wanted)
        for session_id, path, at in sql.current(rolled_up).values_list("session_id", "path", "timestamp"):
            found[session_id].add((path, day_of(at, zone)))
    return found


def refuse_sealed_days(views: Sequence[View], calendar: SessionState) -> None:
    """Raise `SealedDay` if a view is on a reporting day whose page views were pruned."""
    if calendar.sealed_before is None or calendar.zone is None:
        return
    earliest = min(views, key=attrgetter("at"))
    if (day := day_of(earliest.at, ZoneInfo(calendar.zone))) < calendar.sealed_before:
        raise SealedDay(
            f"The view of {earliest.path!r} at {earliest.at:%Y-%m-%d %H:%M:%S %Z} is on {day}, and page views before"
            f" {calendar.sealed_before} were pruned. Record views of {calendar.sealed_before} or later only."
        )


def are_before_pruning(views: Sequence[View], calendar: SessionState) -> bool:
    """Tell whether one of some views is of an earlier day than that on which page views were pruned last."""
    if calendar.sealed_on is None:
        return False
    return _earliest_day(views, calendar) < calendar.sealed_on


def open_seals(views: Sequence[View], calendar: SessionState, *, using: str) -> None:
    """Note with the seals that some views come later than the pruning of the days before them.

    Call it in the transaction that adds the views, once nobody else can write anything of their sessions: a seal that
    is opened for a view that is not stored makes reports refuse ranges for nothing.
    """
    if are_before_pruning(views, calendar):
        day = _earliest_day(views, calendar)
        Seal.unguarded.using(using).filter(open_from__gt=day).update(open_from=day)


def _earliest_day(views: Sequence[View], calendar: SessionState) -> date:
    return day_of(min(view.at for view in views), Calendar.zone_named(calendar.zone))


def fix_reporting_zone(calendar: SessionState, *, using: str) -> SessionState:
    """Store the site's own zone as the reporting zone, unless one is stored already.

    Returns the same surroundings, with the zone that is stored now.
    """
    if calendar.zone is not None:
        return calendar
    rows = Calendar.unguarded.using(using)
    rows.bulk_create([Calendar(pk=Calendar.ROW, zone=settings.TIME_ZONE)], ignore_conflicts=True)
    return calendar._replace(zone=Calendar.zone_of(sql.current(rows)).key)
