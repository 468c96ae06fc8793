"""The cursor of the statements that each page view sends: whoever observes statements sees these as well."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from pagestats.recording import record_visit
from pagestats.sql.cursors import QuestionMarkCursor, _maker, fast_cursor
from tests.factories import T0, a_hit

pytestmark = pytest.mark.django_db(transaction=True)


def a_visit(n: int) -> bool:
    return record_visit(a_hit(session_id=f"s{n}", path=f"/{n}", at=T0 + timedelta(minutes=n)))


def test_wrappers_and_the_query_log_see_the_same_statements():
    assert a_visit(0)
    wrapped: list[str] = []

    def note(execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
        assert context["connection"] is connections["default"]
        wrapped.append(statement)
        return execute(statement, params, many, context)

    with connection.execute_wrapper(note):
        assert a_visit(1)
    with CaptureQueriesContext(connection) as logged:
        assert a_visit(2)
    verbs = [query["sql"].split()[0] for query in logged if query["sql"].split()[0] not in {"COMMIT", "START", "BEGIN"}]
    assert [statement.split()[0] for statement in wrapped if not statement.startswith("BEGIN")] == verbs
    assert any("/2" in query["sql"] for query in logged)  # with its parameters


def test_a_replaced_cursor_is_used(monkeypatch):
    used = []
    cursor = connection.cursor

    def noting_cursor() -> Any:
        used.append(1)
        return cursor()

    monkeypatch.setattr(connection, "cursor", noting_cursor)
    assert a_visit(0)
    assert used


def test_a_backend_that_makes_its_own_cursors_is_left_to_it():
    backend: Any = type(connections["default"])

    class Counting(backend):
        def create_cursor(self, name: str | None = None) -> Any:
            return super().create_cursor(name)

    assert _maker(Counting) is None


def test_errors_are_those_of_django():
    with pytest.raises(DatabaseError, match="no_such_table"), fast_cursor(connections["default"]) as cursor:
        cursor.execute("SELECT %s FROM no_such_table", ["a"])
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError), fast_cursor(connections["default"]) as cursor:
            cursor.execute("SELECT %s", [1])


def test_percent_signs_are_written_twice():
    with fast_cursor(connections["default"]) as cursor:
        cursor.execute("SELECT '%%', %s", ["a%s"])
        assert [tuple(row) for row in cursor.fetchall()] == [("%", "a%s")]
        if connection.vendor == "sqlite":
            assert isinstance(cursor.cursor, QuestionMarkCursor)
