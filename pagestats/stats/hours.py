"""The counts of each hour of a range of few days, from the page views themselves."""

from __future__ import annotations

from typing import Any

from django.db.models import Case, Count, IntegerField, Value, When
from django.utils.translation import gettext_noop

from pagestats.dimensions import Key, named
from pagestats.models import Calendar, PageView
from pagestats.stats.counts import HourCounts
from pagestats.stats.refusals import Reason
from pagestats.stats.span import Span
from pagestats.stats.summed import NO_DAY, ZERO

WERE_PRUNED = gettext_noop(
    "Hours aren't available from %(start)s to %(end)s: page views before %(pruned)s were deleted. Choose later days, or"
    " counts by day."
)

Hours = tuple[HourCounts, ...]


def hours_of(key: Key, spans: list[Span]) -> list[Hours | Reason]:
    """Count the page views of each hour, pending or not, of ranges that follow one another; or return why it can't be.

    The statement reads the calendar, too: days are sealed before their page views are deleted.
    """
    whole = Span(spans[0].start, spans[-1].end, spans[0].zone)
    begins = list(whole.hours)
    until = begins.pop()
    hour = Case(
        *(When(timestamp__lt=end, then=Value(hour)) for hour, end in enumerate([*begins[1:], until])),
        output_field=IntegerField(),
    )
    condition = whole.within & named(key.dimension).counts_for(key.value)
    views: Any = PageView.objects.filter(condition).order_by().annotate(hour=hour).values("hour")
    counts = views.annotate(n=Count("pk"), sessions=Count("session_id", distinct=True))
    calendar: Any = Calendar.objects.row().order_by()
    no_hour = Value(None, output_field=IntegerField())
    rows = counts.values_list("hour", "n", "sessions", NO_DAY).union(
        calendar.values_list(no_hour, ZERO, ZERO, "sealed_before"), all=True
    )
    counted, sealed_before = {}, None
    for hour_number, views_of_hour, sessions, sealed in rows:
        if hour_number is None:
            sealed_before = sealed
        else:
            counted[hour_number] = views_of_hour, sessions
    all_hours = [
        HourCounts(begin.astimezone(whole.zone), *counted.get(number, (0, 0))) for number, begin in enumerate(begins)
    ]
    return [
        Reason(WERE_PRUNED, start=span.start, end=span.end, pruned=sealed_before)
        if sealed_before and span.start < sealed_before
        else tuple(hour for hour in all_hours if span.starts[0] <= hour.start < span.starts[-1])
        for span in spans
    ]
