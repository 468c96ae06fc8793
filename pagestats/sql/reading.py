"""Load the state around views, and rank pages: what the ORM would ask in several statements."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, cast

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count

from pagestats.models import ActiveSession, Calendar, PageTotal, PageView, Visitor
from pagestats.sql import plans
from pagestats.sql.cursors import fast_cursor
from pagestats.sql.dialects import POSTGRESQL, Dialect, dialect_of, naive
from pagestats.sql.prepared import converted
from pagestats.sql.writing import array, batches


class View(Protocol):
    """Who viewed which page, and when: a hit, or what is read of a stored page view."""

    @property
    def session_id(self) -> str:
        """The session id."""

    @property
    def path(self) -> str:
        """The path of the page."""

    @property
    def at(self) -> datetime:
        """The instant of the view, which is aware."""


class Neighbours(NamedTuple):
    """The instants of the stored views of the same session and path nearest to a view, before and after it.

    A stored view of exactly the same instant is both.
    """

    previous: datetime | None
    next: datetime | None


class SessionState(NamedTuple):
    """What is stored around a view: everything that deduplication, the rollups and a heartbeat need."""

    all: Neighbours
    rolled_up: Neighbours
    first_seen: datetime | None
    last_day: date | None
    last_sealed_day: date | None
    version: int | None
    """The version of the session's visitor, which each write to the session changes; None: it has no row yet."""
    zone: str | None
    next_zone: str | None
    sealed_before: date | None
    sealed_on: date | None
    active_on: str | None
    last_seen: datetime | None


def load_state(views: Sequence[View], *, using: str) -> list[SessionState]:
    """Return the state around each of some views, in their order, as it is committed now."""
    connection = connections[using]
    dialect = dialect_of(connection)
    with fast_cursor(connection) as cursor:
        if len(views) == 1 and dialect is POSTGRESQL and (near := _load_one(views[0], cursor, connection)):
            return [near]
        lock = dialect.lock_clause(connection)
        around: list[SessionState] = []
        for some in batches(views, len(_PARAMS), connection):
            statement = _statement(dialect.views(len(some), connection), dialect, lock)
            cursor.execute(statement, _params(some, dialect, connection))
            rows = sorted(cursor.fetchall()) if len(some) > 1 else cursor.fetchall()
            for row in converted(rows, _TYPES, connection):
                around.append(SessionState(Neighbours(*row[1:3]), Neighbours(*row[3:5]), *row[5:]))
    return around


def _load_one(view: View, cursor: Any, connection: BaseDatabaseWrapper) -> SessionState | None:
    """Return the state around one view; None if a view next to it is pending, since more must be read then.

    PostgreSQL plans this statement in half the time of the other, wherever it plans it each time.
    """
    session_id, path, at = view.session_id, view.path, view.at
    params = [session_id, session_id, session_id, path, at, session_id, path, at]
    plans.execute(cursor, _ONE_STATE, params, connection)
    [(all_are_rolled_up, previous, following, *rest)] = cursor.fetchall()
    near = Neighbours(previous, following)
    return SessionState(near, near, *rest) if all_are_rolled_up else None


def _field(model: type[models.Model], name: str) -> models.Field[Any, Any]:
    return cast("models.Field[Any, Any]", model._meta.get_field(name))


Column = tuple["models.Field[Any, Any]", str]
"""A field, and the expression of a value of it."""


def _nearest(side: str, order: str, condition: str = "") -> Column:
    return _field(PageView, "timestamp"), (
        f"(SELECT view.timestamp FROM {PageView._meta.db_table} view{{index}}"
        " WHERE view.session_id = hit.session_id AND view.path = hit.path"
        f" AND view.timestamp {side} hit.at{condition} ORDER BY view.timestamp {order} LIMIT 1{{lock}})"
    )


def _of(alias: str, model: type[models.Model], *names: str) -> list[Column]:
    return [(_field(model, name), f"{alias}.{name}") for name in names]


_NEAREST = [
    _nearest("<=", "DESC"),
    _nearest(">=", "ASC"),
    _nearest("<=", "DESC", " AND view.rolled_up"),
    _nearest(">=", "ASC", " AND view.rolled_up"),
]
_VISITOR = _of("visitor", Visitor, "first_seen", "last_day", "last_sealed_day", "version")
_CALENDAR = _of("calendar", Calendar, "zone", "next_zone", "sealed_before", "sealed_on")
_ACTIVE = _of("active", ActiveSession, "current_path", "last_seen")

_CALENDAR_JOIN = f"LEFT JOIN {Calendar._meta.db_table} calendar ON calendar.id = {Calendar.ROW}"
_VISITORS = f"{Visitor._meta.db_table} visitor"
_ACTIVE_SESSIONS = f"{ActiveSession._meta.db_table} active"


@lru_cache(maxsize=1024)
def _statement(hits: str, dialect: Dialect, lock: str) -> str:
    """Return the statement that loads the state around the views of a table `hit`."""
    joins = _CALENDAR_JOIN
    if dialect.looks_up_each_row:
        visitor, active = _VISITOR, _ACTIVE
        joins += f" LEFT JOIN {_VISITORS} ON visitor.session_id = hit.session_id"
        joins += f" LEFT JOIN {_ACTIVE_SESSIONS} ON active.session_id = hit.session_id"
    else:
        visitor = _found(_VISITOR, f"FROM {_VISITORS} WHERE visitor.session_id = hit.session_id{{lock}}")
        active = _found(_ACTIVE, f"FROM {_ACTIVE_SESSIONS} WHERE active.session_id = hit.session_id")
    columns = ", ".join(expression for _, expression in [*_NEAREST, *visitor, *_CALENDAR, *active])
    columns = columns.format(index=dialect.index("pagestats_view_repeat"), lock=lock)
    return f"SELECT hit.position, {columns} FROM {hits} {joins}{lock}"


def _found(columns: Sequence[Column], rows: str) -> list[Column]:
    return [(field, f"(SELECT {column} {rows})") for field, column in columns]


def _lateral(name: str, side: str, order: str) -> str:
    """Return the join of the nearest view on one side. Its session and path are constants, as sharding needs them.

    The instant is not: to the planner, one after the last ANALYZE would look as if the index of timestamps alone found
    next to nothing.
    """
    return (
        "LEFT JOIN LATERAL (SELECT view.timestamp, view.rolled_up"
        f" FROM {PageView._meta.db_table} view WHERE view.session_id = %s AND view.path = %s"
        f" AND view.timestamp {side} (SELECT %s::timestamptz) ORDER BY view.timestamp {order} LIMIT 1) {name} ON TRUE"
    )


_ONE_STATE = " ".join(
    [
        "SELECT COALESCE(previous.rolled_up, TRUE) AND COALESCE(following.rolled_up, TRUE),",
        "previous.timestamp, following.timestamp,",
        f"{', '.join(expression for _, expression in [*_VISITOR, *_CALENDAR, *_ACTIVE])}",
        f"FROM (SELECT 1) always {_CALENDAR_JOIN}",
        f"LEFT JOIN {_VISITORS} ON visitor.session_id = %s",
        f"LEFT JOIN {_ACTIVE_SESSIONS} ON active.session_id = %s",
        _lateral("previous", "<=", "DESC"),
        _lateral("following", ">=", "ASC"),
    ]
)


def _params(views: Sequence[View], dialect: Dialect, connection: BaseDatabaseWrapper) -> list[Any]:
    if dialect.keeps_time_zones:
        return [array(column) for column in zip(*map(_of_view, views), strict=True)]
    zone = connection.timezone
    return [param for view in views for param in (view.session_id, view.path, naive(view.at, zone))]


_PARAMS = "session_id", "path", "at"
_of_view = attrgetter(*_PARAMS)


_TYPES = ("", *(field.get_internal_type() for field, _ in [*_NEAREST, *_VISITOR, *_CALENDAR, *_ACTIVE]))
"""The position comes first."""


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
        sql += f" LIMIT {max(limit, 1):d}"  # each row has the number of pages, so at least one is read
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows = cursor.fetchall()
    return [(path, int(views)) for path, views, _ in rows[:limit]], rows[0][2] if rows else 0
