"""The settings of a site whose cluster works on the test database of the process that starts it."""

import json
import os
from datetime import timedelta

from django.apps import AppConfig

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

DATABASES["default"]["NAME"] = os.environ["PAGESTATS_TEST_DATABASE"]
Q_CLUSTER = json.loads(os.environ["PAGESTATS_TEST_CLUSTER"])
PAGESTATS_BACKFILL_BATCH_SIZE = int(os.environ["PAGESTATS_TEST_BATCH_SIZE"])
PAGESTATS_SCHEDULES = True


class ShortLinks(AppConfig):
    """Chains of tasks that take a part of a second, so that a short backfill has several."""

    name = "tests"

    def ready(self) -> None:
        """Shorten them."""
        from pagestats import tasks

        if budget := os.environ.get("PAGESTATS_TEST_BUDGET"):
            tasks.BUDGET = timedelta(seconds=float(budget))


INSTALLED_APPS = [*INSTALLED_APPS, "tests.cluster_settings.ShortLinks"]
