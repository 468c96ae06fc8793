from collections import Counter
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagestats.conf import LARGEST_BATCH
from pagestats.dimensions import WHOLE_SITE, Key
from pagestats.models import PageTotal, PageView, Return, Rollup, Run, Visitor
from pagestats.recording import record_page_view
from pagestats.rollups import (
    Figure,
    Progress,
    backfill,
    backfill_status,
    cells,
)
from tests.factories import T0, a_hit, raw_views

MONDAY, TUESDAY, THURSDAY = date(2026, 3, 9), date(2026, 3, 10), date(2026, 3, 12)


def test_a_session_is_one_visitor_a_day_and_new_on_its_first_day_only():
    assert cells({WHOLE_SITE: [THURSDAY, MONDAY, MONDAY, TUESDAY]}) == {
        Figure("views", WHOLE_SITE, MONDAY): 2,
        Figure("visitors", WHOLE_SITE, MONDAY): 1,
        Figure("new_visitors", WHOLE_SITE, MONDAY): 1,
        Figure("views", WHOLE_SITE, TUESDAY): 1,
        Figure("visitors", WHOLE_SITE, TUESDAY): 1,
        Figure("returns", WHOLE_SITE, TUESDAY, MONDAY): 1,
        Figure("views", WHOLE_SITE, THURSDAY): 1,
        Figure("visitors", WHOLE_SITE, THURSDAY): 1,
        Figure("returns", WHOLE_SITE, THURSDAY, TUESDAY): 1,
    }


def test_keys_are_counted_apart():
    page = Key("page", "/a")
    assert cells({WHOLE_SITE: [MONDAY], page: []}) == cells({WHOLE_SITE: [MONDAY]})
    assert cells({WHOLE_SITE: [MONDAY], page: [MONDAY]}) == cells({WHOLE_SITE: [MONDAY]}) + cells({page: [MONDAY]})


some_days = st.lists(st.dates(MONDAY, MONDAY + timedelta(days=9)), max_size=12)


@given(days=some_days, start=st.integers(0, 9), length=st.integers(0, 9))
def test_visitors_of_any_range_are_visitor_days_less_returns_within_it(days, start, length):
    first, last = MONDAY + timedelta(days=start), MONDAY + timedelta(days=start + length)
    visitors = sum(
        count
        for figure, count in cells({WHOLE_SITE: days}).items()
        if figure.name == "visitors" and first <= figure.day <= last
    ) - sum(
        count
        for figure, count in cells({WHOLE_SITE: days}).items()
        if figure.previous_day and first <= figure.previous_day and figure.day <= last
    )
    assert visitors == any(first <= day <= last for day in days)


@given(days=some_days, added=some_days)
def test_an_addition_depends_on_neighbouring_days_only(days, added):
    def difference(before):
        changed = Counter(cells({WHOLE_SITE: [*before, *added]}))
        changed.subtract(cells({WHOLE_SITE: before}))
        return {figure: count for figure, count in changed.items() if count}

    neighbours = {
        near
        for day in added
        for near in (max((d for d in days if d <= day), default=None), min((d for d in days if d >= day), default=None))
        if near
    }
    assert difference(list(neighbours)) == difference(days)


def figures():
    """Return all that is derived."""
    return {
        model.__name__: {row[:keys]: row[keys:] for row in model.objects.values_list(*fields) if any(row[keys:])}
        for model, keys, fields in (
            (Visitor, 1, ("session_id", "first_seen", "last_day")),
            (PageTotal, 1, ("path", "views", "visitors", "first_viewed", "last_viewed")),
            (Rollup, 3, ("dimension", "value", "day", "views", "visitors", "new_visitors")),
            (Return, 4, ("dimension", "value", "previous_day", "day", "visitors")),
        )
    }


ROWS = [
    (f"/{number % 5}", f"s{number % 11}", T0 + timedelta(hours=7 * (number % 37), minutes=31 * number))
    for number in range(130)
]


@pytest.mark.django_db
@pytest.mark.parametrize("batch_size", [1, 7, 130, 500])
def test_a_backfill_in_chunks_of_any_size_equals_live_recording(batch_size):
    for path, session_id, at in sorted(ROWS, key=lambda row: row[2]):
        assert record_page_view(a_hit(path=path, session_id=session_id, at=at))
    live = figures()
    for model in (PageView, Visitor, PageTotal, Rollup, Return):
        model._base_manager.all().delete()
    raw_views(ROWS)
    *_, last = backfill(batch_size=batch_size)
    assert last == Progress(processed=130, total=130, new_visitors=11)
    assert figures() == live
    assert PageView.objects.pending().count() == 0


@pytest.mark.django_db
def test_a_backfill_yields_after_each_chunk():
    raw_views(ROWS)
    assert [(done.processed, done.total) for done in backfill(batch_size=50)] == [(50, 130), (100, 130), (130, 130)]


@pytest.mark.django_db
def test_pending_views_within_the_window_of_each_other_all_count():
    raw_views([("/a", "s", T0), ("/a", "s", T0), ("/a", "s", T0 + timedelta(minutes=1))])
    list(backfill())
    assert (PageTotal.objects.get().views, PageTotal.objects.get().visitors) == (3, 1)


@pytest.mark.django_db
def test_a_backfill_with_nothing_pending_yields_nothing_and_leaves_no_run():
    record_page_view(a_hit())
    assert list(backfill()) == []
    assert Run.objects.count() == 0


@pytest.mark.django_db
def test_rows_that_arrive_during_a_backfill_are_folded_in_too():
    raw_views(ROWS)
    chunks = backfill(batch_size=100)
    next(chunks)
    raw_views([("/new", "new", T0)])
    assert [done.processed for done in chunks] == [131]
    assert PageView.objects.pending().count() == 0


@pytest.mark.django_db
def test_what_another_backfill_took_is_not_folded_in_again():
    raw_views(ROWS)
    one, other = backfill(batch_size=50), backfill(batch_size=50)
    done = {"one": 0, "other": 0}
    for _ in range(4):
        for name, chunks in (("one", one), ("other", other)):
            progress = next(chunks, None)
            done[name] = progress.processed if progress else done[name]
    assert done["one"] + done["other"] == 130
    assert PageTotal.objects.get(path="/0").views == 26


@pytest.mark.django_db
@pytest.mark.parametrize("batch_size", [0, -1, LARGEST_BATCH + 1])
def test_a_batch_size_out_of_range_is_refused_at_once(batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}, not a number from 1 to 10,000"):
        backfill(batch_size=batch_size)


@pytest.mark.django_db
def test_the_default_batch_size_is_a_setting(settings):
    settings.PAGESTATS_BACKFILL_BATCH_SIZE = 65
    raw_views(ROWS)
    assert len(list(backfill())) == 2


@pytest.mark.django_db
def test_a_run_tells_how_far_a_backfill_came():
    raw_views(ROWS)
    chunks = backfill(batch_size=100)
    next(chunks)
    run = Run.objects.get()
    assert (run.kind, run.status, run.processed, run.finished) == ("backfill", "running", 100, None)
    assert run.result == {"total": 130, "new_visitors": 11}
    list(chunks)
    run.refresh_from_db()
    assert (run.status, run.processed) == ("finished", 130)
    assert run.started <= run.updated <= run.finished


@pytest.mark.django_db
def test_a_backfill_that_is_not_carried_on_leaves_a_stopped_run():
    raw_views(ROWS)
    chunks = backfill(batch_size=100)
    next(chunks)
    chunks.close()
    assert Run.objects.get().status == "stopped"
    assert backfill_status().pending == 30


@pytest.mark.django_db
def test_the_status_tells_a_silent_run_from_a_living_one():
    assert backfill_status().describe(T0) == "0 page views pending\nNo backfill has run yet"
    raw_views(ROWS)
    chunks = backfill(batch_size=100)
    next(chunks)
    status = backfill_status()
    started = status.last_run.started
    said = status.describe(started + timedelta(seconds=30))
    assert said == (
        f"30 page views pending\nLast backfill: running, started {started:%Y-%m-%d %H:%M:%S} UTC, "
        "100 of 130 page views, 11 new visitors"
    )
    assert "Run backfill_aggregates again" in status.describe(started + timedelta(minutes=2))
