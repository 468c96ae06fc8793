"""Count everything again from the page views, and tell what differs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import router
from tqdm import tqdm

from pagestats.formats import counted, printable
from pagestats.management.base import StatsCommand
from pagestats.models import PageView
from pagestats.rollups import Drift, Slice, begin_verification, slices, verification
from pagestats.rollups.recount import LocalTimes, refuse_local_times

CHECKED = {"cells": "cell", "days": "day", "pages": "page", "visitors": "visitor", "page_views": "page view"}


class Command(StatsCommand):
    """manage.py verify_aggregates."""

    help = (
        "Counts all figures again from the page views, lists those that differ, and ends with 1 if there are any. "
        "Changes nothing without --repair. Safe on a live site, and safe to kill: it goes by short statements."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--repair",
            action="store_true",
            help="First set right what differs, in short transactions, while the site goes on; then verify.",
        )
        parser.add_argument(
            "--limit", type=int, default=20, metavar="N", help="How many figures that differ are listed (default: 20)."
        )

    def handle(self, *, repair: bool, limit: int, **options: Any) -> None:
        """Verify, after repairing."""
        if limit < 0:
            raise CommandError(f"--limit is {limit}, not a number of lines. Use 0 or more.")
        self.limit, self.quietly = limit, not options["verbosity"]
        try:
            refuse_local_times(using=router.db_for_write(PageView))
        except LocalTimes as error:
            raise CommandError(str(error)) from error
        if repair and (mended := self.follow(slices(mend=True), "Repairing", prefix="set right: ")):
            self.stdout.write(f"Set {counted(mended, 'figure')} right")
        run = begin_verification()
        self.follow(verification(run), "Verifying", total=run.result["total"])
        if sealed_before := run.result["sealed_before"]:
            self.stdout.write(f"Days before {sealed_before} are sealed: their page views were pruned. Not judged")
        if drift := run.result["drift"]:
            raise CommandError(
                f"{counted(drift, 'figure')} {'differs' if drift == 1 else 'differ'} from the page views."
                " manage.py verify_aggregates --repair sets them right."
            )
        found = {noun: counted(run.result[figure], noun) for figure, noun in CHECKED.items()}
        self.stdout.write("Exact: {cell} of {day}, {page} and {visitor} agree with {page view}".format(**found))

    def follow(self, checked: Iterable[Slice], title: str, *, prefix: str = "", total: int | None = None) -> int:
        """Follow slices with a progress bar, list the first of what differs, and return how many do."""
        drift = 0
        listed: list[Drift] = []
        with tqdm(desc=title, total=total, unit=" views", disable=self.quietly or None) as bar:
            for each in checked:
                if total is not None:
                    bar.total = max(total, bar.n + each.views_read)
                bar.update(each.views_read)
                listed += each.drift[: self.limit - len(listed)]
                drift += len(each.drift)
        for one in listed:
            self.stdout.write(f"{prefix}{printable(str(one))}")
        if drift > len(listed):
            self.stdout.write(f"… and {drift - len(listed):,} more")
        return drift
