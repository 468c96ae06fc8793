"""Run the benchmarks and print their results."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import measures
from benchmarks import own_models as own_models_room
from benchmarks import stats_page as stats_page_room

ROOMS = {"own_models": own_models_room, "stats_page": stats_page_room}
SECTIONS = [
    "page_views",
    "bulk",
    "reading",
    "disk",
    "hot",
    "memory",
    "verification",
    "presence",
    "own_models",
    "stats_page",
]


Say = Callable[..., None]


def run(measure: str, *, database: str, rollups: str = "immediate", **arguments: Any) -> dict[str, Any]:
    """Run one measure in its own process, on a fresh database, and return its results."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        environment = {
            **os.environ,
            "BENCH_DB": database,
            "BENCH_NAME": f"pagestats_bench_{os.getpid()}",
            "BENCH_FOLDER": folder,
            "BENCH_ROLLUPS": rollups,
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        }
        job = json.dumps({"measure": measure, "arguments": arguments, "answer": str(answer)})
        subprocess.run([sys.executable, "-m", "benchmarks", "--job", job], env=environment, check=True)
        figures: dict[str, Any] = json.loads(answer.read_text())
        return figures


def do(job: dict[str, Any]) -> None:
    """Create the database, measure, and write the results to a file. Runs in the process of the measure."""
    measures.set_up()
    from django.core.management import call_command
    from django.db import connection

    from pagestats.tallies import tallies

    name = connection.settings_dict["NAME"]
    if connection.vendor == "postgresql":
        with connection._nodb_cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}"')
            cursor.execute(f'CREATE DATABASE "{name}"')
    try:
        call_command("migrate", verbosity=0)
        room = ROOMS.get(job["measure"], measures)
        figures = getattr(room, job["measure"])(**job["arguments"])
        Path(job["answer"]).write_text(json.dumps(figures))
    finally:
        tallies.clear()  # they can't be written at exit, when their database is gone
        connection.close()
        if connection.vendor == "postgresql":
            with connection._nodb_cursor() as cursor:
                cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def medians(rounds: list[Any]) -> Any:
    """Return the median of each number over several rounds, in dicts of any depth."""
    if isinstance(rounds[0], dict):
        return {name: medians([figures[name] for figures in rounds]) for name in rounds[0]}
    return statistics.median(rounds)


def page_views(say: Say, database: str, options: argparse.Namespace) -> Any:
    """What recording a page view adds to a page."""
    rounds: dict[str, list[Any]] = {"immediate": [], "deferred": []}
    for number in range(options.rounds):
        for rollups in list(rounds) if number % 2 else list(reversed(rounds)):
            rounds[rollups].append(run("page_views", database=database, rollups=rollups))
    found = {rollups: medians(figures) for rollups, figures in rounds.items()}
    insert = found["immediate"]["raw INSERT alone"]
    say("added to a page", "µs", "CPU µs", "× raw INSERT", "× its CPU")
    for name, figures in [
        ("new view", found["immediate"]["new view"]),
        ("new view, deferred", found["deferred"]["new view"]),
        ("repeat", found["immediate"]["repeat"]),
        ("ORM create() alone", found["immediate"]["ORM create() alone"]),
        ("raw INSERT alone", insert),
    ]:
        say(
            name,
            f"{figures['µs']:,.0f}",
            f"{figures['CPU µs']:,.0f}",
            f"{figures['µs'] / insert['µs']:.1f}",
            f"{figures['CPU µs'] / insert['CPU µs']:.1f}",
        )
    return found


def bulk(say: Say, database: str, options: argparse.Namespace) -> Any:
    """How fast many views are stored."""
    found = medians([run("bulk", database=database) for _ in range(options.rounds)])
    say("many views", "views/s", "× one by one")
    for name, rate in found.items():
        say(name, f"{rate:,.0f}", f"{rate / found['one by one']:.1f}")
    return found


def reading(say: Say, database: str, options: argparse.Namespace) -> Any:
    """How long reads take, with two numbers of page views."""
    sizes = [options.views // 100, options.views]
    found = {size: run("reading", database=database, count=size) for size in sizes}
    few, many = found[sizes[0]], found[sizes[1]]
    say("reading, ms", *(f"{size:,} views" for size in sizes), "ratio")
    for name in few:
        say(name, f"{few[name]:,.2f}", f"{many[name]:,.2f}", f"{many[name] / few[name]:.1f}")
    for name, counted in [
        ("snapshot", "snapshot by counting rows"),
        ("visitors of the days", "visitors by COUNT(DISTINCT)"),
        ("visitors of their last half", "the same by COUNT(DISTINCT)"),
    ]:
        say(f"{name}: times faster", "", f"{many[counted] / many[name]:,.0f}", "")
    return found


def disk(say: Say, database: str, options: argparse.Namespace) -> Any:
    """What a page view takes on disk."""
    found = run("disk", database=database, count=options.views // 10)
    say("bytes a view", "bytes")
    for name, size in found.items():
        say(name, f"{size:,.1f}")
    return found


def hot(say: Say, database: str, options: argparse.Namespace) -> Any:
    """Many processes that update the rollups of one day."""
    rounds: dict[str, list[Any]] = {"immediate": [], "deferred": []}
    for number in range(options.rounds):
        for rollups in list(rounds) if number % 2 else list(reversed(rounds)):
            rounds[rollups].append(run("hot", database=database, rollups=rollups, folding=rollups == "deferred"))
    found = {rollups: medians(figures) for rollups, figures in rounds.items()}
    say("8 processes on one day", "views/s", "× immediate", "longest fold, s")
    for rollups, figures in found.items():
        ratio = figures["views/s"] / found["immediate"]["views/s"]
        say(rollups, f"{figures['views/s']:,.0f}", f"{ratio:.2f}", f"{figures['longest fold s']:.1f}")
    return found


def memory(say: Say, database: str, options: argparse.Namespace) -> Any:
    """What a backfill takes, with two numbers of page views."""
    sizes = [options.views // 100, options.views]
    found = {size: run("backfill_memory", database=database, count=size) for size in sizes}
    say("backfill of", "MB at most", "views/s")
    for size, figures in found.items():
        say(f"{size:,} views", f"{figures['MB']:,.0f}", f"{figures['views/s']:,.0f}")
    return found


def verification(say: Say, database: str, options: argparse.Namespace) -> Any:
    """What a verification takes, with two numbers of page views."""
    sizes = [options.views // 10, options.views]
    found = {size: run("verification", database=database, count=size) for size in sizes}
    say("verification of", "s", "MB at most")
    for size, figures in found.items():
        say(f"{size:,} views", f"{figures['s']:,.1f}", f"{figures['MB']:,.0f}")
    return found


def presence(say: Say, database: str, options: argparse.Namespace) -> Any:
    """5,000 active sessions."""
    processes = 8 if database == "postgresql" else 4
    found = medians([run("presence", database=database, processes=processes) for _ in range(options.rounds)])
    say(f"5,000 sessions, {processes} processes", "")
    for name, figure in found.items():
        say(name, f"{figure:,.2f}")
    return found


def own_models(say: Say, database: str, options: argparse.Namespace) -> Any:
    """The views of 50,000 posts, from with_views() and from a COUNT over joined page views."""
    found = run("own_models", database=database, count=options.views)
    plans = found.pop("plans")
    say("views of posts, ms", "with_views", "COUNT join", "times faster")
    for name, figures in found.items():
        ours, joined = figures["with_views"], figures["COUNT join"]
        say(name, f"{ours:,.1f}", f"{joined:,.1f}", f"{joined / ours:,.1f}")
    print(*(f"  {line}" for line in plans), sep="\n")
    return {**found, "plans": plans}


def stats_page(say: Say, database: str, options: argparse.Namespace) -> Any:
    """The admin's Page stats: three years of 1,000 pages."""
    found = medians([run("stats_page", database=database, count=options.views) for _ in range(options.rounds)])
    say("Page stats, server time", "ms")
    for name, milliseconds in found.items():
        say(name, f"{milliseconds:,.0f}")
    return found


def say(*cells: str) -> None:
    """Print one row of a table."""
    first, *others = cells
    print(f"{first:44}" + "".join(f"{cell:>16}" for cell in others), flush=True)


def main() -> None:
    """Run the chosen sections."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--db", default="sqlite,postgresql", help="databases (default: %(default)s)")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="default: %(default)s")
    parser.add_argument("--views", type=int, default=1_000_000, help="page views to store (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per measure (default: %(default)s)")
    parser.add_argument("--json", help="a file for all results")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        do(json.loads(options.job))
        return
    found: dict[str, Any] = {"about": measures.describe(datetime.now(UTC))}
    print(found["about"])
    for database in options.db.split(","):
        for section in options.sections.split(","):
            print(f"\n{database}: {globals()[section].__doc__}")
            begin = time.monotonic()
            found.setdefault(database, {})[section] = globals()[section](say, database, options)
            print(f"({time.monotonic() - begin:,.0f} s)")
            if options.json:
                Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
