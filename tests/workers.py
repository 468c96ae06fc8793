"""Other processes of the site, which write to the test database at the same time as the test.

`Team` is some processes that are given work and released together. Run as a module, this is one process that backfills,
and tells of each chunk that it began: a test that kills it knows then what it was at.
"""

import importlib
import multiprocessing
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier, Event
from types import TracebackType
from typing import Any, NamedTuple, Self

PATIENCE = 240  # seconds


class Signals(NamedTuple):
    """What a process of a team hears of the others, and of the test."""

    barrier: Barrier
    stop: Event

    def together(self) -> None:
        """Wait until every process of the team has come here."""
        self.barrier.wait(PATIENCE)


# What a team is given to do: a function of a module of tests, called with a share of the work.
Task = Callable[[Any, Signals], Any]


class Team:
    """Processes that are started once, by spawn, and then do one task after another."""

    def __init__(self, size: int) -> None:
        from django.db import connection

        context = multiprocessing.get_context("spawn")
        self.signals = Signals(context.Barrier(size), context.Event())
        self.pipes: list[Connection] = []
        self.processes = []
        for _ in range(size):
            pipe, its_pipe = context.Pipe()
            arguments = its_pipe, self.signals, connection.settings_dict["NAME"]
            process = context.Process(target=work, args=arguments, daemon=True)
            process.start()
            its_pipe.close()
            self.pipes.append(pipe)
            self.processes.append(process)

    def run(self, task: Task, shares: Sequence[Any]) -> list[Any]:
        """Give each process its share, release all of them together, and return what each returned."""
        self.start(task, shares)
        return self.results()

    def start(self, task: Task, shares: Sequence[Any]) -> None:
        self.signals.stop.clear()
        for pipe, share in zip(self.pipes, shares, strict=True):
            pipe.send_bytes(pickle.dumps((task, share)))

    def stop(self) -> None:
        """Ask the processes to come to an end with their task."""
        self.signals.stop.set()

    def results(self) -> list[Any]:
        """Wait for all processes and return what each returned; fail if an error came out of any."""
        outcomes = []
        for pipe in self.pipes:
            assert pipe.poll(PATIENCE), f"A process did not end its task within {PATIENCE} seconds."
            outcomes.append(pipe.recv())
        errors = [error for _, error in outcomes if error]
        if errors:
            self.signals.barrier.reset()
        # Where one process failed, those that waited for it did too: the cause comes first.
        errors.sort(key=lambda error: "BrokenBarrierError" in error)
        assert not errors, f"{len(errors)} of {len(outcomes)} processes failed:\n" + "\n".join(errors)
        return [result for result, _ in outcomes]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(10)
            process.kill()
            process.join()
            process.close()


def set_up(database: str) -> None:
    """Set up Django in a new process, with the test database of the process that started it."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    from django.conf import settings

    settings.DATABASES["default"]["NAME"] = database
    importlib.import_module("django").setup()


def work(pipe: Connection, signals: Signals, database: str) -> None:
    """Do what comes through the pipe until it is closed."""
    set_up(database)
    from django.db import connection

    while True:
        try:
            order = pipe.recv_bytes()
        except EOFError:
            return
        # Only now, after the set-up: unpickling imports the task's module, and with it the models.
        task, share = pickle.loads(order)
        error = result = None
        try:
            signals.together()
            result = task(share, signals)
        except Exception:  # noqa: BLE001 (it is raised again in the test)
            error = traceback.format_exc()
            signals.barrier.abort()
        connection.close()
        pipe.send((result, error))


def backfill(database: str, marks: int, *arguments: str) -> None:
    """Run `backfill_aggregates`, and write to the file descriptor a line for each chunk that is under way.

    The line is the key of the chunk's first row, written once the chunk's transaction has made its first statement.
    """
    set_up(database)
    from django.core.management import call_command
    from django.db import connection

    from pagestats import rollups
    from pagestats.rollups import folding

    fold = folding._roll_up

    def marked(chunk: Sequence[tuple[int, str]], *args: Any, **kwargs: Any) -> rollups.Progress:
        is_marked = False

        def mark(execute: Callable[..., Any], *args: Any) -> Any:
            nonlocal is_marked
            result = execute(*args)
            if not is_marked:
                assert connection.in_atomic_block
                os.write(marks, f"{chunk[0][0]}\n".encode())
                is_marked = True
            return result

        with connection.execute_wrapper(mark):
            return fold(chunk, *args, **kwargs)

    folding._roll_up = marked
    call_command("backfill_aggregates", *arguments)


if __name__ == "__main__":
    database, marks, *arguments = sys.argv[1:]
    backfill(database, int(marks), *arguments)
