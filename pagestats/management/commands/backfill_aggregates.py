"""Fold page views that no rollup contains yet into the rollups."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from tqdm import tqdm

from pagestats.formats import counted
from pagestats.management.arguments import add_batch_size
from pagestats.management.base import StatsCommand
from pagestats.rollups import Progress, backfill, backfill_status, rebuild, refuse_while_rebuilding, to_rebuild
from pagestats.tasks import BackfillUnderWay, NoCluster, schedule_backfill


class Command(StatsCommand):
    """manage.py backfill_aggregates."""

    help = (
        "Folds pending page views (rows that came by a fixture, bulk_create or plain SQL, or from before the app) into "
        "the rollups, in chunks of one transaction each. Safe on a live site, safe to run twice, safe to kill: run it "
        "again and it goes on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        add_batch_size(parser, default="PAGESTATS_BACKFILL_BATCH_SIZE, 500")
        parser.add_argument(
            "--dry-run", action="store_true", help="With --rebuild: only say what would be counted again."
        )
        instead = parser.add_mutually_exclusive_group()
        instead.add_argument(
            "--status", action="store_true", help="Only say how many page views are pending and how the last run went."
        )
        instead.add_argument(
            "--schedule", action="store_true", help="Have the django-q2 cluster do it, in tasks of a few seconds."
        )
        instead.add_argument(
            "--rebuild",
            action="store_true",
            help="Make all rollups anew, in the site's present TIME_ZONE. Figures stay exact meanwhile.",
        )

    def handle(
        self, *, batch_size: int | None, status: bool, schedule: bool, rebuild: bool, dry_run: bool, **options: Any
    ) -> None:
        """Fold, tell the status, schedule, or rebuild."""
        if dry_run and not rebuild:
            raise CommandError("--dry-run is for --rebuild. --status tells how many page views are pending.")
        if rebuild:
            self.rebuild(batch_size, dry_run=dry_run, quietly=not options["verbosity"])
        elif status:
            self.stdout.write(backfill_status().describe(timezone.now()))
        elif schedule:
            self.schedule(batch_size)
        else:
            self.fold(batch_size, quietly=not options["verbosity"])

    def schedule(self, batch_size: int | None) -> None:
        """Have the cluster fold."""
        try:
            run = schedule_backfill(batch_size=batch_size)
        except (NoCluster, ValueError) as error:
            raise CommandError(str(error)) from error
        except BackfillUnderWay as error:
            self.stdout.write(f"{error} --status tells how far it is.")
            return
        if run is None:
            self.say("No page views to backfill")
        else:
            left = run.result["total"] - run.processed
            self.stdout.write(
                f"Scheduled the backfill of {counted(left, 'page view')} on the cluster. --status tells how far it is."
            )

    def fold(self, batch_size: int | None, *, quietly: bool) -> None:
        """Fold here and now, with a progress bar."""
        done: Progress | None = None
        try:
            chunks = backfill(batch_size=batch_size)
            refuse_while_rebuilding()
            with tqdm(unit=" views", disable=quietly or None) as bar:
                for done in chunks:
                    bar.total = done.total
                    bar.update(done.processed - bar.n)
            refuse_while_rebuilding()  # one that has begun meanwhile ended the backfill
        except ValueError as error:
            raise CommandError(str(error)) from error
        if done is None:
            self.say("No page views to backfill")
        else:
            views, visitors = counted(done.processed, "page view"), counted(done.new_visitors, "new visitor")
            self.say(f"Backfilled {views} with {visitors}")

    def say(self, done: str) -> None:
        """Say what was done, and what nobody can do."""
        for line in (done, *backfill_status().describe_stranded()):
            self.stdout.write(line)

    def rebuild(self, batch_size: int | None, *, dry_run: bool, quietly: bool) -> None:
        """Make all rollups anew, with a progress bar over both halves of it."""
        try:
            if dry_run:
                self.stdout.write(f"Would rebuild in {settings.TIME_ZONE}: {to_rebuild()}")
                return
            with tqdm(unit=" views", disable=quietly or None) as bar:
                for done in rebuild(batch_size=batch_size):
                    bar.total = done.total
                    bar.update(done.processed - bar.n)
            refuse_while_rebuilding()  # another one that has begun meanwhile ended this one
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Rebuilt the rollups in {settings.TIME_ZONE}")
