"""The statements that the verbs make: how many, and in which order."""

import itertools
import re

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from example_project.blog.models import Page, Post
from pagestats import sql
from pagestats.recording import record_heartbeat, record_page_view, record_page_views, record_visit
from pagestats.rollups import backfill
from pagestats.stats import snapshot
from tests.factories import CONTENT, SECOND, T0, a_hit, raw_views

# In the order of their bytes, which is that of their letters' numbers.
PATHS = ["", " ", "/", "/ ", "/A", "/Z", "/a", "/a ", "/a/", "/aa", "/z", "/é", "/ｚ", "/😀", "A", "a", "a ", "~", "é"]


def number_of_queries(*, limit: int | None) -> int:
    with CaptureQueriesContext(connection) as queries:
        snapshot(at=T0, limit=limit)
    return len(queries)


@pytest.mark.django_db
@pytest.mark.parametrize("is_pending", [False, True], ids=["rolled up", "pending"])
def test_a_snapshot_of_a_thousand_pages_takes_as_many_queries_as_of_one(is_pending: bool) -> None:
    def view(numbers: range) -> None:
        Post.objects.bulk_create(Post(slug=f"{number}", title=f"{number}", published=True) for number in numbers)
        Page.objects.bulk_create(Page(slug=f"p{number}", title=f"{number}", published=True) for number in numbers)
        raw_views((f"/{number}", f"s{number}", T0) for number in numbers)
        for number in numbers[:200]:
            record_heartbeat(a_hit(session_id=f"s{number}", path=f"/{number}"))
        if not is_pending:
            list(backfill(batch_size=1_000))

    with override_settings(PAGESTATS_CONTENT=CONTENT):
        view(range(1))
        of_one = [number_of_queries(limit=limit) for limit in (None, 100)]
        view(range(1, 1_000))
        assert snapshot(at=T0).total_paths == 1_000
        assert [number_of_queries(limit=limit) for limit in (None, 100)] == of_one


@pytest.mark.django_db
@pytest.mark.parametrize("is_pending", [False, True], ids=["rolled up", "pending"])
def test_equal_counts_are_in_the_order_of_the_bytes_of_their_paths(is_pending: bool) -> None:
    assert sorted(PATHS) == sorted(PATHS, key=str.encode) == PATHS
    raw_views((path, f"s{number}", T0) for number, path in enumerate(reversed(PATHS)))
    for number, path in enumerate(reversed(PATHS)):
        record_heartbeat(a_hit(session_id=f"s{number}", path=path))
    if not is_pending:
        list(backfill())
    answer = snapshot(at=T0)
    assert [page.path for page in answer.page_stats] == PATHS
    assert answer.active_by_path == tuple((path, 1) for path in PATHS)
    assert [page.path for page in snapshot(at=T0, limit=7).page_stats] == PATHS[:7]


def verbs_of(queries: CaptureQueriesContext) -> list[str]:
    """Return the first words of each statement, up to the table that it writes to; of a WITH, all these tables."""
    insert = r"INSERT (?:OR )?(?:IGNORE )?INTO \S+"
    found: list[str] = []
    for query in queries:
        pattern = insert if query["sql"].startswith("WITH") else rf"^(?:\d+ times: )?({insert}|UPDATE \S+|\w+)"
        found += [re.sub('["`]|OR |IGNORE ', "", match) for match in re.findall(pattern, query["sql"])]
    return found


@pytest.mark.django_db(transaction=True)
def test_a_new_page_view_is_one_transaction_that_locks_its_session_first() -> None:
    record_page_view(a_hit(session_id="first"))  # fixes the zone
    with CaptureQueriesContext(connection) as queries:
        assert record_visit(a_hit())
    look, *others = verbs_of(queries)
    assert look.startswith("SELECT")
    written = [other for other in others if other.startswith("INSERT")]
    figures = ["INSERT INTO pagestats_pagetotal", "INSERT INTO pagestats_rollup"]
    match connection.vendor:
        case "postgresql":  # one statement, whose parts are carried out from the last to the first
            assert len(queries) == 2
            assert written == [
                "INSERT INTO pagestats_activesession",
                "INSERT INTO pagestats_visitor",
                *reversed(figures),
                "INSERT INTO pagestats_pageview",
            ]
        case "sqlite":
            assert (others[0], others[-1], len(others)) == ("BEGIN", "COMMIT", len(written) + 2)
            assert written == [
                "INSERT INTO pagestats_activesession",
                "INSERT INTO pagestats_visitor",
                *figures,
                "INSERT INTO pagestats_pageview",
            ]
        case "mysql":
            lock, again, *rest = others[others.index("BEGIN", 4) + 1 : -1]
            assert (lock, again, others[-1]) == ("INSERT INTO pagestats_visitor", "SELECT", "COMMIT")
            assert rest == ["INSERT INTO pagestats_visitor", *figures, "INSERT INTO pagestats_pageview"]


@pytest.mark.django_db(transaction=True)
def test_a_repeat_with_a_heartbeat_that_is_due_is_two_statements() -> None:
    record_visit(a_hit())
    with CaptureQueriesContext(connection) as queries:
        assert not record_visit(a_hit(at=T0 + 9 * SECOND))
    assert len(queries) == 1
    with CaptureQueriesContext(connection) as queries:
        assert not record_visit(a_hit(at=T0 + 10 * SECOND))
    statements = [statement for statement in verbs_of(queries) if statement not in ("BEGIN", "COMMIT")]
    assert statements[0] == "SELECT"
    assert len(statements) == (2 if sql.can_write_if_unchanged("default") else 3)


@pytest.mark.django_db(transaction=True)
def test_a_repeat_is_one_statement_outside_any_transaction() -> None:
    record_page_view(a_hit())
    with CaptureQueriesContext(connection) as queries:
        assert record_page_view(a_hit(at=T0 + SECOND)) is None
    [look] = verbs_of(queries)
    assert look.startswith("SELECT")


@pytest.mark.django_db(transaction=True)
def test_a_batch_is_one_transaction_that_begins_by_locking_its_sessions() -> None:
    hits = [a_hit(session_id=f"s{number}", path=f"/{number % 7}") for number in range(100)]
    record_page_view(a_hit(session_id="first"))  # fixes the zone
    with CaptureQueriesContext(connection) as queries:
        assert record_page_views(hits) == 100
    statements = verbs_of(queries)
    assert (statements[0], statements[1], statements[-1]) == ("BEGIN", "INSERT INTO pagestats_visitor", "COMMIT")
    assert len([statement for statement in statements if statement in ("BEGIN", "COMMIT")]) == 2
    with CaptureQueriesContext(connection) as queries:
        assert record_page_views(hits) == 0
    assert verbs_of(queries) == ["BEGIN", "INSERT INTO pagestats_visitor", "SELECT", "COMMIT"]


@pytest.mark.django_db(transaction=True)
def test_each_chunk_is_one_transaction_that_begins_by_locking_its_sessions() -> None:
    raw_views(("/a", f"s{number}", T0) for number in range(25))
    with CaptureQueriesContext(connection) as queries:
        assert [progress.processed for progress in backfill(batch_size=10)] == [10, 20, 25]
    chunks = [
        [*group]
        for is_chunk, group in itertools.groupby(
            verbs_of(queries), key=lambda statement: statement not in ("BEGIN", "COMMIT")
        )
        if is_chunk
    ]
    folds = [chunk for chunk in chunks if "INSERT INTO pagestats_rollup" in chunk]
    assert [chunk[0] for chunk in folds] == ["INSERT INTO pagestats_visitor"] * 3
    assert all("UPDATE pagestats_pageview" in chunk and "UPDATE pagestats_run" in chunk for chunk in folds)
