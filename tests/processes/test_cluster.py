"""A real cluster of django-q2: the schedule fires, a backfill is a chain, and a worker may be killed in mid-task."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django_q.models import Failure, Schedule

from pagestats import schedules
from pagestats.hits import instant
from pagestats.models import STALLED_AFTER, ActiveSession, PageView, Run
from pagestats.recording import record_heartbeat
from tests import ROOT
from tests.factories import MINUTE, T0, a_hit, raw_views
from tests.oracle import expected_rollups, stored_rollups

REDIS = {"host": "127.0.0.1", "port": 6379, "db": 9}
PATIENCE = 60  # seconds

pytestmark = pytest.mark.django_db(transaction=True)


def redis_answers() -> bool:
    from redis import Redis, RedisError

    client = Redis(**REDIS, socket_timeout=2, retry=None)
    try:
        return bool(client.ping())
    except RedisError:
        return False
    finally:
        client.close()


@pytest.fixture(params=["orm", "redis"])
def broker(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Return the part of Q_CLUSTER that says where the queue is: one that nobody else has."""
    name = f"pagestats-{os.getpid()}"
    if request.param == "orm":
        yield {"name": name, "orm": "default"}
        return
    if not redis_answers():
        pytest.skip("no Redis at 127.0.0.1:6379")
    yield {"name": name, "redis": REDIS}
    from redis import Redis

    with Redis(**REDIS) as client:
        if keys := client.keys(f"django_q:{name}:*"):
            client.delete(*keys)


class Site:
    """A site that other processes serve: its commands, and its clusters."""

    def __init__(self, broker: dict[str, Any], folder: Path, **environment: str) -> None:
        self.folder = folder
        self.clusters = 0
        # Retried much later than any test takes: what carries the chain on is the clean-up.
        cluster = {"workers": 2, "timeout": 600, "retry": 1200, "poll": 0.05, "catch_up": False, **broker}
        self.cluster = cluster
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.cluster_settings",
            "PAGESTATS_TEST_DATABASE": connection.settings_dict["NAME"],
            "PAGESTATS_TEST_BATCH_SIZE": "100",
            "PAGESTATS_TEST_PAUSE": "0.1",
            **environment,
        }

    def start(self, *command: str, output: Path, **cluster: Any) -> subprocess.Popen[bytes]:
        """Start a command, as the leader of a group of processes."""
        environment = {**self.environment, "PAGESTATS_TEST_CLUSTER": json.dumps({**self.cluster, **cluster})}
        with output.open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "django", *command],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *command: str) -> str:
        """Run a command to its end and return what it said."""
        output = self.folder / "command"
        process = self.start(*command, output=output)
        assert process.wait(PATIENCE) == 0, output.read_text()
        return output.read_text()

    @contextmanager
    def running(self, **options: Any) -> Iterator["Cluster"]:
        """Run a cluster until the end, and leave no process of it."""
        self.clusters += 1
        output = self.folder / f"cluster-{self.clusters}"
        process = self.start("qcluster", output=output, **options)
        try:
            yield Cluster(process, output)
        finally:
            for _ in range(2):  # once more, for one that was about to be forked
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    break
                time.sleep(0.05)
            process.wait()
            print(f"-- {output.name}:\n{output.read_text()}")  # which pytest shows when the test fails


class Cluster:
    """A running cluster, as its log tells of it."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self.output = output

    def resting(self) -> list[int]:
        """Return the process ids of workers that are in the middle of a backfill's task now, between two chunks."""
        said = dict(re.findall(r"^worker (\d+) (rests|goes on)$", self.output.read_text(), re.MULTILINE))
        return [int(pid) for pid, does in said.items() if does == "rests"]

    def kill_worker_in_mid_task(self) -> bool:
        """Kill a worker that is in the middle of a backfill's task, if any is.

        It is stopped first, and looked at again. One that had just ended its task may hold the lock of the cluster's
        queue, and killed then, it would leave a cluster that takes tasks from the broker and does none.
        """
        for pid in self.resting():
            os.kill(pid, signal.SIGSTOP)
            is_resting = pid in self.resting()
            os.kill(pid, signal.SIGKILL if is_resting else signal.SIGCONT)
            if is_resting:
                return True
        return False


# The sentinel of a cluster looks for workers that died, and every thirty seconds for schedules that are due, between
# pauses of guard_cycle. With pauses of thirty seconds it looks for schedules at once when it starts.
AT_ONCE = 30


def wait_for(condition: Callable[[], Any], *, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"Not within {patience} seconds."
        time.sleep(0.02)


def pend(rows: int) -> None:
    raw_views((f"/{n % 10}", f"s{n % 97}", T0 - n * 7 * MINUTE) for n in range(rows))


def the_run() -> Run:
    return Run.objects.get(kind="backfill")


def assert_exact(rows: int) -> None:
    run = the_run()
    assert (run.status, run.processed, run.result["total"], run.result["new_visitors"]) == ("finished", rows, rows, 97)
    assert not PageView.objects.pending().exists()
    assert stored_rollups() == expected_rollups(PageView.objects.all(), settings.TIME_ZONE)
    assert list(Failure.objects.values_list("func", "result")) == []


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
    assert_exact(rows)
    assert Run.objects.filter(kind="clean-up").count() == 1
    with capsys.disabled():
        links = the_run().result["link"]
        print(
            f"\n{[*broker][1]}: {rows:,} page views in {links + 1} links; a worker was killed at"
            f" {killed_at.processed:,}; {time.monotonic() - began:.1f} s"
        )


@pytest.mark.prove
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
    assert_exact(rows)
    with capsys.disabled():
        print(
            f"\n{[*broker][1]}: {rows:,} page views in {the_run().result['link'] + 1} links; a worker and the cluster"
            f" were killed at {' and '.join(f'{number:,}' for number in killed_at)}; {time.monotonic() - began:.1f} s"
        )
