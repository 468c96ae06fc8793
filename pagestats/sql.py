"""What the ORM cannot say, for each database: lock sessions, look around views, add to rollups, try again."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeVar, cast

from django.db import OperationalError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count

from pagestats.fields import collation
from pagestats.models import PageTotal, PageView, ReportingZone, Visitor

T = TypeVar("T")
M = TypeVar("M", bound=models.Model)

# -- Transactions ------------------------------------------------------------------------------------------------------

ATTEMPTS = 30
LONGEST_PAUSE = 0.5  # seconds

POSTGRESQL_LOCK_ERRORS = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available
MYSQL_LOCK_ERRORS = {1020, 1205, 1213}  # record has changed since last read, lock wait timeout, deadlock
SQLITE_LOCK_ERRORS = {5, 6}  # SQLITE_BUSY, SQLITE_LOCKED


def is_lock_error(error: BaseException) -> bool:
    """Tell whether a database error would go away if the whole transaction were tried again."""
    cause = error.__cause__ or error
    if state := getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None):
        return state in POSTGRESQL_LOCK_ERRORS
    if (code := getattr(cause, "sqlite_errorcode", None)) is not None:
        return code & 0xFF in SQLITE_LOCK_ERRORS
    return bool(cause.args) and cause.args[0] in MYSQL_LOCK_ERRORS


def retrying(work: Callable[[], T], *, using: str) -> T:
    """Call `work` and return what it returns; when it fails on a lock, call it again after a short random pause.

    Inside somebody else's transaction it is called once: only a whole transaction can be tried again.
    """
    attempts = 1 if connections[using].in_atomic_block else ATTEMPTS
    for attempt in range(1, attempts + 1):
        try:
            return work()
        except OperationalError as error:
            if attempt == attempts or not is_lock_error(error):
                raise
        time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.005 * 2**attempt)))
    raise AssertionError("unreachable: the last attempt returns or raises")


def transact(work: Callable[[], T], *, using: str) -> T:
    """Call `work` in a transaction, or in a savepoint of the one that is open, trying again as `retrying` does."""

    def attempt() -> T:
        with transaction.atomic(using=using):
            return work()

    return retrying(attempt, using=using)


# -- Writing -----------------------------------------------------------------------------------------------------------

ROWS_IN_A_STATEMENT = 500
"""What SQLite takes as terms of one compound SELECT, and enough for the cost of a round trip to vanish."""

Change = Literal["keep", "set", "add", "least", "greatest"]


def upsert(
    model: type[models.Model],
    rows: Iterable[Sequence[Any]],
    *,
    key: Sequence[str],
    changes: Mapping[str, Change],
    using: str,
) -> None:
    """Insert rows of (*key, *changes) values; where a row with that key exists, change it.

    Rows go in the order of their keys, so that two writers never wait for each other in a ring. A change adds to
    the stored value, sets it, keeps it, or takes the lesser or the greater of the two.
    """
    connection = connections[using]
    fields = [_field(model, name) for name in (*key, *changes)]
    columns = {name: _column(model, name, connection) for name in (*key, *changes)}
    table = connection.ops.quote_name(model._meta.db_table)
    row_sql = f"({', '.join(['%s'] * len(fields))})"
    start = f"INSERT INTO {table} ({', '.join(columns.values())}) VALUES "
    conflict, incoming = _conflict(connection, [columns[name] for name in key])
    end = conflict + ", ".join(
        f"{columns[name]} = " + _changed(connection, change, f"{table}.{columns[name]}", incoming.format(columns[name]))
        for name, change in changes.items()
    )
    prepared = sorted(rows, key=lambda row: tuple(row[: len(key)]))
    with connection.cursor() as cursor:
        for some in _batches(prepared, len(fields), connection):
            params = [
                field.get_db_prep_save(value, connection)
                for row in some
                for field, value in zip(fields, row, strict=True)
            ]
            cursor.execute(start + ", ".join([row_sql] * len(some)) + end, params)


def lock_sessions(session_ids: Iterable[str], *, using: str) -> None:
    """Lock sessions until the transaction ends: a writer of the same session waits here.

    It must be the transaction's first statement, and it is a write: SQLite then waits for its turn, where a read that
    turns into a write would fail at once, and on the others a row that is not there yet is locked as well.
    """
    upsert(
        Visitor,
        [(session_id, None) for session_id in set(session_ids)],
        key=["session_id"],
        changes={"first_seen": "keep"},
        using=using,
    )


def reads_are_snapshots(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether plain reads of a transaction show the past: then only a locking read sees what others committed."""
    if connection.vendor != "mysql":
        return False  # PostgreSQL refuses the lock itself in that case, and `retrying` begins anew
    return connection.isolation_level not in {"read committed", "read uncommitted"}  # type: ignore[attr-defined]


def current(rows: models.QuerySet[M]) -> models.QuerySet[M]:
    """Return a fresh queryset of rows that sees what others committed, whatever the transaction's isolation level."""
    return rows.select_for_update() if reads_are_snapshots(connections[rows.db]) else rows.all()


def _field(model: type[models.Model], name: str) -> models.Field[Any, Any]:
    return cast("models.Field[Any, Any]", model._meta.get_field(name))


def _column(model: type[models.Model], name: str, connection: BaseDatabaseWrapper) -> str:
    """Return the quoted name of a field's column."""
    return connection.ops.quote_name(cast(str, _field(model, name).column))


def _conflict(connection: BaseDatabaseWrapper, key: Sequence[str]) -> tuple[str, str]:
    """Return the clause that turns an insert into an upsert, and how it names a column of the incoming row."""
    if connection.vendor != "mysql":
        return f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET ", "EXCLUDED.{}"
    if connection.mysql_is_mariadb:  # type: ignore[attr-defined]
        return " ON DUPLICATE KEY UPDATE ", "VALUES({})"
    return " AS incoming ON DUPLICATE KEY UPDATE ", "incoming.{}"


def _changed(connection: BaseDatabaseWrapper, change: Change, stored: str, new: str) -> str:
    """Return the expression of a column's new value."""
    scalar = connection.vendor == "sqlite"  # whose MIN and MAX of two arguments are the others' LEAST and GREATEST
    match change:
        case "keep":
            return stored
        case "set":
            return new
        case "add":
            return f"{stored} + {new}"
        case "least":
            return f"{'MIN' if scalar else 'LEAST'}({stored}, {new})"
        case "greatest":
            return f"{'MAX' if scalar else 'GREATEST'}({stored}, {new})"


def _batches(rows: Sequence[T], width: int, connection: BaseDatabaseWrapper) -> Iterator[list[T]]:
    """Cut rows of `width` parameters into statements that the database takes."""
    most = min(ROWS_IN_A_STATEMENT, (connection.features.max_query_params or sys.maxsize) // width)
    remaining = iter(rows)
    while some := list(islice(remaining, most)):
        yield some


# -- Reading -----------------------------------------------------------------------------------------------------------


class Viewed(NamedTuple):
    """Who was where, and when: what a view is to the rollups."""

    session_id: str
    path: str
    at: datetime


class Nearest(NamedTuple):
    """When the session of a view saw its path last before, and next after it.

    A stored view of exactly the same instant is both.
    """

    previous: datetime | None
    next: datetime | None


class Surroundings(NamedTuple):
    """What the rollups and the judge of repeats need to know of what is stored around a view."""

    all: Nearest
    rolled_up: Nearest
    first_seen: datetime | None
    last_day: date | None
    zone: str | None


def nearest(viewed: Sequence[Viewed], *, using: str) -> list[Nearest]:
    """Return the nearest stored page views of each of some views, in their order, by one index."""
    return [Nearest(*row) for row in _around(viewed, [*_NEAREST], using=using)]


def surroundings(viewed: Sequence[Viewed], *, using: str) -> list[Surroundings]:
    """Return the surroundings of each of some views, in their order, as they are committed now."""
    rows = _around(viewed, [*_NEAREST, *_NEAREST_ROLLED_UP, *_VISITOR], using=using)
    return [Surroundings(Nearest(*row[:2]), Nearest(*row[2:4]), *row[4:]) for row in rows]


def _around(
    viewed: Sequence[Viewed], columns: Sequence[tuple[models.Field[Any, Any], str]], *, using: str
) -> Iterator[list[Any]]:
    """Yield the values of columns, each a field and an expression, for each of some views."""
    connection = connections[using]
    quote = connection.ops.quote_name
    convert = [_converter(connection, field) for field, _ in columns]
    statement = f"SELECT hit.position, {', '.join(expression for _, expression in columns)} FROM {{hits}}"
    names = {
        "view": quote(PageView._meta.db_table),
        "visitor": quote(Visitor._meta.db_table),
        "zone": quote(ReportingZone._meta.db_table),
        # MariaDB would take the index of times for the one that ends sooner.
        "index": " FORCE INDEX (pagestats_view_repeat)" if connection.vendor == "mysql" else "",
        "lock": " LOCK IN SHARE MODE" if connection.in_atomic_block and reads_are_snapshots(connection) else "",
    }
    with connection.cursor() as cursor:
        for some in _batches(viewed, len(Viewed._fields), connection):
            hits, params = _hits(some, connection)
            cursor.execute(statement.format(hits=hits, **names), params)
            for row in sorted(cursor.fetchall()):
                yield [to(value) for to, value in zip(convert, row[1:], strict=True)]


_TIMESTAMP = _field(PageView, "timestamp")


def _nearest(side: str, order: str, condition: str = "") -> tuple[models.Field[Any, Any], str]:
    return _TIMESTAMP, (
        "(SELECT view.timestamp FROM {view} view{index} WHERE view.session_id = hit.session_id AND view.path = hit.path"
        f" AND view.timestamp {side} hit.at{condition} ORDER BY view.timestamp {order} LIMIT 1{{lock}})"
    )


_NEAREST = (_nearest("<=", "DESC"), _nearest(">=", "ASC"))
_NEAREST_ROLLED_UP = (_nearest("<=", "DESC", " AND view.rolled_up"), _nearest(">=", "ASC", " AND view.rolled_up"))
_VISITOR = (
    *(
        (
            _field(Visitor, name),
            f"(SELECT visitor.{name} FROM {{visitor}} visitor WHERE visitor.session_id = hit.session_id{{lock}})",
        )
        for name in ("first_seen", "last_day")
    ),
    (_field(ReportingZone, "name"), f"(SELECT zone.name FROM {{zone}} zone WHERE zone.id = {ReportingZone.ROW})"),
)


def _hits(viewed: Sequence[Viewed], connection: BaseDatabaseWrapper) -> tuple[str, list[Any]]:
    """Return a table `hit` of the given views, and its parameters."""
    rows = [(*row[:2], _TIMESTAMP.get_db_prep_value(row.at, connection)) for row in viewed]
    if connection.vendor == "postgresql":
        # As constants, which a list of rows turns into when it has one, an instant after the last ANALYZE would look
        # as if the index of timestamps alone found next to nothing.
        hits = (
            "unnest(%s::text[], %s::text[], %s::timestamptz[]) WITH ORDINALITY AS hit(session_id, path, at, position)"
        )
        return hits, [list(column) for column in zip(*rows, strict=True)]
    row_sql = "%s AS session_id, %s AS path, %s AS at"
    if connection.vendor == "mysql":
        text = f"CONVERT(%s USING utf8mb4) COLLATE {collation(connection)}"
        row_sql = f"{text} AS session_id, {text} AS path, CAST(%s AS DATETIME(6)) AS at"
    hits = " UNION ALL ".join(f"SELECT {position} AS position, {row_sql}" for position in range(len(rows)))
    return f"({hits}) hit", [param for row in rows for param in row]


def ranked_pages(*, limit: int | None, using: str) -> tuple[list[tuple[str, int]], int]:
    """Return (path, views) of the most viewed pages, pending views included, and the number of pages, in one statement.

    Equal counts are ordered by path, byte by byte. It reads the totals of all pages and all pending views.
    """
    connection = connections[using]
    quote = connection.ops.quote_name
    # The ORM's own words: a partial index is found only by the condition that it was made with.
    pending = PageView.objects.using(using).pending().order_by().values_list("path").annotate(Count("pk"))
    pending_sql, params = pending.query.get_compiler(using).as_sql()
    sql = (
        "SELECT path, SUM(views), COUNT(*) OVER () FROM ("
        f"SELECT path, views FROM {quote(PageTotal._meta.db_table)} WHERE views > 0 UNION ALL {pending_sql}"
        ") counted GROUP BY path ORDER BY SUM(views) DESC, path"
    )
    if limit is not None:
        sql += f" LIMIT {max(limit, 1):d}"  # each row tells the number of pages, so that one is always read
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows = cursor.fetchall()
    return [(path, int(views)) for path, views, _ in rows[:limit]], rows[0][2] if rows else 0


def _converter(connection: BaseDatabaseWrapper, field: models.Field[Any, Any]) -> Callable[[Any], Any]:
    """Return what turns a column of a raw statement into the field's value, as the ORM would."""
    column = field.get_col("")
    converters = [*connection.ops.get_db_converters(column), *column.get_db_converters(connection)]

    def convert(value: Any) -> Any:
        for converter in converters:
            value = converter(value, column, connection)
        return value

    return convert
