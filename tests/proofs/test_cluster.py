"""A real cluster of django-q2: a long chain outlives its workers."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from django_q.models import Schedule

from pagestats import schedules
from tests.clusters import Site, assert_finished, pend, the_run, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.timeout(900)
def test_a_long_chain_outlives_its_workers_and_its_cluster(
    broker: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With links of five seconds, the scheduler's own pace and a clean-up each minute; nothing is set back by hand."""
    began = time.monotonic()
    site = Site(broker, tmp_path, PAGESTATS_TEST_BATCH_SIZE="50")
    rows = 15_000
    pend(rows)
    schedules.make()
    Schedule.objects.filter(name="pagestats clean-up").update(minutes=1)
    site.run("backfill_aggregates", "--schedule")
    killed_at = []

    def goes_on() -> bool:
        return the_run().processed > (killed_at[-1] if killed_at else 0)

    with site.running() as cluster:
        wait_for(goes_on)
        wait_for(cluster.kill_worker_in_mid_task)
        killed_at.append(the_run().processed)
        wait_for(goes_on, patience=240)
        os.killpg(cluster.process.pid, signal.SIGKILL)
        killed_at.append(the_run().processed)
    assert the_run().status == "running"
    with site.running():
        wait_for(goes_on, patience=240)
        wait_for(lambda: the_run().status == "finished", patience=240)
    assert_finished(rows)
    with capsys.disabled():
        print(
            f"\n{[*broker][1]}: {rows:,} page views in {the_run().result['link'] + 1} links; a worker and the cluster"
            f" were killed at {' and '.join(f'{number:,}' for number in killed_at)}; {time.monotonic() - began:.1f} s"
        )
