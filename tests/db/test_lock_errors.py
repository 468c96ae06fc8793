"""Each verb that writes survives a lock error at any of its statements: it does its work as if there was none."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.apps import apps
from django.db import OperationalError, connection, models, transaction
from django_q.models import OrmQ, Schedule

from pagestats import retention, rollups, schedules, tasks
from pagestats.days import DAY
from pagestats.hits import instant
from pagestats.identity.salts import read_salts
from pagestats.models import ActiveSession, PageView, Rollup, Run, Salt, Visitor
from pagestats.recording import record_heartbeat, record_page_view, record_page_views, record_visit
from pagestats.sql import plans
from pagestats.tallies import tallies, tally
from tests.factories import HOUR, MINUTE, T0, a_hit, a_lock_error, raw_views, run_command
from tests.stored import assert_exact

pytestmark = [
    pytest.mark.django_db(transaction=True),  # inside a transaction of the test nothing is tried again
    pytest.mark.slow("a verb for each of its statements"),
]

WRITES = re.compile(r"^\s*(INSERT|UPDATE|DELETE|LOCK|EXECUTE)|INSERT INTO|FOR UPDATE|FOR SHARE|IN SHARE MODE")
LATER = T0 + 5 * DAY


class LockErrors:
    """Note the statements that write or lock, and fail the first time that one of them comes, if it is to fail."""

    def __init__(self, failing: str | None = None) -> None:
        self.failing = failing
        self.seen: list[str] = []
        self.failed = False

    def __call__(self, execute: Callable[..., Any], statement: str, *args: Any) -> Any:
        if WRITES.search(statement):
            if statement not in self.seen:
                self.seen.append(statement)
            if statement == self.failing and not self.failed:
                self.failed = True
                raise a_lock_error()
        return execute(statement, *args)


def tables() -> list[type[models.Model]]:
    """Return the tables of pagestats, and those of the cluster that it writes to."""
    return [model for model in [*apps.get_app_config("pagestats").get_models(), Schedule] if not model._meta.proxy]


def empty_all_tables() -> None:
    """Delete every row that pagestats and the queue have, and forget what was prepared."""
    for model in [*tables(), OrmQ]:
        model._base_manager.all().delete()
    tallies.clear()
    plans.forget()


CLOCK = {"started", "updated", "finished", "next_run"}
"""The columns that a verb fills with the time of the call."""


def comparable(column: models.Field, value: Any) -> Any:
    """Return a stored value, without what differs each time that a verb is called: times, random bytes and ids."""
    if column.name in CLOCK:
        return value is not None
    if column.name == "secret":
        return len(value)
    if column.name == "session_id" and len(value) == 32:
        return "random"  # what `forget` replaces an id with
    if column.name == "version" and value > retention.SINCE_AN_INSTANT:
        return "just now"
    return value


def stored() -> dict[str, list[str]]:
    """Return all rows of all tables without their generated keys, and what is in the queue of the cluster."""
    rows = {
        model.__name__: sorted(
            str(
                {
                    column.name: comparable(column, getattr(row, column.attname))
                    for column in model._meta.local_concrete_fields
                    if not isinstance(column, models.AutoField)
                }
            )
            for row in model._base_manager.all()
        )
        for model in tables()
    }
    # A task has the key of a run, which differs each time.
    tasks_in_the_queue = [row.task for row in OrmQ.objects.all()]
    return rows | {"queue": sorted(f"{task['func']} {task['args'][1:]}" for task in tasks_in_the_queue)}


def assert_survives(prepare: Callable[[], Any], verb: Callable[[], Any]) -> None:
    """Call a verb once, then once more for each of its statements, which fails once: the outcome stays the same."""
    empty_all_tables()
    prepare()
    watch = LockErrors()
    with connection.execute_wrapper(watch):
        expected = verb(), stored()
    assert watch.seen
    for statement in watch.seen:
        empty_all_tables()
        prepare()
        errors = LockErrors(statement)
        with connection.execute_wrapper(errors):
            returned = verb()
        assert errors.failed, f"{statement} was not among {errors.seen}"
        assert (returned, stored()) == expected, statement


def prepare_views(*, pending: bool = True) -> None:
    """Store a few rolled-up page views of some days, and as many pending ones."""
    rows = [(f"/{n % 3}", f"s{n % 4}", T0 + n * (HOUR * 9 + MINUTE * 31)) for n in range(10)]
    raw_views(rows[:7])
    list(rollups.backfill())
    Run.objects.all().delete()
    if pending:
        raw_views(rows[7:])


prepare_rolled_up = partial(prepare_views, pending=False)


def prepare_drift() -> None:
    prepare_rolled_up()
    Rollup.unguarded.filter(dimension="site").update(views=100)
    Rollup.unguarded.filter(dimension="page", value="/1").delete()
    Visitor.unguarded.filter(session_id="s1").update(first_seen=LATER, last_day=LATER.date())


def prepare_left() -> None:
    """Have a session be stale, a salt be expired, and a visitor's row be empty."""
    record_heartbeat(a_hit(session_id="left"))
    Salt.objects.create(day=T0.date(), secret=b"0")
    Visitor.unguarded.bulk_create([Visitor(session_id="erased", version=retention.SINCE_AN_INSTANT)])


def prepare_stalled() -> None:
    """Have a backfill of the cluster, one of a command, and a verification of each be killed."""
    prepare_left()
    prepare_views()
    for link in (0, None):
        rollups.begin_backfill(link=link)
        rollups.begin_verification(link=link)
    Run.objects.update(updated=instant(None) - 5 * MINUTE)


def runs_of(work: Callable[[], Run | None]) -> Any:
    run = work()
    assert run is not None
    run.refresh_from_db()
    return run.status, run.processed, run.result


def link_of(make: Callable[[], Run | None], task: Callable[[int, int], int]) -> Callable[[], Any]:
    """Return a verb that begins a chain and does its first link, which makes the next one due."""

    def work() -> Any:
        run = make()
        assert run is not None
        return task(run.pk, 0)

    return work


def stopped_early() -> None:
    """Leave a pruning stopped after its first chunk."""
    prepare_rolled_up()
    chunks = retention.prune(LATER.date(), at=LATER, batch_size=2)
    next(chunks)
    chunks.close()


def exact(work: Callable[[], Any]) -> Callable[[], Any]:
    """Return a verb after which the stats have to be exact."""

    def verb() -> Any:
        result = work()
        list(rollups.roll_up_pending())
        assert_exact(zone="UTC" if work is rebuild else None)
        assert list(rollups.verify()) == []
        return result

    return verb


def rebuild() -> Any:
    # A lock error makes it wait, which is one more progress.
    return max(done.processed for done in rollups.rebuild(zone="UTC", batch_size=3))


def tally_twice() -> Any:
    """Count a hit that was dropped; what could not be written is written the next time."""
    tally("skipped", "bot")
    tallies.write()
    tallies.write()
    return +tallies.counts()


@dataclass(frozen=True)
class Case:
    prepare: Callable[[], Any]
    verb: Callable[[], Any]


def nothing() -> None:
    """Begin with empty tables."""


CASES = {
    "backfill": Case(prepare_views, exact(lambda: list(rollups.backfill(batch_size=2)))),
    "backfill, the first one": Case(lambda: raw_views([("/a", "s", T0)]), exact(lambda: list(rollups.backfill()))),
    "backfill_aggregates": Case(prepare_views, exact(lambda: run_command("backfill_aggregates"))),
    "roll_up_pending": Case(prepare_views, exact(lambda: list(rollups.roll_up_pending(batch_size=2)))),
    "begin_backfill": Case(prepare_views, lambda: runs_of(rollups.begin_backfill)),
    "rebuild": Case(prepare_views, exact(rebuild)),
    "merge_paths": Case(
        lambda: (prepare_views(), record_heartbeat(a_hit(path="/1"))),
        exact(lambda: list(rollups.merge_paths("/1", "/2", batch_size=2))),
    ),
    "verify_aggregates": Case(prepare_rolled_up, exact(lambda: run_command("verify_aggregates"))),
    "verify_aggregates --repair": Case(prepare_drift, exact(lambda: run_command("verify_aggregates", repair=True))),
    "repair": Case(prepare_drift, exact(lambda: sorted(map(str, rollups.repair())))),
    "verification": Case(prepare_views, lambda: len(list(rollups.verification(rollups.begin_verification())))),
    "begin_verification": Case(prepare_stalled, lambda: runs_of(rollups.begin_verification)),
    "cleanup_stale_sessions": Case(prepare_left, retention.cleanup_stale_sessions),
    "cleanup_and_store_run": Case(prepare_left, retention.cleanup_and_store_run),
    "cleanup_and_store_run, again": Case(
        lambda: (retention.cleanup_and_store_run(), prepare_left()), retention.cleanup_and_store_run
    ),
    "cleanup_stale_sessions, the command": Case(prepare_left, lambda: run_command("cleanup_stale_sessions")),
    "delete_expired_salts": Case(prepare_left, retention.delete_expired_salts),
    "sweep": Case(prepare_left, retention.sweep),
    "prune": Case(prepare_rolled_up, lambda: list(retention.prune(LATER.date(), at=LATER, batch_size=2))),
    "prune, continued": Case(stopped_early, lambda: list(retention.prune(LATER.date(), at=LATER, batch_size=2))),
    "erase": Case(
        lambda: (prepare_views(), record_heartbeat(a_hit(session_id="s1"))), exact(lambda: retention.erase("s1"))
    ),
    "forget": Case(
        lambda: (prepare_views(), record_heartbeat(a_hit(session_id="s1"))), exact(lambda: retention.forget("s1"))
    ),
    "restart_backfill": Case(prepare_stalled, lambda: runs_of(tasks.restart_backfill)),
    "restart_verification": Case(prepare_stalled, tasks.restart_verification),
    "clean_up, the task": Case(prepare_stalled, tasks.clean_up),
    "schedule_backfill": Case(prepare_views, lambda: runs_of(tasks.schedule_backfill)),
    "backfill, a link": Case(prepare_views, exact(link_of(tasks.schedule_backfill, tasks.backfill))),
    "verify, the task": Case(prepare_stalled, lambda: runs_of(tasks.verify)),
    "verify_slices": Case(prepare_rolled_up, link_of(tasks.verify, tasks.verify_slices)),
    "prune, the task": Case(prepare_rolled_up, partial(tasks.prune, batch_size=2)),
    "schedules.make": Case(nothing, schedules.make),
    "schedules.restore": Case(schedules.make, schedules.restore),
    "schedules.restore, the first time": Case(nothing, schedules.restore),
    "schedules.remove": Case(schedules.make, schedules.remove),
    "read_salts": Case(prepare_left, lambda: len(read_salts(LATER)[2])),
    "record_page_view": Case(prepare_rolled_up, exact(lambda: bool(record_page_view(a_hit(at=LATER))))),
    "record_page_view, the first one": Case(nothing, exact(lambda: bool(record_page_view(a_hit())))),
    "record_page_views": Case(
        prepare_rolled_up,
        exact(lambda: record_page_views([a_hit(at=T0 + 2 * DAY + n * HOUR, session_id=f"s{n % 2}") for n in range(4)])),
    ),
    "record_visit": Case(prepare_rolled_up, exact(lambda: record_visit(a_hit(at=LATER)))),
    "record_heartbeat": Case(nothing, lambda: record_heartbeat(a_hit())),
    "record_heartbeat, again": Case(lambda: record_heartbeat(a_hit()), lambda: record_heartbeat(a_hit(at=LATER))),
    "record_page_view, after a pruning": Case(
        lambda: (stopped_early(), list(retention.prune(T0.date() + DAY, at=LATER))),
        lambda: bool(record_page_view(a_hit(at=LATER, session_id="s0"))),
    ),
    "tallies": Case(nothing, tally_twice),
}


@pytest.fixture(autouse=True)
def a_site(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.PAGESTATS_SCHEDULES = True
    settings.PAGESTATS_KEEP_PAGE_VIEWS = timedelta(days=3)
    settings.PAGESTATS_BACKFILL_BATCH_SIZE = 2
    monkeypatch.setattr(tasks, "BUDGET", timedelta(0))


@pytest.mark.parametrize("name", CASES)
def test_a_lock_error_at_any_statement_changes_nothing(name: str) -> None:
    assert_survives(CASES[name].prepare, CASES[name].verb)


@contextmanager
def one_lock_error(table: str) -> Iterator[None]:
    """Fail the first statement that writes to a table."""
    left = [a_lock_error()]

    def fail(execute: Callable[..., Any], statement: str, *args: Any) -> Any:
        if left and WRITES.search(statement) and table in statement:
            raise left.pop()
        return execute(statement, *args)

    with connection.execute_wrapper(fail):
        yield


def test_inside_a_transaction_of_the_caller_a_verb_is_tried_once() -> None:
    raw_views([("/a", "s", T0)])
    with pytest.raises(OperationalError), one_lock_error("pagestats_run"), transaction.atomic():
        list(rollups.backfill())
    assert not Run.objects.exists()
    assert PageView.objects.pending().count() == 1
    assert not ActiveSession.objects.exists()
