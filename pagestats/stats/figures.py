"""The figures of a range of reporting days, as values and as JSON has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from pagestats.content import Titled


class DayFigures(NamedTuple):
    """The figures of one reporting day."""

    day: date
    views: int
    visitors: int


class HourFigures(NamedTuple):
    """The figures of one hour of the clock, which begins at an instant in the reporting zone."""

    start: datetime
    views: int
    visitors: int


class Row(NamedTuple):
    """The figures of one value of a dimension: of a page, by its path."""

    value: str
    views: int
    visitors: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """The figures of a range of reporting days, `end` included, and of each of its days.

    None: it can't be told, since the page views that would tell it were pruned.
    """

    start: date
    end: date
    views: int
    visitors: int
    new_visitors: int | None
    days: tuple[DayFigures, ...]

    @property
    def returning_visitors(self) -> int | None:
        """How many visitors had been there before the range."""
        return None if self.new_visitors is None else self.visitors - self.new_visitors

    def written(self, *, lifetime: str) -> dict[str, Any]:
        """Return the figures as JSON has them. Where ids live a day, nobody returns, and no figure pretends it."""
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
class Report(Figures):
    """The figures of a range of reporting days of the site or of one page, and what else was asked for."""

    zone: ZoneInfo
    dimension: str | None
    value: str | None
    hours: tuple[HourFigures, ...]
    rows: tuple[Row, ...]
    total_rows: int
    titles: dict[str, Titled]
    """By the value of each row."""
    reason: str
    """Why the visitors of some rows can't be told, else ""."""
    previous: Figures | None
    year_before: Figures | None

    def written(self, *, lifetime: str) -> dict[str, Any]:
        """Return the report as JSON has it, the titles with their rows."""
        return {
            "lifetime": lifetime,
            "zone": str(self.zone),
            "dimension": self.dimension,
            "value": self.value,
            **Figures.written(self, lifetime=lifetime),
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
