"""The answers of `report`: counts of ranges, days, hours and rows, as values and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from pagestats.content import Titled


class DayCounts(NamedTuple):
    """The counts of one reporting day."""

    day: date
    views: int
    visitors: int


class HourCounts(NamedTuple):
    """The counts of one hour of the clock."""

    start: datetime
    """When it begins, in the reporting zone."""
    views: int
    visitors: int


class Row(NamedTuple):
    """The counts of one value of a dimension, such as a page."""

    value: str
    views: int
    visitors: int | None
    """None: not available, because page views were pruned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Values of a dimension in a range, with their titles."""

    rows: tuple[Row, ...] = ()
    total_rows: int = 0
    titles: dict[str, Titled] = field(default_factory=dict)
    """By the value of each row."""
    reason: str = ""
    """Why the visitors of some rows aren't available, else ""."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RangeCounts:
    """The counts of a range of reporting days, `end` included, and of each of its days."""

    start: date
    end: date
    views: int
    visitors: int
    new_visitors: int | None
    """None: not available, because page views were pruned."""
    days: tuple[DayCounts, ...]
    hours: tuple[HourCounts, ...] = ()
    """Empty unless they were asked for."""

    @property
    def returning_visitors(self) -> int | None:
        """How many visitors had been there before the range."""
        return None if self.new_visitors is None else self.visitors - self.new_visitors

    def written(self, *, lifetime: str) -> dict[str, Any]:
        """Return the counts as JSON has them, without the hours.

        Args:
            lifetime: of session ids, as `identity.lifetime` returns it. Where ids live for a day, nobody can be
                recognised as a returning visitor, so there is no such number.
        """
        return {
            "start": self.start,
            "end": self.end,
            "views": self.views,
            "visitors": self.visitors,
            "new_visitors": self.new_visitors,
            "returning_visitors": None if lifetime == "day" else self.returning_visitors,
            "days": [day._asdict() for day in self.days],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Report(RangeCounts):
    """The counts of a range of reporting days, of the site or of one value, and what else was asked for."""

    zone: ZoneInfo
    dimension: str | None
    value: str | None
    rows: tuple[Row, ...]
    total_rows: int
    titles: dict[str, Titled]
    """By the value of each row."""
    reason: str
    """Why the visitors of some rows aren't available, else ""."""
    previous: RangeCounts | None
    year_before: RangeCounts | None

    def written(self, *, lifetime: str) -> dict[str, Any]:
        """Return the report as JSON has it, each title in its row."""
        return {
            "lifetime": lifetime,
            "zone": str(self.zone),
            "dimension": self.dimension,
            "value": self.value,
            **RangeCounts.written(self, lifetime=lifetime),
            "hours": [hour._asdict() for hour in self.hours],
            "rows": [
                {
                    "value": row.value,
                    **self.titles[row.value]._asdict(),
                    "views": row.views,
                    "visitors": row.visitors,
                }
                for row in self.rows
            ],
            "total_rows": self.total_rows,
            "reason": self.reason,
            "previous": self.previous and self.previous.written(lifetime=lifetime),
            "year_before": self.year_before and self.year_before.written(lifetime=lifetime),
        }
