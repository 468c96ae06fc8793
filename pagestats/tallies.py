"""Drop counters: how many hits were not stored, and why. Summed in memory and written now and then: approximate."""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections import Counter
from datetime import date
from functools import partial
from threading import Lock
from typing import Final

from django.conf import settings
from django.db import router

from pagestats import sql
from pagestats.days import day_of
from pagestats.hits import instant, shorten, storable
from pagestats.models import REASON_LENGTH, Calendar, Tally

logger = logging.getLogger("pagestats")

WRITE_EVERY = 10  # seconds

RECORDED: Final = "recorded"
REPEAT: Final = "repeat"
NOT_STORED = "not_stored"
FAILED = "failed"
"""The outcomes. The last two have a reason."""


class Tallies:
    """The counts of one process since it last wrote them.

    They are written with the first count after `WRITE_EVERY` seconds, and at exit. A process that is killed, or ended
    by a signal as uvicorn's are, loses the counts of its last seconds.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._written = time.monotonic()
        self._process = os.getpid()
        self._databases: list[str] = []

    def count(self, outcome: str, reason: str = "", *, times: int = 1) -> None:
        """Count an outcome with its reason, in memory alone."""
        with self._lock:
            self._forget_if_elsewhere()
            self._counts[outcome, _storable(reason)] += times

    def due(self) -> bool:
        """Return whether it is time to write."""
        return time.monotonic() - self._written >= WRITE_EVERY

    def write(self) -> None:
        """Add the counts to those in the database. Counts that can't be written now are kept for the next time."""
        with self._lock:
            self._forget_if_elsewhere()
            counts, self._counts = self._counts, Counter()
            self._written = time.monotonic()
        if not counts:
            return
        try:
            using = router.db_for_write(Tally)
            # Read before the transaction: on SQLite, only one that begins with a write waits for other writers.
            day = _reporting_day(using)
            sql.transact(partial(_add, counts, day, using=using), using=using, patience=0)  # a page waits for it
        except Exception as error:  # noqa: BLE001  # of the database, or of the site's own router
            logger.warning("Drop counters were not written. They are tried again in %d s: %s", WRITE_EVERY, error)
            with self._lock:
                self._counts += counts

    def counts(self) -> Counter[tuple[str, str]]:
        """Return the counts that are not written yet."""
        with self._lock:
            return self._counts.copy()

    def clear(self) -> None:
        """Forget the counts that are not written yet."""
        with self._lock:
            self._counts.clear()
            self._written = time.monotonic()

    def _forget_if_elsewhere(self) -> None:
        """Start from zero in a forked process and on another database.

        The parent process writes what was counted before the fork. The database of a test run is gone after it, and the
        counts of tests don't belong in the site's own.
        """
        here = os.getpid(), [str(database.get("NAME")) for database in settings.DATABASES.values()]
        if here != (self._process, self._databases):
            self._process, self._databases = here
            self._counts.clear()


def _storable(reason: str) -> str:
    """Return a reason that every database can store: with one that it can't store, no count would be written."""
    return shorten(storable(reason), REASON_LENGTH)


def _add(counts: Counter[tuple[str, str]], day: date, *, using: str) -> None:
    sql.upsert(
        Tally,
        [(day, outcome, reason, count) for (outcome, reason), count in counts.items()],
        key=["day", "outcome", "reason"],
        changes={"count": "add"},
        using=using,
    )


def _reporting_day(using: str) -> date:
    zone = Calendar.zone_of(Calendar.objects.using(using))
    return day_of(instant(None), zone)


tallies = Tallies()
atexit.register(tallies.write)


def tally(outcome: str, reason: str = "", *, count: int = 1) -> None:
    """Count an outcome with its reason, and write all counts if they are due. Don't call it on an event loop."""
    tallies.count(outcome, reason, times=count)
    if tallies.due():
        tallies.write()
