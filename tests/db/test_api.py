import io
import json
import re
import subprocess
import sys
from datetime import timedelta
from urllib.parse import unquote_to_bytes

import pytest
from asgiref.sync import async_to_sync
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIRequest
from django.db import OperationalError, connections
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.test.utils import override_script_prefix
from django.urls import include, path, resolve, reverse
from django.utils.translation import gettext_lazy

from example_project.blog.models import Post
from pagestats import dimensions
from pagestats.api import openapi
from pagestats.hits import instant
from pagestats.models import ActiveSession, Calendar, PageView, Seal
from pagestats.recording import record_heartbeat, record_page_view
from pagestats.tallies import tallies
from tests import ROOT
from tests.agents import CHROME, GOOGLEBOT
from tests.factories import A_SECTION, CONTENT, T0, Failing, a_hit, raw_views

SESSION = "0b5e0d38-5c9e-4e3a-9a5c-0b1e0f1f2a3b"
STATS, PAGE_VIEWS, HEARTBEATS = "/api/stats/", "/api/stats/page-views/", "/api/stats/heartbeats/"
REPORT = "/api/stats/report/"


def a_page(request, **arguments):
    return HttpResponse("a page")


urlpatterns = [
    path("", a_page),
    path("posts/<slug:slug>/", a_page),
    path("all/<path:rest>", a_page),
    path("private/<slug:slug>", a_page),
    path("api/", include("pagestats.urls")),
    path("hello/", include("pagestats.beacons")),
]
pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@pytest.fixture(autouse=True)
def no_other_door(settings):
    """Leave the middleware out, which tallies what it sees of each request."""
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if not name.startswith("pagestats.")]


def send(body=None, *, to=PAGE_VIEWS, client=None, content_type="application/json", **headers):
    """Post a body as a page of the site would; a header of None is left out."""
    body = {"path": "/"} if body is None else body
    headers = {"user_agent": CHROME, "sec_fetch_site": "same-origin", "host": "example.com", **headers}
    return (client or Client(enforce_csrf_checks=True)).generic(
        "POST",
        to,
        body if isinstance(body, bytes) else json.dumps(body),
        content_type=content_type,
        headers={name: value for name, value in headers.items() if value is not None},
    )


def paths():
    return list(PageView.objects.order_by("pk").values_list("path", flat=True))


def tallied():
    return {(outcome, reason): count for (outcome, reason), count in tallies.counts().items()}


def a_reader(*, permitted=True):
    user = User.objects.create_user("reader")
    if permitted:
        user.user_permissions.add(Permission.objects.get(codename="view_stats"))
    client = Client()
    client.force_login(user)
    return client


def test_the_figures_are_those_of_the_snapshot_as_objects(settings):
    settings.PAGESTATS_CONTENT = CONTENT
    Post.objects.create(slug="hello", title="Hello", published=True)
    now = instant(None)
    record_page_view(a_hit(path="/hello", at=now))
    record_heartbeat(a_hit(path="/hello", at=now))
    response = a_reader().get(STATS)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == {
        "lifetime": "day",
        "active_visitors": 1,
        "active_by_path": [{"path": "/hello", "count": 1}],
        "total_page_views": 1,
        "unique_visitors": 1,
        "published": {"posts": 1, "pages": 0},
        "tracking_since": PageView.objects.get().timestamp.isoformat().replace("+00:00", "Z"),
        "page_stats": [{"path": "/hello", "title": "Hello", "page_type": "blog", "views": 1}],
        "total_paths": 1,
    }


@pytest.mark.parametrize(("identity", "lifetime"), [("anonymous", "day"), ("cookie", "lasting"), ("client", "lasting")])
def test_the_figures_say_how_long_an_id_lives(settings, identity, lifetime):
    settings.PAGESTATS_IDENTITY = identity
    assert a_reader().get(STATS).json()["lifetime"] == lifetime


def test_an_empty_site_has_figures_too():
    figures = a_reader().get(STATS).json()
    assert (figures["total_page_views"], figures["page_stats"], figures["tracking_since"]) == (0, [], None)


@pytest.mark.parametrize("figures", [STATS, f"{REPORT}?start=2026-03-14&end=2026-03-14"])
def test_nobody_reads_without_the_permission(figures):
    nobody, user = Client().get(figures), a_reader(permitted=False).get(figures)
    assert (nobody.status_code, nobody.headers["WWW-Authenticate"]) == (401, "Session")
    assert (user.status_code, list(user.json())) == (403, ["detail"])


def test_an_account_that_was_closed_reads_nothing():
    client = a_reader()
    User.objects.update(is_active=False)
    assert client.get(STATS).status_code == 401


@pytest.mark.parametrize(("query", "lengths"), [("", (3, 3)), ("?limit=2", (2, 2)), ("?limit=0", (0, 0))])
def test_a_limit_cuts_the_lists(query, lengths):
    for name in "abc":
        record_page_view(a_hit(path=f"/{name}", at=instant(None)))
        record_heartbeat(a_hit(path=f"/{name}", session_id=name, at=instant(None)))
    figures = a_reader().get(STATS + query).json()
    assert (len(figures["page_stats"]), len(figures["active_by_path"])) == lengths
    assert (figures["total_paths"], figures["active_visitors"]) == (3, 3)


def test_a_hundred_pages_are_shown_unless_more_are_asked_for():
    raw_views([(f"/{number}", "s", instant(None)) for number in range(1001)])
    client = a_reader()
    assert len(client.get(STATS).json()["page_stats"]) == 100
    assert len(client.get(f"{STATS}?limit=1000").json()["page_stats"]) == 1000


@pytest.mark.parametrize("limit", ["1001", "-1", "", "1.0", "ten", "٣", "1e3", " 1", "9" * 5000, "%00", "%ED%A0%80"])
def test_a_limit_that_is_none_is_refused_with_the_reason(limit):
    response = a_reader().get(f"{STATS}?limit={limit}")
    assert response.status_code == 400
    assert response.json()["detail"].endswith("not a whole number from 0 to 1000.")
    assert len(response.content) < 300


def test_the_public_sees_the_totals_and_only_pages_that_are_no_secret(settings):
    settings.PAGESTATS_PUBLIC = True
    settings.PAGESTATS_CONTENT = CONTENT
    settings.PAGESTATS_CLIENT_PATHS = ["/docs/.*"]
    Post.objects.create(slug="hello", title="Hello", published=True)
    Post.objects.create(slug="draft", title="Draft", published=False)
    now = instant(None)
    for number in range(6):
        record_page_view(a_hit(path=f"/reset/{number}", at=now))
        record_page_view(a_hit(path=f"/reset/{number}", session_id="t", at=now))
        record_heartbeat(a_hit(path=f"/reset/{number}", session_id=f"s{number}", at=now))
    for path_ in ("/hello", "/draft", "/docs/a", "/"):
        record_page_view(a_hit(path=path_, at=now))
        record_heartbeat(a_hit(path=path_, session_id=path_, at=now))
    figures = Client().get(f"{STATS}?limit=2").json()
    assert [page["path"] for page in figures["page_stats"]] == ["/", "/docs/a"]
    assert [row["path"] for row in figures["active_by_path"]] == ["/", "/docs/a"]
    assert [page["path"] for page in Client().get(STATS).json()["page_stats"]] == ["/", "/docs/a", "/hello"]
    assert (figures["total_page_views"], figures["total_paths"], figures["active_visitors"]) == (16, 10, 10)
    assert len(a_reader().get(STATS).json()["page_stats"]) == 10


@pytest.mark.parametrize("figures", [STATS, f"{REPORT}?start=2026-03-14&end=2026-03-14&dimension=page&compare=true"])
def test_reading_writes_nothing(django_capture_queries, settings, figures):
    settings.PAGESTATS_PUBLIC = True
    statements = django_capture_queries(lambda: Client().get(figures))
    assert statements
    assert all(re.match(r"\(*SELECT|WITH counted", statement) for statement in statements)


def test_a_report_is_that_of_the_range_as_objects(settings):
    settings.PAGESTATS_CONTENT = CONTENT
    Post.objects.create(slug="hello", title="Hello", published=True)
    record_page_view(a_hit(path="/hello", at=T0))
    response = a_reader().get(f"{REPORT}?start=2026-03-14&end=2026-03-14&dimension=page&by=hour")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    told = response.json()
    assert told.pop("hours")[13] == {"start": "2026-03-14T13:00:00+01:00", "views": 1, "visitors": 1}
    assert told == {
        "lifetime": "day",
        "zone": "Europe/Amsterdam",
        "dimension": "page",
        "value": None,
        "start": "2026-03-14",
        "end": "2026-03-14",
        "views": 1,
        "visitors": 1,
        "new_visitors": 1,
        "returning_visitors": None,
        "days": [{"day": "2026-03-14", "views": 1, "visitors": 1}],
        "rows": [{"value": "/hello", "title": "Hello", "page_type": "blog", "views": 1, "visitors": 1}],
        "total_rows": 1,
        "reason": "",
        "previous": None,
        "year_before": None,
    }


@pytest.mark.parametrize(
    ("asked", "schema"),
    [
        (STATS, openapi.STATS),
        (f"{STATS}active/", openapi.ACTIVE),
        (f"{REPORT}?start=2026-03-14&end=2026-03-14&dimension=page&by=hour&compare=true", openapi.REPORT),
    ],
)
def test_an_answer_has_the_fields_of_its_schema(asked, schema):
    record_page_view(a_hit(path="/hello", at=T0))
    record_heartbeat(a_hit(path="/hello", at=instant(None)))
    assert_fields(a_reader().get(asked).json(), schema)


def assert_fields(value, schema):
    """Compare the fields of objects with those of their schema, however deep; a list needs a row."""
    if "items" in schema:
        assert value
        for row in value:
            assert_fields(row, schema["items"])
    for name, inner in schema.get("properties", {}).items():
        assert value.keys() == schema["properties"].keys()
        assert_fields(value[name], inner)


def test_each_dimension_of_the_register_may_be_asked_for(settings):
    asked, client = f"{REPORT}?{DAY}&dimension=section", a_reader()
    assert client.get(asked).json()["detail"] == "dimension is 'section'. Use page."
    with dimensions.also(A_SECTION):
        for path_ in ("/blog/a", "/blog/b", "/about"):
            record_page_view(a_hit(path=path_, at=T0))
        rows = client.get(asked).json()["rows"]
        assert [(row["value"], row["views"], row["visitors"]) for row in rows] == [("blog", 2, 1), ("about", 1, 1)]
        assert client.get(f"{asked}&value=blog").json()["views"] == 2
        settings.PAGESTATS_PUBLIC = True
        public, one = Client().get(asked), Client().get(f"{asked}&value=blog")
        assert (public.json()["rows"], one.status_code) == ([], 404)  # it has no values that the public may see
        assert client.get(asked).json()["rows"] == rows


def test_a_report_of_a_page_is_compared_where_that_is_asked_for(settings):
    settings.PAGESTATS_IDENTITY = "cookie"
    for path_ in ("/a", "/b"):
        record_page_view(a_hit(path=path_, at=T0))
    told = a_reader().get(f"{REPORT}?start=2026-03-15&end=2026-03-15&dimension=page&value=/a&compare=true").json()
    assert (told["value"], told["views"], told["returning_visitors"]) == ("/a", 0, 0)
    assert (told["previous"]["views"], told["previous"]["end"]) == (1, "2026-03-14")
    assert told["year_before"]["start"] == "2025-03-15"


def test_rows_of_a_report_are_cut_by_limit_and_offset():
    raw_views([(f"/{number:04}", "s", T0) for number in range(1001)])
    client, asked = a_reader(), f"{REPORT}?start=2026-03-14&end=2026-03-14&dimension=page"
    assert len(client.get(asked).json()["rows"]) == 100
    told = client.get(f"{asked}&limit=1000&offset=999").json()
    assert ([row["value"] for row in told["rows"]], told["total_rows"]) == (["/0999", "/1000"], 1001)


DAY = "start=2026-03-14&end=2026-03-14"


def test_rows_of_a_report_are_searched(settings, monkeypatch):
    settings.PAGESTATS_CONTENT = CONTENT
    Post.objects.create(slug="hello", title="Grüße", published=True)
    raw_views([(path_, session_id, T0) for path_ in ("/a", "/b") for session_id in "st"] + [("/hello", "s", T0)])
    asked = f"{REPORT}?{DAY}&dimension=page&search=gr%C3%BCSSE"
    told = a_reader().get(f"{asked}&limit=1").json()
    assert ([row["value"] for row in told["rows"]], told["total_rows"], told["views"]) == (["/hello"], 1, 5)

    settings.PAGESTATS_PUBLIC = True
    assert [row["value"] for row in Client().get(asked).json()["rows"]] == ["/hello"]
    monkeypatch.setattr("pagestats.stats.titled.MOST_LOOKED_AT", 2)
    assert Client().get(asked).json()["rows"] == []


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "start is missing. Give a reporting day, such as 2026-01-31."),
        ("start=2026-03-14", "end is missing."),
        ("start=2026-02-30&end=2026-03-14", "start is '2026-02-30', not a day, such as 2026-01-31."),
        ("start=20260314&end=2026-03-14", "start is '20260314', not a day"),
        ("start=2026-W11-6&end=2026-03-14", "not a day"),
        ("start=٢٠٢٦-03-14&end=2026-03-14", "not a day"),
        ("start=2026-03-15&end=2026-03-14", "start is 2026-03-15, after end, which is 2026-03-14. Exchange them."),
        ("start=1969-03-15&end=2026-03-14", "outside the years 1970 to 2199"),
        ("start=2000-03-15&end=2026-03-14", "Ask for at most 3,660."),
        ("start=2026-03-01&end=2026-03-14&by=hour", "too many for hours"),
        (f"{DAY}&by=week", "by is 'week'. Use day or hour."),
        (f"{DAY}&dimension=country", "dimension is 'country'. Use page."),
        (f"{DAY}&value=/a", "value is '/a', without a dimension."),
        (f"{DAY}&dimension=page&value=%00", "value is '\\x00', with a NUL character"),
        (f"{DAY}&compare=1", "compare is '1'. Use true or false."),
        (f"{DAY}&limit=1001", "limit is '1001', not a whole number from 0 to 1000."),
        (f"{DAY}&offset=-1", "offset is '-1', not a whole number from 0 to 1000000."),
        (f"{DAY}&search=a", "search is 'a', and there are no rows to search."),
        (f"{DAY}&dimension=page&search={'a' * 201}", "search is 201 characters long, over 200."),
    ],
)
def test_an_invalid_range_is_refused_with_the_reason(query, why):
    response = a_reader().get(f"{REPORT}?{query}")
    assert response.status_code == 400
    assert why in response.json()["detail"]


def test_a_report_that_cannot_be_told_is_refused_with_the_reason():
    for at in (T0 - timedelta(days=1), T0):
        record_page_view(a_hit(at=at))
    Calendar.unguarded.update(sealed_before="2026-03-14")
    Seal.unguarded.create(before="2026-03-14", open_from="2026-03-14")
    page = a_reader().get(f"{REPORT}?start=2026-03-13&end=2026-03-14&dimension=page&value=/a")
    assert (page.status_code, page.json()["detail"][:30]) == (400, "Visitors of '/a' aren't availa")
    pages = Client()
    pages.force_login(User.objects.get())
    told = pages.get(f"{REPORT}?start=2026-03-13&end=2026-03-14&dimension=page").json()
    assert (told["rows"][0]["visitors"], told["reason"][:21]) == (None, "Visitors of some rows")


def test_the_public_reads_of_a_range_what_is_no_secret(settings):
    settings.PAGESTATS_PUBLIC = True
    for path_ in ("/reset/1", "/"):
        record_page_view(a_hit(path=path_, at=T0))
    told = Client().get(f"{REPORT}?{DAY}&dimension=page").json()
    assert ([row["value"] for row in told["rows"]], told["total_rows"], told["views"]) == (["/"], 2, 2)
    secret, unknown = (
        Client().get(f"{REPORT}?{DAY}&dimension=page&value={path_}") for path_ in ("/reset/1", "/reset/2")
    )
    assert (secret.status_code, unknown.status_code) == (404, 404)
    assert secret.json()["detail"] == "'/reset/1' is not a page of this site."
    assert a_reader().get(f"{REPORT}?{DAY}&dimension=page&value=/reset/1").json()["views"] == 1


def test_a_page_view_is_recorded_once():
    for _ in range(3):
        response = send({"path": "/posts/hello/"})
        assert (response.status_code, response.content) == (204, b"")
    assert paths() == ["/posts/hello/"]
    assert not ActiveSession.objects.exists()
    assert tallied() == {("recorded", ""): 1, ("repeat", ""): 2}


def test_a_heartbeat_is_recorded_and_is_no_page_view():
    assert send({"path": "/posts/hello/"}, to=HEARTBEATS).status_code == 204
    assert ActiveSession.objects.get().current_path == "/posts/hello/"
    assert paths() == []
    assert tallied() == {}


def test_a_page_view_and_a_heartbeat_of_a_browser_are_of_one_session():
    send()
    send(to=HEARTBEATS)
    assert PageView.objects.get().session_id == ActiveSession.objects.get().session_id


def test_a_page_that_the_middleware_recorded_is_a_repeat_for_the_script_on_it(settings):
    settings.MIDDLEWARE = ["pagestats.middleware.PageViewMiddleware", *settings.MIDDLEWARE]
    client = Client(headers={"user-agent": CHROME, "host": "example.com"})
    assert client.get("/all/caf%C3%A9").content == b"a page"
    send({"path": "/all/caf%C3%A9"}, client=client)
    send({"path": "/all/caf%C3%A9"}, to=HEARTBEATS, client=client)
    assert paths() == ["/all/café"]
    assert PageView.objects.get().session_id == ActiveSession.objects.get().session_id


@pytest.mark.parametrize(
    "content_type", ["text/plain;charset=UTF-8", "text/plain", "application/json; charset=utf-8", "Application/JSON"]
)
def test_a_beacon_may_be_sent_as_text(content_type):
    assert send(content_type=content_type).status_code == 204
    assert paths() == ["/"]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("/all/caf%C3%A9", "/all/café"),
        ("/all/café", "/all/café"),
        ("/all/a%20b", "/all/a b"),
        ("/all/100%25", "/all/100%"),
        ("/all/%ff", "/all/%FF"),
        ("/all/%ED%A0%80", "/all/%ED%A0%80"),
        ("/all/a%2Fb", "/all/a/b"),
    ],
)
def test_a_path_is_kept_as_the_middleware_keeps_that_of_a_request(sent, stored):
    assert send({"path": sent}).status_code == 204
    assert paths() == [stored]
    environ = {
        "PATH_INFO": unquote_to_bytes(sent).decode("latin-1"),
        "REQUEST_METHOD": "GET",
        "wsgi.input": io.BytesIO(),
    }
    assert WSGIRequest(environ).path == stored


def test_a_long_path_is_shortened_as_any():
    assert send({"path": "/all/" + "y" * 3000}).status_code == 204
    assert len(paths()[0]) == 512


@pytest.mark.parametrize(
    ("path_", "reason"),
    [
        ("/nowhere", "unknown_path"),
        ("/posts/a b/", "unknown_path"),
        ("/posts/", "unknown_path"),
        ("//", "unknown_path"),
        ("/constructor", "unknown_path"),
        ("/posts/a%00b/", "invalid_path"),
        ("/all/%00", "invalid_path"),
    ],
)
def test_a_path_that_is_no_page_is_refused(path_, reason):
    response = send({"path": path_})
    assert response.status_code == 404
    assert response.json()["detail"].endswith(" is not a page of this site.")
    assert paths() == []
    assert tallied() == {("not_stored", reason): 1}


def test_a_path_that_a_setting_allows_is_taken_as_a_whole(settings):
    settings.PAGESTATS_CLIENT_PATHS = [r"/app/\w+"]
    assert [send({"path": path_}).status_code for path_ in ("/app/inbox", "/app/in/box", "/x/app/inbox")] == [
        204,
        404,
        404,
    ]
    assert paths() == ["/app/inbox"]


def test_what_the_site_excludes_is_received_and_not_recorded(settings):
    settings.PAGESTATS_EXCLUDE = ["/private/", "pagestats:"]
    settings.PAGESTATS_CLIENT_PATHS = ["/private/.*"]
    assert [send({"path": path_}).status_code for path_ in ("/private/a", STATS)] == [204, 204]
    assert paths() == []
    assert tallied() == {("not_stored", "excluded"): 2}


class InLanguages:
    """URL patterns of a site in several languages."""

    urlpatterns = [
        path("api/", include("pagestats.urls")),
        *i18n_patterns(path("about/", a_page), prefix_default_language=False),
    ]


@pytest.mark.parametrize(("path_", "status"), [("/nl/about/", 204), ("/about/", 204), ("/xx/about/", 404)])
@pytest.mark.parametrize("language", ["nl", "en", "fr"])
def test_a_page_is_found_in_its_own_language(settings, path_, status, language):
    settings.ROOT_URLCONF = InLanguages
    settings.MIDDLEWARE = ["django.middleware.locale.LocaleMiddleware"]
    assert send({"path": path_}, accept_language=language).status_code == status


class InWordsOfALanguage:
    """URL patterns that are translated, and have no language in front."""

    urlpatterns = [path("api/", include("pagestats.urls")), path(gettext_lazy("Yes"), a_page)]


def test_a_page_with_a_translated_path_is_found_in_its_readers_language(settings):
    settings.ROOT_URLCONF = InWordsOfALanguage
    settings.MIDDLEWARE = ["django.middleware.locale.LocaleMiddleware"]
    assert [send({"path": path_}, accept_language="de").status_code for path_ in ("/Ja", "/Yes", "/Oui")] == [
        204,
        204,
        404,
    ]


@pytest.mark.parametrize(("path_", "status"), [("/site/posts/a/", 204), ("/posts/a/", 404), ("/siteposts/a/", 404)])
def test_a_site_below_a_prefix_is_sent_whole_paths(path_, status):
    with override_script_prefix("/site/"):
        assert send({"path": path_}).status_code == status
    assert paths() == ["/site/posts/a/"] * (status == 204)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"user_agent": GOOGLEBOT}, "bot"),
        ({"user_agent": None}, "bot"),
        ({"sec_purpose": "prefetch;prerender"}, "prefetch"),
    ],
)
def test_who_is_no_visitor_is_not_recorded(headers, reason, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert send(**headers).status_code == 204
    assert tallied() == {("not_stored", reason): 1}


def test_staff_is_left_out_where_the_site_says_so(settings):
    settings.PAGESTATS_EXCLUDE_STAFF = True
    client = a_reader()
    User.objects.update(is_staff=True)
    assert send(client=client).status_code == 204
    assert tallied() == {("not_stored", "staff"): 1}


def test_a_login_is_neither_needed_nor_looked_at(django_capture_queries):
    client = a_reader()
    statements = django_capture_queries(lambda: send(client=client))
    assert not [statement for statement in statements if re.search("django_session|auth_user", statement)]


def test_no_cookie_is_set_and_nothing_varies():
    response = send()
    assert response.cookies == {}
    assert "Vary" not in response.headers


def test_when_switched_off_nothing_is_asked_of_the_database(settings, monkeypatch, django_assert_num_queries):
    settings.PAGESTATS_ENABLED = False
    monkeypatch.setattr(cache, "get", lambda *arguments: pytest.fail("a cache may be in the database"))
    with django_assert_num_queries(0):
        for body in ({"path": "/"}, b"nonsense"):
            assert send(body, sec_fetch_site="cross-site").status_code == 204
    assert tallied() == {}


TRACKER = {PAGE_VIEWS: "/hello/page/", HEARTBEATS: "/hello/here/"}


@pytest.mark.parametrize("to", TRACKER)
def test_the_endpoints_of_the_tracker_answer_as_the_api_does(settings, to, monkeypatch, expected_errors):
    settings.ALLOWED_HOSTS = ["example.com"]
    settings.MIDDLEWARE = []

    def answers(to):
        cache.clear()
        settings.PAGESTATS_THROTTLE = "120/min"
        yield send(to=to)
        yield send(b"{", to=to)
        yield send({"path": "/nowhere"}, to=to)
        yield send(b" " * 5000, to=to)
        yield send(content_type="text/html", to=to)
        yield send(sec_fetch_site="cross-site", to=to)
        yield send(host="evil.example", to=to)
        yield send(user_agent=GOOGLEBOT, to=to)
        yield send_raw(b"", PATH_INFO=to, HTTP_HOST="example.com")[0]
        for method in ("GET", "HEAD", "PUT", "OPTIONS", "NONSENSE"):
            yield Client(headers={"host": "example.com"}).generic(method, to)
        settings.PAGESTATS_THROTTLE = "1/min"
        yield send(to=to)
        settings.PAGESTATS_THROTTLE = "120/min"
        with monkeypatch.context() as broken:
            broken.setattr(cache, "get", lambda *arguments: 1 / 0)
            yield send(to=to)

    def seen(to):
        ignored = {"Content-Length", "Retry-After"}
        return [
            (
                answer.status_code,
                answer.content,
                {name: value for name, value in answer.headers.items() if name not in ignored},
            )
            for answer in answers(to)
        ]

    by_the_api, by_the_tracker = seen(to), seen(TRACKER[to])
    statuses = [204, 400, 404, 413, 415, 403, 400, 204, 411, 405, 405, 405, 405, 405, 429, 503]
    assert [status for status, _, _ in by_the_api] == statuses
    # DRF adds to each answer which methods are allowed.
    for status, _, headers in by_the_api:
        if status != 405:
            del headers["Allow"]
    assert by_the_tracker == by_the_api
    assert len(expected_errors()) == 2


@pytest.mark.parametrize("to", [PAGE_VIEWS, HEARTBEATS])
def test_a_repeat_costs_few_queries(to, django_capture_queries):
    send(to=to)
    statements = django_capture_queries(lambda: send(to=to))
    assert len(statements) <= 2
    assert all(statement.startswith("SELECT") for statement in statements)


def test_the_id_of_a_browser_is_taken_where_identity_is_client(settings):
    settings.PAGESTATS_IDENTITY = "client"
    assert send({"path": "/", "session_id": SESSION}).status_code == 204
    assert send({"path": "/", "session_id": SESSION}, to=HEARTBEATS).status_code == 204
    assert (PageView.objects.get().session_id, ActiveSession.objects.get().session_id) == (SESSION, SESSION)


@pytest.mark.parametrize("body", [{"path": "/"}, {"path": "/", "session_id": ""}, {"path": "/", "session_id": None}])
def test_it_is_needed_there(settings, body):
    settings.PAGESTATS_IDENTITY = "client"
    response = send(body)
    assert response.status_code == 400
    assert "session_id" in response.json()["detail"]


@pytest.mark.parametrize("session_id", ["short", "x" * 65, "a\nb" * 10, "é" * 20, "<script>alert(1)</script>"])
def test_an_id_that_no_browser_makes_is_refused(settings, session_id):
    settings.PAGESTATS_IDENTITY = "client"
    assert not re.fullmatch(openapi.SESSION_ID, session_id)
    assert send({"path": "/", "session_id": session_id}).status_code == 400
    assert paths() == []


@pytest.mark.parametrize("identity", ["anonymous", "cookie", "tests.db.test_api.everybody"])
def test_nobody_chooses_an_id_elsewhere(settings, identity):
    settings.PAGESTATS_IDENTITY = identity
    response = send({"path": "/", "session_id": SESSION})
    assert response.status_code == 400
    assert response.json() == {"detail": "The body has the unknown key 'session_id'. Leave it out."}
    assert paths() == []


def everybody(request, *, at, claimed):
    return None if request.path == HEARTBEATS else "everybody"


everybody.lifetime = "lasting"


def test_an_identity_of_the_sites_own_is_asked(settings):
    settings.PAGESTATS_IDENTITY = "tests.db.test_api.everybody"
    assert (send().status_code, send(to=HEARTBEATS).status_code) == (204, 204)
    assert PageView.objects.get().session_id == "everybody"
    assert tallied() == {("recorded", ""): 1, ("not_stored", "no_session_id"): 1}


def test_a_cookie_is_set_where_the_identity_is_one(settings):
    settings.PAGESTATS_IDENTITY = "cookie"
    client = Client()
    first, second = send(client=client), send(to=HEARTBEATS, client=client)
    assert (len(first.cookies), len(second.cookies)) == (1, 0)
    assert first.headers["Cache-Control"] == "no-store"
    assert PageView.objects.get().session_id == ActiveSession.objects.get().session_id


def test_a_client_without_an_address_is_not_recorded():
    client = Client(REMOTE_ADDR="unix:")
    assert send(client=client).status_code == 204
    assert tallied() == {("not_stored", "no_address"): 1}


@pytest.mark.parametrize(
    ("site", "origin", "status"),
    [
        ("same-origin", None, 204),
        ("same-origin", "https://evil.example", 204),
        ("cross-site", "https://example.com", 403),
        ("same-site", "https://example.com", 403),
        ("none", None, 403),
        ("", "https://example.com", 403),
        ("same-origin, cross-site", None, 403),
        (None, "https://example.com", 204),
        (None, "http://EXAMPLE.com", 204),
        (None, "https://example.com:8443", 403),
        (None, "https://evil.example", 403),
        (None, "https://example.com.evil.example", 403),
        (None, "https://evil.example/?example.com", 403),
        (None, "https://example.com@evil.example", 403),
        (None, "https://evil.example@example.com", 403),
        (None, "https://notexample.com", 403),
        (None, "https://www.example.com", 403),
        (None, "ftp://example.com", 403),
        (None, "example.com", 403),
        (None, "null", 403),
        (None, "https://[", 403),
        (None, "", 403),
        (None, None, 403),
    ],
)
def test_only_pages_of_the_site_may_send(site, origin, status):
    assert send(sec_fetch_site=site, origin=origin).status_code == status
    assert len(paths()) == (status == 204)
    assert tallied() == ({("recorded", ""): 1} if status == 204 else {("not_stored", "cross_origin"): 1})


def test_a_port_is_part_of_the_origin():
    host = "example.com:8000"
    assert send(sec_fetch_site=None, host=host, origin="http://example.com:8000").status_code == 204
    assert send(sec_fetch_site=None, host=host, origin="http://example.com").status_code == 403


def test_a_host_that_is_not_allowed_is_refused(settings):
    settings.ALLOWED_HOSTS = ["example.com"]
    settings.MIDDLEWARE = []
    for headers in ({}, {"sec_fetch_site": None, "origin": "https://evil.example"}):
        response = send(host="evil.example", **headers)
        assert (response.status_code, response.headers["Cache-Control"]) == (400, "no-store")
    assert paths() == []
    assert tallied() == {("not_stored", "suspicious"): 2}


def test_a_page_of_another_site_learns_nothing():
    response = send(origin="https://evil.example", sec_fetch_site="cross-site")
    assert not [name for name in response.headers if name.startswith("Access-Control")]


def test_a_client_that_comes_too_often_is_told_when_to_come_again(settings, monkeypatch):
    settings.PAGESTATS_THROTTLE = "2/min"
    clock = [1000.0]
    monkeypatch.setattr("pagestats.intake.throttling.time", lambda: clock[0])
    assert [send().status_code for _ in range(2)] == [204, 204]
    clock[0] += 20.5
    response = send()
    assert (response.status_code, response.headers["Retry-After"]) == (429, "40")
    assert send(to=HEARTBEATS).status_code == 204
    clock[0] += 39
    assert send().status_code == 429
    clock[0] += 1
    assert send().status_code == 204
    assert tallied()["not_stored", "throttled"] == 2


def test_a_rate_that_was_lowered_says_when_too(settings, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("pagestats.intake.throttling.time", lambda: clock[0])
    for _ in range(3):
        send()
        clock[0] += 10
    settings.PAGESTATS_THROTTLE = "1/min"
    assert send().headers["Retry-After"] == "50"


def test_a_client_is_an_address_that_it_cannot_choose(settings):
    settings.PAGESTATS_THROTTLE = "1/min"
    client = Client(REMOTE_ADDR="203.0.113.7")
    statuses = [
        send(client=client, x_forwarded_for=f"198.51.100.{number}", user_agent=f"{CHROME} {number}").status_code
        for number in range(3)
    ]
    assert statuses == [204, 429, 429]
    assert send(client=Client(REMOTE_ADDR="203.0.113.8")).status_code == 204


def test_behind_a_trusted_proxy_each_client_is_one(settings):
    settings.PAGESTATS_THROTTLE = "1/min"
    assert [send(x_forwarded_for=f"203.0.113.{number}").status_code for number in (7, 8, 7)] == [204, 204, 429]
    assert send(x_forwarded_for="198.51.100.1, 203.0.113.7").status_code == 429


def test_an_ipv6_network_is_one_client(settings):
    settings.PAGESTATS_THROTTLE = "1/min"
    addresses = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::1", "2001:db8:1:3::1"]
    assert [send(client=Client(REMOTE_ADDR=address)).status_code for address in addresses] == [204, 429, 204]


def test_the_cache_holds_no_address(settings, monkeypatch):
    keys = []
    monkeypatch.setattr(cache, "set", lambda key, *arguments: keys.append(key))
    send(client=Client(REMOTE_ADDR="203.0.113.7"))
    assert len(keys) == 2
    assert all(re.fullmatch("pagestats.throttle.[0-9a-f]{64}", key) for key in keys)


def test_one_client_cannot_fill_the_tables_with_new_paths(settings):
    settings.PAGESTATS_THROTTLE_NEW_PATHS = "2/day"
    record_page_view(a_hit(path="/all/known", at=instant(None)))
    names = ["a", "b", "c", "a", "known", "d"]
    responses = [send({"path": f"/all/{name}"}) for name in names]
    assert [response.status_code for response in responses] == [204, 204, 429, 204, 204, 429]
    assert 86_000 < int(responses[2].headers["Retry-After"]) <= 86_400
    assert paths() == ["/all/known", "/all/a", "/all/b", "/all/known"]
    assert tallied() == {("recorded", ""): 3, ("repeat", ""): 1, ("not_stored", "new_paths"): 2}
    assert send({"path": "/all/c"}, client=Client(REMOTE_ADDR="203.0.113.8")).status_code == 204


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("patience", "status", "tries"), [(0, 503, 1), (60, 204, 3)])
def test_a_beacon_that_has_waited_long_is_answered_without_another_try(
    monkeypatch, expected_errors, patience, status, tries
):
    monkeypatch.setattr("pagestats.intake.recorders.REQUEST_RETRY_SECONDS", patience)
    with Failing(2) as failing:
        assert send({"path": "/all/a"}).status_code == status
    assert failing.calls == tries
    assert len(expected_errors()) == (status == 503)


def test_a_path_whose_views_are_pending_is_not_new(settings):
    settings.PAGESTATS_ROLLUPS = "deferred"
    settings.PAGESTATS_THROTTLE_NEW_PATHS = "1/day"
    assert [send({"path": "/all/a"}).status_code for _ in range(3)] == [204, 204, 204]
    assert send({"path": "/all/b"}).status_code == 429


def test_reading_is_throttled_too(settings):
    settings.PAGESTATS_THROTTLE = "1/min"
    settings.PAGESTATS_PUBLIC = True
    assert [Client().get(STATS).status_code for _ in range(2)] == [200, 429]


HOSTILE = {
    "empty": b"",
    "space": b" ",
    "not JSON": b"path=/",
    "half": b'{"path": "/"',
    "more": b'{"path": "/"} {}',
    "array": b'[{"path": "/"}]',
    "string": b'"/"',
    "number": b"1",
    "null": b"null",
    "true": b"true",
    "NaN": b"NaN",
    "NaN inside": b'{"path": NaN}',
    "Infinity": b'{"path": "/", "x": -Infinity}',
    "huge number": b"1" * 4000,
    "huge exponent": b'{"path": 1e999999}',
    "deep array": b"[" * 4096,
    "deep object": b'{"path":' * 500,
    "deep in another field": b'{"path": "/", "x": ' + b"[" * 1900 + b"]" * 1900 + b"}",
    "a deep path": b'{"path": ' + b"[" * 1900 + b"]" * 1900 + b"}",
    "deep and closed": b"[" * 2000 + b"]" * 2000,
    "the same key twice": b'{"path": "/", "path": "/posts/a/"}',
    "another field": b'{"path": "/", "page_type": "home"}',
    "a field of an object's own": b'{"path": "/", "__proto__": {}}',
    "no path": b"{}",
    "a path of null": b'{"path": null}',
    "a path of a number": b'{"path": 1}',
    "a path of a list": b'{"path": ["/"]}',
    "a path of an object": b'{"path": {"$ne": ""}}',
    "an empty path": b'{"path": ""}',
    "a path without a slash": b'{"path": "posts/a/"}',
    "a URL": b'{"path": "https://example.com/"}',
    "NUL": b'{"path": "/all/a\\u0000b"}',
    "a raw NUL": b'{"path": "/all/a\x00b"}',
    "a lone surrogate": b'{"path": "/all/\\ud800"}',
    "a surrogate in a key": b'{"path": "/", "\\udfff": 1}',
    "broken UTF-8": b'{"path": "/all/\xff"}',
    "Latin-1": '{"path": "/all/é"}'.encode("latin-1"),
    "UTF-16": '{"path": "/"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"path": "/"}',
    "a comment": b'{"path": "/"} // here',
    "single quotes": b"{'path': '/'}",
    "a comma too many": b'{"path": "/",}',
}


@pytest.mark.parametrize("to", [PAGE_VIEWS, HEARTBEATS])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain;charset=UTF-8"])
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_invalid_body_is_refused_with_the_reason_and_not_stored(to, content_type, body):
    client = Client(CONTENT_LENGTH="0") if body == b"" else None
    response = send(body, to=to, content_type=content_type, client=client)
    assert response.status_code == 400
    assert len(response.json()["detail"]) > 10
    assert len(response.content) < 400
    assert not PageView.objects.exists()
    assert not ActiveSession.objects.exists()
    assert tallied() == {("not_stored", "invalid_body"): 1}


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/html",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "text/plain; charset=latin-1",
        "text/plain; charset=no-such-thing",
        "application/*",
        "*/*",
        ";;;",
        "a" * 9000,
    ],
)
def test_a_body_of_another_type_is_refused(content_type):
    assert send(content_type=content_type).status_code == 415
    assert tallied() == {("not_stored", "unsupported_media_type"): 1}


@pytest.mark.parametrize(("extra", "status"), [(0, 204), (1, 413), (10_000, 413), (3_000_000, 413)])
def test_a_body_has_at_most_4096_bytes(extra, status):
    body = json.dumps({"path": "/"}).encode()
    assert send(body.ljust(4096 + extra)).status_code == status


class Watched(io.BytesIO):
    """A stream that remembers how much of it was asked for."""

    asked = 0

    def read(self, size=-1):
        self.asked += size if size >= 0 else 10**9
        return super().read(size)


def send_raw(body, **environ):
    """Post a stream, with what a server says of it."""
    stream = Watched(body)
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": PAGE_VIEWS, "wsgi.input": stream, **environ}
    environ |= {"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_USER_AGENT": CHROME, "CONTENT_TYPE": "application/json"}
    response = Client().request(**environ)
    return response, stream


def test_a_body_that_says_it_is_long_is_not_read():
    response, stream = send_raw(b" " * 10**6, CONTENT_LENGTH="1000000")
    assert (response.status_code, stream.asked) == (413, 0)


def test_no_more_is_read_than_the_length_says():
    body = b'{"path": "/"}'
    response, stream = send_raw(body + b" " * 10**6, CONTENT_LENGTH=str(len(body)))
    assert (response.status_code, stream.tell()) == (204, len(body))


def test_a_body_that_is_shorter_than_it_says_is_taken_for_what_it_is():
    assert send_raw(b'{"path": "/"}', CONTENT_LENGTH="4000")[0].status_code == 204
    assert send_raw(b'{"path": "/', CONTENT_LENGTH="4000")[0].status_code == 400


@pytest.mark.parametrize("length", [None, "", "-1", "+5", "1e3", "four", "٣", "0x10", "1" * 30])
def test_a_body_of_no_known_length_is_not_read(length):
    environ = {} if length is None else {"CONTENT_LENGTH": length}
    response, stream = send_raw(b'{"path": "/"}' + b" " * 10**6, HTTP_TRANSFER_ENCODING="chunked", **environ)
    assert (response.status_code, stream.asked) == (411, 0)
    assert tallied() == {("not_stored", "length_required"): 1}


@pytest.mark.parametrize(("extra", "status"), [(0, 204), (10_000, 413), (3_000_000, 413)])
def test_an_async_site_takes_the_same(extra, status):
    body = json.dumps({"path": "/"}).encode()
    headers = {"user-agent": CHROME, "sec-fetch-site": "same-origin"}

    async def post():
        return await AsyncClient().generic(
            "POST", PAGE_VIEWS, body + b" " * extra, content_type="text/plain", headers=headers
        )

    response = async_to_sync(post)()
    assert response.status_code == status
    assert paths() == ["/"] * (status == 204)


def test_a_body_that_breaks_off_is_no_failure():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise OSError("the browser is gone")

    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": PAGE_VIEWS, "wsgi.input": Broken(), "CONTENT_LENGTH": "10"}
    environ |= {"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_USER_AGENT": CHROME, "CONTENT_TYPE": "application/json"}
    assert Client().request(**environ).status_code == 400


@pytest.mark.parametrize(("to", "verb"), [(PAGE_VIEWS, "record_page_view"), (HEARTBEATS, "record_heartbeat")])
@pytest.mark.parametrize("error", [OperationalError("no database today"), RuntimeError("a mistake")])
def test_a_failure_to_record_is_logged_and_tallied_and_no_error_page(to, verb, error, monkeypatch, expected_errors):
    def fail(hit, **options):
        raise error

    monkeypatch.setattr(f"pagestats.intake.recorders.{verb}", fail)
    response = send(to=to)
    assert (response.status_code, response.json()) == (
        503,
        {"detail": "The request could not be completed. Try again later."},
    )
    (record,) = expected_errors()
    assert record.getMessage() == f"POST {to!r} failed."
    assert record.exc_info[1] is error
    assert tallied() == {("failed", type(error).__name__): 1}


def test_a_cache_that_is_down_is_no_error_page(monkeypatch, expected_errors):
    def fail(*arguments):
        raise ConnectionError("no cache today")

    monkeypatch.setattr(cache, "get", fail)
    assert send().status_code == 503
    assert len(expected_errors()) == 1
    assert paths() == []


def test_figures_that_cannot_be_read_are_no_error_page(monkeypatch, expected_errors, settings):
    def fail(**arguments):
        raise OperationalError("no database today")

    settings.PAGESTATS_PUBLIC = True
    monkeypatch.setattr("pagestats.api.viewset.snapshot", fail)
    assert Client().get(STATS).status_code == 503
    assert len(expected_errors()) == 1
    assert tallied() == {}


@pytest.mark.parametrize("to", [STATS, REPORT, PAGE_VIEWS, HEARTBEATS])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE"])
def test_other_methods_are_not_allowed(to, method):
    allowed = {"GET", "HEAD"} if to in (STATS, REPORT) else {"POST"}
    if method in allowed:
        return
    response = Client().generic(method, to)
    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == allowed
    assert response.headers["Cache-Control"] == "no-store"


def test_every_answer_stays_out_of_caches(settings):
    reader = a_reader()
    answers = [
        reader.get(STATS),
        reader.get(f"{STATS}?limit=x"),
        Client().get(STATS),
        Client().put(STATS),
        send(),
        send({}),
        send({"path": "/nowhere"}),
        send(b" " * 5000),
        send(content_type="text/html"),
        send(sec_fetch_site="cross-site"),
    ]
    settings.PAGESTATS_THROTTLE = "1/min"
    answers.append(send())
    assert [answer.status_code for answer in answers] == [200, 400, 401, 405, 204, 400, 404, 413, 415, 403, 429]
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}


@pytest.mark.parametrize(
    "accept", ["text/html", "application/xml", "application/json; indent=8", "nonsense", "*/*;q=0"]
)
def test_the_answer_is_json_whatever_is_accepted(accept, settings):
    settings.PAGESTATS_PUBLIC = True
    response = Client().get(f"{STATS}?format=xml", headers={"accept": accept})
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    assert b"\n" not in response.content


ON_A_HOSTILE_SITE = """
import json, re, sys
import django
from django.conf import settings
from tests import hostile_site
settings.REST_FRAMEWORK = hostile_site.REST_FRAMEWORK if sys.argv[1] == "hostile" else {}
settings.ROOT_URLCONF = "tests.db.test_api"
settings.PAGESTATS_PUBLIC = True
settings.DATABASES["default"]["NAME"] = sys.argv[2]
settings.MIDDLEWARE = []
settings.INSTALLED_APPS.remove("rest_framework")
django.setup()
from django.core.management import call_command
from django.test import Client
from tests.db import test_api
call_command("migrate", verbosity=0)
answers = [
    test_api.send({"path": "/all/caf%C3%A9"}, host="testserver"),
    test_api.send({"path": "/all/caf%C3%A9"}, to=test_api.HEARTBEATS, host="testserver"),
    test_api.send({}, host="testserver"),
    test_api.send({"path": "/nowhere"}, host="testserver"),
    test_api.send(content_type="application/x-www-form-urlencoded", host="testserver"),
    test_api.send(sec_fetch_site="cross-site", host="testserver"),
    Client().put(test_api.STATS),
    Client().options(test_api.STATS),
    Client().get(test_api.STATS, headers={"accept": "text/html"}),
    Client().get(test_api.STATS + "?limit=x&page=1&version=3&format=api"),
    Client().get(test_api.REPORT + "?start=2026-03-14&end=2026-03-14&dimension=page", headers={"accept": "text/html"}),
]
settings.PAGESTATS_PUBLIC = False
answers.append(Client().get(test_api.STATS))
settings.PAGESTATS_THROTTLE = "1/min"
answers.append(test_api.send(host="testserver"))
for answer in answers:
    body = re.sub("20[0-9T:.-]{24}Z", "a time", answer.content.decode())
    headers = {name: value for name, value in answer.headers.items() if name not in {"Content-Length", "Retry-After"}}
    print(json.dumps([answer.status_code, headers, body]))
"""


def test_the_settings_of_the_sites_own_api_change_nothing(tmp_path):
    """In processes of their own: DRF reads most of its settings once, when it is imported."""

    def answers(site):
        command = [sys.executable, "-c", ON_A_HOSTILE_SITE, site, str(tmp_path / f"{site}.sqlite3")]
        environment = {
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PAGESTATS_TEST_DB": "sqlite",
        }
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    plain = answers("plain")
    assert [status for status, _, _ in plain] == [204, 204, 400, 404, 415, 403, 405, 405, 200, 400, 200, 401, 429]
    assert answers("hostile") == plain


WITHOUT_SPECTACULAR = """
import sys
sys.modules["drf_spectacular"] = None
import django
django.setup()
from pagestats import api, urls
assert api.StatsViewSet.schema is None
print(*(route.name for route in urls.urlpatterns))
"""


def test_all_else_works_without_drf_spectacular():
    environment = {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-c", WITHOUT_SPECTACULAR]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == (
        "stats-list stats-active stats-heartbeats stats-page-views stats-report\n",
        "",
    )


def test_the_routes_are_named():
    names = {
        "stats-list": STATS,
        "stats-report": REPORT,
        "stats-page-views": PAGE_VIEWS,
        "stats-heartbeats": HEARTBEATS,
    }
    assert {name: reverse(f"pagestats:{name}") for name in names} == names


def test_a_hit_is_recorded_outside_the_transaction_of_a_request(monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    for to in (STATS, REPORT, PAGE_VIEWS, HEARTBEATS, *TRACKER.values()):
        view = resolve(to).func
        assert BaseHandler().make_view_atomic(view) is view
