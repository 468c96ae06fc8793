"""Rebuild: count all reporting days again, in the time zone of the site."""

from __future__ import annotations

import time
from collections.abc import Generator
from datetime import timedelta
from functools import partial
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
"""How long a writer may take between what it sees of the calendar and its first lock: of a statement that is prepared,
PostgreSQL takes the snapshot first."""
PAUSE_FOR_WRITERS = timedelta(seconds=1)
"""Between two looks whether those that have written have committed, who may take as long as they like."""


def rebuild(*, zone: str | None = None, batch_size: int | None = None) -> Generator[Progress, None, None]:
    """Make all rollups anew from the page views, in a zone, and yield how far it is.

    Figures stay exact and the site stays up: first writers are told to store their views pending; then, chunk by chunk
    of sessions, page views are taken off the rollups and made pending; when none is left, what the rollups still hold
    is drift and goes, and the zone changes, in one transaction; then all is folded in again, as a backfill does. It may
    be killed anywhere: run it again. Until then new views stay pending, and reading costs more.

    Arguments:
        zone: the name of the reporting zone from then on; None is settings.TIME_ZONE.
        batch_size: page views that a chunk begins with, 1 to 10,000; None is 500.

    Raises `SealedDay` when page views were pruned: those days can't be counted again. `ValueError` for what is no zone.
    """
    size = chunk_size(batch_size)
    name = _zone_name(zone)
    using = router.db_for_write(PageView)
    sql.transact(partial(_begin_rebuild, name, using=using), using=using)
    return _rebuild(size, using=using)


def where_zones_differ(calendar: Calendar) -> str:
    """Return what to do where the reporting zone is not the site's own."""
    if calendar.sealed_before is None:
        return "Run `manage.py backfill_aggregates --rebuild` to count all days anew in TIME_ZONE."
    return f"{_where_sealed(calendar)} The reporting zone stays {calendar.zone!r}: set TIME_ZONE to that."


def _where_sealed(calendar: Calendar) -> str:
    return f"Page views before {calendar.sealed_before} were pruned, so days can't be counted anew."


def preview_rebuild(*, zone: str | None = None) -> Scope:
    """Return what `rebuild` would count again; raise what it would raise. Nothing is written.

    Arguments:
        zone: that in which days would be reckoned; None is settings.TIME_ZONE.
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
            else f"{_where_sealed(calendar)} Run `manage.py verify_aggregates --repair` to set right those since then."
        )


def _begin_rebuild(zone: str, *, using: str) -> None:
    """Tell the writers to store their views pending. The row is locked first, by a write."""
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


def _rebuild(size: int, *, using: str) -> Generator[Progress, None, None]:
    until = time.monotonic() + LONGEST_WRITE.total_seconds()
    views = PageView.objects.using(using)
    total = views.rolled_up().count() + views.count()
    taken, is_over = 0, False
    while not is_over:
        for chunk in chunks(views.rolled_up, size, by="pk", using=using):
            sessions = {session_id for _, session_id in chunk}
            taken += sql.transact(partial(_make_pending, sessions, using=using), using=using)
            yield Progress(processed=taken, total=max(total, taken))
        # Whoever saw the calendar before it said that a rebuild is under way has begun to write by then.
        time.sleep(max(0, until - time.monotonic()))
        if not (is_over := _change_zone(using=using)):
            yield Progress(processed=taken, total=max(total, taken))
        until = time.monotonic() + PAUSE_FOR_WRITERS.total_seconds()
    for progress in backfill(batch_size=size):
        done = taken + progress.processed
        yield Progress(processed=done, total=max(total, done))


def _make_pending(sessions: set[str], *, using: str) -> int:
    sql.lock_sessions(sessions, using=using)
    paths = subtract_sessions(sessions, using=using)
    taken = PageView.objects.using(using).rolled_up().filter(session_id__in=sessions).update(rolled_up=False)
    refresh_page_totals(paths, using=using)
    return taken


def _change_zone(*, using: str) -> bool:
    """Change the zone, if nothing is rolled up; what is then in the rollups is drift. Tell whether the zone is changed.

    It is changed, too, if another rebuild has come here first. It is not while a transaction is open, an import for
    example, that has written to the rollups by the old zone.
    """
    try:
        with transaction.atomic(using=using):
            sql.wait_for_writers(Visitor, using=using)  # each of them begins there, and then looks at the calendar
            rows = Calendar.unguarded.using(using).row()
            rows.lock()
            next_zone = sql.current(rows).values_list("next_zone", flat=True).get()
            if not next_zone:
                return True
            if sql.current(PageView.objects.using(using).rolled_up()[:1]):
                return False
            for model in (Rollup, Return, PageTotal):
                model.unguarded.using(using).all().delete()
            Visitor.unguarded.using(using).filter(first_seen__isnull=False).update(first_seen=None, last_day=None)
            rows.update(zone=next_zone, next_zone="")
            return True
    except OperationalError as error:
        if not sql.is_lock_error(error):
            raise
        return False
