"""A backfill that is killed again and again, beside visitors."""

import itertools
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from pagestats.hits import Hit
from pagestats.models import PageView, Run
from pagestats.recording import record_page_view, record_page_views
from pagestats.stats import snapshot
from tests import ROOT
from tests.factories import MINUTE, T0, raw_views
from tests.oracle import DEDUP_WINDOW
from tests.stored import assert_exact
from tests.workers import PATIENCE, Signals, Team

LIVE = "live"


def sessions(rows: int) -> list[str]:
    return [f"s{number}" for number in range(max(20, rows // 20))]


def paths(rows: int) -> list[str]:
    return [f"/{number}" for number in range(max(10, rows // 2000))]


def insert_pending(chance: random.Random, rows: int) -> None:
    """Insert page views of the week before T0, repeats among them: raw rows count as they are."""
    some_sessions, some_paths = sessions(rows), paths(rows)
    remaining = rows
    while remaining:
        chunk = min(remaining, 10_000)
        raw_views(
            (chance.choice(some_paths), chance.choice(some_sessions), T0 - chance.randrange(7 * 24 * 60) * MINUTE)
            for _ in range(chunk)
        )
        remaining -= chunk


def record_until_stopped(rows: int, signals: Signals) -> tuple[int, int]:
    """Record views of the sessions and paths that are pending too, live and late ones; return hits and views."""
    chance = random.Random(5)
    some_sessions, some_paths = sessions(rows), paths(rows)
    sent = stored = 0
    while not signals.stop.is_set():
        hits = [
            Hit(
                path=chance.choice(some_paths),
                session_id=chance.choice(some_sessions),
                at=T0 + chance.randrange(-7 * 24 * 60, 24 * 60) * MINUTE,
                page_type=LIVE,
            )
            for _ in range(chance.choice([1, 1, 1, 5]))
        ]
        stored += record_page_views(hits) if len(hits) > 1 else int(record_page_view(hits[0]) is not None)
        sent += len(hits)
        time.sleep(0.005)
    return sent, stored


@pytest.fixture(scope="module")
def visitors(django_db_setup: None, django_db_blocker: Any) -> Iterator[Team]:
    with django_db_blocker.unblock():
        team = Team(1)
    with team:
        yield team


class Backfill:
    """The command under way. Each of its chunks is known by the key of its first row."""

    def __init__(self, batch_size: int, output: Path) -> None:
        self.output = output
        self.began: list[int] = []
        read_end, write_end = os.pipe()
        command = [sys.executable, "-m", "tests.workers", connection.settings_dict["NAME"], str(write_end)]
        command += ["--batch-size", str(batch_size)]
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, pass_fds=[write_end]
            )
        os.close(write_end)
        self.marks = os.fdopen(read_end)

    def wait_for_chunks(self, number: int) -> None:
        """Wait until that many chunks have begun, or all."""
        for mark in self.marks:
            self.began.append(int(mark))
            if len(self.began) == number:
                return

    def kill(self) -> bool:
        """Kill it at once; tell whether it was still running."""
        self.process.kill()
        return self.end() == -9

    def end(self) -> int:
        """Wait for its end, and return its exit code."""
        with self.marks:
            self.began += [int(mark) for mark in self.marks]
        return self.process.wait(PATIENCE)


def assert_the_command_said(output: Path, pattern: str) -> re.Match[str]:
    found = re.search(pattern, output.read_text())
    assert found, output.read_text()
    return found


def assert_all_are_rolled_up(rows: int, stored_live: int) -> None:
    views = list(PageView.objects.all())
    assert len(views) == rows + stored_live
    assert not PageView.objects.pending().exists()
    assert_exact()
    answer = snapshot()
    assert answer.tracking_since == min(view.timestamp for view in views)
    counts = Counter(view.path for view in views)
    assert [(page.path, page.views) for page in answer.page_stats] == sorted(
        counts.items(), key=lambda page: (-page[1], page[0])
    )


def assert_live_views_are_no_repeats() -> None:
    """Check that live ones are a window away from all others of their session and path, pending ones included."""
    times: defaultdict[tuple[str, str], list[tuple[datetime, str]]] = defaultdict(list)
    for path, session_id, at, page_type in PageView.objects.values_list("path", "session_id", "timestamp", "page_type"):
        times[session_id, path].append((at, page_type))
    for of_one in times.values():
        for (earlier, its_type), (later, other_type) in itertools.pairwise(sorted(of_one)):
            assert LIVE not in (its_type, other_type) or later - earlier >= DEDUP_WINDOW


def assert_the_snapshot_is_true_now() -> None:
    """Check the figure of all views against counts of the rows before and after: others write meanwhile."""
    least = PageView.objects.count()
    total = snapshot(limit=1).total_page_views
    assert least <= total <= PageView.objects.count()


def killed_again_and_again(
    team: Team, folder: Path, capsys: pytest.CaptureFixture[str], *, rows: int, batch_size: int, kills: int
) -> None:
    chance = random.Random(6)
    insert_pending(chance, rows)
    most_chunks = rows // batch_size // kills  # so that something is left for the last one
    began = time.monotonic()
    team.start(record_until_stopped, [rows])
    runs: list[Sequence[int]] = []
    for number in range(kills):
        backfill = Backfill(batch_size, folder / f"killed-{number}")
        backfill.wait_for_chunks(chance.randint(1, most_chunks))
        time.sleep(chance.uniform(0, 0.0002 * batch_size))
        assert backfill.kill(), f"It came to an end before kill {number}:\n{backfill.output.read_text()}"
        runs.append(backfill.began)
        assert_the_snapshot_is_true_now()
    last = Backfill(batch_size, folder / "last")
    assert last.end() == 0, last.output.read_text()
    runs.append(last.began)
    team.stop()
    [(sent, stored)] = team.results()

    # A chunk that was under way and begins again had been lost: the kill fell inside it.
    inside = sum(killed[-1] == after[0] for killed, after in itertools.pairwise(runs))
    with capsys.disabled():
        print(
            f"\n{rows:,} pending page views, {kills} kills, {inside} of them inside a chunk;"
            f" {sum(map(len, runs)):,} chunks begun; {stored:,} live views stored of {sent:,} hits;"
            f" {time.monotonic() - began:.1f} s"
        )
    assert_all_are_rolled_up(rows, stored)
    assert_live_views_are_no_repeats()
    assert_the_command_said(last.output, r"Backfilled [\d,]+ page views? with [\d,]+ new visitors?")
    assert Run.objects.filter(kind=Run.Kind.BACKFILL).count() == kills + 1
    assert sum(Run.objects.values_list("processed", flat=True)) == rows
    assert stored > 0
    assert inside > 0
