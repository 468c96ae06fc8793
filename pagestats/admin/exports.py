"""Tables as CSV, row by row, and safe to be opened in a spreadsheet."""

from __future__ import annotations

import csv
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from pagestats.admin.series import Row, Series
from pagestats.content import Titled
from pagestats.stats import Active, Health, Report

UNSEEN = r'[\s"\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]'
FORMULA = re.compile(rf"(^|[;\t\r\n])(?={UNSEEN}*[=+\-@＝＋－＠])|^(?=[\t\r\n])")
"""Where a cell begins that a spreadsheet may reckon with, the full-width signs in some languages.

Behind a semicolon, too: in many languages a spreadsheet takes that, not the comma, for what parts the cells.

https://owasp.org/www-community/attacks/CSV_Injection
"""

LINES = 500
"""That are sent at once under ASGI."""

Rows = Iterable[Sequence[Any]]


class Echo:
    """A file that returns what is written to it."""

    def write(self, text: str) -> str:
        """Return the text."""
        return text


def safe(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: an apostrophe stands before what looks like one."""
    return FORMULA.sub(r"\1'", cell) if isinstance(cell, str) else cell


def response(rows: Rows, request: HttpRequest, *, name: str) -> StreamingHttpResponse:
    """Return rows as a file to be saved under a name. They are read already, so no row waits for a database."""
    lines = _lines(rows)
    is_async = isinstance(request, ASGIRequest)
    answer = StreamingHttpResponse(
        _asynchronously(lines) if is_async else lines, content_type="text/csv; charset=utf-8"
    )
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return answer


def _lines(rows: Rows) -> Iterator[str]:
    writer = csv.writer(Echo())
    yield "\ufeff"  # without it a spreadsheet takes the file for one in its own encoding
    for row in rows:
        yield writer.writerow([safe(cell) for cell in row])


async def _asynchronously(lines: Iterator[str]) -> AsyncIterator[str]:
    """Yield lines, some at a time: under ASGI, Django would put those of an iterator together before it sends any."""
    while some := "".join(islice(lines, LINES)):
        yield some


def figures(series: Series) -> Iterator[Sequence[Any]]:
    """Yield views and visitors by hour or by day, and those of the period before beside them, if there is any."""
    unit = "hour" if series.by_hour else "day"
    now, before = [unit, "views", "visitors"], [f"{unit} before", "views before", "visitors before"]
    yield now + before if series.before else now
    for row, earlier in zip_longest(series.told, series.before):
        yield [*_cells(row), *(_cells(earlier) if series.before else ())]


def _cells(row: Row | None) -> Sequence[Any]:
    if row is None:
        return "", "", ""
    start, views, visitors = row
    return start.isoformat(), views, visitors


def pages(told: Report) -> Iterator[Sequence[Any]]:
    """Yield the pages. Visitors that can't be told are empty."""
    yield "path", "title", "type", "views", "visitors"
    for row in told.rows:
        yield row.value, *told.titles[row.value], row.views, row.visitors


def active(now: Active, titles: Mapping[str, Titled]) -> Iterator[Sequence[Any]]:
    """Yield how many are on which page now, with its title."""
    yield "path", "title", "visitors"
    for path, count in now.by_path:
        yield path, titles[path].title, count


def requests(state: Health) -> Iterator[Sequence[Any]]:
    """Yield what became of requests."""
    yield "outcome", "reason", "today", "last 7 days"
    yield from state.tallied
