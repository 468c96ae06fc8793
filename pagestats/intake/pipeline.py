"""Judge a candidate, hand its hit to a recorder, and count what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from asgiref.sync import sync_to_async

from pagestats.intake.candidates import Candidate, Drop, Kind
from pagestats.intake.recorders import NOT_KNOWN_YET, Outcome, Recorder, choose_recorder
from pagestats.intake.steps import STEPS, Step
from pagestats.tallies import NOT_STORED, tallies, tally


def steps_of(kind: Kind) -> tuple[Step, ...]:
    """Return the steps that a kind of candidate goes through, in order."""
    return tuple(step for step in STEPS if kind in step.kinds)


def _split(steps: Sequence[Step]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Return the steps up to the first that may wait, and the others."""
    brief = tuple(takewhile(lambda step: not step.may_wait, steps))
    return brief, tuple(steps[len(brief) :])


_BRIEF_AND_LONG = {kind: _split(steps_of(kind)) for kind in Kind}


def take(candidate: Candidate, recorder: Recorder | None = None) -> Drop | None:
    """Judge a candidate, and record its hit or return why it was dropped. Count what became of it.

    Args:
        candidate: what arrived.
        recorder: where its hit goes; None is the site's recorder.
    """
    brief, long = _BRIEF_AND_LONG[candidate.kind]
    return _conclude(candidate, _judge(candidate, brief), long, recorder)


async def take_async(candidate: Candidate, recorder: Recorder | None = None) -> Drop | None:
    """Do what `take` does, on an event loop: move to a thread only for what may have to wait."""
    brief, long = _BRIEF_AND_LONG[candidate.kind]
    drop = _judge(candidate, brief)
    if drop is not None and not tallies.due():
        tallies.count(NOT_STORED, drop.reason)
        return drop
    return await sync_to_async(_conclude)(candidate, drop, long, recorder)


def _judge(candidate: Candidate, steps: Sequence[Step]) -> Drop | None:
    for step in steps:
        drop = step.apply(candidate)
        if drop is not None:
            return drop
    return None


def _conclude(candidate: Candidate, drop: Drop | None, steps: Sequence[Step], recorder: Recorder | None) -> Drop | None:
    """Go through the steps that may wait, unless the candidate was dropped before them; then record and count."""
    if drop is None:
        drop = _judge(candidate, steps)
    outcome = _hand_over(candidate, drop, recorder or choose_recorder())
    if drop is not None:
        tally(NOT_STORED, drop.reason)
    elif outcome is not None and outcome != NOT_KNOWN_YET:
        tally(outcome)
    return drop


def _hand_over(candidate: Candidate, drop: Drop | None, recorder: Recorder) -> Outcome | None:
    """Give the hit to the recorder, and return what became of the page view; None if there is none."""
    hit = candidate.hit
    if hit is None:
        return None
    if candidate.kind is Kind.PAGE:
        return recorder.visit(hit)
    if candidate.kind is Kind.HEARTBEAT:
        recorder.heartbeat(hit)
    return recorder.page_view(hit) if drop is None and candidate.reports_view else None
