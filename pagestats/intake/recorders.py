"""Where a hit goes once it was accepted."""

from __future__ import annotations

from typing import Literal, Protocol

from pagestats.hits import Hit
from pagestats.recording import record_heartbeat, record_page_view, record_visit
from pagestats.sql import REQUEST_RETRY_SECONDS
from pagestats.tallies import RECORDED, REPEAT

Outcome = Literal["recorded", "repeat", "not_known_yet"]
"""What became of a page view. Of one that isn't known yet, whatever records it later finds out whether it is a repeat,
and counts that."""

NOT_KNOWN_YET: Outcome = "not_known_yet"


class Recorder(Protocol):
    """What takes a hit. It may record the hit at once, or keep it safe until something else records it."""

    def visit(self, hit: Hit) -> Outcome:
        """Take a page view and a heartbeat at once."""

    def page_view(self, hit: Hit) -> Outcome:
        """Take a page view."""

    def heartbeat(self, hit: Hit) -> None:
        """Take a heartbeat."""


class Immediate:
    """Record a hit before its request is answered. A write that fails on a lock is tried again only for a while."""

    def visit(self, hit: Hit) -> Outcome:
        """Record a page view and a heartbeat."""
        return RECORDED if record_visit(hit, patience=REQUEST_RETRY_SECONDS) else REPEAT

    def page_view(self, hit: Hit) -> Outcome:
        """Record a page view."""
        return REPEAT if record_page_view(hit, patience=REQUEST_RETRY_SECONDS) is None else RECORDED

    def heartbeat(self, hit: Hit) -> None:
        """Record a heartbeat."""
        record_heartbeat(hit, patience=REQUEST_RETRY_SECONDS)


immediate = Immediate()


def choose_recorder() -> Recorder:
    """Return the recorder that this site's hits go to."""
    return immediate
