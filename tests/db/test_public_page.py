"""The public stats page: off until asked for, cacheable, and of no page that the public may not know of."""

import re
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.contrib import messages
from django.http import HttpResponse
from django.template import engines
from django.test import Client
from django.test.utils import override_script_prefix
from django.urls import path
from django.utils import timezone
from django.utils.formats import date_format

from example_project.blog.models import Post
from pagestats.models import PageTotal, PageView, Rollup, Visitor
from pagestats.recording import record_heartbeat, record_page_views
from pagestats.stats import shown_titles, snapshot
from pagestats.views import PublicStatsView
from tests.factories import POSTS, a_hit, raw_views

urlpatterns = [
    path("stats/", PublicStatsView.as_view()),
    path("stats/few/", PublicStatsView.as_view(most_pages=1)),
]


@pytest.fixture(autouse=True)
def site(db, settings):
    settings.ROOT_URLCONF = __name__
    settings.PAGESTATS_PUBLIC = True
    settings.PAGESTATS_CONTENT = {"posts": POSTS}
    Post.objects.create(title="<Hello>", slug="hello", published=True)
    now = timezone.now()
    record_page_views(a_hit(path="/hello", session_id=f"s{n}", at=now - timedelta(hours=n)) for n in range(3))
    raw_views([("/hello", "pending", now), ("/reset/secret-token/", "s0", now), ("//evil.example", "s0", now)])
    for where, session_id in (("/hello", "a"), ("/reset/secret-token/", "b")):
        record_heartbeat(a_hit(path=where, session_id=session_id, at=now))


def texts(response):
    """Return the text of a page, without its elements, in one line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.content.decode()))


def test_it_is_off_by_default(client, settings, admin_client):
    settings.PAGESTATS_PUBLIC = False
    assert client.get("/stats/").status_code == admin_client.get("/stats/").status_code == 404


def test_it_needs_no_login_even_with_the_login_middleware(client, settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    assert client.get("/stats/").status_code == 200


@pytest.mark.parametrize("prefix", ["/", "/shop/"])
def test_it_asks_for_updates_under_the_prefix_of_the_site(client, prefix):
    """Under ASGI `request.path` has none where FORCE_SCRIPT_NAME names one that the server took away."""
    with override_script_prefix(prefix):
        assert f'"{prefix}stats/?active' in client.get("/stats/").content.decode()


def test_it_shows_active_visitors_and_pages(client):
    shown = texts(client.get("/stats/"))
    for part in (
        "Active now 2",
        "Page views 6 since",
        "Daily visitors 4 counted once a day",
        "Published: posts 1",
        "&lt;Hello&gt; /hello 1",
        "On other pages: 1",
        "&lt;Hello&gt; /hello blog 4",
    ):
        assert part in shown


def test_a_secret_path_is_shown_to_nobody(client, admin_client):
    for reader in (client, admin_client):
        answer = reader.get("/stats/").content
        assert b"secret-token" not in answer
        assert b"evil" not in answer


def test_it_is_the_same_for_everybody_and_may_be_cached(client, admin_client, settings):
    answer = client.get("/stats/")
    assert answer.headers["Cache-Control"] == "public, max-age=0, s-maxage=10"
    assert not answer.cookies
    assert "Vary" not in answer.headers
    again = client.get("/stats/", headers={"if-none-match": answer.headers["ETag"]})
    if again.status_code == 200:  # the second went by
        again = client.get("/stats/", headers={"if-none-match": again.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    raw_views([("/hello", "another", timezone.now())])
    assert client.get("/stats/", headers={"if-none-match": answer.headers["ETag"]}).status_code == 200
    assert "Vary" not in admin_client.get("/stats/").headers


def test_a_base_template_with_the_users_name_is_not_cached_for_others(admin_client, settings):
    greeting = "{{ request.user.username }}{% block content %}{% endblock %}{% block extra_body %}{% endblock %}"
    base = engines["django"].from_string(greeting)
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": [path("", PublicStatsView.as_view(base_template=base))]})
    answer = admin_client.get("/")
    assert answer.content.startswith(b"admin")
    assert set(answer.headers["Cache-Control"].split(", ")) == {"max-age=0", "private"}


@pytest.mark.parametrize(
    ("what", "headers"),
    [
        ("request.COOKIES.token", {"cookie": "token=alice"}),
        ("request.META.HTTP_AUTHORIZATION", {"authorization": "Basic YWxpY2U6"}),
    ],
)
def test_a_request_with_credentials_is_not_cached_for_others(client, settings, what, headers):
    base = engines["django"].from_string("Hello {{ " + what + " }}{% block content %}{% endblock %}")
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": [path("", PublicStatsView.as_view(base_template=base))]})
    assert "public" in client.get("/").headers["Cache-Control"]
    answer = client.get("/", headers=headers)
    assert answer.content.startswith(b"Hello " + next(iter(headers.values())).removeprefix("token=").encode())
    assert "private" in answer.headers["Cache-Control"]


def test_a_page_with_a_nonce_is_not_cached_for_others(rf, settings):
    request = rf.get("/")
    request._csp_nonce = "a nonce"  # as Django's own middleware has it
    assert "private" in PublicStatsView.as_view()(request).headers["Cache-Control"]
    assert "public" in PublicStatsView.as_view()(rf.get("/")).headers["Cache-Control"]


def test_a_message_or_a_chosen_language_is_not_cached_for_others(client, settings):
    greeting = "{% for message in messages %}{{ message }}{% endfor %}{% block content %}{% endblock %}"
    stats = PublicStatsView.as_view(base_template=engines["django"].from_string(greeting))
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": [path("order/", order), path("stats/", stats)]})
    assert "public" in client.get("/stats/").headers["Cache-Control"]
    client.get("/order/")
    page = client.get("/stats/")
    assert b"Your order was placed" in page.content
    assert "private" in page.headers["Cache-Control"]
    client.cookies.clear()  # as a browser does with one that has expired
    assert "public" in client.get("/stats/").headers["Cache-Control"]
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "de"
    assert "private" in client.get("/stats/").headers["Cache-Control"]


def order(request):
    messages.success(request, "Your order was placed")
    return HttpResponse("thank you")


def test_it_searches_a_bounded_number_of_paths(client, monkeypatch):
    PageTotal.unguarded.bulk_create(
        PageTotal(path=f"/other/{n}", views=10, visitors=1, first_viewed=timezone.now(), last_viewed=timezone.now())
        for n in range(200)
    )
    looked_at = []

    def titles(paths, **asked):
        paths = list(paths)
        looked_at.append(len(paths))
        return shown_titles(paths, **asked)

    monkeypatch.setattr("pagestats.stats.titled.shown_titles", titles)
    for most, found in ((2_000, True), (150, False)):
        monkeypatch.setattr("pagestats.stats.titled.MOST_LOOKED_AT", most)
        looked_at.clear()
        shown = snapshot(limit=50, public=True)
        assert ("/hello" in {page.path for page in shown.page_stats}) is found
        assert (max(looked_at), shown.total_paths) == (203 if found else 150, 203)
    assert "/hello" in {page.path for page in snapshot(public=True).page_stats}


BLOCKS = {
    "pagestats_header": "Stats",
    "pagestats_cards": "Page views",
    "pagestats_viewing_now": "Viewing now",
    "pagestats_pages": "Pages by views",
    "pagestats_footer": "counts once",
}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_site_changes_one_block_and_keeps_the_others(client, settings, tmp_path, block):
    text = (
        "{% extends 'pagestats/public.html' %}{% block "
        + block
        + " %}<p>Ours: {{ pagestats.stats.total_page_views }}</p>"
    )
    (tmp_path / "ours.html").write_text(text + "{% endblock %}")
    (tmp_path / "base.html").write_text("<title>Mine</title>{% block content %}{% endblock %}")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    view = PublicStatsView.as_view(template_name="ours.html", base_template="base.html")
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": [path("", view)]})
    shown = texts(client.get("/"))
    assert "Ours: 6" in shown
    assert [name for name, text in BLOCKS.items() if text not in shown] == [block]


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_it_accepts_only_reading_methods(client, method):
    assert getattr(client, method)("/stats/").status_code == 405


def test_a_head_is_answered(client):
    answer = client.head("/stats/")
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_lists_are_bounded(client):
    Post.objects.create(title="Second", slug="second", published=True)
    raw_views([("/second", "s0", timezone.now())])
    assert "Second" in texts(client.get("/stats/"))
    assert "Second" not in texts(client.get("/stats/few/"))


def test_the_label_of_visitors_depends_on_the_lifetime_of_ids(client, settings):
    settings.PAGESTATS_IDENTITY = "cookie"
    shown = texts(client.get("/stats/"))
    assert "Unique visitors 4" in shown
    assert "two daily visitors" not in shown


@pytest.mark.parametrize(("language", "views"), [("en", "1,006"), ("de", "1.006")])
def test_its_numbers_have_the_format_of_the_language(client, settings, language, views):
    raw_views(("/hello", f"many {n}", timezone.now()) for n in range(1_000))
    settings.LANGUAGE_CODE = language
    shown = texts(client.get("/stats/"))
    assert f"Page views {views} since" in shown
    assert f"/hello blog {'1,004' if language == 'en' else '1.004'}" in shown


def test_its_times_are_in_the_reporting_zone_and_name_it(client):
    with timezone.override("Asia/Kathmandu"):
        shown = texts(client.get("/stats/"))
    moment, zone = re.search(r"As of (.+?) \(([^)]+)\)", shown).groups()
    assert zone == "Europe/Amsterdam"
    now = timezone.localtime(timezone.now(), ZoneInfo("Europe/Amsterdam"))
    assert moment in {date_format(now - timedelta(minutes=n), "DATETIME_FORMAT") for n in (0, 1)}


def test_it_names_the_dedup_window_of_the_setting(client, settings):
    for length, words in (
        (timedelta(minutes=30), "30 minutes"),
        (timedelta(minutes=1), "1 minute"),
        (timedelta(hours=12), "12 hours"),
        (timedelta(days=7), "7 days"),
        (timedelta(seconds=90), "90 seconds"),
    ):
        settings.PAGESTATS_DEDUP_WINDOW = length
        for language in ("en", "de"):  # no other language than that of the sentence
            settings.LANGUAGE_CODE = language
            assert f"by the same visitor within {words} counts once." in texts(client.get("/stats/"))


def test_a_site_without_a_page_to_show_says_so(client, settings):
    settings.PAGESTATS_CONTENT = {}
    shown = texts(client.get("/stats/"))
    assert "None of the pages shown here has been viewed yet." in shown
    assert "Nobody is on the pages shown here." in shown
    PageView.objects.all().delete()
    for derived in (PageTotal, Rollup, Visitor):
        derived.unguarded.all().delete()
    assert "No page has been viewed yet." in texts(client.get("/stats/"))


def test_its_updates_show_only_what_the_public_may_see(client, admin_client, settings):
    for reader in (client, admin_client):
        asks = re.search('data-pagestats-live="([^"]+)"', reader.get("/stats/").content.decode()).group(1)
        answer = reader.get(asks)
        assert answer.json() == {"visitors": 2, "by_path": [{"path": "/hello", "title": "<Hello>", "count": 1}]}
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert reader.get(asks, headers={"if-none-match": answer.headers["ETag"]}).status_code == 304
    settings.PAGESTATS_PUBLIC = False
    assert client.get(asks).status_code == 404


def test_the_page_has_no_inline_styles_or_scripts(client):
    """Style and script come from the site itself: no inline ones, which a strict CSP refuses."""
    answer = client.get("/stats/").content.decode()
    assert not re.search(r"<style|style=|<script(?![^>]* src=)| on\w+=", answer)


def test_a_plain_client_can_read_it():
    assert isinstance(Client().get("/stats/"), HttpResponse)
