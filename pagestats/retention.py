"""What is not kept: stale sessions."""

from datetime import datetime

from django.db import router

from pagestats import sql
from pagestats.hits import instant
from pagestats.models import ActiveSession


def cleanup_stale_sessions(*, at: datetime | None = None) -> int:
    """Delete the sessions whose last heartbeat is older than PAGESTATS_SESSION_TIMEOUT, and return how many.

    Arguments:
        at: an aware datetime; None is now.
    """
    using = router.db_for_write(ActiveSession)
    stale = ActiveSession.objects.using(using).stale(instant(at))
    return sql.retrying(lambda: stale.delete()[0], using=using)
