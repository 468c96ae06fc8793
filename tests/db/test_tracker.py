"""The tracker: its file, its tag, and what the site makes of what it sends."""

import gzip
import json
from datetime import timedelta

import pytest
import rjsmin
from django.template import Context, Template
from django.test import Client, override_settings

from pagestats.hits import instant
from pagestats.models import ActiveSession, PageView, Tally
from pagestats.recording import record_page_view
from pagestats.tallies import tallies
from tests import ROOT
from tests.factories import a_hit

FOLDER = ROOT / "pagestats" / "static" / "pagestats"
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
BEATS, VIEWS, SCRIPT = "/hello/here/", "/hello/page/", "/hello/page.js"
SECOND = 1000


def rendered(text="{% pagestats_tracker %}"):
    return Template("{% load pagestats %}" + text).render(Context())


def send(url, **body):
    client = Client(headers={"user-agent": AGENT, "sec-fetch-site": "same-origin"})
    return client.post(url, json.dumps({"path": "/", **body}), content_type="text/plain")


def now():
    return round(instant(None).timestamp() * 1000)


# The file


def test_the_minified_copy_is_current_and_takes_a_kilobyte(capsys):
    small = (FOLDER / "tracker.min.js").read_text()
    assert small.strip() == rjsmin.jsmin((FOLDER / "tracker.js").read_text()), "run make tracker"
    size = len(gzip.compress(small.strip().encode(), 9, mtime=0))
    with capsys.disabled():
        print(f"\nthe tracker: {size} bytes gzipped")
    assert size <= 1024


def test_the_file_is_served_under_a_neutral_name_and_kept():
    first = Client().get(SCRIPT)
    assert (first.status_code, first.headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
    assert first.content == (FOLDER / "tracker.min.js").read_bytes()
    assert first.headers["Cache-Control"] == "public, max-age=3600"
    assert Client().get(SCRIPT, headers={"if-none-match": first.headers["ETag"]}).status_code == 304
    assert Client().post(SCRIPT).status_code == 405


# The tag


def test_the_tag_names_where_to_send_and_when_the_page_was_rendered():
    before = now()
    tag = rendered()
    assert tag.startswith(f'<script src="{SCRIPT}" defer data-views="{VIEWS}" data-beats="{BEATS}" data-rendered="')
    assert before <= int(tag.split('data-rendered="')[1].split('"')[0]) <= now()
    assert tag.endswith('" data-every="30"></script>')


def test_the_tag_passes_on_the_settings(settings):
    settings.PAGESTATS_IDENTITY = "client"
    settings.PAGESTATS_OPT_OUTS = ["gpc", "dnt"]
    tag = rendered("{% pagestats_tracker every=10 hash=True %}")
    assert tag.endswith(' data-every="10" data-session="1" data-hash="1" data-gpc="1" data-dnt="1"></script>')


@pytest.mark.parametrize("every", ["", 0, -1, "abc", True, 3_601, 0.5, None])
def test_an_invalid_interval_is_logged_and_replaced_by_the_default(every, caplog):
    tag = Template("{% load pagestats %}{% pagestats_tracker every=every %}").render(Context({"every": every}))
    assert 'data-every="30"' in tag
    assert f"every is {every!r}, not a whole number from 1 to 3600" in caplog.text


@pytest.mark.parametrize("every", [1, "20", 3_600])
def test_an_interval_may_be_a_template_variable(every):
    tag = Template("{% load pagestats %}{% pagestats_tracker every=every %}").render(Context({"every": every}))
    assert f'data-every="{every}"' in tag


@override_settings(ROOT_URLCONF="tests.db.test_tracker")
def test_without_its_urls_the_tag_is_empty_and_the_log_says_why(caplog):
    assert rendered() == ""
    assert "include('pagestats.beacons')" in caplog.text


urlpatterns = []


# What the site makes of it


@pytest.mark.django_db
def test_a_page_rendered_for_this_request_is_left_to_the_middleware():
    for elapsed in (0, 500, 100 * SECOND):
        assert send(BEATS, rendered=now() - elapsed, elapsed=elapsed).status_code == 204
    assert not PageView.objects.exists()
    assert ActiveSession.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(("kept_for", "views"), [(1 * SECOND, 0), (3 * SECOND, 1), (1000 * SECOND, 1)])
def test_a_page_from_a_cache_counts_with_its_first_heartbeat(kept_for, views):
    assert send(BEATS, rendered=now() - kept_for - 400, elapsed=400).status_code == 204
    assert PageView.objects.count() == views
    assert ActiveSession.objects.count() == 1


@pytest.mark.django_db
def test_what_the_middleware_counted_is_counted_once_whatever_the_tracker_says():
    browser = {"user-agent": AGENT}
    assert Client(headers=browser).get("/").status_code == 200
    [view] = PageView.objects.all()
    assert send(BEATS, rendered=0, elapsed=0).status_code == 204
    assert send(VIEWS).status_code == 204
    assert [*PageView.objects.values_list("session_id", flat=True)] == [view.session_id]
    PageView.objects.update(timestamp=instant(None) - timedelta(minutes=31))
    assert send(VIEWS).status_code == 204
    assert PageView.objects.filter(session_id=view.session_id).count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize("number", ["1", -1, True, None, 1.5, 2**53, [], float("inf")])
@pytest.mark.parametrize("name", ["rendered", "elapsed"])
def test_an_invalid_time_is_refused(name, number):
    refused = send(BEATS, **{"rendered": 1, "elapsed": 1, name: number})
    assert refused.status_code == 400
    assert not PageView.objects.exists()


@pytest.mark.django_db
def test_only_a_heartbeat_may_send_the_time_of_rendering():
    assert send(VIEWS, rendered=1, elapsed=1).status_code == 400
    assert send(BEATS, path="/no/page/of/this/site").status_code == 404
    assert send(BEATS, path="/no/page/of/this/site", rendered=1, elapsed=1).status_code == 404


@pytest.mark.django_db
def test_a_page_from_a_cache_may_be_a_new_path(settings):
    settings.PAGESTATS_THROTTLE_NEW_PATHS = "1/day"
    settings.PAGESTATS_CLIENT_PATHS = ["/new/.*"]
    record_page_view(a_hit(path="/new/known"))
    assert [send(BEATS, path=f"/new/{n}", rendered=1, elapsed=1).status_code for n in ("a", "known", "b")] == [
        204,
        204,
        429,
    ]
    # Whoever reads it is there all the same.
    assert ActiveSession.objects.get().current_path == "/new/b"


@pytest.mark.django_db
def test_heartbeats_without_a_cookie_create_no_visitors(settings):
    settings.PAGESTATS_IDENTITY = "cookie"
    refusing = [send(BEATS) for _ in range(3)]
    assert [answer.status_code for answer in refusing] == [204, 204, 204]
    assert (ActiveSession.objects.count(), tallies.counts()["not_stored", "new_session_id"]) == (0, 3)
    browser = Client(headers={"user-agent": AGENT, "sec-fetch-site": "same-origin"})
    for _ in range(3):
        browser.post(BEATS, '{"path": "/"}', content_type="text/plain")
    assert (ActiveSession.objects.count(), PageView.objects.count()) == (1, 0)
    assert send(BEATS, rendered=1, elapsed=1).status_code == 204  # a page that was kept is somebody's first
    assert (ActiveSession.objects.count(), PageView.objects.count()) == (2, 1)


@pytest.mark.django_db
def test_the_tracker_needs_no_login_even_with_the_login_middleware(settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    assert (Client().get(SCRIPT).status_code, send(BEATS).status_code) == (200, 204)


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "header"), [("gpc", "sec-gpc"), ("dnt", "dnt")])
def test_opt_outs_are_honoured_if_the_site_says_so(settings, name, header):
    client = Client(headers={"user-agent": AGENT, "sec-fetch-site": "same-origin", header: "1"})
    settings.PAGESTATS_OPT_OUTS = [name]
    client.get("/")
    assert client.post(BEATS, '{"path": "/"}', content_type="text/plain").status_code == 204
    assert (PageView.objects.count(), ActiveSession.objects.count()) == (0, 0)
    tallies.write()
    assert Tally.objects.get(reason="opt_out").count == 2
    settings.PAGESTATS_OPT_OUTS = []
    client.get("/")
    assert PageView.objects.count() == 1
