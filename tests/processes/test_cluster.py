"""A real cluster of django-q2: the schedule fires, a backfill is a chain, and a worker may be killed in mid-task."""

import time
from pathlib import Path
from typing import Any

import pytest
from django_q.models import Schedule

from pagestats import schedules
from pagestats.hits import instant
from pagestats.models import STALLED_AFTER, ActiveSession, Run
from pagestats.recording import record_heartbeat
from tests.clusters import Site, assert_finished, pend, the_run, wait_for
from tests.factories import MINUTE, a_hit

pytestmark = pytest.mark.django_db(transaction=True)


# The sentinel of a cluster looks for workers that died, and every thirty seconds for schedules that are due, between
# pauses of guard_cycle. With pauses of thirty seconds it looks for schedules at once when it starts.
AT_ONCE = 30


def test_the_schedule_fires_and_a_chain_whose_worker_is_killed_ends_exact(
    broker: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    site = Site(broker, tmp_path, PAGESTATS_TEST_BUDGET="0.3")
    rows = 3_000
    pend(rows)
    record_heartbeat(a_hit())
    schedules.make()
    with site.running(guard_cycle=AT_ONCE) as cluster:
        wait_for(lambda: Run.objects.filter(kind="clean-up").exists())
        assert Run.objects.get(kind="clean-up").processed == 1
        assert not ActiveSession.objects.exists()
        assert Schedule.objects.get(name="pagestats clean-up").next_run > instant(None)

        assert "Scheduled the backfill of 3,000 page views" in site.run("backfill_aggregates", "--schedule")
        wait_for(lambda: the_run().result["link"] > 0)
        wait_for(cluster.kill_worker_in_mid_task)
        killed_at = the_run()
        assert (killed_at.status, killed_at.processed < rows) == ("running", True)

        # A minute later, for which the test does not wait, the schedule is due again.
        Run.objects.filter(pk=killed_at.pk).update(updated=instant(None) - STALLED_AFTER - MINUTE)
        Schedule.objects.filter(name="pagestats clean-up").update(next_run=instant(None) - MINUTE)
        with site.running(guard_cycle=AT_ONCE):
            wait_for(lambda: the_run().status == "finished")
    assert_finished(rows)
    assert Run.objects.filter(kind="clean-up").count() == 1
    with capsys.disabled():
        links = the_run().result["link"]
        print(
            f"\n{[*broker][1]}: {rows:,} page views in {links + 1} links; a worker was killed at"
            f" {killed_at.processed:,}; {time.monotonic() - began:.1f} s"
        )
