"""Roll up pending page views."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from tqdm import tqdm

from pagestats.formats import counted
from pagestats.management.arguments import add_batch_size
from pagestats.management.base import StatsCommand
from pagestats.rollups import Progress, backfill, backfill_status, preview_rebuild, rebuild, refuse_while_rebuilding
from pagestats.runs import BackfillResult
from pagestats.tasks import BackfillUnderWay, NoCluster, schedule_backfill


class Command(StatsCommand):
    """manage.py backfill_aggregates."""

    help = (
        "Rolls up pending page views (rows from a fixture, bulk_create, plain SQL or another app), one transaction per "
        "chunk. Safe on a live site, safe to run twice, safe to kill: the next run continues where this one stopped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        add_batch_size(parser, default="PAGESTATS_BACKFILL_BATCH_SIZE, 500")
        parser.add_argument(
            "--dry-run", action="store_true", help="With --rebuild: print what would be rebuilt and change nothing."
        )
        instead = parser.add_mutually_exclusive_group()
        instead.add_argument(
            "--status", action="store_true", help="Print how many page views are pending and the state of the last run."
        )
        instead.add_argument(
            "--schedule", action="store_true", help="Run on the django-q2 cluster instead, in tasks of a few seconds."
        )
        instead.add_argument(
            "--rebuild",
            action="store_true",
            help="Rebuild all rollups in the site's current TIME_ZONE. The stats stay exact meanwhile.",
        )

    def handle(
        self, *, batch_size: int | None, status: bool, schedule: bool, rebuild: bool, dry_run: bool, **options: Any
    ) -> None:
        """Backfill, print the status, schedule, or rebuild."""
        if dry_run and not rebuild:
            raise CommandError("--dry-run needs --rebuild. To see how many page views are pending, use --status.")
        if rebuild:
            self.rebuild(batch_size, dry_run=dry_run, quietly=not options["verbosity"])
        elif status:
            self.stdout.write(backfill_status().describe(timezone.now()))
        elif schedule:
            self.schedule(batch_size)
        else:
            self.roll_up(batch_size, quietly=not options["verbosity"])

    def schedule(self, batch_size: int | None) -> None:
        """Schedule the backfill on the cluster."""
        try:
            run = schedule_backfill(batch_size=batch_size)
        except (NoCluster, ValueError) as error:
            raise CommandError(str(error)) from error
        except BackfillUnderWay as error:
            self.stdout.write(f"{error} Use --status to see its progress.")
            return
        if run is None:
            self.say("No page views to backfill")
        else:
            left = BackfillResult.of(run).total - run.processed
            self.stdout.write(
                f"Scheduled the backfill of {counted(left, 'page view')} on the cluster."
                " Use --status to see its progress."
            )

    def roll_up(self, batch_size: int | None, *, quietly: bool) -> None:
        """Backfill in this process, with a progress bar."""
        done: Progress | None = None
        try:
            chunks = backfill(batch_size=batch_size)
            refuse_while_rebuilding()
            with tqdm(unit=" views", disable=quietly or None) as bar:
                for done in chunks:
                    bar.total = done.total
                    bar.update(done.processed - bar.n)
            refuse_while_rebuilding()  # a rebuild that began meanwhile has ended the backfill
        except ValueError as error:
            raise CommandError(str(error)) from error
        if done is None:
            self.say("No page views to backfill")
        else:
            views, visitors = counted(done.processed, "page view"), counted(done.new_visitors, "new visitor")
            self.say(f"Backfilled {views} with {visitors}")

    def say(self, done: str) -> None:
        """Print what was done, and which page views no backfill can roll up."""
        for line in (done, *backfill_status().describe_stranded()):
            self.stdout.write(line)

    def rebuild(self, batch_size: int | None, *, dry_run: bool, quietly: bool) -> None:
        """Rebuild all rollups, with one progress bar for both halves of the work."""
        try:
            if dry_run:
                self.stdout.write(f"Would rebuild the rollups of {preview_rebuild()}, in {settings.TIME_ZONE}")
                return
            waiting_for = ""
            with tqdm(unit=" views", disable=quietly or None) as bar:
                for done in rebuild(batch_size=batch_size):
                    if done.waiting_for not in ("", waiting_for) and not quietly:
                        bar.clear()
                        self.stdout.write(f"Waiting for {done.waiting_for}")
                    waiting_for = done.waiting_for
                    bar.total = done.total
                    bar.update(done.processed - bar.n)
            refuse_while_rebuilding()  # another rebuild that began meanwhile has ended this one
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Rebuilt the rollups in {settings.TIME_ZONE}")
