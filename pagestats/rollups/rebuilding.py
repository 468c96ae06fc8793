"""Rebuild: count all reporting days again, in the time zone of the site."""

from __future__ import annotations

import time
from collections.abc import Generator
from datetime import timedelta
from functools import partial
from typing import Literal
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import OperationalError, router, transaction

from pagestats import sql
from pagestats.models import Calendar, PageTotal, PageView, Return, Rollup, Visitor
from pagestats.rollups.adding import SealedDay
from pagestats.rollups.changing import refresh_page_totals, subtract_sessions
from pagestats.rollups.chunks import Progress, Scope, chunk_size, chunks, scope_of
from pagestats.rollups.folding import backfill

LONGEST_WRITE = timedelta(seconds=10)
"""The time after which a transaction that began before a rebuild has taken its first lock, if it writes page views."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 1.0  # seconds


def rebuild(
    *, zone: str | None = None, batch_size: int | None = None, longest_write: timedelta = LONGEST_WRITE
) -> Generator[Progress, None, None]:
    """Count all reporting days again from the page views, in a time zone, and yield the progress.

    The stats stay exact and the site stays up, in these steps:

    1. The calendar says that a rebuild is under way. From then on writers store their views pending.
    2. Chunk by chunk of sessions, page views are subtracted from the rollups and become pending.
    3. The rebuild waits for writers that may not have seen step 1: on PostgreSQL, for the transactions that have a
       snapshot from before it; on every database, for transactions that have written page views and are still open.
    4. In one transaction, the zone changes and what is left in the rollups, which is drift, is deleted.
    5. A backfill rolls up all page views.

    It may be killed at any instant; the next call continues. Until it is done new views stay pending, and reports cost
    more.

    Args:
        zone: the name of the new reporting zone; None is settings.TIME_ZONE.
        batch_size: page views that a chunk starts with, 1 to 10,000; None is 500.
        longest_write: how long to wait at most for transactions that have an older snapshot and have written nothing
            yet. A dump of the database, for example, keeps its snapshot for hours and never writes.

    Raises:
        SealedDay: page views were pruned, so their days can't be counted again.
        ValueError: `zone` is not a time zone, or the batch size is out of bounds.
    """
    size = chunk_size(batch_size)
    name = _zone_name(zone)
    using = router.db_for_write(PageView)
    sql.transact(partial(_begin_rebuild, name, using=using), using=using)
    return _rebuild(size, longest_write, using=using)


def where_zones_differ(calendar: Calendar) -> str:
    """Return what to do if the reporting zone is not settings.TIME_ZONE."""
    if calendar.sealed_before is None:
        return "Run `manage.py backfill_aggregates --rebuild` to count all days again in TIME_ZONE."
    return f"{_where_sealed(calendar)} The reporting zone stays {calendar.zone!r}: set TIME_ZONE to that."


def _where_sealed(calendar: Calendar) -> str:
    return f"Page views before {calendar.sealed_before} were pruned, so days can't be counted again."


def preview_rebuild(*, zone: str | None = None) -> Scope:
    """Return how much `rebuild` would count again; raise what it would raise. Nothing is written.

    Args:
        zone: the name of the new reporting zone; None is settings.TIME_ZONE.
    """
    using = router.db_for_write(PageView)
    _refuse_sealed_days(Calendar.objects.using(using).row().first())
    return scope_of(PageView.objects.using(using).all(), ZoneInfo(_zone_name(zone)))


def _zone_name(zone: str | None) -> str:
    name = settings.TIME_ZONE if zone is None else zone
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"zone is {name!r}, not the name of a time zone. Use 'Europe/Amsterdam', for example."
        ) from error
    return name


def _refuse_sealed_days(calendar: Calendar | None) -> None:
    if calendar is not None and calendar.sealed_before is not None:
        raise SealedDay(
            where_zones_differ(calendar)
            if calendar.zone != settings.TIME_ZONE
            else f"{_where_sealed(calendar)} Run `manage.py verify_aggregates --repair` to correct the days since then."
        )


def _begin_rebuild(zone: str, *, using: str) -> None:
    """Have writers store their views pending. The first statement is a write, which locks the row."""
    sql.upsert(
        Calendar,
        [(Calendar.ROW, zone, "")],
        key=["id"],
        changes={"zone": "keep", "next_zone": "keep"},
        using=using,
    )
    calendar = sql.current(Calendar.objects.using(using).row()).get()
    _refuse_sealed_days(calendar)
    Calendar.unguarded.using(using).row().update(next_zone=zone)


def _rebuild(size: int, longest_write: timedelta, *, using: str) -> Generator[Progress, None, None]:
    older = sql.transactions_with_snapshots(using=using)
    until = time.monotonic() + longest_write.total_seconds()
    views = PageView.objects.using(using)
    total = views.rolled_up().count() + views.count()
    taken, pause = 0, SHORTEST_PAUSE
    outcome = ""

    def progress(waiting_for: str = "") -> Progress:
        return Progress(processed=taken, total=max(total, taken), waiting_for=waiting_for)

    while outcome != "changed":
        for chunk in chunks(views.rolled_up, size, by="pk", using=using):
            sessions = {session_id for _, session_id in chunk}
            taken += sql.transact(partial(_make_pending, sessions, using=using), using=using)
            yield progress()
        while (older := older and older & sql.transactions_with_snapshots(using=using)) and time.monotonic() < until:
            yield progress("transactions that began before the rebuild")
            time.sleep(min(pause, max(0, until - time.monotonic())))
            pause = min(2 * pause, LONGEST_PAUSE)
        if (outcome := _change_zone(using=using)) == "locked":
            yield progress("a transaction that has written page views")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
    for rolled_up in backfill(batch_size=size):
        processed = taken + rolled_up.processed
        yield Progress(processed=processed, total=max(total, processed))


def _make_pending(sessions: set[str], *, using: str) -> int:
    sql.lock_sessions(sessions, using=using)
    paths = subtract_sessions(sessions, using=using)
    taken = PageView.objects.using(using).rolled_up().filter(session_id__in=sessions).update(rolled_up=False)
    refresh_page_totals(paths, using=using)
    return taken


def _change_zone(*, using: str) -> Literal["changed", "rolled up", "locked"]:
    """Change the zone if no page view is rolled up; what is then in the rollups is drift and is deleted.

    Returns:
        "changed", also if another rebuild has changed it first; "rolled up" if a writer has rolled up a view by the old
        zone meanwhile; "locked" while a transaction that has written page views is open, an import for example.
    """
    try:
        with transaction.atomic(using=using):
            sql.wait_for_writers(Visitor, using=using)  # the first write of each writer is there
            rows = Calendar.unguarded.using(using).row()
            rows.lock()
            next_zone = sql.current(rows).values_list("next_zone", flat=True).get()
            if not next_zone:
                return "changed"
            if sql.current(PageView.objects.using(using).rolled_up()[:1]):
                return "rolled up"
            for model in (Rollup, Return, PageTotal):
                model.unguarded.using(using).all().delete()
            Visitor.unguarded.using(using).filter(first_seen__isnull=False).update(first_seen=None, last_day=None)
            rows.update(zone=next_zone, next_zone="")
            return "changed"
    except OperationalError as error:
        if not sql.is_lock_error(error):
            raise
        return "locked"
