"""Rollups: a pure function of the rolled-up page views, kept by adding differences.

For one session, `cells` gives what its views add to each stored figure. Whoever changes the rolled-up views of a
session holds the lock of the session and adds `cells(after) - cells(before)`; nothing ever sets a figure. Of the views
before, only the nearest ones are needed: what two views have in common with all others cancels out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import router
from django.db.models import F

from pagestats import sql
from pagestats.conf import conf
from pagestats.hits import instant
from pagestats.models import PageTotal, PageView, ReportingZone, Return, Rollup, Run, Visitor
from pagestats.sql import Surroundings, Viewed

SITE = "site"
PAGE = "page"

LARGEST_BATCH = 10_000
SILENCE_OF_THE_DEAD = timedelta(minutes=1)


class Key(NamedTuple):
    """What is counted by day: one value of one dimension."""

    dimension: str
    value: str


WHOLE_SITE = Key(SITE, "")


class Figure(NamedTuple):
    """One stored number: `name` of the key's rollup on `day`; with `previous_day`, the visitors of that return."""

    name: str
    key: Key
    day: date
    previous_day: date | None = None


def keys(path: str) -> tuple[Key, ...]:
    """Return what a view of a path counts for. A new dimension begins here."""
    return WHOLE_SITE, Key(PAGE, path)


def cells(days: Mapping[Key, Iterable[date]]) -> Counter[Figure]:
    """Return what one session adds to each figure.

    `days` has the reporting days of the session's views by key, one for each view, in any order. Every day with a view
    is one visitor of that day; the first such day is one new visitor; each later one returns from the one before it.
    """
    added: Counter[Figure] = Counter()
    for key, viewed in days.items():
        previous_day = None
        for day, views in sorted(Counter(viewed).items()):
            added[Figure("views", key, day)] += views
            added[Figure("visitors", key, day)] += 1
            if previous_day is None:
                added[Figure("new_visitors", key, day)] += 1
            else:
                added[Figure("returns", key, day, previous_day)] += 1
            previous_day = day
    return added


@dataclass(frozen=True, kw_only=True, slots=True)
class Addition:
    """What some views add to the rollups: read before they are stored, written after."""

    figures: Mapping[Figure, int]
    visitors: Iterable[tuple[str, datetime, date]]
    instants: Mapping[str, tuple[datetime, datetime]]

    @property
    def new_visitors(self) -> int:
        """How many sessions had no rolled-up view before."""
        return sum(
            count
            for figure, count in self.figures.items()
            if figure.name == "new_visitors" and figure.key == WHOLE_SITE
        )


def addition(viewed: Sequence[Viewed], around: Sequence[Surroundings], *, using: str) -> Addition:
    """Return what views that are not rolled up yet add to the rollups.

    Call it in a transaction that holds the locks of their sessions; `around` is what `sql.surroundings` read under
    these locks.
    """
    zone = _reporting_zone(around[0].zone, using=using)
    sessions: defaultdict[str, list[tuple[Viewed, Surroundings]]] = defaultdict(list)
    instants: defaultdict[str, list[datetime]] = defaultdict(list)
    for view, near in zip(viewed, around, strict=True):
        sessions[view.session_id].append((view, near))
        instants[view.path].append(view.at)
    earlier = _days_of_late_sessions(sessions, zone, using=using)
    figures: Counter[Figure] = Counter()
    visitors = []
    for session_id, views in sessions.items():
        before = _neighbouring_days(views, earlier.get(session_id), zone)
        after = {key: list(days) for key, days in before.items()}
        for view, _ in views:
            for key in keys(view.path):
                after.setdefault(key, []).append(_day(view.at, zone))
        figures.update(cells(after))
        figures.subtract(cells(before))
        if (seen := _seen(views, zone)) != (views[0][1].first_seen, views[0][1].last_day):
            visitors.append((session_id, *seen))
    return Addition(
        figures=figures,
        visitors=visitors,
        instants={path: (min(ats), max(ats)) for path, ats in instants.items()},
    )


def add(added: Addition, *, using: str) -> None:
    """Add to the stored figures: a table at a time, and the site's row, which every writer needs, last."""
    rollups: defaultdict[tuple[str, str, date], Counter[str]] = defaultdict(Counter)
    totals: defaultdict[str, Counter[str]] = defaultdict(Counter)
    returns = []
    for (name, key, day, previous_day), count in added.figures.items():
        if not count:
            continue
        if previous_day is not None:
            returns.append((*key, previous_day, day, count))
            continue
        rollups[*key, day][name] += count
        if key.dimension == PAGE:
            totals[key.value][name] += count
    sql.upsert(
        Visitor, added.visitors, key=["session_id"], changes={"first_seen": "set", "last_day": "set"}, using=using
    )
    sql.upsert(
        PageTotal,
        [(path, total["views"], total["new_visitors"], *added.instants[path]) for path, total in totals.items()],
        key=["path"],
        changes={"views": "add", "visitors": "add", "first_viewed": "least", "last_viewed": "greatest"},
        using=using,
    )
    sql.upsert(
        Return, returns, key=["dimension", "value", "previous_day", "day"], changes={"visitors": "add"}, using=using
    )
    sql.upsert(
        Rollup,
        [(*key, rollup["views"], rollup["visitors"], rollup["new_visitors"]) for key, rollup in rollups.items()],
        key=["dimension", "value", "day"],
        changes={"views": "add", "visitors": "add", "new_visitors": "add"},
        using=using,
    )


def _day(at: datetime, zone: ZoneInfo) -> date:
    return at.astimezone(zone).date()


def _seen(views: Sequence[tuple[Viewed, Surroundings]], zone: ZoneInfo) -> tuple[datetime, date]:
    """Return when a session was first seen and its last reporting day, with its new views."""
    _, near = views[0]
    instants = [view.at for view, _ in views]
    days = [_day(at, zone) for at in instants]
    if near.first_seen is None or near.last_day is None:
        return min(instants), max(days)
    return min(near.first_seen, *instants), max(near.last_day, *days)


def _neighbouring_days(
    views: Sequence[tuple[Viewed, Surroundings]], earlier: Iterable[date] | None, zone: ZoneInfo
) -> dict[Key, list[date]]:
    """Return the days, by key, of those rolled-up views of a session next to which its new ones come to stand.

    On the whole site nothing stands after the visitor's last day; for a view that is earlier than that, `earlier` has
    the days of the session.
    """
    on_page: defaultdict[Key, set[date]] = defaultdict(set)
    for view, near in views:
        on_page[Key(PAGE, view.path)].update(_day(at, zone) for at in near.rolled_up if at is not None)
    last_day = views[0][1].last_day
    on_site = set(earlier or ()) | ({last_day} if last_day else set())
    return {WHOLE_SITE: list(on_site), **{key: list(days) for key, days in on_page.items()}}


def _days_of_late_sessions(
    sessions: Mapping[str, Sequence[tuple[Viewed, Surroundings]]], zone: ZoneInfo, *, using: str
) -> dict[str, set[date]]:
    """Return the reporting days of each session that has a new view before its visitor's last day."""
    late = [
        session_id
        for session_id, views in sessions.items()
        if (last_day := views[0][1].last_day) and any(_day(view.at, zone) < last_day for view, _ in views)
    ]
    days: defaultdict[str, set[date]] = defaultdict(set)
    if late:
        rolled_up = PageView.objects.using(using).rolled_up().filter(session_id__in=late)
        for session_id, at in sql.current(rolled_up).values_list("session_id", "timestamp"):
            days[session_id].add(_day(at, zone))
    return days


def _reporting_zone(stored: str | None, *, using: str) -> ZoneInfo:
    """Return the zone in which days are reckoned; the first view of a site fixes it."""
    if stored is not None:
        return ZoneInfo(stored)
    zones = ReportingZone.objects.using(using)
    zones.bulk_create([ReportingZone(pk=ReportingZone.ROW, name=settings.TIME_ZONE)], ignore_conflicts=True)
    return ReportingZone.zone_of(sql.current(zones))


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a backfill came: page views folded in, of how many, and the new visitors among them."""

    processed: int
    total: int
    new_visitors: int


def begin_backfill(**result: Any) -> Run | None:
    """Store the run of a backfill that is about to begin and return it, or None when nothing is pending.

    Arguments:
        result: what else its `result` is to hold.
    """
    using = router.db_for_write(PageView)
    total = PageView.objects.using(using).pending().count()
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
    nothing and leaves no `Run`.

    Arguments:
        batch_size: page views a chunk, 1 to 10,000; None is PAGESTATS_BACKFILL_BATCH_SIZE.
        run: one to carry on. Its figures go on, and it stays "running" when the iteration ends before nothing is
            pending, since somebody else is to carry it on; None is a run of its own, which is "stopped" then.

    Raises `ValueError` for any other batch size.
    """
    size = conf.BACKFILL_BATCH_SIZE if batch_size is None else batch_size
    if not 1 <= size <= LARGEST_BATCH:
        raise ValueError(f"batch_size is {size}, not a number from 1 to {LARGEST_BATCH:,}.")
    return _backfill(size, run)


def _backfill(size: int, carried_on: Run | None) -> Generator[Progress, None, None]:
    run = carried_on or begin_backfill()
    if run is None:
        return
    using = router.db_for_write(PageView)
    pending = PageView.objects.using(using).pending().order_by("pk")
    progress = Progress(processed=run.processed, total=run.result["total"], new_visitors=run.result["new_visitors"])
    status = Run.Status.RUNNING if carried_on else Run.Status.STOPPED
    reached = 0
    try:
        while True:
            # From where the last chunk ended: what lies before is folded, and dead index entries need not be passed.
            chunk = list(pending.filter(pk__gt=reached).values_list("pk", "session_id")[:size])
            if not chunk and not reached:
                break
            reached = chunk[-1][0] if chunk else 0
            if chunk:
                progress = sql.transact(partial(_fold_chunk, chunk, progress, run, using=using), using=using)
                yield progress
        status = Run.Status.FINISHED
    finally:
        if status != Run.Status.RUNNING:
            now = instant(None)
            Run.objects.using(using).filter(pk=run.pk).update(status=status, updated=now, finished=now)


def _fold_chunk(chunk: Sequence[tuple[int, str]], progress: Progress, run: Run, *, using: str) -> Progress:
    """Fold those of some pending page views in that no other backfill has taken, and say so in the run."""
    sessions = {session_id for _, session_id in chunk}
    sql.lock_sessions(sessions, using=using)
    views = PageView.objects.using(using).filter(pk__in=[pk for pk, _ in chunk])
    # Once more, now that nobody else can fold them; a row that meanwhile changed its session waits for another chunk.
    rows = sql.current(views.pending().filter(session_id__in=sessions))
    taken = list(rows.values_list("pk", "session_id", "path", "timestamp"))
    new_visitors = 0
    if taken:
        viewed = [Viewed(session_id, path, at) for _, session_id, path, at in taken]
        added = addition(viewed, sql.surroundings(viewed, using=using), using=using)
        # Not `views` again: of two lists of keys PostgreSQL would rather read the whole table.
        PageView.objects.using(using).filter(pk__in=[pk for pk, *_ in taken]).update(rolled_up=True)
        add(added, using=using)
        new_visitors = added.new_visitors
    _advance(run, processed=len(taken), new_visitors=new_visitors, using=using)
    processed = progress.processed + len(taken)
    return Progress(
        processed=processed,
        total=max(progress.total, processed),
        new_visitors=progress.new_visitors + new_visitors,
    )


def _advance(run: Run, *, processed: int, new_visitors: int, using: str) -> None:
    """Add to the figures of a run, in the transaction of the chunk: what else its `result` holds is another's."""
    rows = Run.objects.using(using).filter(pk=run.pk)
    rows.update(processed=F("processed") + processed, updated=instant(None))
    for stored in sql.current(rows):  # locked by the update; or none, when somebody deleted it
        stored.result["total"] = max(stored.result["total"], stored.processed)
        stored.result["new_visitors"] += new_visitors
        stored.save(using=using, update_fields=["result"])


@dataclass(frozen=True, kw_only=True, slots=True)
class BackfillStatus:
    """How many page views are pending, and how the last backfill went, None when there was none."""

    pending: int
    last_run: Run | None

    def describe(self, at: datetime) -> str:
        """Return the status in words, as of an instant."""
        lines = [f"{self.pending:,} {'page view' if self.pending == 1 else 'page views'} pending"]
        if run := self.last_run:
            lines.append(
                f"Last backfill: {run.status}, started {run.started:%Y-%m-%d %H:%M:%S %Z},"
                f" {run.processed:,} of {run.result['total']:,} page views,"
                f" {run.result['new_visitors']:,} new visitors"
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
        return "\n".join(lines)


def backfill_status() -> BackfillStatus:
    """Return the status of the backfill, from whichever process."""
    return BackfillStatus(
        pending=PageView.objects.pending().count(),
        last_run=Run.objects.filter(kind=Run.Kind.BACKFILL).order_by("-started", "-pk").first(),
    )
