"""Insert rows, or change existing ones: an ORM upsert can set columns, but neither add to them nor compare first.

The text of each statement is built once for each table and number of rows, and then kept: a page waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple, TypeVar, cast

from django.db import connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pagestats.models import Calendar, Visitor
from pagestats.sql import locks, plans
from pagestats.sql.cursors import fast_cursor
from pagestats.sql.dialects import POSTGRESQL, Dialect, dialect_of, naive

T = TypeVar("T")

While = Literal["", "in_zone", "rebuilt_in_zone", "unsealed"]
"""The condition on the calendar for anything to be written. "in_zone": the expected zone is the reporting zone, and no
rebuild is running; "rebuilt_in_zone": a rebuild into the expected zone is running; "unsealed": the expected day is not
sealed."""

Change = Literal["keep", "set", "add", "least", "greatest", "swap"]
"""What an upsert does to the stored value of a column. With "swap", the stored row stays as it is unless its value is
one less than the incoming one: otherwise another writer has changed it since it was read."""


@dataclass(frozen=True, eq=False)
class Target:
    """A table, the columns of the rows to insert, and what these do to a stored row with the same key.

    Create each target once and keep it: the texts of its statements are kept with it.
    """

    model: type[models.Model]
    columns: tuple[str, ...]
    key: tuple[str, ...] = ()
    """Empty: rows are only inserted."""
    changes: tuple[tuple[str, Change], ...] = ()
    unless_changed: str = ""
    """A column. A stored row changes only if it has the expected value there."""
    only_while: While = ""

    @classmethod
    def upserting(
        cls,
        model: type[models.Model],
        *,
        key: Sequence[str],
        changes: Mapping[str, Change],
        unless_changed: str = "",
        only_while: While = "",
    ) -> Target:
        """Return the target for rows of (*key, *changes) values."""
        return cls(model, (*key, *changes), tuple(key), tuple(changes.items()), unless_changed, only_while)

    @property
    def expects(self) -> bool:
        """Whether an expected value belongs to the one row."""
        return bool(self.unless_changed or self.only_while)

    @cached_property
    def fields(self) -> tuple[models.Field[Any, Any], ...]:
        """The fields of the columns."""
        return tuple(cast("models.Field[Any, Any]", self.model._meta.get_field(name)) for name in self.columns)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The internal types of these fields."""
        return tuple(field.get_internal_type() for field in self.fields)

    @cached_property
    def instants(self) -> tuple[int, ...]:
        """Where instants are in a row, and in the value after it that it expects."""
        return self._positions("DateTimeField")

    @cached_property
    def days(self) -> tuple[int, ...]:
        """Where dates are in a row, and in the value after it that it expects."""
        return self._positions("DateField")

    def _positions(self, wanted: str) -> tuple[int, ...]:
        kinds = [*self.kinds]
        if self.unless_changed:
            kinds.append(kinds[self.columns.index(self.unless_changed)])
        if self.only_while == "unsealed":
            kinds.append("DateField")
        return tuple(position for position, kind in enumerate(kinds) if kind == wanted)


class Insert(NamedTuple):
    """Rows on their way into a table."""

    target: Target
    rows: Sequence[Sequence[Any]]
    expected: Any = None
    """The value that the column `unless_changed` must have, None if there must be no row; or what `only_while` expects
    of the calendar: a zone, or a day."""


def upsert(
    model: type[models.Model],
    rows: Iterable[Sequence[Any]],
    *,
    key: Sequence[str],
    changes: Mapping[str, Change],
    using: str,
) -> None:
    """Insert rows of (*key, *changes) values; change the row instead if one with that key exists."""
    write([Insert(_upserting(model, tuple(key), tuple(changes.items())), list(rows))], using=using)


@lru_cache
def _upserting(model: type[models.Model], key: tuple[str, ...], changes: tuple[tuple[str, Change], ...]) -> Target:
    return Target.upserting(model, key=key, changes=dict(changes))


def write(inserts: Iterable[Insert], *, last: Insert | None = None, using: str) -> int:
    """Write rows into tables. Call it in a transaction, unless it writes to one table only.

    Args:
        inserts: what to write, in the order of `sql.locks`, which an assertion holds. The rows of each are sorted here.
        last: rows that are only inserted, after all others.

    Returns:
        The primary key of the last row of `last`, 0 without one.
    """
    connection = connections[using]
    wanted = [_in_order(insert) for insert in inserts if insert.rows]
    assert _are_in_order([*wanted, *([last] if last else [])])
    with fast_cursor(connection) as cursor:
        if dialect_of(connection).writes_in_one_statement and len(wanted) + bool(last) > 1:
            cursor.execute(*_all_in_one(wanted, last=last))
            rows: list[tuple[int]] = cursor.fetchall()
            return rows[-1][0] if last else 0
        return _one_by_one(cursor, [*wanted, *([last] if last else [])], connection)


LOCK = Target.upserting(Visitor, key=["session_id"], changes={"version": "add"})


def lock_sessions(session_ids: Iterable[str], *, using: str) -> None:
    """Lock sessions until the transaction ends: a writer of the same session waits here.

    It must be the transaction's first statement, and it is a write: SQLite then waits for its turn, where a read that
    turns into a write would fail at once, and the other databases also lock a row that doesn't exist yet. A writer that
    compares the version of one of these sessions finds that it has changed.
    """
    write([Insert(LOCK, [(session_id, 1) for session_id in set(session_ids)])], using=using)


def can_write_if_unchanged(using: str) -> bool:
    """Return whether the database reports how many rows it changed. MySQL also counts rows that it didn't change."""
    return dialect_of(connections[using]).reports_changed_rows


def write_if_unchanged(
    guards: Sequence[Insert], inserts: Iterable[Insert] = (), *, last: Insert | None = None, using: str
) -> int | None:
    """Write rows if no row of `guards` has changed since it was read, as their targets define it.

    No lock is needed between the read and this call. On PostgreSQL it is one statement, and so one round trip.

    Args:
        guards: inserts of one row each. They are written first, each only if the one before it was written. A guard
            before the last one may be written although a later one has changed.
        inserts: written next, if the last guard was written, in the order of `sql.locks`, which an assertion checks.
        last: rows that are only inserted, after all others.

    Returns:
        The primary key of the last row of `last`, 0 without one; None if a row had changed.
    """
    connection = connections[using]
    wanted = [_in_order(insert) for insert in inserts if insert.rows]
    assert _are_in_order([*guards, *wanted, *([last] if last else [])])
    if len(guards) == 1 and not wanted and not last:
        with fast_cursor(connection) as cursor:
            return 0 if _write_rows(cursor, guards[0], connection) else None
    if dialect_of(connection).writes_in_one_statement:
        with fast_cursor(connection) as cursor:
            plans.execute(cursor, *_all_in_one(wanted, guards=guards, last=last), connection)
            rows: list[tuple[int]] = cursor.fetchall()
        return rows[-1][0] if rows else None
    try:
        with transaction.atomic(using=using), fast_cursor(connection) as cursor:
            for guard in guards:
                if not _write_rows(cursor, guard, connection):
                    raise _Changed
            return _one_by_one(cursor, [*wanted, *([last] if last else [])], connection)
    except _Changed:
        return None


class _Changed(Exception):
    """Another writer has changed a row of a guard."""


def _one_by_one(cursor: Any, inserts: Iterable[Insert], connection: BaseDatabaseWrapper) -> int:
    """Write inserts one after another, and return the primary key of the last row, if the database generated one."""
    for insert in inserts:
        _write_rows(cursor, insert, connection)
    return getattr(cursor, "lastrowid", 0) or 0  # psycopg knows none, nor does anybody ask


def _are_in_order(inserts: Iterable[Insert]) -> bool:
    return locks.is_in_order([insert.target.model for insert in inserts])


def _in_order(insert: Insert) -> Insert:
    """Return the rows of an insert in the order of their keys, which come first in them."""
    width = len(insert.target.key)
    if len(insert.rows) < 2 or not width:
        return insert
    return Insert(insert.target, sorted(insert.rows, key=lambda row: tuple(row[:width])))


def _write_rows(cursor: Any, insert: Insert, connection: BaseDatabaseWrapper) -> int:
    """Write the rows of one insert, in as many statements as it takes, and return how many were written or changed."""
    target, rows, expected = insert
    dialect = dialect_of(connection)
    if len(rows) == 1:
        cursor.execute(_statement(target, 1, dialect), _params(insert, dialect, connection))
        return int(cursor.rowcount)
    if dialect.repeats_rows and len(rows) > FEW:
        cursor.executemany(_statement(target, 1, dialect), [*_adapted(insert, connection)])
        return int(cursor.rowcount)
    written = 0
    for some in batches(rows, len(target.columns), connection):
        part = Insert(target, some, expected)
        cursor.execute(_statement(target, len(some), dialect), _params(part, dialect, connection))
        written += cursor.rowcount
    return written


def _params(insert: Insert, dialect: Dialect, connection: BaseDatabaseWrapper) -> list[Any]:
    if dialect.keeps_time_zones:
        return _postgresql_params(insert)
    return [value for row in _adapted(insert, connection) for value in row]


def _adapted(insert: Insert, connection: BaseDatabaseWrapper) -> Iterator[list[Any]]:
    """Yield the values of each row, for drivers without dates and time zones."""
    target, rows, expected = insert
    instants, days, zone = target.instants, target.days, connection.timezone
    for row in rows:
        values = [*row, expected] if target.expects else [*row]
        for position in instants:
            if (at := values[position]) is not None:
                values[position] = naive(at, zone)
        for position in days:
            if (day := values[position]) is not None:
                values[position] = str(day)
        yield values


def batches(rows: Sequence[T], width: int, connection: BaseDatabaseWrapper) -> Iterator[Sequence[T]]:
    """Split rows of `width` values into batches that fit into one statement."""
    if len(rows) <= FEW:
        yield rows
        return
    most = dialect_of(connection).most_rows(width, connection)
    for start in range(0, len(rows), most):
        yield rows[start : start + most]


def _all_in_one(
    inserts: Sequence[Insert], *, guards: Sequence[Insert] = (), last: Insert | None = None
) -> tuple[str, list[Any]]:
    """Return one PostgreSQL statement that writes rows into several tables, and its parameters.

    PostgreSQL executes the parts of a statement that nothing reads from after the main part, the last one first.
    """
    parts = list(reversed(inserts))
    statement = _chain(tuple(map(_part, guards)), tuple(map(_part, parts)), _part(last) if last else None)
    params = [param for part in [*guards, *parts, *([last] if last else [])] for param in _postgresql_params(part)]
    return statement, params


def _part(insert: Insert) -> Part:
    """Return what the text of an insert's statement depends on: all inserts of many rows share one."""
    return insert.target, len(insert.rows) if len(insert.rows) <= FEW else MANY


Part = tuple[Target, int]
"""A target, and how many rows are written into it."""


@lru_cache(maxsize=512)
def _chain(guards: tuple[Part, ...], parts: tuple[Part, ...], last: Part | None) -> str:
    named, condition = [], ""
    for i, guard in enumerate(guards):
        named.append(f"guard{i} AS ({_insert(*guard, condition)} RETURNING 1)")
        condition = f" WHERE EXISTS (SELECT 1 FROM guard{i})"
    named += [f"part{i} AS ({_insert(*part, condition)})" for i, part in enumerate(parts)]
    ending = f"{_insert(*last, condition)} RETURNING id" if last else f"SELECT 0{condition}"
    return f"WITH {', '.join(named)} {ending}"


FEW, MANY = 3, -1
"""Up to FEW rows go into a PostgreSQL statement value by value, which it plans faster; more go as an array a column."""

_TYPES = {
    "BigAutoField": "bigint",
    "BigIntegerField": "bigint",
    "BooleanField": "boolean",
    "CharField": "text",
    "DateField": "date",
    "DateTimeField": "timestamptz",
}


def _insert(target: Target, rows: int, condition: str = "") -> str:
    """Return an insert of PostgreSQL of so many rows, or of MANY, with a condition for all of them."""
    types = [_TYPES[kind] for kind in target.kinds]
    if rows == MANY:
        arrays = ", ".join(f"%s::{kind}[]" for kind in types)
        values = f"SELECT * FROM unnest({arrays}){condition}"
    else:
        row = f"SELECT {', '.join(f'%s::{kind}' for kind in types)}{_where(target, condition)}"
        values = " UNION ALL ".join([row] * rows)
    return f"INSERT INTO {_into(target, POSTGRESQL)} {values}{_conflict(target, POSTGRESQL)}"


def _postgresql_params(insert: Insert) -> list[Any]:
    """Return the values of a few rows one after another, the columns of many, and the value that they expect."""
    target, rows, expected = insert
    params: list[Any] = [value for row in rows for value in row]
    if len(rows) > FEW:
        params = [array(column) for column in zip(*rows, strict=True)]
    return [*params, expected] if target.expects else params


def array(values: Iterable[Any]) -> str:
    """Return values as a PostgreSQL array literal. For texts, psycopg itself takes six times as long.

    Args:
        values: texts, numbers, truth values, days and instants; None is NULL.
    """
    return f"{{{','.join('NULL' if value is None else _quoted_in_array(value) for value in values)}}}"


def _quoted_in_array(value: Any) -> str:
    escaped = str(value).replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


@lru_cache(maxsize=2048)
def _statement(target: Target, rows: int, dialect: Dialect) -> str:
    """Return the statement that writes so many rows."""
    if dialect is POSTGRESQL:
        return _insert(target, rows if rows <= FEW else MANY)
    row = f"({', '.join(['%s'] * len(target.columns))})"
    if target.only_while:
        return f"INSERT INTO {_into(target, dialect)} SELECT {row[1:-1]}{_where(target)}{_conflict(target, dialect)}"
    return f"INSERT INTO {_into(target, dialect)} VALUES {', '.join([row] * rows)}{_conflict(target, dialect)}"


def _where(target: Target, condition: str = "") -> str:
    """Return the condition on which the one row of a target is written, besides another one."""
    if not target.only_while:
        return condition
    calendar = f"SELECT 1 FROM {Calendar._meta.db_table} WHERE id = {Calendar.ROW}"
    allowed = {
        "in_zone": f"EXISTS ({calendar} AND zone = %s AND next_zone = '')",
        "rebuilt_in_zone": f"EXISTS ({calendar} AND next_zone = %s)",
        "unsealed": f"NOT EXISTS ({calendar} AND sealed_before > %s)",
    }[target.only_while]
    return f"{f'{condition} AND' if condition else ' WHERE'} {allowed}"


def _into(target: Target, dialect: Dialect) -> str:
    columns = ", ".join(dialect.quoted(cast(str, field.column)) for field in target.fields)
    return f"{dialect.quoted(target.model._meta.db_table)} ({columns})"


def _conflict(target: Target, dialect: Dialect) -> str:
    """Return the clause that turns an insert into an upsert."""
    if not target.key:
        return ""
    names = [dialect.quoted(cast(str, field.column)) for field in target.fields]
    columns = dict(zip(target.columns, names, strict=True))
    table = dialect.quoted(target.model._meta.db_table)
    changed, unless = [], ""
    for name, change in target.changes:
        stored, new = f"{table}.{columns[name]}", dialect.incoming.format(columns[name])
        changed.append(f"{columns[name]} = {_changed(dialect, change, stored, new)}")
        if change == "swap":
            unless = f" WHERE {stored} = {new} - 1"
    if target.unless_changed:
        unless = f" WHERE {table}.{columns[target.unless_changed]} = %s"
    return f"{dialect.on_conflict(columns[name] for name in target.key)}{', '.join(changed)}{unless}"


def _changed(dialect: Dialect, change: Change, stored: str, new: str) -> str:
    """Return the expression of a column's new value."""
    match change:
        case "keep":
            return stored
        case "set" | "swap":
            return new
        case "add":
            return f"{stored} + {new}"
        case "least":
            return f"{dialect.least}({stored}, {new})"
        case "greatest":
            return f"{dialect.greatest}({stored}, {new})"
