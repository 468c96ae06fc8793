"""Count again from the page views, and compare with what is stored, in one statement of the database.

Each function here sends one statement, and one statement sees one snapshot. A writer changes a page view and every
count that contains it in one transaction, so the snapshot has both changes or neither, and any difference is drift,
also while views are recorded. The statement looks only at a range of days, paths or sessions, and returns only what
differs, so neither it nor its result grows with the site.

The statement maps instants to days by bounds computed in Python, since a database may have no time zone tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple, cast
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CharField
from django.db.models.expressions import RawSQL

from pagestats.days import DAY, EARLIEST, LATEST, day_of, start_of
from pagestats.dimensions import PAGE, Dimension
from pagestats.hits import instant
from pagestats.models import Calendar, PageTotal, PageView, Return, Rollup, Visitor
from pagestats.sql.dialects import dialect_of

MARGIN = 366 * DAY
"""How many days around now and the stored page views have bounds, since more page views may come meanwhile."""


class LocalTimes(ValueError):
    """The database stores local times, so one hour of each year is ambiguous."""


WITHOUT_LOCAL_TIMES = "Take TIME_ZONE out of its DATABASES."


def local_times(*, using: str) -> str | None:
    """Return what is wrong with the time zone of a database, if anything is."""
    connection = connections[using]
    if dialect_of(connection).keeps_time_zones or connection.timezone_name == "UTC":
        return None
    return (
        f"The database {using!r} has the TIME_ZONE {connection.timezone_name!r}: when summer time ends, one hour"
        " comes twice, and its page views are ambiguous, so counts can't be verified."
    )


def refuse_local_times(*, using: str) -> None:
    """Raise `LocalTimes` for a database that stores local times."""
    if fault := local_times(using=using):
        raise LocalTimes(f"{fault} {WITHOUT_LOCAL_TIMES}")


class Stretch(NamedTuple):
    """Consecutive days of 24 hours with the same UTC offset; or, with `offset` None, one day of another length.

    `starts` is None for the first stretch of all.
    """

    starts: datetime | None
    first_day: date
    offset: timedelta | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DayBounds:
    """How SQL maps instants to days, and which days are sealed. Both sides of a comparison must use the same."""

    zone: ZoneInfo
    sealed_before: date | None
    stretches: tuple[Stretch, ...]
    first: date
    last: date
    """The bounds cover the days from the first to the last. Other days may have another length."""

    @classmethod
    def of(cls, zone: ZoneInfo, sealed_before: date | None, *, using: str) -> DayBounds:
        """Return the bounds of the page views that are there, and of those that come near them meanwhile."""
        known = PageView.objects.using(using).filter(timestamp__gte=EARLIEST, timestamp__lt=LATEST)
        instants = known.values_list("timestamp", flat=True)
        ends = instants.order_by("timestamp").first(), instants.order_by("-timestamp").first()
        days = [day_of(at, zone) for at in (*ends, instant(None)) if at is not None]
        if sealed_before is not None:
            days.append(sealed_before)
        first, last = min(days) - MARGIN, max(days) + MARGIN
        stretches = _stretches(first, last, zone)
        return cls(zone=zone, sealed_before=sealed_before, stretches=stretches, first=first, last=last)

    @classmethod
    def stored(cls, *, using: str) -> DayBounds:
        """Return the bounds by the calendar as it is stored now. Raises `LocalTimes`."""
        refuse_local_times(using=using)
        stored = Calendar.objects.using(using).row().values_list("zone", "sealed_before").first()
        zone, sealed_before = stored or (settings.TIME_ZONE, None)
        return cls.of(ZoneInfo(zone), sealed_before, using=using)

    def start_of(self, day: date) -> datetime:
        """Return the first instant of a reporting day, in UTC."""
        return start_of(day, self.zone)


def _stretches(first: date, last: date, zone: ZoneInfo) -> tuple[Stretch, ...]:
    """Return the stretches of the days from the first to the last."""
    found: list[Stretch] = []
    day, starts = first, start_of(first, zone)
    while day <= last:
        ends = start_of(day + DAY, zone)
        offset = datetime.combine(day, time(), tzinfo=UTC) - starts if ends - starts == DAY else None
        if not found or offset is None or found[-1].offset != offset:
            found.append(Stretch(starts if found else None, day, offset))
        day, starts = day + DAY, ends
    return tuple(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRange:
    """A range of paths or session ids in the order of their bytes.

    Args:
        low: the first text of the range; with `is_open`, the text before the first one.
        high: the text after the last one; None is no bound.
        is_open: leave `low` itself out.
        only: the range is the one text `low`.
    """

    low: str = ""
    high: str | None = None
    is_open: bool = False
    only: bool = False

    def condition(self, column: str) -> str:
        """Return the SQL condition that the values of a column are in the range."""
        if self.only:
            return f"{column} = %(low)s"
        bounds = [f"{column} {'>' if self.is_open else '>='} %(low)s"] if self.low or self.is_open else []
        if self.high is not None:
            bounds.append(f"{column} < %(high)s")
        return " AND ".join(bounds) or "1 = 1"

    @property
    def parameters(self) -> dict[str, str | None]:
        """Return the parameters of the condition."""
        return {"low": self.low, "high": self.high}


EVERY_TEXT = TextRange()


@dataclass(frozen=True, kw_only=True, slots=True)
class Days:
    """The days from `since` to the one before `until`; None is no bound."""

    since: date | None = None
    until: date | None = None


class Counts(NamedTuple):
    """The three counts of a key on a day. With a previous day, only `visitors` has a meaning."""

    views: int
    visitors: int
    new_visitors: int


class Cell(NamedTuple):
    """A cell that differs: a rollup, or, with a previous day, a return."""

    value: str
    day: date
    previous_day: date | None
    counted: Counts
    stored: Counts


class TotalRow(NamedTuple):
    """What is stored of a page, and what its rollups and its page views say. None means no row, or no page view."""

    path: str
    views: int
    visitors: int
    first_viewed: datetime | None
    last_viewed: datetime | None
    rollup_views: int
    rollup_visitors: int
    first_day: date | None
    last_day: date | None
    first_counted: datetime | None
    last_counted: datetime | None


class VisitorRow(NamedTuple):
    """What is stored of a session, and what its page views say. None means no row, or no page view."""

    session_id: str
    first_seen: datetime | None
    last_day: date | None
    last_sealed_day: date | None
    first_counted: datetime | None
    last_day_counted: date | None


class Recount(NamedTuple):
    """The result of a statement: the calendar and the first and last page view in its snapshot, how many rows it
    compared, and the rows that differ.
    """

    zone: ZoneInfo
    sealed_before: date | None
    ends: Sequence[datetime]
    compared: int
    page_views: int
    days: int
    rows: Sequence[Any]

    def is_by(self, bounds: DayBounds) -> bool:
        """Return whether the bounds match the calendar of the snapshot and cover all its page views."""
        return (self.zone, self.sealed_before) == (bounds.zone, bounds.sealed_before) and all(
            bounds.first <= day_of(at, self.zone) <= bounds.last for at in self.ends
        )


def cells(
    bounds: DayBounds, dimension: Dimension, days: Days, *, values: TextRange = EVERY_TEXT, using: str
) -> Recount:
    """Compare the rollups and returns of some values of a dimension on some days; `rows` are `Cell`s.

    The visitor's row remembers the last day of which page views were pruned, so on the whole site a session that was
    never seen on an unsealed day before was last seen on that day. Of any other dimension, nobody remembers who was
    counted on a sealed day: stored returns from there stay as they are, and their visitors, who look new judging by the
    unsealed page views alone, are not new.
    """
    sql = _Statement(bounds, using)
    seal = bounds.sealed_before
    since, until = sql.unsealed(days)
    value, parameters = sql.value_of(dimension, "path")
    lookup = sealed = "NULL"
    frozen = "1 = 0"
    if dimension.is_whole_site:
        if since:
            lookup = sql.latest(sql.times("earlier.timestamp", None, since), "earlier.session_id = visit.session_id")
        if seal:
            sealed = (
                f"(SELECT {sql.sealed_day('visitor.last_sealed_day', 'visitor.first_seen')} FROM {sql.visitor} visitor"
                " WHERE visitor.session_id = visit.session_id)"
            )
    else:
        if since and since != seal:
            earlier, parameters_of_earlier = sql.value_of(dimension, "earlier.path")
            parameters |= parameters_of_earlier
            lookup = sql.latest(
                sql.times("earlier.timestamp", seal, since),
                f"earlier.session_id = visit.session_id AND {earlier} = visit.value",
            )
        if seal:
            frozen = f"previous_day < {sql.day(seal)}"
    counted = _visits(
        sql,
        value=value,
        where=f"{values.condition(value)} AND {sql.times('timestamp', since, until)}",
        index="pagestats_view_path" if dimension.neighbours == "path" else "pagestats_view_time",
        lookup=lookup,
        sealed=sealed,
    )
    stored = f"dimension = %(dimension)s AND {values.condition('value')} AND {sql.days(since, until)}"
    parameters |= {"dimension": dimension.name, **values.parameters}
    return sql.fetch(_cells(sql, counted, stored, frozen=frozen), parameters, _cell)


def totals(bounds: DayBounds, paths: TextRange, *, is_whole: bool, using: str) -> Recount:
    """Compare the totals of some pages with the sums of their rollups and with their first and last page views.

    `rows` are `TotalRow`s: those that may differ, or, with `is_whole`, all that there are or should be.
    """
    sql = _Statement(bounds, using)
    none = "NULL, NULL"
    viewed = ""
    if is_whole:
        viewed = (
            f" UNION ALL SELECT path, 0, 0, {none}, 0, 0, {none} FROM {sql.view}{sql.index('pagestats_view_path')}"
            f" WHERE {paths.condition('path')} AND rolled_up GROUP BY path"
        )
    ends = ", ".join(
        f"(SELECT view.timestamp FROM {sql.view} view WHERE view.path = both_parts.path AND view.rolled_up"
        f" ORDER BY view.timestamp {order} LIMIT 1) AS {name}"
        for name, order in (("first_counted", "ASC"), ("last_counted", "DESC"))
    )
    columns = (
        "SUM(views) AS views, SUM(visitors) AS visitors, MAX(first_viewed) AS first_viewed,"
        " MAX(last_viewed) AS last_viewed, SUM(rollup_views) AS rollup_views, SUM(rollup_visitors) AS rollup_visitors,"
        " MIN(first_day) AS first_day, MAX(last_day) AS last_day"
    )
    grouped = f"""
        SELECT both_parts.*, {ends}, 0 AS counted_views FROM (
            SELECT path, {columns} FROM (
                SELECT path, views, visitors, first_viewed, last_viewed, 0 AS rollup_views, 0 AS rollup_visitors,
                    {sql.no_day} AS first_day, {sql.no_day} AS last_day
                FROM {sql.total} WHERE {paths.condition("path")}
                UNION ALL
                SELECT value, 0, 0, {none}, SUM(views), SUM(new_visitors), MIN(day), MAX(day) FROM {sql.rollup}
                WHERE dimension = %(dimension)s AND {paths.condition("value")}
                    AND NOT (views = 0 AND visitors = 0 AND new_visitors = 0)
                GROUP BY value{viewed}
            ) parts GROUP BY path
        ) both_parts"""
    differs = (
        "views <> rollup_views OR visitors <> rollup_visitors"
        " OR (views <> 0 AND (first_counted IS NULL OR first_viewed IS NULL"
        " OR first_viewed <> first_counted OR last_viewed <> last_counted))"
    )
    columns_read = "path, views, visitors, first_viewed, last_viewed, rollup_views, rollup_visitors, first_day,"
    return sql.fetch(
        sql.numbered(grouped, "1 = 1" if is_whole else differs, counts="views <> 0 OR rollup_views <> 0"),
        {**paths.parameters, "dimension": PAGE.name},
        _total,
        columns=f"{columns_read} last_day, first_counted, last_counted",
    )


def visitors(bounds: DayBounds, sessions: TextRange, *, using: str) -> Recount:
    """Compare the rows of some sessions with their page views; `rows` are the `VisitorRow`s that differ."""
    sql = _Statement(bounds, using)
    grouped = f"""
        SELECT both_parts.*, {sql.day_of("last_counted")} AS last_day_counted FROM (
            SELECT session_id, MAX(first_seen) AS first_seen, MAX(last_day) AS last_day,
                MAX(last_sealed_day) AS last_sealed_day, MAX(first_counted) AS first_counted,
                MAX(last_counted) AS last_counted, SUM(counted_views) AS counted_views
            FROM (
                SELECT session_id, first_seen, last_day, last_sealed_day, {sql.no_instant} AS first_counted,
                    {sql.no_instant} AS last_counted, 0 AS counted_views
                FROM {sql.visitor} WHERE {sessions.condition("session_id")}
                UNION ALL
                SELECT session_id, NULL, NULL, NULL, MIN(timestamp), MAX(timestamp), COUNT(*)
                FROM {sql.view}{sql.index("pagestats_view_repeat")}
                WHERE {sessions.condition("session_id")} AND rolled_up GROUP BY session_id
            ) parts GROUP BY session_id
        ) both_parts"""
    last = "CASE WHEN last_day_counted > last_sealed_day THEN last_day_counted ELSE last_sealed_day END"
    late = "1 = 0"
    if bounds.sealed_before:
        late = f"first_seen >= {sql.instant(bounds.sealed_before)}"
    differs = (
        f"(last_sealed_day IS NULL AND ({sql.distinct('first_seen', 'first_counted')}"
        f" OR {sql.distinct('last_day', 'last_day_counted')}))"
        f" OR (last_sealed_day IS NOT NULL AND (first_seen IS NULL OR {late} OR {sql.distinct('last_day', last)}))"
        f" OR {sql.distinct('last_sealed_day', sql.sealed_day('last_sealed_day', 'first_seen'))}"
    )
    return sql.fetch(
        sql.numbered(grouped, differs, counts="first_seen IS NOT NULL OR first_counted IS NOT NULL"),
        sessions.parameters,
        _seen,
        columns="session_id, first_seen, last_day, last_sealed_day, first_counted, last_day_counted",
    )


def _visits(sql: _Statement, *, value: str, where: str, index: str, lookup: str, sealed: str) -> str:
    """Return the statement that counts page views and visitors by value, day and previous day, which may be NULL.

    Args:
        value: the SQL of the value that a page view counts for.
        where: the condition of the page views to count.
        index: the index that finds them.
        lookup: the SQL of the last instant before those page views at which the session was counted for the value, or
            "NULL". It is asked for only where none of the counted days is the previous one.
        sealed: the SQL of a sealed day that may be later than that instant, or "NULL".
    """
    raw_day = sql.day_of("earlier_at")
    previous_day = (
        f"CASE WHEN visit_before IS NOT NULL THEN visit_before"
        f" WHEN sealed_day IS NOT NULL AND (earlier_at IS NULL OR sealed_day > {raw_day}) THEN sealed_day"
        f" WHEN earlier_at IS NOT NULL THEN {raw_day} END"
    )
    if sealed == "NULL":
        previous_day = f"CASE WHEN visit_before IS NOT NULL THEN visit_before ELSE {raw_day} END"
    if lookup == "NULL":
        previous_day = "visit_before" if sealed == "NULL" else "COALESCE(visit_before, sealed_day)"
    before = "LAG(day) OVER (PARTITION BY value, session_id ORDER BY day)"
    if lookup != "NULL":
        lookup = f"CASE WHEN {before} IS NULL THEN {lookup} END"
    if sealed != "NULL":
        sealed = f"CASE WHEN {before} IS NULL THEN {sealed} END"
    # The window function keeps databases from merging a look-up into the expressions that use it, and so repeating it.
    return f"""
        SELECT value, day, previous_day, SUM(views) AS views, COUNT(*) AS visitors FROM (
            SELECT value, day, {previous_day} AS previous_day, views FROM (
                SELECT value, day, views, {before} AS visit_before, {lookup} AS earlier_at, {sealed} AS sealed_day
                FROM (
                    SELECT {value} AS value, session_id, {sql.day_of("timestamp")} AS day, COUNT(*) AS views
                    FROM {sql.view}{sql.index(index)} WHERE {where} AND rolled_up GROUP BY 1, 2, 3
                ) visit
            ) visit_and_before
        ) visitor_day GROUP BY value, day, previous_day"""


def _cells(sql: _Statement, counted: str, stored: str, *, frozen: str) -> str:
    """Return the statement that compares counted cells with stored ones.

    A visitor-day is part of the rollup of its day, and also of a return if it has a previous day.

    Args:
        counted: the statement that counts; see `_visits`.
        stored: the condition of the stored cells.
        frozen: the condition of returns that are not compared. Their visitors are subtracted from the new visitors that
            were counted.
    """
    day = sql.no_day
    grouped = f"""
        SELECT value, day, previous_day, SUM(views) AS counted_views, SUM(visitors) AS counted_visitors,
            SUM(new_visitors) AS counted_new_visitors, SUM(stored_views) AS stored_views,
            SUM(stored_visitors) AS stored_visitors, SUM(stored_new_visitors) AS stored_new_visitors
        FROM (
            SELECT value, day, CASE WHEN is_return = 1 THEN previous_day END AS previous_day,
                CASE WHEN is_return = 1 THEN 0 ELSE views END AS views, visitors,
                CASE WHEN is_return = 0 AND previous_day IS NULL THEN visitors ELSE 0 END AS new_visitors,
                0 AS stored_views, 0 AS stored_visitors, 0 AS stored_new_visitors
            FROM ({counted}) counted
            JOIN (SELECT 0 AS is_return UNION ALL SELECT 1) kind ON is_return = 0 OR previous_day IS NOT NULL
            UNION ALL
            SELECT value, day, {day}, 0, 0, 0, views, visitors, new_visitors FROM {sql.rollup} WHERE {stored}
            UNION ALL
            SELECT value, day, CASE WHEN {frozen} THEN {day} ELSE previous_day END, 0, 0,
                CASE WHEN {frozen} THEN -visitors ELSE 0 END, 0, CASE WHEN {frozen} THEN 0 ELSE visitors END, 0
            FROM {sql.return_} WHERE {stored}
        ) parts GROUP BY value, day, previous_day"""
    differs = " OR ".join(f"counted_{name} <> stored_{name}" for name in Counts._fields)
    return sql.numbered(grouped, differs, counts="1 = 1", days="previous_day IS NULL")


class _Statement:
    """Builds a statement in the dialect of its database, and sends it."""

    def __init__(self, bounds: DayBounds, using: str) -> None:
        self.bounds = bounds
        self.connection = connections[using]
        self.dialect = dialect_of(self.connection)
        self.view, self.visitor, self.total, self.rollup, self.return_, self.calendar = (
            self.connection.ops.quote_name(model._meta.db_table)
            for model in (PageView, Visitor, PageTotal, Rollup, Return, Calendar)
        )
        self.no_day, self.no_instant = self.dialect.no_day, self.dialect.no_instant
        self.day, self.distinct, self.index = self.dialect.day, self.dialect.differ, self.dialect.index

    def value_of(self, dimension: Dimension, path: str) -> tuple[str, dict[str, str | None]]:
        """Return the SQL of a dimension's value, given the column that holds the path, and its parameters."""
        if dimension.neighbours == "path":
            return path, {}
        if dimension.is_whole_site:
            return "''", {}
        query = PageView.objects.using(self.connection.alias).all().query
        compiler = query.get_compiler(self.connection.alias)
        expression = dimension.expression(RawSQL(path, (), output_field=CharField()))
        compiled, params = compiler.compile(expression.resolve_expression(query))
        # The other parameters of the statement have names, and no database takes both kinds at once.
        names = [f"{dimension.name}_{path}_{number}".replace(".", "_") for number in range(len(params))]
        text = compiled % tuple(f"%({name})s" for name in names)
        return text, dict(zip(names, params, strict=True))

    def instant(self, at: date | datetime) -> str:
        """Return the literal of an instant, or of the first instant of a day."""
        if not isinstance(at, datetime):
            at = self.bounds.start_of(at)
        return self.dialect.instant(at)

    def unsealed(self, days: Days) -> tuple[date | None, date | None]:
        """Return the bounds of some days without those that are sealed."""
        since = days.since
        if (seal := self.bounds.sealed_before) and (since is None or since < seal):
            since = seal
        return since, days.until

    def times(self, column: str, since: date | None, until: date | None) -> str:
        """Return the SQL condition that an instant is on one of some days."""
        bounds = [f"{column} >= {self.instant(since)}"] if since else []
        if until:
            bounds.append(f"{column} < {self.instant(until)}")
        return " AND ".join(bounds) or "1 = 1"

    def days(self, since: date | None, until: date | None) -> str:
        """Return the condition that the column `day` is one of some days."""
        bounds = [f"day >= {self.day(since)}"] if since else []
        if until:
            bounds.append(f"day < {self.day(until)}")
        return " AND ".join(bounds) or "1 = 1"

    def sealed_day(self, stored: str, first_seen: str) -> str:
        """Return the last sealed day of a visitor. Of one who has a day that is not sealed, and was there before the
        seal, the day of the first page view is all that is known.
        """
        if (seal := self.bounds.sealed_before) is None:
            return self.no_day
        is_known = f"{stored} IS NOT NULL AND {first_seen} < {self.instant(seal)}"
        return f"CASE WHEN {stored} < {self.day(seal)} THEN {stored} WHEN {is_known} THEN {self.day_of(first_seen)} END"

    def latest(self, times: str, where: str) -> str:
        """Return the instant of the latest of those rolled-up page views of a visit that meet two conditions.

        The first one is not for the index to meet: PostgreSQL would rather go back from the end of the index of times.
        While nothing is pending the rows themselves need not be read.
        """
        latest = f"SELECT MAX(CASE WHEN {times} THEN earlier.timestamp END) FROM {self.view} earlier WHERE {where}"
        # The ORM's own words: a partial index is found only by the condition that it was made with.
        rows = PageView.objects.using(self.connection.alias).pending().order_by().values_list("pk")
        pending, params = rows.query.get_compiler(self.connection.alias).as_sql()
        pending %= tuple(self.dialect.false for _ in params)
        return f"CASE WHEN EXISTS ({pending}) THEN ({latest} AND earlier.rolled_up) ELSE ({latest}) END"

    def day_of(self, at: str) -> str:
        """Return the reporting day of an instant, or NULL: the latest stretch comes first, where most views are."""
        whens = "".join(
            f" WHEN {at} >= {self.instant(stretch.starts)} THEN {self._day_in(stretch, at)}"
            for stretch in reversed(self.bounds.stretches[1:])
            if stretch.starts
        )
        first = self._day_in(self.bounds.stretches[0], at)
        if self.bounds.stretches[0].offset is None:
            first = f"CASE WHEN {at} IS NOT NULL THEN {first} END"
        return f"CASE{whens} ELSE {first} END" if whens else first

    def _day_in(self, stretch: Stretch, at: str) -> str:
        if stretch.offset is None:
            return self.day(stretch.first_day)
        return self.dialect.day_at_offset(at, int(stretch.offset.total_seconds()))

    def numbered(self, grouped: str, differs: str, *, counts: str, days: str = "1 = 0") -> str:
        """Return the statement that reads what differs, and with it, in one row at least, how many were compared."""
        return f"""
            SELECT * FROM (
                SELECT compared_rows.*, ROW_NUMBER() OVER () AS nth, SUM(counted_views) OVER () AS page_views,
                    SUM(CASE WHEN {counts} THEN 1 ELSE 0 END) OVER () AS compared,
                    SUM(CASE WHEN {days} THEN 1 ELSE 0 END) OVER () AS days,
                    CASE WHEN {differs} THEN 1 ELSE 0 END AS differs
                FROM ({grouped}) compared_rows
            ) numbered WHERE differs = 1 OR nth = 1"""

    def fetch(
        self,
        statement: str,
        parameters: Mapping[str, str | None],
        make: Callable[[BaseDatabaseWrapper, Sequence[Any]], Any],
        *,
        columns: str = (
            "value, day, previous_day, counted_views, counted_visitors, counted_new_visitors, stored_views,"
            " stored_visitors, stored_new_visitors"
        ),
    ) -> Recount:
        """Send the statement, with what the calendar has in the same snapshot, and the first and last page view."""
        known = f"timestamp >= {self.instant(EARLIEST)} AND timestamp < {self.instant(LATEST)}"
        ends = ", ".join(
            f"(SELECT timestamp FROM {self.view} WHERE {known} ORDER BY timestamp {order} LIMIT 1)"
            for order in ("ASC", "DESC")
        )
        with ExitStack() as stack:
            if without_jit := self.dialect.without_jit:
                stack.enter_context(transaction.atomic(using=self.connection.alias))
                stack.enter_context(self.connection.cursor()).execute(without_jit)
            cursor = stack.enter_context(self.connection.cursor())
            cursor.execute(
                f"SELECT calendar.zone, calendar.sealed_before, {ends}, compared, page_views, days, differs, {columns}"
                f" FROM (SELECT 1 AS one) always LEFT JOIN {self.calendar} calendar ON calendar.id = {Calendar.ROW:d}"
                f" LEFT JOIN ({statement}) found ON 1 = 1",
                dict(parameters),
            )
            found = cursor.fetchall()
        zone, *state, compared, page_views, days, _ = found[0][:STATE]
        fields = [(Calendar, "sealed_before"), (PageView, "timestamp"), (PageView, "timestamp")]
        sealed_day, *instants = _convert(self.connection, fields, state)
        return Recount(
            zone=ZoneInfo(zone or settings.TIME_ZONE),
            sealed_before=sealed_day,
            ends=[at for at in instants if at is not None],
            compared=int(compared or 0),
            page_views=int(page_views or 0),
            days=int(days or 0),
            rows=sorted(
                (make(self.connection, row[STATE:]) for row in found if row[STATE - 1]),
                key=lambda row: [str(part) for part in row[: len(Cell._fields) - 2]],
            ),
        )


STATE = 8
"""How many columns of an answer are the same in each row, and tell whether this row differs."""


def _cell(connection: BaseDatabaseWrapper, row: Sequence[Any]) -> Cell:
    day, previous_day = _convert(connection, [(Rollup, "day"), (Return, "previous_day")], row[1:3])
    return Cell(row[0], day, previous_day, Counts(*map(int, row[3:6])), Counts(*map(int, row[6:9])))


def _total(connection: BaseDatabaseWrapper, row: Sequence[Any]) -> TotalRow:
    fields: list[tuple[type[models.Model], str]]
    fields = [(PageTotal, "first_viewed"), (PageTotal, "last_viewed"), (Rollup, "day"), (Rollup, "day")]
    fields += [(PageView, "timestamp"), (PageView, "timestamp")]
    path, views, visitors, first_viewed, last_viewed, rollup_views, rollup_visitors, *others = row
    first_viewed, last_viewed, *others = _convert(connection, fields, [first_viewed, last_viewed, *others])
    counts = int(rollup_views), int(rollup_visitors)
    return TotalRow(path, int(views), int(visitors), first_viewed, last_viewed, *counts, *others)


def _seen(connection: BaseDatabaseWrapper, row: Sequence[Any]) -> VisitorRow:
    fields = [(Visitor, name) for name in ("first_seen", "last_day", "last_sealed_day")]
    return VisitorRow(
        row[0], *_convert(connection, [*fields, (PageView, "timestamp"), (Visitor, "last_day")], cast(Any, row[1:]))
    )


def _convert(
    connection: BaseDatabaseWrapper, fields: Sequence[tuple[type[models.Model], str]], values: Sequence[Any]
) -> Iterator[Any]:
    """Turn columns of a raw statement into values of fields, as the ORM would."""
    for (model, name), value in zip(fields, values, strict=True):
        column = cast("models.Field[Any, Any]", model._meta.get_field(name)).get_col("")
        for convert in (*connection.ops.get_db_converters(column), *column.get_db_converters(connection)):
            value = convert(value, column, connection)
        yield value
