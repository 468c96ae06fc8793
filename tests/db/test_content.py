"""Content sources: which thing of the site's own is the page at a path, and what is wrong with a source."""

import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth.models import Group, User
from django.http import HttpResponse
from django.urls import include, path, re_path, register_converter, set_script_prefix
from django.utils import timezone, translation

from example_project.blog.models import Page, Post
from pagestats.conf import Settings
from pagestats.content import Titled, find_faults, published_counts, sources, titles
from pagestats.recording import record_page_views
from pagestats.stats import snapshot
from tests import factories
from tests.factories import T0, a_hit


class Strange:
    """What a converter of a site's own may make of a path: nothing that could be hashed or compared."""

    regex = "[^/]+"

    def to_python(self, value):
        return {"list": ["a", "list"], "huge": 10**40, "surrogate": "\ud800", "nul": "a\x00b"}.get(value, value)

    def to_url(self, value):
        return value


register_converter(Strange, "strange")


def page(request, **arguments):
    return HttpResponse()


news = [path("<slug:slug>/", page, name="detail")]
urlpatterns = [
    path("<int:year>/<int:month>/<slug:slug>/", page, name="post"),
    path("by-id/<int:pk>/", page, name="by-id"),
    path("by-id/<int:pk>-<slug:decoration>/", page, name="by-id"),
    path("by-uuid/<str:uuid>/", page, name="by-uuid"),
    path("by-day/<str:day>/", page, name="by-day"),
    path("insensitive/<str:slug>/", page, name="insensitive"),
    path("user/<str:name>/", page, name="user"),
    path("the-only-one/", page, name="the-only-one"),
    path("default/", page, {"slug": "hello-world"}, name="default"),
    path("<slug:section>/news/", include((news, "news"), namespace="fresh-news")),
    path("strange/<strange:value>/", page, name="strange"),
    re_path(r"^positional/([^/]+)/$", page, name="positional"),
    *i18n_patterns(path("read/<slug:slug>/", page, name="read")),
]

CREATED = datetime(2025, 12, 31, 23, 30, tzinfo=UTC)  # in Amsterdam it is 2026


@pytest.fixture
def source(settings):
    """A function that makes one content source of posts, but for the changes; None takes a key out."""
    settings.ROOT_URLCONF = __name__

    def make(name="posts", **changes):
        keys = {"model": "blog.Post", "published": {"published": True}, "title": "title", "type": "blog", **changes}
        settings.PAGESTATS_CONTENT = {
            **getattr(settings, "PAGESTATS_CONTENT", {}),
            name: {key: value for key, value in keys.items() if value is not None},
        }
        assert Settings.CONTENT.fault() is None

    return make


# Of the year 2026, in the zone of the site alone.
a_post = partial(factories.a_post, "hello-world", title="Hello World", created=CREATED)


def title(path):
    return titles([path])[path].title


@pytest.mark.django_db
def test_the_row_of_a_page_shows_the_title_of_its_post(source):
    source(url_name="insensitive", arguments={"slug": "slug"})
    a_post()
    record_page_views([a_hit(path="/insensitive/hello-world/"), a_hit(path="/hello-world/")])
    assert {row.path: (row.title, row.page_type) for row in snapshot(at=T0).page_stats} == {
        "/insensitive/hello-world/": ("Hello World", "blog"),
        "/hello-world/": ("/hello-world/", "other"),
    }


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/2025/12/hello-world/", "Hello World"),
        ("/2025/012/hello-world/", "Hello World"),
        ("/2026/12/hello-world/", None),
        ("/2025/11/hello-world/", None),
        ("/2025/12/hello/", None),
        ("/2025/12/a-draft/", None),
        ("/2025/12/hello-world", None),
        ("2025/12/hello-world/", None),
        ("/hello-world", None),
        ("/nowhere/at/all/at/all/", None),
    ],
)
def test_each_argument_of_the_url_is_a_lookup(source, settings, path, found):
    # A MariaDB without tables of time zones knows no month in any other.
    settings.TIME_ZONE = "UTC"
    source(
        url_name="post",
        arguments={"year": "created__year", "month": "created__month", "slug": "slug"},
    )
    a_post()
    factories.a_post("a-draft", created=CREATED, published=False)
    assert titles([path])[path] == (Titled(found, "blog") if found else Titled(path, "other"))


@pytest.mark.django_db
def test_the_year_of_a_url_is_that_of_the_site_whatever_zone_its_reader_is_in(source):
    source(url_name="post", arguments={"year": "created__year", "slug": "slug"})
    a_post()
    for zone in ("Europe/Amsterdam", "America/New_York"):
        with timezone.override(zone):
            assert title("/2026/1/hello-world/") == "Hello World"
            assert title("/2025/1/hello-world/") == "/2025/1/hello-world/"
            assert timezone.get_current_timezone_name() == zone


@pytest.mark.django_db
def test_a_captured_argument_without_a_lookup_does_not_matter(source):
    post = a_post()
    source(url_name="by-id", arguments={"pk": "pk"})
    assert title(f"/by-id/{post.pk}/") == title(f"/by-id/{post.pk}-some-words/") == "Hello World"


@pytest.mark.django_db
def test_a_pattern_must_capture_every_argument_that_the_source_looks_up(source):
    post = a_post()
    source(url_name="by-id", arguments={"pk": "pk", "decoration": "slug"})
    assert title(f"/by-id/{post.pk}-hello-world/") == "Hello World"
    assert title(f"/by-id/{post.pk}/") == f"/by-id/{post.pk}/"


@pytest.mark.django_db
def test_a_url_name_may_have_a_namespace_and_arguments_of_an_included_pattern(source):
    a_post()
    source(url_name="fresh-news:detail", arguments={"slug": "slug", "section": "body__contains"})
    assert title("/sport/news/hello-world/") == "/sport/news/hello-world/"
    a_post(body="sport", title="Hello Sport")
    assert title("/sport/news/hello-world/") == "Hello Sport"


@pytest.mark.django_db
def test_a_url_name_without_its_namespace_is_another(source):
    a_post()
    source(url_name="detail", arguments={"slug": "slug"})
    assert title("/sport/news/hello-world/") == "/sport/news/hello-world/"


@pytest.mark.django_db
def test_arguments_that_a_pattern_is_given_count_like_captured_ones(source):
    a_post()
    source(url_name="default", arguments={"slug": "slug"})
    assert title("/default/") == "Hello World"


@pytest.mark.django_db
def test_without_arguments_the_first_published_thing_is_the_page(source):
    source(url_name="the-only-one", arguments={})
    assert title("/the-only-one/") == "/the-only-one/"
    a_post(published=False, title="A draft")
    a_post()
    a_post(title="Second")
    assert title("/the-only-one/") == "Hello World"


@pytest.mark.django_db
@pytest.mark.parametrize("rule", [{"slug": "slug"}, {"url_name": "insensitive", "arguments": {"slug": "slug"}}])
def test_the_first_created_of_those_published_wins(source, rule):
    source(**rule)
    at = "/insensitive/hello-world/" if "url_name" in rule else "/hello-world"
    first = a_post(title="First")
    a_post(title="Second")
    assert title(at) == "First"
    first.published = False
    first.save()
    assert title(at) == "Second"


@pytest.mark.django_db
def test_one_thing_may_be_the_page_at_several_paths(source):
    a_post()
    source(url_name="insensitive", arguments={"slug": "slug__iexact"})
    paths = ["/insensitive/hello-world/", "/insensitive/Hello-World/", "/insensitive/HELLO-WORLD/"]
    assert titles(paths) == dict.fromkeys(paths, Titled("Hello World", "blog"))


@pytest.mark.django_db
def test_sources_are_asked_in_their_order(source):
    a_post()
    Page.objects.create(title="A page", slug="hello-world", published=True)
    source("pages", model="blog.Page", type="page", url_name="insensitive", arguments={"slug": "slug"})
    source("posts", url_name="insensitive", arguments={"slug": "slug"})
    assert titles(["/insensitive/hello-world/"]) == {"/insensitive/hello-world/": Titled("A page", "page")}


@pytest.mark.django_db
def test_both_rules_stand_beside_each_other(source):
    a_post()
    Page.objects.create(title="About", slug="about", published=True)
    source("pages", model="blog.Page", type="page", slug="slug")
    source("posts", url_name="insensitive", arguments={"slug": "slug"})
    assert titles(["/about", "/insensitive/hello-world/", "/", ""]) == {
        "/about": Titled("About", "page"),
        "/insensitive/hello-world/": Titled("Hello World", "blog"),
        "/": Titled("Home", "home"),
        "": Titled("Home", "home"),
    }
    assert published_counts() == {"pages": 1, "posts": 1}


@pytest.mark.django_db
def test_a_lookup_may_go_over_relations_and_a_row_found_twice_is_one(source):
    group = Group.objects.create(name="editors")
    for name in ("ann", "bob"):
        User.objects.create(username=name).groups.add(group)
    source(
        model="auth.Group",
        published={"user__isnull": False},
        title="name",
        url_name="user",
        arguments={"name": "user__username"},
    )
    assert titles(["/user/ann/", "/user/bob/", "/user/cy/"]) == {
        "/user/ann/": Titled("editors", "blog"),
        "/user/bob/": Titled("editors", "blog"),
        "/user/cy/": Titled("/user/cy/", "other"),
    }


@pytest.mark.django_db
def test_a_title_that_is_no_text_is_made_one_and_none_is_no_title(source):
    user = User.objects.create(username="ann")
    source(model="auth.User", published={}, title="last_login", url_name="user", arguments={"name": "username"})
    assert title("/user/ann/") == "/user/ann/"
    User.objects.update(last_login=T0)
    assert title("/user/ann/") == str(User.objects.get(pk=user.pk).last_login)


@pytest.mark.django_db
def test_the_language_of_the_reader_is_not_that_of_the_page(source, settings):
    settings.LANGUAGE_CODE = "en"
    a_post()
    source(url_name="read", arguments={"slug": "slug"})
    for language in ("en", "de"):
        with translation.override(language):
            assert title("/nl/read/hello-world/") == title("/en/read/hello-world/") == "Hello World"
            assert translation.get_language() == language


@pytest.mark.django_db
def test_a_site_below_a_prefix_finds_its_pages(source):
    a_post()
    source(url_name="insensitive", arguments={"slug": "slug"})
    set_script_prefix("/below/here/")
    try:
        assert title("/below/here/insensitive/hello-world/") == "Hello World"
    finally:
        set_script_prefix("/")


@pytest.mark.django_db
def test_a_callable_among_the_published_lookups_is_called_at_each_read(source):
    clock = SimpleNamespace(at=CREATED - timedelta(seconds=1))
    a_post()
    source(published={"published": True, "created__lte": lambda: clock.at}, slug="slug")
    assert (title("/hello-world"), published_counts()) == ("/hello-world", {"posts": 0})
    clock.at = CREATED
    assert (title("/hello-world"), published_counts()) == ("Hello World", {"posts": 1})


@pytest.mark.django_db
def test_the_clock_of_django_is_such_a_callable(source):
    source(published={"created__lte": timezone.now}, slug="slug")
    a_post(created=timezone.now() + timedelta(hours=1), title="To come")
    assert published_counts() == {"posts": 0}
    a_post(created=timezone.now() - timedelta(hours=1), title="There")
    assert (title("/hello-world"), published_counts()) == ("There", {"posts": 1})
    assert find_faults() == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("rule", "at"),
    [
        ({"slug": "slug"}, "/{}"),
        ({"url_name": "post", "arguments": {"year": "created__year", "slug": "slug"}}, "/2026/1/{}/"),
    ],
)
def test_a_source_is_asked_once_for_all_pages_that_are_shown(source, rule, at, django_capture_queries):
    source(**rule)
    Post.objects.bulk_create(
        Post(title=f"Post {n}", slug=f"post-{n}", published=True, created=CREATED) for n in range(100)
    )
    paths = [at.format(f"post-{n}") for n in range(100)]
    found = {}
    assert len(django_capture_queries(lambda: found.update(titles(paths)))) == 1
    assert found == {path: Titled(f"Post {n}", "blog") for n, path in enumerate(paths)}
    assert len(django_capture_queries(lambda: titles(paths[:1]))) == 1


@pytest.mark.django_db
def test_more_pages_than_a_query_asks_for_are_asked_for_in_batches(source, monkeypatch, django_capture_queries):
    monkeypatch.setattr(sources, "MOST_PAGES", 4)
    source(url_name="insensitive", arguments={"slug": "slug"})
    Post.objects.bulk_create(Post(title=f"Post {n}", slug=f"post-{n}", published=True) for n in range(10))
    paths = [f"/insensitive/post-{n}/" for n in range(10)]
    found = {}
    assert len(django_capture_queries(lambda: found.update(titles(paths)))) == 3
    assert found == {path: Titled(f"Post {n}", "blog") for n, path in enumerate(paths)}


@pytest.mark.django_db
def test_as_many_pages_as_a_query_asks_for_are_not_too_many_for_the_database(source):
    source(
        url_name="post",
        arguments={"year": "created__year", "month": "created__month", "slug": "slug"},
    )
    paths = [f"/2026/1/{'x' * 400}-{n}/" for n in range(sources.MOST_PAGES)]
    Post.objects.bulk_create(Post(title="A", slug=f"other-{n}", published=True) for n in range(3))
    assert titles(paths) == {path: Titled(path, "other") for path in paths}


@pytest.mark.django_db
def test_a_source_none_of_whose_pages_is_shown_is_not_asked(source, django_capture_queries):
    source(url_name="insensitive", arguments={"slug": "slug"})
    assert django_capture_queries(lambda: titles(["/", "", "/stats", "/hello-world", "/by-id/1/"])) == []


HOSTILE = [
    "\x00",
    "/\x00",
    "/insensitive/a\x00b/",
    "/insensitive/\ud800/",
    "/insensitive/%00/",
    "/insensitive/' OR 1=1 --/",
    "/by-id/99999999999999999999999999/",
    "/by-id/9223372036854775807/",
    "/by-id/9223372036854775808/",
    f"/by-id/{'9' * 5000}/",
    "/0/0/hello-world/",
    "/0/1/hello-world/",
    "/1/1/hello-world/",
    "/9999/99/hello-world/",
    "/99999/1/hello-world/",
    "/99999999999999999999/99999999999999999999/hello-world/",
    "/by-uuid/no-uuid/",
    f"/by-uuid/{uuid.UUID(int=1)}/",
    "/by-day/2026-02-31/",
    "/by-day/yesterday/",
    "/strange/list/",
    "/strange/huge/",
    "/strange/surrogate/",
    "/strange/nul/",
    "/9223372036854775808",
    "/99999999999999999999",
    "/²",
    "/constructor",
    "//evil.example/",
    "/../../etc/passwd",
    "?",
    "#",
    "not a path",
    "/" + 10_000 * "x",
    "/" + 10_000 * "/",
    "/nl/",
    "/xx-yy/read/hello-world/",
    "/nl/read/\U0001f642/",
]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "rule",
    [
        {"slug": "slug"},
        {"slug": "pk"},
        {"slug": "created"},
        {"url_name": "insensitive", "arguments": {"slug": "slug"}},
        {"url_name": "read", "arguments": {"slug": "slug"}},
        {"url_name": "by-id", "arguments": {"pk": "pk"}},
        {"url_name": "by-id", "arguments": {"pk": "created__month"}},
        {"url_name": "by-uuid", "arguments": {"uuid": "pk"}},
        {"url_name": "by-day", "arguments": {"day": "created__date"}},
        {"url_name": "post", "arguments": {"year": "created__year", "month": "created__month", "slug": "slug"}},
        {"url_name": "strange", "arguments": {"value": "slug"}},
        {"url_name": "strange", "arguments": {"value": "pk"}},
        {"url_name": "strange", "arguments": {"value": "pk__in"}},
        {"url_name": "strange", "arguments": {"value": "created__month"}},
        {"url_name": "strange", "arguments": {"value": "created__gt"}},
        {"slug": "created__month"},
    ],
    ids=str,
)
def test_no_path_breaks_the_answer_or_takes_another_one_its_title(source, rule):
    source(**rule)
    post = a_post()
    source("others", slug="slug", type="found by slug")
    found = titles([*HOSTILE, "/hello-world", f"/by-id/{post.pk}/"])
    assert {path: found[path] for path in HOSTILE} == {path: Titled(path, "other") for path in HOSTILE}
    assert found["/hello-world"].title == "Hello World"
    if rule == {"url_name": "by-id", "arguments": {"pk": "pk"}}:
        assert found[f"/by-id/{post.pk}/"] == Titled("Hello World", "blog")


@pytest.mark.django_db
def test_a_slug_that_is_a_number_is_compared_as_it_is_written(source):
    post = a_post()
    source(slug="pk")
    paths = [f"/{post.pk}", f"/0{post.pk}", f"/+{post.pk}", "/hello"]
    assert [found.page_type for found in map(titles(paths).get, paths)] == ["blog", "other", "other", "other"]


@pytest.mark.parametrize(
    "changes",
    [
        {"slug": "slug"},
        {"slug": "pk", "title": "created__year"},
        {"url_name": "post", "arguments": {"year": "created__year", "month": "created__month", "slug": "slug"}},
        {"url_name": "by-id", "arguments": {"pk": "pk", "decoration": "slug__iexact"}},
        {"url_name": "by-id", "arguments": {"pk": "pk__in"}},
        {"url_name": "fresh-news:detail", "arguments": {"slug": "slug", "section": "body"}},
        {"url_name": "default", "arguments": {"slug": "slug"}},
        {"url_name": "the-only-one", "arguments": {}},
        {"url_name": "read", "arguments": {"slug": "slug"}},
        {"slug": "slug", "published": {}},
        {"slug": "slug", "published": {"created__lte": timezone.now, "published": True}},
        {"slug": "name", "model": "auth.Group", "title": "permissions__name", "published": {"user__isnull": False}},
        {"url_name": "admin:blog_post_change", "arguments": {"object_id": "pk"}},
    ],
    ids=str,
)
def test_a_source_that_works_has_no_fault(source, settings, changes):
    source(**changes)
    if "admin:" in changes.get("url_name", ""):
        settings.ROOT_URLCONF = "example_project.urls"
    assert find_faults() == []


@pytest.mark.parametrize(
    ("changes", "fault", "hint"),
    [
        (
            {"model": "blog.Pots", "slug": "slug"},
            "has the model 'blog.Pots', which is not installed.",
            'Use "app_label.ModelName" of an app in INSTALLED_APPS.',
        ),
        (
            {"model": "Post", "slug": "slug"},
            "has the model 'Post', which is not installed.",
            'Use "app_label.ModelName" of an app in INSTALLED_APPS.',
        ),
        (
            {"slug": "slug", "title": "headline"},
            "has the title 'headline', which is not a field of blog.Post.",
            "Cannot resolve keyword 'headline' into field. Choices are: ",
        ),
        (
            {"slug": "sluk"},
            "has the slug 'sluk', which is not a field of blog.Post.",
            "Cannot resolve keyword 'sluk' into field. Choices are: ",
        ),
        (
            {"slug": "slug", "published": {"live": True}},
            "has the published lookup 'live', which blog.Post does not have.",
            "Cannot resolve keyword 'live' into field. Choices are: ",
        ),
        (
            {"slug": "slug", "published": {"created__before": T0}},
            "has the published lookup 'created__before', which blog.Post does not have.",
            "Unsupported lookup 'before' for DateTimeField",
        ),
        (
            {"slug": "slug", "published": {"published": "perhaps"}},
            "compares the published lookup 'published' with 'perhaps', which is impossible.",
            "“perhaps” value must be either True or False.",
        ),
        (
            {"slug": "slug", "published": {"pk": "one"}},
            "compares the published lookup 'pk' with 'one', which is impossible.",
            "Field 'id' expected a number but got 'one'.",
        ),
        (
            {"url_name": "by-id", "arguments": {"pk": "number"}},
            "has the lookup 'number' for the argument 'pk', which blog.Post does not have.",
            "Cannot resolve keyword 'number' into field. Choices are: ",
        ),
        (
            {"url_name": "psot", "arguments": {}},
            "has the url_name 'psot', which no URL pattern has.",
            "Use a name of ROOT_URLCONF as reverse() takes it: ",
        ),
        (
            {"url_name": "stale-news:detail", "arguments": {}},
            "has the url_name 'stale-news:detail', which no URL pattern has.",
            "Use a name of ROOT_URLCONF as reverse() takes it: ",
        ),
        (
            {"url_name": "fresh-news:", "arguments": {}},
            "has the url_name 'fresh-news:', which no URL pattern has.",
            "Use a name of ROOT_URLCONF as reverse() takes it: ",
        ),
        (
            {"url_name": "by-id", "arguments": {"id": "pk"}},
            "has the arguments 'id', which the URL patterns of 'by-id' do not capture together.",
            "They capture decoration, pk or pk by name.",
        ),
        (
            {"url_name": "positional", "arguments": {"slug": "slug"}},
            "has the arguments 'slug', which the URL patterns of 'positional' do not capture together.",
            "They capture nothing by name.",
        ),
    ],
    ids=str,
)
def test_a_fault_is_said_with_the_source_and_the_value_and_a_hint(source, changes, fault, hint):
    source(**changes)
    (found,) = find_faults()
    assert found.fault == f"PAGESTATS_CONTENT['posts'] {fault}"
    assert found.hint.startswith(hint)


def test_all_faults_of_all_sources_are_said(source):
    source("one", model="no.Model", slug="slug")
    source("two", title="x", url_name="y", arguments={"z": "z"}, published={"w": 1})
    assert [fault.partition("]")[0] for fault, _ in find_faults()] == [
        "PAGESTATS_CONTENT['one'",
        *["PAGESTATS_CONTENT['two'"] * 4,
    ]


def test_a_setting_that_has_not_the_right_shape_is_no_fault_of_a_source(settings):
    settings.PAGESTATS_CONTENT = {"posts": {"model": "blog.Post"}}
    assert Settings.CONTENT.fault() is not None
    assert find_faults() == []


SLUG = {"model": "blog.Post", "published": {}, "title": "title", "type": "blog", "slug": "slug"}
URL = {"model": "blog.Post", "published": {}, "title": "title", "type": "blog", "url_name": "post", "arguments": {}}


@pytest.mark.parametrize("source", [SLUG, URL], ids=["slug", "url_name"])
def test_a_source_has_the_right_shape(settings, source):
    settings.PAGESTATS_CONTENT = {"posts": source}
    assert Settings.CONTENT.fault() is None


@pytest.mark.parametrize(
    "source",
    [
        None,
        [],
        {},
        {**SLUG, "url_name": "post", "arguments": {}},
        {**SLUG, "arguments": {}},
        {**SLUG, "extra": 1},
        *({key: value for key, value in SLUG.items() if key != absent} for absent in SLUG),
        *({key: value for key, value in URL.items() if key != absent} for absent in URL),
        {**SLUG, "model": Post},
        {**SLUG, "slug": ""},
        {**SLUG, "slug": None},
        {**SLUG, "type": 1},
        {**SLUG, "published": [("published", True)]},
        {**SLUG, "published": {1: True}},
        {**URL, "arguments": {"year": 1}},
        {**URL, "arguments": {1: "year"}},
        {**URL, "arguments": ["year"]},
        {**URL, "url_name": 1},
        {**SLUG, 1: 2},
    ],
    ids=str,
)
def test_any_other_shape_is_refused(settings, source):
    settings.PAGESTATS_CONTENT = {"posts": source}
    assert Settings.CONTENT.fault().startswith("PAGESTATS_CONTENT is ")
