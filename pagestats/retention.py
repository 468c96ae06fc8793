"""What is not kept: stale sessions."""

from datetime import datetime

from django.db import router

from pagestats import sql
from pagestats.hits import instant
from pagestats.models import ActiveSession, Run


def cleanup_stale_sessions(*, at: datetime | None = None) -> int:
    """Delete the sessions whose last heartbeat is older than PAGESTATS_SESSION_TIMEOUT, and return how many.

    Arguments:
        at: an aware datetime; None is now.
    """
    using = router.db_for_write(ActiveSession)
    stale = ActiveSession.objects.using(using).stale(instant(at))
    return sql.retrying(lambda: stale.delete()[0], using=using)


def clean_up() -> int:
    """Delete the stale sessions, note it in the one `Run` of the clean-up, and return how many.

    Each clean-up overwrites that row: its `started` is that of the last one that came to its end, its `processed` the
    sessions that one deleted.
    """
    started = instant(None)
    deleted = cleanup_stale_sessions(at=started)
    using = router.db_for_write(Run)
    finished = instant(None)
    figures = {
        "status": Run.Status.FINISHED,
        "started": started,
        "updated": finished,
        "finished": finished,
        "processed": deleted,
    }
    runs = Run.objects.using(using)
    if not sql.retrying(lambda: runs.filter(kind=Run.Kind.CLEANUP).update(**figures), using=using):
        runs.create(kind=Run.Kind.CLEANUP, **figures)
    return deleted
