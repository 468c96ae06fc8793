"""The figures at first glance, with what they were before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from django.utils.translation import gettext as _

from pagestats import identity
from pagestats.admin.reading import Reading
from pagestats.conf import conf
from pagestats.formats import change, days, number, span
from pagestats.stats import Active, RangeCounts


class Change(NamedTuple):
    """How a figure compares with that of an earlier range."""

    percent: str
    direction: str
    """"up", "down" or "same"."""
    before: str


class Card(NamedTuple):
    """A figure that is to be seen at first glance."""

    label: str
    figure: str
    note: str = ""
    changes: tuple[Change, ...] = ()
    live: str = ""
    """What the script of the page calls the figure that it keeps up to date."""


def cards(reading: Reading, now: Active, *, views: int) -> Iterator[Card]:
    """Yield the figures of the site or of one page; `views` are those of all time."""
    lives_a_day = identity.lifetime() == "day"
    yield _active_now(now)
    yield _card(_("Page views"), reading, "views", _of_all_time(views))
    yield _card(
        identity.visitors_label(), reading, "visitors", _("counted once a day") if lives_a_day else _("in these days")
    )
    if not lives_a_day:
        yield _card(_("New visitors"), reading, "new_visitors", _("never seen before"))
        yield _card(_("Returning visitors"), reading, "returning_visitors", _("seen before these days"))


def cards_without_visitors(of_period: int, now: Active, *, views: int) -> Iterator[Card]:
    """Yield the figures of a page whose visitors can't be told: its views of a period, and those of all time."""
    yield _active_now(now)
    yield Card(_("Page views"), number(of_period), _of_all_time(views))


def _active_now(now: Active) -> Card:
    minutes = span(conf.SESSION_TIMEOUT)
    return Card(_("Active now"), number(now.visitors), _("in the last %(span)s") % {"span": minutes}, live="visitors")


def _of_all_time(views: int) -> str:
    if not views:
        return _("none was counted yet")
    return _("%(views)s since tracking began") % {"views": number(views)}


def _card(label: str, reading: Reading, name: str, note: str) -> Card:
    figure = getattr(reading.told, name)
    if figure is None:
        return Card(label, "–", _("can’t be told: page views were pruned"))
    changes = [_change(figure, figures, name, is_fair=reading.is_fair) for figures in reading.earlier]
    return Card(label, number(figure), note, changes=tuple(change for change in changes if change))


def _change(now: int, figures: RangeCounts, name: str, *, is_fair: bool) -> Change | None:
    before: int | None = getattr(figures, name)
    if before is None:
        return None
    direction = "up" if now > before else "down" if now < before else "same"
    was = _("%(count)s from %(days)s") % {"count": number(before), "days": days(figures.start, figures.end)}
    return Change(change(now, before) if is_fair else "", direction, was)
