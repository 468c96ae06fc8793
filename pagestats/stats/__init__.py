"""The only reader: every figure that is shown anywhere comes from here, pending page views included.

Rooms import downwards: counts, span, moments < pending < visitors < seals < summed < hours, rows < ranges.
"""

from pagestats.stats.active import Active, PathCount, active, active_on, active_visitors
from pagestats.stats.all_time import PageStat, Snapshot, Totals, has_views, read_totals, snapshot, tracking_since
from pagestats.stats.counts import DayCounts, HourCounts, RangeCounts, Report, Row, Rows
from pagestats.stats.health import Health, Tallied, health
from pagestats.stats.moments import read_moment, reporting_day
from pagestats.stats.objects import (
    NoPage,
    Popular,
    popular,
    views_of,
    views_on,
    with_views,
    with_visitors,
)
from pagestats.stats.ranges import MOST_DAYS, MOST_DAYS_BY_HOUR, By, report, report_rows
from pagestats.stats.refusals import CannotTell, Reason, Refused, UnknownPage, stored_path
from pagestats.stats.rows import Order
from pagestats.stats.span import year_before
from pagestats.stats.titled import address, shown_titles

__all__ = [
    "MOST_DAYS",
    "MOST_DAYS_BY_HOUR",
    "Active",
    "By",
    "CannotTell",
    "DayCounts",
    "Health",
    "HourCounts",
    "NoPage",
    "Order",
    "PageStat",
    "PathCount",
    "Popular",
    "RangeCounts",
    "Reason",
    "Refused",
    "Report",
    "Row",
    "Rows",
    "Snapshot",
    "Tallied",
    "Totals",
    "UnknownPage",
    "active",
    "active_on",
    "active_visitors",
    "address",
    "has_views",
    "health",
    "popular",
    "read_moment",
    "read_totals",
    "report",
    "report_rows",
    "reporting_day",
    "shown_titles",
    "snapshot",
    "stored_path",
    "tracking_since",
    "views_of",
    "views_on",
    "with_views",
    "with_visitors",
    "year_before",
]
