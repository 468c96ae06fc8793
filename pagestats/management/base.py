"""The base class of the commands."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections, router

WHOSE_TABLES = ("pagestats", "django_q")
"""The apps whose tables the commands need, if those apps are installed."""


class StatsCommand(BaseCommand):
    """A command of this app.

    It escapes characters that the encoding of the output can't represent (a pipe on Windows has no Chinese). If the
    database can't be reached or lacks a table, it reports that in one line instead of a traceback.
    """

    @property
    def may_escape(self) -> bool:
        """Return whether the encoding of the output may lack some characters."""
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
    """Return why the commands can't use their tables, or "" if they can."""
    for app in filter(apps.is_installed, WHOSE_TABLES):
        for model in apps.get_app_config(app).get_models():
            using = router.db_for_write(model)
            try:
                tables = connections[using].introspection.table_names()
            except DatabaseError as error:
                return f"The database {using!r} can't be used: {str(error).strip()}"
            if model._meta.db_table not in tables:
                return f"The database {using!r} has no table {model._meta.db_table}. Run manage.py migrate."
    return ""


@contextmanager
def _escaping(out: Any) -> Iterator[None]:
    """Escape what a stream can't encode while the block runs. A stream without an encoding stays as it is."""
    if not hasattr(out, "reconfigure"):
        yield
        return
    errors = out.errors
    out.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        out.reconfigure(errors=errors)
