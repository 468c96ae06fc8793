from datetime import timedelta

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django_q.brokers import orm
from django_q.models import OrmQ

from pagestats import retention, rollups, runs, tasks
from pagestats.hits import instant
from pagestats.models import ActiveSession, Calendar, PageView, Rollup, Run, Visitor
from pagestats.recording import record_heartbeat, record_page_view
from tests.factories import T0, a_hit, now_by_the_clock, raw_views, run_command
from tests.oracle import expected_rollups, stored_rollups

SILENCE = timedelta(minutes=1)
LITTLE = timedelta(seconds=1)

# Links are enqueued on commit.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def one_chunk_a_task(monkeypatch, settings):
    monkeypatch.setattr(tasks, "BUDGET", timedelta(0))
    settings.PAGESTATS_BACKFILL_BATCH_SIZE = 50


def pend(number=130):
    raw_views((f"/{n % 5}", f"s{n % 11}", T0 + timedelta(hours=7 * (n % 37), minutes=31 * n)) for n in range(number))


def queued():
    """Return (function, arguments) of what is in the queue, oldest first."""
    return [(row.task["func"], row.task["args"]) for row in OrmQ.objects.order_by("pk")]


def work_off(name="pagestats.tasks.backfill"):
    """Do what a cluster does with the oldest task of the queue; return the arguments it had."""
    oldest = OrmQ.objects.order_by("pk").first()
    task = oldest.task
    oldest.delete()
    assert task["func"] == name
    tasks.backfill(*task["args"])
    return task["args"]


def silence(run, by=SILENCE + LITTLE):
    Run.objects.filter(pk=run.pk).update(updated=instant(None) - by)


def assert_all_is_folded():
    assert not PageView.objects.pending().exists()
    assert stored_rollups() == expected_rollups(PageView.objects.all(), settings.TIME_ZONE)


# The clean-up


def test_pruning_keeps_what_the_setting_says_and_goes_on_in_the_next_task(settings, monkeypatch):
    now = now_by_the_clock()
    raw_views(("/a", f"s{number}", now - timedelta(days=number)) for number in range(6))
    list(rollups.backfill())
    assert tasks.prune() == 0
    settings.PAGESTATS_KEEP_PAGE_VIEWS = timedelta(days=3)
    monkeypatch.setattr(tasks, "BUDGET", timedelta(0))
    assert tasks.prune(batch_size=1) == 1
    assert queued() == [("pagestats.tasks.prune", ())]
    assert tasks.prune(batch_size=1) == 2
    assert PageView.objects.count() == 4
    OrmQ.objects.all().delete()
    assert tasks.prune() == 0
    assert queued() == []
    run = Run.objects.get(kind=Run.Kind.PRUNE)
    assert (run.status, run.processed) == ("finished", 2)


def test_the_task_that_prunes_sweeps_up_what_an_erasure_left():
    raw_views([("/a", "s", T0)])
    retention.erase("s")
    Visitor.unguarded.update(version=retention.SINCE_AN_INSTANT)
    tasks.prune()
    assert not Visitor.objects.exists()


def test_the_cleanup_is_one_run_however_often_it_runs():
    for number in range(3):
        record_heartbeat(a_hit(session_id=f"s{number}"))
        assert tasks.clean_up() == 1
    assert tasks.clean_up() == 0
    run = Run.objects.get()
    assert (run.kind, run.status, run.processed) == ("clean-up", "finished", 0)
    assert instant(None) - timedelta(minutes=1) < run.started <= run.updated == run.finished


def test_cleanup_stale_sessions_says_how_many():
    record_heartbeat(a_hit())
    record_heartbeat(a_hit(session_id="here", at=None))
    assert run_command("cleanup_stale_sessions") == "Deleted 1 stale session"
    assert run_command("cleanup_stale_sessions") == "Deleted 0 stale sessions"
    assert ActiveSession.objects.get().session_id == "here"
    assert Run.objects.get().kind == "clean-up"


# The chain


def test_a_scheduled_backfill_is_a_chain_of_tasks_and_one_run(one_chunk_a_task):
    pend()
    assert run_command("backfill_aggregates", schedule=True).startswith("Scheduled the backfill of 130 page views")
    run = Run.objects.get()
    assert (run.kind, run.status, run.processed) == ("backfill", "running", 0)
    figures = []
    for link in range(4):
        assert queued() == [("pagestats.tasks.backfill", (run.pk, link))]
        work_off()
        run.refresh_from_db()
        figures.append((run.status, run.processed, run.result["total"], run.result["new_visitors"]))
    assert figures == [
        ("running", 50, 130, 11),
        ("running", 100, 130, 11),
        ("running", 130, 130, 11),
        ("finished", 130, 130, 11),
    ]
    assert queued() == []
    assert_all_is_folded()


def test_a_task_goes_on_with_chunks_until_its_time_is_over(settings):
    settings.PAGESTATS_BACKFILL_BATCH_SIZE = 1
    pend(30)
    run = tasks.schedule_backfill()
    work_off()
    run.refresh_from_db()
    assert (run.status, run.processed, queued()) == ("finished", 30, [])


def test_a_chain_keeps_the_batch_size_that_it_was_given(one_chunk_a_task):
    pend()
    run_command("backfill_aggregates", schedule=True, batch_size=20)
    work_off()
    work_off()
    assert Run.objects.get().processed == 40


def test_successes_are_not_saved_among_those_of_the_site():
    pend()
    tasks.schedule_backfill()
    assert OrmQ.objects.get().task["save"] is False


def test_a_link_that_is_delivered_twice_does_nothing_the_second_time(one_chunk_a_task):
    pend()
    run = tasks.schedule_backfill()
    work_off()
    assert tasks.backfill(run.pk, 0) == 0
    assert queued() == [("pagestats.tasks.backfill", (run.pk, 1))]
    assert Run.objects.get().processed == 50


def test_of_two_that_are_at_one_link_one_enqueues_the_next(one_chunk_a_task, monkeypatch):
    pend()
    run = tasks.schedule_backfill()
    OrmQ.objects.all().delete()
    pass_on = runs.pass_on

    def after_another(*args, **kwargs):
        monkeypatch.setattr(runs, "pass_on", pass_on)
        assert tasks.backfill(run.pk, 0) == 100
        pass_on(*args, **kwargs)

    monkeypatch.setattr(runs, "pass_on", after_another)
    assert tasks.backfill(run.pk, 0) == 50
    assert queued() == [("pagestats.tasks.backfill", (run.pk, 1))]
    run.refresh_from_db()
    assert (run.processed, run.result) == (100, {"total": 130, "new_visitors": 11, "link": 1})


def test_a_task_of_a_run_that_is_over_or_was_deleted_does_nothing():
    pend()
    run = tasks.schedule_backfill()
    Run.objects.update(status="stopped")
    assert tasks.backfill(run.pk, 0) == 0
    Run.objects.all().delete()
    assert tasks.backfill(run.pk, 0) == 0
    assert PageView.objects.pending().count() == 130
    assert len(queued()) == 1


def test_a_run_that_is_deleted_while_a_task_is_at_it_ends_the_chain(one_chunk_a_task, monkeypatch):
    pend()
    tasks.schedule_backfill()
    pass_on = runs.pass_on

    def after_deletion(*args, **kwargs):
        Run.objects.all().delete()
        pass_on(*args, **kwargs)

    monkeypatch.setattr(runs, "pass_on", after_deletion)
    work_off()
    assert queued() == []
    assert PageView.objects.pending().count() == 80


def test_the_next_link_is_not_enqueued_when_its_transaction_fails(one_chunk_a_task, monkeypatch):
    pend()
    run = tasks.schedule_backfill()
    monkeypatch.setattr(tasks.transaction, "on_commit", lambda *args, **kwargs: (_ for _ in ()).throw(DatabaseError))
    with pytest.raises(DatabaseError):
        work_off()
    assert queued() == []
    run.refresh_from_db()
    assert (run.status, run.processed, run.result["link"]) == ("running", 50, 0)


# Scheduling


def test_nothing_is_scheduled_when_nothing_is_pending():
    assert run_command("backfill_aggregates", schedule=True) == "No page views to backfill"
    assert (Run.objects.count(), queued()) == (0, [])


def test_a_backfill_is_not_scheduled_beside_one_that_is_alive():
    pend()
    run_command("backfill_aggregates", schedule=True)
    said = run_command("backfill_aggregates", schedule=True)
    assert said.startswith("A backfill is already running: 0 of 130 page views.")
    assert (Run.objects.count(), len(queued())) == (1, 1)


def test_a_backfill_that_died_is_carried_on_when_one_is_scheduled(one_chunk_a_task):
    pend()
    run = tasks.schedule_backfill()
    work_off()
    OrmQ.objects.all().delete()
    silence(run)
    said = run_command("backfill_aggregates", schedule=True)
    assert said.startswith("Scheduled the backfill of 80 page views")
    assert queued() == [("pagestats.tasks.backfill", (run.pk, 1))]
    assert Run.objects.count() == 1


def test_a_batch_size_out_of_range_is_refused_before_anything_is_stored():
    pend()
    with pytest.raises(CommandError, match="batch_size is 0, not a number from 1 to 10,000"):
        call_command("backfill_aggregates", schedule=True, batch_size=0)
    assert (Run.objects.count(), queued()) == (0, [])


def test_without_django_q_among_the_apps_it_is_said_what_to_do(monkeypatch):
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "django_q")
    with pytest.raises(CommandError, match=r'^"django_q" is not in INSTALLED_APPS.* Add it, run manage.py migrate'):
        call_command("backfill_aggregates", schedule=True)


@pytest.mark.parametrize(
    "error",
    [
        DatabaseError("no such table: django_q_ormq"),
        ConnectionRefusedError("refused"),
        ImportError("No module named x"),
    ],
    ids=["table", "server", "package"],
)
def test_a_queue_that_cannot_be_reached_is_said_with_its_error(monkeypatch, error):
    def refuse(broker):
        raise error

    pend()
    monkeypatch.setattr(orm.ORM, "queue_size", refuse)
    with pytest.raises(CommandError, match="The queue of django-q2 can't be reached: ") as refused:
        call_command("backfill_aggregates", schedule=True)
    assert str(error) in str(refused.value)
    assert Run.objects.count() == 0


def test_a_redis_that_is_not_there_is_said_with_its_error(monkeypatch):
    from django_q.conf import Conf

    monkeypatch.setattr(Conf, "ORM", None)
    monkeypatch.setattr(Conf, "REDIS", {"host": "127.0.0.1", "port": 1})
    with pytest.raises(CommandError, match=r"The queue of django-q2 can't be reached: .*127\.0\.0\.1:1"):
        call_command("backfill_aggregates", schedule=True)


# Restarting


def test_the_cleanup_restarts_a_chain_that_is_silent_for_over_a_minute(one_chunk_a_task):
    pend()
    run = tasks.schedule_backfill()
    work_off()
    OrmQ.objects.all().delete()  # the worker was killed, and nothing will call the next link
    silence(run, by=SILENCE - timedelta(seconds=20))
    tasks.clean_up()
    assert queued() == []
    silence(run)
    tasks.clean_up()
    tasks.clean_up()
    assert queued() == [("pagestats.tasks.backfill", (run.pk, 1))]
    for _ in range(3):
        work_off()
    run.refresh_from_db()
    assert (run.status, run.processed, queued()) == ("finished", 130, [])
    assert_all_is_folded()


@pytest.mark.parametrize(("age", "restarted"), [(SILENCE, False), (SILENCE + timedelta(microseconds=1), True)])
def test_a_minute_of_silence_is_not_death_yet(age, restarted):
    pend()
    Run.objects.create(
        kind="backfill", status="running", started=T0, updated=T0, result={"total": 130, "new_visitors": 0}
    )
    assert (tasks.restart_backfill(at=T0 + age) is not None) is restarted


def test_a_queue_that_is_slower_than_the_cleanup_does_not_starve_the_chain(one_chunk_a_task):
    """The link that waits in the queue is still the one that is due, however often it was enqueued again."""
    pend()
    run = tasks.schedule_backfill()
    for _ in range(3):
        silence(run)
        tasks.clean_up()
    assert len(queued()) == 4
    done = []
    while queued():
        work_off()
        run.refresh_from_db()
        done.append(run.processed)
    assert done == [50, 50, 50, 50, 100, 130, 130]
    assert_all_is_folded()


def test_a_command_that_was_killed_is_carried_on_by_the_cluster():
    pend()
    chunks = rollups.backfill(batch_size=50)
    next(chunks)
    run = Run.objects.get()
    silence(run)
    tasks.clean_up()
    work_off()
    run.refresh_from_db()
    assert (run.status, run.processed, run.result["total"], run.result["new_visitors"]) == ("finished", 130, 130, 11)
    chunks.close()
    assert_all_is_folded()


def test_what_died_with_nothing_pending_is_stopped():
    pend()
    run = tasks.schedule_backfill()
    list(rollups.backfill())
    OrmQ.objects.all().delete()
    silence(run)
    tasks.clean_up()
    run.refresh_from_db()
    assert (run.status, queued()) == ("stopped", [])


def test_one_dead_run_is_restarted_unless_another_one_is_alive():
    pend()
    old, new = (rollups.begin_backfill() for _ in range(2))
    for run in (old, new):
        silence(run)
    assert tasks.restart_backfill() == new
    assert {run.pk: run.status for run in Run.objects.all()} == {old.pk: "stopped", new.pk: "running"}
    another = rollups.begin_backfill()
    silence(another)
    assert tasks.restart_backfill() is None
    assert len(queued()) == 1
    another.refresh_from_db()
    assert another.status == "stopped"


def test_a_live_site_without_backfills_gives_the_cleanup_little_to_do(django_assert_max_num_queries):
    tasks.clean_up()
    with django_assert_max_num_queries(6):  # a deletion in its transaction, the note, two looks for the dead
        tasks.clean_up()


@pytest.mark.django_db(transaction=True)
def test_deferred_page_views_are_folded_again_and_again_for_a_while(settings, monkeypatch):
    naps = []

    def view_meanwhile(seconds):
        naps.append(seconds)
        if len(naps) < 3:
            record_page_view(a_hit(path=f"/{len(naps)}"))
        else:
            settings.PAGESTATS_ROLLUPS = "immediate"

    settings.PAGESTATS_ROLLUPS = "deferred"
    monkeypatch.setattr(tasks.time, "sleep", view_meanwhile)
    record_page_view(a_hit(path="/0"))
    assert PageView.objects.pending().count() == 1
    assert tasks.roll_up_pending() == 3
    assert naps == [tasks.ROLL_UP_EVERY.total_seconds()] * 3
    assert (PageView.objects.pending().count(), Rollup.objects.get(dimension="site").views) == (0, 3)
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("timeout", "retry", "seconds"), [(None, 60, 50), (20, 25, 10), (None, 30, 20), (8, 9, 5), (600, 720, 50)]
)
def test_a_task_that_folds_ends_before_the_cluster_takes_it_for_a_dead_one(monkeypatch, timeout, retry, seconds):
    monkeypatch.setattr("django_q.conf.Conf.TIMEOUT", timeout)
    monkeypatch.setattr("django_q.conf.Conf.RETRY", retry)
    assert tasks._roll_up_for() == timedelta(seconds=seconds)


@pytest.mark.django_db
def test_no_backfill_is_scheduled_while_the_rollups_are_being_rebuilt():
    raw_views([("/a", "s", T0)])
    Calendar.unguarded.create(pk=Calendar.ROW, zone="UTC", next_zone="Europe/Berlin")
    with pytest.raises(rollups.RebuildUnderWay):
        tasks.schedule_backfill()
    assert not Run.objects.exists()


@pytest.mark.django_db
def test_with_immediate_rollups_nothing_is_folded_but_by_a_backfill():
    raw_views([("/a", "s", T0)])
    assert tasks.roll_up_pending() == 0
    assert PageView.objects.pending().count() == 1
