"""Which transactions may still see the database as it was."""

from __future__ import annotations

from django.db import connections

from pagestats.sql.dialects import dialect_of


def transactions_with_snapshots(*, using: str) -> frozenset[str]:
    """Return the ids of other transactions that may not see yet what has been committed.

    Call it after a commit: transactions that begin later see what that changed, and so do those that are not returned.
    The change is in force everywhere once each returned id is no longer among those of a later call.

    Only on PostgreSQL can a writer be in this state. There, a prepared statement takes its snapshot before its locks,
    and a transaction at REPEATABLE READ keeps one snapshot from its first statement on. On the other databases, a
    writer reads the calendar when it holds the first lock: SQLite has one writer at a time, whose view is current, and
    on MariaDB and MySQL the lock of the session comes first and is followed by a read of what is committed.
    """
    connection = connections[using]
    if not (statement := dialect_of(connection).transactions_with_snapshots):
        return frozenset()
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return frozenset(virtual_id for (virtual_id,) in cursor.fetchall())
