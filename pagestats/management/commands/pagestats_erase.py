"""Delete what is stored of one session, or take its id away."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from pagestats import retention
from pagestats.formats import counted
from pagestats.management.base import StatsCommand
from pagestats.rollups import SealedDay


class Command(StatsCommand):
    """manage.py pagestats_erase."""

    help = (
        "Deletes all page views of one session and takes what they added off the figures; with --forget they stay, with"
        " a random id in the place of the session's. Safe on a live site."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the session and the options."""
        parser.add_argument("session", help="The session's id, as it is stored with its page views.")
        parser.add_argument("--forget", action="store_true", help="Replace the id, and keep all that was counted.")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be done.")

    def handle(self, *, session: str, forget: bool, dry_run: bool, **options: Any) -> None:
        """Say what is stored of the session, and erase or forget it."""
        try:
            found = retention.to_forget(session) if forget else retention.to_erase(session)
            is_sealed = retention.has_sealed_days(session)
            if not dry_run:
                verb = retention.forget if forget else retention.erase
                done = verb(session)
        except (SealedDay, ValueError) as error:
            raise CommandError(str(error)) from error
        if not found.page_views and not is_sealed:
            self.stdout.write(f"No page views of {session!r}")
        elif dry_run:
            self.stdout.write(f"Would {'forget whose they are' if forget else 'erase'}: {found}")
        else:
            views = counted(done, "page view")
            self.stdout.write(f"Forgot whose {views} are" if forget else f"Erased {views}")
