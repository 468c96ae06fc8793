"""Any mix of writers, step by step: after each step the answers equal a count of the raw rows."""

import dataclasses
import datetime
import itertools
from typing import Any
from zoneinfo import ZoneInfo

import hypothesis
import pytest
from django.db import transaction
from django.test import override_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pagestats.hits import Hit
from pagestats.models import ActiveSession, PageView, ReportingZone
from pagestats.recording import record_heartbeat, record_page_view, record_page_views
from pagestats.retention import cleanup_stale_sessions
from pagestats.rollups import backfill
from pagestats.stats import snapshot
from tests.oracle import (
    Site,
    expected_rollups,
    reporting_day,
    stored_rollups,
    visitors_added_up,
    visitors_counted,
)

ZONE = "Europe/Amsterdam"
# The first day of summer time has 23 hours, the last one 25.
MIDNIGHTS = [
    datetime.datetime(2025, month, day, tzinfo=ZoneInfo(ZONE)).astimezone(datetime.UTC)
    for month, day in ((3, 30), (3, 31), (10, 26), (10, 27))
]
MILLISECOND = datetime.timedelta(milliseconds=1)
NO_TIME = datetime.timedelta(0)


def edges(*, seconds: float = 0, minutes: float = 0) -> list[datetime.timedelta]:
    """A length of time, and a millisecond less and more."""
    length = datetime.timedelta(seconds=seconds, minutes=minutes)
    return [length - MILLISECOND, length, length + MILLISECOND]


# Few of each, so that nearly every view meets another; byte for byte they are four, three and three.
sessions = st.sampled_from(["s", "S", "s ", "t"])
paths = st.sampled_from(["/a", "/A", "/a "])
page_types = st.sampled_from(["", "page", "Page"])
steps = st.sampled_from(
    [
        NO_TIME,
        MILLISECOND,
        *edges(seconds=10),
        *edges(minutes=2),
        *edges(minutes=30),
        datetime.timedelta(hours=5),
        datetime.timedelta(hours=24),
    ]
)
distances = st.sampled_from([MILLISECOND, NO_TIME, *edges(minutes=30), datetime.timedelta(hours=24)])
either_way = st.builds(lambda distance, sign: distance * sign, distances, st.sampled_from([-1, 1]))
moments = st.builds(lambda midnight, offset: midnight + offset, st.sampled_from(MIDNIGHTS), either_way)
rows = st.tuples(paths, sessions, moments, page_types)


class PageStatistics(RuleBasedStateMachine):
    """A site at work: live views as time goes on, and everything else that may write to its tables."""

    def __init__(self) -> None:
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.site = Site()
        self.now = MIDNIGHTS[0] - datetime.timedelta(minutes=45)
        self.backfills: list[Backfill] = []

    def teardown(self) -> None:
        for running in self.backfills:
            running.chunks.close()
        # Each example begins with empty tables.
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    # Views

    @rule(step=steps, path=paths, session_id=sessions, page_type=page_types)
    def live_view(self, step, path, session_id, page_type):
        self.now += step
        self.record(path, session_id, self.now, page_type)

    @rule(row=rows)
    def late_view(self, row):
        self.record(*row)

    @precondition(lambda self: self.site.views)
    @rule(data=st.data(), offset=either_way)
    def view_near_a_stored_one(self, data, offset):
        near = data.draw(st.sampled_from(self.site.views))
        self.record(near.path, near.session_id, near.timestamp + offset, near.page_type)

    def record(self, path, session_id, at, page_type):
        stored = record_page_view(Hit(path=path, session_id=session_id, at=at, page_type=page_type))
        counted = self.site.record(path, session_id, at, page_type)
        assert (stored is None) == (counted is None)
        if stored is not None:
            assert as_row(stored) == self.site.rows()[-1]

    @rule(hits=st.lists(rows, max_size=8))
    def batch(self, hits):
        counted = record_page_views(
            Hit(path=path, session_id=session_id, at=at, page_type=page_type)
            for path, session_id, at, page_type in hits
        )
        assert counted == self.site.record_all(hits)

    @rule(rows=st.lists(rows, min_size=1, max_size=5))
    def raw_insert(self, rows):
        for path, session_id, at, page_type in rows:
            self.site.insert(path, page_type, session_id, at)
        PageView.objects.bulk_create(
            PageView(path=path, session_id=session_id, timestamp=at, page_type=page_type)
            for path, session_id, at, page_type in rows
        )

    # Backfill

    @precondition(lambda self: len(self.backfills) < 2)
    @rule(batch_size=st.integers(1, 4))
    def backfill_starts(self, batch_size):
        self.backfills.append(Backfill(batch_size))

    @precondition(lambda self: self.backfills)
    @rule(data=st.data())
    def backfill_takes_a_chunk(self, data):
        running = data.draw(st.sampled_from(self.backfills))
        pending = {view.pk for view in PageView.objects.pending()}
        visitors = self.visitors()
        progress = next(running.chunks, None)
        self.note_rolled_up()
        still_pending = {view.pk for view in PageView.objects.pending()}
        if progress is None:
            self.backfills.remove(running)
            assert still_pending == pending
            assert not still_pending & running.found
            return
        taken = len(pending - still_pending)
        assert 1 <= taken <= running.batch_size
        assert still_pending < pending
        running.processed += taken
        running.new_visitors += self.visitors() - visitors
        assert (progress.processed, progress.new_visitors) == (running.processed, running.new_visitors)

    @rule(batch_size=st.integers(1, 4))
    def backfill_to_the_end(self, batch_size):
        pending = len(self.site.pending())
        visitors = self.visitors()
        chunks = list(backfill(batch_size=batch_size))
        self.note_rolled_up()
        assert self.site.pending() == []
        if chunks:
            assert chunks[-1].new_visitors == self.visitors() - visitors
        assert [chunk.processed for chunk in chunks] == [
            min(pending, start + batch_size) for start in range(0, pending, batch_size)
        ]
        assert {chunk.total for chunk in chunks} <= {pending}

    def visitors(self):
        """Count the sessions that have a rolled-up view."""
        return len({view.session_id for view in self.site.rolled_up()})

    def note_rolled_up(self):
        """Take over from the table which views are rolled up: the choice of a chunk is the package's."""
        flags = PageView.objects.order_by("pk").values_list("rolled_up", flat=True)
        for view, rolled_up in zip(self.site.views, flags, strict=True):
            assert rolled_up or not view.rolled_up
            view.rolled_up = rolled_up

    # Active sessions

    @rule(step=steps, path=paths, session_id=sessions)
    def heartbeat(self, step, path, session_id):
        self.now += step
        self.beat(path, session_id, self.now)

    @rule(delay=steps, path=paths, session_id=sessions)
    def late_heartbeat(self, delay, path, session_id):
        self.beat(path, session_id, self.now - delay)

    def beat(self, path, session_id, at):
        outcome = record_heartbeat(Hit(path=path, session_id=session_id, at=at))
        assert outcome == self.site.heartbeat(path, session_id, at)

    @rule(step=steps)
    def cleanup(self, step):
        self.now += step
        assert cleanup_stale_sessions(at=self.now) == len(self.site.cleanup(self.now))

    # What holds after each step

    @invariant()
    def stored_rows_are_those_of_the_rules(self):
        assert sorted(map(as_row, PageView.objects.all())) == sorted(self.site.rows())
        active = ActiveSession.objects.values_list("session_id", "current_path", "last_seen")
        assert sorted(active) == sorted(self.site.session_rows())

    @invariant()
    def snapshot_is_the_raw_truth(self):
        answer = snapshot(at=self.now)
        fields = {field.name: getattr(answer, field.name) for field in dataclasses.fields(answer)}
        assert fields == {**self.site.snapshot(self.now), "published": {}}

    @invariant()
    def rollups_and_visitors_of_any_range_are_those_of_the_rolled_up_rows(self):
        views = list(PageView.objects.rolled_up())
        stored = stored_rollups()
        assert stored == expected_rollups(views, ZONE)
        if views:
            assert [zone.name for zone in ReportingZone.objects.all()] == [ZONE]
        days = sorted({reporting_day(view.timestamp, ZONE) for view in views})
        for start, end in itertools.combinations_with_replacement(days, 2):
            for dimension, value in {("site", ""), *(("page", view.path) for view in views)}:
                scope: dict[str, Any] = {"dimension": dimension, "value": value}
                assert visitors_added_up(stored, start, end, **scope) == visitors_counted(
                    views, ZONE, start, end, **scope
                )


class Backfill:
    """A backfill under way, and what it must report."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.chunks = backfill(batch_size=batch_size)
        self.found = {view.pk for view in PageView.objects.pending()}
        self.processed = 0
        self.new_visitors = 0


def as_row(view: PageView) -> tuple[str, str, str, datetime.datetime, bool]:
    return view.path, view.page_type, view.session_id, view.timestamp, view.rolled_up


def run(*, examples: int, steps: int) -> None:
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    with override_settings(TIME_ZONE=ZONE, PAGESTATS_CONTENT={}):
        run_state_machine_as_test(PageStatistics, settings=settings)


@pytest.mark.django_db
def test_any_mix_of_writers_leaves_the_raw_truth_after_each_step():
    run(examples=30, steps=25)


@pytest.mark.prove
@pytest.mark.timeout(3600)
@pytest.mark.django_db
def test_a_long_mix_of_writers_leaves_the_raw_truth_after_each_step():
    run(examples=150, steps=60)
