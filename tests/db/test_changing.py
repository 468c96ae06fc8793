"""Whatever is taken off, moved or counted anew: the rollups are those of the page views that are there then."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestats import rollups, sql
from pagestats.days import DAY
from pagestats.hits import InvalidHit
from pagestats.models import ActiveSession, Calendar, PageTotal, PageView, Return, Rollup, Run, Visitor
from pagestats.recording import record_heartbeat, record_page_view, record_page_views
from pagestats.retention import erase, forget, prune
from pagestats.rollups import (
    Progress,
    Scope,
    SealedDay,
    backfill,
    backfill_status,
    merge_paths,
    preview_merge,
    preview_rebuild,
    rebuild,
    roll_up_pending,
)
from pagestats.sql import transactions
from pagestats.stats import snapshot
from tests.factories import T0, a_hit, raw_views
from tests.oracle import rolled_back
from tests.stored import assert_exact, everything

ZONE = "Europe/Amsterdam"

pytestmark = pytest.mark.django_db


def fold(rows):
    views = raw_views(rows)
    list(backfill())
    return views


# Merging paths


def test_views_move_with_their_figures():
    fold([("/old", "s", T0), ("/old", "t", T0 + DAY), ("/new", "s", T0 + 2 * DAY), ("/other", "s", T0 + DAY)])
    raw_views([("/old", "pending", T0)])
    record_heartbeat(a_hit(path="/old"))
    assert list(merge_paths("/old", "/new")) == [Progress(processed=3, total=3)]
    assert sorted(PageView.objects.values_list("path", flat=True)) == ["/new"] * 4 + ["/other"]
    assert ActiveSession.objects.get().current_path == "/new"
    assert_exact()
    assert not PageTotal.objects.filter(path="/old").exists()


def test_a_visitor_of_both_pages_is_one_and_both_views_stay():
    fold([("/old", "s", T0), ("/new", "s", T0 + timedelta(minutes=1))])
    list(merge_paths("/old", "/new"))
    assert PageTotal.objects.values_list("path", "views", "visitors").get() == ("/new", 2, 1)
    assert_exact()


def test_a_merge_goes_on_where_it_was_stopped():
    fold((f"/{number % 2}", f"s{number}", T0 + number * DAY) for number in range(9))
    chunks = merge_paths("/0", "/1", batch_size=2)
    assert next(chunks) == Progress(processed=2, total=5)
    chunks.close()
    assert_exact()
    assert list(merge_paths("/0", "/1", batch_size=2)) == [
        Progress(processed=2, total=3),
        Progress(processed=3, total=3),
    ]
    assert_exact()
    assert list(merge_paths("/0", "/1")) == []


def test_a_chunk_without_counted_views_does_not_touch_the_totals():
    """Whoever adds to a total at that moment moves its instants, too: they are not to be set to what was seen before.

    So a chunk has nothing to set that adds nothing: of pending views, or of a session that was erased meanwhile.
    """
    fold([("/old", "s", T0 + DAY)])
    raw_views([("/old", "pending", T0)])
    somebody_is_moving_it_to = {"first_viewed": T0 - DAY, "last_viewed": T0 + 2 * DAY}
    PageTotal.unguarded.update(**somebody_is_moving_it_to)
    chunks = merge_paths("/old", "/new", batch_size=1)
    assert next(chunks) == Progress(processed=1, total=2)
    assert PageTotal.objects.values(*somebody_is_moving_it_to).get(path="/old") == somebody_is_moving_it_to
    list(chunks)
    assert not PageTotal.objects.filter(path="/old").exists()


def test_a_page_that_is_viewed_again_after_it_was_merged_begins_anew():
    fold([("/old", "s", T0), ("/new", "s", T0)])
    list(merge_paths("/old", "/new"))
    record_page_view(a_hit(path="/old", at=T0 + DAY))
    assert PageTotal.objects.get(path="/old").first_viewed == T0 + DAY
    assert_exact()


def test_long_paths_are_those_that_are_stored():
    record_page_view(a_hit(path="/" + "x" * 600))
    assert list(merge_paths("/" + "x" * 600, "/short")) == [Progress(processed=1, total=1)]


def test_what_can_not_be_merged_is_refused():
    with pytest.raises(ValueError, match="source and target are both '/a'"):
        merge_paths("/a", "/a")
    with pytest.raises(InvalidHit, match="NUL"):
        merge_paths("/a", "/\0")
    with pytest.raises(ValueError, match="batch_size is 0"):
        merge_paths("/a", "/b", batch_size=0)


@pytest.mark.parametrize("paths", [("/sealed", "/a"), ("/a", "/sealed")])
def test_pages_with_sealed_days_are_not_merged_others_are(paths):
    fold([("/sealed", "s", T0), ("/a", "s", T0 + 3 * DAY), ("/b", "s", T0 + 3 * DAY)])
    list(prune(date(2026, 3, 16), at=T0 + 3 * DAY))
    with pytest.raises(SealedDay, match="'/sealed' has page views before 2026-03-16"):
        merge_paths(*paths)
    with pytest.raises(SealedDay):
        preview_merge(*paths)
    list(merge_paths("/a", "/b"))
    assert PageTotal.objects.values_list("path", "views", "visitors").get(path="/b") == ("/b", 2, 1)
    # The session came back to the site, not to the page.
    assert list(Return.objects.filter(visitors__gt=0).values_list("dimension", flat=True)) == ["site"]


def test_a_dry_merge_says_what_it_would_move_and_writes_nothing():
    fold([("/old", "s", T0), ("/old", "s", T0 + DAY), ("/old", "t", T0), ("/new", "s", T0)])
    before = everything()
    assert preview_merge("/old", "/new") == Scope(page_views=3, sessions=2, days=2)
    assert everything() == before


# Rebuilding


def test_a_rebuild_reckons_all_days_in_the_new_zone(settings):
    fold([("/a", "s", T0), ("/a", "s", datetime(2026, 3, 14, 23, 30, tzinfo=UTC)), ("/b", "t", T0 + DAY)])
    settings.TIME_ZONE = "Asia/Kathmandu"
    record_page_view(a_hit(session_id="u", at=datetime(2026, 3, 14, 18, 20, tzinfo=UTC)))
    assert_exact(ZONE)  # what is stored goes on in the stored zone
    progress = list(rebuild(batch_size=2))
    assert progress[-1] == Progress(processed=8, total=8)
    assert Calendar.objects.values_list("zone", "next_zone").get() == ("Asia/Kathmandu", "")
    assert not PageView.objects.pending().exists()
    assert_exact("Asia/Kathmandu")


@pytest.mark.parametrize("step", range(6))
def test_a_stopped_rebuild_can_be_continued_and_figures_stay_exact_meanwhile(step):
    rows = [(f"/{number % 2}", f"s{number % 3}", T0 + number * DAY) for number in range(6)]
    fold(rows)
    chunks = rebuild(zone="UTC", batch_size=1)
    for _ in range(step):
        next(chunks)
        assert_exact(Calendar.objects.get().zone)
    chunks.close()
    record_page_view(a_hit(session_id="live", at=T0 + 9 * DAY))
    list(backfill())
    assert_exact(Calendar.objects.get().zone)
    list(rebuild(zone="UTC"))
    assert Calendar.objects.values_list("zone", "next_zone").get() == ("UTC", "")
    assert PageView.objects.rolled_up().count() == 7
    assert_exact("UTC")


def test_while_a_rebuild_is_under_way_views_stay_pending_and_nothing_is_folded():
    fold([("/a", "s", T0)])
    rebuild(zone="UTC")
    record_page_view(a_hit(path="/b"))
    raw_views([("/c", "t", T0)])
    assert list(backfill()) == []
    assert sorted(PageView.objects.pending().values_list("path", flat=True)) == ["/b", "/c"]
    assert not Run.objects.filter(status=Run.Status.RUNNING).exists()
    assert_exact()


def test_a_rebuild_that_was_killed_is_told_by_the_status_of_the_backfill():
    raw_views([("/a", "s", T0)])
    chunks = rebuild()
    chunks.close()
    assert "run backfill_aggregates --rebuild to continue" in backfill_status().describe(T0)
    list(rebuild())
    assert "--rebuild" not in backfill_status().describe(T0)


def test_a_view_that_loads_state_before_a_rebuild_ends_does_not_stay_pending(monkeypatch):
    fold([("/a", "s", T0)])
    look = sql.load_state
    chunks = rebuild()

    def look_and_be_overtaken(viewed, *, using):
        around = look(viewed, using=using)
        assert around[0].next_zone
        monkeypatch.setattr(sql, "load_state", look)
        list(chunks)
        return around

    monkeypatch.setattr(sql, "load_state", look_and_be_overtaken)
    assert record_page_view(a_hit(path="/b", session_id="t")) is not None
    assert not PageView.objects.pending().exists()
    assert_exact()


def test_a_rebuild_leaves_no_drift():
    fold([("/a", "s", T0), ("/b", "s", T0)])
    PageView.objects.filter(path="/b").delete()
    Rollup.unguarded.filter(value="/a").update(views=7)
    Visitor.unguarded.create(session_id="ghost", first_seen=T0, last_day=T0.date())
    list(rebuild())
    assert_exact()
    assert snapshot().page_stats[0].views == 1


def test_sealed_days_are_not_rebuilt(settings):
    fold([("/a", "s", T0), ("/a", "s", T0 + 3 * DAY)])
    list(prune(date(2026, 3, 16), at=T0 + 3 * DAY))
    before = everything()
    for refused in (rebuild, preview_rebuild):
        with pytest.raises(SealedDay, match="Page views before 2026-03-16 were pruned"):
            refused()
    with pytest.raises(SealedDay, match=r"again\. Run `manage.py verify_aggregates --repair` to correct the days"):
        rebuild()
    settings.TIME_ZONE = "Asia/Kathmandu"
    with pytest.raises(SealedDay, match=r"again\. The reporting zone stays 'Europe/Amsterdam': set TIME_ZONE to that"):
        rebuild()
    assert everything() == before


@pytest.mark.parametrize("zone", ["Atlantis/Capital", "../etc", ""])
def test_what_is_no_zone_is_refused(zone):
    with pytest.raises(ValueError, match=f"zone is {zone!r}, not the name of a time zone"):
        rebuild(zone=zone)
    assert not Calendar.objects.exists()


def test_a_site_without_page_views_is_rebuilt_too():
    assert list(rebuild(zone="UTC")) == []
    record_page_view(a_hit())
    assert_exact("UTC")


def test_a_dry_rebuild_says_what_it_would_count_and_writes_nothing():
    fold([("/a", "s", T0), ("/a", "s", T0 + DAY)])
    before = everything()
    assert preview_rebuild() == Scope(page_views=2, sessions=1, days=2)
    assert everything() == before


# A writer looks at its session without a lock, and writes if nobody changed anything of it in between

CHANGES = {
    "erase": lambda: erase("s"),
    "forget": lambda: forget("s"),
    "merge": lambda: list(merge_paths("/a", "/b")),
    "rebuild": lambda: list(rebuild(zone="Asia/Kathmandu")),
    "half a rebuild": lambda: next(rebuild(zone="Asia/Kathmandu")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_writer_that_looked_before_a_change_looks_again(monkeypatch, change):
    fold([("/a", "s", T0), ("/b", "s", T0 + DAY), ("/a", "t", T0)])
    look = sql.load_state

    def look_before_the_change(viewed, *, using):
        around = look(viewed, using=using)
        monkeypatch.setattr(sql, "load_state", look)
        change()
        return around if sql.can_write_if_unchanged(using) else look(viewed, using=using)

    monkeypatch.setattr(sql, "load_state", look_before_the_change)
    assert record_page_view(a_hit(at=T0 + 2 * DAY))
    assert_exact(Calendar.objects.get().zone)


def test_a_writer_that_looked_before_a_pruning_looks_again(monkeypatch):
    fold([("/a", "s", T0)])
    look = sql.load_state

    def look_before_the_pruning(viewed, *, using):
        around = look(viewed, using=using)
        monkeypatch.setattr(sql, "load_state", look)
        list(prune(date(2026, 3, 16), at=T0 + 3 * DAY))
        return around if sql.can_write_if_unchanged(using) else look(viewed, using=using)

    monkeypatch.setattr(sql, "load_state", look_before_the_pruning)
    with pytest.raises(SealedDay):
        record_page_view(a_hit(at=T0 + timedelta(hours=3)))
    assert not PageView.objects.exists()
    assert PageTotal.objects.get().views == 1


# Any mix of them

a_view = st.tuples(
    st.sampled_from(["/a", "/b", "/c"]),
    st.sampled_from(["s", "t", "u"]),
    st.integers(0, 40).map(lambda hours: T0 + timedelta(hours=5 * hours)),
)
steps = st.one_of(
    st.tuples(st.just("view"), a_view),
    st.tuples(st.just("raw"), st.lists(a_view, min_size=1, max_size=5)),
    st.tuples(st.just("fold"), st.none()),
    st.tuples(st.just("erase"), st.sampled_from(["s", "t", "u"])),
    st.tuples(st.just("merge"), st.permutations(["/a", "/b", "/c"])),
    st.tuples(st.just("rebuild"), st.sampled_from(["UTC", ZONE, "Asia/Kathmandu", "America/St_Johns"])),
)


@settings(max_examples=20 if connection.vendor == "sqlite" else 6)
@given(mix=st.lists(steps, min_size=3, max_size=12))
def test_any_mix_of_changes_leaves_the_rollups_of_the_rows(mix):
    with rolled_back():
        zone = ZONE
        for verb, what in mix:
            match verb:
                case "view":
                    record_page_view(a_hit(path=what[0], session_id=what[1], at=what[2]))
                case "raw":
                    raw_views(what)
                case "fold":
                    list(backfill(batch_size=2))
                case "erase":
                    views = PageView.objects.filter(session_id=what).count()
                    assert erase(what) == views
                    assert not PageView.objects.filter(session_id=what).exists()
                case "merge":
                    list(merge_paths(what[0], what[1], batch_size=2))
                    assert not PageView.objects.filter(path=what[0]).exists()
                case "rebuild":
                    list(rebuild(zone=what, batch_size=2))
                    zone = what
            assert_exact(zone)


@pytest.mark.django_db
@pytest.mark.parametrize("target", ["b", "https://example.org/b", ""])
def test_nothing_is_merged_into_what_is_no_path(target):
    record_page_views([a_hit(path="/a")])
    for merge in (rollups.merge_paths, rollups.preview_merge):
        with pytest.raises(ValueError, match="which does not begin with a slash"):
            merge("/a", target)
    assert PageView.objects.get().path == "/a"


# Beside a site


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "work",
    [
        lambda: backfill(batch_size=5),
        lambda: roll_up_pending(batch_size=5),
        lambda: merge_paths("/a", "/b", batch_size=5),
        lambda: prune((T0 + DAY).date(), at=T0 + DAY, batch_size=5),
        lambda: rebuild(batch_size=5),
    ],
    ids=["backfill", "fold", "merge", "prune", "rebuild"],
)
def test_on_sqlite_who_writes_chunk_after_chunk_lets_others_write(request, monkeypatch, work):
    views = [("/a", f"s{number}", T0) for number in range(20)]
    raw_views(views) if request.node.callspec.id in {"backfill", "fold"} else fold(views)
    rests = []

    def rest(seconds):
        assert not connection.in_atomic_block
        rests.append(seconds)

    monkeypatch.setattr(transactions, "SECONDS_BETWEEN_PAUSES", 0)
    monkeypatch.setattr("time.sleep", rest)
    chunks = len(list(work()))
    monkeypatch.undo()
    assert chunks >= 4
    assert (rests.count(transactions.PAUSE_SECONDS) >= chunks) == (connection.vendor == "sqlite")
