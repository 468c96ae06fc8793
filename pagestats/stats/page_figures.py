"""The views or the visitors of the page at one path, as an expression for querysets of the site's own objects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BigIntegerField, BooleanField, Func, OuterRef, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast, Length
from django.db.models.sql.compiler import SQLCompiler

from pagestats.days import Moment
from pagestats.dimensions import PAGE
from pagestats.hits import PATH_LENGTH
from pagestats.models import PageTotal, PageView
from pagestats.sql.dialects import dialect_of
from pagestats.stats.moments import read_moment
from pagestats.stats.pending import pending_of, was_counted
from pagestats.stats.seals import hidden, seals
from pagestats.stats.span import Span
from pagestats.stats.visitors import ROWS, SESSIONS, returns_within, rollups_of, total_or_0

Figure = Literal["views", "visitors"]
Compiled = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class LastDays:
    """The last so many reporting days."""

    days: int
    at: datetime | None = None
    """Up to whose reporting day; None is the time at which a statement is made, since a queryset may be kept."""
    moment: Moment | None = None
    """The same, read already."""

    def span(self) -> Span:
        """Return the range as it is now."""
        return Span.last(self.days, self.moment or read_moment(self.at))


class PageFigure(Func):
    """The views or the visitors of the page at a path: exact, pending page views included.

    While a page view is pending, those of the path are found by an index of their own, in the same statement.
    NULL: not available, because page views of the path were pruned (see `seals`), or because the path is longer than
    those that are stored.
    """

    output_field = BigIntegerField()
    arity = 1

    def __init__(self, path: Any, figure: Figure, *, last_days: LastDays | None = None) -> None:
        super().__init__(path)
        self.figure, self.last_days = figure, last_days

    def get_group_by_cols(self) -> list[Any]:
        """Return the columns that the path is made of: the figure depends on nothing else of the row."""
        return [column for source in self.get_source_expressions() for column in source.get_group_by_cols()]

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Compiled:  # type: ignore[override]  # Django documents `as_sql` with these parameters; the stubs have those of its `Func`
        """Return the sum of what was rolled up and what is pending."""
        [source] = self.get_source_expressions()
        path, path_params = compiler.compile(source)
        length, length_params = compiler.compile(Length(source))
        sql, params = _figure(connection, self.figure, self.last_days, path, tuple(path_params))
        return f"(CASE WHEN {length} > {PATH_LENGTH} THEN NULL ELSE {sql} END)", (*length_params, *params)


def page_figure(path: str, figure: Figure, *, last_days: LastDays | None = None, using: str) -> int | None:
    """Read the views or the visitors of the page at one path; None: not available."""
    connection = connections[using]
    sql, params = _figure(connection, figure, last_days, "%s", (path,))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}", params)
        [(value,)] = cursor.fetchall()
    return None if value is None else int(value)


PATH = "\x00path"
SPAN = Span(date(9998, 1, 1), date(9998, 1, 3), ZoneInfo("UTC"))
"""Both stand for what is filled in, and are like no other value."""


def _figure(
    connection: BaseDatabaseWrapper, figure: Figure, last_days: LastDays | None, path: str, path_params: tuple[Any, ...]
) -> Compiled:
    """Return the SQL of a figure at a path, which is itself SQL.

    Raw SQL, rather than an expression of the outer query, so that Django relabels nothing in it. It stands only where
    tables go by their own names, and an alias of the outer query can't mean one of the inner ones.
    """
    pieces, params = _template(connection.alias, dialect_of(connection).uncached, figure, last_days is not None)
    values = {PATH: path_params}
    if last_days is not None:
        span = last_days.span()
        values |= {
            stand_in: (value,)
            for stand_in, value in zip(_bounds(SPAN, connection), _bounds(span, connection), strict=True)
        }
    first, *others = pieces
    text, filled = [first], list[Any]()
    for param, piece in zip(params, others, strict=True):
        stands_in = isinstance(param, (str, date)) and param in values
        text += [path if stands_in and param == PATH else "%s", piece]
        filled += values[param] if stands_in else (param,)
    return "".join(text), tuple(filled)


def _bounds(span: Span, connection: BaseDatabaseWrapper) -> list[Any]:
    """Return the first and the last day of a range, and its instants, as the ORM hands them to the driver."""
    days = [connection.ops.adapt_datefield_value(day) for day in (span.start, span.end)]
    return days + [connection.ops.adapt_datetimefield_value(at) for at in (span.starts[0], span.starts[-1])]


@lru_cache(maxsize=32)
def _template(using: str, uncached: str, figure: Figure, is_of_range: bool) -> tuple[list[str], tuple[Any, ...]]:  # noqa: FBT001  # a key of the cache
    """Return the SQL of a figure, split where parameters go, and the parameters, of which some are stand-ins."""
    span = SPAN if is_of_range else None
    path = RawSQL("%s", (PATH,))

    def subquery(rows: QuerySet[Any, Any], *, is_of_path: bool = True) -> Compiled:
        if is_of_path and uncached:
            rows = rows.filter(Uncached(template=uncached))
        sql, params = rows.using(using).query.get_compiler(using).as_sql()
        return f"({sql})", params

    def sum_of(column: str, rows: QuerySet[Any, Any]) -> Compiled:
        # As an integer: of a sum, two of the databases make a decimal.
        return subquery(rows.order_by().values_list(Cast(total_or_0(column), BigIntegerField())))

    views = pending_of(PAGE, path, span)
    if figure == "views":
        counted = views.values_list(ROWS)
    else:
        counted = views.exclude(was_counted(PAGE, OuterRef("path"), span)).values_list(SESSIONS)
    any_pending = subquery(PageView.objects.pending().order_by().values("pk"), is_of_path=False)
    pending = _joined("CASE WHEN EXISTS ", any_pending, " THEN ", subquery(counted), " ELSE 0 END")
    if span is None:
        rolled_up = sum_of(figure, PageTotal.objects.filter(path=path))
    else:
        rolled_up = sum_of(figure, rollups_of(PAGE.name, path, span.start, span.end))
        if figure == "visitors":
            returned = sum_of("visitors", returns_within(PAGE.name, path, span.start, span.end))
            rolled_up = _joined(rolled_up, " - ", returned)
    sql, params = _joined("(", rolled_up, " + ", pending, ")")
    if figure == "visitors":
        is_hidden = subquery(hidden(PAGE, span).filter(value=path).values("day"))
        any_seal = subquery(seals(span).values("before"), is_of_path=False)
        is_hidden = _joined("EXISTS ", any_seal, " AND EXISTS ", is_hidden)
        sql, params = _joined("CASE WHEN ", is_hidden, " THEN NULL ELSE ", (sql, params), " END")
    return sql.split("%s"), params


def _joined(*parts: str | Compiled) -> Compiled:
    compiled = [(part, ()) if isinstance(part, str) else part for part in parts]
    return "".join(sql for sql, _ in compiled), tuple(param for _, params in compiled for param in params)


class Uncached(Func):
    """True, but of a value that the database can't know before it looks.

    MariaDB caches the result of a subquery for outer rows whose columns are equal by their own collation, in which "a",
    "A " and "ä" may be equal. It caches nothing that depends on chance.
    """

    output_field = BooleanField()
    conditional = True
