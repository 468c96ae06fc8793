"""The health of recording: what became of hits, and the last runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.db.models import Q, Subquery, Sum

from pagestats.days import DAY, Moment
from pagestats.models import PageView, Run, Tally
from pagestats.rollups import backfill_status
from pagestats.stats.moments import read_moment

HEALTH_DAYS = 7


class Tallied(NamedTuple):
    """How many hits had one outcome. Approximate: each process writes its counts every few seconds."""

    outcome: str
    reason: str
    today: int
    last_days: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """What became of hits today and in the last seven reporting days, and the last runs."""

    zone: ZoneInfo
    tallied: tuple[Tallied, ...]
    pending: int
    stranded: int
    """How many of the pending views can't be rolled up."""
    last_backfill: Run | None
    last_cleanup: Run | None
    last_verify: Run | None
    """The last one that finished: its `result` has the number of figures that differ, `drift`."""


def health(*, at: datetime | None = None, moment: Moment | None = None) -> Health:
    """Read the health of recording. Outcomes come with the most frequent first, equal ones by name and reason.

    Args:
        at: the aware datetime whose reporting day is today, the last of the seven; None is now.
        moment: the same, if it was read already.
    """
    moment = moment or read_moment(at)
    today = moment.today
    tallies = Tally.objects.filter(day__gt=today - HEALTH_DAYS * DAY, day__lte=today)
    by_outcome = tallies.order_by().values("outcome", "reason")
    tallied = by_outcome.annotate(today=Sum("count", filter=Q(day=today), default=0), last_days=Sum("count"))
    rows = [Tallied(*row) for row in tallied.values_list("outcome", "reason", "today", "last_days")]
    runs = _last_runs()
    any_pending = PageView.objects.pending().exists()
    backfill = backfill_status() if any_pending else None
    return Health(
        zone=moment.zone,
        tallied=tuple(sorted(rows, key=lambda row: (-row.last_days, row))),
        pending=backfill.pending if backfill else 0,
        stranded=backfill.stranded if backfill else 0,
        last_backfill=runs.get(Run.Kind.BACKFILL),
        last_cleanup=runs.get(Run.Kind.CLEANUP),
        last_verify=runs.get(Run.Kind.VERIFY),
    )


def _last_runs() -> dict[str, Run]:
    """Return the last run of each kind, in one statement; of verifications the last one that finished."""
    last = [
        Run.objects.filter(kind=Run.Kind.BACKFILL),
        Run.objects.filter(kind=Run.Kind.CLEANUP),
        Run.objects.filter(kind=Run.Kind.VERIFY, status=Run.Status.FINISHED),
    ]
    newest: list[Any] = [Subquery(runs.newest_first().values("pk")[:1]) for runs in last]
    return {run.kind: run for run in Run.objects.filter(pk__in=newest)}
