"""Print the counts of any range of days."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any, get_args

from django.core.management.base import CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder

from pagestats import identity
from pagestats.dimensions import PAGE, named, with_rows
from pagestats.formats import counted, printable
from pagestats.management.arguments import day
from pagestats.management.base import StatsCommand
from pagestats.stats import MOST_DAYS, By, Order, Refused, Report, has_views, read_moment
from pagestats.stats import report as read_report

DAYS = 30


class Command(StatsCommand):
    """manage.py pagestats_report."""

    help = (
        "Prints the page views, visitors and pages of a range of reporting days, for the site or one page. The numbers "
        "are exact, and include page views that are not rolled up yet."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the range, and what to print."""
        parser.add_argument(
            "start", nargs="?", type=day, metavar="START", help="The first reporting day, such as 2026-01-31."
        )
        parser.add_argument("end", nargs="?", type=day, metavar="END", help="The last one, included (default: today).")
        parser.add_argument("--days", type=int, metavar="N", help=f"The last N days instead (default: {DAYS}).")
        names = [dimension.name for dimension in with_rows() if dimension.is_rolled_up]
        parser.add_argument(
            "--dimension", choices=names, default=PAGE.name, help=f"What to list in rows (default: {PAGE})."
        )
        parser.add_argument("--value", metavar="VALUE", help="Report on this value of the dimension only.")
        parser.add_argument("--page", metavar="PATH", help="Report on this page only.")
        parser.add_argument("--by", choices=get_args(By), default="day", help="hour: for at most two days.")
        parser.add_argument("--limit", type=int, default=20, metavar="N", help="Rows to list (default: 20).")
        parser.add_argument(
            "--order",
            choices=get_args(Order),
            default="-views",
            help="Of the rows, such as --order=-visitors, with the equals sign; with a minus, the largest first.",
        )
        parser.add_argument("--search", default="", metavar="TEXT", help="Only rows with this in their value or title.")
        parser.add_argument(
            "--compare",
            action="store_true",
            help="Compare with the previous range, and with the same a year before.",
        )
        parser.add_argument("--json", action="store_true", help="Print JSON, as the API returns it.")

    def handle(self, *, page: str | None, dimension: str, value: str | None, **options: Any) -> None:
        """Print the report."""
        if page is not None:
            if value is not None or dimension != PAGE.name:
                raise CommandError("--page is short for --dimension page --value PATH. Leave the others out.")
            value = page
        if value is not None and options["search"]:
            option = "--value" if page is None else "--page"
            raise CommandError(f"--search and {option} can't be combined: there is only one row. Leave one out.")
        what = {name: options[name] for name in ("by", "limit", "order", "search", "compare")}
        moment = read_moment()
        try:
            start, end = _range(options["start"], options["end"], options["days"], moment.today)
            report = read_report(start, end, dimension=dimension, value=value, moment=moment, **what)
        except Refused as refusal:
            raise CommandError(str(refusal)) from refusal
        if page is not None and not page.startswith("/") and not has_views(page):
            raise CommandError(f"--page is {page!r}, which has no views. Paths begin with a slash: --page /{page}")
        lifetime = identity.lifetime()
        if options["json"]:
            written = partial(json.dumps, report.written(lifetime=lifetime), cls=DjangoJSONEncoder)
            text = written(ensure_ascii=False)
            self.stdout.write(written() if self.may_escape or not text.isprintable() else text)
            return
        self.stdout.write(self.style.MIGRATE_HEADING(_heading(report)))
        for lines in (_figures(report, lifetime), _series(report), _rows(report)):
            for line in lines:
                self.stdout.write(line.rstrip())


def _range(start: date | None, end: date | None, days: int | None, today: date) -> tuple[date, date]:
    if start is None:
        days = DAYS if days is None else days
        if not 1 <= days <= MOST_DAYS:
            raise CommandError(f"--days is {days}, not a number from 1 to {MOST_DAYS:,}.")
        return today - timedelta(days=days - 1), today
    if days is not None:
        raise CommandError("START and --days can't be combined. Leave one out.")
    if end is None and start > today:
        raise CommandError(f"START is {start}, and today is {today}. Give an END, too.")
    return start, end or today


def _heading(report: Report) -> str:
    days = "" if report.start == report.end else f" to {report.end}"
    value = "" if report.value is None else f"{printable(report.value) or repr('')}, "
    return f"{value}{report.start}{days}, {report.zone}"


def _figures(report: Report, lifetime: str) -> Iterator[str]:
    """Yield a line for each number, with what it was before."""
    named = {"Page views": "views", identity.visitors_label(): "visitors"}
    if lifetime != "day":
        named |= {"New visitors": "new_visitors", "Returning visitors": "returning_visitors"}
    compared = [figures for figures in (report.previous, report.year_before) if figures]
    rows = [
        [name, _number(now), *(_before(getattr(figures, figure), now) for figures in compared)]
        for name, figure in named.items()
        for now in [getattr(report, figure)]
    ]
    if compared:
        rows.insert(0, ["", "", *(f"{figures.start} to {figures.end}" for figures in compared)])
    yield from _table(rows)


def _before(was: int | None, now: int | None) -> str:
    """Return what a number was, and by how much it has changed since."""
    if not was or now is None:
        return _number(was)
    return f"{was:,} ({(now - was) / was:+.1%})"


def _series(report: Report) -> Iterator[str]:
    yield ""
    if report.hours:
        rows = [[f"{hour.start:%Y-%m-%d %H:%M %z}", f"{hour.views:,}", f"{hour.visitors:,}"] for hour in report.hours]
        yield from _table([["Hour", "Page views", "Visitors"], *rows])
    else:
        rows = [[f"{day.day:%Y-%m-%d %a}", f"{day.views:,}", f"{day.visitors:,}"] for day in report.days]
        yield from _table([["Day", "Page views", "Visitors"], *rows])


def _rows(report: Report) -> Iterator[str]:
    if report.value is not None or report.dimension is None:
        return
    noun = named(report.dimension).noun
    yield ""
    if not report.rows:
        yield f"{counted(report.total_rows, noun)} viewed"
        return
    rows = [
        [row.value, f"{row.views:,}", _number(row.visitors), _title(row.value, report.titles[row.value].title)]
        for row in report.rows
    ]
    yield from _table([[noun.capitalize(), "Page views", "Visitors", "Title"], *rows], words={0, 3})
    yield f"{len(report.rows):,} of {counted(report.total_rows, noun)}"
    if report.reason:
        yield report.reason


def _title(value: str, title: str) -> str:
    return "" if title == value else title


def _number(number: int | None) -> str:
    return "not available" if number is None else f"{number:,}"


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
