"""What was not stored, and why: summed in process memory, written now and then, so approximate."""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections import Counter
from datetime import date
from threading import Lock

from django.db import DatabaseError, router

from pagestats import sql
from pagestats.hits import instant
from pagestats.models import ReportingZone, Tally

logger = logging.getLogger("pagestats")

WRITE_EVERY = 10  # seconds

RECORDED = "recorded"
REPEAT = "repeat"
NOT_STORED = "not_stored"
FAILED = "failed"
"""The outcomes; the last two come with a reason."""


class Tallies:
    """The counts of one process since they were written last.

    Writing happens in whichever thread counts next after `WRITE_EVERY` seconds, and at exit; a process that is killed
    loses the counts of its last seconds.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._written = time.monotonic()
        self._process = os.getpid()

    def tally(self, outcome: str, reason: str = "", *, count: int = 1) -> None:
        """Count an outcome with its reason, and write all counts when they are due."""
        with self._lock:
            self._leave_counts_to_parent()
            self._counts[outcome, reason] += count
            due = time.monotonic() - self._written >= WRITE_EVERY
        if due:
            self.write()

    def write(self) -> None:
        """Add the counts to those in the database. What can't be written now is kept for the next time."""
        with self._lock:
            self._leave_counts_to_parent()
            counts, self._counts = self._counts, Counter()
            self._written = time.monotonic()
        if not counts:
            return
        using = router.db_for_write(Tally)
        try:
            sql.transact(lambda: _add(counts, using=using), using=using)
        except DatabaseError:
            logger.warning("The tallies %r were not written; the next try is in %d s.", dict(counts), WRITE_EVERY)
            with self._lock:
                self._counts += counts

    def clear(self) -> None:
        """Forget the counts."""
        with self._lock:
            self._counts.clear()

    def _leave_counts_to_parent(self) -> None:
        """In a process that was forked off, begin at zero: what was counted before is the parent's to write."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._counts.clear()


def _add(counts: Counter[tuple[str, str]], *, using: str) -> None:
    day = _reporting_day(using)
    sql.upsert(
        Tally,
        [(day, outcome, reason, count) for (outcome, reason), count in counts.items()],
        key=["day", "outcome", "reason"],
        changes={"count": "add"},
        using=using,
    )


def _reporting_day(using: str) -> date:
    zone = ReportingZone.zone_of(ReportingZone.objects.using(using))
    return instant(None).astimezone(zone).date()


_tallies = Tallies()
tally = _tallies.tally
write = _tallies.write
clear = _tallies.clear
atexit.register(write)
