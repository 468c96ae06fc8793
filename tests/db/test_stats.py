import threading
import time
from datetime import timedelta

import pytest
from django.db import connection

from example_project.blog.models import Page, Post
from pagestats.models import ActiveSession
from pagestats.recording import record_heartbeat, record_page_view, record_page_views
from pagestats.rollups import backfill
from pagestats.stats import PageStat, Snapshot, snapshot
from tests.factories import CONTENT, T0, a_hit, raw_views


@pytest.mark.django_db
def test_an_empty_site_has_an_empty_snapshot():
    assert snapshot() == Snapshot(
        active_visitors=0,
        active_by_path=(),
        total_page_views=0,
        unique_visitors=0,
        published={},
        tracking_since=None,
        page_stats=(),
        total_paths=0,
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("age", "active"),
    [
        (timedelta(0), 1),
        (timedelta(minutes=2) - timedelta(microseconds=1), 1),
        (timedelta(minutes=2), 0),
        (timedelta(minutes=3), 0),
    ],
)
def test_a_session_is_active_for_less_than_two_minutes(age, active):
    record_heartbeat(a_hit())
    stats = snapshot(at=T0 + age)
    assert (stats.active_visitors, stats.active_by_path) == (active, (("/a", 1),) * active)


@pytest.mark.django_db
def test_equal_counts_are_ordered_by_path_byte_by_byte():
    paths = ["/b", "/a", "/A", "/a ", "/é", "/~", "", "/🙂", "/\uffff", "/Z", "/aa"]
    record_page_views([a_hit(path=path) for path in paths])
    record_page_view(a_hit(path="/top"))
    record_page_view(a_hit(path="/top", session_id="t"))
    for path in paths:
        record_heartbeat(a_hit(path=path, session_id=f"at {path}"))
    ordered = sorted(paths, key=str.encode)
    stats = snapshot(at=T0)
    assert [page.path for page in stats.page_stats] == ["/top", *ordered]
    assert [path for path, _ in stats.active_by_path] == ordered
    raw_views([("/top", "u", T0)])
    assert [page.path for page in snapshot(at=T0).page_stats] == ["/top", *ordered]


@pytest.mark.django_db
@pytest.mark.parametrize("pending", [False, True])
def test_a_limit_cuts_the_lists_and_none_of_the_counts(pending):
    record_page_views([a_hit(path=f"/{number}") for number in range(5)])
    if pending:
        raw_views([("/0", "s", T0)])
    for number in range(3):
        record_heartbeat(a_hit(session_id=f"s{number}", path=f"/{number}"))
    whole, cut, none = snapshot(at=T0), snapshot(at=T0, limit=2), snapshot(at=T0, limit=0)
    assert (len(whole.page_stats), len(cut.page_stats), len(none.page_stats)) == (5, 2, 0)
    assert (len(whole.active_by_path), len(cut.active_by_path), len(none.active_by_path)) == (3, 2, 0)
    for stats in (whole, cut, none):
        assert (stats.active_visitors, stats.total_page_views, stats.total_paths) == (3, 5 + pending, 5)
    assert cut.page_stats == whole.page_stats[:2]


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match="limit is -1, not a whole number from 0"):
        snapshot(limit=-1)


@pytest.mark.django_db
def test_pending_views_are_in_every_figure():
    record_page_view(a_hit())
    raw_views(
        [
            ("/a", "s", T0 - timedelta(days=1)),
            ("/a", "pending", T0),
            ("/new", "pending", T0),
            ("/new", "also pending", T0),
        ]
    )
    stats = snapshot()
    assert (stats.total_page_views, stats.unique_visitors, stats.total_paths) == (5, 3, 2)
    assert stats.tracking_since == T0 - timedelta(days=1)
    assert [(page.path, page.views) for page in stats.page_stats] == [("/a", 3), ("/new", 2)]
    list(backfill())
    assert snapshot() == stats


@pytest.mark.django_db
def test_a_visitor_that_is_only_locked_is_none():
    raw_views([("/a", "s", T0)])
    record_page_view(a_hit(at=T0 + timedelta(minutes=1)))
    assert snapshot().unique_visitors == 1


@pytest.mark.django_db
def test_the_number_of_queries_does_not_depend_on_the_number_of_pages(settings, django_capture_queries):
    settings.PAGESTATS_CONTENT = CONTENT
    record_page_view(a_hit())
    few = django_capture_queries(snapshot)
    Post.objects.bulk_create(Post(title=str(n), slug=str(n), published=True) for n in range(700))
    record_page_views([a_hit(path=f"/{number}", at=T0 + timedelta(hours=1)) for number in range(700)])
    assert len(django_capture_queries(snapshot)) == len(few)
    assert snapshot().page_stats[0] == PageStat("/0", "0", "blog", 1)


@pytest.mark.django_db
def test_without_pending_views_no_query_counts_page_views(django_capture_queries):
    record_page_view(a_hit())
    queries = django_capture_queries(snapshot)
    assert not any("GROUP BY" in query and "pagestats_pageview" in query for query in queries)
    assert not any("UNION" in query for query in queries)


@pytest.mark.django_db
def test_reading_never_writes(django_capture_queries):
    raw_views([("/a", "s", T0)])
    assert all(query.startswith("SELECT") for query in django_capture_queries(snapshot))


@pytest.mark.django_db(transaction=True)
def test_figures_do_not_change_while_a_backfill_rolls_up_views():
    raw_views([(f"/{n % 7}", f"s{n % 40}", T0 + timedelta(minutes=n)) for n in range(1200)])
    still = snapshot()
    done = threading.Event()
    failures: list[BaseException] = []

    def fold():
        try:
            until = time.monotonic() + 30
            for chunks, _ in enumerate(backfill(batch_size=20)):
                # A busy machine may give the reader no turn: it is waited for, now and then.
                while 8 * seen < chunks and time.monotonic() < until:
                    time.sleep(0.001)
        except BaseException as error:  # noqa: BLE001 - the other thread's, to be shown by this one
            failures.append(error)
        finally:
            connection.close()
            done.set()

    folding = threading.Thread(target=fold)
    seen = 0
    folding.start()
    while not done.is_set():
        assert snapshot() == still
        seen += 1
    folding.join()
    assert failures == []
    assert seen > 5
    assert snapshot() == still


@pytest.mark.django_db
def test_titles_come_live_from_the_content_sources(settings):
    settings.PAGESTATS_CONTENT = CONTENT
    post = Post.objects.create(title="Hello World", slug="hello", published=True)
    Post.objects.create(title="Second with the slug", slug="hello", published=True)
    Post.objects.create(title="A draft", slug="draft")
    Page.objects.create(title="About", slug="about", published=True)
    Page.objects.create(title="Shadowed by the post", slug="hello", published=True)
    paths = ["/hello", "/about", "/draft", "/", "", "/stats", "hello", "//hello", "/Hello", "/hello/", "/constructor"]
    record_page_views([a_hit(path=path) for path in paths])
    stats = snapshot()
    assert stats.published == {"posts": 2, "pages": 2}
    assert {page.path: (page.title, page.page_type) for page in stats.page_stats} == {
        "/hello": ("Hello World", "blog"),
        "hello": ("Hello World", "blog"),
        "/about": ("About", "page"),
        "/draft": ("/draft", "other"),
        "/": ("Home", "home"),
        "": ("Home", "home"),
        "/stats": ("Stats", "stats"),
        "//hello": ("//hello", "other"),
        "/Hello": ("/Hello", "other"),
        "/hello/": ("/hello/", "other"),
        "/constructor": ("/constructor", "other"),
    }
    post.title = "Renamed"
    post.save()
    assert snapshot().page_stats[paths_of(snapshot()).index("/hello")].title == "Renamed"
    post.published = False
    post.save()
    assert snapshot().page_stats[paths_of(snapshot()).index("/hello")].title == "Second with the slug"


def paths_of(stats):
    return [page.path for page in stats.page_stats]


@pytest.mark.django_db
def test_more_pages_than_a_query_names_still_have_their_titles(settings):
    settings.PAGESTATS_CONTENT = CONTENT
    Post.objects.bulk_create(Post(title=f"Post {n}", slug=f"post-{n}", published=True) for n in range(600))
    record_page_views([a_hit(path=f"/post-{n}") for n in range(600)])
    assert {page.title for page in snapshot().page_stats} == {f"Post {n}" for n in range(600)}


@pytest.mark.django_db
def test_a_snapshot_cannot_be_changed():
    with pytest.raises(AttributeError):
        snapshot().total_page_views = 1
    assert ActiveSession.objects.count() == 0
