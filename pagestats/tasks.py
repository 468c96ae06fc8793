"""What the django-q2 cluster calls: the clean-up, and a backfill and a verification as chains of short tasks.

`pagestats.runs` says what a chain is. django-q2 is imported where it is used: a site need not have it in
INSTALLED_APPS, and without that its models can't be imported.
"""

from __future__ import annotations

import time
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial

from django.apps import apps
from django.db import DatabaseError, router, transaction

from pagestats import retention, rollups, runs, sql
from pagestats.conf import conf
from pagestats.hits import instant
from pagestats.models import PageView, Run
from pagestats.runs import BackfillResult, VerifyResult

BUDGET = timedelta(seconds=5)
"""How long a task of a chain works before it leaves the next chunk to the next task."""

ROLL_UP_EVERY = timedelta(seconds=3)
ROLL_UP_FOR = timedelta(seconds=50)
"""How often, and for how long, a task rolls up page views that were stored pending: until the task of the next minute,
unless the cluster ends its tasks earlier, or gives them to another worker."""
TIME_TO_END = timedelta(seconds=10)
"""The time that the last chunk of such a task may take."""

UNSAVED = {"save": False}
"""Options of each task. Failures are always saved. Successes aren't: they would push out those of the site's tasks."""


class NoCluster(Exception):
    """There is no cluster to schedule on. The message says why, and what to do."""


class BackfillUnderWay(Exception):
    """A backfill is running that made progress within the last minute."""

    def __init__(self, run: Run) -> None:
        total = BackfillResult.of(run).total
        super().__init__(f"A backfill is already running: {run.processed:,} of {total:,} page views.")


def clean_up() -> int:
    """Delete the stale sessions, and restart a stalled backfill and verification; return how many sessions it deleted.

    The schedule calls it. `retention.cleanup_and_store_run` does only the first half.
    """
    deleted = retention.cleanup_and_store_run()
    restart_backfill()
    restart_verification()
    return deleted


def roll_up_pending() -> int:
    """Roll up what PAGESTATS_ROLLUPS "deferred" stores pending, repeatedly for most of a minute; return how many.

    The schedule calls it each minute. With "immediate" it does nothing: imported page views wait for a backfill.
    """
    rolled_up = 0
    until = time.monotonic() + _roll_up_for().total_seconds()
    while conf.ROLLUPS == "deferred" and time.monotonic() < until:
        with closing(rollups.roll_up_pending()) as chunks:
            for views in chunks:
                rolled_up += views
                if time.monotonic() >= until:
                    return rolled_up
        time.sleep(ROLL_UP_EVERY.total_seconds())
    return rolled_up


def _roll_up_for() -> timedelta:
    """Return how long a task may roll up page views: it has to end before the cluster assumes that it died."""
    if not apps.is_installed("django_q"):
        return ROLL_UP_FOR
    from django_q.conf import Conf

    limits = [timedelta(seconds=limit) - TIME_TO_END for limit in (Conf.TIMEOUT, Conf.RETRY) if limit]
    return max(BUDGET, min([ROLL_UP_FOR, *limits]))


def prune(*, batch_size: int | None = None) -> int:
    """Prune what PAGESTATS_KEEP_PAGE_VIEWS does not keep, for BUDGET, then have the cluster call this again.

    It also deletes expired salts and the empty rows of erased sessions.

    Args:
        batch_size: page views per chunk; None is 500.

    Returns:
        How many page views are pruned so far.
    """
    retention.sweep()
    before = retention.kept_from()
    if before is None:
        return 0
    processed = 0
    until = time.monotonic() + BUDGET.total_seconds()
    with closing(retention.prune(before, batch_size=batch_size)) as chunks:
        for done in chunks:
            processed = done.processed
            if time.monotonic() >= until:
                # One call too many does no harm: it finds nothing to prune.
                _put("prune", using=router.db_for_write(PageView))
                break
    return processed


def schedule_backfill(*, batch_size: int | None = None) -> Run | None:
    """Have the cluster roll up all pending page views; return the run, or None if nothing is pending.

    A stalled backfill is continued with its own batch size.

    Raises:
        NoCluster: tasks can't be put into the queue.
        BackfillUnderWay: a backfill is running.
        RebuildUnderWay: the rollups are being rebuilt.
        ValueError: the batch size is out of range.
    """
    require_queue()
    rollups.chunk_size(batch_size)
    rollups.refuse_while_rebuilding()
    if alive := runs.alive(Run.Kind.BACKFILL, at=instant(None)):
        raise BackfillUnderWay(alive)
    if not (run := restart_backfill()) and (run := rollups.begin_backfill(link=0, batch_size=batch_size)):
        _enqueue("backfill", run.pk, 0)
    return run


def restart_backfill(*, at: datetime | None = None) -> Run | None:
    """Enqueue the newest stalled backfill again, and return its run; None if there is nothing to restart.

    It may be a chain, or the backfill of a command that was killed. Other stalled backfills become "stopped". Nothing
    is restarted while another backfill is alive, or if no page view is pending.

    Args:
        at: an aware datetime; None is now.
    """
    run = runs.newest_stalled(Run.Kind.BACKFILL, is_wanted=_any_pending, at=instant(at))
    if run is not None:
        _enqueue("backfill", run.pk, runs.link_of(run))
    return run


def _any_pending() -> bool:
    return PageView.objects.using(router.db_for_write(PageView)).pending().exists()


def backfill(run_id: int, link: int) -> int:
    """Roll up pending page views for BUDGET, then have the cluster call the next link; return how many so far.

    The run is finished when nothing is pending. A call that was delivered twice, or of a run that has ended, does
    nothing.
    """
    run = runs.due(run_id, link, Run.Kind.BACKFILL)
    if run is None:
        return 0
    processed = run.processed
    until = time.monotonic() + BUDGET.total_seconds()
    batch_size = BackfillResult.of(run).batch_size
    with closing(rollups.backfill(batch_size=batch_size, run=run)) as chunks:
        for progress in chunks:
            processed = progress.processed
            if time.monotonic() >= until:
                runs.pass_on(run, link, partial(_enqueue, "backfill", run_id))
                break
    return processed


def verify() -> Run | None:
    """Have the cluster verify all stats, slice by slice; return the run, or None while another one is running.

    A verification that stalled becomes "stopped", since what it compared may be out of date.
    """
    if runs.alive(Run.Kind.VERIFY, at=instant(None)):
        return None
    run = rollups.begin_verification(link=0)
    _enqueue("verify_slices", run.pk, 0)
    return run


def verify_slices(run_id: int, link: int) -> int:
    """Verify for BUDGET, then have the cluster call the next link; return how many stored numbers differ so far.

    What a link has found is stored when it makes the next link due. So nothing counts twice if a link is killed, or
    delivered twice.
    """
    run = runs.due(run_id, link, Run.Kind.VERIFY)
    if run is None:
        return 0
    until = time.monotonic() + BUDGET.total_seconds()
    with closing(rollups.verification(run, left=Run.Status.RUNNING)) as slices:
        for _ in slices:
            if time.monotonic() >= until:
                runs.pass_on(run, link, partial(_enqueue, "verify_slices", run_id), result=VerifyResult.of(run))
                break
    return VerifyResult.of(run).drift


def restart_verification(*, at: datetime | None = None) -> None:
    """Enqueue the due link of a stalled verification again. One that a command had begun becomes "stopped".

    Args:
        at: an aware datetime; None is now.
    """
    for run in runs.stalled_links(Run.Kind.VERIFY, at=instant(at)):
        _enqueue("verify_slices", run.pk, runs.link_of(run))


def require_django_q() -> None:
    """Raise `NoCluster` unless django-q2 is in INSTALLED_APPS."""
    if not apps.is_installed("django_q"):
        raise NoCluster(
            '"django_q" is not in INSTALLED_APPS, so there is no cluster and nothing can be scheduled. Add it, run'
            " manage.py migrate and start manage.py qcluster. Without a cluster, cron can call manage.py"
            " cleanup_stale_sessions, verify_aggregates and pagestats_prune, and manage.py backfill_aggregates does its"
            " work where it is called."
        )


def require_queue() -> None:
    """Raise `NoCluster` unless tasks can be put into the queue. Whether a cluster is running isn't checked."""
    require_django_q()
    from django_q.brokers import get_broker

    unreachable: tuple[type[Exception], ...] = (ImportError, OSError, DatabaseError)
    try:
        from redis import RedisError
    except ImportError:
        pass  # another broker can't be reached, or the missing package is the problem
    else:
        unreachable = (*unreachable, RedisError)
    try:
        get_broker().queue_size()
    except unreachable as error:
        raise NoCluster(
            f"The queue of django-q2 can't be reached: {error}. Without a broker in Q_CLUSTER it is Redis on this"
            ' machine; Q_CLUSTER = {"orm": "default", …} keeps it in the database, after manage.py migrate.'
        ) from error


def _enqueue(task: str, run_id: int, link: int) -> None:
    """Put a link into the queue when the transaction commits that makes it due."""
    using = router.db_for_write(PageView)
    transaction.on_commit(partial(_put, task, run_id, link, using=using), using=using)


def _put(task: str, *arguments: int, using: str) -> None:
    """Put a task of this module into the queue."""
    from django_q.tasks import async_task

    options = {**UNSAVED, "group": "pagestats"}
    # The queue may be a table in a SQLite file to which others write.
    sql.retrying(lambda: async_task(f"pagestats.tasks.{task}", *arguments, q_options=options), using=using)
