"""What the README says of a site's own models, run as it stands there."""

import re
import unittest
from datetime import timedelta

import pytest
from django.http import HttpResponse
from django.template import Context, Template
from django.urls import path
from django.utils import timezone
from django.views.decorators.cache import never_cache

from example_project.blog.models import Post
from pagestats import stats
from pagestats.conf import Settings
from pagestats.recording import record_page_views
from tests import ROOT
from tests.factories import T0, WITH_DRAFTS, a_hit

README = (ROOT / "README.md").read_text()


def section(title):
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


HITCOUNT = [
    [re.findall(r"`([^`]+)`", cell) for cell in row.strip("|").split(" | ")]
    for row in section("From django-hitcount").splitlines()
    if row.startswith("| ")
][1:]
AFTER = [text for _, after in HITCOUNT for text in after]


@pytest.fixture
def post(db, settings):
    settings.PAGESTATS_CONTENT = WITH_DRAFTS
    post = Post.objects.create(title="Hello", slug="hello", published=True)
    Post.objects.create(title="Other", slug="other", published=True)
    now = timezone.now()
    record_page_views(a_hit(path="/hello", session_id=f"s{n}", at=now) for n in range(3))
    record_page_views([a_hit(path="/hello", at=now - timedelta(days=20))])
    return post


TAGS = [text for text in AFTER if text.startswith("{%")]
CALLS = [text for text in AFTER if "(" in text and not text.startswith(("{%", "PAGESTATS"))]
SETTINGS = [text for text in AFTER if text.startswith("PAGESTATS_")]


def test_each_line_after_is_one_of_these():
    assert (len(TAGS), len(CALLS), len(SETTINGS)) == (4, 3, 6)
    assert len(AFTER) == 14  # and pagestats_prune, which is a command


@pytest.mark.parametrize("tag", TAGS)
def test_each_tag_shows_the_views(post, rf, tag):
    text = "{% load pagestats %}" + tag + ("{{ hits }}" if " as hits" in tag else "")
    shown = Template(text).render(Context({"post": post, "request": rf.get("/")}))
    assert shown == ("3" if "days=7" in tag else "4")


@pytest.mark.parametrize("call", CALLS)
def test_each_call_returns_the_views(post, call):
    found = eval(call, {"post": post, "Post": Post, "views_of": stats.views_of})
    if isinstance(found, int):
        assert found == (3 if "days=7" in call else 4)
    else:
        assert [(row.slug, row.views) for row in found] == [("hello", 4), ("other", 0)]


@pytest.mark.parametrize("line", SETTINGS)
def test_each_setting_is_one_and_takes_the_value(settings, line):
    name, _, value = line.partition(" = ")
    [setting] = [setting for setting in Settings.all() if setting.name == name]
    if value:
        setattr(settings, name, eval(value, {"timedelta": timedelta}))
        assert not setting.fault()


def test_one_reader_counts_once_a_week_where_the_settings_say_so(db, settings):
    settings.PAGESTATS_DEDUP_WINDOW = timedelta(days=7)
    days = (0, 3, 6, 7)
    counted = record_page_views(a_hit(path="/hello", at=T0 + days * timedelta(days=1)) for days in days)
    assert counted == 2


def test_the_queries_of_the_readme_run(post):
    queries = section("Inside your own site").split("```python\n")[2].split("```")[0]
    for line in queries.splitlines():
        rows = eval(line.split("  #")[0], {"Post": Post})
        assert {row.slug for row in rows} <= {"hello", "other"}
    calls = section("Inside your own site").split("```python\n")[3].split("```")[0]
    names = {"post": post, "Post": Post}
    exec(calls, names)
    assert names["popular"](days=7)[0][1:] == ("Hello", "/hello", 3)


def test_the_tags_of_the_readme_run(post, rf):
    template = section("Inside your own site").split("```\n{% load")[1].split("```")[0]
    shown = Template("{% load" + template).render(Context({"post": post, "request": rf.get("/hello")}))
    assert "4 views of this page, 4 of a post, 3 this week" in shown
    assert '<a href="/hello">Hello</a> 3' in shown


def a_page(request):
    return HttpResponse("<p>Hello")


urlpatterns = [path("hello", a_page), path("preview", never_cache(a_page))]


@pytest.mark.parametrize(
    ("is_on", "failing"), [(True, set()), (False, {"test_a_post_counts", "test_a_preview_does_not"})]
)
def test_the_test_case_of_the_readme_fails_where_nothing_is_recorded(
    django_db_setup, django_db_blocker, settings, is_on, failing
):
    code = section("Inside your own site").split("```python\n")[-1].split("```")[0]
    names = {}
    exec(code, names)
    settings.ROOT_URLCONF = __name__
    settings.PAGESTATS_ENABLED = is_on
    tests = unittest.defaultTestLoader.loadTestsFromTestCase(names["PostTest"])
    result = unittest.TestResult()
    with django_db_blocker.unblock():  # by itself: a TestCase brings its own transaction, and closes its connection
        tests.run(result)
    assert result.testsRun == 3
    assert result.errors == []
    assert {test.id().rpartition(".")[2] for test, _ in result.failures} == failing
