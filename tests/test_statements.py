"""The statements that the verbs make: how many, and in which order."""

import itertools
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from example_project.blog.models import Page, Post
from pagestats.recording import record_heartbeat, record_page_view, record_page_views
from pagestats.rollups import backfill
from pagestats.stats import snapshot
from tests.factories import T0, a_hit, raw_views

SECOND = timedelta(seconds=1)
CONTENT = {
    "posts": {"model": "blog.Post", "published": {"published": True}, "title": "title", "slug": "slug", "type": "blog"},
    "pages": {"model": "blog.Page", "published": {"published": True}, "title": "title", "slug": "slug", "type": "page"},
}
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
    """Return the first words of each statement, up to the table that it writes to."""
    found = [re.match(r"INSERT (?:OR )?(?:IGNORE )?INTO \S+|UPDATE \S+|\w+", query["sql"]) for query in queries]
    return [re.sub('["`]|OR |IGNORE ', "", match[0]) for match in found if match]


@pytest.mark.django_db(transaction=True)
def test_a_new_page_view_is_one_transaction_that_begins_by_locking_its_session() -> None:
    with CaptureQueriesContext(connection) as queries:
        assert record_page_view(a_hit())
    look, begin, lock, *others, commit = verbs_of(queries)
    assert look.startswith("SELECT")
    assert (begin, commit) == ("BEGIN", "COMMIT")
    assert lock == "INSERT INTO pagestats_visitor"
    assert [other for other in others if other.startswith("INSERT")] == [
        "INSERT INTO pagestats_reportingzone",
        "INSERT INTO pagestats_pageview",
        "INSERT INTO pagestats_visitor",
        "INSERT INTO pagestats_pagetotal",
        "INSERT INTO pagestats_rollup",
    ]
    assert not {"BEGIN", "COMMIT", "ROLLBACK"} & {*others}


@pytest.mark.django_db(transaction=True)
def test_a_repeat_is_one_statement_outside_any_transaction() -> None:
    record_page_view(a_hit())
    with CaptureQueriesContext(connection) as queries:
        assert record_page_view(a_hit(at=T0 + SECOND)) is None
    [look] = verbs_of(queries)
    assert look.startswith("SELECT")


@pytest.mark.django_db(transaction=True)
def test_a_batch_of_repeats_is_one_statement_and_a_batch_of_new_views_one_transaction() -> None:
    hits = [a_hit(session_id=f"s{number}", path=f"/{number % 7}") for number in range(100)]
    with CaptureQueriesContext(connection) as queries:
        assert record_page_views(hits) == 100
    statements = verbs_of(queries)
    assert (statements[1], statements[2], statements[-1]) == ("BEGIN", "INSERT INTO pagestats_visitor", "COMMIT")
    assert len([statement for statement in statements if statement in ("BEGIN", "COMMIT")]) == 2
    with CaptureQueriesContext(connection) as queries:
        assert record_page_views(hits) == 0
    assert len(queries) == 1


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
