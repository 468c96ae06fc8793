"""Read the moment at which stats are read: the instant, the reporting zone and the last seal."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from django.db.models import QuerySet

from pagestats import sql
from pagestats.days import Moment
from pagestats.hits import instant
from pagestats.models import Calendar


def read_moment(at: datetime | None = None) -> Moment:
    """Read the moment of a request or a command, in one statement.

    Args:
        at: the aware datetime of the moment; None is now.
    """
    zone, sealed_before = next(iter(_calendar()), (None, None))
    return Moment(at=instant(at), zone=Calendar.zone_named(zone), sealed_before=sealed_before)


@sql.prepared
def _calendar() -> QuerySet[Any, Any]:
    return Calendar.objects.row().order_by().values_list("zone", "sealed_before")


def reporting_day(at: datetime | None = None) -> date:
    """Return the reporting day of an aware datetime; None is now."""
    return read_moment(at).today
