"""The life of a run: a piece of work that takes a while begins, advances and ends, and is continued where it stalled.

A run is one row of `Run`, which any process may read. Everything that writes such a row is here. Each write is tried
again after a lock error; inside a transaction of the caller it is tried once, since only the whole transaction can be
tried again.

A chain is a run that is done by one short task after the other. Each task is called with the number of its link, works
for a while, adds one to the link that is stored in the run, and enqueues the task of the next link. A task whose link
isn't the stored one was delivered twice or comes too late, and does nothing. So a link may be enqueued again whenever a
chain seems to have stalled, and at most one of the tasks at work enqueues the next link.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from functools import partial
from typing import Any, ClassVar, Self

from django.db import router
from django.db.models import F

from pagestats import sql
from pagestats.hits import instant
from pagestats.models import PageView, Run, RunQuerySet

AS_ISO_DATE = {"read": date.fromisoformat, "write": date.isoformat}
"""How the field of a result that holds a day is read from JSON and written to it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What the `result` of a run of one kind holds. A value of None isn't stored."""

    kind: ClassVar[Run.Kind]

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return the result of a run, whose keys may be missing."""
        return cls.from_json(run.result)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the result that is stored as these plain values."""
        known = {each.name: each.metadata.get("read") for each in fields(cls)}
        values = {name: value for name, value in stored.items() if name in known and value is not None}
        return cls(**{name: read(values[name]) if (read := known[name]) else values[name] for name in values})

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        values = {each: getattr(self, each.name) for each in fields(self)}
        return {
            each.name: write(value) if (write := each.metadata.get("write")) else value
            for each, value in values.items()
            if value is not None
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class BackfillResult(Result):
    """The result of a backfill."""

    kind = Run.Kind.BACKFILL

    total: int = 0
    """How many page views it rolls up, as far as is known."""
    new_visitors: int = 0
    """How many of their sessions had no rolled-up view before."""
    link: int | None = None
    """The link of the chain that is due; None for a backfill that one process does."""
    batch_size: int | None = None
    """Page views per chunk of the chain; None is PAGESTATS_BACKFILL_BATCH_SIZE."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyResult(Result):
    """The result of a verification."""

    kind = Run.Kind.VERIFY

    cells: int = 0
    days: int = 0
    pages: int = 0
    visitors: int = 0
    page_views: int = 0
    """These five say how much was compared: rollups of days, days, pages, visitors, and the page views behind them."""
    drift: int = 0
    """How many stored numbers differ from the page views."""
    total: int = 0
    """How many times a page view is counted in all, as far as was known at the beginning."""
    sealed_before: date | None = field(default=None, metadata=AS_ISO_DATE)
    """The first day that is not sealed; earlier days are not compared."""
    position: dict[str, Any] | None = None
    """Where to continue, as plain values; None when the verification is finished."""
    processed: int | None = None
    """How many times a page view had been counted at that position."""
    link: int | None = None
    """The link of the chain that is due; None for a verification that one process does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneResult(Result):
    """The result of a pruning."""

    kind = Run.Kind.PRUNE

    before: date | None = field(default=None, metadata=AS_ISO_DATE)
    """The first day whose page views are kept."""
    total: int = 0
    """How many page views it deletes, as far as is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanupResult(Result):
    """The result of a clean-up, which has no values: how many stale sessions it deleted is `processed` of the run."""

    kind = Run.Kind.CLEANUP


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleResult(Result):
    """The note that a schedule was made."""

    kind = Run.Kind.SCHEDULE

    name: str = ""


def of_kind(kind: Run.Kind) -> RunQuerySet:
    """Return the runs of a kind, in the database that they are written to."""
    return Run.objects.using(_database()).filter(kind=kind)


def last(kind: Run.Kind, *, using: str | None = None) -> Run | None:
    """Return the run of a kind that began last; None if no run of the kind is stored.

    Args:
        using: the database to read; None is the one that runs are written to.
    """
    return of_kind(kind).using(using or _database()).newest_first().first()


def alive(kind: Run.Kind, *, at: datetime) -> Run | None:
    """Return the run of a kind that is alive at an instant; of several, the one that made progress last."""
    return of_kind(kind).running().alive(at).order_by("-updated").first()


def begin(result: Result) -> Run:
    """Store a run that begins now, and return it."""
    return _store(result, Run.Status.RUNNING, started=instant(None))


def store_finished(result: Result) -> Run:
    """Store a run that began and ended now, and return it."""
    return _store(result, Run.Status.FINISHED, started=instant(None))


def overwrite_finished(result: Result, *, started: datetime, processed: int) -> None:
    """Store a run that ends now over the last run of its kind, so that frequent work leaves one row."""
    now = instant(None)
    columns = {
        "status": Run.Status.FINISHED,
        "started": started,
        "updated": now,
        "finished": now,
        "processed": processed,
        "result": result.to_json(),
    }
    if not _retrying(partial(of_kind(result.kind).update, **columns)):
        _store(result, Run.Status.FINISHED, started=started, processed=processed)


def resume(run: Run, result: Result) -> None:
    """Store that a run which was stopped or killed is running again. Its `processed` stays as stored."""
    run.status, run.updated, run.finished, run.result = Run.Status.RUNNING, instant(None), None, result.to_json()
    columns = ["status", "updated", "finished", "result"]
    _retrying(partial(run.save, using=_database(), update_fields=columns))


def advance(run: Run, by: int, *, change: Callable[[Run], Result] | None = None) -> None:
    """Add to the `processed` of a run, and note the time. Call it in the transaction of the work that was done.

    Several processes may work on one run, so this adds to what is stored, and changes the result under the row's lock.

    Args:
        by: how many more page views are processed.
        change: takes the run as it is stored now, and returns its new result; None leaves the result.
    """
    rows = _row(run)
    rows.update(updated=instant(None), processed=F("processed") + by)
    if change is not None:
        for stored in sql.current(rows):  # locked by the update; none if somebody has deleted the run
            rows.update(result=change(stored).to_json())


def advance_to(run: Run, processed: int) -> None:
    """Set the `processed` of a run, unless it has ended, and note the time."""
    _retrying(partial(_row(run).running().update, updated=instant(None), processed=processed))


def end(run: Run, status: Run.Status) -> None:
    """Store that a run has ended now with a status."""
    now = instant(None)
    _retrying(partial(_row(run).update, status=status, updated=now, finished=now))


def end_with(run: Run, status: Run.Status, result: Result) -> None:
    """Store that a run has ended now with a status and a result, unless it has ended: a task may be delivered twice."""
    now = instant(None)
    ended = {"status": status, "updated": now, "finished": now, "result": result.to_json()}
    _retrying(partial(_row(run).running().update, **ended))


def stop_stalled(kind: Run.Kind, *, at: datetime) -> None:
    """End all stalled runs of a kind as "stopped". The time of their last progress stays."""
    _retrying(partial(_stop, of_kind(kind).running().stalled(at), at))


def newest_stalled(kind: Run.Kind, *, is_wanted: Callable[[], bool], at: datetime) -> Run | None:
    """Return the newest stalled run of a kind, for the caller to continue, and end the other stalled runs.

    It returns None while a run of the kind is alive, and where another process has claimed the run first.

    Args:
        is_wanted: returns whether there is work left. If there is none, all stalled runs are ended.
        at: the instant from which to look back.
    """
    running = of_kind(kind).running()
    stalled = running.stalled(at)
    found = list(stalled.newest_first())
    if not found:
        return None
    is_continued = running.count() == len(found) and is_wanted()
    run = found.pop(0) if is_continued else None
    _retrying(partial(_stop, stalled.filter(pk__in=[other.pk for other in found]), at))
    return run if run is not None and _claim(run, at) else None


def stalled_links(kind: Run.Kind, *, at: datetime) -> list[Run]:
    """Return the stalled chains of a kind, for the caller to enqueue their links again; end other stalled runs.

    A chain that another process has claimed first isn't returned.
    """
    stalled = of_kind(kind).running().stalled(at)
    found = list(stalled)
    single = [run.pk for run in found if "link" not in run.result]
    _retrying(partial(_stop, stalled.filter(pk__in=single), at))
    return [run for run in found if run.pk not in single and _claim(run, at)]


def link_of(run: Run) -> int:
    """Return the link of a run that is due. Of a run that was no chain, it is the first."""
    link: int = run.result.get("link", 0)
    return link


def due(run_id: int, link: int, kind: Run.Kind) -> Run | None:
    """Return the run whose link is due; None if it has ended, or if the link was delivered before."""
    run = of_kind(kind).filter(pk=run_id).running().first()
    return run if run is not None and link_of(run) == link else None


def pass_on(run: Run, link: int, enqueue: Callable[[int], Any], *, result: Result | None = None) -> None:
    """Make the next link of a chain due, unless it has ended or another task has done so.

    Args:
        link: the link that is done.
        enqueue: called with the next link in the transaction that makes it due; it may wait for the commit.
        result: the result to store; None if each chunk has stored its own part already.
    """
    sql.transact(partial(_pass_on, run, link, enqueue, result), using=_database())


def _pass_on(run: Run, link: int, enqueue: Callable[[int], Any], result: Result | None) -> None:
    rows = _row(run).running()
    rows.update(updated=instant(None))  # the lock: a write, as the first statement
    for stored in sql.current(rows):
        if link_of(stored) == link:
            values = stored.result if result is None else result.to_json()
            rows.update(result={**values, "link": link + 1})
            enqueue(link + 1)


def _database() -> str:
    """Return the database of the page views: a chunk of them is one transaction with the progress of its run."""
    return router.db_for_write(PageView)


def _row(run: Run) -> RunQuerySet:
    return Run.objects.using(_database()).filter(pk=run.pk)


def _retrying(work: Callable[[], Any]) -> Any:
    return sql.retrying(work, using=_database())


def _store(result: Result, status: Run.Status, *, started: datetime, processed: int = 0) -> Run:
    now = instant(None)
    run = Run(kind=result.kind, status=status, started=started, updated=now, processed=processed)
    run.finished = None if status == Run.Status.RUNNING else now
    run.result = result.to_json()
    _retrying(partial(run.save, using=_database(), force_insert=True))
    return run


def _stop(runs: RunQuerySet, at: datetime) -> int:
    return runs.update(status=Run.Status.STOPPED, finished=at)


def _claim(run: Run, at: datetime) -> bool:
    """Claim a stalled run by noting progress, and return whether this process got it.

    Of two processes that find the run stalled at the same time, only one does.
    """
    return bool(_retrying(partial(_row(run).running().stalled(at).update, updated=at)))
