"""The writers of live data: page views and heartbeats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Literal

from django.db import IntegrityError, router, transaction

from pagestats import rollups, sql
from pagestats.conf import conf
from pagestats.hits import Hit
from pagestats.models import ActiveSession, PageView
from pagestats.sql import Surroundings, Viewed

HITS_IN_A_TRANSACTION = 500
LOOKS_AT_A_SESSION = 5

Heartbeat = Literal["created", "updated", "skipped"]


def record_page_view(hit: Hit) -> PageView | None:
    """Record a page view and return it; None when it is a repeat, and nothing was stored.

    A repeat has a stored view of the same session and path less than PAGESTATS_DEDUP_WINDOW before or after it.
    Otherwise the view is stored and every rollup moves with it, in one transaction.
    """
    stored = _record([hit])
    return stored[0] if stored else None


def record_page_views(hits: Iterable[Hit]) -> int:
    """Record page views and return how many were counted; the others were repeats.

    They are judged in the order of their instants, equal ones in the order given: the same as recording them one by one
    in that order. Hits go in transactions of 500 each; after a failure, record all of them again, and those that were
    stored are repeats.
    """
    ordered = sorted(hits, key=attrgetter("at"))
    return sum(
        len(_record(ordered[start : start + HITS_IN_A_TRANSACTION]))
        for start in range(0, len(ordered), HITS_IN_A_TRANSACTION)
    )


def _record(hits: Sequence[Hit]) -> list[PageView]:
    """Store those of some hits, in order of time, that are no repeats. One look ends those of stored views.

    Hits that repeat one another are left to the judgement under the lock: the first of them may yet turn out to be the
    repeat of a view that somebody else is storing, and then the second counts.
    """
    using = router.db_for_write(PageView)
    stored = sql.nearest(_viewed(hits), using=using)
    fresh = [hit for hit, near in zip(hits, stored, strict=True) if not _is_repeat(hit, *near)]
    return sql.transact(partial(_store, fresh, using=using), using=using) if fresh else []


def _store(hits: Sequence[Hit], *, using: str) -> list[PageView]:
    """Store hits in the open transaction: lock their sessions, judge them again by what is there now, write."""
    sql.lock_sessions((hit.session_id for hit in hits), using=using)
    counted, around = _counted(hits, sql.surroundings(_viewed(hits), using=using))
    if not counted:
        return []
    added = rollups.addition(_viewed(counted), around, using=using)
    views = PageView.objects.using(using).bulk_create(
        PageView(path=hit.path, page_type=hit.page_type, session_id=hit.session_id, timestamp=hit.at, rolled_up=True)
        for hit in counted
    )
    rollups.add(added, using=using)
    return views


def _viewed(hits: Sequence[Hit]) -> list[Viewed]:
    return [Viewed(hit.session_id, hit.path, hit.at) for hit in hits]


def _counted(hits: Sequence[Hit], around: Sequence[Surroundings]) -> tuple[list[Hit], list[Surroundings]]:
    """Return those of some hits, in order of time, that repeat neither a stored view nor one of these; and what is
    stored around them.
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
    """Tell whether one of some views of a hit's session and path is less than the dedup window away from it."""
    return any(at is not None and abs(hit.at - at) < conf.DEDUP_WINDOW for at in views)


def record_heartbeat(hit: Hit) -> Heartbeat:
    """Record that a session is on a path now, and return what came of it; it never counts a page view.

    A session that is not known is "created". One whose last heartbeat is on the same path and younger than
    PAGESTATS_HEARTBEAT_DEDUP is "skipped", and so is a heartbeat older than the last one: `last_seen` never goes back.
    Any other is "updated".
    """
    using = router.db_for_write(ActiveSession)
    return sql.retrying(partial(_beat, hit, using=using), using=using)


def _beat(hit: Hit, *, using: str) -> Heartbeat:
    """Look, decide, and write only if nobody wrote in between; else look again."""
    sessions = ActiveSession.objects.using(using).filter(session_id=hit.session_id)
    for _ in range(LOOKS_AT_A_SESSION):
        known = sessions.values_list("current_path", "last_seen").first()
        if known is None:
            if _created(hit, using=using):
                return "created"
            continue
        path, last_seen = known
        if not _is_due(hit, path, last_seen):
            return "skipped"
        unchanged = sessions.filter(current_path=path, last_seen=last_seen)
        if unchanged.update(current_path=hit.path, last_seen=hit.at):
            return "updated"
    return "skipped"


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
