"""Delete what is stored of one session, or take its id away."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from pagestats import retention
from pagestats.formats import counted
from pagestats.identity import id_in_cookie
from pagestats.management.base import StatsCommand


class Command(StatsCommand):
    """manage.py pagestats_erase."""

    help = (
        "Deletes all page views of one session and takes what they added off the figures; with --forget they stay, with"
        " a random id in the place of the session's. Safe on a live site."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the session and the options."""
        parser.add_argument(
            "session", help="The session's id, as it is stored with its page views, or the value of its cookie."
        )
        parser.add_argument("--forget", action="store_true", help="Replace the id, and keep all that was counted.")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be done.")

    def handle(self, *, session: str, forget: bool, dry_run: bool, **options: Any) -> None:
        """Say what is stored of the session, and erase or forget it."""
        session = id_in_cookie(session)
        verb, verb_done = ("forget", "forgotten") if forget else ("erase", "erased")
        try:
            found = retention.to_forget(session) if forget else retention.to_erase(session)
            is_sealed = retention.has_sealed_days(session)
            is_here = retention.is_here(session)
            if not dry_run:
                done = retention.forget(session) if forget else retention.erase(session)
        except ValueError as error:
            raise CommandError(str(error)) from error
        if not found.page_views and not is_sealed:
            done_to_it = f"a heartbeat to {verb}" if dry_run else f"its heartbeat was {verb_done}"
            self.stdout.write(f"No page views of {session!r}" + (f", and {done_to_it}" if is_here else ""))
        elif dry_run:
            self.stdout.write(f"Would {'forget whose they are' if forget else 'erase'}: {found}")
        else:
            views = counted(done, "page view")
            self.stdout.write(f"Forgot whose {views} are" if forget else f"Erased {views}")
