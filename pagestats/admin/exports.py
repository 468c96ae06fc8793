"""Tables as CSV, row by row, and safe to be opened in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from pagestats.stats import Active, Health, Report

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""With which a cell begins that a spreadsheet may reckon with, the full-width ones in some languages.

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
    """Return a cell that no spreadsheet takes for a formula: a text that looks like one begins with an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" ").startswith(FORMULAS) else cell


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


def figures(told: Report, *, at: datetime) -> Iterator[Sequence[Any]]:
    """Yield views and visitors by hour where the report has hours, else by day."""
    if told.hours:
        yield "hour", "views", "visitors"
        yield from ((hour.start.isoformat(), hour.views, hour.visitors) for hour in told.hours if hour.start <= at)
    else:
        yield "day", "views", "visitors"
        yield from ((day.day.isoformat(), day.views, day.visitors) for day in told.days)


def pages(told: Report) -> Iterator[Sequence[Any]]:
    """Yield the pages. Visitors that can't be told are empty."""
    yield "path", "title", "type", "views", "visitors"
    for row in told.rows:
        yield row.value, *told.titles[row.value], row.views, row.visitors


def active(now: Active) -> Iterator[Sequence[Any]]:
    """Yield how many are on which page now."""
    yield "path", "visitors"
    yield from now.by_path


def requests(state: Health) -> Iterator[Sequence[Any]]:
    """Yield what became of requests."""
    yield "outcome", "reason", "today", "last 7 days"
    yield from state.tallied
