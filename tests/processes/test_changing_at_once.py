"""Changes of page views beside writers, and killed at any instant: in the end every figure is that of the rows."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction

from pagestats import retention, rollups, sql, stats
from pagestats.days import DAY
from pagestats.hits import Hit
from pagestats.models import Calendar, PageView, Visitor
from pagestats.recording import record_page_view, record_page_views
from pagestats.rollups import SealedDay, backfill
from pagestats.rollups.recount import start_of
from pagestats.sql import transactions
from pagestats.stats import snapshot
from tests import ROOT
from tests.beside import Beside
from tests.factories import MINUTE, T0, raw_views, run_command
from tests.oracle import expected_rollups, stored_rollups
from tests.stored import assert_exact
from tests.workers import Signals, Team

SESSIONS = [f"s{number}" for number in range(6)]
PATHS = ["/a", "/b", "/c"]
SECONDS = 2
LONGEST_SECONDS = 60
AT = datetime(2026, 4, 1, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db(transaction=True)


def work(share: tuple[str, int], signals: Signals) -> Counter[str]:
    """Do one kind of thing until the time is over and it met something; return how often, and how many page views.

    Somebody else may have taken all that it looked for, and on SQLite one turn may wait for as long as the time is.
    """
    kind, seed = share
    chance = random.Random(seed)
    met: Counter[str] = Counter()
    began = time.monotonic()
    day = 0
    while time.monotonic() < began + (SECONDS if met["views"] or met["chunks"] else LONGEST_SECONDS):
        met[kind] += 1
        match kind:
            case "write":
                at = T0 + chance.randrange(10 * 24 * 60) * MINUTE
                hits = [
                    Hit(path=chance.choice(PATHS), session_id=chance.choice(SESSIONS), at=at)
                    for _ in range(chance.choice([1, 1, 4]))
                ]
                try:
                    met["views"] += (
                        record_page_views(hits) if len(hits) > 1 else int(record_page_view(hits[0]) is not None)
                    )
                except SealedDay:
                    met["sealed"] += 1
            case "erase":
                met["views"] += retention.erase(chance.choice(SESSIONS))
                time.sleep(0.02)
            case "forget":
                met["views"] += retention.forget(chance.choice(SESSIONS))
                time.sleep(0.02)
            case "merge":
                source, target = chance.sample(PATHS, 2)
                for done in rollups.merge_paths(source, target, batch_size=3):
                    met["chunks"] += 1
                    met["views"] = met["views"] + done.processed
            case "rebuild":
                for _ in rollups.rebuild(zone=chance.choice(["UTC", "Asia/Kathmandu"]), batch_size=20):
                    met["chunks"] += 1
            case "prune":
                day = min(day + 1, 8)
                for _ in retention.prune((T0 + day * DAY).date(), at=AT, batch_size=5):
                    met["chunks"] += 1
                time.sleep(0.2)
            case "verify":
                assert list(rollups.verify()) == []
                met["views"] += 1
    return met


def assert_exact_in_the_end() -> None:
    list(backfill())
    assert not PageView.objects.pending().exists()
    assert Calendar.objects.get().next_zone == ""
    assert_exact(Calendar.objects.get().zone)


@pytest.fixture
def before() -> None:
    chance = random.Random(1)
    rows = 250
    raw_views(
        (chance.choice(PATHS), chance.choice(SESSIONS), T0 + chance.randrange(10 * 24 * 60) * MINUTE)
        for _ in range(rows)
    )
    list(backfill())


def tell(met: list[Counter[str]], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("\n" + "; ".join(", ".join(f"{name} {count:,}" for name, count in one.items()) for one in met))


@pytest.mark.usefixtures("before")
def test_erasures_merges_and_rebuilds_beside_writers_end_exact(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ["write", "write", "erase", "forget", "merge", "rebuild", "verify"]
    with Team(len(kinds)) as team:
        met = team.run(work, [(kind, seed) for seed, kind in enumerate(kinds)])
    tell(met, capsys)
    assert_exact_in_the_end()
    for kind, of_kind in zip(kinds, met, strict=True):
        assert of_kind["chunks" if kind == "rebuild" else "views"] > 0, (kind, of_kind)
    # Each change locks its session, and so do those that write: they met.
    assert Visitor.objects.filter(version__gt=1).exists()


@pytest.mark.usefixtures("before")
def test_prunings_beside_writers_lose_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    views = PageView.objects.count()
    kinds = ["write", "write", "write", "prune", "prune", "verify"]
    with Team(len(kinds)) as team:
        met = team.run(work, [(kind, seed) for seed, kind in enumerate(kinds)])
    tell(met, capsys)
    stored = sum(one["views"] for one in met if one["write"])
    calendar = Calendar.objects.get()
    for _ in retention.prune(calendar.sealed_before, at=AT):
        pass  # what a writer that knew of no seal had still on its way
    assert calendar.sealed_before is not None
    assert not PageView.objects.filter(timestamp__lt=start_of(calendar.sealed_before, ZoneInfo(calendar.zone))).exists()
    assert snapshot().total_page_views == views + stored
    assert snapshot().unique_visitors == len(SESSIONS)
    assert_site_days_add_up()
    assert stored > 0
    with pytest.raises(SealedDay, match="were pruned"):
        record_page_view(Hit(path="/a", session_id="s0", at=T0 - DAY))
    assert sum(one["chunks"] for one in met) > 0


def assert_site_days_add_up() -> None:
    """Check that the site has each visitor once: new ones and returns are all visitor-days."""
    stored = stored_rollups()
    of_days = sum(row[1] for key, row in stored.rollups.items() if key[0] == "site")
    new = sum(row[2] for key, row in stored.rollups.items() if key[0] == "site")
    returns = sum(count for key, count in stored.returns.items() if key[0] == "site")
    assert (new, of_days) == (len(SESSIONS), new + returns)
    assert all(count >= 0 for count in stored.returns.values())


# Beside a transaction that stays open


@pytest.fixture(params=["read committed", "repeatable read"])
def isolation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have all connections at an isolation level; SQLite has one of its own."""
    usual = connection.settings_dict["OPTIONS"]
    chosen = {
        "postgresql": {"options": f"-c default_transaction_isolation={request.param.replace(' ', chr(92) + ' ')}"},
        "mysql": {"isolation_level": request.param},
    }.get(connection.vendor, {})
    connection.close()
    connection.settings_dict["OPTIONS"] = {**usual, **chosen}
    yield request.param
    connection.close()
    connection.settings_dict["OPTIONS"] = usual


def noon(day: int) -> datetime:
    return datetime(2026, 3, day, 12, tzinfo=UTC)


def record(path: str, session_id: str, day: int) -> None:
    record_page_view(Hit(path=path, session_id=session_id, at=noon(day)))


def test_a_pruning_waits_for_views_that_an_open_transaction_leaves_pending(isolation: str, settings) -> None:
    record("/a", "before", 1)
    settings.PAGESTATS_ROLLUPS = "deferred"
    beside = Beside(lambda: record("/b", "import", 2))
    threading.Timer(1, beside.may_go_on.set).start()
    with pytest.raises(retention.PendingViews, match="1 pending page view before 2026-03-05"):
        retention.prune(noon(5).date(), at=AT)
    assert beside.ends() is None
    list(backfill())
    assert [done.processed for done in retention.prune(noon(5).date(), at=AT)] == [2]
    assert stats.report(noon(1).date(), noon(5).date()).views == 2


def test_a_pruning_says_that_a_transaction_stays_open(monkeypatch, settings) -> None:
    monkeypatch.setattr(transactions, "ATTEMPTS", 1)
    record("/a", "before", 1)
    settings.PAGESTATS_ROLLUPS = "deferred"
    beside = Beside(lambda: record("/b", "import", 2))
    with pytest.raises(retention.WritersUnderWay, match="that writes page views, an import for example, stays open"):
        retention.prune(noon(5).date(), at=AT)
    assert Calendar.objects.get().sealed_before is None
    assert beside.ends() is None


def test_a_pending_view_of_a_day_that_is_sealed_since_the_look_is_refused(monkeypatch, settings) -> None:
    record("/a", "before", 1)
    settings.PAGESTATS_ROLLUPS = "deferred"
    look = sql.load_state

    def look_and_prune(*arguments: Any, **options: Any) -> Any:
        found = look(*arguments, **options)
        monkeypatch.setattr(sql, "load_state", look)
        list(retention.prune(noon(5).date(), at=AT))
        return found

    monkeypatch.setattr(sql, "load_state", look_and_prune)
    with pytest.raises(SealedDay):
        record("/b", "late", 2)
    assert not PageView.objects.exists()


def test_a_transaction_that_began_before_a_pruning_adds_nothing_to_sealed_days(isolation: str) -> None:
    for day in (1, 3, 9):
        record("/a", "s", day)

    def begin() -> None:
        if connection.vendor != "sqlite":  # where nobody writes while somebody reads
            assert PageView.objects.count() == 3

    beside = Beside(begin, then=lambda: record("/a", "s", 2))
    list(retention.prune(noon(5).date(), at=AT))
    error = beside.ends()
    assert isinstance(error, SealedDay | OperationalError)
    told = stats.report(noon(1).date(), noon(9).date())
    assert (told.views, told.visitors, told.new_visitors) == (3, 1, 1)
    assert list(rollups.verify()) == []


def test_a_rebuild_sees_what_was_committed_while_it_waited(isolation: str, monkeypatch) -> None:
    late = datetime(2026, 3, 14, 23, 30, tzinfo=UTC)  # another day in Amsterdam than in UTC
    record_page_view(Hit(path="/a", session_id="before", at=late))
    beside = Beside(lambda: record_page_view(Hit(path="/b", session_id="import", at=late - 30 * DAY)))
    wait, waits = sql.wait_for_writers, []

    def wait_for_writers(*arguments: Any, **options: Any) -> None:
        waits.append(threading.Timer(0.1, beside.may_go_on.set))
        waits[-1].start()
        wait(*arguments, **options)

    monkeypatch.setattr(sql, "wait_for_writers", wait_for_writers)
    if connection.vendor != "postgresql":  # where a rebuild may not come as far before it has ended
        threading.Timer(1, beside.may_go_on.set).start()
    list(rollups.rebuild(zone="UTC", longest_write=timedelta(0)))
    assert beside.ends() is None
    assert waits
    assert list(rollups.verify()) == []
    assert_exact_in_the_end()


def test_a_rebuild_of_one_view_waits_for_nobody() -> None:
    record("/a", "s", 14)
    began = time.monotonic()
    progress = list(rollups.rebuild(zone="UTC"))
    assert [(done.processed, done.waiting_for) for done in progress] == [(1, ""), (2, "")]
    assert time.monotonic() - began < 2
    assert Calendar.objects.get().zone == "UTC"


def test_a_rebuild_waits_for_a_writer_that_has_not_seen_that_it_began(isolation: str) -> None:
    late = datetime(2026, 3, 14, 23, 30, tzinfo=UTC)  # another day in Amsterdam than in UTC
    record_page_view(Hit(path="/a", session_id="before", at=late))

    def begin() -> None:
        if connection.vendor != "sqlite":  # where nobody writes who has read the past
            assert PageView.objects.count() == 1

    beside = Beside(begin, then=lambda: record_page_view(Hit(path="/b", session_id="import", at=late - 30 * DAY)))
    waited = set()
    for progress in rollups.rebuild(zone="UTC"):
        if progress.waiting_for:
            waited.add(progress.waiting_for)
            beside.may_go_on.set()
    assert beside.ends() is None
    if (connection.vendor, isolation) == ("postgresql", "repeatable read"):
        assert waited == {"transactions that began before the rebuild"}
    assert PageView.objects.count() == 2
    assert list(rollups.verify()) == []
    assert_exact(zone="UTC")


def test_a_rebuild_waits_only_so_long_for_a_reader(isolation: str) -> None:
    record("/a", "s", 14)
    # The SQLite of the tests lets nobody write beside a reader.
    beside = Beside(PageView.objects.count if connection.vendor != "sqlite" else lambda: None)
    try:
        list(rollups.rebuild(zone="UTC", longest_write=timedelta(seconds=0.1)))
        assert Calendar.objects.get().zone == "UTC"
    finally:
        assert beside.ends() is None


def test_the_command_says_what_a_rebuild_waits_for() -> None:
    record("/a", "before", 14)
    beside = Beside(lambda: record("/b", "import", 13))
    threading.Timer(1.5, beside.may_go_on.set).start()
    said = run_command("backfill_aggregates", rebuild=True).splitlines()
    assert beside.ends() is None
    if connection.vendor != "sqlite":  # where it waits for the lock to begin
        assert "Waiting for " in said[0]
    assert said[-1] == "Rebuilt the rollups in Europe/Amsterdam"
    assert_exact()


@pytest.mark.parametrize("day", [0, 30], ids=["a day with figures", "a day without"])
def test_a_rebuild_waits_for_a_long_transaction_and_lets_others_write(day) -> None:
    late = datetime(2026, 3, 14, 23, 30, tzinfo=UTC)  # another day in Amsterdam than in UTC
    record_page_view(Hit(path="/a", session_id="before", at=late))
    has_written, may_commit = threading.Event(), threading.Event()
    written: list[bool] = []

    def imports() -> None:
        with transaction.atomic():
            record_page_view(Hit(path="/b", session_id="import", at=late - day * DAY))
            has_written.set()
            may_commit.wait(60)
        connection.close()

    def writes() -> None:
        has_written.wait(60)
        while not may_commit.is_set():
            record_page_view(Hit(path="/c", session_id=f"live {len(written)}", at=late + DAY))
            written.append(may_commit.is_set())
        connection.close()

    threads = [threading.Thread(target=target) for target in (imports, writes)]
    for thread in threads:
        thread.start()
    has_written.wait(60)
    threading.Timer(2, may_commit.set).start()
    list(rollups.rebuild(zone="UTC"))
    assert may_commit.is_set()
    for thread in threads:
        thread.join()
    if connection.vendor != "sqlite":  # where nobody writes beside anybody
        assert written.count(False) > 5
    assert Calendar.objects.get().zone == "UTC"
    assert list(rollups.verify()) == []
    assert_exact_in_the_end()
    assert stats.report(late.date() - day * DAY, late.date() - day * DAY).views == (2 if day == 0 else 1)


# Killed


KILLED = """
import sys
from datetime import date, timedelta
from tests.workers import set_up

set_up(sys.argv[1])
from pagestats import retention, rollups
from tests.processes.test_changing_at_once import AT

work = {
    "prune": lambda: retention.prune(date(2026, 3, 22), at=AT, batch_size=5),
    "rebuild": lambda: rollups.rebuild(zone="UTC", batch_size=5),
}
for done in work[sys.argv[2]]():
    print(done.processed, flush=True)
"""


def killed_again_and_again(verb: str, chance: random.Random, kills: int) -> int:
    """Run a verb in a process of its own and kill it, again and again, then let it come to its end."""
    command = [sys.executable, "-c", KILLED, connection.settings_dict["NAME"], verb]
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = 0
    for number in range(kills + 1):
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if number < kills:
            for _ in range(chance.randint(2, 12)):
                process.stdout.readline()
            time.sleep(chance.uniform(0, 0.01))
            process.send_signal(signal.SIGKILL)
            killed += process.wait(60) == -signal.SIGKILL
        process.stdout.read()
        process.stdout.close()
        code = process.wait(60)
    assert code == 0
    return killed


@pytest.mark.usefixtures("before")
def test_a_rebuild_that_is_killed_and_run_again_ends_exact() -> None:
    assert killed_again_and_again("rebuild", random.Random(2), kills=2) == 2
    assert Calendar.objects.get().zone == "UTC" != settings.TIME_ZONE
    assert_exact_in_the_end()


@pytest.mark.usefixtures("before")
def test_a_pruning_that_is_killed_and_run_again_ends_as_if_it_was_not() -> None:
    views = list(PageView.objects.all())
    figures = stored_rollups()
    assert killed_again_and_again("prune", random.Random(3), kills=2) == 2
    assert stored_rollups() == figures == expected_rollups(views, settings.TIME_ZONE)
    kept = {view.pk for view in views if view.timestamp >= datetime(2026, 3, 21, 23, tzinfo=UTC)}
    assert set(PageView.objects.values_list("pk", flat=True)) == kept
    sealed = {view.session_id for view in views if view.pk not in kept}
    assert set(Visitor.objects.filter(last_sealed_day__isnull=False).values_list("session_id", flat=True)) == sealed
