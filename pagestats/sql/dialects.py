"""What the databases say differently: one class for each, as Django has its own `DatabaseOperations`.

Nothing else in the package asks which database it talks to; a test lists the exceptions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, tzinfo
from functools import lru_cache, partial
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.timezone import make_naive

from pagestats.fields import collation

ROWS_IN_A_STATEMENT = 500
"""What SQLite takes as terms of one compound SELECT, and enough for the cost of a round trip to vanish."""

Convert = Callable[[Any], Any]


class Dialect:
    """SQL that all databases understand, and the defaults."""

    quote = '"'
    least, greatest = "LEAST", "GREATEST"
    integer = "BIGINT"
    char_length = "CHAR_LENGTH"
    no_day = "NULL"
    no_instant = "NULL"
    false = "0"
    ignoring_index = ""
    """Written before a column, keeps the database from looking for it in an index."""
    uncached = ""
    """A condition that always holds. With it a subquery is carried out for each row."""
    incoming = "EXCLUDED.{}"
    """The value of a column in the row that is to be inserted."""
    without_jit = ""
    """The statement that keeps those of a transaction from being compiled; "" where none ever is."""
    writes_in_one_statement = False
    """Whether one statement can write into several tables."""
    reports_changed_rows = True
    """Whether an upsert can have a condition, and reports how many rows it wrote, without those that it left alone."""
    transactions_with_snapshots = ""
    """The query for the ids of other transactions that may not see yet what was committed; "" where a writer always
    sees it once it holds its first lock."""
    repeats_rows = False
    """Whether it takes as long to read a statement of many rows as to carry it out: then one row goes in many times."""
    looks_up_each_row = False
    """Whether a LEFT JOIN always looks for each row of its left side by an index, and never reads the whole table."""
    has_one_writer = False
    """Whether only one transaction at a time can write, while others look now and then whether it has ended."""
    keeps_time_zones = False
    """Whether an instant is stored as such, and the driver takes it, as it takes a date. Otherwise both go in as text,
    instants by the clocks of the connection's time zone."""

    def quoted(self, name: str) -> str:
        """Return the name of a table or a column as a statement has it."""
        return f"{self.quote}{name}{self.quote}"

    def day(self, day: date) -> str:
        """Return a day as a literal."""
        return f"DATE '{day.isoformat()}'"

    def instant(self, at: datetime) -> str:
        """Return an instant as a literal.

        Args:
            at: in UTC.
        """
        return f"'{_in_utc(at)}'"

    def differ(self, one: str, other: str) -> str:
        """Return the condition that two values differ; two NULLs don't."""
        raise NotImplementedError

    def day_at_offset(self, at: str, seconds: int) -> str:
        """Return the day of an instant by clocks that are so many seconds ahead of UTC."""
        raise NotImplementedError

    def index(self, name: str) -> str:
        """Return the hint, after the name of a table, that makes a statement use an index."""
        return ""

    def on_conflict(self, key: Iterable[str]) -> str:
        """Return what turns an insert into an upsert, up to the changes.

        Args:
            key: the quoted columns of the key.
        """
        return f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET "

    def integer_of(self, number: str) -> str:
        """Return a number, of which a sum makes a decimal on some databases, as an integer."""
        return f"CAST({number} AS {self.integer})"

    def converter(self, kind: str, zone: tzinfo | None) -> Convert | None:
        """Return what makes a value of a field of what the driver returned, None for nothing to do; NULL is left out.

        Args:
            kind: the internal type of the field.
            zone: by whose clocks the connection stores instants.
        """
        if kind == "DateTimeField":
            return partial(_instant, zone=zone)
        return bool if kind == "BooleanField" else None

    def most_rows(self, width: int, connection: BaseDatabaseWrapper) -> int:
        """Return how many rows of `width` values a statement takes."""
        return min(ROWS_IN_A_STATEMENT, (connection.features.max_query_params or sys.maxsize) // width)

    def views(self, rows: int, connection: BaseDatabaseWrapper) -> str:
        """Return a table `hit` of so many views as parameters: position, session_id, path and at."""
        row = "%s AS session_id, %s AS path, %s AS at"
        return self._union(row, rows)

    @staticmethod
    def _union(row: str, rows: int) -> str:
        return f"({' UNION ALL '.join(f'SELECT {position} AS position, {row}' for position in range(rows))}) hit"

    def wait_for_writers(self, table: str, seconds: float) -> Sequence[str]:
        """Return the statements that wait until no other transaction has written to a table without ending.

        Args:
            table: its quoted name.
            seconds: after which they fail with a lock error.
        """
        return ()

    def reads_are_snapshots(self, connection: BaseDatabaseWrapper) -> bool:
        """Tell whether plain reads in a transaction show the past: then only a locking read sees later commits."""
        return False

    def lock_clause(self, connection: BaseDatabaseWrapper) -> str:
        """Return the end of a SELECT that sees what others committed, in a transaction whose reads are snapshots."""
        return ""


class SQLite(Dialect):
    """One writer at a time; dates and instants are text."""

    least, greatest = "MIN", "MAX"  # of two arguments
    char_length = "LENGTH"
    ignoring_index = "+"
    repeats_rows = True
    looks_up_each_row = True
    has_one_writer = True

    def day(self, day: date) -> str:
        """Return the text of a day."""
        return f"'{day.isoformat()}'"

    def differ(self, one: str, other: str) -> str:
        """Return SQLite's IS NOT, which takes any two values."""
        return f"{one} IS NOT {other}"

    def day_at_offset(self, at: str, seconds: int) -> str:
        """Return the day. Fractions of a second are cut off: SQLite would round them, up to the next day."""
        return f"date(substr({at}, 1, 19), '{seconds:+d} seconds')"

    def converter(self, kind: str, zone: tzinfo | None) -> Convert | None:
        """Return what reads dates, too, of which the driver returns the text where they come from an expression."""
        return _date if kind == "DateField" else super().converter(kind, zone)


class PostgreSQL(Dialect):
    """Typed parameters, arrays, and statements that write into several tables."""

    no_day = "CAST(NULL AS date)"
    no_instant = "CAST(NULL AS timestamptz)"
    false = "FALSE"
    # It would compile for a second what then runs for a tenth of one.
    without_jit = "SET LOCAL jit = off"
    writes_in_one_statement = True
    keeps_time_zones = True
    # A transaction locks its virtual id, from before its first snapshot until it ends, and every role sees that lock in
    # pg_locks. Without `backend_xmin` it has no snapshot now, so its next statement sees what was committed; a role
    # that may not see that column doesn't see `state` either. Processes without a user are vacuums.
    transactions_with_snapshots = """
        SELECT held.virtualtransaction
        FROM pg_locks held JOIN pg_stat_activity activity ON activity.pid = held.pid
        WHERE held.locktype = 'virtualxid' AND held.pid <> pg_backend_pid()
        AND activity.datname = current_database() AND activity.usesysid IS NOT NULL
        AND (activity.backend_xmin IS NOT NULL OR activity.state IS NULL)
    """

    def instant(self, at: datetime) -> str:
        """Return the literal with its zone."""
        return f"TIMESTAMPTZ '{_in_utc(at)}+00'"

    def differ(self, one: str, other: str) -> str:
        """Return the standard's condition."""
        return f"{one} IS DISTINCT FROM {other}"

    def day_at_offset(self, at: str, seconds: int) -> str:
        """Return the day."""
        return f"CAST({at} AT TIME ZONE 'UTC' + INTERVAL '{seconds} seconds' AS date)"

    def converter(self, kind: str, zone: tzinfo | None) -> Convert | None:
        """Return None: the driver returns values of the right types."""
        return None

    def most_rows(self, width: int, connection: BaseDatabaseWrapper) -> int:
        """Return no limit: many rows go as one array a column."""
        return sys.maxsize

    def views(self, rows: int, connection: BaseDatabaseWrapper) -> str:
        """Return a table made of arrays.

        As constants, which a list of rows turns into when it has one, an instant after the last ANALYZE would look as
        if the index of timestamps alone found next to nothing.
        """
        return (
            "unnest(%s::text[], %s::text[], %s::timestamptz[]) WITH ORDINALITY AS hit(session_id, path, at, position)"
        )

    def wait_for_writers(self, table: str, seconds: float) -> Sequence[str]:
        """Return a lock that writers hold each other off with."""
        return (
            f"SET LOCAL lock_timeout = {1000 * seconds:.0f}",
            f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE",
        )


class MariaDB(Dialect):
    """Reads of a transaction show the past unless they lock."""

    quote = "`"
    integer = "SIGNED"
    incoming = "VALUES({})"
    reports_changed_rows = False
    # MariaDB keeps what a subquery returned for one row for the rows whose columns are equal by the collation of the
    # columns: "a", "A " and "ä" may be. It keeps nothing of what is left to chance.
    uncached = "RAND() < 2"

    def instant(self, at: datetime) -> str:
        """Return the literal."""
        return f"TIMESTAMP '{_in_utc(at)}'"

    def differ(self, one: str, other: str) -> str:
        """Return the condition by the operator that takes two NULLs for equal."""
        return f"NOT ({one} <=> {other})"

    def day_at_offset(self, at: str, seconds: int) -> str:
        """Return the day."""
        return f"DATE({at} + INTERVAL {seconds} SECOND)"

    def index(self, name: str) -> str:
        """Return the hint: without it, the server reads the whole table, or another index that ends sooner."""
        return f" FORCE INDEX ({name})"

    def on_conflict(self, key: Iterable[str]) -> str:
        """Return what turns an insert into an upsert; the key is any unique one."""
        return " ON DUPLICATE KEY UPDATE "

    def views(self, rows: int, connection: BaseDatabaseWrapper) -> str:
        """Return the table with the types of the columns that it is compared with."""
        text = f"CONVERT(%s USING utf8mb4) COLLATE {collation(connection)}"
        return self._union(f"{text} AS session_id, {text} AS path, CAST(%s AS DATETIME(6)) AS at", rows)

    def wait_for_writers(self, table: str, seconds: float) -> Sequence[str]:
        """Return a locking read of all rows, uncommitted ones included; the server waits whole seconds."""
        return (self._read_all(table, f"LOCK IN SHARE MODE WAIT {max(1, seconds):.0f}"),)

    @staticmethod
    def _read_all(table: str, lock: str) -> str:
        return f"SELECT COUNT(*) FROM {table} FORCE INDEX (PRIMARY) {lock}"

    def reads_are_snapshots(self, connection: BaseDatabaseWrapper) -> bool:
        """Tell whether the isolation level makes them so."""
        return getattr(connection, "isolation_level", None) not in {"read committed", "read uncommitted"}

    def lock_clause(self, connection: BaseDatabaseWrapper) -> str:
        """Return the clause that both servers know."""
        return " LOCK IN SHARE MODE" if connection.in_atomic_block and self.reads_are_snapshots(connection) else ""


class MySQL(MariaDB):
    """What MySQL says differently from MariaDB. Untested."""

    incoming = "incoming.{}"

    def on_conflict(self, key: Iterable[str]) -> str:
        """Return the clause with a name for the incoming row."""
        return " AS incoming ON DUPLICATE KEY UPDATE "

    def wait_for_writers(self, table: str, seconds: float) -> Sequence[str]:
        """Return a locking read that doesn't wait at all."""
        return (self._read_all(table, "FOR SHARE NOWAIT"),)


POSTGRESQL = PostgreSQL()

DIALECTS: dict[str, Dialect] = {
    "sqlite": SQLite(),
    "postgresql": POSTGRESQL,
    "mariadb": MariaDB(),
    "mysql": MySQL(),
}


def dialect_of(connection: BaseDatabaseWrapper) -> Dialect:
    """Return the dialect of a connection's database.

    Whether a server of Django's backend "mysql" is MariaDB, Django asks it once.
    """
    vendor = connection.vendor
    if vendor == "mysql" and getattr(connection, "mysql_is_mariadb", False):
        vendor = "mariadb"
    return DIALECTS[vendor]


@lru_cache(maxsize=2048)
def naive(at: datetime, zone: tzinfo | None) -> str:
    """Return an instant as Django writes it where the database knows no time zones: by the clocks of a zone.

    It is kept, since that of a page view goes into several tables.
    """
    return str(make_naive(at, zone))


def _in_utc(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat(" ")


def _instant(value: Any, *, zone: tzinfo | None) -> datetime:
    """Return the instant that a driver returned by the clocks of a zone: SQLite's, of an expression, its text."""
    at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return at.replace(tzinfo=zone)


def _date(value: Any) -> date:
    """Return the date that SQLite's driver returned: of an expression, its text."""
    return value if isinstance(value, date) else date.fromisoformat(value)
