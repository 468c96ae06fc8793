import pytest
from asgiref.sync import async_to_sync
from django.http import HttpResponse, JsonResponse
from django.test import RequestFactory

from pagestats.identity import day_salts
from pagestats.middleware import PageViewMiddleware
from pagestats.models import ActiveSession, PageView
from tests.test_identity import CHROME

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


@pytest.fixture(autouse=True)
def no_salts_of_another_test():
    day_salts.clear()
    yield
    day_salts.clear()


def a_request(path="/a", *, method="GET", **headers):
    return RequestFactory().generic(method, path, headers={"user-agent": CHROME, **headers})


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


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (a_request(method="POST"), HttpResponse()),
        (a_request(method="HEAD"), HttpResponse()),
        (a_request(), HttpResponse(status=404)),
        (a_request(), HttpResponse(status=302)),
        (a_request(), JsonResponse({})),
        (a_request(), HttpResponse(b"%PDF", content_type="application/pdf")),
        (a_request("/admin/pagestats/"), HttpResponse()),
        (a_request(**{"sec-purpose": "prefetch;prerender"}), HttpResponse()),
        (a_request(purpose="prefetch"), HttpResponse()),
        (a_request(**{"user-agent": GOOGLEBOT}), HttpResponse()),
        (a_request(**{"user-agent": ""}), HttpResponse()),
    ],
    ids=lambda value: None,
)
def test_what_is_no_page_or_no_person_is_not_recorded(request_, response, django_assert_num_queries):
    with django_assert_num_queries(0):
        serve(request_, response)


@pytest.mark.django_db
def test_when_switched_off_nothing_is_asked_of_the_database(settings, django_assert_num_queries):
    settings.PAGESTATS_ENABLED = False
    with django_assert_num_queries(0):
        serve(a_request())


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


@pytest.mark.django_db
def test_a_failure_to_record_is_logged_with_the_path_and_the_page_is_served(monkeypatch, expected_errors):
    def fail(hit):
        raise RuntimeError("no database today")

    monkeypatch.setattr("pagestats.middleware.record_page_view", fail)
    serve(a_request("/some/page"))
    (error,) = expected_errors()
    assert error.getMessage() == "The page view of '/some/page' was not recorded."
    assert "no database today" in str(error.exc_info[1])


@pytest.mark.django_db(transaction=True)
def test_an_async_site_is_recorded_too():
    async def page(request):
        return HttpResponse("a page")

    response = async_to_sync(PageViewMiddleware(page))(a_request())
    assert response.content == b"a page"
    assert PageView.objects.get().path == "/a"


@pytest.mark.django_db
def test_a_page_is_recorded_without_a_cookie_a_session_or_a_header():
    request = a_request()
    response = serve(request)
    assert response.cookies == {}
    assert set(response.headers) == {"Content-Type"}
    assert not hasattr(request, "session")
