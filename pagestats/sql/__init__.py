"""What the ORM can't express, on each database, and queries that it would compile again at each call.

Retry on lock errors, load a session's state around a view, add to stored rows, and write only if nothing has changed.
"""

from pagestats.sql.prepared import prepared
from pagestats.sql.ranking import ORDERS, LaterDay, ShiftedDay, ranked_of_days
from pagestats.sql.reading import Neighbours, SessionState, View, load_state, ranked_pages
from pagestats.sql.snapshots import transactions_with_snapshots
from pagestats.sql.transactions import (
    REQUEST_RETRY_SECONDS,
    WriteThrottle,
    current,
    is_lock_error,
    reads_are_snapshots,
    retrying,
    transact,
    wait_for_writers,
)
from pagestats.sql.writing import (
    Insert,
    Target,
    can_write_if_unchanged,
    lock_sessions,
    upsert,
    write,
    write_if_unchanged,
)

__all__ = [
    "ORDERS",
    "REQUEST_RETRY_SECONDS",
    "Insert",
    "LaterDay",
    "Neighbours",
    "SessionState",
    "ShiftedDay",
    "Target",
    "View",
    "WriteThrottle",
    "can_write_if_unchanged",
    "current",
    "is_lock_error",
    "load_state",
    "lock_sessions",
    "prepared",
    "ranked_of_days",
    "ranked_pages",
    "reads_are_snapshots",
    "retrying",
    "transact",
    "transactions_with_snapshots",
    "upsert",
    "wait_for_writers",
    "write",
    "write_if_unchanged",
]
