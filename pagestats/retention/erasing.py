"""Erase or anonymise what is stored about one visitor."""

from __future__ import annotations

import secrets
from datetime import date, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from django.db import router
from django.db.models import F

from pagestats import rollups, sql
from pagestats.days import day_of, start_of
from pagestats.hits import Hit, instant
from pagestats.models import ActiveSession, Calendar, PageView, Visitor
from pagestats.rollups import Scope, SealedDay


def erase(session_id: str) -> int:
    """Delete all page views of a session and subtract them from all counts; return how many there were.

    Pending page views and the active session are deleted, too. It is one transaction, however many page views there
    are. An empty row with the session's id stays: it is a lock, for which a writer may be waiting. `sweep_visitors`
    deletes it an hour later.

    Args:
        session_id: as it was given to a `Hit`, which shortens one of over 64 characters.

    Raises:
        InvalidHit: the text can't be a session id.
        SealedDay: page views of the session were pruned or are about to be, so what they added to sealed days stays
            counted. `forget` removes the id from everything that is left.
    """
    session_id = _session(session_id)
    using = router.db_for_write(PageView)
    if not _is_known(session_id, using=using):
        return 0
    return sql.transact(partial(_erase, session_id, using=using), using=using)


def preview_erase(session_id: str) -> Scope:
    """Return how much `erase` would delete; raise what it would raise. Nothing is written."""
    using = router.db_for_write(PageView)
    _refuse_sealed_session(_session(session_id), using=using)
    return preview_forget(session_id)


def forget(session_id: str) -> int:
    """Anonymise a session: replace its id with a random one wherever it is stored. Return how many page views it has.

    No count changes. It is one transaction, and works even after page views of the session were pruned. A browser that
    returns with the old id is a new visitor. An empty row with the old id stays for an hour, as after `erase`.

    Args:
        session_id: as it was given to a `Hit`, which shortens one of over 64 characters.

    Raises:
        InvalidHit: the text can't be a session id.
    """
    session_id = _session(session_id)
    using = router.db_for_write(PageView)
    if not _is_known(session_id, using=using):
        return 0
    return sql.transact(partial(_forget, session_id, secrets.token_hex(16), using=using), using=using)


def preview_forget(session_id: str) -> Scope:
    """Return how much `forget` would anonymise. Nothing is written."""
    using = router.db_for_write(PageView)
    views = PageView.objects.using(using).filter(session_id=_session(session_id))
    return rollups.scope_of(views, Calendar.zone_of(Calendar.objects.using(using)))


def has_sealed_days(session_id: str) -> bool:
    """Return whether page views of a session were pruned."""
    visitors = Visitor.objects.using(router.db_for_write(PageView))
    return visitors.filter(session_id=_session(session_id), last_sealed_day__isnull=False).exists()


def is_active(session_id: str) -> bool:
    """Return whether a heartbeat of a session is stored. `erase` deletes it, and `forget` gives it another id."""
    active = ActiveSession.objects.using(router.db_for_write(ActiveSession))
    return active.filter(session_id=_session(session_id)).exists()


def sweep_visitors(*, at: datetime | None = None) -> int:
    """Delete the empty rows of sessions that were erased or anonymised over an hour ago, and return how many.

    A writer that read the state of the session before that has written by now, or never will.

    Args:
        at: an aware datetime; None is now.
    """
    using = router.db_for_write(PageView)
    empty = Visitor.BLANK | {"version__gte": SINCE_AN_INSTANT, "version__lt": _since(instant(at) - timedelta(hours=1))}
    rows = Visitor.unguarded.using(using).filter(**empty)
    # Found without a lock: on MariaDB, a DELETE by columns without an index would wait for writers of any row.
    keys = list(rows.values_list("pk", flat=True))
    return sum(
        sql.retrying(rows.filter(pk__in=keys[start : start + SWEPT_AT_ONCE]).delete, using=using)[0]
        for start in range(0, len(keys), SWEPT_AT_ONCE)
    )


SWEPT_AT_ONCE = 500  # rows

SINCE_AN_INSTANT = 10**15
"""A version from here on is the time at which the session was erased or anonymised, in microseconds since 1970. No row
is written so often that its version comes near."""


def _since(at: datetime) -> int:
    """Return the version of a row that is empty since an instant: the microseconds from 1970 to that instant."""
    return int(at.timestamp() * 1_000_000)


def _session(session_id: str) -> str:
    """Return a session id as it is stored."""
    return Hit(path="", session_id=session_id).session_id


def _is_known(session_id: str, *, using: str) -> bool:
    return any(
        model._base_manager.using(using).filter(session_id=session_id).exists()
        for model in (PageView, Visitor, ActiveSession)
    )


def _refuse_sealed_session(session_id: str, *, using: str) -> None:
    visitors = Visitor.objects.using(using).filter(session_id=session_id)
    day = sql.current(visitors).values_list("last_sealed_day", flat=True).first()
    if day := day or _last_day_to_be_pruned(session_id, using=using):
        raise SealedDay(
            f"Page views of this session, the last on {day}, were pruned or are about to be, so what they added to"
            " the counts of sealed days stays. Anonymise the session instead (--forget)."
        )


def _last_day_to_be_pruned(session_id: str, *, using: str) -> date | None:
    """Return the last sealed day of a session with page views that a killed pruning has left; None without any."""
    calendar = sql.current(Calendar.objects.using(using).row()).first()
    if calendar is None or calendar.sealed_before is None:
        return None
    zone = ZoneInfo(calendar.zone)
    views = PageView.objects.using(using).rolled_up().filter(session_id=session_id)
    left = sql.current(views.filter(timestamp__lt=start_of(calendar.sealed_before, zone)).order_by("-timestamp"))
    at = left.values_list("timestamp", flat=True).first()
    return day_of(at, zone) if at else None


def _erase(session_id: str, *, using: str) -> int:
    _lock(session_id, using=using)
    _refuse_sealed_session(session_id, using=using)
    ActiveSession.objects.using(using).filter(session_id=session_id).delete()
    paths = rollups.subtract_sessions([session_id], using=using)
    deleted = PageView.objects.using(using).filter(session_id=session_id).delete()[0]
    rollups.refresh_page_totals(paths, using=using)
    _empty(session_id, using=using)
    return deleted


def _forget(session_id: str, random_id: str, *, using: str) -> int:
    _lock(session_id, random_id, using=using)
    ActiveSession.objects.using(using).filter(session_id=session_id).update(session_id=random_id)
    visitors = Visitor.unguarded.using(using)
    seen = sql.current(visitors.filter(session_id=session_id)).values(*Visitor.BLANK).get()
    visitors.filter(session_id=random_id).update(**seen)
    _empty(session_id, using=using)
    return PageView.objects.using(using).filter(session_id=session_id).update(session_id=random_id)


def _lock(session_id: str, *others: str, using: str) -> None:
    """Lock a session, the heartbeat first, as the recording does: writers with one order of locks don't deadlock."""
    ActiveSession.objects.using(using).filter(session_id=session_id).update(last_seen=F("last_seen"))
    sql.lock_sessions([session_id, *others], using=using)


def _empty(session_id: str, *, using: str) -> None:
    """Clear a visitor's row, so that only the lock stays, with a version that no writer has seen."""
    rows = Visitor.unguarded.using(using).filter(session_id=session_id)
    rows.update(version=max(_since(instant(None)), SINCE_AN_INSTANT), **Visitor.BLANK)
