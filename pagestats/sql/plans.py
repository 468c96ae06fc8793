"""Have PostgreSQL plan the statements of a page view once for a connection: planning is two fifths of what they take.

Django does not let psycopg prepare statements, since a pooler may send each of them to another server. So it is done
here, by `PREPARE` and `EXECUTE`, and only where the connection leads to the server itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

USES_BEFORE = 5
"""Of a statement on a connection before it is prepared: many connections serve one request and are closed."""
USES_OF_A_PLAN = 1_000
"""Then it is planned anew: a table may have grown since."""
MOST_STATEMENTS = 64
"""On one connection; what else comes is planned each time."""

LOST = {"26000", "0A000", "42P05"}
"""What PostgreSQL says of a plan that somebody took away, of one whose columns have other types now, and of a name that
somebody else took: of a pooler that could not be told from the server."""


def execute(cursor: Any, statement: str, params: Sequence[Any], connection: BaseDatabaseWrapper) -> None:
    """Execute a statement of PostgreSQL, prepared if that may be.

    It is sent as it is within a transaction, since a plan that is lost would take all else with it; and where psycopg
    sends the parameters for themselves, since then it prepares statements, if it is told to.

    Arguments:
        statement: its only `%` are those of its parameters, `%s`.
    """
    if connection.autocommit and not _binds_on_the_server(connection):
        plans = _plans(connection.connection)
        try:
            if name := plans.name_of(statement, cursor):
                cursor.execute(f"EXECUTE {name} ({', '.join(['%s'] * len(params))})", params)
                return
        except DatabaseError as error:
            if getattr(error.__cause__, "sqlstate", None) not in LOST:
                raise
            plans.give_up()
    cursor.execute(statement, params)


class Plans:
    """What is prepared on one connection."""

    def __init__(self, server_process: int) -> None:
        self._server_process = server_process
        self._may_prepare: bool | None = None
        self._uses: dict[str, int] = {}
        self._names: dict[str, str] = {}

    def name_of(self, statement: str, cursor: Any) -> str | None:
        """Return the name under which a statement is prepared, for one use of it; None if it is not."""
        if self._may_prepare is False or (statement not in self._uses and len(self._uses) >= MOST_STATEMENTS):
            return None
        uses = self._uses[statement] = self._uses.get(statement, 0) + 1
        name = self._names.get(statement)
        if uses <= (USES_OF_A_PLAN if name else USES_BEFORE):
            return name
        if self._may_prepare is None:
            self._may_prepare = self._is_direct(cursor)
        if not self._may_prepare:
            return None
        if name:
            del self._names[statement]
            cursor.execute(f"DEALLOCATE {name}")
        # Whoever else may have a plan of this name, it is one of the same statement.
        name = f"pagestats_{blake2b(statement.encode(), digest_size=8).hexdigest()}_{next(_numbers)}"
        first, *rest = statement.split("%s")
        cursor.execute(f"PREPARE {name} AS {first}" + "".join(f"${n}{text}" for n, text in enumerate(rest, start=1)))
        self._names[statement] = name
        self._uses[statement] = 1
        return name

    def give_up(self) -> None:
        """Prepare nothing more on this connection."""
        self._may_prepare = False

    def _is_direct(self, cursor: Any) -> bool:
        """Tell whether the process that the connection was told of is the one that answers: of a pooler it is not."""
        cursor.execute("SELECT pg_backend_pid()")
        [(answering,)] = cursor.fetchall()
        return bool(answering == self._server_process)


_numbers = count(1)
_of_connections: WeakKeyDictionary[Any, Plans] = WeakKeyDictionary()


def forget() -> None:
    """Begin anew on each connection, as if nothing had been used there yet."""
    _of_connections.clear()


def _plans(raw: Any) -> Plans:
    """Return the plans of a connection of the driver."""
    if (plans := _of_connections.get(raw)) is None:
        plans = _of_connections.setdefault(raw, Plans(raw.info.backend_pid))
    return plans


def _binds_on_the_server(connection: BaseDatabaseWrapper) -> bool:
    return bool(getattr(connection.features, "uses_server_side_binding", False))
