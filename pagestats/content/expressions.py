"""SQL expressions that turn the values of rows into text which compares as paths do: byte for byte."""

from __future__ import annotations

from typing import Any

from django.db import NotSupportedError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Func, TextField
from django.db.models.functions import Extract
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

from pagestats.fields import collation

Compiled = tuple[str, tuple[Any, ...]]

# The types ignored below: Django documents `as_sql` with these parameters, but the stubs have those of `Func`.


class ExactText(Func):
    """A value as text that compares byte for byte, as paths do, whatever the collation of its column."""

    output_field = TextField()
    arity = 1

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Compiled:  # type: ignore[override]
        """Return the text in the collation of the columns that hold paths."""
        return super().as_sql(compiler, connection, **{"template": "CAST(%(expressions)s AS TEXT)", **context})

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Compiled:
        """Return it with the default collation, for a column that has another one."""
        return self.as_sql(compiler, connection, template="(CAST(%(expressions)s AS TEXT) COLLATE BINARY)")

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Compiled:
        """Return it with a collation: columns of different collations can't be compared otherwise."""
        template = f'((%(expressions)s)::text COLLATE "{collation(connection)}")'
        return self.as_sql(compiler, connection, template=template)

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Compiled:
        """Return it in the character set of the paths as well: the collation is an error in any other."""
        template = f"(CONVERT(%(expressions)s USING utf8mb4) COLLATE {collation(connection)})"
        return self.as_sql(compiler, connection, template=template)


class UuidText(Func):
    """A UUID as Python writes it, whether the database stores a UUID or 32 characters."""

    output_field = TextField()
    arity = 1

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Compiled:  # type: ignore[override]
        """Return the digits with hyphens between their groups."""
        [(value, params)] = [compiler.compile(source) for source in self.get_source_expressions()]
        if connection.vendor == "postgresql":
            return f"({value})::text", tuple(params)
        text = "TEXT" if connection.vendor == "sqlite" else "CHAR"
        digits = f"LOWER(REPLACE(CAST({value} AS {text}), '-', ''))"
        parts = [f"SUBSTR({digits}, {start}, {length})" for start, length in UUID_PARTS]
        joined = " || '-' || ".join(parts) if connection.vendor == "sqlite" else f"CONCAT_WS('-', {', '.join(parts)})"
        return f"({joined})", tuple(params) * len(parts)


UUID_PARTS = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))


class DayPart(Extract):
    """The year, the month or the day of an instant or a date, in the site's own time zone."""

    def __init__(self, expression: Any, part: str) -> None:
        super().__init__(expression, lookup_name=part)

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Compiled:  # type: ignore[override]
        """Return the number, whichever zone the reader has activated."""
        with timezone.override(None):
            return super().as_sql(compiler, connection, **context)

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Compiled:
        """Return the number, or raise: it would be NULL in a database without time zone tables."""
        compiled = self.as_sql(compiler, connection)
        if "CONVERT_TZ" in compiled[0] and not connection.features.has_zoneinfo_database:
            raise NotSupportedError(
                f"A path contains the {self.lookup_name} of an instant in {timezone.get_default_timezone_name()}, but"
                " the database has no time zone tables. Load them with mysql_tzinfo_to_sql."
            )
        return compiled


class Lacks(Func):
    """Whether a text is not empty and contains no character of a class, which is written as `[...]`."""

    output_field = BooleanField()
    conditional = True

    def __init__(self, text: Any, stray: str) -> None:
        super().__init__(text)
        self.stray = stray

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Compiled:  # type: ignore[override]
        """Return the condition. SQLite's GLOB has the same classes; its REGEXP would call Python for each row."""
        [(text, params)] = [compiler.compile(source) for source in self.get_source_expressions()]
        if not self.stray:
            return f"({text} <> '')", tuple(params)
        operator, pattern = {
            "sqlite": ("NOT GLOB", f"*{self.stray}*"),
            "postgresql": ("!~", self.stray),
            "mysql": ("NOT REGEXP", self.stray),
        }[connection.vendor]
        return f"({text} <> '' AND {text} {operator} %s)", (*params, *params, pattern)


class Joined(Func):
    """Texts joined together; NULL if one of them is NULL."""

    output_field = TextField()
    template = "(%(expressions)s)"
    arg_joiner = " || "

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Compiled:
        """Return a call of CONCAT: here `||` is another operator."""
        return self.as_sql(compiler, connection, template="CONCAT(%(expressions)s)", arg_joiner=", ")
