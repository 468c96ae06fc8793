"""How many statements each page of the admin sends: the moment is read once, and nothing that is not shown."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pagestats.recording import record_page_views
from pagestats.rollups import backfill
from tests.factories import a_hit, now_by_the_clock

STATS = "/admin/pagestats/stats/"
SESSION_AND_USER = 2


@pytest.fixture
def recorded(db):
    """300 page views of 70 sessions on 40 pages in the last 38 days."""
    now = now_by_the_clock()
    hits = [a_hit(path=f"/{n % 40}", session_id=f"s{n % 70}", at=now - n * timedelta(hours=3)) for n in range(300)]
    assert record_page_views(hits) == 300
    list(backfill())


@pytest.mark.parametrize(
    ("address", "statements"),
    [
        ("", 12),
        ("?period=today", 13),
        ("?period=12m", 12),
        ("?q=1&order=-visitors", 12),
        ("page/?path=/1", 7),
        ("csv/pages/", 2),
        ("csv/pages/?period=all", 4),
        ("csv/figures/", 5),
        ("csv/active/", 2),
        ("csv/requests/", 4),
    ],
)
def test_a_page_sends_no_more_statements_than_it_needs(admin_client, recorded, address, statements):
    admin_client.get(f"{STATS}{address}")  # prepares the queries
    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get(f"{STATS}{address}")
        assert response.status_code == 200
        assert b"".join(response)
    calendar = [query["sql"] for query in queries if query["sql"].startswith("SELECT") and "next_zone" in query["sql"]]
    assert calendar == []
    assert len(queries) == SESSION_AND_USER + statements, "\n".join(query["sql"] for query in queries)
