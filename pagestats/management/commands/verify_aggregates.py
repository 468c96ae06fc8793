"""Compare all stored counts with the page views and list the differences."""

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
from pagestats.runs import VerifyResult

CHECKED = {"cells": "rollup row", "days": "day", "pages": "page", "visitors": "visitor", "page_views": "page view"}


class Command(StatsCommand):
    """manage.py verify_aggregates."""

    help = (
        "Counts everything again from the page views and lists stored counts that differ. Exits with 1 if any do. "
        "Changes nothing without --repair. Safe on a live site and safe to kill: each statement is short."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--repair",
            action="store_true",
            help="First repair what differs, in short transactions, then verify. Safe on a live site.",
        )
        parser.add_argument(
            "--limit", type=int, default=20, metavar="N", help="The most differences to list (default: 20)."
        )

    def handle(self, *, repair: bool, limit: int, **options: Any) -> None:
        """Repair if asked to, then verify."""
        if limit < 0:
            raise CommandError(f"--limit is {limit}. Use 0 or more.")
        self.limit, self.quietly = limit, not options["verbosity"]
        try:
            refuse_local_times(using=router.db_for_write(PageView))
        except LocalTimes as error:
            raise CommandError(str(error)) from error
        if repair and (repaired := self.follow(slices(fix=True), "Repairing", prefix="repaired: ")):
            self.stdout.write(f"Repaired {counted(repaired, 'count')}")
        run = begin_verification()
        self.follow(verification(run), "Verifying", total=VerifyResult.of(run).total)
        result = VerifyResult.of(run)
        if sealed_before := result.sealed_before:
            self.stdout.write(f"Skipped days before {sealed_before}: their page views have been pruned")
        if drift := result.drift:
            raise CommandError(
                f"{counted(drift, 'stored count')} {'differs' if drift == 1 else 'differ'} from the page views."
                " To fix, run manage.py verify_aggregates --repair."
            )
        found = {noun: counted(getattr(result, figure), noun) for figure, noun in CHECKED.items()}
        self.stdout.write("Exact: {rollup row} of {day}, {page} and {visitor} match {page view}".format(**found))

    def follow(self, checked: Iterable[Slice], title: str, *, prefix: str = "", total: int | None = None) -> int:
        """Check slice by slice with a progress bar, list the first differences, and return how many there are."""
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
