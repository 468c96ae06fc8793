"""Delete page views of long ago, and keep what was counted."""

from datetime import date
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from tqdm import tqdm

from pagestats import retention
from pagestats.formats import counted
from pagestats.management.arguments import add_batch_size, day
from pagestats.management.base import StatsCommand
from pagestats.rollups import Done


class Command(StatsCommand):
    """manage.py pagestats_prune."""

    help = (
        "Deletes the page views of all reporting days before one, in chunks, and keeps all that was counted of them. "
        "Those days are sealed then. Safe on a live site, safe to run twice, safe to kill: run it again, and it goes "
        "on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--before",
            type=day,
            metavar="DATE",
            help="The first day whose page views stay (default: what PAGESTATS_KEEP_PAGE_VIEWS keeps).",
        )
        add_batch_size(parser)
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be deleted.")

    def handle(self, *, before: date | None, batch_size: int | None, dry_run: bool, **options: Any) -> None:
        """Prune, with a progress bar."""
        now = timezone.now()
        before = before or retention.kept_from(at=now)
        if before is None:
            raise CommandError("PAGESTATS_KEEP_PAGE_VIEWS is None: all are kept. Set it, or give a day: --before DATE.")
        done = Done(0, 0)
        try:
            if dry_run:
                extent = retention.to_prune(before, at=now)
                self.stdout.write(f"Would prune: {extent}, before {retention.bound_of(before)}")
                return
            chunks = retention.prune(before, at=now, batch_size=batch_size)
            bound = retention.bound_of(before)
        except ValueError as error:
            raise CommandError(str(error)) from error
        with tqdm(unit=" views", disable=not options["verbosity"] or None) as bar:
            for done in chunks:
                bar.total = done.total
                bar.update(done.processed - bar.n)
        if done.total:
            earlier = f", and {done.earlier:,} before it was stopped" if done.earlier else ""
            self.stdout.write(f"Pruned {counted(done.processed - done.earlier, 'page view')} before {bound}{earlier}")
        else:
            self.stdout.write(f"No page views before {bound}")
