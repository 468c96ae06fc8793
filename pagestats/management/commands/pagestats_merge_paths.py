"""Move all page views of one path to another."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from pagestats.content import patterns
from pagestats.formats import counted
from pagestats.intake import is_known
from pagestats.management.arguments import add_batch_size
from pagestats.management.base import StatsCommand
from pagestats.rollups import Progress, merge_paths, preview_merge
from pagestats.stats import has_views


class Command(StatsCommand):
    """manage.py pagestats_merge_paths."""

    help = (
        "Moves all page views of one path, and their counts, to another path, in chunks. Safe on a live site, safe to "
        "kill: the next run continues where this one stopped. It can't be undone: no record is kept of what was moved."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("source", help="The path to move page views from.")
        parser.add_argument("target", help="The path to move them to.")
        add_batch_size(parser)
        parser.add_argument("--dry-run", action="store_true", help="Print what would be moved and change nothing.")

    def handle(self, *, source: str, target: str, batch_size: int | None, dry_run: bool, **options: Any) -> None:
        """Merge, with a progress bar."""
        done = Progress()
        try:
            to_move = preview_merge(source, target)
            _refuse_no_page(target)
            if dry_run:
                self.stdout.write(f"Would move {to_move}")
                return
            with tqdm(unit=" views", disable=not options["verbosity"] or None) as bar:
                for done in merge_paths(source, target, batch_size=batch_size):
                    bar.total = done.total
                    bar.update(done.processed - bar.n)
        except ValueError as error:
            raise CommandError(str(error)) from error
        if done.total:
            self.stdout.write(f"Moved {counted(done.processed, 'page view')} from {source!r} to {target!r}")
        else:
            slash = "" if source.startswith("/") else f". Paths begin with a slash: /{source}"
            self.stdout.write(f"No page views of {source!r}{slash}")


def _refuse_no_page(target: str) -> None:
    """Refuse a target that is not a page of the site and never was, since a merge can't be undone."""
    if not is_known(target, patterns.match(target)) and not has_views(target):
        raise CommandError(
            f"target is {target!r}, which matches no URL pattern of the site and has no page views. Use a path of the"
            " site, without a query string, or add it to PAGESTATS_CLIENT_PATHS. If the page is served from another"
            " URLconf or under a prefix, open it once so that it is known, then run the merge again."
        )
