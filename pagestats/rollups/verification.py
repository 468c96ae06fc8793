"""A verification as a run: it is stored how far it has come, so that any process can show it and carry it on."""

from __future__ import annotations

from collections.abc import Generator
from datetime import date
from functools import partial
from typing import Any

from django.db import router
from django.db.models import Sum

from pagestats import dimensions, sql
from pagestats.dimensions import SITE
from pagestats.hits import instant
from pagestats.models import Calendar, PageView, Rollup, Run
from pagestats.rollups.recount import refuse_local_times
from pagestats.rollups.verifying import COMPARED, Position, Slice, slices


def begin_verification(**result: Any) -> Run:
    """Store the run of a verification that is about to begin, and return it. Runs that died are "stopped" by it.

    Arguments:
        result: what else its `result` is to hold.

    Raises `LocalTimes` where nothing can be verified.
    """
    using = router.db_for_write(PageView)
    refuse_local_times(using=using)
    now = instant(None)
    silent = Run.objects.using(using).filter(kind=Run.Kind.VERIFY).running().silent(now)
    stop = partial(silent.update, status=Run.Status.STOPPED, finished=now)  # their last progress is told as it was
    sql.retrying(stop, using=using)
    seal = _sealed_before(using=using)
    views = Rollup.objects.using(using).filter(dimension=SITE.name, **({"day__gte": seal} if seal else {}))
    run = Run(kind=Run.Kind.VERIFY, status=Run.Status.RUNNING, started=now, updated=now)
    run.result = {
        **dict.fromkeys(COMPARED, 0),
        "drift": 0,
        "processed": 0,
        # Each page view is counted once for its session, and once for each dimension.
        "total": (1 + len(dimensions.rolled_up())) * (views.aggregate(total=Sum("views"))["total"] or 0),
        "sealed_before": seal and seal.isoformat(),
        "position": Position().to_json(),
        **result,
    }
    sql.retrying(partial(run.save, using=using), using=using)
    return run


def _sealed_before(*, using: str) -> date | None:
    return Calendar.objects.using(using).row().values_list("sealed_before", flat=True).first()


def verification(run: Run, *, left: Run.Status = Run.Status.STOPPED) -> Generator[Slice, None, None]:
    """Carry a run on from its position: verify slice by slice, and yield what each one showed.

    At the end it is "finished", with the number of figures that differ in its `result`.

    Arguments:
        run: what `begin_verification` returned. Its figures go on in memory until it ends.
        left: what becomes of it when the iteration ends before. "running": somebody else stores it and carries it on.
    """
    using = router.db_for_write(PageView)
    runs = Run.objects.using(using).filter(pk=run.pk).running()
    status = left
    try:
        run.processed = run.result["processed"]  # a link that was killed is done over from its position
        for checked in slices(start=Position.from_json(run.result["position"])):
            run.processed += checked.views_read
            run.result["processed"] = run.processed
            for name, number in checked.compared.items():
                run.result[name] += number
            run.result["drift"] += len(checked.drift)
            run.result["position"] = checked.then.to_json()
            sql.retrying(partial(runs.advance, processed=run.processed), using=using)
            yield checked
        status = Run.Status.FINISHED
        del run.result["position"], run.result["processed"]
        seal = _sealed_before(using=using)  # as it may have become meanwhile
        run.result["sealed_before"] = seal and seal.isoformat()
    finally:
        if status != Run.Status.RUNNING:
            run.status, run.updated = status, instant(None)
            run.finished = run.updated
            # Not if somebody else has ended it: a task may be delivered twice.
            ended = {"status": status, "updated": run.updated, "finished": run.finished, "result": run.result}
            sql.retrying(partial(runs.update, **ended), using=using)
