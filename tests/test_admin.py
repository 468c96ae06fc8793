from datetime import timedelta

import pytest
from django.urls import reverse

from pagestats import admin
from pagestats.models import PageView
from pagestats.recording import record_heartbeat
from tests.factories import T0, a_hit, raw_views

LISTS = ["pagestats_pageview", "pagestats_activesession"]


@pytest.fixture
def rows():
    record_heartbeat(a_hit())
    raw_views((f"/{number}", "s", T0 + timedelta(hours=number)) for number in range(150))


@pytest.mark.django_db
@pytest.mark.parametrize("name", LISTS)
def test_the_rows_are_listed_and_cannot_be_written(admin_client, rows, name):
    assert admin_client.get(reverse(f"admin:{name}_changelist")).status_code == 200
    assert admin_client.get(reverse(f"admin:{name}_add")).status_code == 403
    key = "s" if "session" in name else PageView.objects.first().pk
    page = admin_client.get(reverse(f"admin:{name}_change", args=[key]))
    assert page.status_code == 200
    assert b'name="_save"' not in page.content
    assert admin_client.post(reverse(f"admin:{name}_change", args=[key]), {"path": "/x"}).status_code == 403
    assert admin_client.post(reverse(f"admin:{name}_delete", args=[key]), {"post": "yes"}).status_code == 403


@pytest.mark.django_db
def test_the_newest_page_views_come_first(admin_client, rows):
    page = admin_client.get(reverse("admin:pagestats_pageview_changelist"))
    assert [view.path for view in page.context["cl"].result_list[:2]] == ["/149", "/148"]


@pytest.mark.django_db
@pytest.mark.parametrize("name", LISTS)
def test_no_query_counts_further_than_the_list_goes(admin_client, rows, name, django_capture_queries):
    queries = django_capture_queries(lambda: admin_client.get(reverse(f"admin:{name}_changelist")))
    counts = [query for query in queries if "COUNT(" in query and "pagestats" in query]
    assert counts
    assert all("LIMIT 10000" in query for query in counts)


@pytest.mark.django_db
def test_the_list_ends_where_the_count_does(admin_client, rows, monkeypatch):
    monkeypatch.setattr(admin, "MOST_ROWS", 120)
    page = admin_client.get(reverse("admin:pagestats_pageview_changelist"), {"p": 2})
    assert page.context["cl"].paginator.count == 120
    assert len(page.context["cl"].result_list) == 20


@pytest.mark.django_db
def test_rows_are_found_by_the_beginning_of_the_path_and_by_the_session(admin_client, rows):
    url = reverse("admin:pagestats_pageview_changelist")
    assert len(admin_client.get(url, {"q": "/14"}).context["cl"].result_list) == 11
    assert len(admin_client.get(url, {"q": "no such session"}).context["cl"].result_list) == 0
