"""Delete everything stored about one visitor, or anonymise it."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from pagestats import retention
from pagestats.formats import counted
from pagestats.identity import id_in_cookie
from pagestats.management.base import StatsCommand


class Command(StatsCommand):
    """manage.py pagestats_erase."""

    help = (
        "Deletes all page views of one session and subtracts them from the stats. With --forget, keeps the page views "
        "and replaces the session id with a random one. Safe on a live site."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument(
            "session", help="The session id, as stored with the page views, or the value of the visitor's cookie."
        )
        parser.add_argument("--forget", action="store_true", help="Anonymise: replace the id and keep the counts.")
        parser.add_argument("--dry-run", action="store_true", help="Print what would be done and change nothing.")

    def handle(self, *, session: str, forget: bool, dry_run: bool, **options: Any) -> None:
        """Erase or anonymise the session, or print what would be done."""
        session = id_in_cookie(session)
        verb, verb_done = ("anonymise", "Anonymised") if forget else ("erase", "Erased")
        try:
            found = retention.preview_forget(session) if forget else retention.preview_erase(session)
            is_sealed = retention.has_sealed_days(session)
            is_here = retention.is_active(session)
            if not dry_run:
                done = retention.forget(session) if forget else retention.erase(session)
        except ValueError as error:
            raise CommandError(str(error)) from error
        if not found.page_views and not is_sealed:
            heartbeat = f". Would {verb} its heartbeat" if dry_run else f". {verb_done} its heartbeat"
            self.stdout.write(f"No page views of {session!r}{heartbeat if is_here else ''}")
        elif dry_run:
            self.stdout.write(f"Would {verb} {found}")
        else:
            self.stdout.write(f"{verb_done} {counted(done, 'page view')}")
