"""The figures of a range of days, and a count of the page views themselves to compare them with."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from pagestats.days import DAY
from pagestats.models import Calendar, PageTotal, PageView, Return, Rollup, Visitor
from pagestats.stats import (
    DayCounts,
    Row,
    report,
)
from tests import oracle
from tests.factories import HOUR

PATHS = ["/a", "/b", "/é"]
SESSIONS = ["s", "t", "u"]


def days_of(start, end):
    return [start + number * DAY for number in range((end - start).days + 1)]


def counted(views, zone, start, end, path=None):
    """Count the figures of a range by their definitions: views, visitors, new visitors, and the days."""
    days = defaultdict(list)
    first = {}
    for view in views:
        if path in (None, view.path):
            day = oracle.reporting_day(view.timestamp, zone)
            days[day].append(view.session_id)
            first[view.session_id] = min(day, first.get(view.session_id, day))
    within = [(day, days[day]) for day in days_of(start, end)]
    visitors = {session_id for _, sessions in within for session_id in sessions}
    return (
        sum(len(sessions) for _, sessions in within),
        len(visitors),
        sum(start <= first[session_id] for session_id in visitors),
        tuple(DayCounts(day, len(sessions), len(set(sessions))) for day, sessions in within),
    )


def counted_pages(views, zone, start, end):
    """Count (path, views, visitors) of a range, most viewed first."""
    rows = [(path, *counted(views, zone, start, end, path)[:2]) for path in {view.path for view in views}]
    return tuple(sorted((Row(*row) for row in rows if row[1]), key=lambda row: (-row.views, row.value)))


def told(figures):
    return figures.views, figures.visitors, figures.new_visitors, figures.days


def store(views, zone):
    """Store page views, those that are rolled up with all that is derived of them."""
    PageView.objects.bulk_create(
        PageView(
            path=view.path, session_id=view.session_id, timestamp=view.timestamp, rolled_up=view.rolled_up, page_type=""
        )
        for view in views
    )
    derived = oracle.expected_rollups([view for view in views if view.rolled_up], zone)
    Calendar.unguarded.create(pk=Calendar.ROW, zone=zone)
    Visitor.unguarded.bulk_create(Visitor(key, *seen) for key, seen in derived.visitors.items())
    PageTotal.unguarded.bulk_create(PageTotal(key, *figures) for key, figures in derived.page_totals.items())
    Rollup.unguarded.bulk_create(Rollup(*key, *figures) for key, figures in derived.rollups.items())
    Return.unguarded.bulk_create(Return(*key, visitors) for key, visitors in derived.returns.items())


def begin_of(day, zone):
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


@st.composite
def some_views(draw, *, begin, days):
    """Draw page views of a few sessions, at quarters of hours and just before them, and some of them pending."""
    quarters = st.integers(0, days * 96 + 8)
    hits = st.tuples(st.sampled_from(PATHS), st.sampled_from(SESSIONS), quarters, st.booleans(), st.booleans())
    return [
        oracle.View(path, "", session_id, begin + number * HOUR / 4 - is_before * timedelta(microseconds=1), rolled_up)
        for path, session_id, number, is_before, rolled_up in draw(st.lists(hits, max_size=14))
    ]


DAYS = 4
ZONES = {
    "Asia/Kathmandu": date(2026, 3, 28),
    "Europe/Berlin": date(2026, 3, 27),  # the third day has 23 hours
    "Australia/Lord_Howe": date(2026, 4, 3),  # the third day has 24 and a half
}


ORDERS = {f"{sign}{column}": attrgetter(column) for sign in ("", "-") for column in ("views", "visitors", "value")}


def compare_with_a_count(views, zone, ranges):
    with oracle.rolled_back():
        store(views, zone)
        for start, end in ranges:
            site = report(start, end, dimension="page")
            assert told(site) == counted(views, zone, start, end)
            assert site.rows == counted_pages(views, zone, start, end)
            assert (site.total_rows, site.reason) == (len(site.rows), "")
            for order, key in ORDERS.items():
                ranked = sorted(sorted(site.rows), key=key, reverse=order.startswith("-"))
                # Equal ones follow by path, whichever way the others go.
                ranked = [row for _, rows in groupby(ranked, key) for row in sorted(rows)]
                assert list(report(start, end, dimension="page", order=order, limit=2).rows) == ranked[:2]
            page = report(start, end, dimension="page", value="/a")
            assert told(page) == counted(views, zone, start, end, "/a")
