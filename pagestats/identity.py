"""Who: the session id of a request, without a cookie and without personal data.

The id is an HMAC of the client's address, user agent and host under the salt of the reporting day. It lives one
reporting day: when its salt is gone, nobody can tell whose it was, nor join the ids of two days.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import UTC, date, datetime, time, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from threading import Lock
from typing import NamedTuple

from django.db import router
from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from pagestats import sql
from pagestats.conf import conf
from pagestats.models import PageView, ReportingZone, Salt

SECRET_BYTES = 32
ID_CHARACTERS = 32
IPV6_SITE_BITS = 64


def session_id(request: HttpRequest, *, at: datetime) -> str | None:
    """Return the anonymous session id of a request; None when the client has no address.

    Within the dedup window after midnight an id of yesterday's salt is kept if it was seen in that window, so that a
    reload over midnight is a repeat like any other.
    """
    client = _client(request)
    if client is None:
        return None
    salts = day_salts.at(at)
    today = _digest(salts.today, client)
    if salts.yesterday is not None and at - salts.begin < conf.DEDUP_WINDOW:
        yesterday = _digest(salts.yesterday, client)
        seen = PageView.objects.filter(session_id=yesterday, timestamp__gt=at - conf.DEDUP_WINDOW)
        if seen.exists():
            return yesterday
    return today


def _client(request: HttpRequest) -> bytes | None:
    """Return what sets one client apart from another: its address, the host it asked for, its user agent."""
    try:
        address = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return None
    agent = request.META.get("HTTP_USER_AGENT", "")
    # The agent, which may hold anything, comes last: no other client can be put together with it.
    return "\0".join([_site(address), request.get_host(), agent]).encode(errors="surrogateescape")


def _site(address: IPv4Address | IPv6Address) -> str:
    """Return an address without what changes while its household stays the same: the lower half of IPv6."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{int(address) >> (address.max_prefixlen - IPV6_SITE_BITS):x}"
    return str(address)


def _digest(salt: bytes, client: bytes) -> str:
    key = salted_hmac("pagestats.identity", salt, algorithm="sha256").digest()
    return hmac.new(key, client, hashlib.sha256).hexdigest()[:ID_CHARACTERS]


class DaySalts(NamedTuple):
    """The salts of a reporting day, which lasts from `begin` to `end`, and of the day before it."""

    begin: datetime
    end: datetime
    today: bytes
    yesterday: bytes | None


class DaySaltCache:
    """The salts of the day, read from the database once a day in each process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._salts: DaySalts | None = None

    def at(self, at: datetime) -> DaySalts:
        """Return the salts of the reporting day of an instant; the first to ask on a day makes its salt."""
        salts = self._salts
        if salts is not None and salts.begin <= at < salts.end:
            return salts
        with self._lock:
            self._salts = salts = _read_salts(at)
        return salts

    def clear(self) -> None:
        """Forget the salts: the next one who asks reads them again."""
        self._salts = None


day_salts = DaySaltCache()


def _read_salts(at: datetime) -> DaySalts:
    using = router.db_for_write(Salt)
    zone = ReportingZone.zone_of(ReportingZone.objects.using(using))
    day = at.astimezone(zone).date()

    def begin_of(day: date) -> datetime:
        return datetime.combine(day, time(), zone).astimezone(UTC)

    yesterday, tomorrow = day - timedelta(days=1), day + timedelta(days=1)
    stored = sql.transact(lambda: _stored_salts(day, yesterday, using), using=using)
    return DaySalts(begin_of(day), begin_of(tomorrow), stored[day], stored.get(yesterday))


def _stored_salts(day: date, yesterday: date, using: str) -> dict[date, bytes]:
    """Return the salts of two days. Making today's deletes all older than yesterday's, in the same transaction."""
    salts = Salt.objects.using(using)
    kept = salts.filter(day__in=[day, yesterday])
    stored = {salt.day: bytes(salt.secret) for salt in kept}
    if day not in stored:
        salts.bulk_create([Salt(day=day, secret=secrets.token_bytes(SECRET_BYTES))], ignore_conflicts=True)
        salts.filter(day__lt=yesterday).delete()
        # Another process may have been first; a plain read of this transaction might not show its salt.
        stored = {salt.day: bytes(salt.secret) for salt in sql.current(kept)}
    return stored


class Identified(NamedTuple):
    """Who sent a request."""

    session_id: str | None
    reason: str = ""

    def remember(self, response: object) -> None:
        """Set the cookie where the identity needs one."""


def identify(request: HttpRequest, *, at: datetime, claimed: str | None = None) -> Identified:
    """Return who sent a request."""
    found = session_id(request, at=at)
    return Identified(found, "" if found else "no_address")
