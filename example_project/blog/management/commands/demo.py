from __future__ import annotations

import signal
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from tqdm import tqdm

from example_project.blog import demo
from pagestats.models import PageView

SECONDS_TO_STOP = 20


@contextmanager
def cluster() -> Iterator[None]:
    """Run the cluster of django-q2, which deletes stale sessions, while the block runs."""
    process = subprocess.Popen(
        [sys.executable, sys.argv[0], "qcluster"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # stopping the demo also stops the cluster
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()


class Command(BaseCommand):
    help = (
        "Fill a database with an editor, posts, pages and 90 days of invented visits, then run the site and a cluster."
    )
    # This command creates the tables that the checks need. `migrate` and `runserver` run the checks themselves.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("port", nargs="?", type=int, default=8000, help="the port on 127.0.0.1 (8000)")

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError(
                "DEBUG is False. The demo's password is public, so the demo only runs with DEBUG = True."
            )
        call_command("migrate", verbosity=0)
        now = timezone.localtime()
        self.prepare(now)
        self.stdout.write(
            f"\n  Site      http://127.0.0.1:{port}/\n"
            f"  Stats     http://127.0.0.1:{port}/stats/\n"
            f"  Admin     http://127.0.0.1:{port}/admin/\n"
            f"  Login     {demo.USER}, password {demo.PASSWORD}\n"
            f"\nCtrl-C stops the server and the cluster.\n"
        )
        self.stdout.flush()
        with cluster():
            call_command("runserver", f"127.0.0.1:{port}", use_reloader=False)

    def prepare(self, now: datetime) -> None:
        """Add what is missing, and print what was added."""
        editor, texts = demo.add_editor(), demo.add_texts(now.date())
        self.stdout.write(f"Added {texts} posts and pages." if texts else "The posts and pages exist already.")
        if editor:
            self.stdout.write(f"Added the editor {demo.USER}.")
        if PageView.objects.exists():
            self.stdout.write("The page views exist already.")
        else:
            days = tqdm(
                demo.add_visits(now), total=demo.DAYS, desc=f"{demo.DAYS} days of visits", unit="day", disable=None
            )
            self.stdout.write(f"Recorded {sum(days):,} invented page views.")
        demo.add_heartbeats(timezone.now())
