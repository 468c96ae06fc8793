"""The guard around recording: a page matters more than its statistics."""

from __future__ import annotations

import logging
from types import TracebackType

from pagestats.tallies import FAILED, tallies

logger = logging.getLogger("pagestats")


class Guard:
    """Log and count whatever fails in a `with` block, and continue after the block.

    Args:
        message: what to log, with the error.
        arguments: the values for the message.
    """

    def __init__(self, message: str, *arguments: object) -> None:
        self.message = message
        self.arguments = arguments

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Return whether an error is dealt with: every one but the end of the process."""
        if not isinstance(error, Exception):
            return False
        logger.error(self.message, *self.arguments, exc_info=error)
        tallies.count(FAILED, type(error).__name__)
        return True
