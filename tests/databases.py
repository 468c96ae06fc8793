"""The databases that the suite runs on: how to reach each, which answer, and a run on each that does."""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

CONNECT_TIMEOUT = 5  # seconds

ONCE = ("once", "browser")  # the parts of the suite that run once, on SQLite: see tests/conftest.py
COVERAGE = [sys.executable, "-m", "coverage"]
LEAST_COVERED = 10  # files to show
NO_TESTS = 5  # pytest's exit code
NOTHING = "chose no test"


def address(name: str, *, port: str, user: str) -> dict[str, str]:
    """Say how to reach the server called name: by the environment, or else at its usual place."""
    prefix = f"PAGESTATS_TEST_{name.upper()}"
    return {
        "HOST": os.environ.get(f"{prefix}_HOST", "127.0.0.1"),
        "PORT": os.environ.get(f"{prefix}_PORT", port),
        "USER": os.environ.get(f"{prefix}_USER", user),
        "PASSWORD": os.environ.get(f"{prefix}_PASSWORD", ""),
    }


def postgresql() -> dict[str, str]:
    return address("postgresql", port="5432", user="postgres")


def mariadb() -> dict[str, str]:
    return address("mariadb", port="3306", user="root")


def connect_sqlite() -> Any:
    return sqlite3.connect(":memory:")


def connect_postgresql() -> Any:
    import psycopg

    at = postgresql()
    return psycopg.connect(
        host=at["HOST"],
        port=at["PORT"],
        user=at["USER"],
        password=at["PASSWORD"],
        dbname="postgres",
        connect_timeout=CONNECT_TIMEOUT,
    )


def connect_mariadb() -> Any:
    import MySQLdb

    at = mariadb()
    return MySQLdb.connect(
        host=at["HOST"],
        port=int(at["PORT"]),
        user=at["USER"],
        password=at["PASSWORD"],
        connect_timeout=CONNECT_TIMEOUT,
    )


CONNECT: dict[str, Callable[[], Any]] = {
    "sqlite": connect_sqlite,
    "postgresql": connect_postgresql,
    "mariadb": connect_mariadb,
}


def obstacle(name: str, *, wait: float = 0) -> str:
    """Say in one line why the database called name can't be reached, or nothing; wait is in seconds."""
    deadline = time.monotonic() + wait
    while True:
        try:
            CONNECT[name]().close()
        except Exception as error:  # noqa: BLE001  # no driver, no server, no password: each is of its own class
            if time.monotonic() >= deadline:
                return " ".join(str(error).split()) or type(error).__name__
            time.sleep(0.5)
        else:
            return ""


def run(arguments: list[str], *, required: set[str], wait: float, measured: bool, only: set[str]) -> int:
    """Run pytest on each database that can be reached, all at once, and beside them what runs once.

    Print which it ran on, and return an exit code: 0 when every run passed, any test was chosen and every required
    database could be reached.

    Args:
        arguments: those of pytest.
        required: the databases that must be reached.
        wait: for how many seconds a required one may take to answer.
        measured: whether to measure and show what the runs on SQLite cover, without those of the browser.
        only: the databases to choose from.
    """
    verdicts = {}
    parts = []
    databases = [name for name in CONNECT if name in only]
    for name in databases:
        if reason := obstacle(name, wait=wait if name in required else 0):
            verdicts[name] = f"{'FAILED: required, but' if name in required else 'did not run:'} {reason}"
        else:
            parts.append((name, name, "each"))
    parts += [(part, "sqlite", part) for part in ONCE]
    covered = {"sqlite", "once"} if measured else set()
    if measured:
        subprocess.run([*COVERAGE, "erase"], check=True)
    # Much of a run is waiting for its database or its browser, and each has one of its own.
    with ThreadPoolExecutor(len(parts)) as pool:
        ended = list(pool.map(lambda part: run_part(*part, arguments, measured=part[0] in covered), parts))
    verdicts |= {name: verdict for (name, _, _), verdict in zip(parts, ended, strict=True)}
    print("== the suite on each database")
    for name in [*databases, *ONCE]:
        print(f"{name:12}{verdicts[name]}")
    if measured:
        show_coverage()
    if all(verdict == NOTHING for verdict in ended):
        return 1
    return int(any(verdict.startswith("FAILED") for verdict in verdicts.values()))


def run_part(name: str, database: str, part: str, arguments: list[str], *, measured: bool) -> str:
    """Run pytest on a part of the suite, print all it said when it has ended, and return how it ended."""
    began = time.monotonic()
    command = [*([*COVERAGE, "run"] if measured else [sys.executable]), "-m", "pytest", *arguments]
    environment = {**os.environ, "PAGESTATS_TEST_DB": database, "PAGESTATS_TEST_PART": part}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    took = f"{time.monotonic() - began:.0f} s"
    print(f"== {name}", ended.stdout, ended.stderr, sep="\n", flush=True)
    if ended.returncode == NO_TESTS:
        return NOTHING
    return f"FAILED: pytest ended with {ended.returncode} after {took}" if ended.returncode else f"passed in {took}"


def show_coverage() -> None:
    """Combine what was measured, and print how much is covered: of everything, and of the files with the least."""
    subprocess.run([*COVERAGE, "combine", "--quiet"], check=True)
    written = subprocess.run([*COVERAGE, "json", "-o", "-"], capture_output=True, text=True, check=True).stdout
    measured = json.loads(written)
    share = measured["totals"]["percent_covered"]
    print(f"== covered by the runs on SQLite, lines and branches: {share:.1f} %; the least:")
    files = sorted((figures["summary"]["percent_covered"], name) for name, figures in measured["files"].items())
    for share, name in files[:LEAST_COVERED]:
        print(f"{share:6.1f} %  {name}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the suite on each database that can be reached.")
    parser.add_argument("--require", default="", metavar="NAMES", help="databases that must be reached")
    parser.add_argument("--wait", default=0, type=float, metavar="SECONDS", help="for a required one to answer")
    parser.add_argument("--only", default=" ".join(CONNECT), metavar="NAMES", help="databases to run on")
    parser.add_argument("--coverage", action="store_true", help="measure what the runs on SQLite cover, and show it")
    parser.add_argument("arguments", nargs="*", help="of pytest, after --")
    options = parser.parse_args()
    required = set(options.require.split())
    only = set(options.only.split())
    if unknown := (required | only) - CONNECT.keys():
        parser.error(f"There is no database {', '.join(sorted(unknown))}. Choose from {', '.join(CONNECT)}.")
    return run(options.arguments, required=required, wait=options.wait, measured=options.coverage, only=only)


if __name__ == "__main__":
    sys.exit(main())
