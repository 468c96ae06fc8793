"""Tell the figures of any range of days."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any, get_args

from django.core.management.base import CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from pagestats import identity
from pagestats.formats import counted, printable
from pagestats.management.arguments import day
from pagestats.management.base import StatsCommand
from pagestats.stats import MOST_DAYS, By, Order, Refused, Report, has_views, report, reporting_day

DAYS = 30


class Command(StatsCommand):
    """manage.py pagestats_report."""

    help = (
        "Tells the page views, visitors and pages of a range of reporting days, of the site or of one page: exact "
        "figures, those of page views included that are still to be folded in."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the range, and what is told of it."""
        parser.add_argument(
            "start", nargs="?", type=day, metavar="START", help="The first reporting day, such as 2026-01-31."
        )
        parser.add_argument("end", nargs="?", type=day, metavar="END", help="The last one, included (default: today).")
        parser.add_argument("--days", type=int, metavar="N", help=f"The last N days instead (default: {DAYS}).")
        parser.add_argument("--page", metavar="PATH", help="Of this page alone.")
        parser.add_argument("--by", choices=get_args(By), default="day", help="hour: for at most two days.")
        parser.add_argument("--limit", type=int, default=20, metavar="N", help="Pages to list (default: 20).")
        parser.add_argument(
            "--order",
            choices=get_args(Order),
            default="-views",
            help="Of the pages, such as --order=-visitors, with the equals sign; a minus turns it round.",
        )
        parser.add_argument("--search", default="", metavar="TEXT", help="Only pages with this in their path or title.")
        parser.add_argument(
            "--compare", action="store_true", help="With as many days before, and with the range a year before."
        )
        parser.add_argument("--json", action="store_true", help="As the API gives it.")

    def handle(self, *, page: str | None, **options: Any) -> None:
        """Tell."""
        if page is not None and options["search"]:
            raise CommandError("--search looks among all pages, and --page is one. Leave one of them out.")
        what = {name: options[name] for name in ("by", "limit", "order", "search", "compare")}
        try:
            start, end = _range(options["start"], options["end"], options["days"])
            told = report(start, end, dimension="page", value=page, **what)
        except Refused as refusal:
            raise CommandError(str(refusal)) from refusal
        if page is not None and not page.startswith("/") and not has_views(page):
            raise CommandError(f"--page is {page!r}, which nobody viewed. Paths begin with a slash: --page /{page}")
        lifetime = identity.lifetime()
        if options["json"]:
            written = partial(json.dumps, told.written(lifetime=lifetime), cls=DjangoJSONEncoder)
            text = written(ensure_ascii=False)
            self.stdout.write(written() if self.may_escape or not text.isprintable() else text)
            return
        self.stdout.write(self.style.MIGRATE_HEADING(_heading(told)))
        for lines in (_figures(told, lifetime), _series(told), _pages(told)):
            for line in lines:
                self.stdout.write(line.rstrip())


def _range(start: date | None, end: date | None, days: int | None) -> tuple[date, date]:
    today = reporting_day(timezone.now())
    if start is None:
        days = DAYS if days is None else days
        if not 1 <= days <= MOST_DAYS:
            raise CommandError(f"--days is {days}, not a number from 1 to {MOST_DAYS:,}.")
        return today - timedelta(days=days - 1), today
    if days is not None:
        raise CommandError("START and --days are two ways to name a range. Leave one out.")
    if end is None and start > today:
        raise CommandError(f"START is {start}, and today is {today}. Give an END, too.")
    return start, end or today


def _heading(told: Report) -> str:
    days = "" if told.start == told.end else f" to {told.end}"
    page = "" if told.value is None else f"{printable(told.value) or repr('')}, "
    return f"{page}{told.start}{days}, {told.zone}"


def _figures(told: Report, lifetime: str) -> Iterator[str]:
    """Yield a line for each figure, with what it was before."""
    named = {"Page views": "views", identity.visitors_label(): "visitors"}
    if lifetime != "day":
        named |= {"New visitors": "new_visitors", "Returning visitors": "returning_visitors"}
    compared = [figures for figures in (told.previous, told.year_before) if figures]
    rows = [
        [name, _number(now), *(_before(getattr(figures, figure), now) for figures in compared)]
        for name, figure in named.items()
        for now in [getattr(told, figure)]
    ]
    if compared:
        rows.insert(0, ["", "", *(f"{figures.start} to {figures.end}" for figures in compared)])
    yield from _table(rows)


def _before(was: int | None, now: int | None) -> str:
    """Return what a figure was, and by how much it has changed since."""
    if not was or now is None:
        return _number(was)
    return f"{was:,} ({(now - was) / was:+.1%})"


def _series(told: Report) -> Iterator[str]:
    yield ""
    if told.hours:
        rows = [[f"{hour.start:%Y-%m-%d %H:%M %z}", f"{hour.views:,}", f"{hour.visitors:,}"] for hour in told.hours]
        yield from _table([["Hour", "Page views", "Visitors"], *rows])
    else:
        rows = [[f"{day.day:%Y-%m-%d %a}", f"{day.views:,}", f"{day.visitors:,}"] for day in told.days]
        yield from _table([["Day", "Page views", "Visitors"], *rows])


def _pages(told: Report) -> Iterator[str]:
    if told.value is not None:
        return
    yield ""
    if not told.rows:
        yield f"{counted(told.total_rows, 'page')} viewed"
        return
    rows = [
        [row.value, f"{row.views:,}", _number(row.visitors), _title(row.value, told.titles[row.value].title)]
        for row in told.rows
    ]
    yield from _table([["Page", "Page views", "Visitors", "Title"], *rows], words={0, 3})
    yield f"{len(told.rows):,} of {counted(told.total_rows, 'page')}"
    if told.reason:
        yield told.reason


def _title(path: str, title: str) -> str:
    return "" if title == path else title


def _number(number: int | None) -> str:
    return "not known" if number is None else f"{number:,}"


def _table(rows: Sequence[Sequence[str]], *, words: Iterable[int] = (0,)) -> Iterator[str]:
    """Yield rows as lines, with words to the left of their columns and numbers to the right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.ljust(width) if number in words else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells)
