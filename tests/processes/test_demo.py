"""`manage.py demo`, run as a person runs it: it prepares, serves, stops on Ctrl-C, and never doubles anything."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest
from django.utils import timezone

from example_project.blog import demo
from pagestats.hits import Hit
from tests import ROOT

pytestmark = pytest.mark.any_database("the demo brings a SQLite file of its own")

PATIENCE = 60
TODAY = date(2026, 3, 14)

COUNTED = {
    "users": "SELECT count(*) FROM auth_user",
    "posts": "SELECT count(*) FROM blog_post",
    "pages": "SELECT count(*) FROM blog_page",
    "page views": "SELECT count(*) FROM pagestats_pageview",
    "visitors": "SELECT count(DISTINCT session_id) FROM pagestats_pageview",
    "days": "SELECT count(DISTINCT day) FROM pagestats_rollup",
    "active sessions": "SELECT count(*) FROM pagestats_activesession",
}


@contextmanager
def demo_running(database: Path, output: Path, *, stop: signal.Signals = signal.SIGINT) -> Iterator[str]:
    """Run the demo until it serves; yield the address of the site, and stop it as Ctrl-C does, or `kill`."""
    port = free_port()
    with output.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "demo", str(port)],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "example_project.settings",
                "EXAMPLE_DATABASE": str(database),
                "PYTHONUNBUFFERED": "1",
            },
            stdout=written,
            stderr=subprocess.STDOUT,
            # A suite that runs in the background of a shell ignores Ctrl-C, and so would the demo.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            start_new_session=True,
        )
        try:
            wait_until_served(port, process, output)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(stop)
            status = process.wait(PATIENCE)
    wait_until_gone(process.pid, output)
    assert status == 0, output.read_text()
    assert "Traceback" not in output.read_text()


def wait_until_gone(group: int, output: Path) -> None:
    """Wait until no process of a group is left: the demo's cluster is to end with it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    pytest.fail(f"Something of the demo still ran. It had said: {output.read_text()}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def wait_until_served(port: int, process: "subprocess.Popen[bytes]", output: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            # A whole request: one that is not read to its end may meet the end of the server.
            fetch(f"http://127.0.0.1:{port}/static/blog/site.css")
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"The demo does not serve its site:\n{output.read_text()}")


def fetch(url: str) -> str:
    with urlopen(url, timeout=PATIENCE) as response:
        text: str = response.read().decode()
        return text


def counts(database: Path) -> dict[str, int]:
    with closing(sqlite3.connect(database)) as connection:
        return {name: connection.execute(statement).fetchone()[0] for name, statement in COUNTED.items()}


def test_the_demo_serves_a_filled_site_and_a_second_run_doubles_nothing(tmp_path: Path) -> None:
    database, first, second = tmp_path / "demo.sqlite3", tmp_path / "first.txt", tmp_path / "second.txt"

    with demo_running(database, first) as url:
        before = counts(database)
        # No browser: what asks without one is not counted.
        home, stats = fetch(f"{url}/"), fetch(f"{url}/stats/")
    assert before == counts(database)
    assert (before["users"], before["posts"], before["pages"]) == (1, 7, 3)
    assert 10_000 < before["page views"] < 30_000
    # Until a minute after midnight there may be no visit of today's.
    assert before["days"] in (demo.DAYS - 1, demo.DAYS)
    assert "Why the window does not slide" in home
    assert "A year in one chart" not in home
    assert f"{before['page views']:,}" in stats
    assert f"{before['visitors']:,}" in stats
    assert "Viewing now" in stats
    said = first.read_text()
    assert f"Recorded {before['page views']:,} invented page views." in said
    for line in (r"Site +URL/\n", r"Stats +URL/stats/\n", r"Admin +URL/admin/\n", r"Login +demo, password demo\n"):
        assert re.search(line.replace("URL", re.escape(url)), said), said

    with demo_running(database, second, stop=signal.SIGTERM):
        assert counts(database) == before
    said = second.read_text()
    assert "The posts and pages exist already." in said
    assert "The page views exist already." in said
    assert "Added" not in said
    assert "Recorded" not in said


def test_the_demo_refuses_a_site_that_is_not_for_debugging(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "manage.py", "demo", "--settings", "tests.settings"],
        cwd=ROOT,
        env={**os.environ, "PAGESTATS_TEST_DB": "sqlite", "PAGESTATS_TEST_SCRATCH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert finished.returncode == 1
    assert "DEBUG is False" in finished.stderr


def days(today: date) -> list[date]:
    return [today - timedelta(days=ago) for ago in range(demo.DAYS)]


def test_the_visits_of_a_day_are_always_the_same() -> None:
    first = [list(demo.visits(day, today=TODAY)) for day in days(TODAY)]
    assert first == [list(demo.visits(day, today=TODAY)) for day in days(TODAY)]
    assert len({tuple(visits) for visits in first}) == demo.DAYS


def test_a_session_of_the_demo_lives_one_day_and_reads_only_what_was_written() -> None:
    days_of_session: dict[str, set[date]] = {}
    first_view: dict[str, Hit] = {}
    for day in days(TODAY):
        for hit in demo.visits(day, today=TODAY):
            days_of_session.setdefault(hit.session_id, set()).add(timezone.localdate(hit.at))
            first_view[hit.path] = min(first_view.get(hit.path, hit), hit, key=lambda hit: hit.at)
    assert {len(found) for found in days_of_session.values()} == {1}
    for text in demo.POSTS:
        if text.published:
            assert timezone.localdate(first_view[f"/{text.slug}"].at) >= TODAY - timedelta(days=text.days_old)
    assert "/a-year-in-one-chart" not in first_view
