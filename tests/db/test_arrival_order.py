"""Hits may arrive in any order: what is stored depends on their times, and a batch is its hits one by one."""

import datetime
import itertools
import random
from collections import defaultdict

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from pagestats.hits import Hit
from pagestats.models import PageView
from pagestats.recording import record_page_view, record_page_views
from tests.factories import MILLISECOND, T0, raw_views
from tests.oracle import DEDUP_WINDOW, Site, expected_rollups, rolled_back, stored_rollups

JITTER = datetime.timedelta(minutes=2)

pytestmark = [pytest.mark.django_db, pytest.mark.slow("hundreds of made-up visits")]

sessions = st.sampled_from(["s", "t"])
paths = st.sampled_from(["/a", "/b"])
page_types = st.sampled_from(["", "blog", "page"])
gaps = st.one_of(
    st.sampled_from([datetime.timedelta(0), MILLISECOND, DEDUP_WINDOW - MILLISECOND, DEDUP_WINDOW, JITTER, JITTER / 2]),
    st.timedeltas(datetime.timedelta(0), datetime.timedelta(minutes=50)),
    st.just(datetime.timedelta(hours=9)),
)
delays = st.timedeltas(datetime.timedelta(0), JITTER)


def whole_milliseconds(length: datetime.timedelta) -> datetime.timedelta:
    return length // MILLISECOND * MILLISECOND


@st.composite
def visits(draw):
    """Hits in order of their times: (path, session id, at, page type)."""
    at = T0
    hits = []
    for gap in draw(st.lists(gaps, min_size=1, max_size=20)):
        at += whole_milliseconds(gap)
        hits.append((draw(paths), draw(sessions), at, draw(page_types)))
    return hits


@st.composite
def delayed_visits(draw):
    """Hits in order of arrival, each up to 2 minutes late."""
    hits = draw(visits())
    arrivals = [hit[2] + draw(delays) for hit in hits]
    return [hits[position] for position in sorted(range(len(hits)), key=arrivals.__getitem__)]


arrivals = st.one_of(
    delayed_visits(),
    visits().flatmap(st.permutations),
    visits().map(lambda hits: hits[::-1]),
)


def as_hit(row) -> Hit:
    path, session_id, at, page_type = row
    return Hit(path=path, session_id=session_id, at=at, page_type=page_type)


def stored_rows():
    return sorted(PageView.objects.values_list("path", "session_id", "timestamp", "page_type", "rolled_up"))


def site_rows(site):
    return [(path, session_id, at, page_type, rolled_up) for path, page_type, session_id, at, rolled_up in site.rows()]


@given(hits=arrivals)
def test_stored_views_are_a_window_apart_in_any_order_of_arrival(hits):
    with rolled_back():
        site = Site()
        counted = [record_page_view(as_hit(hit)) is not None for hit in hits]
        assert counted == [site.record(*hit) is not None for hit in hits]

        times = defaultdict(list)
        for path, session_id, at, _, _ in stored_rows():
            times[path, session_id].append(at)
        for of_one in times.values():
            assert all(later - earlier >= DEDUP_WINDOW for earlier, later in itertools.pairwise(of_one))
        for path, session_id, at, _ in hits:
            assert any(abs(at - stored) < DEDUP_WINDOW for stored in times[path, session_id])
        assert stored_rollups() == expected_rollups(PageView.objects.all(), settings.TIME_ZONE)


@given(hits=arrivals, earlier=st.lists(st.tuples(paths, sessions, delays), max_size=3))
def test_a_batch_is_its_hits_one_by_one_in_order_of_time_and_position(hits, earlier):
    with rolled_back():
        raw_views((path, session_id, T0 + whole_milliseconds(delay)) for path, session_id, delay in earlier)
        with rolled_back():
            in_order = sorted(hits, key=lambda hit: hit[2])
            counted = sum(record_page_view(as_hit(hit)) is not None for hit in in_order)
            one_by_one = counted, stored_rows(), stored_rollups()
        batch = record_page_views([as_hit(hit) for hit in hits]), stored_rows(), stored_rollups()
    assert batch == one_by_one


@given(hits=arrivals, cut=st.integers(0, 20))
def test_two_batches_are_their_hits_one_by_one(hits, cut):
    with rolled_back():
        site = Site()
        for part in (hits[:cut], hits[cut:]):
            assert record_page_views(map(as_hit, part)) == site.record_all(part)
        assert stored_rows() == sorted(site_rows(site))
        assert stored_rollups() == expected_rollups(PageView.objects.all(), settings.TIME_ZONE)


def test_a_batch_of_more_than_a_thousand_hits_is_its_hits_one_by_one():
    chance = random.Random(1203)
    hits = [
        (
            chance.choice(["/a", "/b", "/c"]),
            f"s{chance.randrange(20)}",
            T0 + chance.randrange(3 * 24 * 60) * datetime.timedelta(minutes=1),
            chance.choice(["", "page"]),
        )
        for _ in range(1201)
    ]
    site = Site()
    counted = record_page_views(map(as_hit, hits))
    assert counted == site.record_all(hits) < 1201
    assert stored_rows() == sorted(site_rows(site))
    assert stored_rollups() == expected_rollups(PageView.objects.all(), settings.TIME_ZONE)


def test_a_batch_with_its_newest_hit_first_is_judged_oldest_first():
    hits = [("/a", "s", T0 + minutes * datetime.timedelta(minutes=1), "") for minutes in (60, 45, 30, 29, 0)]
    assert record_page_views(map(as_hit, hits)) == 3
    assert [row[2] for row in stored_rows()] == [T0, T0 + DEDUP_WINDOW, T0 + 2 * DEDUP_WINDOW]


def test_of_two_hits_at_one_instant_the_first_in_the_batch_is_stored():
    hits = [("/a", "s", T0 + MILLISECOND, "page"), ("/a", "s", T0, "blog"), ("/a", "s", T0, "page")]
    assert record_page_views(map(as_hit, hits)) == 1
    assert stored_rows() == [("/a", "s", T0, "blog", True)]
