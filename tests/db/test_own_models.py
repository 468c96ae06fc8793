"""The figures of a site's own objects: as columns of its querysets, and of one object, equal to the raw truth."""

import importlib
import pickle
import sys
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth.models import Group, User
from django.core.paginator import Paginator
from django.db import NotSupportedError, connection
from django.db.models import Count, F, IntegerField, Max, Min, OuterRef, Q, QuerySet, Subquery, Sum
from django.http import HttpResponse
from django.test import override_settings
from django.test.utils import isolate_apps
from django.urls import include, path, re_path, register_converter, set_script_prefix
from django.utils import timezone, translation
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from example_project.blog.models import Post
from pagestats.content import path_of
from pagestats.content.expressions import UuidText
from pagestats.days import DAY
from pagestats.models import PageView
from pagestats.querysets import ViewsMixin, ViewsQuerySet
from pagestats.recording import record_page_views
from pagestats.retention import prune
from pagestats.rollups import backfill
from pagestats.stats import NoPage, Refused, report, views_of, with_views, with_visitors
from tests.factories import T0, a_hit, a_post, raw_views

AMSTERDAM = ZoneInfo("Europe/Amsterdam")


class FourDigits:
    """A converter that writes values in a way of its own."""

    regex = "[0-9]{4}"

    def to_python(self, value):
        return int(value)

    def to_url(self, value):
        return f"{value:04d}"


register_converter(FourDigits, "four")


def page(request, **arguments):
    return HttpResponse()


urlpatterns = [
    path("by-str/<str:slug>/", page, name="by-str"),
    path("by-slug/<slug:slug>/", page, name="by-slug"),
    path("by-path/<path:slug>", page, name="by-path"),
    path("100%/<int:pk>/", page, name="by-id"),
    path("<int:year>/<int:month>/<int:day>/<slug:slug>/", page, name="by-day"),
    path("two/<slug:slug>/", page, name="two"),
    path("zwei/<slug:slug>/", page, name="two"),
    path("four/<four:pk>/", page, name="four"),
    path("by-uuid/<uuid:token>/", page, name="by-uuid"),
    path("user/<str:name>/", page, name="user"),
    path("the-only-one/", page, name="the-only-one"),
    path("<slug:section>/news/", include(([path("<slug:slug>/", page, name="detail")], "news"), namespace="news")),
    re_path(r"^regular/(?P<slug>[-\w]+)/$", page, name="regular"),
    *i18n_patterns(path("read/<slug:slug>/", page, name="read")),
]


@pytest.fixture
def source(settings):
    """A function that makes one content source of posts, but for the changes."""
    settings.ROOT_URLCONF = __name__

    def make(name="posts", **changes):
        settings.PAGESTATS_CONTENT = {**getattr(settings, "PAGESTATS_CONTENT", {}), name: a_source(**changes)}

    return make


def a_source(**changes: Any) -> dict[str, Any]:
    return {"model": "blog.Post", "published": {"published": True}, "title": "title", "type": "blog", **changes}


def posts() -> QuerySet[Post]:
    return Post.objects.order_by("pk")


def figures(rows: QuerySet[Any], **arguments: Any) -> list[tuple[int, int]]:
    both = with_visitors(with_views(rows, **arguments), **arguments)
    return list(both.values_list("views", "visitors"))


def counted(at: str | None, days: int | None = None) -> tuple[int, int]:
    """Count the page views and the sessions of a path in plain Python, of all time or of the days up to T0's."""
    last = T0.astimezone(AMSTERDAM).date()
    rows = [
        session_id
        for viewed, session_id, when in PageView.objects.values_list("path", "session_id", "timestamp")
        if viewed == at and (days is None or last - (days - 1) * DAY <= when.astimezone(AMSTERDAM).date() <= last)
    ]
    return len(rows), len({*rows})


# Letters that quoting, patterns, collations and trimming stumble over.
TEXTS = st.text(alphabet=st.sampled_from([*"aAäb0 /%_'\"\\-?#.[]^~*{}:;é\u212a\n\t", "ß", "🙂", "\u0301"]), max_size=4)
SLUGS = st.lists(TEXTS, min_size=1, max_size=6)
RULES = {
    "slug": {"slug": "slug"},
    "str": {"url_name": "by-str", "arguments": {"slug": "slug"}},
    "slug converter": {"url_name": "by-slug", "arguments": {"slug": "slug"}},
    "path": {"url_name": "by-path", "arguments": {"slug": "slug"}},
    "exact": {"url_name": "by-str", "arguments": {"slug": "slug__exact"}},
    "id": {"url_name": "by-id", "arguments": {"pk": "pk"}},
    "two": {"url_name": "news:detail", "arguments": {"section": "title", "slug": "slug"}},
}
VIEWS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["ann", "bob"]),
        st.integers(0, 24 * 4),
        st.sampled_from(["recorded", "recorded", "pending", "folded"]),
    ),
    max_size=8,
)


class Truth(TestCase):
    """Django's transactions, and one for each example of Hypothesis."""

    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(rule=st.sampled_from(sorted(RULES)), slugs=SLUGS, views=VIEWS, elsewhere=st.lists(TEXTS, max_size=3))
    @example(
        rule="slug",
        slugs=["a", "A", "a ", "ä"],
        views=[(0, "ann", 0, "recorded"), (1, "ann", 1, "pending")],
        elsewhere=[],
    )
    @example(rule="str", slugs=["a/b", "", "%", " "], views=[(2, "ann", 0, "pending")], elsewhere=["a/b/", ""])
    @example(rule="path", slugs=["a\nb", "a/b"], views=[(0, "ann", 0, "recorded")], elsewhere=["by-path/a\nb"])
    def test_they_are_the_raw_truth_at_every_instant(self, rule, slugs, views, elsewhere):
        with override_settings(ROOT_URLCONF=__name__, PAGESTATS_CONTENT={"posts": a_source(**RULES[rule])}):
            made = [a_post(slug, title="sport", published=number % 2 == 0) for number, slug in enumerate(slugs)]
            paths = [path_of(post) for post in made]
            viewed = [*(path for path in paths if path), *(f"/{text}" for text in elsewhere), "/", "/by-str//"]
            for number, session_id, hours, how in views:
                at = T0 - hours * timedelta(hours=1)
                where = viewed[number % len(viewed)]
                if how == "recorded":
                    record_page_views([a_hit(path=where, session_id=session_id, at=at)])
                    continue
                raw_views([(where, session_id, at)])
                if how == "folded":
                    list(backfill())
            for days in (None, 1, 3):
                truth = [counted(path, days) for path in paths]
                assert figures(posts(), days=days, at=T0) == truth, (paths, days)
                assert [views_of(post, days=days, at=T0) for post in made] == [views for views, _ in truth]


def test_they_are_those_of_the_report(db, source):
    source(slug="slug")
    post = a_post()
    record_page_views(
        a_hit(path="/hello", session_id=f"s{number % 3}", at=T0 - number * 5 * timedelta(hours=1))
        for number in range(20)
    )
    raw_views([("/hello", "s0", T0), ("/hello", "another", T0 - DAY)])
    for days in (1, 2, 4):
        end = T0.astimezone(AMSTERDAM).date()
        told = report(end - (days - 1) * DAY, end, dimension="page", value="/hello")
        assert figures(posts(), days=days, at=T0) == [(told.views, told.visitors)]
        assert views_of(post, days=days, at=T0) == told.views > 0


def some_posts() -> list[Post]:
    made = [a_post(slug) for slug in ("first", "second", "third")]
    record_page_views(
        a_hit(path=path, session_id=f"s{number}", at=T0 - days * DAY)
        for path, days in (("/second", 0), ("/second", 5), ("/third", 5))
        for number in range(3)
    )
    return made


def test_they_can_be_sorted_filtered_added_up_grouped_sliced_and_pickled(db, source, django_assert_num_queries):
    source(slug="slug")
    some_posts()
    rows = with_views(Post.objects.all())
    with django_assert_num_queries(1):
        assert [(post.slug, post.views) for post in rows.order_by("-views", "slug")] == [
            ("second", 6),
            ("third", 3),
            ("first", 0),
        ]
    assert [post.slug for post in rows.filter(views__gt=3)] == ["second"]
    assert rows.aggregate(all=Sum("views")) == {"all": 9}
    assert rows.count() == 3
    assert rows.order_by("views").last().slug == "second"
    assert rows.annotate(twice=F("views") * 2).order_by("-twice")[0].twice == 12
    assert [*rows.order_by("slug").values_list("slug", "views")[1:]] == [("second", 6), ("third", 3)]
    assert pickle.loads(pickle.dumps(list(rows.order_by("slug"))))[1].views == 6
    again = rows.all()
    again.query = pickle.loads(pickle.dumps(rows.order_by("slug").query))
    assert [post.views for post in again] == [0, 6, 3]
    grouped = rows.values("published").annotate(posts=Count("pk"), viewed=Sum("views"))
    assert list(grouped.order_by()) == [{"published": True, "posts": 3, "viewed": 9}]
    plain = with_views(Post.objects.order_by()).values_list("views", flat=True)
    assert sorted(plain.union(plain).order_by()) == [0, 3, 6]


def test_other_querysets_may_be_made_of_them(db, source):
    source(slug="slug")
    first, second, third = some_posts()
    raw_views([("/third", f"pending {number}", T0) for number in range(4)])
    rows = with_views(Post.objects.all())
    assert [post.slug for post in rows.exclude(views=0).order_by("-views")] == ["third", "second"]
    assert [*rows.values("views").annotate(posts=Count("pk")).order_by("views").values_list("views", "posts")] == [
        (0, 1),
        (6, 1),
        (7, 1),
    ]
    most = rows.filter(pk=OuterRef("pk")).values("views")
    assert [post.most for post in Post.objects.annotate(most=Subquery(most)).order_by("pk")] == [0, 6, 7]
    assert Post.objects.filter(pk__in=rows.filter(views__gt=6).values("pk")).get() == third
    assert [*rows.order_by("pk").distinct().values_list("views", flat=True)] == [0, 6, 7]
    assert {pk: post.views for pk, post in rows.in_bulk().items()} == {first.pk: 0, second.pk: 6, third.pk: 7}
    assert [post.views for post in rows.order_by("pk").iterator(chunk_size=2)] == [0, 6, 7]
    assert (rows.filter(views__gt=0).exists(), rows.filter(views__gt=7).exists()) == (True, False)
    assert rows.filter(views=Subquery(rows.order_by("-views").values("views")[:1])).get() == third
    assert [post.views for post in (rows.filter(slug="first") | rows.filter(slug="third")).order_by("pk")] == [0, 7]
    assert rows.aggregate(least=Min("views"), most=Max("views"), of=Count("pk", filter=Q(views__gt=0))) == {
        "least": 0,
        "most": 7,
        "of": 2,
    }
    assert [post.views for post in rows.order_by("pk").only("slug").select_for_update()] == [0, 6, 7]
    assert rows.filter(views=0).update(title="Nobody came") == 1
    assert rows.filter(views=0).delete()[0] == 1
    assert Post.objects.count() == 2


@pytest.mark.parametrize("figures_first", [True, False])
def test_rows_that_are_joined_and_grouped_have_theirs_once(db, source, figures_first):
    source(model="auth.Group", published={}, title="name", url_name="user", arguments={"name": "name"})
    groups = [Group.objects.create(name=name) for name in "abc"]
    for number in range(3):
        User.objects.create(username=f"u{number}").groups.add(*groups[number:])
    record_page_views(a_hit(path="/user/b/", session_id=f"s{number}") for number in range(4))
    raw_views([("/user/a/", "pending", T0)])
    users = Count("user")
    rows = (
        with_views(Group.objects.all()).annotate(users=users)
        if figures_first
        else with_views(Group.objects.annotate(users=users))
    )
    expected = [("a", 1, 1), ("b", 4, 2), ("c", 0, 3)]
    assert [*rows.order_by("name").values_list("name", "views", "users")] == expected
    assert [*rows.filter(users__gt=1, views__gt=0).values_list("name", flat=True)] == ["b"]
    assert User.objects.filter(groups__in=with_views(Group.objects.all()).filter(views__gt=2)).distinct().count() == 2


def test_pages_of_a_list_are_counted_without_a_figure(db, source, django_capture_queries):
    source(slug="slug")
    some_posts()
    pages = Paginator(with_views(Post.objects.all()).order_by("-views", "pk"), 2)
    [counting] = django_capture_queries(lambda: pages.count)
    assert "pagestats" not in counting
    [reading] = django_capture_queries(lambda: [*pages.page(1)])
    assert "pagestats" in reading
    assert [[post.slug for post in page] for page in pages] == [["second", "third"], ["first"]]


def test_rows_of_another_database_than_the_page_views_are_refused(db, source):
    source(slug="slug")
    post = a_post()
    for ask in (with_views, with_visitors):
        with pytest.raises(NoPage, match="they are in the database 'other', and page views in 'default'"):
            ask(Post.objects.using("other"))
    assert views_of(post) == 0


def test_a_row_may_carry_the_figures_of_several_ranges(db, source):
    source(slug="slug")
    some_posts()
    rows = with_views(with_views(Post.objects.all()), days=2, name="lately", at=T0)
    assert [(post.views, post.lately) for post in rows.order_by("slug")] == [(0, 0), (6, 3), (3, 0)]


def test_a_mixin_gives_a_model_the_methods(db, source):
    source(slug="slug")
    some_posts()

    class PostQuerySet(ViewsMixin, QuerySet):
        pass

    for queryset in (PostQuerySet, ViewsQuerySet):
        rows = queryset(Post).with_views(days=2, at=T0).with_visitors().order_by("-views", "slug")
        assert [(post.slug, post.views, post.visitors) for post in rows] == [
            ("second", 3, 3),
            ("first", 0, 0),
            ("third", 0, 3),
        ]


def test_a_queryset_that_is_kept_moves_on_with_the_days(db, source, monkeypatch):
    source(slug="slug")
    a_post()
    kept = with_views(Post.objects.all(), days=1)
    now = timezone.now()
    record_page_views([a_hit(path="/hello", at=now)])
    assert [post.views for post in kept.all()] == [1]
    PageView.objects.all()
    monkeypatch.setattr(timezone, "now", lambda: now + 2 * DAY)
    assert [post.views for post in kept.all()] == [0]


VIEWS_MODULE = """
from django.http import HttpResponse
from example_project.blog.models import Post
from pagestats.stats import with_views
kept = with_views(Post.objects.order_by("pk"))
read = HttpResponse
"""
URLS_MODULE = """
from django.conf.urls.i18n import i18n_patterns
from django.urls import path
import kept_views
urlpatterns = i18n_patterns(path("kept/<slug:slug>/", kept_views.read, name="kept"))
"""


def test_a_queryset_can_be_built_while_the_url_patterns_are_imported(db, source, settings, tmp_path, monkeypatch):
    """As a view has one: `class PostList(ListView): queryset = Post.objects.with_views()`."""
    source(url_name="kept", arguments={"slug": "slug"})
    settings.ROOT_URLCONF = "kept_urls"
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in (("kept_views", VIEWS_MODULE), ("kept_urls", URLS_MODULE)):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    a_post()
    record_page_views(a_hit(path="/nl/kept/hello/", session_id=f"s{number}") for number in range(2))
    record_page_views([a_hit(path="/de/kept/hello/")])
    kept = importlib.import_module("kept_urls").kept_views.kept
    for language, views in (("nl", 2), ("de", 1), ("en", 0), ("nl", 2)):
        with translation.override(language):
            assert [post.views for post in kept.all()] == [views]


def test_url_patterns_that_sql_cannot_express_are_refused_when_read(db, source, settings, tmp_path, monkeypatch):
    source(url_name="two", arguments={"slug": "slug"})
    settings.ROOT_URLCONF = "kept_urls"
    monkeypatch.delitem(sys.modules, "kept_urls", raising=False)
    kept = with_views(Post.objects.all())
    settings.ROOT_URLCONF = __name__
    with pytest.raises(NoPage, match="2 URL patterns of 'two'"):
        list(kept)


def test_a_column_of_another_name_leaves_the_field_of_that_name_alone(db, source):
    source(slug="slug")
    some_posts()
    with pytest.raises(ValueError, match="conflicts with a field"):
        with_views(Post.objects.all(), name="title")


@pytest.mark.parametrize("days", [0, -1, 3661, 1.5, True, "7"])
def test_a_range_that_is_none_is_refused(db, source, days):
    source(slug="slug")
    for ask in (lambda: with_views(Post.objects.all(), days=days), lambda: views_of(a_post(), days=days)):
        with pytest.raises(Refused, match="days is"):
            ask()


def test_a_column_of_another_collation_is_still_compared_byte_for_byte(db, source):
    source(slug="slug")
    some_posts()
    record_page_views([a_hit(path="/FIRST"), a_hit(path="/first ", session_id="t")])
    assert [post.views for post in with_views(Post.objects.order_by("slug"))] == [0, 6, 3]


def test_the_parts_of_a_day_are_those_of_the_sites_own_zone(db, source, settings):
    settings.TIME_ZONE = "UTC" if connection.vendor == "mysql" else "Europe/Amsterdam"
    source(
        url_name="by-day",
        arguments={"year": "created__year", "month": "created__month", "day": "created__day", "slug": "slug"},
    )
    post = a_post(created=datetime(2025, 12, 31, 23, 30, tzinfo=UTC))
    expected = "/2025/12/31/hello/" if connection.vendor == "mysql" else "/2026/1/1/hello/"
    with timezone.override("America/New_York"):
        assert path_of(post) == expected
        record_page_views([a_hit(path=expected)])
        assert (figures(posts()), views_of(post)) == ([(1, 1)], 1)


def test_a_database_that_knows_no_time_zones_says_so(db, source):
    source(
        url_name="by-day",
        arguments={"year": "created__year", "month": "created__month", "day": "created__day", "slug": "slug"},
    )
    a_post()
    if connection.features.has_zoneinfo_database:
        assert figures(posts()) == [(0, 0)]
    else:
        with pytest.raises(NotSupportedError, match="mysql_tzinfo_to_sql"):
            figures(posts())


def test_a_site_below_a_prefix_counts_there(db, source):
    source(url_name="by-str", arguments={"slug": "slug"})
    post = a_post()
    record_page_views([a_hit(path="/below/by-str/hello/")])
    assert (path_of(post), figures(posts())) == ("/by-str/hello/", [(0, 0)])
    set_script_prefix("/below/")
    try:
        assert (path_of(post), figures(posts())) == ("/below/by-str/hello/", [(1, 1)])
    finally:
        set_script_prefix("/")


def test_a_page_in_several_languages_is_the_one_in_the_active_language(db, source):
    source(url_name="read", arguments={"slug": "slug"})
    post = a_post()
    record_page_views([a_hit(path="/nl/read/hello/")])
    with translation.override("nl"):
        assert (path_of(post), figures(posts())) == ("/nl/read/hello/", [(1, 1)])
    with translation.override("de"):
        assert (path_of(post), figures(posts())) == ("/de/read/hello/", [(0, 0)])


def test_a_page_without_arguments_is_that_of_each_row(db, source):
    source(url_name="the-only-one", arguments={})
    post = a_post()
    record_page_views([a_hit(path="/the-only-one/")])
    assert (path_of(post), figures(posts()), views_of(post)) == ("/the-only-one/", [(1, 1)], 1)


def test_a_value_may_be_reached_over_relations(db, source):
    permission = Group.objects.create(name="editors").permissions.model.objects.select_related("content_type").first()
    source(
        model="auth.Permission",
        published={},
        title="name",
        url_name="news:detail",
        arguments={"section": "content_type__app_label", "slug": "codename"},
    )
    at = f"/{permission.content_type.app_label}/news/{permission.codename}/"
    assert path_of(permission) == at
    record_page_views([a_hit(path=at)])
    rows = with_views(type(permission).objects.filter(pk=permission.pk))
    assert [row.views for row in rows] == [1]


def test_a_model_of_two_sources_is_where_it_is_published(db, source):
    source("drafts", published={"published": False}, url_name="by-slug", arguments={"slug": "slug"})
    source("posts", slug="slug")
    published, draft = a_post("one"), a_post("two", published=False)
    record_page_views([a_hit(path="/one"), a_hit(path="/by-slug/two/"), a_hit(path="/two", session_id="t")])
    assert [path_of(published), path_of(draft)] == ["/one", "/by-slug/two/"]
    assert figures(posts()) == [(1, 1), (1, 1)]


def test_a_path_that_is_longer_than_those_stored_is_not_guessed(db, source):
    source(url_name="by-path", arguments={"slug": "body"})
    fits, long = a_post(body="x" * (512 - 9)), a_post(body="x" * (512 - 8))
    assert [len(path_of(post)) for post in (fits, long)] == [512, 513]
    record_page_views(a_hit(path=path_of(post)) for post in (fits, long))
    assert figures(posts()) == [(1, 1), (None, None)]
    assert [views_of(post) for post in (fits, long)] == [1, 1]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"url_name": "four", "arguments": {"pk": "pk"}}, "'pk' is captured by FourDigits"),
        ({"url_name": "regular", "arguments": {"slug": "slug"}}, "'slug' is captured by a regular expression"),
        ({"url_name": "two", "arguments": {"slug": "slug"}}, "2 URL patterns of 'two'"),
        ({"url_name": "by-str", "arguments": {}}, "capture other arguments than none"),
        ({"url_name": "by-str", "arguments": {"slug": "slug__startswith"}}, "is not an equality"),
        ({"url_name": "by-str", "arguments": {"slug": "created"}}, "is a DateTimeField"),
        ({"url_name": "by-str", "arguments": {"slug": "nothing"}}, "is not a field of blog.Post"),
        ({"url_name": "nowhere:by-str", "arguments": {"slug": "slug"}}, "no URL namespace 'nowhere'"),
    ],
)
def test_what_sql_can_not_tell_is_refused_with_the_reason(db, source, rule, reason):
    source(**rule)
    with pytest.raises(NoPage, match=reason):
        list(with_views(Post.objects.all()))
    path_of(a_post())
    with pytest.raises(NoPage, match=reason):  # at once, since the URL patterns are in use by now
        with_views(Post.objects.all())


def test_what_only_the_url_patterns_can_write_is_known_of_each_object(db, source):
    post = a_post()
    source("four", url_name="four", arguments={"pk": "pk"})
    assert path_of(post) == f"/four/{post.pk:04d}/"
    record_page_views([a_hit(path=path_of(post))])
    assert views_of(post) == 1


@pytest.mark.parametrize("rule", ["two", "regular"])
def test_of_several_patterns_it_is_the_one_that_reverse_takes(db, source, rule):
    source(url_name=rule, arguments={"slug": "slug"})
    assert path_of(a_post()) in {"/zwei/hello/", "/regular/hello/"}


@pytest.fixture
def essay(transactional_db):
    """A model of posts with a table of their own beside that of posts, and a proxy of it."""
    with isolate_apps("example_project.blog"):

        class Essay(Post):
            words = IntegerField(default=0)

            class Meta:
                app_label = "blog"

        class Shown(Essay):
            class Meta:
                app_label = "blog"
                proxy = True

        with connection.constraint_checks_disabled(), connection.schema_editor() as editor:
            editor.create_model(Essay)
        yield Essay, Shown
        with connection.constraint_checks_disabled(), connection.schema_editor() as editor:
            editor.delete_model(Essay)


@pytest.mark.parametrize("rule", ["slug", "id"])
def test_a_model_that_inherits_from_that_of_a_source_is_where_its_parent_is(essay, source, rule):
    source(**RULES[rule])
    model, proxy = essay
    made = [model.objects.create(title=slug, slug=slug, published=True) for slug in ("one", "two")]
    paths = [path_of(thing) for thing in made]
    assert paths == (["/one", "/two"] if rule == "slug" else [f"/100%/{thing.pk}/" for thing in made])
    record_page_views(a_hit(path=paths[1], session_id=f"s{number}") for number in range(3))
    raw_views([(paths[0], "pending", T0)])
    for rows in (model.objects, proxy.objects, posts()):
        assert figures(rows.order_by("pk")) == [(1, 1), (3, 3)]
    assert [views_of(thing) for thing in proxy.objects.order_by("pk")] == [1, 3]


def test_a_model_of_no_source_is_refused(db, source):
    source(slug="slug")
    user = User.objects.create(username="ann")
    assert path_of(user) is None
    refusal = r"of auth\.User aren't available: no content source has this model\. Add one to PAGESTATS_CONTENT\.$"
    for ask in (lambda: views_of(user), lambda: with_views(User.objects.all())):
        with pytest.raises(NoPage, match=refusal):
            ask()


def test_an_object_without_what_its_path_is_made_of_has_no_page(db, source):
    source(url_name="by-str", arguments={"slug": "slug"})
    record_page_views([a_hit(path="/by-str//"), a_hit(path="/by-str/a/b/")])
    for slug in ("", "a/b"):
        post = a_post(slug)
        assert (path_of(post), views_of(post)) == (None, 0)
    assert figures(posts()) == [(0, 0), (0, 0)]


def test_visitors_over_the_day_of_a_seal_are_not_guessed(db, source):
    source(slug="slug")
    a_post()
    record_page_views(a_hit(path="/hello", at=T0 - days * DAY) for days in range(10))
    list(prune(T0.astimezone(AMSTERDAM).date() - 4 * DAY))
    assert figures(posts(), days=3, at=T0) == [(3, 1)]
    assert figures(posts()) == [(10, None)]
    record_page_views([a_hit(path="/hello", session_id="new", at=timezone.now())])
    assert figures(posts(), days=3, at=T0) == [(3, 1)]
    assert [views for views, _ in figures(posts(), days=8, at=T0)] == [8]


@pytest.mark.parametrize("are_pending", [False, True])
def test_visitors_of_a_page_that_nobody_viewed_before_the_pruning_are_told(db, source, are_pending):
    source(slug="slug")
    a_post(slug="hello")
    a_post(slug="old")
    record_page_views(a_hit(path="/old", at=T0 - days * DAY) for days in range(10))
    list(prune(T0.astimezone(AMSTERDAM).date() - 4 * DAY))
    if are_pending:
        raw_views(("/hello", session_id, T0) for session_id in "ssr")
    else:
        record_page_views(
            a_hit(path="/hello", session_id=session_id, at=T0 + days * DAY) for session_id in "sr" for days in range(2)
        )
    end = T0 + DAY
    rows = {
        post.slug: (post.visitors, post.lately)
        for post in with_visitors(with_visitors(Post.objects.all()), days=9, at=end, name="lately")
    }
    assert rows == {"hello": (2, 2), "old": (None, rows["old"][1])}
    day = end.astimezone(AMSTERDAM).date()
    told = report(day - 8 * DAY, day, dimension="page")
    assert {row.value: row.visitors for row in told.rows} == {f"/{slug}": lately for slug, (_, lately) in rows.items()}


def test_uuids_are_written_as_python_writes_them(db):
    from django.db.models import UUIDField, Value

    token = uuid.UUID("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")
    a_post()
    rows = Post.objects.annotate(text=UuidText(Value(token, output_field=UUIDField())))
    assert [post.text for post in rows] == [str(token)]


def test_a_path_in_place_of_an_object_is_refused_with_what_to_ask_instead(db, source):
    source(slug="slug")
    for ask in (path_of, views_of):
        with pytest.raises(TypeError, match=r"^'/hello' .*views_on\(\)"):
            ask("/hello")
