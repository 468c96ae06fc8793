"""Which range of reporting days the reader picked. Its name, and the days of a custom one, are in the address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import urlencode

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pagestats.days import DAY, YEARS
from pagestats.formats import days
from pagestats.stats import MOST_DAYS, year_before


def last(count: int) -> Callable[[date], tuple[date, date]]:
    """Return a function that gives the last so many days, today included."""
    return lambda today: (today - (count - 1) * DAY, today)


def year(today: date) -> tuple[date, date]:
    """Return the twelve months up to today."""
    return year_before(today) + DAY, today


RANGES: dict[str, tuple[Any, Callable[[date], tuple[date, date]]]] = {
    "today": (gettext_lazy("Today"), last(1)),
    "yesterday": (gettext_lazy("Yesterday"), lambda today: (today - DAY, today - DAY)),
    "7d": (gettext_lazy("7 days"), last(7)),
    "30d": (gettext_lazy("30 days"), last(30)),
    "90d": (gettext_lazy("90 days"), last(90)),
    "12m": (gettext_lazy("12 months"), year),
}
DEFAULT, ALL, CUSTOM = "30d", "all", "custom"


@dataclass(frozen=True, kw_only=True)
class Period:
    """A range of reporting days, `end` included, and how it was picked."""

    name: str
    start: date
    end: date
    today: date
    first_day: date | None
    """The reporting day of the first page view; None before there is any."""
    fault: str = ""
    """Why this is not the period that was asked for; "" if it is."""
    typed: tuple[str, str] | None = None
    """The start and the end date as they were typed, if they are not a range."""

    @property
    def query(self) -> dict[str, str]:
        """The period as parts of an address."""
        custom = {"start": f"{self.start}", "end": f"{self.end}"} if self.name == CUSTOM else {}
        return {"period": self.name, **custom}

    @property
    def fields(self) -> tuple[str, str]:
        """The values of the form: the range, or what was typed and has to be corrected."""
        return self.typed or (f"{self.start}", f"{self.end}")

    @property
    def days(self) -> str:
        """Its first and last day, in words."""
        return days(self.start, self.end)

    @property
    def is_over(self) -> bool:
        """Whether it ended before today."""
        return self.end < self.today

    def links(self, more: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the periods that can be picked with one click.

        Args:
            more: other parts of the address to keep.
        """
        labels = {name: label for name, (label, _) in RANGES.items()} | {ALL: _("All")}
        return [
            {"label": label, "query": urlencode({"period": name, **more}), "is_picked": name == self.name}
            for name, label in labels.items()
        ]


def picked(query: Mapping[str, str], *, today: date, first_day: date | None) -> Period:
    """Return the period that a query names; the last 30 days if it names none, and with a `fault` if it is wrong.

    Args:
        first_day: the reporting day of the first page view, with which "all" begins; None before there is any.
    """
    name = query.get("period") or (CUSTOM if query.get("start") or query.get("end") else DEFAULT)
    fault, typed = "", None
    if name in RANGES:
        start, end = RANGES[name][1](today)
    elif name == ALL:
        start, end = min(max(first_day or today, today - (MOST_DAYS - 1) * DAY), today), today
    elif name == CUSTOM:
        typed = query.get("start", ""), query.get("end", "")
        try:
            start, end = map(date.fromisoformat, typed)
        except ValueError:
            fault = _("Enter a start and an end date, such as 2026-01-31.")
        else:
            fault, end = _fault(start, end, today), min(end, today)
    else:
        fault = _("Unknown period: %(name)s.") % {"name": f"{name:.40}"}
    if fault:
        name = DEFAULT
        start, end = RANGES[name][1](today)
    return Period(
        name=name,
        start=start,
        end=end,
        today=today,
        first_day=first_day,
        fault=fault,
        typed=typed if fault else None,
    )


def _fault(start: date, end: date, today: date) -> str:
    if outside := [day for day in (start, end) if day.year not in YEARS]:
        years = {"day": outside[0], "first": YEARS.start, "last": YEARS.stop - 1}
        return _("%(day)s is outside the years %(first)s to %(last)s. Choose other dates.") % years
    if start > end:
        return _("The start date is after the end date.")
    if start > today:
        return _("The start date is in the future.")
    if (min(end, today) - start).days >= MOST_DAYS:
        return _("The period is longer than ten years. Choose a shorter one.")
    return ""
