"""What the cluster of django-q2 calls: the clean-up, and a backfill and a verification as chains of short tasks.

A chain is one `Run`. Each of its tasks is called with the number of its link, works for a while, counts the link on and
enqueues the next one. A task whose link is not that of the run was delivered twice or comes too late, and does nothing.
So a link may be enqueued again whenever the chain seems dead, and at most one next link comes of all that are at work.

django-q2 is imported where it is used: a site need not have it among its apps, and its models can't be imported then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.apps import apps
from django.db import DatabaseError, router, transaction

from pagestats import retention, rollups, sql
from pagestats.conf import conf
from pagestats.hits import instant
from pagestats.models import PageView, Run

BUDGET = timedelta(seconds=5)
"""How long a task of a chain goes on with the next chunk."""

FOLD_EVERY = timedelta(seconds=3)
FOLD_FOR = timedelta(seconds=50)
"""How often, and for how long, a task folds what page views were stored pending: until the next minute's task, unless
the cluster ends its tasks earlier, or gives them to another worker."""
TIME_TO_END = timedelta(seconds=10)
"""What the last chunk of such a task may take."""

UNSAVED = {"save": False}
"""Options of each task: successes are not listed, where they would push out those of the site. Failures always are."""


class NoCluster(Exception):
    """No cluster can be asked. Its text gives the fact and what to do."""


class BackfillUnderWay(Exception):
    """A backfill is running that showed progress within the last minute."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"A backfill is under way already: {run.processed:,} of {run.result['total']:,} page views.")


def clean_up() -> int:
    """Delete the stale sessions and restart a backfill and a verification that died. Return how many sessions."""
    deleted = retention.clean_up()
    restart_backfill()
    restart_verification()
    return deleted


def fold() -> int:
    """Fold what PAGESTATS_ROLLUPS "deferred" stored pending, again and again for most of a minute; return how many.

    The schedule calls it each minute. With "immediate" it does nothing: what came by another door waits for a backfill.
    """
    folded = 0
    until = time.monotonic() + _fold_for().total_seconds()
    while conf.ROLLUPS == "deferred" and time.monotonic() < until:
        with closing(rollups.fold()) as chunks:
            for views in chunks:
                folded += views
                if time.monotonic() >= until:
                    return folded
        time.sleep(FOLD_EVERY.total_seconds())
    return folded


def _fold_for() -> timedelta:
    """Return how long a task may fold: it has to end before the cluster takes it for a dead one."""
    if not apps.is_installed("django_q"):
        return FOLD_FOR
    from django_q.conf import Conf

    limits = [timedelta(seconds=limit) - TIME_TO_END for limit in (Conf.TIMEOUT, Conf.RETRY) if limit]
    return max(BUDGET, min([FOLD_FOR, *limits]))


def prune(*, batch_size: int | None = None) -> int:
    """Prune what PAGESTATS_KEEP_PAGE_VIEWS does not keep, for BUDGET, then have the cluster call this again.

    Return how many page views are pruned so far. The empty rows of sessions that were erased are swept up as well, and
    the salts of the days before.
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
                # It does not matter how often: what is pruned is gone.
                _put("prune", using=router.db_for_write(PageView))
                break
    return processed


def schedule_backfill(*, batch_size: int | None = None) -> Run | None:
    """Have the cluster fold all pending page views in; return the run, or None when nothing is pending.

    A backfill that died is carried on, with the batch size that it has.

    Raises `NoCluster` when there is none to ask, `BackfillUnderWay`, `rollups.RebuildUnderWay`, and `ValueError` for
    a batch size out of range.
    """
    require_queue()
    rollups.backfill(batch_size=batch_size)
    rollups.refuse_while_rebuilding()
    runs = Run.objects.using(router.db_for_write(PageView)).filter(kind=Run.Kind.BACKFILL).running()
    if alive := runs.alive(instant(None)).order_by("-updated").first():
        raise BackfillUnderWay(alive)
    if not (run := restart_backfill()) and (run := rollups.begin_backfill(link=0, batch_size=batch_size)):
        _enqueue(run.pk, 0, using=runs.db)
    return run


def restart_backfill(*, at: datetime | None = None) -> Run | None:
    """Enqueue the backfill again that shows no progress for a minute, if any, and return its run.

    None is restarted while another one is alive or when nothing is pending. All other dead ones become "stopped". It
    does not matter whether the dead one was a chain, or a command that was killed.

    Arguments:
        at: an aware datetime; None is now.
    """
    now = instant(at)
    using = router.db_for_write(PageView)
    running = Run.objects.using(using).filter(kind=Run.Kind.BACKFILL).running()
    silent = running.silent(now)
    dead = list(silent.newest_first())
    if not dead:
        return None
    is_wanted = running.count() == len(dead) and PageView.objects.using(using).pending().exists()
    run = dead.pop(0) if is_wanted else None
    silent.filter(pk__in=[other.pk for other in dead]).update(status=Run.Status.STOPPED, finished=now)
    # Of two that find it dead at the same time, one finds it silent here.
    if run is None or not silent.filter(pk=run.pk).update(updated=now):
        return None
    _enqueue(run.pk, _link(run), using=using)
    return run


def backfill(run_id: int, link: int) -> int:
    """Fold pending page views in for BUDGET, then have the cluster call the next link; return how many so far.

    It is finished when nothing is pending. A call that was delivered twice, or of a run that is over, does nothing.
    """
    using = router.db_for_write(PageView)
    run = _due(run_id, link, using=using)
    if run is None:
        return 0
    processed = run.processed
    until = time.monotonic() + BUDGET.total_seconds()
    with closing(rollups.backfill(batch_size=run.result.get("batch_size"), run=run)) as chunks:
        for progress in chunks:
            processed = progress.processed
            if time.monotonic() >= until:
                sql.transact(partial(_hand_on, run_id, link, using=using), using=using)
                break
    return processed


def verify() -> Run | None:
    """Have the cluster verify all figures, slice by slice; return the run, or None when one is under way.

    A verification that died is "stopped": what it compared is of yesterday.
    """
    using = router.db_for_write(PageView)
    if Run.objects.using(using).filter(kind=Run.Kind.VERIFY).running().alive(instant(None)).exists():
        return None
    run = rollups.begin_verification(link=0)
    _enqueue(run.pk, 0, task="verify_slices", using=using)
    return run


def verify_slices(run_id: int, link: int) -> int:
    """Verify for BUDGET, then have the cluster call the next link; return how many figures differ so far.

    What a link found is stored when it hands on: of one that is killed, or delivered twice, nothing counts twice.
    """
    using = router.db_for_write(PageView)
    run = _due(run_id, link, using=using)
    if run is None:
        return 0
    until = time.monotonic() + BUDGET.total_seconds()
    with closing(rollups.verification(run, left=Run.Status.RUNNING)) as slices:
        for _ in slices:
            if time.monotonic() >= until:
                hand_on = partial(_hand_on, run_id, link, task="verify_slices", result=run.result, using=using)
                sql.transact(hand_on, using=using)
                break
    drift: int = run.result["drift"]
    return drift


def restart_verification(*, at: datetime | None = None) -> None:
    """Enqueue the link again of a verification that shows no progress for a minute; one of a command is "stopped".

    Arguments:
        at: an aware datetime; None is now.
    """
    now = instant(at)
    silent = Run.objects.using(router.db_for_write(PageView)).filter(kind=Run.Kind.VERIFY).running().silent(now)
    for run in list(silent):
        if "link" not in run.result:
            silent.filter(pk=run.pk).update(status=Run.Status.STOPPED, finished=now)
        # Of two that find it dead at the same time, one finds it silent here.
        elif silent.filter(pk=run.pk).update(updated=now):
            _enqueue(run.pk, _link(run), task="verify_slices", using=silent.db)


def require_django_q() -> None:
    """Raise `NoCluster` unless django-q2 is among the apps of the site."""
    if not apps.is_installed("django_q"):
        raise NoCluster(
            '"django_q" is not in INSTALLED_APPS, so there is no cluster and nothing can be scheduled. Add it, run'
            " manage.py migrate and start manage.py qcluster; or do without: cron can call manage.py"
            " cleanup_stale_sessions, verify_aggregates and pagestats_prune, and manage.py backfill_aggregates folds"
            " where it is called."
        )


def require_queue() -> None:
    """Raise `NoCluster` unless tasks can be put into the queue. Whether a cluster takes them out can't be seen."""
    require_django_q()
    from django_q.brokers import get_broker

    unreachable: tuple[type[Exception], ...] = (ImportError, OSError, DatabaseError)
    try:
        from redis import RedisError
    except ImportError:
        pass  # then it is another broker that can't be reached, or this is what is missing
    else:
        unreachable = (*unreachable, RedisError)
    try:
        get_broker().queue_size()
    except unreachable as error:
        raise NoCluster(
            f"The queue of django-q2 can't be reached: {error}. Without a broker in Q_CLUSTER it is Redis on this"
            ' machine; Q_CLUSTER = {"orm": "default", …} keeps it in the database, after manage.py migrate.'
        ) from error


def _due(run_id: int, link: int, *, using: str) -> Run | None:
    """Return the run whose next link this is, None when it is over or the link was delivered before."""
    run = Run.objects.using(using).filter(pk=run_id).running().first()
    return run if run is not None and _link(run) == link else None


def _link(run: Run) -> int:
    link: int = run.result.get("link", 0)
    return link


def _hand_on(
    run_id: int, link: int, *, task: str = "backfill", result: Mapping[str, Any] | None = None, using: str
) -> None:
    """Count the link of a run on, and enqueue the next one when that is committed. Only the first to come does.

    Arguments:
        task: what the cluster is to call.
        result: what the link has come to; None where each chunk stored that.
    """
    runs = Run.objects.using(using).filter(pk=run_id).running()
    runs.advance()  # the lock: a write, as the first statement
    for run in sql.current(runs):
        if _link(run) == link:
            run.result.update(result or {}, link=link + 1)
            run.save(using=using, update_fields=["result"])
            _enqueue(run_id, link + 1, task=task, using=using)


def _enqueue(run_id: int, link: int, *, task: str = "backfill", using: str) -> None:
    """Put a link into the queue when the transaction commits that says it is due."""
    transaction.on_commit(partial(_put, task, run_id, link, using=using), using=using)


def _put(task: str, *arguments: int, using: str) -> None:
    """Put a task of this module into the queue."""
    from django_q.tasks import async_task

    options = {**UNSAVED, "group": "pagestats"}
    # The queue may be a table in a SQLite file that others write to.
    sql.retrying(lambda: async_task(f"pagestats.tasks.{task}", *arguments, q_options=options), using=using)
