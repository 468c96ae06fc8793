"""The test kit, as a site's own tests use it."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from django.conf import settings as django_settings
from django.db import DatabaseError
from django.test import TestCase, TransactionTestCase
from django.utils import timezone

from example_project.blog.models import Post
from pagestats.intake import recorders
from pagestats.models import PageView
from pagestats.stats import report, snapshot, views_of
from pagestats.tallies import tallies
from pagestats.testing import AsyncBrowser, Browser, add_views, assert_not_recorded, assert_recorded, recording
from tests.factories import T0, WITH_DRAFTS


@pytest.fixture
def post(db, settings):
    settings.PAGESTATS_CONTENT = WITH_DRAFTS
    return Post.objects.create(title="Hello", slug="hello", published=True)


@pytest.fixture
def client():
    return Browser()


def said(block):
    with pytest.raises(AssertionError) as error:
        block()
    return str(error.value)


def ask(client, path="/hello", times=None, **headers):
    with assert_recorded(path, times=times):
        client.get(path, **headers)


def test_a_page_view_is_recorded(post, client):
    with assert_recorded(), assert_recorded("/hello"), assert_recorded(post, times=1):
        client.get("/hello")


def test_a_failure_says_what_was_recorded_instead(post, client):
    def block():
        with assert_recorded("/hello"):
            client.get("/")

    assert said(block) == "A page view of '/hello' should have been recorded, but 0 were; recorded: '/' 1 ×."

    def twice():
        with assert_recorded(post, times=2):
            client.get("/hello")
            client.get("/hello")

    assert said(twice).endswith(" but 1 was; recorded: '/hello' 1 ×; not recorded: repeat.")


def test_a_failure_says_why_nothing_was_recorded(post, client):
    assert said(lambda: ask(client, "/nowhere")).endswith("but 0 were; not recorded: status.")
    assert said(lambda: ask(client, headers={"user-agent": "Googlebot/2.1"})).endswith(
        "not recorded: bot; the client was treated as a bot: use pagestats.testing.Browser."
    )
    tallies.write()
    assert said(lambda: ask(client, headers={"user-agent": "Googlebot/2.1"})).endswith(
        "not recorded: bot; the client was treated as a bot: use pagestats.testing.Browser."
    )
    assert said(_nothing).endswith("check that pagestats.middleware.PageViewMiddleware is in MIDDLEWARE.")


def _nothing():
    with assert_recorded():
        pass


def test_a_failure_says_that_recording_is_off(post, client):
    with recording(on=False):
        assert "PAGESTATS_ENABLED is False" in said(lambda: ask(client))
        with assert_not_recorded(), recording(on=False):
            client.get("/hello")
        with recording(), assert_recorded(post):
            client.get("/hello")


def test_nothing_is_recorded_for_a_reason(post, client):
    with assert_not_recorded("/hello", reason="status"):
        client.get("/nowhere")

    def recorded():
        with assert_not_recorded():
            client.get("/hello")

    assert said(recorded) == "No page view should have been recorded, but 1 was; recorded: '/hello' 1 ×."

    def another_reason():
        with assert_not_recorded(reason="no_store"):
            client.get("/nowhere")

    assert said(another_reason) == (
        "A page view should have been dropped with the reason 'no_store'; not recorded: status."
    )
    with assert_not_recorded("/"):
        client.get("/hello")


def test_each_assertion_fails_when_recording_is_wrong(post, client, monkeypatch, expected_errors):
    def never(hit, **options):
        return False

    def twice(hit, **options):
        return [PageView.objects.create(path=hit.path, session_id=hit.session_id, timestamp=hit.at) for _ in range(2)]

    def elsewhere(hit, **options):
        return twice(replace(hit, path=f"{hit.path}/"))

    def broken(hit, **options):
        raise DatabaseError("no disk")

    for wrong, words in (
        (never, "but 0 were; not recorded: repeat."),
        (twice, "2 were; recorded: '/hello' 2 ×."),
        (elsewhere, "but 0 were; recorded: '/hello/' 2 ×."),
        (broken, "but 0 were; not recorded: DatabaseError."),
    ):
        monkeypatch.setattr(recorders, "record_visit", wrong)
        assert said(partial(ask, client, times=1)).endswith(words)
    assert [error.exc_info[0] for error in expected_errors()] == [DatabaseError]


def test_an_error_while_recording_fails_assert_not_recorded(post, client, monkeypatch, expected_errors):
    def broken(hit, **options):
        raise DatabaseError("no disk")

    monkeypatch.setattr(recorders, "record_visit", broken)

    def block():
        with assert_not_recorded("/hello"):
            client.get("/hello")

    assert said(block).endswith(" but recording failed; not recorded: DatabaseError.")
    with assert_not_recorded(reason="DatabaseError"):
        client.get("/hello")
    assert len(expected_errors()) == 2


def test_an_object_without_a_page_is_refused(post, django_user_model):
    user = django_user_model.objects.create(username="ann")
    with pytest.raises(ValueError, match="PAGESTATS_CONTENT"), assert_recorded(user):
        pass


@recording(on=False)
class Switched(TestCase):
    client_class = Browser

    def test_it_is_off_for_the_class(self):
        assert django_settings.PAGESTATS_ENABLED is False
        with assert_not_recorded():
            self.client.get("/")

    @recording()
    def test_and_on_for_one_test(self):
        with assert_recorded("/"):
            self.client.get("/")


class Committed(TransactionTestCase):
    client_class = Browser

    def test_it_works_where_transactions_are_committed(self):
        with assert_recorded("/", times=1):
            self.client.get("/")


class Awaited(TestCase):
    async_client_class = AsyncBrowser

    async def test_it_works_in_an_async_test(self):
        async with assert_recorded("/", times=1):
            await self.async_client.get("/")
        async with assert_not_recorded("/", reason="repeat"):
            await self.async_client.get("/")
        async with assert_not_recorded("/", reason="bot"):
            await self.async_client.get("/", headers={"User-Agent": "Googlebot/2.1"})
        with pytest.raises(AssertionError, match="but 0 were; not recorded: repeat"):
            async with assert_recorded("/"):
                await self.async_client.get("/")
        with pytest.raises(ZeroDivisionError):
            async with assert_recorded("/"):
                raise ZeroDivisionError


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("returning", [False, True])
def test_views_over_days(post, pending, returning):
    assert add_views(post, 5, days=3, visitors=2, until=T0, pending=pending, returning=returning) == 15
    end = T0.date()
    told = report(end - timedelta(days=2), end, dimension="page", value="/hello")
    assert [(day.views, day.visitors) for day in told.days] == [(5, 2)] * 3
    assert told.visitors == (2 if returning else 6)
    assert PageView.objects.pending().count() == (15 if pending else 0)


@pytest.mark.parametrize("pending", [False, True])
def test_views_are_added_each_time(db, pending):
    assert [add_views("/hello", 5, visitors=2, until=T0, pending=pending) for _ in range(2)] == [5, 5]
    told = report(T0.date(), T0.date())
    assert (told.views, told.visitors) == (10, 4)


def test_views_of_today(db, settings):
    add_views("/pricing")
    assert [(row.path, row.views) for row in snapshot().page_stats] == [("/pricing", 1)]
    settings.PAGESTATS_CONTENT = WITH_DRAFTS
    post = Post(title="Hello", slug="pricing")
    assert views_of(post, days=1) == 1
    assert views_of(post, days=1, at=timezone.now() - timedelta(days=2)) == 0


def test_add_views_spaces_views_by_the_dedup_window(db, settings):
    assert add_views("/a", 44, until=T0) == 44
    settings.PAGESTATS_DEDUP_WINDOW = timedelta(days=7)
    assert add_views("/b", until=T0) == 1
    assert add_views("/c", 20, visitors=20, until=T0) == 20
    with pytest.raises(
        ValueError, match=r"^2 views by one visitor don't fit into a day.* within 7 days.* Use visitors=2\.$"
    ):
        add_views("/d", 2)


def test_a_browser_keeps_a_user_agent_that_the_test_gives(db):
    for client in (Browser(HTTP_USER_AGENT="Googlebot"), Browser(headers={"User-Agent": "Googlebot"})):
        with assert_not_recorded(reason="bot"):
            client.get("/")


@pytest.mark.parametrize("arguments", [{"views": 45}, {"views": 90, "visitors": 2}, {"visitors": 0}])
def test_more_views_than_would_count_are_refused(db, arguments):
    with pytest.raises(ValueError, match=r"Use |needs at least"):
        add_views("/a", **arguments)


@pytest.mark.django_db
@pytest.mark.parametrize("asked", [{"views": 0}, {"days": 0}, {"visitors": 0}, {"views": 2, "visitors": 5}])
def test_add_views_refuses_impossible_numbers(asked):
    with pytest.raises(ValueError, match=r"Use |needs at least"):
        add_views("/a", **asked)
    assert not PageView.objects.exists()
