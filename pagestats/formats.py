"""Numbers, days and durations, as the reader's language writes them; and what commands say, which is English."""

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
    """Return a number with its thousands set apart."""
    return number_format(value, force_grouping=True)


def counted(count: int, noun: str) -> str:
    """Return a number of things in English, as commands and logs say it: `counted(1200, "page view")`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """Return a text without what would steer a terminal: anybody can ask for a path."""
    return text if text.isprintable() else ascii(text)[1:-1]


def thousands() -> str:
    """Return what sets thousands apart, for scripts, which know other rules of a language than Django."""
    return number(1000)[1:-3]


def numbers() -> _Numbers:
    """Return what writes many numbers, each of which it writes once."""
    return _Numbers()


class _Numbers(dict[int, str]):
    def __missing__(self, value: int) -> str:
        self[value] = text = number(value)
        return text


def change(now: int, before: int) -> str:
    """Return by how much a figure has grown, "" where nothing was before."""
    if not before:
        return ""
    thousandths = _rounded(1000 * abs(now - before), before)
    if thousandths < 100:
        text = number_format(thousandths / 10, decimal_pos=1)
    else:  # of the whole, or 9.96 would be 10.0
        text = number(_rounded(100 * abs(now - before), before))
    sign = "±" if not thousandths else "+" if now > before else "−"
    return _("%(sign)s%(percent)s %%") % {"sign": sign, "percent": text}


def _rounded(dividend: int, divisor: int) -> int:
    """Return a quotient as the nearest whole number, halves upwards: Django's own formatting cuts digits off."""
    return (2 * dividend + divisor) // (2 * divisor)


def days(start: date, end: date) -> str:
    """Return a range of days."""
    first = date_format(start, "DATE_FORMAT")
    if start == end:
        return first
    return _("%(start)s – %(end)s") % {"start": first, "end": date_format(end, "DATE_FORMAT")}


def days_of(days: Iterable[date]) -> list[str]:
    """Return days, of which there may be thousands."""
    form, language = formats.get_format("DATE_FORMAT"), get_language()
    return [_day(day, form, language) for day in days]


@lru_cache(maxsize=8192)
def _day(day: date, form: str, language: str | None) -> str:
    return formatted(day, form)


def marks(starts: Iterable[datetime]) -> list[str]:
    """Return hours for an axis: where there are several days, a midnight is the day that it begins."""
    starts = list(starts)
    is_one_day = len({start.date() for start in starts}) == 1
    return [date_format(start, "TIME_FORMAT" if is_one_day or start.hour else "MONTH_DAY_FORMAT") for start in starts]


def hours(starts: Iterable[datetime]) -> list[str]:
    """Return hours of the clock, with the day where there are several, and told apart where clocks are put back."""
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
    """Return a duration in words, in the largest unit of which it is a whole number."""
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
