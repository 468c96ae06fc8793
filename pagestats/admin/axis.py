"""The horizontal axis of a chart: which of its points have a name below them, and on how wide an axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from unicodedata import east_asian_width

PARTS = 4
# In rem, as admin.css sets the marks: one character at most, one of East Asia, what is free between two marks, and the
# widths of the axis from which on admin.css shows what has no room on a narrower one.
CHARACTER, WIDE_CHARACTER, GAP = 0.47, 0.75, 0.375
ROOMS = (12, 15, 16, 17, 18, 20, 24, 28, 33, 40, 48, 57, 68)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A text at the axis, below the point that it is about."""

    x: str
    """How far from the left it is, as SVG has it."""
    text: str
    room: str = ""
    """The class of one that is shown only where there is room; "" for the first and the last."""


def marks(last: int, end: int, texts_of: Callable[[Sequence[int]], list[str]]) -> list[Mark]:
    """Return the marks of some points: of the two ends and, at equal steps between them, of those that have room.

    Where not all have, the middle one may have.

    Args:
        last: the number of the last point; the first is 0.
        end: the number of the point with which the axis ends, which may be a later one.
        texts_of: gives points their texts.
    """
    step = max((last + 1) // PARTS, 1)
    # The end has no neighbour that is much nearer than the others are to one another.
    steps = [point for point in range(step, last, step) if 2 * (last - point) > step]
    points = sorted({0, *steps, last})
    texts = dict(zip(points, texts_of(points), strict=True))
    rooms: dict[int, int | None] = dict.fromkeys(steps, _room(texts, end))
    if steps:
        middle = min(steps, key=lambda point: abs(2 * point - last))
        rooms[middle] = _room({point: texts[point] for point in (0, middle, last)}, end)
    return [
        Mark(
            x=f"{100 * point / end:.2f}%",
            text=text,
            room=f"pagestats-from-{rooms[point]}" if point in rooms else "",
        )
        for point, text in texts.items()
        if rooms.get(point, 0) is not None
    ]


def _room(texts: Mapping[int, str], end: int) -> int | None:
    """Return the least of `ROOMS` in which no text touches the next; None where one does in all of them.

    The first begins at its point, the last ends there, and the others have it in their middle.
    """
    first, last = min(texts), max(texts)
    widths = {point: _width(text) * (1 if point in (first, last) else 0.5) for point, text in texts.items()}
    wanted = [(widths[left] + GAP + widths[right]) / ((right - left) / end) for left, right in pairwise(texts)]
    return next((room for room in ROOMS if room >= max(wanted, default=0)), None)


def _width(text: str) -> float:
    """Return how wide a text is at most, in rem."""
    return sum(WIDE_CHARACTER if east_asian_width(character) in "WF" else CHARACTER for character in text)
