"""Verify finds every figure that differs from the page views, and no other; repair sets right what it finds."""

import itertools
import json
import random
from datetime import UTC, date, datetime, timedelta
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F
from django_q.models import OrmQ
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestats import retention, sql, tasks
from pagestats.days import DAY
from pagestats.hits import instant
from pagestats.models import Calendar, PageTotal, PageView, Return, Rollup, Run, Seal, Visitor
from pagestats.recording import record_page_views
from pagestats.rollups import (
    Drift,
    backfill,
    begin_verification,
    rebuild,
    repair,
    slices,
    verification,
    verify,
    verifying,
)
from tests.factories import HOUR, T0, a_hit, raw_views, run_command
from tests.oracle import expected_rollups, rolled_back, stored_rollups
from tests.workers import Signals, Team

pytestmark = pytest.mark.slow("hundreds of made-up drifts, and writers beside a verification")

ZONE = "Europe/Amsterdam"
TODAY = date(2026, 3, 14)


def tables() -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table that a repair may touch, but for the versions of locks and rows of zeros."""
    columns = {
        Visitor: ("session_id", "first_seen", "last_day", "last_sealed_day"),
        PageTotal: ("path", "views", "visitors", "first_viewed", "last_viewed"),
        Rollup: ("dimension", "value", "day", "views", "visitors", "new_visitors"),
        Return: ("dimension", "value", "previous_day", "day", "visitors"),
        PageView: ("path", "page_type", "session_id", "timestamp", "rolled_up"),
    }
    rows = {model.__name__: sorted(model.objects.values_list(*names), key=repr) for model, names in columns.items()}
    rows["Visitor"] = [row for row in rows["Visitor"] if any(row[1:])]
    for name, figures in (("PageTotal", slice(1, 3)), ("Rollup", slice(3, None)), ("Return", slice(4, None))):
        rows[name] = [row for row in rows[name] if any(row[figures])]
    return rows


@pytest.fixture(params=[20_000, 3], ids=["in one slice", "in many slices"])
def slicing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "VIEWS_IN_A_SLICE", request.param)
    monkeypatch.setattr(verifying, "VIEWS_OF_DAYS_IN_A_SLICE", request.param)
    monkeypatch.setattr(verifying, "ROWS_IN_A_SLICE", request.param - 1)
    monkeypatch.setattr(verifying, "CELLS_IN_A_SLICE", request.param)


@pytest.fixture
def some_site(slicing: None, db: None) -> None:
    """Three sessions on three pages on four days; one of the pages has more views than a small slice."""
    hits = [
        a_hit(path=path, session_id=session_id, at=T0 + days * DAY)
        for path, session_id, days in [
            ("/a", "s", 0),
            ("/a", "s", 1),
            ("/a", "s", 3),
            ("/a", "t", 1),
            ("/a", "t", 2),
            ("/b", "s", 1),
            ("/b", "t", 3),
            ("/c", "u", 0),
        ]
    ]
    assert record_page_views(hits) == 8
    assert record_page_views([a_hit(path="/a", session_id="s", at=T0 + 2 * HOUR)]) == 1


def rollup(dimension: str, value: str, days: int) -> Any:
    return Rollup.objects.filter(dimension=dimension, value=value, day=TODAY + days * DAY)


def returned(dimension: str, value: str, before: int, days: int) -> Any:
    return Return.objects.filter(
        dimension=dimension, value=value, previous_day=TODAY + before * DAY, day=TODAY + days * DAY
    )


def test_what_was_recorded_is_exact(some_site: None) -> None:
    before = tables()
    assert list(verify()) == []
    assert list(repair()) == []
    assert tables() == before


# What drift is, by the oracle


def drift_by_the_oracle(zone: str = ZONE) -> list[Drift]:
    """Return what differs between the derived tables and the rolled-up page views, worked out from the definitions."""
    counted, stored = expected_rollups(PageView.objects.rolled_up(), zone), stored_rollups()
    found = []

    def compare(names: str, counted: Any, stored: Any, **key: Any) -> None:
        for name, one, other in zip(names.split(), counted, stored, strict=True):
            if one != other:
                found.append(Drift(figure=name, counted=one, stored=other, **key))

    for session_id in counted.visitors.keys() | stored.visitors.keys():
        compare(
            "first_seen last_day",
            counted.visitors.get(session_id, (None, None)),
            stored.visitors.get(session_id, (None, None)),
            table="visitor",
            value=session_id,
        )
    for key in counted.rollups.keys() | stored.rollups.keys():
        compare(
            "views visitors new_visitors",
            counted.rollups.get(key, (0, 0, 0)),
            stored.rollups.get(key, (0, 0, 0)),
            table="rollup",
            **dict(zip(("dimension", "value", "day"), key, strict=True)),
        )
    for key in counted.returns.keys() | stored.returns.keys():
        compare(
            "visitors",
            [counted.returns.get(key, 0)],
            [stored.returns.get(key, 0)],
            table="return",
            **dict(zip(("dimension", "value", "previous_day", "day"), key, strict=True)),
        )
    for path in counted.page_totals.keys() | stored.page_totals.keys():
        nothing = (0, 0, None, None)
        those = counted.page_totals.get(path, nothing), stored.page_totals.get(path, nothing)
        if path not in counted.page_totals:
            those = (0, 0), those[1][:2]
        names = "views visitors first_viewed last_viewed" if len(those[0]) == 4 else "views visitors"
        compare(names, *those, table="page total", dimension="page", value=path)
    return in_order(found)


def in_order(drift: Any) -> list[Drift]:
    return sorted(drift, key=repr)


# Damage to what is derived

COLUMNS: list[tuple[Any, str]] = [
    *((Rollup, name) for name in ("views", "visitors", "new_visitors")),
    (Return, "visitors"),
    *((PageTotal, name) for name in ("views", "visitors", "first_viewed", "last_viewed")),
    *((Visitor, name) for name in ("first_seen", "last_day")),
]
MICROSECOND = timedelta(microseconds=1)
STEPS = {int: 1, datetime: MICROSECOND, date: DAY}


TABLES: dict[Any, tuple[str, tuple[str, ...]]] = {
    Rollup: ("rollup", ("dimension", "value", "day")),
    Return: ("return", ("dimension", "value", "previous_day", "day")),
    PageTotal: ("page total", ("path",)),
    Visitor: ("visitor", ("session_id",)),
}


def key_of(model: Any, row: Any) -> dict[str, Any]:
    """Return the fields of a drift that say which row it is in."""
    key = {name: getattr(row, name) for name in TABLES[model][1]}
    if model is PageTotal:
        return {"dimension": "page", "value": key["path"]}
    return {"value": key["session_id"]} if model is Visitor else key


@pytest.mark.parametrize(("model", "column"), COLUMNS)
def test_repair_corrects_every_changed_figure_and_writes_nothing_else(some_site: None, model: Any, column: str) -> None:
    before = tables()
    drift = []
    rows = [*model.objects.order_by("pk")]
    assert len(rows) >= 3
    for number, row in enumerate(rows):
        if number % 3 == 2:
            continue
        right = getattr(row, column)
        wrong = right + (-1) ** number * STEPS[type(right)]
        model.unguarded.filter(pk=row.pk).update(**{column: wrong})
        drift.append(Drift(table=TABLES[model][0], figure=column, stored=wrong, counted=right, **key_of(model, row)))
    assert in_order(verify()) == in_order(drift)
    assert in_order(repair()) == in_order(drift)
    assert tables() == before


def assert_found_and_mended(before: Any = None) -> list[Drift]:
    """Verify, repair, and return the drift: what the oracle says it is, all of it, and none of it is left."""
    drift = drift_by_the_oracle()
    damaged = tables()
    assert in_order(verify()) == drift
    assert tables() == damaged
    assert in_order(repair()) == drift
    assert drift_by_the_oracle() == list(verify()) == []
    assert tables()["PageView"] == damaged["PageView"]
    if before is not None:
        assert tables() == before
    return drift


@pytest.mark.parametrize("model", [Rollup, Return, PageTotal, Visitor])
def test_rows_that_were_lost_are_found_and_made_again(some_site: None, model: Any) -> None:
    before = tables()
    for row in [*model.objects.order_by("pk")][1::2]:
        model.unguarded.filter(pk=row.pk).delete()
    assert assert_found_and_mended(before)
    model.unguarded.all().delete()
    assert len(assert_found_and_mended(before)) >= 6


def test_all_that_is_derived_is_made_again(some_site: None) -> None:
    before = tables()
    for model in (Rollup, Return, PageTotal, Visitor, Calendar):
        model.unguarded.all().delete()
    assert_found_and_mended(before)


def test_rows_that_nobody_recorded_are_found_and_come_to_nothing(some_site: None) -> None:
    before = tables()
    days = {"a day before all": TODAY - DAY, "a day after all": TODAY + 99 * DAY}
    for day in days.values():
        for dimension, value in (("site", ""), ("page", "/a")):
            Rollup.unguarded.create(dimension=dimension, value=value, day=day, views=1, visitors=2, new_visitors=3)
            Return.unguarded.create(
                dimension=dimension, value=value, previous_day=day - DAY, day=day + 2 * DAY, visitors=1
            )
    for path in ("", "/A", "/a ", "/é"):  # before, between and after all
        Rollup.unguarded.create(dimension="page", value=path, day=TODAY, views=1, visitors=2, new_visitors=3)
        Return.unguarded.create(dimension="page", value=path, previous_day=TODAY, day=TODAY + DAY, visitors=1)
        PageTotal.unguarded.create(path=f"{path}!", views=1, visitors=2, first_viewed=T0, last_viewed=T0)
    Visitor.unguarded.create(session_id="S", first_seen=T0, last_day=TODAY)
    Visitor.unguarded.create(session_id="ss", last_day=TODAY)
    assert len(assert_found_and_mended(before)) == 4 * 4 + 4 * 6 + 3


def test_rows_of_zeros_and_visitors_that_only_serve_as_locks_are_no_drift(some_site: None) -> None:
    Rollup.unguarded.create(dimension="page", value="/z", day=TODAY, views=0, visitors=0, new_visitors=0)
    Rollup.unguarded.create(dimension="site", value="", day=TODAY - DAY, views=0, visitors=0, new_visitors=0)
    Return.unguarded.create(dimension="page", value="/a", previous_day=TODAY - DAY, day=TODAY, visitors=0)
    PageTotal.unguarded.create(path="/z", views=0, visitors=0, first_viewed=T0, last_viewed=T0)
    Visitor.unguarded.create(session_id="z")
    assert list(verify()) == list(repair()) == []
    assert PageTotal.objects.filter(path="/z").exists()


# Damage to the page views


def test_page_views_that_were_deleted_are_taken_out_of_all_figures(some_site: None) -> None:
    for gone in (
        PageView.objects.filter(session_id="s", path="/a").order_by("pk")[1:2],
        PageView.objects.filter(path="/c"),
        PageView.objects.filter(session_id="s"),
        PageView.objects.all(),
    ):
        PageView.objects.filter(pk__in=[view.pk for view in gone]).delete()
        assert assert_found_and_mended()
    assert not PageTotal.objects.exists()


def test_repair_adds_page_views_that_were_wrongly_stored_as_rolled_up(some_site: None) -> None:
    new = [("/a", "s", T0 - DAY), ("/a", "new", T0 + 9 * DAY), ("/new", "t", T0), ("/a", "s", T0)]
    for path, session_id, at in new:
        PageView.objects.create(path=path, session_id=session_id, timestamp=at, rolled_up=True)
    assert assert_found_and_mended()


def test_pending_page_views_count_nowhere(some_site: None) -> None:
    before = tables()
    raw_views([("/a", "s", T0 - DAY), ("/p", "p", T0)])
    assert list(verify()) == list(repair()) == []
    PageView.objects.update(rolled_up=False)
    drift = assert_found_and_mended()
    assert len(drift) > 20
    PageView.objects.filter(path__in=("/a", "/b", "/c"), timestamp__gte=T0).update(rolled_up=True)
    assert assert_found_and_mended()
    PageView.objects.filter(rolled_up=False).delete()
    assert tables() == before


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/c"},
        {"path": "/new"},
        {"session_id": "t"},
        {"session_id": "new"},
        {"timestamp": F("timestamp") + 12 * HOUR},
    ],
    ids=str,
)
def test_page_views_that_were_changed_are_moved_in_all_figures(some_site: None, change: dict[str, Any]) -> None:
    for view in [*PageView.objects.order_by("pk")][::3]:
        PageView.objects.filter(pk=view.pk).update(**change)
    assert assert_found_and_mended()


def test_a_day_of_a_clock_change_a_year_before_is_nobodys_last_day(db: None) -> None:
    # On 31 March 2024, 366 days before the first page view: from there on days are reckoned.
    record_page_views(a_hit(session_id=session_id, at=datetime(2025, 4, 1, 12, tzinfo=UTC)) for session_id in "st")
    retention.erase("t")
    assert list(verify()) == []


def test_verify_finds_no_drift_if_the_first_page_view_comes_meanwhile(db: None) -> None:
    checked = slices()
    assert next(checked).then.part == "site"
    # By the clocks of Amsterdam it is the next day; those of 1901 were behind.
    record_page_views([a_hit(at=instant(None).replace(hour=23, minute=20))])
    assert [drift for each in checked for drift in each.drift] == []


def test_page_views_around_midnight_are_of_their_days_to_the_microsecond(slicing: None, db: None) -> None:
    summer_time_begins = datetime(2026, 3, 28, 23, 0, tzinfo=UTC)  # that day has 23 hours
    for midnight in (summer_time_begins, summer_time_begins + 23 * HOUR):
        record_page_views([a_hit(path=f"/{midnight:%d}", at=midnight - MICROSECOND)])
        record_page_views([a_hit(path=f"/{midnight:%d}!", at=midnight)])
    assert [
        str(day) for day in Rollup.objects.filter(dimension="site").order_by("day").values_list("day", flat=True)
    ] == [
        "2026-03-28",
        "2026-03-29",
        "2026-03-30",
    ]
    assert list(verify()) == []
    for sign in (1, -1):
        PageView.objects.filter(path__endswith="!").update(timestamp=F("timestamp") - sign * MICROSECOND)
        assert {drift.table for drift in assert_found_and_mended()} == {"rollup", "return", "page total", "visitor"}


# Any damage, any zone

ZONES = [
    "Europe/Amsterdam",
    "America/Santiago",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
]
INSTANTS = [
    datetime(2010, 11, 7, 2, 30, tzinfo=UTC),  # midnight in St. John's; a minute later it is 23:01 of the day before
    datetime(2010, 11, 7, 2, 45, tzinfo=UTC),
    datetime(2011, 12, 30, 9, 59, 59, 999999, tzinfo=UTC),  # in Apia there was no 30th
    datetime(2011, 12, 30, 10, tzinfo=UTC),
    *(
        datetime(2025, month, day, hour, tzinfo=UTC) + shift
        for month, day, hours in (
            (3, 29, (22, 23)),
            (3, 30, (21, 22)),
            (10, 25, (22,)),
            (10, 26, (22, 23)),
            (9, 7, (3, 4)),  # midnight is skipped in Santiago
            (4, 6, (3, 4)),
        )
        for hour in hours
        for shift in (-MICROSECOND, timedelta(0))
    ),
]
rows = st.tuples(st.sampled_from(["/a", "/A", "/a "]), st.sampled_from(["s", "S", "s "]), st.sampled_from(INSTANTS))
figures = st.tuples(st.sampled_from(COLUMNS), st.integers(0, 50), st.sampled_from([-2, 1]))


@pytest.mark.django_db
@given(
    zone=st.sampled_from(ZONES),
    recorded=st.lists(rows, max_size=12),
    pending=st.lists(rows, max_size=3),
    invented=st.lists(rows, max_size=2),
    deleted=st.lists(st.integers(0, 50), max_size=2),
    changed=st.lists(figures, max_size=3),
    size=st.sampled_from([1, 2, 100]),
)
@settings(max_examples=15)
def test_any_damage_in_any_zone_is_found_as_the_oracle_says_and_mended(
    zone: str, recorded: Any, pending: Any, invented: Any, deleted: Any, changed: Any, size: int
) -> None:
    with rolled_back(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifying, "VIEWS_IN_A_SLICE", size)
        patch.setattr(verifying, "VIEWS_OF_DAYS_IN_A_SLICE", size)
        patch.setattr(verifying, "ROWS_IN_A_SLICE", size)
        Calendar.unguarded.create(pk=Calendar.ROW, zone=zone)
        half = len(recorded) // 2
        record_page_views(a_hit(path=path, session_id=session_id, at=at) for path, session_id, at in recorded[:half])
        raw_views(recorded[half:])
        list(backfill())
        raw_views(pending)
        assert list(verify()) == drift_by_the_oracle(zone) == []
        for path, session_id, at in invented:
            PageView.objects.create(path=path, session_id=session_id, timestamp=at, rolled_up=True)
        views = [*PageView.objects.all()]
        for number in deleted:
            if views:
                PageView.objects.filter(pk=views[number % len(views)].pk).delete()
        for (model, column), number, sign in changed:
            if stored := [*model.objects.all()]:
                row = stored[number % len(stored)]
                if value := getattr(row, column):
                    model.unguarded.filter(pk=row.pk).update(**{column: value + sign * STEPS[type(value)]})
        drift = drift_by_the_oracle(zone)
        assert in_order(verify()) == drift
        assert in_order(repair()) == drift
        assert list(verify()) == drift_by_the_oracle(zone) == []


# Where page views were pruned


@pytest.fixture
def sealed_site(some_site: None) -> None:
    """The first two of four days are sealed; after that, views were recorded of each of the others."""
    for _ in retention.prune(TODAY + 2 * DAY, at=T0 + 9 * DAY):
        pass
    assert {view.timestamp.date() for view in PageView.objects.all()} == {TODAY + 2 * DAY, TODAY + 3 * DAY}
    hits = [
        a_hit(path=path, session_id=session_id, at=T0 + days * DAY + 5 * HOUR)
        for path, session_id, days in [("/a", "s", 2), ("/b", "t", 2), ("/c", "s", 3), ("/c", "u", 2), ("/d", "v", 3)]
    ]
    assert record_page_views(hits) == 5


def test_sealed_days_are_not_judged_and_what_is_after_them_is_exact(sealed_site: None) -> None:
    before = tables()
    assert list(verify()) == list(repair()) == []
    Rollup.unguarded.filter(day__lt=TODAY + 2 * DAY).update(visitors=F("visitors") + 1)
    Return.unguarded.filter(day__lt=TODAY + 2 * DAY).update(visitors=F("visitors") + 1)
    assert list(verify()) == []
    Rollup.unguarded.filter(day__lt=TODAY + 2 * DAY).update(visitors=F("visitors") - 1)
    Return.unguarded.filter(day__lt=TODAY + 2 * DAY).update(visitors=F("visitors") - 1)
    assert tables() == before


@pytest.mark.parametrize(("model", "column"), COLUMNS)
def test_figures_of_unsealed_days_are_found_and_set_right(sealed_site: None, model: Any, column: str) -> None:
    before = tables()
    seal = TODAY + 2 * DAY
    rows = [row for row in model.objects.order_by("pk") if getattr(row, "day", seal) >= seal]
    if model is Return:  # what came to a page from before the seal stands
        rows = [row for row in rows if row.dimension == "site" or row.previous_day >= seal]
    if column in ("first_seen", "first_viewed"):  # of page views that were pruned only this tells
        rows = [row for row in rows if getattr(row, column) >= T0 + 2 * DAY]
    assert rows
    drift = []
    for row in rows:
        right = getattr(row, column)
        wrong = right + STEPS[type(right)]
        model.unguarded.filter(pk=row.pk).update(**{column: wrong})
        drift.append(Drift(table=TABLES[model][0], figure=column, stored=wrong, counted=right, **key_of(model, row)))
    assert in_order(verify()) == in_order(repair()) == in_order(drift)
    assert tables() == before


def test_rows_that_a_killed_prune_left_are_counted_nowhere(some_site: None) -> None:
    chunks = retention.prune(TODAY + 2 * DAY, at=T0 + 9 * DAY, batch_size=1)
    next(chunks)
    assert PageView.objects.filter(timestamp__lt=T0 + DAY + 12 * HOUR).exists()
    assert list(verify()) == []
    record_page_views([a_hit(path="/b", session_id="s", at=T0 + 5 * DAY)])
    assert list(verify()) == list(repair()) == []


def test_what_a_repair_counts_anew_is_not_told_over_the_seal(sealed_site: None) -> None:
    seal = TODAY + 2 * DAY
    Seal.unguarded.update(open_from=TODAY + 9 * DAY)
    PageView.objects.filter(path="/c", session_id="s", timestamp__gte=T0 + 3 * DAY).delete()
    assert list(repair())
    assert list(Seal.objects.values_list("before", "open_from")) == [(seal, TODAY + 3 * DAY)]


def test_a_sealed_day_on_a_site_that_was_never_pruned_is_none(some_site: None) -> None:
    before = tables()
    found = a_sealed_day("s", 1, counted=None)
    assert list(verify()) == list(repair()) == [found]
    assert tables() == before
    a_sealed_day("s", 1, counted=None)
    list(rebuild())
    assert list(verify()) == []
    assert tables() == before


@pytest.mark.parametrize("day", [2, 9])
@pytest.mark.parametrize(("session_id", "first_day"), [("u", 0), ("v", None)])
def test_a_last_sealed_day_that_is_not_sealed_is_drift(
    sealed_site: None, session_id: str, first_day: int | None, day: int
) -> None:
    before = tables()
    found = a_sealed_day(session_id, day, counted=None if first_day is None else TODAY + first_day * DAY)
    assert list(verify()) == list(repair()) == [found]
    assert tables() == before


def a_sealed_day(session_id: str, day: int, *, counted: date | None) -> Drift:
    """Store a last sealed day that can't be; return what is to be found."""
    wrong = TODAY + day * DAY
    Visitor.unguarded.filter(session_id=session_id).update(last_sealed_day=wrong)
    return Drift(table="visitor", value=session_id, figure="last_sealed_day", stored=wrong, counted=counted)


# While others are at work


def test_a_prune_and_a_new_zone_in_the_middle_are_gone_along_with(some_site: None) -> None:
    checked = verifying.slices()
    assert next(checked).drift == ()
    for _ in retention.prune(TODAY + DAY, at=T0 + 9 * DAY):
        pass
    assert [drift for each in checked for drift in each.drift] == []

    Calendar.unguarded.update(sealed_before=None)
    for model in (Rollup, Return, PageTotal, Visitor):
        model.unguarded.all().delete()
    PageView.objects.update(rolled_up=False, timestamp=F("timestamp") - HOUR)
    list(backfill())
    checked = verifying.slices()
    assert next(checked).drift == ()
    for model in (Rollup, Return, PageTotal, Visitor):
        model.unguarded.all().delete()
    PageView.objects.update(rolled_up=False)
    Calendar.unguarded.update(zone="Pacific/Kiritimati")
    list(backfill())
    assert {drift.table for each in checked for drift in each.drift} == set()


def test_what_another_repair_set_right_meanwhile_is_not_added_twice(
    some_site: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tables()
    wait, others = verifying._wait_for_other_repairs, []

    def after_another(*, using: str) -> None:
        if not others:
            others.append(None)
            others.extend(repair())
        wait(using=using)

    monkeypatch.setattr(verifying, "_wait_for_other_repairs", after_another)
    Rollup.unguarded.filter(dimension="site").update(views=F("views") + 1)
    Return.unguarded.update(visitors=F("visitors") + 2)
    PageTotal.unguarded.update(visitors=F("visitors") - 3)
    damage = len(drift_by_the_oracle())
    mine = [*repair()]
    assert (len(mine), len(others) - 1) == (0, damage)
    assert tables() == before


def write(number: int, signals: Signals) -> int:
    """Record views and have pending ones folded in until the test says stop; return how many."""
    chance = random.Random(number)
    written = 0
    while not signals.stop.is_set():
        at = T0 + chance.randrange(5 * 24 * 60) * timedelta(minutes=1)
        hits = [
            a_hit(path=f"/{chance.randrange(4)}", session_id=f"s{chance.randrange(9)}", at=at + n * HOUR)
            for n in range(3)
        ]
        written += record_page_views(hits[:2])
        if chance.random() < 0.2:
            rows = [(hits[2].path, hits[2].session_id, hits[2].at)]
            written += len(sql.retrying(lambda rows=rows: raw_views(rows), using="default"))
            for _ in backfill():
                pass
    return written


def mend(number: int, signals: Signals) -> int:
    """Repair at the same time as another process, and return how many figures differed."""
    signals.together()
    return len(list(repair()))


@pytest.mark.django_db(transaction=True)
def test_beside_writers_verify_finds_real_drift_only_and_repair_corrects_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record_page_views(a_hit(path=f"/{n % 4}", session_id=f"s{n % 9}", at=T0 + 7 * n * HOUR) for n in range(40))
    with Team(2) as team:
        team.start(write, [1, 2])
        recorded = PageView.objects.count()
        while PageView.objects.count() == recorded:
            pass  # the writers have to be started first
        moved = 0
        for number in itertools.count():
            for name in ("VIEWS_IN_A_SLICE", "VIEWS_OF_DAYS_IN_A_SLICE"):
                monkeypatch.setattr(verifying, name, (20, 20_000)[number % 2])
            views = PageView.objects.count()
            assert list(verify()) == []
            moved += PageView.objects.count() > views
            if number >= 5 and moved >= 3:
                break  # never, if the writers stand still
        for _ in range(2):
            damaged = 0
            for model, figure in ((Rollup, "views"), (Return, "visitors"), (PageTotal, "visitors")):
                damaged += sql.retrying(
                    lambda model=model, figure=figure: model.unguarded.all().update(**{figure: F(figure) + 1}),
                    using="default",
                )
            assert len(list(repair())) == damaged
            assert list(verify()) == []
        team.stop()
        assert all(written > 10 for written in team.results())
        for _ in range(2):
            for model in (Rollup, Return, PageTotal):
                model.unguarded.all().update(visitors=F("visitors") + 1)
            damaged = len(drift_by_the_oracle())
            assert sum(team.run(mend, [1, 2])) == damaged
    assert list(verify()) == drift_by_the_oracle() == []


# How it goes


def test_it_goes_on_from_where_it_was_in_another_process(some_site: None) -> None:
    Rollup.unguarded.filter(value="/a").update(views=F("views") + 1)
    Rollup.unguarded.filter(value="/b", day=TODAY + DAY).delete()
    whole = [each.drift for each in verifying.slices()]
    position, parts = verifying.Position(), []
    while position.part != "end":
        each = next(verifying.slices(start=verifying.Position.from_json(json.loads(json.dumps(position.to_json())))))
        parts.append(each.drift)
        position = each.then
    assert parts == whole
    assert in_order(drift for part in parts for drift in part) == drift_by_the_oracle()


@pytest.mark.django_db
def test_the_number_of_statements_does_not_grow_with_what_is_in_a_slice(django_capture_queries: Any) -> None:
    def view(count: int) -> list[str]:
        record_page_views(a_hit(path=f"/{n % 9}", session_id=f"s{n}", at=T0 + n * HOUR) for n in range(count))
        return django_capture_queries(lambda: list(verify()))

    few, many = view(10), view(300)
    # Two of them look for rows of dimensions that are not in the register.
    assert len(few) == len(many) < 26 + 2
    assert not [query for query in many if query.startswith(("INSERT", "UPDATE", "DELETE"))]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("mend", [False, True], ids=["verify", "repair"])
@pytest.mark.parametrize("year", [2015, 2041])
def test_views_of_other_years_that_come_meanwhile_are_on_their_own_days(mend: bool, year: int) -> None:
    record_page_views([a_hit(session_id="now")])
    checked = slices(fix=mend)
    drift = [*next(checked).drift]
    # Half past midnight in summer: at the clocks of winter it is still the day before.
    record_page_views(a_hit(session_id="old", at=datetime(year, 7, day, 22, 30, tzinfo=UTC)) for day in (1, 2, 3))
    for each in checked:
        drift += each.drift
    assert drift == []
    assert stored_rollups() == expected_rollups(PageView.objects.all(), ZONE)


@pytest.mark.django_db
def test_rollups_of_pages_without_page_views_are_judged_some_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "CELLS_IN_A_SLICE", 10)
    record_page_views(a_hit(path=f"/{n}", at=T0 + day * DAY) for n in range(20) for day in range(5))
    PageView.objects.all().delete()
    of_pages = [each for each in slices() if each.compared["pages"]]
    assert [len(each.drift) for each in of_pages].count(0) == 0
    assert max(each.compared["cells"] for each in of_pages) <= 2 * (5 + 4)  # two pages
    assert sum(each.compared["pages"] for each in of_pages) == 20
    list(repair())
    assert list(verify()) == []
    assert not any(row.views for row in Rollup.objects.all())


@pytest.mark.django_db(transaction=True)
def test_what_a_killed_link_of_a_verification_had_done_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "VIEWS_IN_A_SLICE", 5)
    record_page_views(a_hit(path=f"/{n}", session_id=f"s{n}") for n in range(30))
    begin_verification(link=0)
    killed = verification(Run.objects.get(), left=Run.Status.RUNNING)
    for _ in range(5):
        next(killed)
    killed.close()
    assert Run.objects.get().processed > 0
    for _ in verification(Run.objects.get(), left=Run.Status.RUNNING):
        pass
    assert (Run.objects.get().processed, Run.objects.get().result["page_views"]) == (90, 30)


@pytest.mark.django_db(transaction=True)
def test_a_verification_tells_the_seal_that_came_meanwhile() -> None:
    record_page_views(a_hit(at=T0 + days * DAY) for days in range(5))
    checked = verification(begin_verification())
    next(checked)
    list(retention.prune(TODAY + DAY, at=T0 + 9 * DAY))
    assert [drift for each in checked for drift in each.drift] == []
    assert Run.objects.get(kind=Run.Kind.VERIFY).result["sealed_before"] == f"{TODAY + DAY}"


@pytest.mark.django_db(transaction=True)
def test_the_clean_up_stops_a_verification_that_died() -> None:
    verification = begin_verification()
    Run.objects.update(updated=instant(None) - timedelta(minutes=5))
    tasks.clean_up()
    verification.refresh_from_db()
    assert (verification.status, OrmQ.objects.count()) == ("stopped", 0)


run = partial(run_command, "verify_aggregates")


def test_the_command_says_that_all_is_exact_and_leaves_a_run(some_site: None) -> None:
    raw_views([("/p", "p", T0)])
    assert run() == "Exact: 18 rollup rows of 4 days, 3 pages and 3 visitors match 9 page views"
    verified = Run.objects.get()
    assert (verified.kind, verified.status, verified.processed) == ("verify", "finished", 27)
    assert verified.result == {
        "cells": 18,
        "days": 4,
        "pages": 3,
        "visitors": 3,
        "page_views": 9,
        "drift": 0,
        "total": 27,
    }


@pytest.mark.django_db
def test_the_command_lists_what_differs_and_fails_until_it_is_repaired() -> None:
    record_page_views(a_hit(path=f"/{number}") for number in range(5))
    Rollup.unguarded.filter(dimension="page").update(views=1234)
    out = StringIO()
    with pytest.raises(
        CommandError, match=r"^5 stored counts differ from the page views\. To fix, run manage\.py .* --repair"
    ):
        call_command("verify_aggregates", "--limit=2", stdout=out)
    assert out.getvalue().splitlines() == [
        "rollup page /0 on 2026-03-14: views is 1,234, counted 1",
        "rollup page /1 on 2026-03-14: views is 1,234, counted 1",
        "… and 3 more",
    ]
    assert Run.objects.get().result["drift"] == 5
    assert run("--repair", "--limit=1").splitlines() == [
        "repaired: rollup page /0 on 2026-03-14: views is 1,234, counted 1",
        "… and 4 more",
        "Repaired 5 counts",
        "Exact: 6 rollup rows of 1 day, 5 pages and 1 visitor match 5 page views",
    ]
    assert run("--repair").startswith("Exact: ")
    with pytest.raises(CommandError, match="--limit is -1"):
        run("--limit=-1")


def test_the_command_says_what_is_sealed(sealed_site: None) -> None:
    assert run().splitlines()[0] == "Skipped days before 2026-03-16: their page views have been pruned"


def test_a_drift_says_where_it_is() -> None:
    of_return = Drift(
        table="return",
        dimension="site",
        value="",
        day=TODAY,
        previous_day=TODAY - DAY,
        figure="visitors",
        stored=2,
        counted=0,
    )
    assert str(of_return) == "return site on 2026-03-14 before on 2026-03-13: visitors is 2, counted 0"
    of_visitor = Drift(table="visitor", value="s", figure="last_day", stored=None, counted=TODAY)
    assert str(of_visitor) == "visitor s: last_day is none, counted 2026-03-14"


# On the cluster


def queued() -> list[tuple[str, tuple[int, int]]]:
    return [(row.task["func"], row.task["args"]) for row in OrmQ.objects.order_by("pk")]


@pytest.mark.django_db(transaction=True)
def test_a_verification_is_a_chain_of_tasks_and_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    record_page_views(a_hit(path=f"/{n % 4}", session_id=f"s{n % 9}", at=T0 + 7 * n * HOUR) for n in range(40))
    Rollup.unguarded.filter(value="/1").update(views=F("views") + 1)
    drift = len(drift_by_the_oracle())
    monkeypatch.setattr(tasks, "BUDGET", timedelta(0))
    monkeypatch.setattr(verifying, "VIEWS_IN_A_SLICE", 10)
    monkeypatch.setattr(verifying, "VIEWS_OF_DAYS_IN_A_SLICE", 10)
    verified = tasks.verify()
    assert verified is not None
    assert tasks.verify() is None  # one is under way
    for link in range(99):
        if not queued():
            break
        assert queued() == [("pagestats.tasks.verify_slices", (verified.pk, link))]
        OrmQ.objects.all().delete()
        tasks.verify_slices(verified.pk, link)
        if link == 3:  # delivered twice, or too late
            assert tasks.verify_slices(verified.pk, link) == tasks.verify_slices(verified.pk, link + 2) == 0
    assert link > 8
    verified.refresh_from_db()
    assert (verified.status, verified.processed, verified.result["drift"]) == ("finished", 120, drift)
    assert Run.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_clean_up_continues_a_verification_that_died() -> None:
    record_page_views([a_hit()])
    of_command = begin_verification()
    chain = tasks.verify()
    assert chain is None
    Run.objects.update(updated=F("updated") - timedelta(minutes=2))
    chain = tasks.verify()
    assert chain is not None
    of_command.refresh_from_db()
    assert of_command.status == "stopped"
    OrmQ.objects.all().delete()
    tasks.clean_up()
    assert queued() == []
    Run.objects.update(updated=F("updated") - timedelta(minutes=2))
    tasks.clean_up()
    tasks.clean_up()
    assert queued() == [("pagestats.tasks.verify_slices", (chain.pk, 0))]
    tasks.verify_slices(chain.pk, 0)
    chain.refresh_from_db()
    assert (chain.status, chain.result["drift"]) == ("finished", 0)
    assert chain.finished is not None
