"""The tags of a site's own templates."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.template import Context, Template
from django.utils import timezone, translation

from example_project.blog.models import Page, Post
from pagestats import stats
from pagestats.days import DAY
from pagestats.hits import instant
from pagestats.models import ActiveSession
from pagestats.recording import record_heartbeat, record_page_view, record_page_views
from tests.factories import CONTENT, a_hit, a_post, raw_views


@pytest.fixture(autouse=True)
def site(db, settings):
    settings.PAGESTATS_CONTENT = CONTENT
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "tags"}}
    cache.clear()


def viewed(path, times=1, at=None):
    record_page_views(a_hit(path=path, session_id=f"s{n}", at=at or timezone.now()) for n in range(times))


def render(text, rf, path="/hello", **context):
    return Template("{% load pagestats %}" + text).render(Context({"request": rf.get(path), **context}))


def test_the_views_of_this_page_and_of_an_object(rf):
    post = a_post()
    viewed("/hello", 3)
    viewed("/hello", 2, at=timezone.now() - 9 * DAY)
    viewed("/other", 1)
    assert render("{% pagestats_views %}", rf) == "5"
    assert render("{% pagestats_views days=7 %}", rf) == "3"
    assert render("{% pagestats_views %}", rf, "/other") == "1"
    assert (
        render("{% pagestats_views post %} {% pagestats_views post days=7 as n %}{{ n }}", rf, "/", post=post) == "5 3"
    )
    assert render("{% pagestats_views %}", rf, "/never") == "0"


@pytest.mark.parametrize("autoescape", ["on", "off"])
def test_a_number_is_shown_as_text_without_autoescape_too(rf, settings, autoescape):
    settings.USE_THOUSAND_SEPARATOR = True
    viewed("/hello", 1_234)
    text = "{% pagestats_views %} {% pagestats_active %} {% pagestats_popular %}{% pagestats_views as n %}{{ n|add:1 }}"
    assert render(f"{{% autoescape {autoescape} %}}{text}{{% endautoescape %}}", rf) == "1,234 0 1,235"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("tag", ["pagestats_views", "pagestats_active", "pagestats_popular as popular"])
def test_reading_a_number_begins_no_transaction(rf, tag, django_capture_queries):
    """On SQLite with transaction_mode IMMEDIATE it would wait for whoever writes."""
    made = django_capture_queries(lambda: render(f"{{% {tag} %}}", rf))
    assert made
    assert [statement for statement in made if not statement.startswith("SELECT")] == []


@pytest.mark.parametrize(("language", "shown"), [("en", "1,234"), ("de", "1.234")])
def test_a_number_has_the_format_of_the_site_and_can_be_added_up(rf, settings, language, shown):
    settings.USE_THOUSAND_SEPARATOR = True
    viewed("/hello", 1_234)
    text = "{% pagestats_views %} {% pagestats_views as n %}{{ n }} {{ n|add:1 }} view{{ n|pluralize }}"
    with translation.override(language):
        for _ in ("read", "from the cache"):
            assert render(text, rf) == f"{shown} {shown} {shown[:-1]}5 views"
        settings.USE_THOUSAND_SEPARATOR = False
        assert render(text, rf) == "1234 1234 1235 views"


def test_active_visitors_of_the_site_an_object_and_this_page(rf):
    post = a_post()
    for path, session_id in (("/hello", "a"), ("/hello", "b"), ("/other", "c")):
        record_heartbeat(a_hit(path=path, session_id=session_id, at=timezone.now()))
    record_heartbeat(a_hit(path="/hello", session_id="gone", at=timezone.now() - timedelta(minutes=3)))
    tags = '{% pagestats_active %} {% pagestats_active post %} {% pagestats_active "page" %}'
    assert render(tags, rf, "/other", post=post) == "3 2 1"
    ActiveSession.objects.all().delete()
    assert render(tags, rf, "/other", post=post) == "3 2 1"  # for ten seconds
    assert render("{% pagestats_active cache=0 %}", rf) == "0"


POPULAR = (
    "{% pagestats_popular days=7 limit=3 as popular %}"
    "{% for row in popular %}{{ row.title }} {{ row.url }} {{ row.views }} {{ row.object.pk }}|{% endfor %}"
)


def test_popular_things_with_object_title_address_and_views(rf, django_assert_num_queries):
    first, second, draft = a_post("first"), a_post("second"), a_post("draft", published=False)
    about = Page.objects.create(title="<About>", slug="a-bout", published=True)
    shadowed = a_post("second")
    viewed("/first", 1)
    viewed("/second", 4)
    viewed("/a-bout", 2)
    viewed(f"/{draft.slug}", 9)
    viewed("/first", 9, at=timezone.now() - 8 * DAY)
    raw_views([("/first", f"pending {n}", timezone.now()) for n in range(2)])
    with django_assert_num_queries(5):  # the zone, two sources, and the savepoint, which is two
        shown = render(POPULAR, rf)
    assert shown == f"Second /second 4 {second.pk}|First /first 3 {first.pk}|&lt;About&gt; /a-bout 2 {about.pk}|"
    assert shadowed.pk not in {row.object.pk for row in stats.popular()}
    with django_assert_num_queries(0):
        assert render(POPULAR, rf) == shown


def test_popular_finds_objects_after_many_that_share_one_page(db):
    for slug in (*["same"] * 5, "second", "third"):
        a_post(slug)
    for path, times in {"/same": 5, "/second": 2, "/third": 1}.items():
        viewed(path, times)
    for limit, paths in ((0, []), (1, ["/same"]), (2, ["/same", "/second"]), (9, ["/same", "/second", "/third"])):
        assert [row.url for row in stats.popular(limit=limit)] == paths


def test_popular_costs_one_query_per_source(settings, django_assert_num_queries):
    by_author = {
        "model": "blog.Post",
        "type": "post",
        "title": "title",
        "published": {"published": True},
        "slug": "slug",
    }
    settings.PAGESTATS_CONTENT = {"posts": by_author, "drafts": {**by_author, "published": {"published": False}}}
    posts = [a_post(f"{number}") for number in range(5)]
    for post in posts:
        viewed(f"/{post.slug}")
    with django_assert_num_queries(2):
        assert len(stats.popular(days=None)) == 5


@pytest.mark.parametrize(
    "tag", ["pagestats_views", "pagestats_views post", "pagestats_active", "pagestats_active post"]
)
def test_each_tag_costs_one_query_and_none_from_the_cache(rf, tag, django_assert_num_queries):
    post = a_post()
    with django_assert_num_queries(3):  # two of them are the savepoint
        shown = render("{% " + tag + " %}", rf, post=post)
    assert shown == "0"
    with django_assert_num_queries(0):
        assert render("{% " + tag + " %}", rf, post=post) == "0"
    with django_assert_num_queries(3):
        render("{% " + tag + " cache=0 %}", rf, post=post)


@pytest.mark.parametrize("tag", ["pagestats_views", "pagestats_active", "pagestats_popular", "pagestats_views user"])
def test_a_tag_that_fails_is_logged_and_shows_nothing(rf, tag, monkeypatch, expected_errors, django_user_model):
    def fail(*arguments, **keywords):
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM nothing_of_this_name")

    for name in ("views_on", "active_visitors", "popular"):
        monkeypatch.setattr(stats, name, fail)
    user = django_user_model.objects.create(username="ann")
    text = "{% " + tag + " as shown %}[{% for row in shown %}{{ row }}{% endfor %}]"
    assert render(text, rf, user=user) == "[]"
    assert Post.objects.count() == 0  # the transaction of the page goes on
    [error] = expected_errors()
    assert issubclass(error.exc_info[0], DatabaseError | stats.NoPage)


def test_a_path_is_accepted_and_any_other_word_refused(rf, expected_errors):
    record_heartbeat(a_hit(path="/here", session_id="a", at=instant(None)))
    for session_id in "bc":
        record_heartbeat(a_hit(path="/pricing", session_id=session_id, at=instant(None)))
    record_page_view(a_hit(path="/pricing"))
    shown = render(
        '{% pagestats_active "/pricing" %} {% pagestats_active "page" %} {% pagestats_views "/pricing" %}', rf
    )
    assert shown == "2 0 1"
    assert render("[{% pagestats_active typo %}{% pagestats_views typo %}{% pagestats_active 'pgae' %}]", rf) == "[]"
    assert [str(error.exc_info[1]) for error in expected_errors()] == [
        f"{word!r} is not an object, a path or 'page'. An undefined template variable is ''."
        for word in ("", "", "pgae")
    ]


def test_none_means_neither_this_page_nor_the_site(rf, expected_errors):
    record_heartbeat(a_hit(path="/hello", session_id="a", at=instant(None)))
    record_page_view(a_hit(path="/hello"))
    assert render("{% pagestats_views %}{% pagestats_active %}", rf) == "11"
    tags = "[{% pagestats_views post %}{% pagestats_views post days=7 %}{% pagestats_active post %}]"
    assert render(tags, rf, post=Post.objects.first()) == "[]"
    assert {str(error.exc_info[1])[:21] for error in expected_errors()} == {"None is not an object"}


def test_a_page_without_a_request_shows_nothing(expected_errors):
    assert Template("{% load pagestats %}[{% pagestats_views %}]").render(Context()) == "[]"
    [error] = expected_errors()
    assert "django.template.context_processors.request" in str(error.exc_info[1])


class BrokenCache:
    def __init__(self, *arguments):
        pass

    def get(self, key):
        raise ConnectionRefusedError("no cache today")

    def set(self, key, value, seconds):
        raise ConnectionRefusedError("no cache today")

    def close(self):
        pass


def test_a_cache_that_fails_breaks_nothing(rf, settings):
    a_post()
    viewed("/hello", 3)
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.BrokenCache"}}
    assert render("{% pagestats_views %} {% pagestats_active %}", rf) == "3 0"


def test_the_cache_key_depends_on_page_arguments_and_language(rf):
    viewed("/hello", 2)
    viewed("/hello", 1, at=timezone.now() - 3 * DAY)
    assert render("{% pagestats_views %} {% pagestats_views days=1 %}", rf) == "3 2"
    assert render("{% pagestats_views %}", rf, "/hello ") == "0"


@pytest.mark.django_db
def test_popular_shown_directly_is_empty_and_logs_why(rf, caplog):
    assert render("{% pagestats_popular %}|", rf) == "|"
    assert "shows nothing on its own. Use {% pagestats_popular as rows %}" in caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize("cache", ["'x'", "-1"])
def test_a_tag_refuses_an_invalid_cache_time(rf, expected_errors, cache):
    assert render("{% pagestats_views '/a' cache=" + cache + " %}|", rf) == "|"
    (record,) = expected_errors()
    assert record.getMessage() == "{% pagestats_views %} could not be shown."
    assert "not a number of seconds. Use 0 to disable the cache." in str(record.exc_info[1])
