"""Values kept in Django's cache for a while. A cache that fails is treated as an empty one, and breaks no page."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.cache import cache

logger = logging.getLogger("pagestats")


def kept(keys: Iterable[str]) -> dict[str, Any]:
    """Return the cached values of some keys, without the keys that have none."""
    try:
        return dict(cache.get_many(keys))
    except Exception as error:  # noqa: BLE001  # each cache has errors of its own
        logger.warning("The cache can't be read, so figures are read from the database: %s", error)
        return {}


def keep(values: Mapping[str, Any], *, seconds: int) -> None:
    """Cache values under their keys."""
    try:
        cache.set_many(dict(values), seconds)
    except Exception as error:  # noqa: BLE001  # as above
        logger.warning("Figures can't be written to the cache: %s", error)
