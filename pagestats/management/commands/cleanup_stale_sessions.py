"""Delete active sessions that have left, for sites where cron does what a cluster would."""

from typing import Any

from pagestats.formats import counted
from pagestats.management.base import StatsCommand
from pagestats.retention import clean_up, sweep


class Command(StatsCommand):
    """manage.py cleanup_stale_sessions."""

    help = (
        "Deletes the active sessions whose last heartbeat is older than PAGESTATS_SESSION_TIMEOUT, and says how many; "
        "then the salts of anonymous ids that are two days old, and the empty rows of sessions that were erased over "
        "an hour ago. "
        "For cron, every five minutes; a django-q2 cluster does it by itself."
    )

    def handle(self, **options: Any) -> None:
        """Delete."""
        deleted = clean_up()
        sweep()
        self.stdout.write(f"Deleted {counted(deleted, 'stale session')}")
