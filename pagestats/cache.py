"""What Django's cache keeps for a while. A cache that fails is as good as an empty one, and breaks no page."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.cache import cache

logger = logging.getLogger("pagestats")


def kept(keys: Iterable[str]) -> dict[str, Any]:
    """Return what is kept under some keys, without those under which nothing is."""
    try:
        return dict(cache.get_many(keys))
    except Exception as error:  # noqa: BLE001  # each cache has errors of its own
        logger.warning("The cache does not answer, so figures are read anew: %s", error)
        return {}


def keep(values: Mapping[str, Any], *, seconds: int) -> None:
    """Keep values under their keys."""
    try:
        cache.set_many(dict(values), seconds)
    except Exception as error:  # noqa: BLE001  # as above
        logger.warning("The cache does not take figures: %s", error)
