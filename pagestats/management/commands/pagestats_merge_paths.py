"""Move all page views of one path to another."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from pagestats.admission import is_known
from pagestats.content import patterns
from pagestats.formats import counted
from pagestats.management.arguments import add_batch_size
from pagestats.management.base import StatsCommand
from pagestats.rollups import Done, merge_paths, to_merge
from pagestats.stats import has_views


class Command(StatsCommand):
    """manage.py pagestats_merge_paths."""

    help = (
        "Moves all page views of one path to another, and their figures with them, in chunks. Safe on a live site, safe"
        " to kill: run it again and it goes on. It can't be undone: afterwards nothing tells which views were moved."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the paths and the options."""
        parser.add_argument("source", help="The path that is to have no page views any more.")
        parser.add_argument("target", help="The path that is to have them.")
        add_batch_size(parser)
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be moved.")

    def handle(self, *, source: str, target: str, batch_size: int | None, dry_run: bool, **options: Any) -> None:
        """Merge, with a progress bar."""
        done = Done(0, 0)
        try:
            to_move = to_merge(source, target)
            _refuse_no_page(target)
            if dry_run:
                self.stdout.write(f"Would move: {to_move}")
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
            slash = "" if source.startswith("/") else ". Paths begin with a slash"
            self.stdout.write(f"No page views of {source!r}{slash}")


def _refuse_no_page(target: str) -> None:
    """Refuse what is no page of the site and never was one: what is moved there can't be told apart any more."""
    if not is_known(target, patterns.match(target)) and not has_views(target):
        raise CommandError(
            f"target is {target!r}, which no URL pattern of the site has, and which nobody ever viewed. Give a path of"
            " the site, without a query, or name it in PAGESTATS_CLIENT_PATHS. Of a page that only the server or a"
            " request knows, by its prefix or another URLconf, one view is enough: open it, then merge."
        )
