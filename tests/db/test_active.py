"""Who is here now: the figures, the answer with its tag, and where it is asked for."""

import json
import pickle

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils.translation import get_language
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from example_project.blog.models import Post
from pagestats import presence
from pagestats.hits import instant
from pagestats.models import ActiveSession
from pagestats.presence import MOST_TITLES_KEPT
from pagestats.recording import record_heartbeat
from pagestats.stats import Refused, UnknownPage, active, active_on, active_visitors, snapshot
from tests.factories import CONTENT, MINUTE, SECOND, T0, a_hit

pytestmark = pytest.mark.django_db

ACTIVE = "/api/stats/active/"


def beat(*paths, at=T0):
    for number, path in enumerate(paths):
        record_heartbeat(a_hit(session_id=f"s{number}", path=path, at=at))


def a_reader():
    user = User.objects.create_user("reader")
    user.user_permissions.add(Permission.objects.get(codename="view_stats"))
    client = Client()
    client.force_login(user)
    return client


# The figures


def test_active_visitors_are_counted_by_path_and_the_list_alone_is_cut():
    beat("/b", "/a", "/b", "/c")
    assert active(at=T0) == active(at=T0, path=None)
    assert (active(at=T0).visitors, active(at=T0).by_path) == (4, (("/b", 2), ("/a", 1), ("/c", 1)))
    assert (active(at=T0, limit=1).visitors, active(at=T0, limit=1).by_path) == (4, (("/b", 2),))
    assert (active(at=T0, path="/b").visitors, active(at=T0, path="/b").by_path) == (2, (("/b", 2),))
    assert active(at=T0, path="/B").visitors == active(at=T0, path="/b ").visitors == 0
    assert (active_visitors(at=T0), active_visitors("/b", at=T0)) == (4, 2)


def test_a_session_is_active_for_less_than_two_minutes():
    beat("/a")
    for later, visitors in [(2 * MINUTE - SECOND, 1), (2 * MINUTE, 0)]:
        assert active(at=T0 + later).visitors == active_visitors(at=T0 + later) == visitors
        assert snapshot(at=T0 + later).active_visitors == visitors


def test_a_long_path_is_the_one_that_its_heartbeats_are_on():
    path = "/" + 600 * "x"
    beat(path, path[:-1] + "y")
    assert active(at=T0, path=path).visitors == active_visitors(path, at=T0) == 1


def test_who_is_on_the_page_of_an_object(settings):
    settings.PAGESTATS_CONTENT = CONTENT
    post = Post.objects.create(slug="hello", title="Hello", published=True)
    beat("/hello", "/hello", "/other")
    assert active_on(post, at=T0) == 2
    assert active_on(User(username="none"), at=T0) == 0


def test_the_public_sees_the_paths_that_are_no_secret(settings):
    settings.PAGESTATS_CONTENT = CONTENT
    Post.objects.create(slug="hello", title="Hello", published=True)
    beat("/hello", "/reset/secret")
    now = active(at=T0, public=True)
    assert (now.visitors, now.by_path) == (2, (("/hello", 1),))
    assert active(at=T0, path="/hello", public=True).visitors == 1
    with pytest.raises(UnknownPage):
        active(at=T0, path="/reset/secret", public=True)


@pytest.mark.parametrize("arguments", [{"limit": -1}, {"path": "/\x00"}, {"path": "/\ud800"}])
def test_what_no_path_and_no_limit_is_refused(arguments):
    with pytest.raises(Refused):
        active(at=T0, **arguments)


# The answer


def answer(**arguments):
    return presence.active_response(RequestFactory().get("/"), **{"public": False, **arguments})


def test_the_answer_names_titles_and_keeps_them_for_a_moment(settings):
    settings.PAGESTATS_CONTENT = CONTENT
    post = Post.objects.create(slug="hello", title="Hello", published=True)
    beat("/hello", at=instant(None))
    first = answer()
    assert json.loads(first.content) == {
        "visitors": 1,
        "by_path": [{"path": "/hello", "title": "Hello", "count": 1}],
    }
    assert first.headers["Cache-Control"] == "private, no-cache"
    post.title = "Renamed"
    post.save()
    assert answer().headers["ETag"] == first.headers["ETag"]
    cache.clear()  # as it is half a minute later
    assert b"Renamed" in answer().content
    assert answer().headers["ETag"] != first.headers["ETag"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(["/a", "/b", "/a "]), max_size=3), min_size=2, max_size=4))
def test_tags_are_equal_if_and_only_if_answers_are(moments):
    answers = []
    for paths in moments:
        ActiveSession.objects.all().delete()
        beat(*paths, at=instant(None))
        answers.append(answer())
    for one in answers:
        for other in answers:
            assert (one.headers["ETag"] == other.headers["ETag"]) == (one.content == other.content)


@pytest.mark.parametrize("public", [False, True])
def test_what_is_the_same_is_a_304_of_one_statement(settings, public):
    settings.PAGESTATS_CONTENT = CONTENT
    Post.objects.create(slug="hello", title="Hello", published=True)
    beat("/hello", "/secret", at=instant(None))
    tag = answer(public=public).headers["ETag"]
    request = RequestFactory().get("/", headers={"if-none-match": tag})
    with CaptureQueriesContext(connection) as queries:
        again = presence.active_response(request, public=public)
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    [query] = queries
    assert "pagestats_activesession" in query["sql"]
    ActiveSession.objects.update(last_seen=instant(None) - 3 * MINUTE)  # nobody writes when a session expires
    assert presence.active_response(request, public=public).status_code == 200


def test_titles_take_one_entry_of_the_cache_however_many_pages_are_read(settings):
    settings.PAGESTATS_CONTENT = CONTENT
    paths = [f"/{number}" for number in range(700)]
    Post.objects.bulk_create(Post(slug=path[1:], title=f"Post {path}", published=True) for path in paths[:600])
    beat(*paths, at=instant(None))
    cache.set("somebody's", "own")
    first = answer(public=True)
    with CaptureQueriesContext(connection) as queries:
        assert answer(public=True).content == first.content
    assert len(queries) == 1
    assert (json.loads(first.content)["visitors"], cache.get("somebody's")) == (700, "own")
    new = Post.objects.create(slug="new", title="New", published=True)
    beat(f"/{new.slug}", f"/{new.slug}", at=instant(None))
    assert json.loads(answer(public=True).content)["by_path"][0] == {"path": "/new", "title": "New", "count": 2}


def test_what_anybody_asks_for_does_not_make_the_entry_grow(settings):
    settings.PAGESTATS_CONTENT = CONTENT
    settings.PAGESTATS_CLIENT_PATHS = [r"/docs/.*"]
    beat("/docs/a", at=instant(None))
    answer(public=True)

    def size():
        return len(pickle.dumps(cache.get(f"pagestats.titles.public.{get_language()}")))

    before = size()
    for number in range(20):
        with pytest.raises(UnknownPage):
            answer(public=True, path=f"/{number}{'x' * 7000}")
    assert size() == before
    for number in range(MOST_TITLES_KEPT + 20):
        answer(public=True, path=f"/docs/{number}")
    known = cache.get(f"pagestats.titles.public.{get_language()}")[1]
    assert len(known) == MOST_TITLES_KEPT


def test_titles_are_kept_for_half_a_minute_whoever_asks_meanwhile(settings, monkeypatch, django_capture_queries):
    settings.PAGESTATS_CONTENT = CONTENT
    clock = 1_800_000_000.0
    monkeypatch.setattr("pagestats.presence.time.time", lambda: clock)
    post = Post.objects.create(slug="hello", title="Hello", published=True)
    beat("/hello", at=instant(None))
    answer()
    post.title = "Renamed"
    post.save()
    clock += 12  # as long as a page waits before it asks again
    assert len(django_capture_queries(answer)) == 1
    for number in range(3):
        beat("/hello", f"/{number}", at=instant(None))
        clock += 5
        assert b"Renamed" not in answer().content
    clock += 4
    assert b"Renamed" in answer().content


def test_a_cache_that_fails_costs_titles_that_are_read_anew(monkeypatch, caplog):
    monkeypatch.setattr("pagestats.cache.cache", Broken())
    beat("/hello", at=instant(None))
    assert json.loads(answer().content)["visitors"] == 1
    assert "can't be read" in caplog.text
    assert "can't be written" in caplog.text


class Broken:
    def get_many(self, *arguments):
        raise ConnectionError("no cache")

    set_many = get_many


# The doors


def test_the_api_answers_with_a_tag_and_then_that_nothing_changed():
    client = a_reader()
    beat("/a", "/b", at=instant(None))
    first = client.get(ACTIVE, {"limit": 1})
    assert (first.status_code, first.json()["visitors"], len(first.json()["by_path"])) == (200, 2, 1)
    again = client.get(ACTIVE, {"limit": 1}, headers={"if-none-match": first.headers["ETag"]})
    assert (again.status_code, again.headers["Cache-Control"]) == (304, "private, no-cache")
    assert client.get(ACTIVE, {"path": "/b"}).json()["by_path"] == [{"path": "/b", "title": "/b", "count": 1}]


@pytest.mark.parametrize("query", [{"limit": "x"}, {"limit": "-1"}, {"path": "/\x00"}])
def test_the_api_refuses_invalid_queries_and_caches_no_refusal(query):
    refused = a_reader().get(ACTIVE, query)
    assert (refused.status_code, refused.headers["Cache-Control"]) == (400, "no-store")
    assert next(iter(query)) in refused.json()["detail"]


def test_the_api_tells_the_public_of_known_pages_only(settings):
    beat("/secret", at=instant(None))
    assert Client().get(ACTIVE).status_code == 401
    settings.PAGESTATS_PUBLIC = True
    assert Client().get(ACTIVE).json() == {"visitors": 1, "by_path": []}
    assert Client().get(ACTIVE, {"path": "/secret"}).status_code == 404


def test_the_admin_answers_beside_its_page():
    client = Client()
    client.force_login(User.objects.create_superuser("editor"))
    beat("/a", at=instant(None))
    page = client.get("/admin/pagestats/stats/").content.decode()
    assert 'data-pagestats-live="/admin/pagestats/stats/active/"' in page
    assert client.get("/admin/pagestats/stats/active/").json()["by_path"] == [{"path": "/a", "title": "/a", "count": 1}]
    client.force_login(User.objects.create_user("staff", is_staff=True))
    assert client.get("/admin/pagestats/stats/active/").status_code == 403
