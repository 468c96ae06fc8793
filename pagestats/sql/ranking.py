"""Rank the pages of a range of days, which are added up before they are sorted, and read the returns to a day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, timedelta
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateField, F, Func, QuerySet, Value
from django.db.models.functions import TruncDate
from django.db.models.sql.compiler import SQLCompiler

from pagestats.models import Return
from pagestats.sql.dialects import dialect_of


class LaterDay(Func):
    """The `day` of returns that are found by their `previous_day`.

    After an ANALYZE, SQLite would rather skip from each previous day to the next, of all that there are, and look for
    the day there. By the plus it leaves the day out of the search.
    """

    template = "%(expressions)s"
    output_field = DateField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Return the column with a plus, which changes nothing but the plan."""
        return self.as_sql(compiler, connection, template=f"+{self.template}", **context)


class ShiftedDay(TruncDate):
    """The day, in UTC, of an instant and a distance.

    Django reckons with both in Python functions that SQLite calls for each row, of which a plan may ask for many.
    """

    def __init__(self, instant: F, distance: timedelta) -> None:
        self.distance = distance
        super().__init__(instant + Value(distance), tzinfo=UTC)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Return what SQLite reckons itself. It would round what is left of a second, up to the next day."""
        if connection.timezone_name != "UTC":
            return self.as_sql(compiler, connection, **context)
        sum_of_both: Any = self.lhs
        instant, params = compiler.compile(sum_of_both.lhs)
        return f"date(substr({instant}, 1, 19), '{self.distance.total_seconds():+.0f} seconds')", params


ORDERS = {
    f"{sign}{name}": f"{column}{direction}"
    for sign, direction in (("", ""), ("-", " DESC"))
    for name, column in (("views", "all_views"), ("visitors", "all_visitors"), ("value", "value"))
}
"""By what values may be ranked, as SQL has it; with a minus the most first. Equal ones follow by value, by bytes."""


def ranked_of_days(
    parts: Sequence[QuerySet[Any, Any]],
    *,
    dimension: str,
    start: date,
    end: date,
    order: str,
    limit: int | None,
    using: str,
) -> tuple[list[tuple[str, int, int]], int]:
    """Return (value, views, visitors) of the first values of a dimension, and their number, in one statement.

    `parts` are (value, views, visitors) that are added up; visitors who were there on an earlier day of the range are
    taken off once for each return, and only of the values that are returned, unless they are ranked by visitors. A
    value without a view is none. `order` is one of `ORDERS`.
    """
    connection = connections[using]
    table = connection.ops.quote_name(Return._meta.db_table)
    compiled = [part.using(using).query.get_compiler(using).as_sql() for part in parts]
    # Each in parentheses: Django ends a grouped one with ORDER BY on MariaDB.
    selects = [f"SELECT * FROM ({select}) part_{number}" for number, (select, _) in enumerate(compiled)]
    day = f"{dialect_of(connection).ignoring_index}back.day"
    ordered = f"ORDER BY {ORDERS[order]}, value"
    # Each row tells the number of values, so that one is always read.
    first = f"{ordered}{'' if limit is None else f' LIMIT {max(limit, 1):d}'}"
    added_up = (
        "SELECT value, SUM(views) AS all_views, SUM(visitors) AS all_visitors, COUNT(*) OVER () AS total"
        " FROM counted GROUP BY value HAVING SUM(views) > 0"
    )
    less_returns = (
        "SELECT value, all_views, all_visitors - COALESCE((SELECT SUM(back.visitors)"
        f" FROM {table} back WHERE back.dimension = %s AND back.value = ranked.value"
        f" AND back.previous_day >= %s AND back.previous_day <= %s AND {day} <= %s), 0) AS all_visitors, total"
        " FROM ranked"
    )
    statement = f"WITH counted(value, views, visitors) AS ({' UNION ALL '.join(selects)}), ranked AS ("
    if order.endswith("visitors"):
        statement += f"{added_up}), net AS ({less_returns}) SELECT * FROM net {first}"
    else:
        statement += f"{added_up} {first}) {less_returns} {ordered}"
    days = [connection.ops.adapt_datefield_value(day) for day in (start, end, end)]
    with connection.cursor() as cursor:
        cursor.execute(statement, [param for _, params in compiled for param in params] + [dimension, *days])
        rows = cursor.fetchall()
    total = rows[0][3] if rows else 0
    return [(value, int(views), int(visitors)) for value, views, visitors, _ in rows[:limit]], total
