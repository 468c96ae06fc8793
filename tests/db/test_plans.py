"""Statements that PostgreSQL plans once for a connection."""

from contextlib import nullcontext
from datetime import timedelta
from itertools import repeat
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction

from pagestats.models import PageView
from pagestats.recording import record_visit
from pagestats.sql import look, plans, reading
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


def names(prepared: Plans, cursor: Any, uses: int, statement: str = "SELECT %s::text, %s") -> list[str | None]:
    return [prepared.name_of(statement, cursor) for _ in range(uses)]


def test_a_repeated_statement_is_prepared_and_renewed_now_and_then() -> None:
    prepared, cursor = Plans(SERVER), Cursor()
    assert names(prepared, cursor, USES_BEFORE) == [None] * USES_BEFORE
    assert cursor.sent == []
    [first] = {*names(prepared, cursor, USES_OF_A_PLAN)}
    assert cursor.sent == ["SELECT pg_backend_pid()", f"PREPARE {first} AS SELECT $1::text, $2"]
    [second] = {*names(prepared, cursor, USES_OF_A_PLAN)}
    assert second != first
    assert cursor.sent[2:] == [f"DEALLOCATE {first}", f"PREPARE {second} AS SELECT $1::text, $2"]


def test_nothing_is_prepared_behind_a_pooler_which_is_asked_once() -> None:
    prepared, cursor = Plans(SERVER), Cursor(answering=8)
    assert {*names(prepared, cursor, 50), *names(prepared, cursor, 50, "SELECT 1")} == {None}
    assert cursor.sent == ["SELECT pg_backend_pid()"]


def test_so_many_statements_are_prepared_and_no_more() -> None:
    prepared, cursor = Plans(SERVER), Cursor()
    for number in range(MOST_STATEMENTS + 1):
        last = names(prepared, cursor, USES_BEFORE + 1, f"SELECT {number}")[-1]
        assert (last is None) == (number == MOST_STATEMENTS)


def test_a_statement_that_could_not_be_prepared_is_tried_again() -> None:
    prepared, cursor = Plans(SERVER), Cursor()
    names(prepared, cursor, USES_BEFORE)

    class Down(Cursor):
        def execute(self, statement: str) -> None:
            raise OperationalError

    with pytest.raises(OperationalError):
        names(prepared, Down(), 1)
    assert names(prepared, cursor, 1) != [None]


def test_a_name_stands_for_one_statement_in_all_processes() -> None:
    of_one, of_another = (names(Plans(SERVER), Cursor(), USES_BEFORE + 1, sql)[-1] for sql in ("SELECT 1", "SELECT 2"))
    assert str(of_one).split("_")[1] != str(of_another).split("_")[1]
    again = names(Plans(SERVER), Cursor(), USES_BEFORE + 1, "SELECT 1")[-1]
    assert str(of_one).split("_")[1] == str(again).split("_")[1]


def prepared_here() -> set[str]:
    if not PREPARES:
        return set()
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'pagestats%'")
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
def test_visits_are_stored_though_somebody_else_took_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_numbers", repeat(0))
    visits(1)
    if PREPARES:
        assert {plan.rsplit("_", 1)[1] for plan in prepared_here()} >= {"0"}
    plans.forget()  # as another process does not know what is prepared
    visits(2)
    assert PageView.objects.count() == 4 * USES_BEFORE


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
        patched.setattr(reading, "_LOOKING_BRIEFLY", reading._LOOKING_BRIEFLY.replace("::timestamptz", "::no_such"))
        for _ in range(2 * USES_BEFORE):
            with pytest.raises(DatabaseError, match="no_such") if is_brief else nullcontext():
                look([view], using="default")
    assert [near.version for near in look([view], using="default")] == [None]
