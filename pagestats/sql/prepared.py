"""ORM queries that are compiled once. Compiling a short query takes several times as long as the database does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet

from pagestats.models import PageView
from pagestats.sql.cursors import fast_cursor
from pagestats.sql.dialects import Convert, Dialect, dialect_of

Row = tuple[Any, ...]
MOST_SHAPES = 64
"""How many compiled forms of one query are kept: a client may choose another limit each time."""


class Prepared:
    """A query that is compiled at its first call on a database; later calls only fill in the arguments.

    Call it with the arguments of the function that builds it; it returns the rows. Strings, dates and datetimes are
    filled in, and must not change the shape of the query. Any other argument value is compiled into a separate query.
    """

    def __init__(self, build: Callable[..., QuerySet[Any, Any]]) -> None:
        self._build = build
        self._compiled: dict[tuple[Any, ...], _Compiled] = {}

    def __call__(self, *arguments: Any, using: str | None = None) -> list[Row]:
        """Return the rows of the query with these arguments, from a database; None is the one that is read."""
        using = using or router.db_for_read(PageView)
        connection = connections[using]
        stand_ins = [_stand_in(number, argument) for number, argument in enumerate(arguments)]
        shape = using, dialect_of(connection), *stand_ins
        if (compiled := self._compiled.get(shape)) is None:
            if len(self._compiled) >= MOST_SHAPES:
                self._compiled.clear()
            compiled = self._compiled[shape] = _compiled(self._build(*stand_ins).using(using), stand_ins, connection)
        statement, params, types = compiled
        with fast_cursor(connection) as cursor:
            filled = [_adapted(arguments[param], connection) if is_filled else param for param, is_filled in params]
            cursor.execute(statement, filled)
            return list(converted(cursor.fetchall(), types, connection))


def prepared(build: Callable[..., QuerySet[Any, Any]]) -> Prepared:
    """Return a function that returns the rows of the query that `build` builds."""
    return Prepared(build)


class _Compiled(NamedTuple):
    statement: str
    params: list[tuple[Any, bool]]
    """A value as it is; or the number of the argument that is filled in, and True."""
    types: list[str]


def _stand_in(number: int, argument: Any) -> Any:
    """Return what stands for an argument while the query is compiled: of its type, and like no other value."""
    if isinstance(argument, str):
        return f"\x00{number}"
    if isinstance(argument, datetime):
        return datetime(9998, 1, 1 + number, tzinfo=UTC)
    if isinstance(argument, date):
        return date(9998, 1, 1 + number)
    return argument


def _compiled(rows: QuerySet[Any, Any], stand_ins: Sequence[Any], connection: BaseDatabaseWrapper) -> _Compiled:
    compiler: Any = rows.query.get_compiler(connection=connection)
    statement, params = compiler.as_sql()
    numbers = {
        _adapted(stand_in, connection): number
        for number, stand_in in enumerate(stand_ins)
        if isinstance(stand_in, (str, date))
    }
    return _Compiled(
        statement,
        [(numbers[param], True) if _is_one_of(param, numbers) else (param, False) for param in params],
        [expression.output_field.get_internal_type() for expression, _, _ in compiler.select],
    )


def _is_one_of(param: Any, numbers: dict[Any, int]) -> bool:
    return isinstance(param, (str, date)) and param in numbers


def _adapted(argument: Any, connection: BaseDatabaseWrapper) -> Any:
    """Return an argument as the ORM hands it to the driver."""
    if isinstance(argument, datetime):
        return connection.ops.adapt_datetimefield_value(argument)
    if isinstance(argument, date):
        return connection.ops.adapt_datefield_value(argument)
    return argument


def converted(rows: Sequence[Row], types: Sequence[str], connection: BaseDatabaseWrapper) -> Iterator[Row]:
    """Yield the rows of a raw statement with values of their fields, as the ORM would make them of what drivers return.

    Args:
        types: the internal type of the field of each column.
    """
    convert = _converters(tuple(types), dialect_of(connection), connection.timezone)
    if not convert:
        yield from rows
        return
    for row in rows:
        values = list(row)
        for column, to in convert:
            if values[column] is not None:
                values[column] = to(values[column])
        yield tuple(values)


@lru_cache(maxsize=256)
def _converters(types: tuple[str, ...], dialect: Dialect, zone: tzinfo | None) -> list[tuple[int, Convert]]:
    """Return what converts the values of each column that needs it."""
    found = ((column, dialect.converter(kind, zone)) for column, kind in enumerate(types))
    return [(column, convert) for column, convert in found if convert]
