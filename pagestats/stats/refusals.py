"""Why a figure is not given: each message says what to ask instead."""

from __future__ import annotations


class Refused(ValueError):
    """Figures can't be given as they were asked for. The message says why, and what to ask instead."""


class CannotTell(Refused):
    """Page views that would tell the figure were pruned."""


class UnknownPage(Refused):
    """A page is none that readers without the permission may know of, whether there is one or not."""
