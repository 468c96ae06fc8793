"""A backfill may be killed at any instant and run again, beside live traffic and beside another one: it ends exact."""

import random
from pathlib import Path

import pytest

from pagestats import rollups
from pagestats.stats import snapshot
from tests.killed_backfill import (
    assert_all_are_rolled_up,
    assert_live_views_are_no_repeats,
    insert_pending,
    killed_again_and_again,
    record_until_stopped,
)
from tests.workers import Signals, Team

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_backfill_that_is_killed_and_run_again_ends_exact(
    visitors: Team, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_again_and_again(visitors, tmp_path, capsys, rows=5_000, batch_size=100, kills=5)


def backfill_all(batch_size: int, signals: Signals) -> tuple[int, int]:
    """Backfill, and return the page views and the new visitors that it says it folded in."""
    processed = new_visitors = 0
    for done in rollups.backfill(batch_size=batch_size):
        processed, new_visitors = done.processed, done.new_visitors
    return processed, new_visitors


def test_two_backfills_at_once_share_the_rows(visitors: Team, capsys: pytest.CaptureFixture[str]) -> None:
    rows = 5_000
    insert_pending(random.Random(7), rows)
    with Team(2) as pair:
        visitors.start(record_until_stopped, [rows])
        done = pair.run(backfill_all, [100, 70])
        visitors.stop()
        [(_, stored)] = visitors.results()
    with capsys.disabled():
        print(f"\ntwo backfills at once: {done[0][0]:,} and {done[1][0]:,} page views")
    assert_all_are_rolled_up(rows, stored)
    assert_live_views_are_no_repeats()
    assert sum(processed for processed, _ in done) == rows
    assert 0 < sum(new_visitors for _, new_visitors in done) <= snapshot().unique_visitors
