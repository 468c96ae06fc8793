"""A long backfill that is killed over and over, beside visitors."""

from pathlib import Path

import pytest

from tests.killed_backfill import killed_again_and_again
from tests.workers import Team

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.timeout(1200)
def test_a_long_backfill_that_is_killed_over_and_over_ends_exact(
    visitors: Team, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_again_and_again(visitors, tmp_path, capsys, rows=200_000, batch_size=500, kills=24)
