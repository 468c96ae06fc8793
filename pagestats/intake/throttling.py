"""How often one client may ask, counted in Django's cache. Both the tracker's endpoints and the API use it.

A client is the address that the trusted proxies vouch for. DRF's own throttles believe what a client writes into
`X-Forwarded-For`. All clients without an address count as one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from time import time
from typing import NamedTuple

from django.core.cache import cache
from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from pagestats.conf import conf
from pagestats.identity import client_address, client_network

SECONDS = {"s": 1, "min": 60, "h": 3_600, "day": 86_400}


class Limit(NamedTuple):
    """What is limited, and to which rate."""

    name: str
    rate: Callable[[], str]
    """Returns the rate: a number and a period, such as "120/min"."""


REQUESTS = Limit("requests", lambda: conf.THROTTLE)
NEW_PATHS = Limit("new paths", lambda: conf.THROTTLE_NEW_PATHS)
"""Paths without any page view: otherwise a URL pattern that matches everything would let a client fill the tables."""


def count_request(request: HttpRequest, endpoint: str, limit: Limit) -> int:
    """Count a request against a limit of its client and an endpoint.

    Returns:
        0, or, if the client has reached the limit, in how many seconds it may ask again.
    """
    number, _, period = limit.rate().partition("/")
    most, duration = int(number), SECONDS[period]
    key, now = _key(request, endpoint, limit), time()
    earlier: list[float] = [at for at in cache.get(key, ()) if at > now - duration]  # the latest first
    if len(earlier) >= most:
        return ceil(earlier[most - 1] + duration - now)
    cache.set(key, [now, *earlier], duration)
    return 0


def _key(request: HttpRequest, endpoint: str, limit: Limit) -> str:
    """Return a cache key that doesn't reveal the address."""
    address = client_address(request)
    client = f"{limit.name} {endpoint} {address and client_network(address)}"
    return f"pagestats.throttle.{salted_hmac('pagestats.throttle', client, algorithm='sha256').hexdigest()}"
