"""Delete stale sessions, for sites that run this from cron instead of a django-q2 cluster."""

from typing import Any

from pagestats.formats import counted
from pagestats.management.base import StatsCommand
from pagestats.retention import cleanup_and_store_run, sweep


class Command(StatsCommand):
    """manage.py cleanup_stale_sessions."""

    help = (
        "Deletes active sessions whose last heartbeat is older than PAGESTATS_SESSION_TIMEOUT and prints how many. "
        "Also deletes the salts of anonymous ids after two days, and the empty rows of erased sessions after an hour. "
        "Run it from cron every five minutes, unless a django-q2 cluster does it."
    )

    def handle(self, **options: Any) -> None:
        """Delete."""
        deleted = cleanup_and_store_run()
        sweep()
        self.stdout.write(f"Deleted {counted(deleted, 'stale session')}")
