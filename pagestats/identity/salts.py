"""The salts of the anonymous identity: one random secret for each reporting day, deleted two days later."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from functools import partial
from threading import Lock
from typing import NamedTuple

from django.db import router
from django.db.models import QuerySet

from pagestats import sql
from pagestats.days import day_of, start_of
from pagestats.models import Calendar, Salt

SECRET_BYTES = 32


class DaySalts(NamedTuple):
    """The salts of a reporting day, which lasts from `begin` to `end`, and of the day before it."""

    begin: datetime
    end: datetime
    today: bytes
    yesterday: bytes | None


class DaySaltCache:
    """The salts of the day, read from the database once a day in each process."""

    def __init__(self, read: Callable[[datetime], DaySalts]) -> None:
        self._read = read
        self._lock = Lock()
        self._salts: DaySalts | None = None

    def at(self, at: datetime) -> DaySalts:
        """Return the salts of the reporting day of an instant. The first request of a day makes its salt.

        Threads that need the salts at the same moment wait for one of them to read.
        """
        if known := self._known(at):
            return known
        with self._lock:
            known = self._known(at)
            if known is None:
                self._salts = known = self._read(at)
        return known

    def _known(self, at: datetime) -> DaySalts | None:
        salts = self._salts
        return salts if salts is not None and salts.begin <= at < salts.end else None

    def clear(self) -> None:
        """Forget the salts: the next request reads them again."""
        self._salts = None


def read_salts(at: datetime) -> DaySalts:
    """Read the salts of the reporting day of an instant, and make its own if there is none yet."""
    using = router.db_for_write(Salt)
    zone = Calendar.zone_of(Calendar.objects.using(using))
    today = day_of(at, zone)
    yesterday, tomorrow = today - timedelta(days=1), today + timedelta(days=1)

    kept = Salt.objects.using(using).filter(day__in=[today, yesterday])
    stored = _secrets(kept)
    if today not in stored:
        make = partial(_make_salt, today, kept, using=using)
        stored = sql.transact(make, using=using, patience=sql.REQUEST_RETRY_SECONDS)
    return DaySalts(start_of(today, zone), start_of(tomorrow, zone), stored[today], stored.get(yesterday))


def _secrets(salts: Iterable[Salt]) -> dict[date, bytes]:
    return {salt.day: bytes(salt.secret) for salt in salts}


def _make_salt(day: date, kept: QuerySet[Salt], *, using: str) -> dict[date, bytes]:
    """Make the salt of a day unless there is one, delete the expired ones, and return those that are kept.

    The first statement is a write: a second process waits here for the first one, and uses its salt.
    """
    salts = Salt.objects.using(using)
    salts.bulk_create([Salt(day=day, secret=secrets.token_bytes(SECRET_BYTES))], ignore_conflicts=True)
    salts.expired(day).delete()
    return _secrets(sql.current(kept))


day_salts = DaySaltCache(read_salts)
