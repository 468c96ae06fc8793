"""What is deleted: stale sessions, what a visitor wants erased, and old page views."""

from pagestats.retention.erasing import (
    SINCE_AN_INSTANT,
    erase,
    forget,
    has_sealed_days,
    is_active,
    preview_erase,
    preview_forget,
    sweep_visitors,
)
from pagestats.retention.pruning import (
    PendingViews,
    WritersUnderWay,
    bound_of,
    kept_from,
    preview_prune,
    prune,
)
from pagestats.retention.sessions import cleanup_and_store_run, cleanup_stale_sessions, delete_expired_salts, sweep

__all__ = [
    "SINCE_AN_INSTANT",
    "PendingViews",
    "WritersUnderWay",
    "bound_of",
    "cleanup_and_store_run",
    "cleanup_stale_sessions",
    "delete_expired_salts",
    "erase",
    "forget",
    "has_sealed_days",
    "is_active",
    "kept_from",
    "preview_erase",
    "preview_forget",
    "preview_prune",
    "prune",
    "sweep",
    "sweep_visitors",
]
