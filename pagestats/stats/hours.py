"""The figures of each hour of a range of few days."""

from __future__ import annotations

from django.db.models import Case, Count, IntegerField, Value, When
from django.utils.translation import gettext as _

from pagestats.dimensions import Key
from pagestats.models import Calendar, PageView
from pagestats.stats.figures import HourFigures
from pagestats.stats.pending import on
from pagestats.stats.refusals import CannotTell
from pagestats.stats.span import Span


def hours_of(key: Key, span: Span) -> tuple[HourFigures, ...]:
    """Count the page views of each hour, pending or not; raise `CannotTell` when some were pruned."""
    begins = list(span.hours)
    until = begins.pop()
    hour = Case(
        *(When(timestamp__lt=end, then=Value(hour)) for hour, end in enumerate([*begins[1:], until])),
        output_field=IntegerField(),
    )
    views = PageView.objects.filter(span.within, on(key)).order_by().annotate(hour=hour).values("hour")
    counts = views.annotate(n=Count("pk"), sessions=Count("session_id", distinct=True))
    counted = {hour: numbers for hour, *numbers in counts.values_list("hour", "n", "sessions")}
    # Asked afterwards: days are sealed before their page views are deleted.
    sealed_before = Calendar.objects.row().values_list("sealed_before", flat=True).first()
    if sealed_before and span.start < sealed_before:
        reason = _(
            "The hours of %(day)s can't be told: page views before %(pruned)s were pruned. Ask for later days, or by"
            " day."
        )
        raise CannotTell(reason % {"day": span.start, "pruned": sealed_before})
    return tuple(
        HourFigures(begin.astimezone(span.zone), *counted.get(hour, (0, 0))) for hour, begin in enumerate(begins)
    )
