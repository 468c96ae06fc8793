"""The settings of a site whose cluster works on the test database of the process that starts it."""

import json
import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import timedelta

from django.apps import AppConfig

from tests.settings import *  # noqa: F403  # all of them, but for what follows
from tests.settings import DATABASES, INSTALLED_APPS

DATABASES["default"]["NAME"] = os.environ["PAGESTATS_TEST_DATABASE"]
Q_CLUSTER = json.loads(os.environ["PAGESTATS_TEST_CLUSTER"])
PAGESTATS_BACKFILL_BATCH_SIZE = int(os.environ["PAGESTATS_TEST_BATCH_SIZE"])
PAGESTATS_SCHEDULES = True


class SlowChains(AppConfig):
    """Chains of tasks that take a part of a second, of chunks that take long, so that a short backfill has several.

    A chunk alone takes some milliseconds: a worker that is to be killed at its task would have ended it before.
    """

    name = "tests"

    def ready(self) -> None:
        """Shorten the links, and lengthen the chunks."""
        from pagestats import rollups, tasks

        if budget := os.environ.get("PAGESTATS_TEST_BUDGET"):
            tasks.BUDGET = timedelta(seconds=float(budget))
        backfill, pause = rollups.backfill, float(os.environ["PAGESTATS_TEST_PAUSE"])

        def slowed(chunks: Generator[rollups.Progress]) -> Iterator[rollups.Progress]:
            with closing(chunks):
                for progress in chunks:
                    print(f"worker {os.getpid()} rests", flush=True)
                    time.sleep(pause)
                    print(f"worker {os.getpid()} goes on", flush=True)
                    yield progress

        rollups.backfill = lambda **arguments: slowed(backfill(**arguments))


INSTALLED_APPS = [*INSTALLED_APPS, "tests.cluster_settings.SlowChains"]
