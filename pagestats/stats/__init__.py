"""The only reader: every figure that is shown anywhere comes from here, pending page views included."""

from pagestats.stats.active import Active, PathCount, active, active_on, active_visitors
from pagestats.stats.figures import DayFigures, Figures, HourFigures, Report, Row
from pagestats.stats.health import Health, Tallied, health
from pagestats.stats.now import PageStat, Snapshot, has_views, snapshot
from pagestats.stats.objects import (
    NoPage,
    Popular,
    popular,
    views_of,
    views_on,
    with_views,
    with_visitors,
)
from pagestats.stats.ranges import MOST_DAYS, MOST_DAYS_BY_HOUR, By, report, reporting_day
from pagestats.stats.refusals import CannotTell, Refused, UnknownPage, stored_path
from pagestats.stats.rows import Order
from pagestats.stats.titled import address, shown_titles

__all__ = [
    "MOST_DAYS",
    "MOST_DAYS_BY_HOUR",
    "Active",
    "By",
    "CannotTell",
    "DayFigures",
    "Figures",
    "Health",
    "HourFigures",
    "NoPage",
    "Order",
    "PageStat",
    "PathCount",
    "Popular",
    "Refused",
    "Report",
    "Row",
    "Snapshot",
    "Tallied",
    "UnknownPage",
    "active",
    "active_on",
    "active_visitors",
    "address",
    "has_views",
    "health",
    "popular",
    "report",
    "reporting_day",
    "shown_titles",
    "snapshot",
    "stored_path",
    "views_of",
    "views_on",
    "with_views",
    "with_visitors",
]
