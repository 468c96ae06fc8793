"""What the commands have in common."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections, router

WHOSE_TABLES = ("pagestats", "django_q")
"""The apps that the commands need tables of, where they are installed."""


class StatsCommand(BaseCommand):
    """A command of this app: it may have any text to say, and says in a line what the database lacks.

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
            try:
                return super().execute(*args, **options)
            except DatabaseError as error:
                if fault := _fault_of_databases():
                    raise CommandError(fault) from error
                raise


def _fault_of_databases() -> str:
    """Return what keeps every command from its tables, "" when they are there."""
    for app in filter(apps.is_installed, WHOSE_TABLES):
        for model in apps.get_app_config(app).get_models():
            using = router.db_for_write(model)
            try:
                tables = connections[using].introspection.table_names()
            except DatabaseError as error:
                return f"The database {using!r} can't be used: {str(error).strip()}"
            if model._meta.db_table not in tables:
                return f"The database {using!r} has no table {model._meta.db_table} yet. Run manage.py migrate."
    return ""


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
