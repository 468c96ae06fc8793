"""Delete old page views and keep their counts."""

from datetime import date
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from tqdm import tqdm

from pagestats import retention
from pagestats.formats import counted
from pagestats.management.arguments import add_batch_size, day
from pagestats.management.base import StatsCommand
from pagestats.rollups import Progress


class Command(StatsCommand):
    """manage.py pagestats_prune."""

    help = (
        "Deletes all page views before a day, in chunks, and keeps their counts. The days before it are then sealed: "
        "their counts can no longer change. Safe on a live site, safe to run twice, safe to kill: the next run "
        "continues where this one stopped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--before",
            type=day,
            metavar="DATE",
            help="Delete page views before this reporting day (default: follows PAGESTATS_KEEP_PAGE_VIEWS).",
        )
        add_batch_size(parser)
        parser.add_argument("--dry-run", action="store_true", help="Print what would be deleted and change nothing.")

    def handle(self, *, before: date | None, batch_size: int | None, dry_run: bool, **options: Any) -> None:
        """Prune, with a progress bar."""
        now = timezone.now()
        before = before or retention.kept_from(at=now)
        if before is None:
            raise CommandError(
                "PAGESTATS_KEEP_PAGE_VIEWS is None: page views are kept for ever. Set it, or use --before DATE."
            )
        done = Progress()
        try:
            if dry_run:
                scope = retention.preview_prune(before, at=now)
                self.stdout.write(f"Would delete {scope}, before {retention.bound_of(before)}")
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
            earlier = f" ({done.earlier:,} more in an earlier run)" if done.earlier else ""
            self.stdout.write(f"Deleted {counted(done.processed - done.earlier, 'page view')} before {bound}{earlier}")
        else:
            self.stdout.write(f"No page views before {bound}")
