"""What the ORM cannot say, for each database: try again, look around views, add to rows, compare and swap; and what it
would say anew each time.
"""

from pagestats.sql.prepared import prepared
from pagestats.sql.ranking import ORDERS, LaterDay, ShiftedDay, ranked_of_days
from pagestats.sql.reading import Nearest, Surroundings, View, look, ranked_pages
from pagestats.sql.snapshots import transactions_with_snapshots
from pagestats.sql.transactions import (
    PATIENCE_OF_A_PAGE,
    Turns,
    current,
    is_lock_error,
    reads_are_snapshots,
    retrying,
    transact,
    wait_for_writers,
)
from pagestats.sql.writing import Insert, Target, can_swap, lock_sessions, swap, upsert, write

__all__ = [
    "ORDERS",
    "PATIENCE_OF_A_PAGE",
    "Insert",
    "LaterDay",
    "Nearest",
    "ShiftedDay",
    "Surroundings",
    "Target",
    "Turns",
    "View",
    "can_swap",
    "current",
    "is_lock_error",
    "lock_sessions",
    "look",
    "prepared",
    "ranked_of_days",
    "ranked_pages",
    "reads_are_snapshots",
    "retrying",
    "swap",
    "transact",
    "transactions_with_snapshots",
    "upsert",
    "wait_for_writers",
    "write",
]
