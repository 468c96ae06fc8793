"""The views of a site's own objects in its own admin."""

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import DatabaseError, connection
from django.http import HttpResponse
from django.urls import path, re_path
from django.utils import timezone
from django.utils.formats import date_format

from example_project.blog.models import Post
from pagestats import access, stats
from pagestats.model_admin import ViewsAdminMixin
from pagestats.recording import record_heartbeat, record_page_views
from pagestats.retention import prune
from pagestats.rollups import backfill
from pagestats.testing import add_views
from tests.factories import WITH_DRAFTS, a_hit, now_by_the_clock, raw_views

site = admin.AdminSite(name="own")


class PostAdmin(ViewsAdminMixin, admin.ModelAdmin):
    list_display = ("page_views", "title")
    search_fields = ("title",)
    date_hierarchy = "created"
    views_days = 7


site.register(Post, PostAdmin)
urlpatterns = [
    path("admin/", admin.site.urls),
    path("own/", site.urls),
    re_path(r"^(?P<slug>\w+)$", HttpResponse, name="regular"),
]
CREATED = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture(autouse=True)
def own_admin(db, settings):
    settings.ROOT_URLCONF = __name__
    settings.PAGESTATS_CONTENT = WITH_DRAFTS
    if not connection.features.has_zoneinfo_database:  # date_hierarchy would fail in any other zone
        settings.TIME_ZONE = "UTC"
    for number, slug in enumerate(("first", "second", "third")):
        Post.objects.create(
            title=slug.title(), slug=slug, published=True, created=CREATED + number * timedelta(days=40)
        )
    now = now_by_the_clock()
    record_page_views(a_hit(path="/second", session_id=f"s{n}", at=now) for n in range(1_234))
    raw_views([("/third", "s0", now)])
    record_page_views(a_hit(path="/third", session_id=f"s{n}", at=now - timedelta(days=10)) for n in range(5))


def column(response, name="page_views"):
    cells = re.findall(rf'class="field-{name}[^"]*">(?:<a[^>]*>)?([^<]*)<', response.content.decode())
    return cells


def test_the_column_is_sorted_by_the_statement_that_lists_the_rows(admin_client, settings, django_capture_queries):
    settings.USE_THOUSAND_SEPARATOR = True
    made = []
    statements = django_capture_queries(lambda: made.append(admin_client.get("/own/blog/post/?o=-1")))
    assert column(made[0]) == ["1,234", "1", "0"]
    assert len([sql for sql in statements if "pagestats_rollup" in sql]) == 1
    assert column(admin_client.get("/own/blog/post/?o=1")) == ["0", "1", "1,234"]
    assert column(admin_client.get("/admin/blog/post/?o=-5")) == ["1,234", "6", "0"]


def test_it_can_be_searched_and_filtered_by_date(admin_client):
    assert column(admin_client.get("/own/blog/post/?q=third")) == ["1"]
    assert column(admin_client.get("/own/blog/post/?created__year=2026&created__month=1")) == ["0"]


@pytest.mark.parametrize("public", [False, True], ids=["closed", "partly public"])
def test_users_without_the_permission_do_not_see_it(client, settings, public):
    settings.PAGESTATS_PUBLIC = public
    editor = User.objects.create_user("editor", is_staff=True)
    editor.user_permissions.set(Permission.objects.filter(content_type__app_label="blog"))
    client.force_login(editor)
    pk = Post.objects.get(slug="second").pk
    assert column(client.get("/own/blog/post/")) == []
    assert column(client.get("/own/blog/post/"), "title") != []
    assert b"pagestats-panel" not in client.get(f"/own/blog/post/{pk}/change/").content
    editor.user_permissions.add(Permission.objects.get(codename="view_stats"))
    assert column(client.get("/own/blog/post/?o=-1")) == ["1,234", "1", "0"]
    assert b"pagestats-panel" in client.get(f"/own/blog/post/{pk}/change/").content


class InTheMiddle(ViewsAdminMixin, admin.ModelAdmin):
    """An admin that says itself where the panel stands."""

    fieldsets = (
        ("Figures", {"fields": ["page_figures"]}),
        (None, {"fields": ("title", ("slug", "published"))}),
    )
    readonly_fields = ("page_figures",)


@pytest.mark.parametrize("may_edit", [True, False], ids=["editor", "reader"])
def test_a_placed_panel_is_hidden_from_users_without_the_permission(client, rf, may_edit):
    staff = User.objects.create_user("staff", is_staff=True)
    words = ["add", "view", "change"] if may_edit else ["view"]
    staff.user_permissions.set(Permission.objects.filter(codename__in=[f"{word}_post" for word in words]))
    model_admin, post = InTheMiddle(Post, site), Post.objects.get(slug="third")

    def shown(thing):
        request = rf.get("/")
        request.user = User.objects.get(pk=staff.pk)
        form = model_admin.get_form(request, thing)
        assert "page_figures" not in form.base_fields
        return [options["fields"] for _, options in model_admin.get_fieldsets(request, thing)]

    assert InTheMiddle(Post, site).check() == []
    assert shown(post) == shown(None) == [["title", ["slug", "published"]]]
    staff.user_permissions.add(Permission.objects.get(codename="view_stats"))
    assert shown(post) == [["page_figures"], ("title", ("slug", "published"))]
    assert shown(None) == [["title", ["slug", "published"]]]
    model_admin.fieldsets = [(None, {"fields": ["title", ("slug", "page_figures")]})]
    assert (shown(post), shown(None)) == ([["title", ("slug", "page_figures")]], [["title", ["slug"]]])


def panel(client, slug, where="own"):
    pk = Post.objects.get(slug=slug).pk
    page = client.get(f"/{where}/blog/post/{pk}/change/").content.decode()
    assert page.count("pagestats-panel") == 1
    panel = page[page.index('<div class="pagestats-panel">') :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", panel[: panel.index("</div>\n", panel.rindex("<p>"))]))


@pytest.mark.parametrize("where", ["own", "admin"])
def test_the_panel_shows_views_and_visitors_of_thirty_days(admin_client, where):
    shown = panel(admin_client, "third", where)
    assert "Reading now 0 Views, 30 days 6 Daily visitors, 30 days 5 Views, all time 6" in shown
    assert "/third" in shown


def test_the_panel_shows_active_readers_in_the_number_format_of_the_language(admin_client, settings):
    record_heartbeat(a_hit(path="/second", at=timezone.now()))
    assert "Reading now 1 Views, 30 days 1,234" in panel(admin_client, "second")
    settings.LANGUAGE_CODE = "de"
    shown = panel(admin_client, "second")
    assert "Reading now 1 Views, 30 days 1.234" in shown
    assert "at most 1.234" in shown


def test_the_panel_draws_each_day_and_names_the_zone(admin_client):
    pk, today = Post.objects.get(slug="third").pk, stats.reporting_day()
    page = admin_client.get(f"/own/blog/post/{pk}/change/").content.decode()
    bars = re.findall(r'<title>([^<]*)</title>.*?<rect(?: class="pagestats-today")? x="[\d.]+" y="([\d.]+)"', page)
    assert len(bars) == 30
    assert bars[-1] == (f"{date_format(today)}: 1 view", "32.0")
    assert bars[-11] == (f"{date_format(today - timedelta(days=10))}: 5 views", "0.0")
    assert bars[0][1] == "40.0"
    first = date_format(today - timedelta(days=29))
    zone = timezone.get_default_timezone_name()
    assert f"Views per day, {first} to {date_format(today)} ({zone}), at most 5." in page


REGULAR = {**WITH_DRAFTS["posts"], "url_name": "regular", "arguments": {"slug": "slug"}}
del REGULAR["slug"]


@pytest.mark.parametrize("sources", [{}, {"posts": REGULAR}], ids=["no source", "no column"])
def test_a_model_without_a_column_gets_a_warning_and_can_be_edited(admin_client, settings, sources):
    assert PostAdmin(Post, site).check() == []
    settings.PAGESTATS_CONTENT = sources
    [warning] = PostAdmin(Post, site).check()
    assert warning.id == "pagestats.W006"
    why = "can't be a column of its rows" if sources else "aren't available"
    assert warning.msg.startswith(f"The views of blog.Post {why}: ")
    assert column(admin_client.get("/own/blog/post/?o=1")) == ["-", "-", "-"]
    pk = Post.objects.get(slug="second").pk
    page = admin_client.get(f"/own/blog/post/{pk}/change/")
    assert page.status_code == 200
    assert ("1,234" in page.content.decode()) is bool(sources)


def test_a_model_can_be_edited_while_page_views_are_not_readable(admin_client, monkeypatch, expected_errors):
    def fail(*args, **kwargs):
        raise DatabaseError("no page views today")

    monkeypatch.setattr(stats, "views_on", fail)
    pk = Post.objects.get(slug="second").pk
    page = admin_client.get(f"/own/blog/post/{pk}/change/")
    assert page.status_code == 200
    assert "Page views aren’t available right now." in page.content.decode()
    [logged] = expected_errors()
    assert str(logged.exc_info[1]) == "no page views today"


def test_the_list_works_with_an_invalid_range(admin_client, monkeypatch):
    monkeypatch.setattr(PostAdmin, "views_days", 5_000)
    [warning] = PostAdmin(Post, site).check()
    assert (warning.id, warning.hint) == ("pagestats.W006", "The column of views stays empty until this is fixed.")
    assert column(admin_client.get("/own/blog/post/?o=1")) == ["-", "-", "-"]


@pytest.mark.parametrize("sources", ["posts", {"posts": {**WITH_DRAFTS["posts"], "model": "blog.Nothing"}}])
def test_its_check_does_not_repeat_faults_of_the_setting(settings, sources):
    settings.PAGESTATS_CONTENT = sources
    assert PostAdmin(Post, site).check() == []


def test_rows_are_deleted_by_the_action_of_the_list(admin_client):
    chosen = {"action": "delete_selected", "_selected_action": [Post.objects.get(slug="first").pk], "post": "yes"}
    assert admin_client.post("/own/blog/post/", chosen).status_code == 302
    assert {post.slug for post in Post.objects.all()} == {"second", "third"}


def test_an_object_that_is_saved_stays_as_it_was_entered(admin_client):
    post = Post.objects.get(slug="third")
    form = {"title": "New", "slug": "third", "body": "", "created_0": "2026-01-01", "created_1": "12:00:00"}
    assert admin_client.post(f"/own/blog/post/{post.pk}/change/", form).status_code == 302
    post.refresh_from_db()
    assert post.title == "New"
    assert admin_client.get("/own/blog/post/add/").status_code == 200


def test_a_path_in_the_panel_is_escaped(admin_client):
    Post.objects.create(title="Bad", slug="<script>alert(1)</script>", published=True)
    pk = Post.objects.get(title="Bad").pk
    page = admin_client.get(f"/own/blog/post/{pk}/change/").content.decode()
    assert "<script>alert" not in page
    assert 'href="/%3Cscript%3Ealert(1)%3C/script%3E"' in page


def test_the_panel_links_to_page_stats_if_the_admin_site_has_it(admin_client):
    pk = Post.objects.get(slug="third").pk
    link = "/pagestats/stats/page/?path=%2Fthird"
    assert f'href="/admin{link}"' in admin_client.get(f"/admin/blog/post/{pk}/change/").content.decode()
    assert link not in admin_client.get(f"/own/blog/post/{pk}/change/").content.decode()


def test_an_object_without_a_page_says_so(admin_client):
    post = Post.objects.create(title="Draft", slug="", published=False)
    page = admin_client.get(f"/own/blog/post/{post.pk}/change/").content.decode()
    assert "This object has no page yet." in page


def test_the_panel_says_which_numbers_are_not_available(admin_client):
    today = timezone.localdate()
    add_views("/first", 2, days=5, visitors=2)
    list(backfill())
    list(prune(today - timedelta(days=2)))
    page = panel(admin_client, "first")
    assert "Views, all time 10" in page
    assert "Views, 30 days 10" in page
    assert "aren&#x27;t available" in page


def test_a_user_model_without_permissions_reads_nothing(settings):
    person = SimpleNamespace(is_active=True, is_authenticated=True)
    assert (access.may_read_all(person), access.may_read(person)) == (False, False)
    settings.PAGESTATS_PUBLIC = True
    assert (access.may_read_all(person), access.may_read(person)) == (False, True)
