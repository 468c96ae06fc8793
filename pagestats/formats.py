"""Format numbers, days and durations in the reader's language, and counts in English for commands and logs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from functools import lru_cache

from django.utils import formats
from django.utils.dateformat import format as formatted
from django.utils.formats import date_format, number_format
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _


def number(value: int) -> str:
    """Return a number with thousands separators."""
    return number_format(value, force_grouping=True)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun in English: `counted(1200, "page view")` is "1,200 page views"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """Return a text with control characters escaped. Anybody can request a path that contains a terminal sequence."""
    return text if text.isprintable() else ascii(text)[1:-1]


def thousands() -> str:
    """Return Django's thousands separator for the active language, since the browser's `Intl` may use another one."""
    return number(1000)[1:-3]


def numbers() -> _Numbers:
    """Return a dict that formats a number on its first look-up and keeps the text, for tables with many numbers."""
    return _Numbers()


class _Numbers(dict[int, str]):
    def __missing__(self, value: int) -> str:
        self[value] = text = number(value)
        return text


def change(now: int, before: int) -> str:
    """Return the change of a count in percent, or "" if it was zero before."""
    if not before:
        return ""
    thousandths = _rounded(1000 * abs(now - before), before)
    if thousandths < 100:
        text = number_format(thousandths / 10, decimal_pos=1)
    else:  # round the original numbers again, or 9.96 would become "10.0"
        text = number(_rounded(100 * abs(now - before), before))
    sign = "±" if not thousandths else "+" if now > before else "−"
    return _("%(sign)s%(percent)s %%") % {"sign": sign, "percent": text}


def _rounded(dividend: int, divisor: int) -> int:
    """Return a quotient rounded to the nearest whole number, halves up. Django's own formatting truncates."""
    return (2 * dividend + divisor) // (2 * divisor)


def days(start: date, end: date) -> str:
    """Return a range of days as text."""
    first = date_format(start, "DATE_FORMAT")
    if start == end:
        return first
    return _("%(start)s – %(end)s") % {"start": first, "end": date_format(end, "DATE_FORMAT")}


def days_of(days: Iterable[date]) -> list[str]:
    """Return the text of each day. There may be thousands, so the date format is read once."""
    form, language = formats.get_format("DATE_FORMAT"), get_language()
    return [_day(day, form, language) for day in days]


@lru_cache(maxsize=8192)
def _day(day: date, form: str, language: str | None) -> str:
    return formatted(day, form)


def marks(starts: Iterable[datetime]) -> list[str]:
    """Return the labels of hours on an axis. If they span several days, midnight shows the date of the new day."""
    starts = list(starts)
    is_one_day = len({start.date() for start in starts}) == 1
    return [date_format(start, "TIME_FORMAT" if is_one_day or start.hour else "MONTH_DAY_FORMAT") for start in starts]


def hours(starts: Iterable[datetime]) -> list[str]:
    """Return hours as text: with the date if there are several days, with the UTC offset if an hour occurs twice."""
    starts = list(starts)
    is_one_day = len({start.date() for start in starts}) == 1
    texts = [
        date_format(start, "TIME_FORMAT") if is_one_day else date_format(start, "SHORT_DATETIME_FORMAT")
        for start in starts
    ]
    return [
        text if texts.count(text) == 1 else f"{text} ({start:%z})" for text, start in zip(texts, starts, strict=True)
    ]


def span(length: timedelta) -> str:
    """Return a duration as text, in the largest unit that divides it evenly."""
    count = round(length.total_seconds())
    if count % 60:
        return ngettext("%(count)s second", "%(count)s seconds", count) % {"count": number(count)}
    count //= 60
    if count % 60:
        return ngettext("%(count)s minute", "%(count)s minutes", count) % {"count": number(count)}
    count //= 60
    if count % 24:
        return ngettext("%(count)s hour", "%(count)s hours", count) % {"count": number(count)}
    count //= 24
    return ngettext("%(count)s day", "%(count)s days", count) % {"count": number(count)}
