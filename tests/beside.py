"""A transaction that stays open beside the test."""

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction


class Beside:
    """A transaction in a thread of its own, which begins, waits until it may go on, and commits."""

    def __init__(self, begin: Callable[[], Any], then: Callable[[], Any] = lambda: None) -> None:
        self.begin, self.then = begin, then
        self.has_begun, self.may_go_on = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        assert self.has_begun.wait(60)

    def run(self) -> None:
        try:
            with transaction.atomic():
                self.begin()
                self.has_begun.set()
                assert self.may_go_on.wait(60)
                self.then()
        except Exception as error:  # noqa: BLE001  # whatever it is, the test judges it
            self.error = error
        finally:
            connection.close()

    def ends(self) -> Exception | None:
        """Let it go on, and return what became of it."""
        self.may_go_on.set()
        self.thread.join(60)
        return self.error
