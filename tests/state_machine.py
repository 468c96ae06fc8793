"""Any mix of all that may happen to a site's page views, step by step: after each step the answers are a count of them.

That is of every page view that was ever counted and not erased, also of those that are gone since.
"""

import contextlib
import dataclasses
import datetime
import itertools
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock
from zoneinfo import ZoneInfo

import hypothesis
import pytest
from django.db import transaction
from django.db.models import F
from django.test import override_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pagestats import dimensions, rollups, stats
from pagestats.days import DAY
from pagestats.hits import Hit
from pagestats.models import ActiveSession, Calendar, PageTotal, PageView, Return, Rollup, Run, Seal, Visitor
from pagestats.recording import record_heartbeat, record_page_view, record_page_views
from pagestats.retention import (
    SINCE_AN_INSTANT,
    PendingViews,
    cleanup_stale_sessions,
    erase,
    forget,
    prune,
    sweep_visitors,
)
from pagestats.rollups import Progress, backfill, merge_paths, rebuild, repair, roll_up_pending, verify
from pagestats.stats import report, snapshot
from tests.factories import A_SECTION, HOUR, MILLISECOND, MINUTE
from tests.oracle import (
    CannotTell,
    LastingSite,
    Rollups,
    SealedDay,
    Told,
    also_counting,
    days_of,
    expected_rollups,
    reporting_day,
    stored_rollups,
    visitors_added_up,
    visitors_counted,
)

ZONE = "Europe/Berlin"
ZONES = [ZONE, "Asia/Kathmandu"]
# Of the days around each of these, one has 23 hours in Berlin, or 25.
FIRST_DAYS = [datetime.date(2025, 3, 29), datetime.date(2025, 10, 25)]
MIDNIGHTS = range(1, 5)
NO_TIME = datetime.timedelta(0)
TABLES = (PageView, ActiveSession, Visitor, PageTotal, Rollup, Return, Calendar, Seal, Run)


def edges(*, seconds: float = 0, minutes: float = 0) -> list[datetime.timedelta]:
    """A length of time, and a millisecond less and more."""
    length = datetime.timedelta(seconds=seconds, minutes=minutes)
    return [length - MILLISECOND, length, length + MILLISECOND]


# Few of each, so that nearly every view meets another; byte for byte they are four, three and three. Two of the paths
# are of one section.
sessions = st.sampled_from(["s", "S", "s ", "t"])
PATHS = ["/a/1", "/A/1", "/a/1 "]
paths = st.sampled_from(PATHS)
page_types = st.sampled_from(["", "page", "Page"])
steps = st.sampled_from(
    [NO_TIME, MILLISECOND, *edges(seconds=10), *edges(minutes=2), *edges(minutes=30), 5 * HOUR, DAY]
)
distances = st.sampled_from([MILLISECOND, NO_TIME, *edges(minutes=30), 5 * HOUR, DAY])
either_way = st.builds(lambda distance, sign: distance * sign, distances, st.sampled_from([-1, 1]))
midnights = st.sampled_from(MIDNIGHTS)
# Around a midnight in a zone: which, is told by the day on which the example begins.
moments = st.tuples(midnights, st.sampled_from(ZONES), either_way)
rows = st.tuples(paths, sessions, moments, page_types)
sizes = st.integers(1, 4)


class PageStatistics(RuleBasedStateMachine):
    """A site at work: live views as time goes on, and everything else that may change its tables."""

    asked_after_a_step: int | None = 1
    asked_at_the_end: int | None = 4
    """How many reports are compared after each step that changed rows, and when an example ends. None is all."""

    def __init__(self) -> None:
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.site = LastingSite(zone=ZONE)
        self.begin_on(FIRST_DAYS[0])
        self.backfills: list[Backfill] = []
        self.forgotten = itertools.count()
        self.turn = 0
        self.rows_changed = False

    def begin_on(self, first_day: datetime.date) -> None:
        self.first_day = first_day
        self.now = self.at((1, ZONE, -45 * MINUTE))

    @initialize(
        first_day=st.sampled_from(FIRST_DAYS),
        past=st.lists(rows, max_size=10),
        pruned=st.one_of(st.none(), st.tuples(st.integers(1, 3), st.integers(1, 2))),
    )
    def site_has_a_past(self, first_day, past, pruned):
        self.begin_on(first_day)
        self.batch(rows=past, are_unsealed=False)
        if pruned and past:
            midnight, later = pruned
            self.prune_days(midnight=midnight, later=later, batch_size=4, is_killed=False, is_folded=True)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[1] is None:
                self.ask(self.asked_at_the_end)
                assert list(verify()) == []
        finally:
            for running in self.backfills:
                running.chunks.close()
            # Each example begins with empty tables.
            transaction.set_rollback(True)
            self.example.__exit__(None, None, None)

    def at(self, moment):
        midnight, zone, offset = moment
        day = self.first_day + midnight * DAY
        return datetime.datetime.combine(day, datetime.time(), ZoneInfo(zone)).astimezone(datetime.UTC) + offset

    def is_in_play(self, at):
        return self.at((MIDNIGHTS[0], ZONE, -DAY)) <= at < self.at((MIDNIGHTS[-1], ZONE, DAY))

    def time_goes_on(self, step):
        if self.is_in_play(self.now + step):
            self.now += step

    def is_unsealed(self, at):
        return self.site.sealed_before is None or reporting_day(at, self.site.zone) >= self.site.sealed_before

    # Views

    @rule(step=steps, path=paths, session_id=sessions, page_type=page_types)
    def live_view(self, step, path, session_id, page_type):
        self.time_goes_on(step)
        self.record(path, session_id, self.now, page_type)

    @rule(row=rows)
    def late_view(self, row):
        path, session_id, moment, page_type = row
        self.record(path, session_id, self.at(moment), page_type)

    @precondition(lambda self: self.site.views)
    @rule(data=st.data(), offset=either_way)
    def view_near_a_stored_one(self, data, offset):
        near = data.draw(st.sampled_from(self.site.views))
        if self.is_in_play(near.timestamp + offset):
            self.record(near.path, near.session_id, near.timestamp + offset, near.page_type)

    def record(self, path, session_id, at, page_type):
        hit = Hit(path=path, session_id=session_id, at=at, page_type=page_type)
        with override_settings(PAGESTATS_ROLLUPS="deferred" if self.site.is_deferred else "immediate"):
            try:
                counted = self.site.record(path, session_id, at, page_type)
            except SealedDay:
                with self.refused(rollups.SealedDay):
                    record_page_view(hit)
                return
            stored = record_page_view(hit)
        assert (stored is None) == (counted is None)
        if stored is not None:
            assert as_row(stored) == self.site.rows()[-1]

    @rule(rows=st.lists(rows, max_size=8), are_unsealed=st.booleans())
    def batch(self, rows, are_unsealed):
        hits = [(path, session_id, self.at(moment), page_type) for path, session_id, moment, page_type in rows]
        if are_unsealed:
            hits = [hit for hit in hits if self.is_unsealed(hit[2])]
        parsed = [
            Hit(path=path, session_id=session_id, at=at, page_type=page_type)
            for path, session_id, at, page_type in hits
        ]
        with override_settings(PAGESTATS_ROLLUPS="deferred" if self.site.is_deferred else "immediate"):
            try:
                counted = self.site.record_all(hits)
            except SealedDay:
                with self.refused(rollups.SealedDay):
                    record_page_views(parsed)
            else:
                assert record_page_views(parsed) == counted

    @rule(is_deferred=st.booleans())
    def setting_changes(self, is_deferred):
        self.site.is_deferred = is_deferred

    @rule(rows=st.lists(rows, min_size=1, max_size=5))
    def raw_insert(self, rows):
        self.insert(rows, of_sealed_days=False)

    def insert(self, rows, *, of_sealed_days, rolled_up=False):
        """Store pending rows by another door, and those of them alone that are of such days; return them."""
        views = []
        for path, session_id, moment, page_type in rows:
            at = self.at(moment)
            if self.is_unsealed(at) is not of_sealed_days:
                views.append(self.site.insert(path, page_type, session_id, at))
                views[-1].rolled_up = rolled_up
        PageView.objects.bulk_create(
            PageView(
                path=view.path,
                session_id=view.session_id,
                timestamp=view.timestamp,
                page_type=view.page_type,
                rolled_up=rolled_up,
            )
            for view in views
        )
        return views

    # Backfill

    @precondition(lambda self: len(self.backfills) < 2)
    @rule(batch_size=sizes)
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

    @rule(batch_size=sizes, by_task=st.booleans())
    def backfill_to_the_end(self, batch_size, by_task):
        pending = len(self.site.pending())
        if by_task:
            self.fold(batch_size=batch_size)
            assert self.site.pending() == []
            return
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

    def fold(self, *, batch_size):
        list(roll_up_pending(batch_size=batch_size))
        self.note_rolled_up()

    def visitors(self):
        """Count the sessions that have a rolled-up view, or had one that was pruned."""
        return len({view.session_id for view in self.site.counted() if view.rolled_up})

    def note_rolled_up(self):
        """Take over from the table which views are rolled up: the choice of a chunk is the package's."""
        flags = PageView.objects.order_by("pk").values_list("rolled_up", flat=True)
        for view, rolled_up in zip(self.site.views, flags, strict=True):
            assert rolled_up or not view.rolled_up
            if rolled_up and not view.rolled_up:
                self.site.roll_up(view)

    # Active sessions

    @rule(step=steps, path=paths, session_id=sessions, is_late=st.booleans())
    def heartbeat(self, step, path, session_id, is_late):
        if not is_late:
            self.time_goes_on(step)
        at = self.now - step if is_late else self.now
        outcome = record_heartbeat(Hit(path=path, session_id=session_id, at=at))
        assert outcome == self.site.heartbeat(path, session_id, at)

    @rule(step=steps)
    def cleanup(self, step):
        self.time_goes_on(step)
        assert cleanup_stale_sessions(at=self.now) == len(self.site.cleanup(self.now))

    # What is not kept

    @precondition(lambda self: self.site.views)
    @rule(data=st.data())
    def erase_a_session(self, data):
        session_id = self.draw_session(data)
        try:
            erased = self.site.erase(session_id)
        except SealedDay:
            with self.refused(rollups.SealedDay):
                erase(session_id)
        else:
            assert erase(session_id) == erased
            self.rows_changed = True

    @precondition(lambda self: self.site.views)
    @rule(data=st.data(), is_swept=st.booleans())
    def forget_a_session(self, data, is_swept):
        session_id, random_id = self.draw_session(data), f"forgotten {next(self.forgotten)}"
        with mock.patch("secrets.token_hex", return_value=random_id):
            assert forget(session_id) == self.site.forget(session_id, random_id)
        if is_swept:
            sweep_visitors(at=datetime.datetime.now(datetime.UTC) + 2 * HOUR)
            assert not Visitor.objects.filter(first_seen=None, version__gte=SINCE_AN_INSTANT).exists()
        self.rows_changed = True

    def draw_session(self, data):
        return data.draw(st.sampled_from(sorted({view.session_id for view in self.site.counted()})))

    @precondition(lambda self: self.site.views)
    @rule(
        midnight=midnights,
        later=st.integers(0, 2),
        batch_size=sizes,
        is_killed=st.booleans(),
        is_folded=st.sampled_from([True, True, False]),
    )
    def prune_days(self, midnight, later, batch_size, is_killed, is_folded):
        if is_folded:
            self.fold(batch_size=batch_size)
        before = self.first_day + midnight * DAY
        today = max(before + later * DAY, reporting_day(self.now, self.site.zone))
        self.now = max(self.now, self.at((midnight, self.site.zone, later * DAY + HOUR)))
        bound = max(before, self.site.sealed_before or before)
        early = [view for view in self.site.views if self.site.day(view) < bound]
        if not all(view.rolled_up for view in early):
            with self.refused(PendingViews):
                prune(before, at=self.now)
            return
        if early and bound != self.site.sealed_before:
            self.site.seal(bound, today=today)
        stored = self.stored_views()
        chunks = prune(before, at=self.now, batch_size=batch_size)
        if is_killed:
            next(chunks, None)
            chunks.close()
        else:
            list(chunks)
        left = set(PageView.objects.values_list("pk", flat=True))
        pruned = [view for pk, view in stored.items() if pk not in left]
        assert len(pruned) == (min(len(early), batch_size) if is_killed else len(early))
        assert set(pruned) <= set(early)
        self.site.prune(pruned)
        self.rows_changed = True

    def stored_views(self):
        """The page views by their primary keys."""
        pks = PageView.objects.order_by("pk").values_list("pk", flat=True)
        return dict(zip(pks, self.site.views, strict=True))

    @precondition(lambda self: self.site.sealed_before)
    @rule(rows=st.lists(rows, min_size=1, max_size=3))
    def rows_of_sealed_days_stay_pending(self, rows):
        """For a step: who visited on a sealed day can't be told again, and so neither who of these did."""
        stored = self.insert(rows, of_sealed_days=True)
        self.fold(batch_size=2)
        assert self.site.pending() == stored
        if stored:
            with self.refused(PendingViews):
                prune(self.site.sealed_before, at=self.now)
        self.the_snapshot_is_a_count_of_the_views()
        start, end = self.first_day - DAY, self.first_day + 7 * DAY
        assert report(start, end).views == len(self.site.counted())
        self.delete(stored)
        self.rows_changed = True

    def delete(self, views):
        pks = [pk for pk, view in self.stored_views().items() if view in views]
        PageView.objects.filter(pk__in=pks).delete()
        self.site.delete(views)

    # What moves

    @rule(both=st.permutations(PATHS), batch_size=sizes)
    def merge(self, both, batch_size):
        source, target, _ = both
        try:
            moved = self.site.merge(source, target)
        except SealedDay:
            with self.refused(rollups.SealedDay):
                merge_paths(source, target)
            return
        done = list(merge_paths(source, target, batch_size=batch_size))
        assert (done[-1] if done else Progress()) == Progress(processed=moved, total=moved)
        self.rows_changed = True

    @rule(zone=st.sampled_from(ZONES), batch_size=sizes, is_damaged=st.booleans(), data=st.data())
    def time_zone_changes(self, zone, batch_size, is_damaged, data):
        with override_settings(TIME_ZONE=zone):
            if self.site.sealed_before is not None:
                with self.refused(rollups.SealedDay):
                    rebuild()
                return
            if Calendar.objects.exists():
                self.ask(1)
            if is_damaged:
                self.damage(data)
            list(rebuild(batch_size=batch_size))
        self.site.zone = zone
        self.note_rolled_up()
        assert self.site.pending() == []
        self.rows_changed = True

    # Damage

    @precondition(lambda self: self.site.unsealed())
    @rule(data=st.data())
    def raw_delete(self, data):
        unsealed = self.site.unsealed()
        views = data.draw(st.lists(st.sampled_from(unsealed), min_size=1, max_size=3, unique_by=id))
        self.delete(views)
        self.mend(is_damaged=any(view.rolled_up for view in views))

    @rule(rows=st.lists(rows, min_size=1, max_size=3))
    def raw_insert_as_if_rolled_up(self, rows):
        self.mend(is_damaged=bool(self.insert(rows, of_sealed_days=False, rolled_up=True)))

    @rule(data=st.data())
    def figures_are_changed(self, data):
        before = stored_rollups()
        self.mend(is_damaged=self.damage(data))
        assert stored_rollups() == before

    def damage(self, data):
        """Change stored figures; return whether there were any."""
        if not (figures := list(self.figures())):
            return False
        for row, column in data.draw(st.lists(st.sampled_from(figures), min_size=1, max_size=2, unique=True)):
            step = {int: 1, datetime.date: DAY}.get(type(getattr(row, column)), HOUR)
            type(row).unguarded.filter(pk=row.pk).update(**{column: F(column) + step})
        return True

    def figures(self):
        """The stored figures that can be told again: rows and columns."""
        seal = self.site.sealed_before or datetime.date.min
        sealed = {view.path for view in self.site.counted() if self.site.is_sealed(view)}
        for rollup in Rollup.objects.filter(day__gte=seal).order_by("pk"):
            yield from ((rollup, column) for column in ("views", "visitors", "new_visitors"))
        for returned in Return.objects.filter(day__gte=seal).order_by("pk"):
            if returned.dimension == "site" or returned.previous_day >= seal:
                yield returned, "visitors"
        for total in PageTotal.objects.order_by("pk"):
            yield from ((total, column) for column in ("views", "visitors"))
            if total.path not in sealed:
                yield from ((total, column) for column in ("first_viewed", "last_viewed"))
        for visitor in Visitor.objects.filter(first_seen__isnull=False).order_by("pk"):
            yield visitor, "last_day"
            if visitor.last_sealed_day is None:
                yield visitor, "first_seen"

    def mend(self, *, is_damaged):
        drift = list(verify())
        assert bool(drift) == is_damaged
        assert list(repair()) == drift
        who = [each.day for each in drift if each.dimension != "site" and each.day and each.figure != "views"]
        if who:
            self.site.open_seals(min(who))
        self.rows_changed = True

    # What holds after each step

    @contextlib.contextmanager
    def refused(self, reason: type[Exception]) -> Iterator[None]:
        """Expect that something is refused, and changes nothing."""
        before = everything()
        with pytest.raises(reason):
            yield
        assert everything() == before

    @invariant()
    def the_stored_rows_are_those_of_the_rules(self):
        assert sorted(map(as_row, PageView.objects.all())) == sorted(self.site.rows())
        active = ActiveSession.objects.values_list("session_id", "current_path", "last_seen")
        assert sorted(active) == sorted(self.site.session_rows())
        seals = dict(Seal.objects.values_list("before", "open_from"))
        assert seals == self.site.seals

    @invariant()
    def the_snapshot_is_a_count_of_the_views(self):
        answer = snapshot(at=self.now)
        fields = {field.name: getattr(answer, field.name) for field in dataclasses.fields(answer)}
        assert fields == {**self.site.snapshot(self.now), "published": {}}

    @invariant()
    def the_rollups_are_those_of_all_views_that_were_rolled_up(self):
        counted = [view for view in self.site.counted() if view.rolled_up]
        zones = list(Calendar.objects.values_list("zone", "next_zone", "sealed_before"))
        if counted or zones:
            assert zones == [(self.site.zone, "", self.site.sealed_before)]
        stored, expected = stored_rollups(), expected_rollups(counted, self.site.zone)
        if self.site.sealed_before is None:
            assert stored == expected
            return
        assert told_over_a_seal(stored) == told_over_a_seal(expected)

    @invariant()
    def visitors_of_any_range_add_up(self):
        """By the formula of the design, which costs nothing; what `report` says, is asked now and then."""
        counted = [view for view in self.site.counted() if view.rolled_up]
        stored = stored_rollups()
        for start, end in self.ranges():
            for key in (None, *self.keys()):
                if key is None or not self.site.is_crossed(start, end, key):
                    scope = {} if key is None else {"dimension": key[0], "value": key[1]}
                    assert visitors_added_up(stored, start, end, **scope) == visitors_counted(
                        counted, self.site.zone, start, end, **scope
                    )

    def keys(self):
        """The values of all dimensions, but for the whole site."""
        return [
            (dimension.name, value)
            for dimension in dimensions.with_rows()
            for value in sorted({dimension.value_of(path) for path in PATHS})
        ]

    @invariant()
    def nothing_drifts_and_what_is_reported_is_a_count_of_the_views(self):
        if self.rows_changed:
            assert list(verify()) == []
            self.ask(self.asked_after_a_step)
        self.rows_changed = False

    def ask(self, most=None):
        """Compare some reports, others each time; None is every one of every range."""
        lists = [(dimension.name, None) for dimension in dimensions.with_rows()]
        asked = list(itertools.product(self.ranges(), [*lists, *self.keys()]))
        if most is None:
            self.turn, most = 0, len(asked)
        for _ in range(min(most, len(asked))):
            (start, end), key = asked[self.turn % len(asked)]
            self.compare(start, end, *key)
            self.turn += 7 if most < len(asked) else 1

    def ranges(self):
        days = [self.site.day(view) for view in self.site.counted()] or [self.first_day]
        return list(itertools.combinations_with_replacement(days_of(min(days), max(days)), 2))

    def compare(self, start, end, dimension, value):
        """Compare each figure of a report: of one value of a dimension, or of the site and the list of values."""
        asked = {"dimension": dimension} if value is None else {"dimension": dimension, "value": value}
        key = None if value is None else (dimension, value)
        try:
            expected = self.site.report(start, end, key)
        except CannotTell:
            with pytest.raises(stats.CannotTell):
                report(start, end, **asked)
            return
        is_by_hour = end - start <= DAY
        try:
            hours = self.site.hours(start, end, key) if is_by_hour else ()
        except CannotTell:
            with pytest.raises(stats.CannotTell):
                report(start, end, by="hour", **asked)
            is_by_hour, hours = False, ()
        answer = report(start, end, by="hour" if is_by_hour else "day", **asked)
        assert Told(answer.views, answer.visitors, answer.new_visitors, answer.days) == expected
        # As instants: of the hour that comes twice, Python takes neither for equal to an instant of another zone.
        assert tuple((hour.start.astimezone(datetime.UTC), *hour[1:]) for hour in answer.hours) == hours
        if value is None:
            assert answer.rows == self.site.report_rows(start, end, dimension)
            assert bool(answer.reason) == any(visitors is None for _, _, visitors in answer.rows)
        else:
            assert answer.rows == (((value, expected.views, expected.visitors),) if expected.views else ())
        assert answer.total_rows == len(answer.rows)


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


def everything() -> list[Any]:
    """All that is stored."""
    return [list(model._base_manager.order_by("pk").values_list()) for model in TABLES]


def told_over_a_seal(figures: Rollups) -> Rollups:
    """Leave out who was new or came back on a page, which is not known of each, and when it was viewed last."""
    return Rollups(
        page_totals={path: (views, first) for path, (views, _, first, _) in figures.page_totals.items()},
        rollups={
            key: cells if key[0] == "site" else cells[:2] for key, cells in figures.rollups.items() if any(cells[:2])
        },
        returns={key: count for key, count in figures.returns.items() if key[0] == "site"},
        visitors=figures.visitors,
    )


def run(*, examples: int, steps: int, **asked: int | None) -> None:
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    machine = type("PageStatistics", (PageStatistics,), {f"asked_{when}": most for when, most in asked.items()})
    with override_settings(TIME_ZONE=ZONE, PAGESTATS_CONTENT={}):
        run_state_machine_as_test(machine, settings=settings)


@contextlib.contextmanager
def sections_are_counted():
    with dimensions.also(A_SECTION), also_counting(A_SECTION.name, A_SECTION.value_of):
        yield
