"""Arguments that several commands have."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import date

from pagestats.conf import LARGEST_BATCH
from pagestats.rollups import chunk_size


def day(text: str) -> date:
    """Return the day that an argument names; raise `ArgumentTypeError`, which argparse shows, for what is none."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a day, such as 2026-01-31.") from None


def add_batch_size(parser: ArgumentParser, *, default: str = "500") -> None:
    """Declare --batch-size, which is None unless it is given; `default` says what that means."""
    parser.add_argument(
        "--batch-size",
        type=_batch_size,
        metavar="N",
        help=f"Page views a chunk, 1 to {LARGEST_BATCH:,} (default: {default}).",
    )


def _batch_size(text: str) -> int:
    try:
        return chunk_size(int(text))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a number from 1 to {LARGEST_BATCH:,}.") from None
