"""Many processes at once: what they leave is what one process would have left, and no error comes out of any."""

import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from django.conf import settings
from django.db import connection

from pagestats import recording, sql
from pagestats.hits import Hit
from pagestats.models import ActiveSession, PageView, Visitor
from pagestats.recording import record_heartbeat, record_page_view, record_page_views
from pagestats.stats import snapshot
from tests.factories import MINUTE, SECOND, T0
from tests.oracle import DEDUP_WINDOW, expected_rollups, stored_rollups
from tests.workers import Signals, Team

PROCESSES = 8
HITS = 20_000
START = datetime(2026, 3, 26, 20, 30, tzinfo=UTC)  # summer time begins on the second day after it
SLOTS = 144  # three days of half hours
ROUNDS = 50

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def team(django_db_setup: None, django_db_blocker: Any) -> Iterator[Team]:
    with django_db_blocker.unblock():
        team = Team(PROCESSES)
    with team:
        yield team


# Page views

# How else a site may have set up its connections. Isolation above READ COMMITTED shows a transaction the past.
OTHER_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "sqlite": {
        "immediate": {"transaction_mode": "IMMEDIATE"},
        "wal": {"init_command": "PRAGMA journal_mode=wal"},
    },
    "postgresql": {
        "repeatable read": {"options": "-c default_transaction_isolation=repeatable\\ read"},
        "serializable": {"options": "-c default_transaction_isolation=serializable"},
    },
    "mysql": {
        "repeatable read": {"isolation_level": "repeatable read"},
        "serializable": {"isolation_level": "serializable"},
    },
}


class Share(NamedTuple):
    """What one process is to record: one by one where there is one hit, else as a batch."""

    batches: Sequence[Sequence[Hit]]
    in_rounds: bool = False
    options: dict[str, Any] = {}


class Call(NamedTuple):
    """One call of a writer: when, what it was given, and how many views it stored."""

    began: int
    ended: int
    hits: Sequence[Hit]
    stored: int


class Work(NamedTuple):
    """What one process did. `overtaken` are times that somebody else wrote to a session after the look at it."""

    calls: list[Call]
    overtaken: int


@contextmanager
def connection_options(options: dict[str, Any]) -> Iterator[None]:
    """Connect with other options until the end."""
    with patch.dict(connection.settings_dict, OPTIONS={**connection.settings_dict["OPTIONS"], **options}):
        connection.close()
        yield
        connection.close()


def record(share: Share, signals: Signals) -> Work:
    overtaken = 0
    store, swap = recording._store, recording._write_unless_changed

    def counting_store(hits: Sequence[Hit], *, using: str) -> recording.Recorded:
        nonlocal overtaken
        recorded = store(hits, using=using)
        if len(hits) == 1 and not recorded.counted:
            overtaken += 1
        return recorded

    def counting_swap(*args: Any, **options: Any) -> int | None:
        nonlocal overtaken
        key = swap(*args, **options)
        overtaken += key is None
        return key

    calls = []
    with (
        connection_options(share.options),
        patch.multiple(recording, _store=counting_store, _write_unless_changed=counting_swap),
    ):
        for hits in share.batches:
            if share.in_rounds:
                signals.together()
            began = time.monotonic_ns()
            stored = record_page_views(hits) if len(hits) > 1 else int(record_page_view(hits[0]) is not None)
            calls.append(Call(began, time.monotonic_ns(), hits, stored))
    return Work(calls, overtaken)


def visits(chance: random.Random, count: int, *, jitter: Sequence[timedelta] = (timedelta(0),)) -> list[Hit]:
    """Return hits in the order of their arrival.

    As time goes on, four sessions look at four paths again and again; every sixth hit is up to three days late. There
    is one instant every half hour; a jitter is added to it.
    """
    hits = []
    for position in range(count):
        slot = position * SLOTS // count
        if chance.random() < 1 / 6:
            slot = chance.randrange(slot + 1)
        path = chance.choice(["/", "/a", "/A", "/a/"])
        at = START + slot * DEDUP_WINDOW + chance.choice(jitter)
        hits.append(Hit(path=path, session_id=chance.choice("stuv"), at=at, page_type=f"type of {path}"))
    return hits


def cut(chance: random.Random, hits: Sequence[Hit]) -> list[list[list[Hit]]]:
    """Deal the hits out to the processes, most of them in batches; all processes have hits of each time."""
    shares: list[list[list[Hit]]] = [[] for _ in range(PROCESSES)]
    remaining = iter(hits)
    while batch := list(itertools.islice(remaining, 1 if chance.random() < 0.85 else chance.randint(2, 20))):
        chance.choice(shares).append(batch)
    return shares


def replay(hits: Iterable[Hit]) -> list[tuple[str, str, datetime, str, bool]]:
    """Return the rows that one process would store of hits in the order of their arrival."""
    stored: defaultdict[tuple[str, str], list[datetime]] = defaultdict(list)
    rows = []
    for hit in hits:
        views = stored[hit.session_id, hit.path]
        if all(abs(hit.at - at) >= DEDUP_WINDOW for at in views):
            views.append(hit.at)
            rows.append((hit.session_id, hit.path, hit.at, hit.page_type, True))
    return sorted(rows)


def stored_rows() -> list[tuple[str, str, datetime, str, bool]]:
    return sorted(PageView.objects.values_list("session_id", "path", "timestamp", "page_type", "rolled_up"))


def overlapping(works: Sequence[Work]) -> int:
    """Count the pairs of calls that different processes made at once with hits of one session, path and slot."""
    calls: defaultdict[tuple[str, str, int], set[tuple[int, int, int]]] = defaultdict(set)
    for process, (its_calls, _) in enumerate(works):
        for call in its_calls:
            for hit in call.hits:
                slot = (hit.at - START) // DEDUP_WINDOW
                calls[hit.session_id, hit.path, slot].add((call.began, call.ended, process))
    return sum(
        one[2] != other[2] and other[0] < one[1]
        for of_one_view in calls.values()
        for one, other in itertools.combinations(sorted(of_one_view), 2)
    )


def tell_collisions(works: Sequence[Work], capsys: pytest.CaptureFixture[str]) -> tuple[int, int]:
    """Print and return how many calls met another at one view, and how many hits lost to another under the lock."""
    collisions = overlapping(works)
    overtaken = sum(work.overtaken for work in works)
    calls = [call for work in works for call in work.calls]
    took = (max(call.ended for call in calls) - min(call.began for call in calls)) / 1e9
    with capsys.disabled():
        print(
            f"\n{sum(len(call.hits) for call in calls):,} hits in {len(calls):,} calls of {len(works)} processes in"
            f" {took:.1f} s, {sum(call.stored for call in calls):,} stored;"
            f" {collisions:,} pairs of calls were at one view at once; {overtaken:,} looks were overtaken"
        )
    return collisions, overtaken


def assert_the_rollups_are_those_of_the_rows() -> None:
    views = list(PageView.objects.all())
    assert stored_rollups() == expected_rollups(views, settings.TIME_ZONE)
    counts = Counter(view.path for view in views)
    answer = snapshot()
    assert (answer.total_page_views, answer.unique_visitors) == (len(views), len({view.session_id for view in views}))
    assert [(page.path, page.views) for page in answer.page_stats] == sorted(
        counts.items(), key=lambda page: (-page[1], page[0])
    )


def assert_nothing_was_lost(hits: Iterable[Hit]) -> None:
    """Check what holds in any order of arrival: views of one session and path are a window apart, none is missing."""
    times: defaultdict[tuple[str, str], list[datetime]] = defaultdict(list)
    for session_id, path, at, *_ in stored_rows():
        times[session_id, path].append(at)
    for of_one in times.values():
        assert all(later - earlier >= DEDUP_WINDOW for earlier, later in itertools.pairwise(of_one))
    for hit in hits:
        assert any(abs(hit.at - at) < DEDUP_WINDOW for at in times[hit.session_id, hit.path])
    assert_the_rollups_are_those_of_the_rows()


def test_many_processes_leave_what_one_would(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(1)
    hits = visits(chance, HITS)
    # All hits of one slot are of one instant, so that it is no matter which of them is stored.
    assert replay(hits) == replay(reversed(hits))

    works = team.run(record, [Share(batches) for batches in cut(chance, hits)])

    assert stored_rows() == replay(hits)
    assert sum(call.stored for work in works for call in work.calls) == PageView.objects.count()
    assert_the_rollups_are_those_of_the_rows()
    assert all(tell_collisions(works, capsys))


def test_hits_at_any_instant_from_many_processes_leave_views_a_window_apart(
    team: Team, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(2)
    hits = visits(chance, HITS // 10, jitter=[second * SECOND for second in range(30 * 60)])

    works = team.run(record, [Share(batches) for batches in cut(chance, hits)])

    assert sum(call.stored for work in works for call in work.calls) == PageView.objects.count()
    assert_nothing_was_lost(hits)
    tell_collisions(works, capsys)


@pytest.mark.parametrize("name", OTHER_OPTIONS[connection.vendor])
def test_many_processes_leave_what_one_would_on_connections_of_other_options(
    team: Team, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(3)
    hits = visits(chance, HITS // 20)
    options = OTHER_OPTIONS[connection.vendor][name]

    works = team.run(record, [Share(batches, options=options) for batches in cut(chance, hits)])

    if name == "wal":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=delete")  # the file itself keeps the other mode
    assert stored_rows() == replay(hits)
    assert_the_rollups_are_those_of_the_rows()
    tell_collisions(works, capsys)


def test_simultaneous_views_of_one_session_and_path_count_once(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = [[Hit(path="/a", session_id=f"s{number}", at=T0)] for number in range(ROUNDS)]

    works = team.run(record, [Share(rounds, in_rounds=True)] * PROCESSES)

    assert [sum(call.stored for call in calls) for calls in zip(*(work.calls for work in works), strict=True)] == (
        [1] * ROUNDS
    )
    assert PageView.objects.count() == ROUNDS
    assert_the_rollups_are_those_of_the_rows()
    assert all(tell_collisions(works, capsys))


def test_simultaneous_first_views_of_one_session_make_one_visitor(team: Team) -> None:
    shares = [
        Share(
            [[Hit(path=f"/{process}", session_id=f"s{number}", at=T0)] for number in range(ROUNDS)],
            in_rounds=True,
        )
        for process in range(PROCESSES)
    ]

    works = team.run(record, shares)

    assert all(call.stored == 1 for work in works for call in work.calls)
    assert Visitor.objects.count() == snapshot().unique_visitors == ROUNDS
    assert_the_rollups_are_those_of_the_rows()


def test_a_batch_is_judged_by_what_is_stored_when_it_has_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What repeats only a hit of its own batch is stored after all when that one turns out a repeat."""
    lock_sessions = sql.lock_sessions

    def lock_after_another(session_ids: Any, *, using: str) -> None:
        monkeypatch.setattr(sql, "lock_sessions", lock_sessions)
        assert record_page_view(Hit(path="/a", session_id="s", at=T0 - 20 * MINUTE))
        lock_sessions(session_ids, using=using)

    monkeypatch.setattr(sql, "lock_sessions", lock_after_another)
    batch = [Hit(path="/a", session_id="s", at=T0), Hit(path="/a", session_id="s", at=T0 + 20 * MINUTE)]
    assert record_page_views(batch) == 1
    assert [at for _, _, at, *_ in stored_rows()] == [T0 - 20 * MINUTE, T0 + 20 * MINUTE]
    assert_the_rollups_are_those_of_the_rows()


# Heartbeats


class Beat(NamedTuple):
    """A heartbeat that a process sent, what came of it, and what it read of the session after that."""

    hit: Hit
    outcome: str
    last_seen: datetime
    read_from: int
    read_until: int


def beat(hits: Sequence[Hit], signals: Signals) -> list[Beat]:
    beats = []
    for hit in hits:
        signals.together()
        outcome = record_heartbeat(hit)
        read_from = time.monotonic_ns()
        last_seen = ActiveSession.objects.values_list("last_seen", flat=True).get(session_id=hit.session_id)
        beats.append(Beat(hit, outcome, last_seen, read_from, time.monotonic_ns()))
    return beats


def test_simultaneous_heartbeats_create_a_session_once_and_its_last_one_stays(team: Team) -> None:
    chance = random.Random(4)
    # Eight at a time, for each of eight sessions in turn and then for all again; no two are of one path and instant.
    instants = [[T0 + (10 * number + process) * SECOND for process in range(PROCESSES)] for number in range(80)]
    for of_one_round in instants:
        chance.shuffle(of_one_round)
    shares = [
        [
            Hit(path=f"/{process}", session_id=f"s{number % 8}", at=of_one_round[process])
            for number, of_one_round in enumerate(instants)
        ]
        for process in range(PROCESSES)
    ]

    beats = [beat for of_one in team.run(beat, shares) for beat in of_one]

    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    latest: dict[str, datetime] = {}
    for sent in beats:
        session_id = sent.hit.session_id
        outcomes[session_id][sent.outcome] += 1
        latest[session_id] = max(latest.get(session_id, sent.hit.at), sent.hit.at)
        assert sent.last_seen >= sent.hit.at or sent.outcome == "skipped"
    assert {session_id: counts["created"] for session_id, counts in outcomes.items()} == dict.fromkeys(latest, 1)
    # Each is on another path than the others, so that none is skipped for being too soon, and the latest one stays.
    assert dict(ActiveSession.objects.values_list("session_id", "last_seen")) == latest
    for one, other in itertools.permutations(beats, 2):
        if one.hit.session_id == other.hit.session_id and one.read_until < other.read_from:
            assert one.last_seen <= other.last_seen
