from functools import partial
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import override_script_prefix
from django.urls import include, path, resolve

from pagestats.middleware import PageViewMiddleware
from pagestats.models import ActiveSession, PageView
from pagestats.tallies import tallies
from tests.agents import CHROME, GOOGLEBOT
from tests.factories import Failing


def a_request(path="/a", *, method="GET", address="203.0.113.7", **headers):
    return RequestFactory().generic(method, path, REMOTE_ADDR=address, headers={"user-agent": CHROME, **headers})


def serve(request, response=None):
    response = response if response is not None else HttpResponse("a page")
    assert PageViewMiddleware(lambda _: response)(request) is response
    return response


@pytest.mark.django_db
def test_a_page_is_recorded_once_with_a_heartbeat():
    for _ in range(3):
        serve(a_request("/a?query=left out"))
    view, session = PageView.objects.get(), ActiveSession.objects.get()
    assert (view.path, session.current_path) == ("/a", "/a")
    assert view.session_id == session.session_id


NOT_A_PAGE = [
    ("method", {"method": "POST"}, {}),
    ("method", {"method": "HEAD"}, {}),
    ("status", {}, {"status": 404}),
    ("status", {}, {"status": 302}),
    ("status", {}, {"status": 206}),
    ("no_document", {}, {"content_type": "application/json"}),
    ("no_document", {}, {"content_type": ""}),
    ("no_document", {}, {"status": 304}),
    ("no_document", {"sec-fetch-dest": "image", "accept": "text/html"}, {"status": 304}),
    ("no_document", {"accept": "image/*"}, {"status": 304}),
    ("prefetch", {"sec-purpose": "prefetch"}, {}),
    ("prefetch", {"sec-purpose": "prefetch;prerender"}, {}),
    ("prefetch", {"purpose": "prefetch"}, {}),
    ("fragment", {"sec-fetch-dest": "empty"}, {}),
    ("fragment", {"sec-fetch-dest": "iframe"}, {}),
    ("fragment", {"hx-request": "true"}, {}),
    ("fragment", {"x-requested-with": "XMLHttpRequest", "accept": "text/html, */*"}, {}),
    ("fragment", {"turbo-frame": "messages"}, {}),
    ("no_store", {}, {"headers": {"Cache-Control": "private, No-Store"}}),
    ("excluded", {"path": "/admin/"}, {}),
    ("bot", {"user-agent": GOOGLEBOT}, {}),
    ("bot", {"user-agent": " "}, {}),
    ("no_address", {"address": ""}, {}),
    ("invalid_path", {"path": "/a%00b"}, {}),
]

A_PAGE = [
    ({}, {}),
    ({}, {"content_type": "TEXT/HTML; charset=latin-1"}),
    ({}, {"content_type": "application/xhtml+xml"}),
    ({"sec-fetch-dest": "document"}, {}),
    ({"sec-fetch-dest": "document"}, {"status": 304}),
    ({"accept": "text/html,*/*"}, {"status": 304}),
    ({"hx-request": "true", "hx-boosted": "true", "sec-fetch-dest": "empty"}, {}),
    ({"x-requested-with": "com.example.browser"}, {}),
    ({"path": "/administrator/"}, {}),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("reason", "request_", "response"), NOT_A_PAGE)
def test_what_is_no_page_or_no_person_is_tallied_with_the_reason(reason, request_, response):
    serve(a_request(**request_), HttpResponse(**response))
    assert (PageView.objects.count(), ActiveSession.objects.count()) == (0, 0)
    assert tallies.counts() == {("not_stored", reason): 1}


@pytest.mark.django_db
@pytest.mark.parametrize(("request_", "response"), A_PAGE)
def test_what_is_a_page_is_recorded(request_, response):
    serve(a_request(**request_), HttpResponse(**response))
    assert (PageView.objects.count(), ActiveSession.objects.count()) == (1, 1)
    assert tallies.counts() == {("recorded", ""): 1}


TOLD = {"status": "view;dur=0", "no_store": "view;dur=0", "fragment": "view;dur=1", "prefetch": "view;dur=1"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("reason", "request_", "response"), NOT_A_PAGE)
def test_server_timing_tells_the_tracker_why_a_page_was_left_out(reason, request_, response, is_async):
    async def page(request):
        return HttpResponse(**response)

    middleware = (
        async_to_sync(PageViewMiddleware(page)) if is_async else partial(serve, response=HttpResponse(**response))
    )
    served = middleware(a_request(**request_))
    assert served.headers.get("Server-Timing") == TOLD.get(reason)


@pytest.mark.django_db
@pytest.mark.parametrize("asked", [{"method": "POST"}, {"sec-fetch-dest": "empty"}, {"user-agent": GOOGLEBOT}])
@pytest.mark.parametrize("response", [{"headers": {"Cache-Control": "no-store"}}, {"status": 422}])
def test_the_tracker_stays_silent_about_secret_pages_and_error_pages(asked, response):
    assert serve(a_request(**asked), HttpResponse(**response)).headers["Server-Timing"] == "view;dur=0"


@pytest.mark.django_db
def test_a_page_keeps_the_timings_of_the_site_and_what_is_no_page_gets_none():
    served = serve(a_request(), HttpResponse(status=404, headers={"Server-Timing": "db;dur=5"}))
    assert served.headers["Server-Timing"] == "db;dur=5, view;dur=0"
    assert serve(a_request(), served).headers["Server-Timing"] == "db;dur=5, view;dur=0"  # the same one again
    assert "Server-Timing" not in serve(a_request(), HttpResponse(status=404, content_type="image/png")).headers


@pytest.mark.django_db
def test_what_is_no_page_asks_nothing_of_the_database(django_assert_num_queries):
    with django_assert_num_queries(0):
        serve(a_request(method="POST"))
        serve(a_request(**{"user-agent": GOOGLEBOT}))


@pytest.mark.django_db
def test_a_repeat_costs_one_read_of_page_views_and_active_sessions(django_assert_num_queries):
    serve(a_request())
    with django_assert_num_queries(1):
        serve(a_request())
    assert tallies.counts() == {("recorded", ""): 1, ("repeat", ""): 1}


@pytest.mark.django_db
def test_pages_with_no_store_count_where_the_site_says_so(settings):
    settings.PAGESTATS_COUNT_NO_STORE = True
    serve(a_request(), HttpResponse(headers={"Cache-Control": "no-store"}))
    assert PageView.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(("is_staff", "cookie", "counted"), [(True, True, 0), (True, False, 1), (False, True, 1)])
def test_staff_are_left_out_where_the_site_says_so(settings, is_staff, cookie, counted):
    settings.PAGESTATS_EXCLUDE_STAFF = True
    request = a_request()
    request.user = SimpleNamespace(is_staff=is_staff)
    if cookie:
        request.COOKIES[settings.SESSION_COOKIE_NAME] = "a session"
    serve(request)
    assert PageView.objects.count() == counted


@pytest.mark.django_db
def test_staff_are_recorded_like_anybody_by_default():
    request = a_request()
    request.user = SimpleNamespace(is_staff=True)
    request.COOKIES["sessionid"] = "a session"
    serve(request)
    assert PageView.objects.count() == 1


@pytest.mark.django_db
def test_a_namespace_is_excluded_wherever_it_is_mounted(client, settings):
    settings.PAGESTATS_COUNT_NO_STORE = True
    assert client.get("/admin/login/", headers={"user-agent": CHROME}).status_code == 200
    assert tallies.counts() == {("not_stored", "excluded"): 1}
    settings.PAGESTATS_EXCLUDE = []
    client.get("/admin/login/", headers={"user-agent": CHROME})
    assert PageView.objects.get().path == "/admin/login/"


@pytest.mark.django_db
def test_when_switched_off_nothing_is_asked_of_the_database(settings, django_assert_num_queries):
    settings.PAGESTATS_ENABLED = False
    with django_assert_num_queries(0):
        serve(a_request())
    assert not tallies.counts()


@pytest.mark.django_db
def test_what_the_site_excludes_is_not_recorded(settings):
    settings.PAGESTATS_EXCLUDE = ["/private/"]
    serve(a_request("/private/page"))
    serve(a_request("/privateer"))
    assert list(PageView.objects.values_list("path", flat=True)) == ["/privateer"]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/a%00b", "/%ff", "/" + "long/" * 2000, "/%ed%a0%80", "/constructor", "/__proto__"])
def test_no_path_breaks_a_page(path):
    serve(a_request(path))
    assert PageView.objects.count() == ("%00" not in path)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("patience", "tries"), [(0, 1), (60, 3)])
def test_a_page_that_has_waited_long_is_served_without_another_try(monkeypatch, expected_errors, patience, tries):
    monkeypatch.setattr("pagestats.intake.recorders.REQUEST_RETRY_SECONDS", patience)
    with Failing(2) as failing:
        assert serve(a_request()).status_code == 200
    assert failing.calls == tries
    assert [logged.exc_info[0] for logged in expected_errors()] == (3 - tries) // 2 * [OperationalError]


@pytest.mark.django_db
def test_a_failure_to_record_is_logged_with_the_path_and_the_page_is_served(monkeypatch, expected_errors):
    def fail(hit, **options):
        raise RuntimeError("no database today")

    monkeypatch.setattr("pagestats.intake.recorders.record_visit", fail)
    serve(a_request("/some/page"))
    (error,) = expected_errors()
    assert error.getMessage() == "The page view of '/some/page' was not recorded."
    assert "no database today" in str(error.exc_info[1])
    assert tallies.counts() == {("failed", "RuntimeError"): 1}


@pytest.mark.django_db
def test_a_wrong_setting_never_breaks_a_page(settings, expected_errors):
    settings.PAGESTATS_EXCLUDE = "/admin/"
    serve(a_request())
    (error,) = expected_errors()
    assert "PAGESTATS_EXCLUDE is '/admin/', not a list of path prefixes" in str(error.exc_info[1])


@pytest.mark.django_db(transaction=True)
def test_an_async_site_is_recorded_too():
    async def page(request):
        return HttpResponse("a page")

    serve_async = async_to_sync(PageViewMiddleware(page))
    assert serve_async(a_request()).content == b"a page"
    assert PageView.objects.get().path == "/a"
    serve_async(a_request())
    serve_async(a_request(method="POST"))
    assert tallies.counts() == {("recorded", ""): 1, ("repeat", ""): 1, ("not_stored", "method"): 1}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("asked_for", "path"), [("/posts/first", "/below/posts/first"), ("/", "/below/")])
@pytest.mark.parametrize("prefix", ["", "/below"], ids=["taken away", "passed on"])
def test_paths_below_a_prefix_are_those_that_browsers_show(settings, asked_for, path, prefix):
    settings.FORCE_SCRIPT_NAME = "/below"
    settings.ROOT_URLCONF = Below
    headers = {"user-agent": CHROME, "sec-fetch-site": "same-origin"}

    async def visit():
        client = AsyncClient()
        page = await client.get(f"{prefix}{asked_for}", headers=headers)
        shown = path.removesuffix("/")  # so a browser may have it
        beat = await client.post(
            f"{prefix}/hello/here/", {"path": shown}, content_type="application/json", headers=headers
        )
        return page.status_code, beat.status_code

    with override_script_prefix("/below/"):  # as Django's handlers have it
        assert async_to_sync(visit)() == (200, 204)
        if not prefix:  # which is how a server of WSGI has it
            assert Client(headers=headers).get(asked_for).status_code == 200
    assert [(view.path, view.session_id) for view in PageView.objects.all()] == [
        (path, session.session_id) for session in ActiveSession.objects.filter(current_path=path)
    ]


class Below:
    urlpatterns = [
        path("", lambda request: HttpResponse("home")),
        path("posts/<slug:slug>", lambda request, slug: HttpResponse("a post")),
        path("hello/", include("pagestats.beacons")),
    ]


@pytest.mark.django_db
def test_a_page_is_recorded_without_a_cookie_a_session_or_a_header():
    request = a_request()
    response = serve(request)
    assert response.cookies == {}
    assert set(response.headers) == {"Content-Type"}
    assert not hasattr(request, "session")


@pytest.mark.django_db
def test_with_cookies_a_publicly_cacheable_page_counts_known_visitors_only(settings):
    settings.PAGESTATS_IDENTITY = "cookie"
    shared = serve(a_request(), HttpResponse(headers={"Cache-Control": "public"}))
    assert tallies.counts() == {("not_stored", "shared_response"): 1}
    assert (
        shared.headers["Server-Timing"] == "view;dur=1"
    )  # the tracker comes with an answer of its own, for the cookie
    first = serve(a_request(), HttpResponse())
    known = a_request("/b")
    known.COOKIES["pagestats"] = first.cookies["pagestats"].value
    serve(known, HttpResponse(headers={"Cache-Control": "public"}))
    assert list(PageView.objects.order_by("pk").values_list("path", flat=True)) == ["/a", "/b"]
    assert PageView.objects.values("session_id").distinct().count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("is_from_a_cache", [False, True])
def test_a_namespace_of_a_requests_own_urlconf_is_excluded_behind_a_cache(settings, is_from_a_cache):
    settings.PAGESTATS_EXCLUDE = ["secret:"]
    hidden = [path("hidden/", HttpResponse, name="hidden")]
    request = a_request("/hidden/")
    request.urlconf = type("urls", (), {"urlpatterns": [path("", include((hidden, "secret")))]})
    if not is_from_a_cache:
        request.resolver_match = resolve("/hidden/", request.urlconf)
    serve(request)
    assert not PageView.objects.exists()
    assert tallies.counts() == {("not_stored", "excluded"): 1}
