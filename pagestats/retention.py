"""What is not kept: stale sessions, page views of long ago, and what a visitor wants gone."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Generator, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from django.db import OperationalError, router
from django.db.models import F

from pagestats import rollups, sql
from pagestats.conf import conf
from pagestats.days import EARLIEST, YEARS, day_of, start_of
from pagestats.formats import counted
from pagestats.hits import Hit, instant
from pagestats.models import ActiveSession, Calendar, PageView, Run, Salt, Seal, Visitor
from pagestats.rollups import Progress, RebuildUnderWay, Scope, SealedDay


def cleanup_stale_sessions(*, at: datetime | None = None) -> int:
    """Delete the sessions whose last heartbeat is older than PAGESTATS_SESSION_TIMEOUT, and return how many.

    Arguments:
        at: an aware datetime; None is now.
    """
    using = router.db_for_write(ActiveSession)
    stale = ActiveSession.objects.using(using).stale(instant(at))
    return sql.retrying(lambda: stale.delete()[0], using=using)


def clean_up() -> int:
    """Delete the stale sessions, note it in the one `Run` of the clean-up, and return how many.

    Each clean-up overwrites that row: its `started` is that of the last one that came to its end, its `processed` the
    sessions that one deleted.
    """
    started = instant(None)
    deleted = cleanup_stale_sessions(at=started)
    using = router.db_for_write(Run)
    finished = instant(None)
    figures = {
        "status": Run.Status.FINISHED,
        "started": started,
        "updated": finished,
        "finished": finished,
        "processed": deleted,
    }
    runs = Run.objects.using(using)
    if not sql.retrying(lambda: runs.filter(kind=Run.Kind.CLEANUP).update(**figures), using=using):
        runs.create(kind=Run.Kind.CLEANUP, **figures)
    return deleted


def delete_expired_salts(*, at: datetime | None = None) -> int:
    """Delete the salts of anonymous ids that are two reporting days old or more, and return how many.

    The first page view of a day does the same; this is for a site on which there is none.

    Arguments:
        at: an aware datetime; None is now.
    """
    using = router.db_for_write(Salt)
    today = day_of(instant(at), Calendar.zone_of(Calendar.objects.using(using)))
    expired = Salt.objects.using(using).expired(today)
    return sql.retrying(lambda: expired.delete()[0], using=using)


def erase(session_id: str) -> int:
    """Delete all page views of a session and take what they added off all figures; return how many there were.

    Pending page views and the active session go, too. It is one transaction, however many page views there are. What
    stays is an empty row with the session's id, the lock on which a writer may be waiting; `sweep_visitors` deletes it
    an hour later.

    Arguments:
        session_id: as it was given to a `Hit`, which shortens one of over 64 characters.

    Raises `InvalidHit` for what can be no session id, and `SealedDay` when page views of the session were pruned or are
    about to be: what they added to sealed days stays counted. `forget` takes the id away from all that is left.
    """
    session_id = _session(session_id)
    using = router.db_for_write(PageView)
    if not _is_known(session_id, using=using):
        return 0
    return sql.transact(partial(_erase, session_id, using=using), using=using)


def preview_erase(session_id: str) -> Scope:
    """Return what `erase` would delete; raise what it would raise. Nothing is written."""
    using = router.db_for_write(PageView)
    _refuse_sealed_session(_session(session_id), using=using)
    return preview_forget(session_id)


def forget(session_id: str) -> int:
    """Put a random id in the place of a session's wherever it is stored; return how many page views have it now.

    No figure changes. It is one transaction, and possible after page views of the session were pruned. If its browser
    comes back with the old id, it is a new visitor. Of the old id an empty row stays for an hour, as `erase` tells.

    Arguments:
        session_id: as it was given to a `Hit`, which shortens one of over 64 characters.

    Raises `InvalidHit` for what can be no session id.
    """
    session_id = _session(session_id)
    using = router.db_for_write(PageView)
    if not _is_known(session_id, using=using):
        return 0
    return sql.transact(partial(_forget, session_id, secrets.token_hex(16), using=using), using=using)


def preview_forget(session_id: str) -> Scope:
    """Return what `forget` would give another id. Nothing is written."""
    using = router.db_for_write(PageView)
    views = PageView.objects.using(using).filter(session_id=_session(session_id))
    return rollups.scope_of(views, Calendar.zone_of(Calendar.objects.using(using)))


def has_sealed_days(session_id: str) -> bool:
    """Tell whether page views of a session were pruned."""
    visitors = Visitor.objects.using(router.db_for_write(PageView))
    return visitors.filter(session_id=_session(session_id), last_sealed_day__isnull=False).exists()


def is_here(session_id: str) -> bool:
    """Tell whether the heartbeat of a session is stored, which `erase` deletes and `forget` gives another id."""
    here = ActiveSession.objects.using(router.db_for_write(ActiveSession))
    return here.filter(session_id=_session(session_id)).exists()


def sweep() -> None:
    """Delete what nobody needs any more: expired salts, and empty rows of sessions that were erased."""
    delete_expired_salts()
    sweep_visitors()


def sweep_visitors(*, at: datetime | None = None) -> int:
    """Delete the empty rows of sessions that were erased or forgotten over an hour ago, and return how many.

    A writer that looked at the session before that has written by then, or never will.

    Arguments:
        at: an aware datetime; None is now.
    """
    using = router.db_for_write(PageView)
    empty = Visitor.BLANK | {"version__gte": SINCE_AN_INSTANT, "version__lt": _since(instant(at) - timedelta(hours=1))}
    rows = Visitor.unguarded.using(using).filter(**empty)
    # Looked for without a lock: a DELETE by columns without an index would wait on MariaDB for whoever writes any row.
    keys = list(rows.values_list("pk", flat=True))
    return sum(
        sql.retrying(rows.filter(pk__in=keys[start : start + SWEPT_AT_ONCE]).delete, using=using)[0]
        for start in range(0, len(keys), SWEPT_AT_ONCE)
    )


SWEPT_AT_ONCE = 500  # rows

SINCE_AN_INSTANT = 10**15
"""Versions from here on are of sessions that were erased or forgotten, and tell when. No other row is written often
enough to come near."""


def _since(at: datetime) -> int:
    """Return the version of a row that is empty since an instant: its microseconds since 1970."""
    return int(at.timestamp() * 1_000_000)


def _session(session_id: str) -> str:
    """Return a session's id as it is stored."""
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
            f"Page views of this session, the last of {day}, were pruned or are about to be: what they added to the"
            " figures of sealed days stays. Forget it instead (--forget): a random id takes its place everywhere."
        )


def _last_day_to_be_pruned(session_id: str, *, using: str) -> date | None:
    """Return the last sealed day of a session whose page views a killed pruning left, None without any."""
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
    """Lock a session, its heartbeat first, as who records does: two that lock in one order do not stop each other."""
    ActiveSession.objects.using(using).filter(session_id=session_id).update(last_seen=F("last_seen"))
    sql.lock_sessions([session_id, *others], using=using)


def _empty(session_id: str, *, using: str) -> None:
    """Leave nothing in a visitor's row but the lock, with a version that no writer has seen."""
    rows = Visitor.unguarded.using(using).filter(session_id=session_id)
    rows.update(version=max(_since(instant(None)), SINCE_AN_INSTANT), **Visitor.BLANK)


class PendingViews(ValueError):
    """Page views before the boundary are pending: pruned now, they would be in no figure."""


class WritersUnderWay(ValueError):
    """A transaction that has written page views stays open: some of them may be pending, and nobody can see it yet."""


def kept_from(*, at: datetime | None = None) -> date | None:
    """Return the first reporting day whose page views PAGESTATS_KEEP_PAGE_VIEWS keeps; None is all.

    Arguments:
        at: an aware datetime; None is now.
    """
    keep = conf.KEEP_PAGE_VIEWS
    zone = Calendar.zone_of(Calendar.objects.using(router.db_for_write(PageView)))
    # A site that keeps more than there is to keep keeps all.
    return None if keep is None else max(day_of(instant(at), zone) - keep, EARLIEST.date())


def prune(
    before: date, *, at: datetime | None = None, batch_size: int | None = None
) -> Generator[Progress, None, None]:
    """Delete the page views of all reporting days before one, chunk by chunk, and yield how far it is after each.

    All that was counted stays. First the days are sealed: from then on nothing of them is recorded, erased or merged,
    and what they added is judged no more. Then page views are deleted, each chunk in a transaction of its own. It may
    be killed anywhere, run again, and run beside live traffic or another pruning; the next one goes on where it was. A
    seal is never moved back: of an earlier day there is only to finish what a killed one left.

    Arguments:
        before: the first reporting day whose page views stay.
        at: an aware datetime, the moment of pruning; None is now.
        batch_size: page views a chunk, 1 to 10,000; None is 500.

    Raises `PendingViews` when page views before that day are pending, `WritersUnderWay` when others might come to be,
    `RebuildUnderWay`, and `ValueError` for a day that is to come or of no year that is reported; then nothing was
    sealed.
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
            " pagestats_visitor goes on. Prune again when it has ended."
        ) from error
    return _prune(calendar, size, using=using)


def preview_prune(before: date, *, at: datetime | None = None) -> Scope:
    """Return what `prune` would delete; raise what it would raise. Nothing is written.

    Arguments:
        before: the first reporting day whose page views stay.
        at: an aware datetime, the moment of pruning; None is now.
    """
    using = router.db_for_write(PageView)
    calendar = Calendar.objects.using(using).row().first()
    zone = Calendar.zone_named(calendar.zone if calendar else None)
    bound = _bound(before, calendar, zone, instant(at), using=using)
    views = PageView.objects.using(using).rolled_up().filter(timestamp__lt=start_of(bound, zone))
    return rollups.scope_of(views, zone)


def _bound(before: date, calendar: Calendar | None, zone: ZoneInfo, at: datetime, *, using: str) -> date:
    """Return the day before which page views may be pruned; raise when they may not."""
    if calendar is not None and calendar.next_zone:
        raise RebuildUnderWay
    if not isinstance(before, date) or isinstance(before, datetime):
        raise ValueError(f"before is {before!r}, not a date. Use a datetime.date.")
    if before.year not in YEARS:
        raise ValueError(f"before is {before}, outside the years {YEARS.start} to {YEARS.stop - 1}.")
    today = day_of(at, zone)
    if before > today:
        raise ValueError(f"before is {before}, and today is {today}. Page views of days to come can't be pruned.")
    sealed = calendar.sealed_before if calendar is not None else None
    bound = _at_least_the_seal(before, calendar)
    pending = PageView.objects.using(using).pending().filter(timestamp__lt=start_of(bound, zone))
    if sealed is not None and (count := pending.filter(timestamp__lt=start_of(sealed, zone)).count()):
        raise PendingViews(
            f"{counted(count, 'pending page view')} of days before {sealed}, which are sealed, came by another door"
            " or at the moment of the sealing, and can be folded in no more. Delete what came so, then prune."
        )
    if count := pending.filter(timestamp__lt=EARLIEST).count():
        raise PendingViews(
            f"{counted(count, 'pending page view')} of before {EARLIEST:%Y-%m-%d} can be in no figure of a day. Correct"
            " or delete what came so, then prune."
        )
    if count := pending.count():
        raise PendingViews(
            f"{counted(count, 'pending page view')} before {bound} would be in no figure, pruned now. Run"
            " backfill_aggregates first."
        )
    return bound


def bound_of(before: date) -> date:
    """Return the day before which `prune(before)` deletes: a seal is never moved back."""
    return _at_least_the_seal(before, Calendar.objects.using(router.db_for_write(PageView)).row().first())


def _at_least_the_seal(before: date, calendar: Calendar | None) -> date:
    return max(before, (calendar and calendar.sealed_before) or before)


def _seal(before: date, at: datetime, *, using: str) -> Calendar | None:
    """Seal the days before one, unless they are; return the calendar then, None when nothing was ever counted."""
    if conf.ROLLUPS == "deferred":
        sql.wait_for_writers(Visitor, using=using)  # each of them begins there, and then looks at the calendar
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
    run = _last_pruning(calendar.sealed_before, using=using)
    left = views.count()
    if not left:
        if run.pk:
            _end(run, Run.Status.FINISHED, using=using)  # it was stopped after its last chunk
        return
    _go_on(run, calendar.sealed_before, left, using=using)
    processed = earlier = run.processed
    total = earlier + left
    status = Run.Status.STOPPED
    try:
        for chunk in rollups.chunks(lambda: views, size, by="timestamp", using=using):
            processed += sql.transact(partial(_prune_chunk, chunk, zone, run, using=using), using=using)
            yield Progress(processed=processed, total=max(total, processed), earlier=earlier)
        status = Run.Status.FINISHED
    finally:
        _end(run, status, using=using)


def _last_pruning(before: date, *, using: str) -> Run:
    """Return the run of the last pruning before a day, to go on with, or a new one if that came to its end."""
    run = Run.objects.using(using).filter(kind=Run.Kind.PRUNE).newest_first().first()
    if run is not None and run.status != Run.Status.FINISHED:
        if run.result.get("before") == before.isoformat():
            return run
        _end(run, Run.Status.STOPPED, using=using)  # it died; this one prunes what it left
    return Run(kind=Run.Kind.PRUNE, started=instant(None))


def _go_on(run: Run, before: date, left: int, *, using: str) -> None:
    """Store that a run is under way, and what is left for it."""
    run.status, run.updated, run.finished = Run.Status.RUNNING, instant(None), None
    run.result = {"before": before.isoformat(), "total": run.processed + left}
    # Its `processed` is counted on by whoever prunes at the same time.
    columns = ["status", "updated", "finished", "result"] if run.pk else None
    sql.retrying(partial(run.save, using=using, update_fields=columns), using=using)


def _end(run: Run, status: Run.Status, *, using: str) -> None:
    sql.retrying(partial(Run.objects.using(using).filter(pk=run.pk).end, status), using=using)


def _prune_chunk(chunk: Sequence[tuple[int, str]], zone: ZoneInfo, run: Run, *, using: str) -> int:
    """Delete some page views, and note with their sessions the last day of which; return how many were there still."""
    sessions = {session_id for _, session_id in chunk}
    sql.lock_sessions(sessions, using=using)
    views = PageView.objects.using(using).rolled_up().filter(pk__in=[pk for pk, _ in chunk])
    # Once more, now that nobody else can change them; one that meanwhile changed its session waits for another chunk.
    rows = list(sql.current(views.filter(session_id__in=sessions)).values_list("pk", "session_id", "timestamp"))
    last: defaultdict[str, date] = defaultdict(lambda: date.min)
    for _, session_id, at in rows:
        last[session_id] = max(last[session_id], day_of(at, zone))
    visitors = Visitor.objects.using(using).filter(session_id__in=last, last_sealed_day__isnull=False)
    for session_id, day in sql.current(visitors).values_list("session_id", "last_sealed_day"):
        last[session_id] = max(last[session_id], day or date.min)
    sql.upsert(Visitor, last.items(), key=["session_id"], changes={"last_sealed_day": "set"}, using=using)
    PageView.objects.using(using).filter(pk__in=[pk for pk, *_ in rows]).delete()
    Run.objects.using(using).filter(pk=run.pk).advance(processed=F("processed") + len(rows))
    return len(rows)
