"""Invented page views, the same in each run: a few pages are popular, and sessions return on later days.

They are stored as rolled up, with rollups that the database counts in SQL, because a backfill of millions of rows would
take minutes and is measured separately. `manage.py verify_aggregates` finds them exact.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate

PATHS = 1_000
SESSIONS = 100_000
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def path(number: int) -> str:
    """Return the path of a page."""
    return f"/p/{number + 1}/"


def session(number: int) -> str:
    """Return a session id, as long as the app's own."""
    return f"{number:032x}"


def views(
    count: int, *, days: int, paths: int = PATHS, sessions: int = SESSIONS, begin: datetime = BEGIN
) -> Iterator[tuple[str, str, datetime]]:
    """Yield (path, session id, time) of page views spread evenly over the days, in order of time."""
    chance = random.Random(7)
    weights = list(accumulate(1 / (number + 1) for number in range(paths)))
    step = timedelta(days=days) / count
    for number in range(count):
        [page] = chance.choices(range(paths), cum_weights=weights)
        yield path(page), session(int(chance.random() * sessions)), begin + number * step


def store(count: int, *, days: int, pending: bool = False, paths: int = PATHS, begin: datetime = BEGIN) -> None:
    """Store page views, either pending or rolled up with all rollups."""
    from django.db import connection

    from pagestats.models import Calendar, PageView

    Calendar.unguarded.bulk_create([Calendar(pk=Calendar.ROW, zone="UTC")], ignore_conflicts=True)
    table, columns = PageView._meta.db_table, "path, page_type, session_id, timestamp, rolled_up"
    traffic = views(count, days=days, paths=paths, begin=begin)
    rows = ((page, "", who, at, not pending) for page, who, at in traffic)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            statement = f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?)"
            connection.ensure_connection()
            with connection.connection:
                raw = ((page, kind, who, f"{at:%Y-%m-%d %H:%M:%S.%f}", done) for page, kind, who, at, done in rows)
                connection.connection.executemany(statement, raw)
        if not pending:
            for statement in _figures(connection.vendor):
                cursor.execute(statement)
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
        if connection.vendor == "sqlite":
            # Move all rows from the write-ahead log into the database file, as on a site that has run for a while.
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _figures(vendor: str) -> Iterator[str]:
    """Yield the statements that build all rollups from the page views."""
    day = "date(timestamp)" if vendor == "sqlite" else "(timestamp AT TIME ZONE 'UTC')::date"
    for dimension, value in [("site", "''"), ("page", "path")]:
        yield (
            f"CREATE TEMPORARY TABLE visit AS SELECT value, day, views,"
            " LAG(day) OVER (PARTITION BY value, session_id ORDER BY day) AS previous_day"
            f" FROM (SELECT {value} AS value, session_id, {day} AS day, COUNT(*) AS views"
            " FROM pagestats_pageview GROUP BY 1, 2, 3) visited"
        )
        yield (
            "INSERT INTO pagestats_rollup (dimension, value, day, views, visitors, new_visitors)"
            f" SELECT '{dimension}', value, day, SUM(views), COUNT(*), COUNT(*) - COUNT(previous_day)"
            " FROM visit GROUP BY value, day"
        )
        yield (
            "INSERT INTO pagestats_return (dimension, value, previous_day, day, visitors)"
            f" SELECT '{dimension}', value, previous_day, day, COUNT(*)"
            " FROM visit WHERE previous_day IS NOT NULL GROUP BY value, previous_day, day"
        )
        yield "DROP TABLE visit"
    yield (
        "INSERT INTO pagestats_pagetotal (path, views, visitors, first_viewed, last_viewed)"
        " SELECT path, COUNT(*), COUNT(DISTINCT session_id), MIN(timestamp), MAX(timestamp)"
        " FROM pagestats_pageview GROUP BY path"
    )
    yield (
        "INSERT INTO pagestats_visitor (session_id, first_seen, last_day)"
        f" SELECT session_id, MIN(timestamp), MAX({day}) FROM pagestats_pageview GROUP BY session_id"
    )
