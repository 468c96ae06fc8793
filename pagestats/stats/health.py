"""How the recording fares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.db.models import Q, Sum

from pagestats.days import day_of
from pagestats.hits import instant
from pagestats.models import Calendar, Run, Tally
from pagestats.rollups import backfill_status

HEALTH_DAYS = 7


class Tallied(NamedTuple):
    """How many hits came to one end. Approximate: processes write what they counted now and then."""

    outcome: str
    reason: str
    today: int
    last_days: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """How the recording fares: what became of hits today and in the last seven reporting days, and the last runs."""

    zone: ZoneInfo
    tallied: tuple[Tallied, ...]
    pending: int
    stranded: int
    """How many of the pending ones no backfill can fold in."""
    last_backfill: Run | None
    last_cleanup: Run | None
    last_verify: Run | None
    """The last one that came to its end: its `result` has the number of figures that differ, `drift`."""


def health(*, at: datetime | None = None) -> Health:
    """Read what tells whether everything is counted that should be. Tallies: most first, equal ones by outcome, reason.

    Arguments:
        at: the aware datetime whose reporting day is today, the last of the seven; None is now.
    """
    zone = Calendar.zone_of(Calendar.objects.all())
    today = day_of(instant(at), zone)
    tallies = Tally.objects.filter(day__gt=today - timedelta(days=HEALTH_DAYS), day__lte=today)
    by_outcome = tallies.order_by().values("outcome", "reason")
    tallied = by_outcome.annotate(today=Sum("count", filter=Q(day=today), default=0), last_days=Sum("count"))
    rows = [Tallied(*row) for row in tallied.values_list("outcome", "reason", "today", "last_days")]
    backfill = backfill_status()
    verifies = Run.objects.filter(kind=Run.Kind.VERIFY, status=Run.Status.FINISHED)
    return Health(
        zone=zone,
        tallied=tuple(sorted(rows, key=lambda row: (-row.last_days, row))),
        pending=backfill.pending,
        stranded=backfill.stranded,
        last_backfill=backfill.last_run,
        last_cleanup=Run.objects.filter(kind=Run.Kind.CLEANUP).newest_first().first(),
        last_verify=verifies.newest_first().first(),
    )
