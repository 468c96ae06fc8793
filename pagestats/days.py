"""The calendar: reporting days, the instants at which they begin, the years that reports cover. Without a database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)

YEARS = range(1970, 2200)
"""The years that reports cover. Each day has a length of its own, so a longer calendar would cost too much to use."""
EARLIEST, LATEST = datetime(YEARS.start, 1, 2, tzinfo=UTC), datetime(YEARS.stop - 1, 12, 31, tzinfo=UTC)
"""An instant from EARLIEST on and before LATEST is on a day of YEARS in every time zone."""


def day_of(at: datetime, zone: ZoneInfo) -> date:
    """Return the day on which an instant lies in a zone: the last day that has begun.

    Where clocks are put back over midnight, they show the previous date again, but that day does not come back.
    Newfoundland did this at one minute past midnight until 2011.
    """
    local = at.astimezone(zone)
    day = local.date()
    if local.fold and at >= start_of(following := day + DAY, zone):
        return following
    return day


def start_of(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant, in UTC, of a day in a zone."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def nearest_instant(at: datetime) -> datetime:
    """Return a stored instant, clamped to YEARS: plain SQL may have stored one outside of them."""
    return min(max(at, EARLIEST), LATEST - timedelta(microseconds=1))


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When somebody reads the stats, and what the calendar said then.

    Read it once for each request or command with `stats.read_moment` and pass it on, so that all figures of an answer
    are of the same day in the same zone.
    """

    at: datetime
    zone: ZoneInfo
    """The reporting zone."""
    sealed_before: date | None = None
    """Page views of earlier reporting days were pruned. None: none ever were."""

    @property
    def today(self) -> date:
        """The reporting day of the moment."""
        return day_of(self.at, self.zone)
