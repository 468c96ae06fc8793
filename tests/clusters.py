"""A real cluster of django-q2 on the test database."""

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
from django.db import connection
from django_q.models import Failure

from pagestats.models import PageView, Run
from tests import ROOT
from tests.factories import MINUTE, T0, raw_views
from tests.stored import assert_exact

REDIS = {"host": "127.0.0.1", "port": 6379, "db": 9}
PATIENCE = 60  # seconds


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


def wait_for(condition: Callable[[], Any], *, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"Not within {patience} seconds."
        time.sleep(0.02)


def pend(rows: int) -> None:
    raw_views((f"/{n % 10}", f"s{n % 97}", T0 - n * 7 * MINUTE) for n in range(rows))


def the_run() -> Run:
    return Run.objects.get(kind="backfill")


def assert_finished(rows: int) -> None:
    run = the_run()
    assert (run.status, run.processed, run.result["total"], run.result["new_visitors"]) == ("finished", rows, rows, 97)
    assert not PageView.objects.pending().exists()
    assert_exact()
    assert list(Failure.objects.values_list("func", "result")) == []
