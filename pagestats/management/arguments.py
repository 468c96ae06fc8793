"""Arguments that several commands share."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import date

from pagestats.conf import LARGEST_BATCH
from pagestats.rollups import chunk_size


def day(text: str) -> date:
    """Parse a day such as 2026-01-31; raise `ArgumentTypeError`, which argparse shows, if it isn't one."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date. Write it like 2026-01-31.") from None


def add_batch_size(parser: ArgumentParser, *, default: str = "500") -> None:
    """Declare --batch-size. It is None unless given; `default` is what the help says about that."""
    parser.add_argument(
        "--batch-size",
        type=_batch_size,
        metavar="N",
        help=f"Page views per chunk, from 1 to {LARGEST_BATCH:,} (default: {default}).",
    )


def _batch_size(text: str) -> int:
    try:
        return chunk_size(int(text))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a number from 1 to {LARGEST_BATCH:,}.") from None
