"""The figures of the pages of a queryset's rows, as columns of it: found by the path that the row's values make."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BigIntegerField, Func
from django.db.models.sql.compiler import SQLCompiler

from pagestats.days import day_of, start_of
from pagestats.hits import PATH_LENGTH, instant
from pagestats.models import Calendar, PageTotal, PageView, Return, Rollup, Seal
from pagestats.sql.dialects import dialect_of

Figure = Literal["views", "visitors"]

Compiled = tuple[str, tuple[Any, ...]]

DAY = timedelta(days=1)

# Where a type is ignored below: Django documents `as_sql` with these parameters; the stubs have those of its `Func`.


@dataclass(frozen=True)
class Range:
    """The last so many reporting days up to that of an instant; None is that of each reading."""

    days: int
    at: datetime | None = None
    zone: ZoneInfo | None = None
    """In which they are reckoned, if it was read already."""

    def settled(self, using: str) -> Range:
        """Return the range as it is now, for several statements: which days it has is read here, and not again."""
        return Range(self.days, instant(self.at), Calendar.zone_of(Calendar.objects.using(using)))

    def bounds(self, using: str) -> tuple[date, date, ZoneInfo]:
        """Return the first day and the last one, and the zone in which they are reckoned."""
        zone = self.zone or Calendar.zone_of(Calendar.objects.using(using))
        end = day_of(instant(self.at), zone)
        return end - (self.days - 1) * DAY, end, zone


class PageFigure(Func):
    """The views or the visitors of the page at a path, all time or of a range: exact, pending page views included.

    It is written as SQL, and only when the statement is made: a queryset may be kept for days, and its range moves on.
    While a page view is pending, those of the path are found by an index of their own, in the same statement.
    NULL: it can't be told, since page views of the path that would tell who came back were pruned, or since it is
    longer than those that are stored.
    """

    output_field = BigIntegerField()
    arity = 1

    def __init__(self, path: Any, figure: Figure, *, dimension: str, range: Range | None = None) -> None:
        super().__init__(path)
        self.figure, self.dimension, self.range = figure, dimension, range

    def get_group_by_cols(self) -> list[Any]:
        """Return the columns that the path is made of: the figure depends on nothing else of the row."""
        return [column for source in self.get_source_expressions() for column in source.get_group_by_cols()]

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Compiled:  # type: ignore[override]
        """Return the sum of what was rolled up and what is pending."""
        [(path, path_params)] = [compiler.compile(source) for source in self.get_source_expressions()]
        words = _Words(connection, path, tuple(path_params), self.dimension, self.range)
        sql, params = words.views() if self.figure == "views" else words.visitors()
        length = dialect_of(connection).char_length
        return f"(CASE WHEN {length}({path}) > {PATH_LENGTH} THEN NULL ELSE {sql} END)", (*path_params, *params)


def page_figure(path: str, figure: Figure, *, dimension: str, range: Range | None = None, using: str) -> int | None:
    """Return the figure of the page at one path."""
    connection = connections[using]
    words = _Words(connection, "%s", (path,), dimension, range)
    sql, params = words.views() if figure == "views" else words.visitors()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}", params)
        [(value,)] = cursor.fetchall()
    return None if value is None else int(value)


class _Words:
    """The parts of the statement, each with its parameters."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        path: str,
        path_params: tuple[Any, ...],
        dimension: str,
        range: Range | None,
    ) -> None:
        self.connection, self.path, self.path_params = connection, path, path_params
        self.dimension = dimension
        self.page_views = self._table(PageView)
        self.days: tuple[Any, Any] = ("", "")
        self.instants: tuple[Any, Any] = ("", "")
        if range:
            start, end, zone = range.bounds(connection.alias)
            ops = connection.ops
            self.days = (ops.adapt_datefield_value(start), ops.adapt_datefield_value(end))
            self.instants = (
                ops.adapt_datetimefield_value(start_of(start, zone)),
                ops.adapt_datetimefield_value(start_of(end + DAY, zone)),
            )
        self.is_of_range = range is not None
        # The ORM's own words: a partial index is found only by the condition that it was made with.
        pending = PageView.objects.using(connection.alias).pending().query
        words, params = pending.where.as_sql(pending.get_compiler(connection.alias), connection)
        self.is_pending: Compiled = words, tuple(params)
        self.dialect = dialect_of(connection)
        self.anew = self.dialect.uncached

    def views(self) -> Compiled:
        """Return the views: rolled up, and pending."""
        stored = self._of_range("views") if self.is_of_range else self._of_all_time("views")
        return _sum(stored, self._pending("COUNT(*)"))

    def visitors(self) -> Compiled:
        """Return the visitors: those of each day less one for each return, and who came in pending views alone."""
        within, params = self._within("ps_c")
        unseen = (
            f" AND NOT EXISTS (SELECT 1 FROM {self.page_views} ps_c"
            f" WHERE ps_c.session_id = {self.page_views}.session_id AND ps_c.path = {self.page_views}.path"
            f" AND ps_c.rolled_up{within})"
        )
        pending = self._pending(f"COUNT(DISTINCT {self.page_views}.session_id)", (unseen, params))
        if not self.is_of_range:
            return _unless(self._is_sealed_ever(), _sum(self._of_all_time("visitors"), pending))
        returned = self._integer(
            f"(SELECT SUM(ps_b.visitors) FROM {self._table(Return)} ps_b WHERE ps_b.dimension = %s"
            f" AND ps_b.value = {self.path} AND ps_b.previous_day >= %s AND ps_b.previous_day <= %s"
            f" AND {self.dialect.ignoring_index}ps_b.day <= %s{self.anew})"
        )
        start, end = self.days
        back = f"- {returned}", (self.dimension, *self.path_params, start, end, end)
        return _unless(self._is_sealed(), _sum(self._of_range("visitors"), back, pending))

    def _is_sealed(self) -> Compiled:
        """Return whether a seal stands in the range over which it can't be told who came back: see `stats.ranges`."""
        start, end = self.days
        pending, params = self._pending_rows()
        viewed, viewed_params = self._viewed_before_seal(" AND ps_v.day >= %s")
        return (
            f"EXISTS (SELECT 1 FROM {self._table(Seal)} ps_s WHERE ps_s.before > %s AND ps_s.before <= %s{self.anew}"
            f" AND {viewed} AND (ps_s.open_from <= %s OR EXISTS (SELECT 1 {pending})))"
        ), (start, end, *viewed_params, start, end, *params)

    def _is_sealed_ever(self) -> Compiled:
        """Return whether a seal stands after views of the page: of all time, anybody may come back over it yet."""
        viewed, params = self._viewed_before_seal()
        return f"EXISTS (SELECT 1 FROM {self._table(Seal)} ps_s WHERE {viewed})", params

    def _viewed_before_seal(self, since: str = "") -> Compiled:
        return (
            f"EXISTS (SELECT 1 FROM {self._table(Rollup)} ps_v WHERE ps_v.dimension = %s AND ps_v.value = {self.path}"
            f" AND ps_v.day < ps_s.before AND ps_v.views > 0{since}{self.anew})"
        ), (self.dimension, *self.path_params)

    def _of_all_time(self, column: str) -> Compiled:
        stored = f"(SELECT ps_t.{column} FROM {self._table(PageTotal)} ps_t WHERE ps_t.path = {self.path}{self.anew})"
        return f"COALESCE({stored}, 0)", self.path_params

    def _of_range(self, column: str) -> Compiled:
        start, end = self.days
        return self._integer(
            f"(SELECT SUM(ps_r.{column}) FROM {self._table(Rollup)} ps_r WHERE ps_r.dimension = %s"
            f" AND ps_r.value = {self.path} AND ps_r.day >= %s AND ps_r.day <= %s{self.anew})"
        ), (self.dimension, *self.path_params, start, end)

    def _pending(self, counted: str, condition: Compiled = ("", ())) -> Compiled:
        is_pending, pending_params = self.is_pending
        rows, params = self._pending_rows()
        any_pending = f"EXISTS (SELECT 1 FROM {self.page_views} WHERE {is_pending})"
        return (
            f"CASE WHEN {any_pending} THEN (SELECT {counted} {rows}{condition[0]}) ELSE 0 END",
            (*pending_params, *params, *condition[1]),
        )

    def _pending_rows(self) -> Compiled:
        is_pending, pending_params = self.is_pending
        within, params = self._within(self.page_views)
        of_path = f"{is_pending} AND {self.page_views}.path = {self.path}{within}{self.anew}"
        return f"FROM {self.page_views} WHERE {of_path}", (*pending_params, *self.path_params, *params)

    def _within(self, alias: str) -> Compiled:
        if not self.is_of_range:
            return "", ()
        return f" AND {alias}.timestamp >= %s AND {alias}.timestamp < %s", self.instants

    def _integer(self, total: str) -> str:
        """Return a sum as an integer: two of the databases make a decimal of it."""
        return self.dialect.integer_of(f"COALESCE({total}, 0)")

    def _table(self, model: Any) -> str:
        return self.connection.ops.quote_name(model._meta.db_table)


def _sum(*parts: Compiled) -> Compiled:
    sql = " + ".join(part for part, _ in parts).replace("+ - ", "- ")
    return f"({sql})", tuple(param for _, params in parts for param in params)


def _unless(condition: Compiled, figure: Compiled) -> Compiled:
    return f"CASE WHEN {condition[0]} THEN NULL ELSE {figure[0]} END", (*condition[1], *figure[1])
