"""Delete what expires by itself: stale sessions, the salts of past days, and the empty rows that erasures leave."""

from __future__ import annotations

from datetime import datetime

from django.db import router

from pagestats import runs, sql
from pagestats.days import day_of
from pagestats.hits import instant
from pagestats.models import ActiveSession, Calendar, Salt
from pagestats.retention.erasing import sweep_visitors
from pagestats.runs import CleanupResult


def cleanup_stale_sessions(*, at: datetime | None = None) -> int:
    """Delete the sessions whose last heartbeat is older than PAGESTATS_SESSION_TIMEOUT, and return how many.

    Args:
        at: an aware datetime; None is now.
    """
    using = router.db_for_write(ActiveSession)
    stale = ActiveSession.objects.using(using).stale(instant(at))
    return sql.retrying(lambda: stale.delete()[0], using=using)


def cleanup_and_store_run() -> int:
    """Delete the stale sessions, store the clean-up as a `Run`, and return how many sessions it deleted.

    Each clean-up overwrites the `Run` of the one before. So there is one row, which says when the last completed
    clean-up started and how many sessions it deleted.
    """
    started = instant(None)
    deleted = cleanup_stale_sessions(at=started)
    runs.overwrite_finished(CleanupResult(), started=started, processed=deleted)
    return deleted


def delete_expired_salts(*, at: datetime | None = None) -> int:
    """Delete the salts of anonymous ids that are two reporting days old or older, and return how many.

    The first page view of a day does the same. This is for days on which a site has no page view.

    Args:
        at: an aware datetime; None is now.
    """
    using = router.db_for_write(Salt)
    today = day_of(instant(at), Calendar.zone_of(Calendar.objects.using(using)))
    expired = Salt.objects.using(using).expired(today)
    return sql.retrying(lambda: expired.delete()[0], using=using)


def sweep() -> None:
    """Delete what is no longer needed: expired salts, and the empty rows of erased sessions."""
    delete_expired_salts()
    sweep_visitors()
