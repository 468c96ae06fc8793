"""What commands that tell of paths and titles have in common."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand


class AnyTextCommand(BaseCommand):
    """A command that may have any text to say, and says it on any terminal.

    What the encoding of the output lacks is written as an escape: that of a pipe on Windows knows no Chinese.
    """

    @property
    def may_escape(self) -> bool:
        """Tell whether some of what is written may have to be escaped."""
        encoding = getattr(self.stdout, "encoding", None)
        return encoding is not None and codecs.lookup(encoding).name != "utf-8"

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command."""
        with _escaping(options.get("stdout") or self.stdout):
            return super().execute(*args, **options)


@contextmanager
def _escaping(out: Any) -> Iterator[None]:
    """Have a stream write what it can't encode as an escape; one that encodes nothing stays as it is."""
    if not hasattr(out, "reconfigure"):
        yield
        return
    errors = out.errors
    out.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        out.reconfigure(errors=errors)
