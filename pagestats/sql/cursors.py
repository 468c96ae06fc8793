"""The cursor of the statements that each page view sends, which the driver gets in its own form.

Django turns each `%s` of a statement into `?` for SQLite, by a regular expression, and has psycopg write the parameters
into the text of the statement for PostgreSQL. Either takes as long as the database does. Nothing observable changes:
the cursor is wrapped in Django's own, which calls execute wrappers, raises Django's errors and refuses statements in a
broken transaction. Where something else looks at the statements (the query log, a replaced `cursor()`, a database
backend or a connection of a class that isn't Django's), they go through the connection's usual cursor.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.sqlite3.base import FORMAT_QMARK_REGEX
from django.db.backends.sqlite3.base import DatabaseWrapper as SQLite

if TYPE_CHECKING:
    from django.db.backends.utils import CursorWrapper


class QuestionMarkCursor(sqlite3.Cursor):
    """A cursor that keeps the form with `?` of each statement with `%s`."""

    def execute(self, statement: str, params: Any = ()) -> QuestionMarkCursor:
        """Execute a statement with parameters."""
        super().execute(_with_question_marks(statement), params)
        return self

    def executemany(self, statement: str, params: Any) -> QuestionMarkCursor:
        """Execute it once for each of some lists of parameters."""
        super().executemany(_with_question_marks(statement), params)
        return self


def fast_cursor(connection: BaseDatabaseWrapper) -> CursorWrapper:
    """Return a cursor for statements with parameters that are sent again and again, with the same text each time."""
    if "cursor" in vars(connection) or connection.queries_logged:
        return connection.cursor()
    backend: Any = type(connection)
    if (make := _maker(backend)) is None:
        return connection.cursor()
    connection.validate_thread_sharing()
    connection.ensure_connection()
    cursor = make(connection)
    return connection.cursor() if cursor is None else connection.make_cursor(cursor)


@lru_cache(maxsize=512)
def _with_question_marks(statement: str) -> str:
    return FORMAT_QMARK_REGEX.sub("?", statement).replace("%%", "%")


def _of_sqlite(connection: BaseDatabaseWrapper) -> Any:
    raw = connection.connection
    return raw.cursor(factory=QuestionMarkCursor) if type(raw) is sqlite3.Connection else None


def _of_postgresql(connection: BaseDatabaseWrapper) -> Any:
    """Return a cursor that binds parameters on the server."""
    from django.db.backends.postgresql import base

    raw, binding_cursor = connection.connection, cast(Any, base.ServerBindingCursor)
    # A tool that traces statements would have set a factory of its own.
    return binding_cursor(raw) if getattr(raw, "cursor_factory", None) is base.Cursor else None


@lru_cache
def _maker(backend: type[BaseDatabaseWrapper]) -> Any:
    """Return what makes the cursor of a database backend; None for one that makes cursors in a way of its own."""
    makers: list[tuple[type[BaseDatabaseWrapper], Any]] = [(SQLite, _of_sqlite)]
    if backend.vendor == "postgresql":
        from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQL
        from django.db.backends.postgresql.psycopg_any import is_psycopg3

        if is_psycopg3:
            makers.append((PostgreSQL, _of_postgresql))
    for django_backend, make in makers:
        if issubclass(backend, django_backend) and all(
            getattr(backend, name) is getattr(django_backend, name)
            for name in ("cursor", "_cursor", "_prepare_cursor", "create_cursor", "make_cursor")
        ):
            return make
    return None
