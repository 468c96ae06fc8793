"""Types of arguments that several commands have."""

from argparse import ArgumentTypeError
from datetime import date


def day(text: str) -> date:
    """Return the day that an argument names; raise `ArgumentTypeError`, which argparse shows, for what is none."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a day, such as 2026-01-31.") from None
