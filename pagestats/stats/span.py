"""A range of reporting days, and the instants at which its days and hours begin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from django.db.models import Case, DateField, F, Q, Value, When
from django.db.models.functions import Cast

from pagestats import sql
from pagestats.days import DAY, Moment, start_of

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Span:
    """A range of reporting days, and the instants at which they begin in the reporting zone."""

    start: date
    end: date
    """The last day, included."""
    zone: ZoneInfo

    @classmethod
    def last(cls, days: int, moment: Moment) -> Span:
        """Return the range of the last so many days, the day of the moment included."""
        return cls(moment.today - (days - 1) * DAY, moment.today, moment.zone)

    @cached_property
    def starts(self) -> list[datetime]:
        """The first instant of each day, and of the day after the last one: not midnight where clocks skip that."""
        days = (self.end - self.start).days + 2
        return [start_of(self.start + number * DAY, self.zone) for number in range(days)]

    @property
    def days(self) -> Iterator[date]:
        """The days, in their order."""
        return (self.start + number * DAY for number in range((self.end - self.start).days + 1))

    @property
    def hours(self) -> Iterator[datetime]:
        """The first instant of each hour of the clock, and that of the day after the last one.

        An hour begins wherever the minutes are 0, and wherever clocks are changed, which some zones do by half an hour.
        """
        at, until = self.starts[0], self.starts[-1]
        while at < until:
            yield at
            local = at.astimezone(self.zone)
            following = at + HOUR - timedelta(minutes=local.minute, seconds=local.second)
            at = self._change(at, following) or following
        yield until

    def _change(self, since: datetime, until: datetime) -> datetime | None:
        """Return, to the second, when clocks are changed between two instants, the later one included."""

        def offset(at: datetime) -> timedelta | None:
            return at.astimezone(self.zone).utcoffset()

        if offset(since) == offset(until):
            return None
        before, after = 0, int((until - since).total_seconds())
        while after - before > 1:
            middle = (before + after) // 2
            if offset(since + timedelta(seconds=middle)) == offset(since):
                before = middle
            else:
                after = middle
        return since + timedelta(seconds=after)

    @property
    def within(self) -> Q:
        """The page views of the range."""
        return Q(timestamp__gte=self.starts[0], timestamp__lt=self.starts[-1])

    @property
    def before(self) -> Q:
        """The page views before it."""
        return Q(timestamp__lt=self.starts[0])

    @property
    def up_to_its_end(self) -> Q:
        """The page views of the range and before it."""
        return Q(timestamp__lt=self.starts[-1])

    def day(self) -> Case:
        """Return the reporting day of a page view as an expression, NULL outside the range.

        No database is asked for a time zone, since MariaDB may know none: consecutive days of 24 hours are computed
        with one offset from UTC, and each day on which clocks are changed gets a branch of its own.
        """
        cases = [When(self.before, then=Value(None, output_field=DateField()))]
        from_utc: timedelta | None = None
        for day, begin, end in zip(self.days, self.starts, self.starts[1:], strict=False):
            if end - begin != DAY:
                from_utc = None
                cases.append(When(timestamp__lt=end, then=Cast(Value(day), DateField())))
                continue
            if from_utc is None:
                from_utc = datetime.combine(day, time(), UTC) - begin
            else:
                cases.pop()
            cases.append(When(timestamp__lt=end, then=sql.ShiftedDay(F("timestamp"), from_utc)))
        return Case(*cases, output_field=DateField())

    def previous(self) -> Span:
        """Return the range of as many days before this one."""
        return Span(self.start - (self.end - self.start) - DAY, self.start - DAY, self.zone)

    def year_before(self) -> Span:
        """Return the same range a year before."""
        return Span(year_before(self.start), year_before(self.end), self.zone)


def year_before(day: date) -> date:
    """Return the same day a year before; for 29 February it is 28 February."""
    last = 28 if (day.month, day.day) == (2, 29) else day.day
    return day.replace(year=day.year - 1, day=last)
