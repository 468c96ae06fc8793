"""Have PostgreSQL plan the statements of a page view once per connection: planning is two fifths of what they take.

Django keeps psycopg from preparing any statements, since a pooler may send each of them to another server. `execute`
lets psycopg prepare these few, and only where the connection leads to the server itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

USES_BEFORE = 5
"""How often a statement is used on a connection before it is prepared: many connections serve one request."""
USES_OF_A_PLAN = 1_000
"""How often a plan is used before PostgreSQL plans again: a table may have grown since."""
MOST_STATEMENTS = 64
"""How many statements are prepared on one connection; any other is planned each time."""

LOST = {"26000", "0A000", "42P05"}
"""What PostgreSQL answers when somebody took a prepared statement away, when its columns have other types now, and when
somebody else took its name: behind a pooler that looked like the server."""


def execute(cursor: Any, statement: str, params: Sequence[Any], connection: BaseDatabaseWrapper) -> None:
    """Execute a statement of PostgreSQL, prepared where that is safe.

    In a transaction it isn't prepared, since a plan that is lost would abort the transaction; nor where the site has
    configured psycopg itself to prepare statements.

    Args:
        cursor: from `fast_cursor`. One that writes the parameters into the text prepares nothing.
        statement: its only `%` are those of its parameters, `%s`.
    """
    raw = connection.connection
    if _can_prepare(cursor, connection):
        plans = _plans(raw)
        if text := plans.text_of(statement, cursor):
            try:
                raw.prepare_threshold = 0
                cursor.execute(text, params)
                return
            except DatabaseError as error:
                if getattr(error.__cause__, "sqlstate", None) not in LOST:
                    raise
                plans.give_up()
            finally:
                raw.prepare_threshold = None
    cursor.execute(statement, params)


def _can_prepare(cursor: Any, connection: BaseDatabaseWrapper) -> bool:
    return (
        connection.autocommit
        and getattr(connection.connection, "prepare_threshold", 0) is None
        and _binds_on_the_server(cursor.cursor)
    )


def _binds_on_the_server(cursor: Any) -> bool:
    from django.db.backends.postgresql.base import ServerBindingCursor

    return isinstance(cursor, ServerBindingCursor)


class Plans:
    """How often each statement was used on one connection, and whether it may be prepared there."""

    def __init__(self, server_process: int) -> None:
        self._server_process = server_process
        self._may_prepare: bool | None = None
        self._uses: dict[str, int] = {}

    def text_of(self, statement: str, cursor: Any) -> str | None:
        """Return the text of a statement to be prepared, for one use of it; None if it must not be.

        Another text is another plan: after USES_OF_A_PLAN uses, a comment with a number follows the statement.
        """
        if self._may_prepare is False or (statement not in self._uses and len(self._uses) >= MOST_STATEMENTS):
            return None
        uses = self._uses[statement] = self._uses.get(statement, 0) + 1
        if uses <= USES_BEFORE:
            return None
        if self._may_prepare is None:
            self._may_prepare = self._is_direct(cursor)
        if not self._may_prepare:
            return None
        plan = (uses - USES_BEFORE - 1) // USES_OF_A_PLAN
        return f"{statement} /* plan {plan + 1} */" if plan else statement

    def give_up(self) -> None:
        """Prepare nothing more on this connection."""
        self._may_prepare = False

    def _is_direct(self, cursor: Any) -> bool:
        """Tell whether the process that answers is the one that the connection was opened with: behind a pooler not."""
        cursor.execute("SELECT pg_backend_pid()")
        [(answering,)] = cursor.fetchall()
        return bool(answering == self._server_process)


_of_connections: WeakKeyDictionary[Any, Plans] = WeakKeyDictionary()


def forget() -> None:
    """Forget what was used on each connection, as in a new process."""
    _of_connections.clear()


def _plans(raw: Any) -> Plans:
    """Return the plans of a connection of the driver."""
    if (plans := _of_connections.get(raw)) is None:
        plans = _of_connections.setdefault(raw, Plans(raw.info.backend_pid))
    return plans
