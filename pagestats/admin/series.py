"""Views and visitors by day or by hour: as rows of a table, as lines of a chart, and as numbers for its script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any

from django.utils.formats import date_format
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from pagestats import formats
from pagestats.admin.axis import Mark, marks
from pagestats.stats import DayCounts, HourCounts

WIDTH, HEIGHT = 1000, 200
DAYS_WITHOUT_YEAR = 366

Row = DayCounts | HourCounts
NOTHING = ("", "")

NOW = '<th scope="row">{}</th><td class="pagestats-number">{}</td><td class="pagestats-number">{}</td>'
THEN = '<td class="pagestats-then">{}</td><td class="pagestats-number">{}</td><td class="pagestats-number">{}</td>'


@dataclass(frozen=True, kw_only=True)
class Series:
    """Counts of consecutive days or hours, and those of the earlier range that they are compared with, if any."""

    counts: Sequence[Row]
    before: Sequence[Row]
    at: datetime
    """Hours that begin later are left out."""

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The rows of a table: when, views, visitors; and the same of before, if there is any."""
        number = formats.numbers()
        labels = _labels(self.counts)
        now = [(number[row.views], number[row.visitors]) for row in self.begun]
        if not self.before:
            return [(label, *row) for label, row in zip(labels, now, strict=False)]
        before = [
            (label, number[row.views], number[row.visitors])
            for label, row in zip(_labels(self.before), self.before, strict=True)
        ]
        return [
            (label or "", *(there or NOTHING), *(earlier or ("", *NOTHING)))
            for label, there, earlier in zip_longest(labels, now, before)
        ]

    @property
    def table(self) -> SafeString:
        """The rows as HTML: for years of days, a template would take three times as long."""
        return format_html_join("\n", f"<tr>{NOW}{THEN if self.before else ''}</tr>", self.rows)

    @property
    def by_hour(self) -> bool:
        """Whether the counts are of hours, else of days."""
        return isinstance(self.counts[0], HourCounts)

    @property
    def ticks(self) -> list[str]:
        """The labels of the vertical axis, from the top."""
        return [formats.number(value) for value in (self._top, self._top // 2, 0)]

    @property
    def marks(self) -> list[Mark]:
        """The labels of the horizontal axis."""
        return marks(len(self.counts) - 1, self._end, self._texts)

    @property
    def lines(self) -> dict[str, str]:
        """The points of the lines, as SVG has them."""
        return {name: self._points(values) for name, values in self._values.items()}

    @property
    def area(self) -> str:
        """The points of the area below the views."""
        right = (len(self.begun) - 1) * self._step
        return f"0,{HEIGHT} {self._points(self._values['views'])} {right:.1f},{HEIGHT}" if self.begun else ""

    @property
    def script(self) -> dict[str, Any]:
        """The values that the script of the page draws."""
        return {
            **self._values,
            "labels": _labels(self.counts),
            "labels_before": _labels(self.before),
            "top": self._top,
            "thousands": formats.thousands(),
        }

    @property
    def begun(self) -> list[Row]:
        """The days, and those hours that have begun."""
        return [row for row in self.counts if isinstance(row, DayCounts) or row.start <= self.at]

    @property
    def _values(self) -> dict[str, list[int]]:
        begun, before = self.begun, self.before
        return {
            "views": [row.views for row in begun],
            "visitors": [row.visitors for row in begun],
            "views_before": [row.views for row in before],
            "visitors_before": [row.visitors for row in before],
        }

    @property
    def _top(self) -> int:
        """The end of the vertical axis: an even round number, no smaller than the views of any row."""
        most = max((row.views for row in [*self.begun, *self.before]), default=0)
        step = int("1".ljust(len(str(most)), "0"))
        return next(part * step for part in (2, 4, 6, 8, 10) if part * step >= most)

    @property
    def _step(self) -> float:
        return WIDTH / self._end

    @property
    def _end(self) -> int:
        """The number of the point with which the axis ends."""
        return max(len(self.counts) - 1, len(self.before) - 1, 1)

    def _texts(self, rows: Sequence[int]) -> list[str]:
        counts = [self.counts[row] for row in rows]
        if self.by_hour:
            return formats.marks([row.start for row in counts if isinstance(row, HourCounts)])
        form = "MONTH_DAY_FORMAT" if len(self.counts) <= DAYS_WITHOUT_YEAR else "YEAR_MONTH_FORMAT"
        return [date_format(row.day, form) for row in counts if isinstance(row, DayCounts)]

    def _points(self, values: Sequence[int]) -> str:
        step, top = self._step, self._top
        points = [f"{place * step:.1f},{HEIGHT - HEIGHT * value / top:.1f}" for place, value in enumerate(values)]
        return " ".join(points * 2 if len(points) == 1 else points)  # a line to itself is a dot


def _labels(rows: Sequence[Row]) -> list[str]:
    hours = [row.start for row in rows if isinstance(row, HourCounts)]
    return formats.hours(hours) if hours else formats.days_of(row.day for row in rows if isinstance(row, DayCounts))
