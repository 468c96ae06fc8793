"""Rank the values of a dimension, whose days are added up before they are sorted; expressions of days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import Any, NamedTuple

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateField, F, Func, QuerySet, Value
from django.db.models.functions import TruncDate
from django.db.models.sql.compiler import SQLCompiler

from pagestats.models import Calendar


class LaterDay(Func):
    """The `day` of returns that are found by their `previous_day`.

    After an ANALYZE, SQLite would step through all previous days and search for the day in each. The plus keeps it from
    using the day in the search.
    """

    template = "%(expressions)s"
    output_field = DateField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Return the column with a plus, which changes nothing but the plan."""
        return self.as_sql(compiler, connection, template=f"+{self.template}", **context)


class ShiftedDay(TruncDate):
    """The day, in UTC, of an instant and a distance.

    Django computes both in Python functions that SQLite calls for each row, of which a plan may ask for many.
    """

    def __init__(self, instant: F, distance: timedelta) -> None:
        self.distance = distance
        super().__init__(instant + Value(distance), tzinfo=UTC)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Return what SQLite computes itself. It would round what is left of a second, up to the next day."""
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
"""The orders of a ranking, as SQL; with a minus, the largest first. Equal values are ordered by value, byte by byte."""


class Ranked(NamedTuple):
    """What `ranked_of_days` read."""

    rows: list[tuple[str, int, int]]
    """(value, views, visitors)."""
    total: int
    """How many values there are."""
    zone: str | None
    """The name of the reporting zone; None before any view was rolled up."""
    is_sealed: bool
    """Whether page views of any day were pruned."""


def ranked_of_days(
    parts: Sequence[QuerySet[Any, Any]],
    *,
    returned: QuerySet[Any, Any],
    order: str,
    limit: int | None,
    using: str,
) -> Ranked:
    """Read the first values of a dimension and what the calendar says, in one statement.

    Args:
        parts: (value, views, visitors) to add up. Values without a view are left out.
        returned: the number of visitors to subtract from those of the value `ranked.value`. They are subtracted only
            from the values that are returned, unless the values are ranked by visitors.
        order: one of `ORDERS`.
        limit: the largest number of rows; None is all.
    """
    compiled = [part.using(using).query.get_compiler(using).as_sql() for part in parts]
    less, less_params = returned.using(using).query.get_compiler(using).as_sql()
    calendar, calendar_params = (
        Calendar.objects.row().order_by().values("zone", "sealed_before").query.get_compiler(using).as_sql()
    )
    # Each in parentheses: Django ends a grouped one with ORDER BY on MariaDB.
    selects = [f"SELECT * FROM ({select}) part_{number}" for number, (select, _) in enumerate(compiled)]
    ordered = f"ORDER BY {ORDERS[order]}, value"
    # Each row has the number of values, so at least one is read.
    first = f"{ordered}{'' if limit is None else f' LIMIT {max(limit, 1):d}'}"
    added_up = (
        "SELECT value, SUM(views) AS all_views, SUM(visitors) AS all_visitors, COUNT(*) OVER () AS total"
        " FROM counted GROUP BY value HAVING SUM(views) > 0"
    )
    less_returns = f"SELECT value, all_views, all_visitors - COALESCE(({less}), 0) AS all_visitors, total FROM ranked"
    statement = f"WITH counted(value, views, visitors) AS ({' UNION ALL '.join(selects)}), ranked AS ("
    if order.endswith("visitors"):
        statement += f"{added_up}), net AS ({less_returns}), shown AS (SELECT * FROM net {first})"
    else:
        statement += f"{added_up} {first}), shown AS ({less_returns})"
    statement += (
        " SELECT shown.value, shown.all_views, shown.all_visitors, shown.total, calendar.zone, calendar.sealed_before"
        f" FROM (SELECT 1 AS one) always LEFT JOIN ({calendar}) calendar ON always.one = 1"
        f" LEFT JOIN shown ON always.one = 1 {ordered}"
    )
    params = [param for _, of_part in compiled for param in of_part]
    with connections[using].cursor() as cursor:
        cursor.execute(statement, [*params, *less_params, *calendar_params])
        rows = cursor.fetchall()
    counted = [(value, int(views), int(visitors)) for value, views, visitors, *_ in rows if views is not None]
    _, _, _, number, zone, sealed_before = rows[0]
    return Ranked(counted[:limit], number or 0, zone, sealed_before is not None)
