"""A verification as a run: its progress is stored, so that any process can show it, or continue it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from datetime import date

from django.db import router
from django.db.models import Sum

from pagestats import dimensions, runs
from pagestats.dimensions import SITE
from pagestats.hits import instant
from pagestats.models import Calendar, PageView, Rollup, Run
from pagestats.rollups.recount import refuse_local_times
from pagestats.rollups.verifying import Position, Slice, slices
from pagestats.runs import VerifyResult


def begin_verification(*, link: int | None = None) -> Run:
    """Store the run of a verification that begins now, and return it. Stalled runs become "stopped".

    Args:
        link: the link that is due if the verification is a chain of tasks.

    Raises:
        LocalTimes: nothing can be verified, because the database stores local times.
    """
    using = router.db_for_write(PageView)
    refuse_local_times(using=using)
    runs.stop_stalled(Run.Kind.VERIFY, at=instant(None))
    seal = _sealed_before(using=using)
    views = Rollup.objects.using(using).filter(dimension=SITE.name, **({"day__gte": seal} if seal else {}))
    return runs.begin(
        VerifyResult(
            # Each page view is counted once for its session, and once for each dimension.
            total=(1 + len(dimensions.rolled_up())) * (views.aggregate(total=Sum("views"))["total"] or 0),
            sealed_before=seal,
            position=Position().to_json(),
            processed=0,
            link=link,
        )
    )


def verification(run: Run, *, left: Run.Status = Run.Status.STOPPED) -> Generator[Slice, None, None]:
    """Continue a run from its position: verify slice by slice, and yield the result of each slice.

    At the end the run is "finished", and its `VerifyResult` says how many stored numbers differ. Until then the result
    is kept up to date in memory only.

    Args:
        run: what `begin_verification` returned.
        left: the status of the run if the iteration stops early. With "running", the caller stores the run's result, so
            that another process can continue it.
    """
    status = left
    result = VerifyResult.of(run)
    try:
        run.processed = result.processed or 0  # what a killed link did after its position is done again
        for checked in slices(start=Position.from_json(result.position or Position().to_json())):
            run.processed += checked.views_read
            result = _with(result, checked, processed=run.processed)
            run.result = result.to_json()
            runs.advance_to(run, run.processed)
            yield checked
        status = Run.Status.FINISHED
        # The seal may have moved meanwhile.
        seal = _sealed_before(using=router.db_for_write(PageView))
        result = replace(result, position=None, processed=None, sealed_before=seal)
    finally:
        if status != Run.Status.RUNNING:
            runs.end_with(run, status, result)
            run.status, run.result = status, result.to_json()


def _with(result: VerifyResult, checked: Slice, *, processed: int) -> VerifyResult:
    """Return a result with that of one more slice."""
    compared: Counter[str] = checked.compared
    return replace(
        result,
        cells=result.cells + compared["cells"],
        days=result.days + compared["days"],
        pages=result.pages + compared["pages"],
        visitors=result.visitors + compared["visitors"],
        page_views=result.page_views + compared["page_views"],
        drift=result.drift + len(checked.drift),
        position=checked.then.to_json(),
        processed=processed,
    )


def _sealed_before(*, using: str) -> date | None:
    return Calendar.objects.using(using).row().values_list("sealed_before", flat=True).first()
