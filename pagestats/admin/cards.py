"""The most important numbers, with what they were before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from django.utils.translation import gettext as _

from pagestats import identity
from pagestats.admin.reports import PeriodReport
from pagestats.conf import conf
from pagestats.formats import change, days, number, span
from pagestats.stats import RangeCounts


class Change(NamedTuple):
    """How a number compares with that of an earlier range."""

    percent: str
    direction: str
    """"up", "down" or "same"."""
    before: str


class Card(NamedTuple):
    """A number at the top of the page."""

    label: str
    figure: str
    note: str = ""
    changes: tuple[Change, ...] = ()
    live: str = ""
    """The name by which the script of the page finds the number to update; "" for one that stays."""


def cards(period_report: PeriodReport, active_now: int, *, views: int) -> Iterator[Card]:
    """Yield the cards of the site or of one page.

    Args:
        views: those of all time.
    """
    lives_a_day = identity.lifetime() == "day"
    yield _active_now(active_now)
    yield _card(_("Page views"), period_report, "views", _of_all_time(views))
    yield _card(
        identity.visitors_label(),
        period_report,
        "visitors",
        _("counted once a day") if lives_a_day else _("in this period"),
    )
    if not lives_a_day:
        yield _card(_("New visitors"), period_report, "new_visitors", _("never seen before"))
        yield _card(_("Returning visitors"), period_report, "returning_visitors", _("seen before this period"))


def cards_without_visitors(of_period: int, active_now: int, *, views: int) -> Iterator[Card]:
    """Yield the cards of a page whose visitors aren't available.

    Args:
        of_period: its views in the period.
        views: those of all time.
    """
    yield _active_now(active_now)
    yield Card(_("Page views"), number(of_period), _of_all_time(views))


def _active_now(visitors: int) -> Card:
    minutes = span(conf.SESSION_TIMEOUT)
    return Card(_("Active now"), number(visitors), _("in the last %(span)s") % {"span": minutes}, live="visitors")


def _of_all_time(views: int) -> str:
    if not views:
        return _("none yet")
    return _("%(views)s since tracking began") % {"views": number(views)}


def _card(label: str, period_report: PeriodReport, name: str, note: str) -> Card:
    figure = getattr(period_report.report, name)
    if figure is None:
        return Card(label, "–", _("not available: page views were pruned"))
    changes = [_change(figure, counts, name, is_fair=period_report.is_fair) for counts in period_report.earlier]
    return Card(label, number(figure), note, changes=tuple(change for change in changes if change))


def _change(now: int, counts: RangeCounts, name: str, *, is_fair: bool) -> Change | None:
    before: int | None = getattr(counts, name)
    if before is None:
        return None
    direction = "up" if now > before else "down" if now < before else "same"
    was = _("%(count)s from %(days)s") % {"count": number(before), "days": days(counts.start, counts.end)}
    return Change(change(now, before) if is_fair else "", direction, was)
