"""Statements that PostgreSQL plans once for a connection."""

from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction

from pagestats.models import PageView
from pagestats.recording import record_visit
from pagestats.sql import load_state, plans, reading
from pagestats.sql.plans import MOST_STATEMENTS, USES_BEFORE, USES_OF_A_PLAN, Plans
from tests.factories import T0, a_hit

SERVER = 7
PREPARES = connection.vendor == "postgresql" and not connection.features.uses_server_side_binding


class Cursor:
    """A cursor that keeps what is sent; the process of a server answers."""

    def __init__(self, answering: int = SERVER) -> None:
        self.answering = answering
        self.sent: list[str] = []

    def execute(self, statement: str) -> None:
        self.sent.append(statement)

    def fetchall(self) -> list[tuple[int]]:
        return [(self.answering,)]


def texts(prepared: Plans, cursor: Any, uses: int, statement: str = "SELECT %s") -> list[str | None]:
    return [prepared.text_of(statement, cursor) for _ in range(uses)]


def test_a_statement_is_prepared_after_a_few_uses_and_planned_again_now_and_then() -> None:
    prepared, cursor = Plans(SERVER), Cursor()
    assert texts(prepared, cursor, USES_BEFORE) == [None] * USES_BEFORE
    assert cursor.sent == []
    assert texts(prepared, cursor, USES_OF_A_PLAN) == ["SELECT %s"] * USES_OF_A_PLAN
    assert texts(prepared, cursor, USES_OF_A_PLAN) == ["SELECT %s /* plan 2 */"] * USES_OF_A_PLAN
    assert texts(prepared, cursor, 1) == ["SELECT %s /* plan 3 */"]
    assert cursor.sent == ["SELECT pg_backend_pid()"]


def test_nothing_is_prepared_behind_a_pooler_which_is_asked_once() -> None:
    prepared, cursor = Plans(SERVER), Cursor(answering=8)
    assert {*texts(prepared, cursor, 50), *texts(prepared, cursor, 50, "SELECT 1")} == {None}
    assert cursor.sent == ["SELECT pg_backend_pid()"]


def test_so_many_statements_are_prepared_and_no_more() -> None:
    prepared, cursor = Plans(SERVER), Cursor()
    for number in range(MOST_STATEMENTS + 1):
        last = texts(prepared, cursor, USES_BEFORE + 1, f"SELECT {number}")[-1]
        assert (last is None) == (number == MOST_STATEMENTS)


def test_a_statement_that_could_not_be_prepared_is_tried_again() -> None:
    prepared, cursor = Plans(SERVER), Cursor()
    texts(prepared, cursor, USES_BEFORE)

    class Down(Cursor):
        def execute(self, statement: str) -> None:
            raise OperationalError

    with pytest.raises(OperationalError):
        texts(prepared, Down(), 1)
    assert texts(prepared, cursor, 1) != [None]


def prepared_here() -> set[str]:
    if not PREPARES:
        return set()
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_prepared_statements WHERE statement LIKE '%%pagestats%%'")
        return {name for (name,) in cursor.fetchall()}


def visits(number: int, count: int = 2 * USES_BEFORE) -> None:
    """Record so many visits of sessions that are new and of ones that are known."""
    for n in range(count):
        at = T0 + timedelta(hours=number, minutes=n)
        assert record_visit(a_hit(session_id=f"s{number} {n // 2}", path=f"/{n}", at=at))


@pytest.mark.django_db(transaction=True)
def test_visits_are_stored_though_their_plans_are_taken_away() -> None:
    before = prepared_here()
    visits(1)
    assert len(prepared_here() - before) >= (2 if PREPARES else 0)  # a look and a write
    if PREPARES:
        with connection.cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")
    visits(2)
    assert prepared_here() == set()
    assert PageView.objects.count() == 4 * USES_BEFORE


@pytest.mark.django_db(transaction=True)
def test_visits_are_stored_though_somebody_else_took_the_names() -> None:
    """As behind a pooler that can't be told from the server."""
    if PREPARES:
        connection.close()
        plans.forget()
        with connection.cursor() as cursor:
            for number in range(3):
                cursor.execute(f"PREPARE _pg3_{number} AS SELECT 1")
    visits(1)
    visits(2)
    assert PageView.objects.count() == 4 * USES_BEFORE
    assert not prepared_here()
    if PREPARES:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_psycopg_prepares_nothing_else() -> None:
    visits(1)
    before = prepared_here()
    for _ in range(10):
        assert PageView.objects.filter(path="/a").count() == 0
    assert prepared_here() == before


@pytest.mark.django_db(transaction=True)
def test_in_a_transaction_nothing_is_prepared_nor_any_plan_used() -> None:
    before = prepared_here()
    with transaction.atomic():
        visits(1)
    assert prepared_here() == before
    visits(2)
    if PREPARES:
        with connection.cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")
    with transaction.atomic():
        visits(3)
    assert PageView.objects.count() == 6 * USES_BEFORE


@pytest.mark.django_db(transaction=True)
def test_any_other_error_of_a_statement_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    view = a_hit(session_id="s", path="/a", at=T0)
    is_brief = connection.vendor == "postgresql"
    with monkeypatch.context() as patched:
        patched.setattr(reading, "_ONE_STATE", reading._ONE_STATE.replace("::timestamptz", "::no_such"))
        for _ in range(2 * USES_BEFORE):
            with pytest.raises(DatabaseError, match="no_such") if is_brief else nullcontext():
                load_state([view], using="default")
    assert [near.version for near in load_state([view], using="default")] == [None]
