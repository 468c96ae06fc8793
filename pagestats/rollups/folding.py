"""Roll up pending page views, in chunks of one transaction each."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from django.db import router
from django.db.models import Case, F, When

from pagestats import runs, sql
from pagestats.conf import conf
from pagestats.days import EARLIEST, LATEST, YEARS, start_of
from pagestats.formats import counted
from pagestats.models import STALLED_AFTER, Calendar, PageView, PageViewQuerySet, Run
from pagestats.rollups.adding import add, addition, fix_reporting_zone, open_seals
from pagestats.rollups.chunks import Chunk, Progress, chunk_size, chunks
from pagestats.runs import BackfillResult


class RebuildUnderWay(ValueError):
    """The rollups are being rebuilt, or their rebuild was killed. Until it is done, all page views stay pending."""

    def __init__(self) -> None:
        super().__init__(
            "The rollups are being rebuilt, and page views stay pending until that is done. If no rebuild is running,"
            " it was killed: run backfill_aggregates --rebuild to continue."
        )


def refuse_while_rebuilding() -> None:
    """Raise `RebuildUnderWay` while the rollups are being rebuilt."""
    if error := _under_way(using=router.db_for_write(Calendar)):
        raise error


def _under_way(*, using: str) -> RebuildUnderWay | None:
    """Return the error to raise while the rollups are being rebuilt, else None."""
    next_zone = Calendar.objects.using(using).row().values_list("next_zone", flat=True).first()
    return RebuildUnderWay() if next_zone else None


def begin_backfill(*, link: int | None = None, batch_size: int | None = None) -> Run | None:
    """Store the run of a backfill that begins now and return it; None if nothing is pending.

    Args:
        link: the link that is due if the backfill is a chain of tasks.
        batch_size: page views per chunk of that chain.
    """
    total = can_be_rolled_up(using=router.db_for_write(PageView)).count()
    return runs.begin(BackfillResult(total=total, link=link, batch_size=batch_size)) if total else None


def backfill(*, batch_size: int | None = None, run: Run | None = None) -> Generator[Progress, None, None]:
    """Roll up pending page views, chunk by chunk, and yield the progress after each chunk.

    Each chunk is one transaction: its rows are in the rollups and marked, or neither. The backfill may be stopped or
    killed at any instant and started again, and run beside live traffic or another backfill. If nothing is pending, it
    yields nothing and leaves no `Run`. While the rollups are being rebuilt it rolls up nothing, and ends.

    Args:
        batch_size: page views per chunk, 1 to 10,000; None is PAGESTATS_BACKFILL_BATCH_SIZE.
        run: an existing run to continue. If the iteration stops early, that run stays "running", so that another
            process can continue it. None is a new run, which becomes "stopped" then.

    Raises:
        ValueError: for any other batch size.
    """
    return _backfill(chunk_size(batch_size, default=conf.BACKFILL_BATCH_SIZE), run)


def roll_up_pending(*, batch_size: int | None = None) -> Generator[int, None, None]:
    """Roll up what is pending now, as `backfill` does but without a `Run`; yield each chunk's number of page views.

    Args:
        batch_size: page views per chunk; None is PAGESTATS_BACKFILL_BATCH_SIZE.
    """
    using = router.db_for_write(PageView)
    size = chunk_size(batch_size, default=conf.BACKFILL_BATCH_SIZE)
    try:
        for chunk in chunks(partial(can_be_rolled_up, using=using), size, by="pk", using=using):
            rolled_up, _ = sql.transact(partial(_roll_up, chunk, using=using), using=using)
            yield rolled_up
    except RebuildUnderWay:
        pass  # the rebuild rolls them up


def can_be_rolled_up(*, using: str) -> PageViewQuerySet:
    """Return the pending page views that a backfill rolls up: not those of sealed days or outside the calendar."""
    return _pending(can_be_rolled_up=True, using=using)


def _pending(*, can_be_rolled_up: bool, using: str) -> PageViewQuerySet:
    """Return the pending page views that can be rolled up, or those that can't.

    A CASE compares the times, so that the database uses the index on pending page views. Nearly all page views meet the
    condition; without the CASE, a planner may choose the index on times and read all of them.
    """
    calendar = Calendar.objects.using(using).row().first()
    begin = EARLIEST
    if calendar is not None and calendar.sealed_before is not None:
        begin = start_of(calendar.sealed_before, ZoneInfo(calendar.zone))
    is_of_a_day = Case(When(timestamp__gte=begin, timestamp__lt=LATEST, then=1), default=0)
    pending = PageView.objects.using(using).pending()
    return pending.alias(is_of_a_day=is_of_a_day).filter(is_of_a_day=int(can_be_rolled_up))


def _backfill(size: int, continued: Run | None) -> Generator[Progress, None, None]:
    run = continued or begin_backfill()
    if run is None:
        return
    using = router.db_for_write(PageView)
    result = BackfillResult.of(run)
    progress = Progress(processed=run.processed, total=result.total, new_visitors=result.new_visitors)
    status = Run.Status.RUNNING if continued else Run.Status.STOPPED

    def roll_up_and_advance(chunk: Chunk) -> Progress:
        rolled_up, new_visitors = _roll_up(chunk, using=using)
        runs.advance(run, rolled_up, change=partial(_add_to_result, new_visitors=new_visitors))
        processed = progress.processed + rolled_up
        return Progress(
            processed=processed,
            total=max(progress.total, processed),
            new_visitors=progress.new_visitors + new_visitors,
        )

    try:
        for chunk in chunks(partial(can_be_rolled_up, using=using), size, by="pk", using=using):
            progress = sql.transact(partial(roll_up_and_advance, chunk), using=using)
            yield progress
        status = Run.Status.FINISHED
    except RebuildUnderWay:
        pass  # the rebuild rolls them up
    finally:
        if status != Run.Status.RUNNING:
            runs.end(run, status)


def _add_to_result(run: Run, *, new_visitors: int) -> BackfillResult:
    result = BackfillResult.of(run)
    total = max(result.total, run.processed)
    return replace(result, total=total, new_visitors=result.new_visitors + new_visitors)


def _roll_up(chunk: Sequence[tuple[int, str]], *, using: str) -> tuple[int, int]:
    """Roll up the page views of a chunk that are still pending; return how many, and how many new visitors."""
    sessions = {session_id for _, session_id in chunk}
    sql.lock_sessions(sessions, using=using)
    views = PageView.objects.using(using).filter(pk__in=[pk for pk, _ in chunk])
    # Read again, now that no other process can roll them up. A row whose session has changed waits for another chunk.
    rows = sql.current(views.pending().filter(session_id__in=sessions))
    found = rows.annotate(at=F("timestamp")).values_list("pk", "session_id", "path", "at", named=True)
    taken: list[Any] = list(found)
    if not taken:
        return 0, 0
    around = sql.load_state(taken, using=using)
    if around[0].next_zone:
        raise RebuildUnderWay
    around[0] = fix_reporting_zone(around[0], using=using)
    added = addition(taken, around, using=using)
    open_seals(taken, around[0], using=using)
    # Not `views` again: given two lists of keys, PostgreSQL would rather read the whole table.
    PageView.objects.using(using).filter(pk__in=[view.pk for view in taken]).update(rolled_up=True)
    add(added, using=using)
    return len(taken), added.new_visitors


@dataclass(frozen=True, kw_only=True, slots=True)
class BackfillStatus:
    """How many page views are pending, and the state of the last backfill."""

    pending: int
    stranded: int
    """How many of the pending page views can't be rolled up, because they belong to sealed days or lie outside the
    calendar."""
    last_run: Run | None
    rebuild: RebuildUnderWay | None
    """Says what to do about the rebuild that keeps all page views pending; None if no rebuild is under way."""

    def describe(self, at: datetime) -> str:
        """Return the status in words, as of an instant."""
        lines = [f"{counted(self.pending, 'page view')} pending"]
        lines += self.describe_stranded()
        if run := self.last_run:
            result = BackfillResult.of(run)
            lines.append(
                f"Last backfill: {run.status}, started {run.started:%Y-%m-%d %H:%M:%S %Z},"
                f" {run.processed:,} of {counted(result.total, 'page view')},"
                f" {counted(result.new_visitors, 'new visitor')}"
            )
            silence = at - run.updated
            if run.status == Run.Status.RUNNING and silence > STALLED_AFTER:
                lines.append(
                    f"No progress for {silence.total_seconds():,.0f} seconds: it was killed, or is waiting for a lock"
                    " or a cluster. Run backfill_aggregates again to roll up the rest."
                )
        else:
            lines.append("No backfill has run yet")
        if self.rebuild:
            lines.append(str(self.rebuild))
        return "\n".join(lines)

    def describe_stranded(self) -> list[str]:
        """Return one line on what to do about the page views that can't be rolled up; no line if there are none."""
        if not self.stranded:
            return []
        return [
            f"{counted(self.stranded, 'pending page view')} can't be rolled up (on a pruned day, or outside the years"
            f" {YEARS.start} to {YEARS.stop - 1}). Correct or delete these rows."
        ]


def backfill_status() -> BackfillStatus:
    """Return the status of the backfill. Any process may ask."""
    return BackfillStatus(
        pending=PageView.objects.pending().count(),
        stranded=_pending(can_be_rolled_up=False, using=router.db_for_read(PageView)).count(),
        last_run=runs.last(Run.Kind.BACKFILL, using=router.db_for_read(Run)),
        rebuild=_under_way(using=router.db_for_read(Calendar)),
    )
