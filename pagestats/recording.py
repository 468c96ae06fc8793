"""The writers of live data: page views and heartbeats.

The state around a hit is read once, without a lock. The hit is then judged, and written only if no other writer has
changed its session in between. Otherwise the state is read again; after a few attempts, under the lock of the session.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from math import inf
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from django.db import IntegrityError, router, transaction
from django.db.models import QuerySet

from pagestats import rollups, sql
from pagestats.conf import conf
from pagestats.days import day_of
from pagestats.hits import Hit
from pagestats.models import ActiveSession, Calendar, PageView, Visitor
from pagestats.sql import Insert, SessionState, Target

HITS_IN_A_TRANSACTION = 1_000
ATTEMPTS_WITHOUT_LOCK = 3
HEARTBEAT_ATTEMPTS = 5

Heartbeat = Literal["created", "updated", "skipped"]

VERSION = Target.upserting(
    Visitor, key=["session_id"], changes={"version": "swap", "first_seen": "set", "last_day": "set"}
)
VERSION_IN_ZONE = replace(VERSION, only_while="in_zone")
VERSION_WHILE_REBUILDING = replace(VERSION, only_while="rebuilt_in_zone")
VERSION_OF_UNSEALED_DAY = replace(VERSION, only_while="unsealed")
VIEWS = Target(PageView, ("path", "page_type", "session_id", "timestamp", "rolled_up"))
BEATS = Target.upserting(
    ActiveSession,
    key=["session_id"],
    changes={"current_path": "set", "last_seen": "set"},
    unless_changed="last_seen",
)


def record_page_view(hit: Hit, *, patience: float = inf) -> PageView | None:
    """Record a page view and return it; None when it is a repeat, and nothing was stored.

    A repeat has a stored view of the same session and path less than PAGESTATS_DEDUP_WINDOW before or after it.
    Otherwise the view is stored and every rollup moves with it, in one transaction; with PAGESTATS_ROLLUPS "deferred"
    it is stored pending.

    Args:
        patience: seconds after which a write that failed on a lock is not tried again, where somebody waits for it.

    Raises `rollups.SealedDay` when the page views of its reporting day were pruned.
    """
    recorded = _record([hit], patience=patience)
    if not recorded.counted:
        return None
    return PageView(
        pk=recorded.last_key,
        path=hit.path,
        page_type=hit.page_type,
        session_id=hit.session_id,
        timestamp=hit.at,
        rolled_up=not recorded.are_pending,
    )


def record_page_views(hits: Iterable[Hit]) -> int:
    """Record page views and return how many were counted; the others were repeats.

    Hits are judged in the order of their instants, and equal ones in the order given: the result is the same as if they
    were recorded one by one in that order. Each transaction takes 1,000 hits; after a failure, record all of them
    again, and those that were stored are repeats.

    Raises:
        rollups.SealedDay: one of the hits is on a reporting day whose page views were pruned.
    """
    ordered = sorted(hits, key=attrgetter("at"))
    return sum(
        len(_record(ordered[start : start + HITS_IN_A_TRANSACTION]).counted)
        for start in range(0, len(ordered), HITS_IN_A_TRANSACTION)
    )


def record_visit(hit: Hit, *, patience: float = inf) -> bool:
    """Record a page view and a heartbeat of a session that views a page now. Return whether the view counted.

    It does what `record_page_view` and `record_heartbeat` do, and loads the state of the session once for both.

    Args:
        hit: the page view.
        patience: seconds after which a write that failed on a lock is not tried again.
    """
    return bool(_record([hit], beats=True, patience=patience).counted)


class Recorded(NamedTuple):
    """The hits of a batch that were counted, the key of the last one's page view, and whether all are pending."""

    counted: Sequence[Hit] = ()
    last_key: int = 0
    are_pending: bool = False


def _record(hits: Sequence[Hit], *, beats: bool = False, patience: float = inf) -> Recorded:
    """Store hits, given in order of time, that are not repeats; with `beats`, also the heartbeat of a single hit.

    A single hit that is a repeat ends with one read. Several hits are judged together under the locks of their
    sessions: most of them are new, and of two that repeat each other, the first may itself repeat a view that another
    process is storing.
    """
    using = router.db_for_write(PageView)
    if len(hits) == 1:
        one = _record_one if sql.can_write_if_unchanged(using) else _record_one_locked
        return sql.retrying(partial(one, hits[0], beats=beats, using=using), using=using, patience=patience)
    return sql.transact(partial(_store, hits, using=using), using=using) if hits else Recorded()


def _record_one_locked(hit: Hit, *, beats: bool, using: str) -> Recorded:
    """Load without a lock; if the hit is no repeat, load again and write under the lock of its session."""
    [near] = sql.load_state([hit], using=using)
    if beats and _is_beat_due(hit, near):
        _beat(hit, using=using)
    if _is_repeat(hit, *near.all):
        return Recorded()
    with transaction.atomic(using=using):
        return _store([hit], using=using)


def _record_one(hit: Hit, *, beats: bool, using: str) -> Recorded:
    """Load and write without a lock; after a few attempts that another writer overtook, under the session's lock."""
    for _ in range(ATTEMPTS_WITHOUT_LOCK):
        [near] = sql.load_state([hit], using=using)
        due = [_beat_of(hit, near)] if beats and _is_beat_due(hit, near) else []
        if _is_repeat(hit, *near.all):
            if not due or sql.write_if_unchanged(due, using=using) is not None:
                return Recorded()
        elif _stay_pending(near):
            if (key := _write_unless_changed(hit, near, due, is_pending=True, using=using)) is not None:
                return Recorded([hit], key, are_pending=True)
        elif near.zone is None:
            rollups.fix_reporting_zone(near, using=using)
        elif rollups.are_before_pruning([hit], near):
            rollups.refuse_sealed_days([hit], near)
            break  # the seals that it opens are written in one transaction with it
        elif (key := _write_unless_changed(hit, near, due, is_pending=False, using=using)) is not None:
            return Recorded([hit], key)
    if beats:
        _beat(hit, using=using)
    with transaction.atomic(using=using):
        return _store([hit], using=using)


def _write_unless_changed(
    hit: Hit, near: SessionState, beats: Sequence[Insert], *, is_pending: bool, using: str
) -> int | None:
    """Write a hit that was judged, and return the key of its page view.

    Returns None, and writes nothing of the view, if its session has changed since, or the reporting zone, or if its day
    was sealed.
    """
    figures, visitors = _figures([hit], [near], is_pending=is_pending, using=using)
    seen = visitors.get(hit.session_id, (near.first_seen, near.last_day))
    row = hit.session_id, (near.version or 0) + 1, *seen
    if near.next_zone:
        version = Insert(VERSION_WHILE_REBUILDING, [row], near.next_zone)  # afterwards nobody may fold it
    elif is_pending:
        version = Insert(VERSION_OF_UNSEALED_DAY, [row], day_of(hit.at, Calendar.zone_named(near.zone)))
    else:
        version = Insert(VERSION_IN_ZONE, [row], near.zone)
    return sql.write_if_unchanged([*beats, version], figures, last=_rows([hit], is_pending=is_pending), using=using)


def _store(hits: Sequence[Hit], *, using: str) -> Recorded:
    """Store hits in the open transaction: lock their sessions, judge them by what is there now, write."""
    sql.lock_sessions((hit.session_id for hit in hits), using=using)
    counted, around = _counted(hits, sql.load_state(hits, using=using))
    if not counted:
        return Recorded()
    if not (stay_pending := _stay_pending(around[0])):
        around[0] = rollups.fix_reporting_zone(around[0], using=using)
    figures, visitors = _figures(counted, around, is_pending=stay_pending, using=using)
    if not stay_pending:
        rollups.open_seals(counted, around[0], using=using)
    seen = Insert(rollups.VISITORS, [(session_id, *seen) for session_id, seen in visitors.items()])
    last_key = sql.write([seen, *figures], last=_rows(counted, is_pending=stay_pending), using=using)
    return Recorded(counted, last_key, stay_pending)


def _stay_pending(calendar: SessionState) -> bool:
    """Return whether views stay pending: by the site's setting, or because the rollups are being rebuilt."""
    return bool(calendar.next_zone) or conf.ROLLUPS == "deferred"


def _figures(
    hits: Sequence[Hit], around: Sequence[SessionState], *, is_pending: bool, using: str
) -> tuple[list[Insert], dict[str, tuple[datetime, date]]]:
    """Return what hits add to the stored counts, and the new first and last day of the sessions that they change."""
    if is_pending:
        rollups.refuse_sealed_days(hits, around[0])
        return [], {}
    added = rollups.addition(hits, around, using=using)
    return rollups.inserts(added), {session_id: (first, last) for session_id, first, last in added.visitors}


def _rows(hits: Sequence[Hit], *, is_pending: bool) -> Insert:
    return Insert(VIEWS, [(hit.path, hit.page_type, hit.session_id, hit.at, not is_pending) for hit in hits])


def _counted(hits: Sequence[Hit], around: Sequence[SessionState]) -> tuple[list[Hit], list[SessionState]]:
    """Return the hits, given in order of time, that repeat neither a stored view nor one another, and the states around
    them.
    """
    last: dict[tuple[str, str], datetime] = {}
    counted = []
    for hit, near in zip(hits, around, strict=True):
        key = hit.session_id, hit.path
        if not _is_repeat(hit, *near.all, last.get(key)):
            counted.append((hit, near))
            last[key] = hit.at
    return [hit for hit, _ in counted], [near for _, near in counted]


def _is_repeat(hit: Hit, *views: datetime | None) -> bool:
    """Return whether a view of the hit's session and path is less than the dedup window before or after it."""
    distances = [abs(hit.at - at) for at in views if at is not None]
    return bool(distances) and min(distances) < conf.DEDUP_WINDOW


def record_heartbeat(hit: Hit, *, patience: float = inf) -> Heartbeat:
    """Record that a session is on a path now, and return what was done. It never counts a page view.

    An unknown session is "created". A heartbeat is "skipped" if the last one was on the same path less than
    PAGESTATS_HEARTBEAT_DEDUP ago, or if it is older than the last one: `last_seen` never goes back. Any other heartbeat
    is "updated".

    Args:
        hit: where the session is, and when.
        patience: seconds after which a write that failed on a lock is not tried again.
    """
    using = router.db_for_write(PageView)
    return sql.retrying(partial(_beat, hit, using=using), using=using, patience=patience)


def _beat(hit: Hit, *, using: str) -> Heartbeat:
    """Load, decide, and write only if nothing has changed in between; otherwise start again."""
    for _ in range(HEARTBEAT_ATTEMPTS):
        known = _active_session(hit.session_id, using=using)
        path, last_seen = known[0] if known else (None, None)
        if path is not None and last_seen is not None and not _is_due(hit, path, last_seen):
            return "skipped"
        if sql.can_write_if_unchanged(using):
            beat = Insert(BEATS, [(hit.session_id, hit.path, hit.at)], last_seen)
            is_written = sql.write_if_unchanged([beat], using=using) is not None
        elif path is None or last_seen is None:
            is_written = _created(hit, using=using)
        else:
            is_written = _updated(hit, path, last_seen, using=using)
        if is_written:
            return "updated" if known else "created"
    return "skipped"


@sql.prepared
def _active_session(session_id: str) -> QuerySet[Any, Any]:
    return ActiveSession.objects.filter(session_id=session_id).order_by().values_list("current_path", "last_seen")


def _is_beat_due(hit: Hit, near: SessionState) -> bool:
    return near.active_on is None or near.last_seen is None or _is_due(hit, near.active_on, near.last_seen)


def _beat_of(hit: Hit, near: SessionState) -> Insert:
    """Return the heartbeat of a hit, to be written unless another one comes before it."""
    return Insert(BEATS, [(hit.session_id, hit.path, hit.at)], near.last_seen)


def _is_due(hit: Hit, path: str, last_seen: datetime) -> bool:
    """Tell whether a heartbeat says something new of a session that was last seen on a path."""
    return hit.at >= (last_seen + conf.HEARTBEAT_DEDUP if hit.path == path else last_seen)


def _created(hit: Hit, *, using: str) -> bool:
    try:
        with transaction.atomic(using=using):
            ActiveSession.objects.using(using).create(
                session_id=hit.session_id, current_path=hit.path, last_seen=hit.at
            )
    except IntegrityError:
        return False
    return True


def _updated(hit: Hit, path: str, last_seen: datetime, *, using: str) -> bool:
    unchanged = ActiveSession.objects.using(using).filter(
        session_id=hit.session_id, current_path=path, last_seen=last_seen
    )
    return bool(unchanged.update(current_path=hit.path, last_seen=hit.at))
