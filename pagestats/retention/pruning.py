"""Deleting old page views, while everything that was counted stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from datetime import date, datetime
from functools import partial
from zoneinfo import ZoneInfo

from django.db import OperationalError, router

from pagestats import rollups, runs, sql
from pagestats.conf import conf
from pagestats.days import EARLIEST, YEARS, day_of, start_of
from pagestats.formats import counted
from pagestats.hits import instant
from pagestats.models import Calendar, PageView, Run, Seal, Visitor
from pagestats.rollups import Progress, RebuildUnderWay, Scope
from pagestats.runs import PruneResult


class PendingViews(ValueError):
    """Page views before the boundary are pending. If they were pruned now, they would never be counted."""


class WritersUnderWay(ValueError):
    """A transaction that has written page views stays open. Some of them may be pending, which nobody can see yet."""


def kept_from(*, at: datetime | None = None) -> date | None:
    """Return the first reporting day whose page views PAGESTATS_KEEP_PAGE_VIEWS keeps; None is all of them.

    Args:
        at: an aware datetime; None is now.
    """
    keep = conf.KEEP_PAGE_VIEWS
    zone = Calendar.zone_of(Calendar.objects.using(router.db_for_write(PageView)))
    # The setting may reach back beyond the first day of the calendar.
    return None if keep is None else max(day_of(instant(at), zone) - keep, EARLIEST.date())


def prune(
    before: date, *, at: datetime | None = None, batch_size: int | None = None
) -> Generator[Progress, None, None]:
    """Delete the page views of all reporting days before a day, in chunks, and yield the progress after each one.

    Everything that was counted stays. First the days are sealed: from then on no view of them is recorded, erased or
    merged, and `verify` skips them. Then page views are deleted, each chunk in a transaction of its own. It may be
    killed at any instant, and run beside live traffic or another pruning; the next call continues. A seal never moves
    back: for a day before it, this only deletes what a killed pruning has left.

    Args:
        before: the first reporting day whose page views are kept.
        at: an aware datetime, the moment of pruning; None is now.
        batch_size: page views per chunk, 1 to 10,000; None is 500.

    Raises:
        PendingViews: page views before that day are pending.
        WritersUnderWay: an open transaction may have stored pending page views.
        RebuildUnderWay: the rollups are being rebuilt.
        ValueError: the day is in the future or outside the calendar. After any of these errors, nothing was sealed.
    """
    size = rollups.chunk_size(batch_size)
    using = router.db_for_write(PageView)
    try:
        calendar = sql.transact(partial(_seal, before, instant(at), using=using), using=using)
    except OperationalError as error:
        if not sql.is_lock_error(error):
            raise
        raise WritersUnderWay(
            "A transaction that writes page views, an import for example, stays open; or, on PostgreSQL, a vacuum of"
            " pagestats_visitor is running. Prune again when it has ended."
        ) from error
    return _prune(calendar, size, using=using)


def preview_prune(before: date, *, at: datetime | None = None) -> Scope:
    """Return how much `prune` would delete; raise what it would raise. Nothing is written.

    Args:
        before: the first reporting day whose page views are kept.
        at: an aware datetime, the moment of pruning; None is now.
    """
    using = router.db_for_write(PageView)
    calendar = Calendar.objects.using(using).row().first()
    zone = Calendar.zone_named(calendar.zone if calendar else None)
    bound = _bound(before, calendar, zone, instant(at), using=using)
    views = PageView.objects.using(using).rolled_up().filter(timestamp__lt=start_of(bound, zone))
    return rollups.scope_of(views, zone)


def _bound(before: date, calendar: Calendar | None, zone: ZoneInfo, at: datetime, *, using: str) -> date:
    """Return the day before which page views may be pruned; raise if they may not."""
    if calendar is not None and calendar.next_zone:
        raise RebuildUnderWay
    if not isinstance(before, date) or isinstance(before, datetime):
        raise ValueError(f"before is {before!r}, not a date. Use a datetime.date.")
    if before.year not in YEARS:
        raise ValueError(f"before is {before}, outside the years {YEARS.start} to {YEARS.stop - 1}.")
    today = day_of(at, zone)
    if before > today:
        raise ValueError(f"before is {before}, and today is {today}. Future days can't be pruned.")
    sealed = calendar.sealed_before if calendar is not None else None
    bound = _at_least_the_seal(before, calendar)
    pending = PageView.objects.using(using).pending().filter(timestamp__lt=start_of(bound, zone))
    if sealed is not None and (count := pending.filter(timestamp__lt=start_of(sealed, zone)).count()):
        raise PendingViews(
            f"{counted(count, 'pending page view')} of days before {sealed} can't be rolled up, because those days were"
            " pruned before the page views were stored. Delete these rows, then prune."
        )
    if count := pending.filter(timestamp__lt=EARLIEST).count():
        raise PendingViews(
            f"{counted(count, 'pending page view')} before {EARLIEST:%Y-%m-%d} can't be rolled up, because stats begin"
            " on that day. Correct or delete these rows, then prune."
        )
    if count := pending.count():
        raise PendingViews(
            f"{counted(count, 'pending page view')} before {bound} would never be counted if pruned now. Run"
            " backfill_aggregates first."
        )
    return bound


def bound_of(before: date) -> date:
    """Return the day before which `prune(before)` deletes page views: a seal never moves back."""
    return _at_least_the_seal(before, Calendar.objects.using(router.db_for_write(PageView)).row().first())


def _at_least_the_seal(before: date, calendar: Calendar | None) -> date:
    return max(before, (calendar and calendar.sealed_before) or before)


def _seal(before: date, at: datetime, *, using: str) -> Calendar | None:
    """Seal the days before a day, and return the calendar after that; None if nothing was ever counted."""
    if conf.ROLLUPS == "deferred":
        sql.wait_for_writers(Visitor, using=using)  # the first write of each writer is there
    rows = Calendar.unguarded.using(using).row()
    rows.lock()
    calendar = sql.current(rows).first()
    zone = Calendar.zone_named(calendar.zone if calendar else None)
    bound = _bound(before, calendar, zone, at, using=using)
    if calendar is not None and bound != calendar.sealed_before and _any_before(bound, zone, using=using):
        calendar.sealed_before, calendar.sealed_on = bound, day_of(at, zone)
        rows.update(sealed_before=bound, sealed_on=calendar.sealed_on)
        sql.upsert(Seal, [(bound, calendar.sealed_on)], key=["before"], changes={"open_from": "least"}, using=using)
    return calendar


def _any_before(day: date, zone: ZoneInfo, *, using: str) -> bool:
    return PageView.objects.using(using).rolled_up().filter(timestamp__lt=start_of(day, zone)).exists()


def _prune(calendar: Calendar | None, size: int, *, using: str) -> Generator[Progress, None, None]:
    if calendar is None or calendar.sealed_before is None:
        return
    zone = ZoneInfo(calendar.zone)
    views = PageView.objects.using(using).rolled_up().filter(timestamp__lt=start_of(calendar.sealed_before, zone))
    left = views.count()
    run = _last_pruning(calendar.sealed_before)
    if not left:
        if run is not None:
            runs.end(run, Run.Status.FINISHED)  # it was stopped after its last chunk
        return
    earlier = run.processed if run is not None else 0
    total = earlier + left
    result = PruneResult(before=calendar.sealed_before, total=total)
    if run is None:
        run = runs.begin(result)
    else:
        runs.resume(run, result)
    processed = earlier
    status = Run.Status.STOPPED
    try:
        for chunk in rollups.chunks(lambda: views, size, by="timestamp", using=using):
            processed += sql.transact(partial(_prune_chunk, chunk, zone, run, using=using), using=using)
            yield Progress(processed=processed, total=max(total, processed), earlier=earlier)
        status = Run.Status.FINISHED
    finally:
        runs.end(run, status)


def _last_pruning(before: date) -> Run | None:
    """Return the last pruning if it can be continued: if it was before this day, and didn't finish.

    If it was before another day and didn't finish, it becomes "stopped": the next pruning deletes what it left.
    """
    run = runs.last(Run.Kind.PRUNE)
    if run is None or run.status == Run.Status.FINISHED:
        return None
    if PruneResult.of(run).before == before:
        return run
    runs.end(run, Run.Status.STOPPED)
    return None


def _prune_chunk(chunk: Sequence[tuple[int, str]], zone: ZoneInfo, run: Run, *, using: str) -> int:
    """Delete the page views of a chunk, and note the last sealed day of their sessions; return how many were left."""
    sessions = {session_id for _, session_id in chunk}
    sql.lock_sessions(sessions, using=using)
    views = PageView.objects.using(using).rolled_up().filter(pk__in=[pk for pk, _ in chunk])
    # Read again, now that no other process can change them. A row whose session has changed waits for another chunk.
    rows = list(sql.current(views.filter(session_id__in=sessions)).values_list("pk", "session_id", "timestamp"))
    last: defaultdict[str, date] = defaultdict(lambda: date.min)
    for _, session_id, at in rows:
        last[session_id] = max(last[session_id], day_of(at, zone))
    visitors = Visitor.objects.using(using).filter(session_id__in=last, last_sealed_day__isnull=False)
    for session_id, day in sql.current(visitors).values_list("session_id", "last_sealed_day"):
        last[session_id] = max(last[session_id], day or date.min)
    sql.upsert(Visitor, last.items(), key=["session_id"], changes={"last_sealed_day": "set"}, using=using)
    PageView.objects.using(using).filter(pk__in=[pk for pk, *_ in rows]).delete()
    runs.advance(run, by=len(rows))
    return len(rows)
