"""Look around views, and rank pages: what the ORM would ask in several statements, or for one view at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, cast

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count

from pagestats.fields import collation as text_collation
from pagestats.models import ActiveSession, Calendar, PageTotal, PageView, Visitor
from pagestats.sql import plans
from pagestats.sql.prepared import converted
from pagestats.sql.transactions import reads_are_snapshots
from pagestats.sql.writing import array, batches, naive


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


class Nearest(NamedTuple):
    """When the session of a view saw its path last before, and next after it.

    A stored view of exactly the same instant is both.
    """

    previous: datetime | None
    next: datetime | None


class Surroundings(NamedTuple):
    """What is stored around a view: all that its judge, the rollups and a heartbeat need to know."""

    all: Nearest
    rolled_up: Nearest
    first_seen: datetime | None
    last_day: date | None
    last_sealed_day: date | None
    version: int | None
    """Of the session's visitor, who is changed by whoever writes anything of the session; None: there is none."""
    zone: str | None
    next_zone: str | None
    sealed_before: date | None
    sealed_on: date | None
    active_on: str | None
    last_seen: datetime | None


def look(views: Sequence[View], *, using: str) -> list[Surroundings]:
    """Return the surroundings of each of some views, in their order, as they are committed now."""
    connection = connections[using]
    if len(views) == 1 and connection.vendor == "postgresql" and (near := _look_briefly(views[0], connection)):
        return [near]
    lock = " LOCK IN SHARE MODE" if connection.in_atomic_block and reads_are_snapshots(connection) else ""
    around: list[Surroundings] = []
    with connection.cursor() as cursor:
        for some in batches(views, len(_PARAMS), connection):
            statement = _looking(len(some), connection.vendor, text_collation(connection), lock)
            cursor.execute(statement, _params(some, connection))
            rows = sorted(cursor.fetchall()) if len(some) > 1 else cursor.fetchall()
            for row in converted(rows, _TYPES, connection):
                around.append(Surroundings(Nearest(*row[1:3]), Nearest(*row[3:5]), *row[5:]))
    return around


def _look_briefly(view: View, connection: BaseDatabaseWrapper) -> Surroundings | None:
    """Return the surroundings of one view; None if a pending view stands next to it, and more is to be asked.

    PostgreSQL plans this statement in half the time of the other, wherever it plans it each time.
    """
    with connection.cursor() as cursor:
        plans.execute(cursor, _LOOKING_BRIEFLY, _of_view(view), connection)
        [(all_are_rolled_up, previous, following, *rest)] = cursor.fetchall()
    near = Nearest(previous, following)
    return Surroundings(near, near, *rest) if all_are_rolled_up else None


def _field(model: type[models.Model], name: str) -> models.Field[Any, Any]:
    return cast("models.Field[Any, Any]", model._meta.get_field(name))


_TIMESTAMP = _field(PageView, "timestamp")


def _nearest(side: str, order: str, condition: str = "") -> tuple[models.Field[Any, Any], str]:
    return _TIMESTAMP, (
        f"(SELECT view.timestamp FROM {PageView._meta.db_table} view{{index}}"
        " WHERE view.session_id = hit.session_id AND view.path = hit.path"
        f" AND view.timestamp {side} hit.at{condition} ORDER BY view.timestamp {order} LIMIT 1{{lock}})"
    )


def _of_session(
    alias: str, model: type[models.Model], *names: str, lock: str = ""
) -> list[tuple[models.Field[Any, Any], str]]:
    rows = f"FROM {model._meta.db_table} {alias} WHERE {alias}.session_id = hit.session_id{lock}"
    return [(_field(model, name), f"(SELECT {alias}.{name} {rows})") for name in names]


def _of_calendar(*names: str) -> list[tuple[models.Field[Any, Any], str]]:
    return [(_field(Calendar, name), f"calendar.{name}") for name in names]


_COLUMNS = [
    _nearest("<=", "DESC"),
    _nearest(">=", "ASC"),
    _nearest("<=", "DESC", " AND view.rolled_up"),
    _nearest(">=", "ASC", " AND view.rolled_up"),
    *_of_session("visitor", Visitor, "first_seen", "last_day", "last_sealed_day", "version", lock="{lock}"),
    *_of_calendar("zone", "next_zone", "sealed_before", "sealed_on"),
    *_of_session("active", ActiveSession, "current_path", "last_seen"),
]


@lru_cache(maxsize=2048)
def _looking(rows: int, vendor: str, collation: str | None, lock: str) -> str:
    """Return the statement that looks around so many views."""
    columns = ", ".join(expression for _, expression in _COLUMNS).format(
        # MariaDB would take the index of times for the one that ends sooner.
        index=" FORCE INDEX (pagestats_view_repeat)" if vendor == "mysql" else "",
        lock=lock,
    )
    calendar = f"LEFT JOIN {Calendar._meta.db_table} calendar ON calendar.id = {Calendar.ROW}"
    return f"SELECT hit.position, {columns} FROM {_hits(rows, vendor, collation)} {calendar}{lock}"


def _lateral(name: str, side: str, order: str) -> str:
    return (
        "LEFT JOIN LATERAL (SELECT view.timestamp, view.rolled_up"
        f" FROM {PageView._meta.db_table} view WHERE view.session_id = hit.session_id AND view.path = hit.path"
        f" AND view.timestamp {side} hit.at ORDER BY view.timestamp {order} LIMIT 1) {name} ON TRUE"
    )


_LOOKING_BRIEFLY = " ".join(
    [
        "SELECT COALESCE(previous.rolled_up, TRUE) AND COALESCE(following.rolled_up, TRUE),",
        "previous.timestamp, following.timestamp,",
        "visitor.first_seen, visitor.last_day, visitor.last_sealed_day, visitor.version,",
        "calendar.zone, calendar.next_zone, calendar.sealed_before, calendar.sealed_on,",
        "active.current_path, active.last_seen",
        # OFFSET keeps them from being constants to the planner: see _hits.
        "FROM (SELECT %s::text AS session_id, %s::text AS path, %s::timestamptz AS at OFFSET 0) hit",
        f"LEFT JOIN {Calendar._meta.db_table} calendar ON calendar.id = {Calendar.ROW}",
        f"LEFT JOIN {Visitor._meta.db_table} visitor ON visitor.session_id = hit.session_id",
        f"LEFT JOIN {ActiveSession._meta.db_table} active ON active.session_id = hit.session_id",
        _lateral("previous", "<=", "DESC"),
        _lateral("following", ">=", "ASC"),
    ]
)


def _hits(rows: int, vendor: str, collation: str | None) -> str:
    """Return a table `hit` of so many views, which are the parameters."""
    if vendor == "postgresql":
        # As constants, which a list of rows turns into when it has one, an instant after the last ANALYZE would look
        # as if the index of timestamps alone found next to nothing.
        return (
            "unnest(%s::text[], %s::text[], %s::timestamptz[]) WITH ORDINALITY AS hit(session_id, path, at, position)"
        )
    row = "%s AS session_id, %s AS path, %s AS at"
    if vendor == "mysql":
        text = f"CONVERT(%s USING utf8mb4) COLLATE {collation}"
        row = f"{text} AS session_id, {text} AS path, CAST(%s AS DATETIME(6)) AS at"
    return f"({' UNION ALL '.join(f'SELECT {position} AS position, {row}' for position in range(rows))}) hit"


def _params(views: Sequence[View], connection: BaseDatabaseWrapper) -> list[Any]:
    if connection.vendor == "postgresql":
        return [array(column) for column in zip(*map(_of_view, views), strict=True)]
    zone = connection.timezone
    return [param for view in views for param in (view.session_id, view.path, naive(view.at, zone))]


_PARAMS = "session_id", "path", "at"
_of_view = attrgetter(*_PARAMS)


_TYPES = ["", *(field.get_internal_type() for field, _ in _COLUMNS)]
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
        sql += f" LIMIT {max(limit, 1):d}"  # each row tells the number of pages, so that one is always read
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows = cursor.fetchall()
    return [(path, int(views)) for path, views, _ in rows[:limit]], rows[0][2] if rows else 0
