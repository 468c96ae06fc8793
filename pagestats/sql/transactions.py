"""Run work in a transaction, and again if it failed on a lock."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from math import inf
from typing import TypeVar

from django.db import OperationalError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pagestats.sql.dialects import dialect_of

T = TypeVar("T")
M = TypeVar("M", bound=models.Model)

ATTEMPTS = 30
LONGEST_PAUSE = 0.5  # seconds
REQUEST_RETRY_SECONDS = 10
"""How long a write is retried while a page waits for it: the page matters more than its statistics."""
WAIT_FOR_WRITERS_SECONDS = 0.2  # seconds; MariaDB takes whole ones
SECONDS_BETWEEN_PAUSES = 1  # second
PAUSE_SECONDS = 0.12  # longer than the 0.1 s after which a writer that waits for SQLite's lock looks again

POSTGRESQL_LOCK_ERRORS = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available
MYSQL_LOCK_ERRORS = {1020, 1205, 1213}  # record has changed since last read, lock wait timeout, deadlock
SQLITE_LOCK_ERRORS = {5, 6}  # SQLITE_BUSY, SQLITE_LOCKED


def is_lock_error(error: BaseException) -> bool:
    """Tell whether a database error would go away if the whole transaction were tried again."""
    cause = error.__cause__ or error
    if state := getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None):
        return state in POSTGRESQL_LOCK_ERRORS
    if (code := getattr(cause, "sqlite_errorcode", None)) is not None:
        return code & 0xFF in SQLITE_LOCK_ERRORS
    return bool(cause.args) and cause.args[0] in MYSQL_LOCK_ERRORS


def retrying(work: Callable[[], T], *, using: str, patience: float = inf) -> T:
    """Call `work` and return what it returns; when it fails on a lock, call it again after a short random pause.

    Inside somebody else's transaction it is called once: only a whole transaction can be tried again.

    Args:
        patience: seconds after which it is not called again, where a page waits for it. One call takes as long as the
            database waits for a lock, whatever is said here.
    """
    attempts = 1 if connections[using].in_atomic_block else ATTEMPTS
    until = time.monotonic() + patience
    for attempt in range(1, attempts + 1):
        try:
            return work()
        except OperationalError as error:
            if attempt == attempts or not is_lock_error(error) or time.monotonic() >= until:
                raise
        time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.005 * 2**attempt)))
    raise AssertionError("unreachable: the last attempt returns or raises")


def transact(work: Callable[[], T], *, using: str, patience: float = inf) -> T:
    """Call `work` in a transaction, or in a savepoint of the one that is open, trying again as `retrying` does."""

    def attempt() -> T:
        with transaction.atomic(using=using):
            return work()

    return retrying(attempt, using=using, patience=patience)


class WriteThrottle:
    """Pauses of a job that writes chunk after chunk, so that other writers get their turn.

    SQLite has one writer at a time, and a waiting writer polls for the lock: without a pause the next chunk takes the
    lock again before the waiting writer looks. The other databases lock rows, and need no pauses.
    """

    def __init__(self, using: str) -> None:
        self._is_needed = dialect_of(connections[using]).has_one_writer
        self._until = time.monotonic() + SECONDS_BETWEEN_PAUSES

    def pause(self) -> None:
        """Pause if the last pause was long enough ago. Call it outside a transaction."""
        if self._is_needed and time.monotonic() >= self._until:
            time.sleep(PAUSE_SECONDS)
            self._until = time.monotonic() + SECONDS_BETWEEN_PAUSES


def wait_for_writers(model: type[models.Model], *, using: str) -> None:
    """Wait until every other transaction that has written to a table has ended.

    Later writers of the table wait until this transaction ends, so it gives up soon, with a lock error. Call it as the
    first statement: a transaction that sees what was committed when it began then also sees what those writers wrote.
    SQLite has only one writer, so nothing is done there. On MariaDB it locks each row, also uncommitted ones, but
    doesn't keep others from adding rows.
    """
    connection = connections[using]
    table = connection.ops.quote_name(model._meta.db_table)
    statements = dialect_of(connection).wait_for_writers(table, WAIT_FOR_WRITERS_SECONDS)
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def reads_are_snapshots(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether plain reads of a transaction show the past: then only a locking read sees what others committed."""
    # PostgreSQL refuses the lock itself in that case, and `retrying` begins again.
    return dialect_of(connection).reads_are_snapshots(connection)


def current(rows: models.QuerySet[M]) -> models.QuerySet[M]:
    """Return a fresh queryset of rows that sees what others committed, whatever the transaction's isolation level."""
    connection = connections[rows.db]
    return rows.select_for_update() if connection.in_atomic_block and reads_are_snapshots(connection) else rows.all()
