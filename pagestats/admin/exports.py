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
from pagestats.dimensions import PAGE, Dimension
from pagestats.stats import Active, Health
from pagestats.stats import Rows as RowsOfDimension

UNSEEN = r'[\s"\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]'
FORMULA = re.compile(rf"(^|[;\t\r\n])(?={UNSEEN}*[=+\-@＝＋－＠])|^(?=[\t\r\n])")
"""Where a cell begins that a spreadsheet may run as a formula; in some languages also with a full-width sign.

Also after a semicolon, which spreadsheets in many languages take for the separator instead of the comma.

https://owasp.org/www-community/attacks/CSV_Injection
"""

LINES = 500
"""How many lines are sent at once under ASGI."""

Rows = Iterable[Sequence[Any]]


class Echo:
    """A file that returns what is written to it."""

    def write(self, text: str) -> str:
        """Return the text."""
        return text


def safe(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula, with an apostrophe before what looks like one."""
    return FORMULA.sub(r"\1'", cell) if isinstance(cell, str) else cell


def response(rows: Rows, request: HttpRequest, *, name: str) -> StreamingHttpResponse:
    """Return rows as a download of that name. They were read already, so no row waits for a database."""
    lines = _lines(rows)
    is_async = isinstance(request, ASGIRequest)
    answer = StreamingHttpResponse(
        _asynchronously(lines) if is_async else lines, content_type="text/csv; charset=utf-8"
    )
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return answer


def _lines(rows: Rows) -> Iterator[str]:
    writer = csv.writer(Echo())
    yield "\ufeff"  # without it a spreadsheet would assume an encoding of its own
    for row in rows:
        yield writer.writerow([safe(cell) for cell in row])


async def _asynchronously(lines: Iterator[str]) -> AsyncIterator[str]:
    """Yield lines, some at a time: under ASGI, Django would collect those of a plain iterator before it sends any."""
    while some := "".join(islice(lines, LINES)):
        yield some


def figures(series: Series) -> Iterator[Sequence[Any]]:
    """Yield views and visitors by hour or by day, beside those of the period before, if it is compared with that."""
    unit = "hour" if series.by_hour else "day"
    now, before = [unit, "views", "visitors"], [f"{unit} before", "views before", "visitors before"]
    yield now + before if series.before else now
    for row, earlier in zip_longest(series.begun, series.before):
        yield [*_cells(row), *(_cells(earlier) if series.before else ())]


def _cells(row: Row | None) -> Sequence[Any]:
    if row is None:
        return "", "", ""
    start, views, visitors = row
    return start.isoformat(), views, visitors


def values(rows: RowsOfDimension, dimension: Dimension) -> Iterator[Sequence[Any]]:
    """Yield the values of a dimension, such as pages. Visitors that aren't available are empty."""
    yield "path" if dimension is PAGE else dimension.name, "title", "type", "views", "visitors"
    for row in rows.rows:
        yield row.value, *rows.titles[row.value], row.views, row.visitors


def active(now: Active, titles: Mapping[str, Titled]) -> Iterator[Sequence[Any]]:
    """Yield how many visitors are on each page now, with its title."""
    yield "path", "title", "visitors"
    for path, count in now.by_path:
        yield path, titles[path].title, count


def requests(state: Health) -> Iterator[Sequence[Any]]:
    """Yield what became of requests."""
    yield "outcome", "reason", "today", "last 7 days"
    yield from state.tallied
