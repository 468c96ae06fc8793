"""The visitors of a range of reporting days: the parts that every reader adds up.

Distinct visitors do not add up over days. Those of a range are

    the visitors of each of its days
    - the returns within it: visitors of one of its days who were last seen on another one of its days
    + the visitors of pending views who have no rolled-up view in it.

Summing the days counts a returning visitor once per day. Each of those days except the first has a `Return` row whose
`previous_day` is also in the range, so subtracting those rows leaves each visitor counted once.

The report of one value (`summed`), the ranking of all values (`rows`), the columns of querysets (`page_figures`) and
the all-time totals (`all_time`) are made of these parts, and of those of `pending`.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from django.db.models import BigIntegerField, F, Func, QuerySet
from django.db.models.functions import Coalesce

from pagestats import sql
from pagestats.models import Return, Rollup

SESSIONS = Func(F("session_id"), template="COUNT(DISTINCT %(expressions)s)", output_field=BigIntegerField())
"""The number of distinct sessions. `Func` rather than `Count`, which would group the rows; so are the others here."""
ROWS = Func(template="COUNT(*)", output_field=BigIntegerField())


def total(column: str, *, sign: str = "") -> Func:
    """Return the sum of a column over all rows, which is NULL without any."""
    return Func(F(column), template=f"{sign}SUM(%(expressions)s)", output_field=BigIntegerField())


def total_or_0(column: str) -> Coalesce:
    """Return the sum of a column over all rows."""
    return Coalesce(total(column), 0)


def rollups_of(dimension: str, value: Any, start: date, end: date) -> QuerySet[Rollup]:
    """Return the rollups of a value on the days of a range.

    Args:
        value: the value, or an expression of it.
    """
    return Rollup.objects.filter(dimension=dimension, value=value, day__range=(start, end)).order_by()


def returns_within(dimension: str, value: Any, start: date, end: date) -> QuerySet[Return]:
    """Return the returns from one day of a range to another."""
    return _returns_by(dimension, value, end).filter(previous_day__range=(start, end))


def returns_into(dimension: str, value: Any, start: date, end: date) -> QuerySet[Return]:
    """Return the returns to the days of a range from days before it.

    With them the visitors of a range can be computed another way: each visitor of a day is new or returns to it, so the
    visitors of a range are the new ones of its days and those who return into it.
    """
    returns: Any = _returns_by(dimension, value, end).filter(previous_day__lt=start)
    into: QuerySet[Return] = returns.filter(later__gte=start)  # the stubs know no alias
    return into


def _returns_by(dimension: str, value: Any, end: date) -> QuerySet[Return]:
    returns = Return.objects.filter(dimension=dimension, value=value).order_by()
    return returns.alias(later=sql.LaterDay("day")).filter(later__lte=end)
