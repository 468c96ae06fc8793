"""Fold pending page views into the rollups, in chunks of one transaction each."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from django.db import router
from django.db.models import Case, F, When

from pagestats import sql
from pagestats.conf import conf
from pagestats.days import EARLIEST, LATEST, YEARS, start_of
from pagestats.formats import counted
from pagestats.hits import instant
from pagestats.models import SILENCE_OF_THE_DEAD, Calendar, PageView, PageViewQuerySet, Run
from pagestats.rollups.adding import add, addition, fix_reporting_zone, open_seals
from pagestats.rollups.chunks import Progress, chunk_size, chunks


class RebuildUnderWay(ValueError):
    """The rollups are being rebuilt, or a rebuild of them was killed: until it is done, all views stay pending."""

    def __init__(self) -> None:
        super().__init__(
            "The rollups are being rebuilt, and page views stay pending until that is done. If nothing runs, it was"
            " killed: run backfill_aggregates --rebuild, and it goes on."
        )


def refuse_while_rebuilding() -> None:
    """Raise `RebuildUnderWay` while the rollups are being rebuilt."""
    if error := _under_way(using=router.db_for_write(Calendar)):
        raise error


def _under_way(*, using: str) -> RebuildUnderWay | None:
    """Return what to say while the rollups are being rebuilt, else None."""
    next_zone = Calendar.objects.using(using).row().values_list("next_zone", flat=True).first()
    return RebuildUnderWay() if next_zone else None


def begin_backfill(**result: Any) -> Run | None:
    """Store the run of a backfill that is about to begin and return it, or None when nothing is pending.

    Arguments:
        result: what else its `result` is to hold.
    """
    using = router.db_for_write(PageView)
    total = foldable(using=using).count()
    if not total:
        return None
    now = instant(None)
    run = Run(kind=Run.Kind.BACKFILL, status=Run.Status.RUNNING, started=now, updated=now)
    run.result = {"total": total, "new_visitors": 0, **result}
    run.save(using=using)
    return run


def backfill(*, batch_size: int | None = None, run: Run | None = None) -> Generator[Progress, None, None]:
    """Fold pending page views into the rollups, chunk by chunk, and yield the progress after each.

    Each chunk is one transaction: its rows are in the rollups and marked, or neither. It may be stopped or killed
    anywhere and started again, and run beside live traffic or beside another backfill. With nothing pending it yields
    nothing and leaves no `Run`. While the rollups are being rebuilt it folds nothing, and ends.

    Arguments:
        batch_size: page views a chunk, 1 to 10,000; None is PAGESTATS_BACKFILL_BATCH_SIZE.
        run: one to carry on. Its figures go on, and it stays "running" when the iteration ends before nothing is
            pending, since somebody else is to carry it on; None is a run of its own, which is "stopped" then.

    Raises `ValueError` for any other batch size.
    """
    return _backfill(chunk_size(batch_size, default=conf.BACKFILL_BATCH_SIZE), run)


def fold(*, batch_size: int | None = None) -> Generator[int, None, None]:
    """Fold what is pending now, as `backfill` does but without a `Run`; yield the number of page views of each chunk.

    Arguments:
        batch_size: page views a chunk; None is PAGESTATS_BACKFILL_BATCH_SIZE.
    """
    using = router.db_for_write(PageView)
    size = chunk_size(batch_size, default=conf.BACKFILL_BATCH_SIZE)
    try:
        for chunk in chunks(partial(foldable, using=using), size, by="pk", using=using):
            folded, _ = sql.transact(partial(_fold_chunk, chunk, using=using), using=using)
            yield folded
    except RebuildUnderWay:
        pass  # its own backfill folds them


def foldable(*, using: str) -> PageViewQuerySet:
    """Return the pending page views that can be folded: those of sealed days stay pending, and those of no day."""
    return _pending(can_be_folded=True, using=using)


def _pending(*, can_be_folded: bool, using: str) -> PageViewQuerySet:
    """Return the pending page views that can be folded, or those that can't be.

    The times are asked for by a CASE, so that the index of pending ones finds them: nearly all page views are of these
    times, and a planner that sees the condition may read them all by the index of times.
    """
    calendar = Calendar.objects.using(using).row().first()
    begin = EARLIEST
    if calendar is not None and calendar.sealed_before is not None:
        begin = start_of(calendar.sealed_before, ZoneInfo(calendar.zone))
    is_of_a_day = Case(When(timestamp__gte=begin, timestamp__lt=LATEST, then=1), default=0)
    return PageView.objects.using(using).pending().alias(is_of_a_day=is_of_a_day).filter(is_of_a_day=int(can_be_folded))


def _backfill(size: int, carried_on: Run | None) -> Generator[Progress, None, None]:
    run = carried_on or begin_backfill()
    if run is None:
        return
    using = router.db_for_write(PageView)
    progress = Progress(processed=run.processed, total=run.result["total"], new_visitors=run.result["new_visitors"])
    status = Run.Status.RUNNING if carried_on else Run.Status.STOPPED

    def advance(chunk: Sequence[tuple[int, str]]) -> Progress:
        folded, new_visitors = _fold_chunk(chunk, using=using)
        _advance(run, processed=folded, new_visitors=new_visitors, using=using)
        processed = progress.processed + folded
        return Progress(
            processed=processed,
            total=max(progress.total, processed),
            new_visitors=progress.new_visitors + new_visitors,
        )

    try:
        for chunk in chunks(partial(foldable, using=using), size, by="pk", using=using):
            progress = sql.transact(partial(advance, chunk), using=using)
            yield progress
        status = Run.Status.FINISHED
    except RebuildUnderWay:
        pass  # its own backfill folds them
    finally:
        if status != Run.Status.RUNNING:
            sql.retrying(partial(Run.objects.using(using).filter(pk=run.pk).end, status), using=using)


def _fold_chunk(chunk: Sequence[tuple[int, str]], *, using: str) -> tuple[int, int]:
    """Fold those of some pending page views in that nobody else has taken; return how many, and the new visitors."""
    sessions = {session_id for _, session_id in chunk}
    sql.lock_sessions(sessions, using=using)
    views = PageView.objects.using(using).filter(pk__in=[pk for pk, _ in chunk])
    # Once more, now that nobody else can fold them; a row that meanwhile changed its session waits for another chunk.
    rows = sql.current(views.pending().filter(session_id__in=sessions))
    found = rows.annotate(at=F("timestamp")).values_list("pk", "session_id", "path", "at", named=True)
    taken: list[Any] = list(found)
    if not taken:
        return 0, 0
    around = sql.look(taken, using=using)
    if around[0].next_zone:
        raise RebuildUnderWay
    around[0] = fix_reporting_zone(around[0], using=using)
    added = addition(taken, around, using=using)
    open_seals(taken, around[0], using=using)
    # Not `views` again: of two lists of keys PostgreSQL would rather read the whole table.
    PageView.objects.using(using).filter(pk__in=[view.pk for view in taken]).update(rolled_up=True)
    add(added, using=using)
    return len(taken), added.new_visitors


def _advance(run: Run, *, processed: int, new_visitors: int, using: str) -> None:
    """Add to the figures of a run, in the transaction of the chunk: what else its `result` holds is another's."""
    rows = Run.objects.using(using).filter(pk=run.pk)
    rows.advance(processed=F("processed") + processed)
    for stored in sql.current(rows):  # locked by the update; or none, when somebody deleted it
        stored.result["total"] = max(stored.result["total"], stored.processed)
        stored.result["new_visitors"] += new_visitors
        stored.save(using=using, update_fields=["result"])


@dataclass(frozen=True, kw_only=True, slots=True)
class BackfillStatus:
    """How many page views are pending, how the last backfill went, None when there was none, and what holds it up."""

    pending: int
    stranded: int
    """How many of these no backfill folds: they came by another door, and are of sealed days, or of none at all."""
    last_run: Run | None
    rebuild: RebuildUnderWay | None

    def describe(self, at: datetime) -> str:
        """Return the status in words, as of an instant."""
        lines = [f"{counted(self.pending, 'page view')} pending"]
        lines += self.describe_stranded()
        if run := self.last_run:
            lines.append(
                f"Last backfill: {run.status}, started {run.started:%Y-%m-%d %H:%M:%S %Z},"
                f" {run.processed:,} of {counted(run.result['total'], 'page view')},"
                f" {counted(run.result['new_visitors'], 'new visitor')}"
            )
            silence = at - run.updated
            if run.status == Run.Status.RUNNING and silence > SILENCE_OF_THE_DEAD:
                lines.append(
                    f"No progress for {silence.total_seconds():,.0f} seconds: it was killed, or waits for a lock or for"
                    " a cluster."
                    " Run backfill_aggregates again, and it goes on."
                )
        else:
            lines.append("No backfill has run yet")
        if self.rebuild:
            lines.append(str(self.rebuild))
        return "\n".join(lines)

    def describe_stranded(self) -> list[str]:
        """Return what to do about those that stay pending, in a line; none where there are none."""
        if not self.stranded:
            return []
        return [
            f"{counted(self.stranded, 'pending page view')} can't be folded in: of days whose page views were pruned,"
            f" or outside the years {YEARS.start} to {YEARS.stop - 1}. Correct or delete what came so."
        ]


def backfill_status() -> BackfillStatus:
    """Return the status of the backfill, from whichever process."""
    return BackfillStatus(
        pending=PageView.objects.pending().count(),
        stranded=_pending(can_be_folded=False, using=router.db_for_read(PageView)).count(),
        last_run=Run.objects.filter(kind=Run.Kind.BACKFILL).newest_first().first(),
        rebuild=_under_way(using=router.db_for_read(Calendar)),
    )
