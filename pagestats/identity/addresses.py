"""The address of the client that sent a request, as far as trusted proxies confirm it.

Each proxy appends the address of its own client to `X-Forwarded-For` (or `Forwarded`, RFC 7239), and passes on what
the client wrote before it. So the list is read from the right, beginning with the peer itself, for as long as the
addresses are trusted proxies.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from threading import Lock
from typing import Any, NamedTuple

from django.http import HttpRequest

from pagestats.conf import conf, proxy_networks

logger = logging.getLogger("pagestats")

Address = IPv4Address | IPv6Address


def client_address(request: HttpRequest) -> Address | None:
    """Return the address of the client that sent a request; None if it has none.

    The client is the peer, unless the peer is in PAGESTATS_TRUSTED_PROXIES: then it is the rightmost address in the
    header that isn't a trusted proxy. An entry that isn't an address ends the list: nothing to its left is believed.

    If all addresses are trusted, the client is the leftmost one, since the clients of an intranet have private
    addresses as its proxies do. There, a client could claim another private address: to prevent that, name each proxy.

    If both headers are present, they must lead to the same client, since a proxy that knows only one of them passes on
    the other one as a client wrote it. If they don't, neither is believed, and the client is the peer.

    A peer over a Unix socket has no address; without a header, its client has none either. An IPv4 address in an IPv6
    address is returned as IPv4, and zones are cut off. The first header from a peer that isn't trusted is logged as a
    warning, once per process.
    """
    seen = _seen(request.META)
    if seen.unbelieved and _warned.acquire(blocking=False):
        logger.warning(
            "%s came from %s, which is not in PAGESTATS_TRUSTED_PROXIES, and was not believed. If that is your proxy, "
            "add its address or network to the setting; if not, a client made it up. Logged once per process.",
            seen.unbelieved,
            _neighbourhood(seen.address),
        )
    return seen.address


IPV6_HOST_BITS = 64


def client_network(address: Address) -> str:
    """Return the network of a client as text: a whole IPv4 address, or the first half of an IPv6 address.

    One client can easily use many IPv6 addresses, but hardly more than one network.
    """
    if isinstance(address, IPv6Address):
        return f"{int(address) >> IPV6_HOST_BITS:x}"
    return str(address)


def explain(request_meta: Mapping[str, Any]) -> str:
    """Return, in words, which client address a request with this META has, and why."""
    return _seen(request_meta).why


# Taken by the first thread that warns, and never released.
_warned = Lock()


class Hop(NamedTuple):
    """One station of a request: the peer, or an entry of a header."""

    text: str
    address: Address | None
    trusted_as: str | None
    """The entry of PAGESTATS_TRUSTED_PROXIES that contains it. A trusted hop without an address is a Unix socket."""

    def __str__(self) -> str:
        name = "a Unix socket" if self.text.startswith(UNIX) else str(self.address or repr(self.text[:60]))
        return f"{name} (trusted: {self.trusted_as})" if self.trusted_as else name


class Seen(NamedTuple):
    """The client's address, and how it was found."""

    address: Address | None
    why: str
    unbelieved: str = ""
    """The header that a peer sent without being trusted."""


def _seen(meta: Mapping[str, Any]) -> Seen:
    trusted = conf.TRUSTED_PROXIES
    peer = _hop(meta.get("REMOTE_ADDR") or UNIX, trusted)
    sent = {name: nodes for name, (key, read) in _HEADERS.items() if (nodes := list(read(meta.get(key, ""))))}
    if peer.trusted_as is None:
        return _of_untrusted(peer, sent)
    if not sent:
        why = "a trusted proxy, but sent neither X-Forwarded-For nor Forwarded"
        return Seen(peer.address, f"{_conclusion(peer.address)}. The peer is {peer}, {why}.")
    ways = [_walk(peer, name, nodes, trusted) for name, nodes in sent.items()]
    if len({way.address for way in ways}) > 1:
        why = " ".join(f"By {name}: {way.why}" for name, way in zip(sent, ways, strict=True))
        return Seen(peer.address, f"{_conclusion(peer.address)}. The headers disagree, so neither is believed. {why}")
    return ways[0]


def _of_untrusted(peer: Hop, sent: Mapping[str, list[str]]) -> Seen:
    """Return the peer itself, whatever it sent."""
    if peer.address is None:
        return Seen(None, f"{_conclusion(None)}. The peer is {peer}: no address, and not trusted.")
    why = f"{_conclusion(peer.address)}: the peer, which is not a trusted proxy."
    for name, nodes in sent.items():
        # A server that has read the header itself, as uvicorn does, already names the client as the peer.
        if peer.address not in map(_address, nodes):
            return Seen(peer.address, f"{why} Its {name} is not believed.", name)
    return Seen(peer.address, why)


def _walk(peer: Hop, name: str, nodes: list[str], trusted: Sequence[str]) -> Seen:
    """Follow the nodes of a header, the nearest first, to the first one that isn't trusted."""
    passed = [peer]
    why = f"the farthest address in {name}: all of them are trusted"
    for node in nodes:
        hop = _hop(node, trusted)
        if hop.trusted_as:
            passed.append(hop)
        elif hop.address:
            return _concluded(hop.address, f"the nearest address in {name} that is not a trusted proxy", passed)
        else:
            why = f"{name} is believed up to {hop}, which is not an address"
            break
    return _concluded(next((hop.address for hop in reversed(passed) if hop.address), None), why, passed)


def _concluded(address: Address | None, why: str, passed: list[Hop]) -> Seen:
    return Seen(address, f"{_conclusion(address)}: {why}. The way to it: {', '.join(map(str, passed))}.")


def _conclusion(address: Address | None) -> str:
    return f"The client is {address}" if address else "The client has no address"


def _neighbourhood(address: Address | None) -> str:
    """Return the network of an address: enough to find out whose proxy it is, without logging anyone's address."""
    kept = 24 if isinstance(address, IPv4Address) else 48
    return str(ip_network(f"{address}/{kept}", strict=False))


UNIX = "unix:"
"""How nginx names a peer over a Unix socket; others leave its address empty."""

# An address with or without a port; the port may be obfuscated: RFC 7239, section 6.
_NODE = re.compile(r"(?:\[(?P<ipv6>[^][]+)\]|(?P<ipv4>[0-9.]+))(?::(?:[0-9]{1,5}|_[\w.-]+))?", re.ASCII)


def _address(node: str) -> Address | None:
    """Return the address of a node; None for garbage, `unknown`, and obfuscated identifiers such as `_hidden`."""
    if found := _NODE.fullmatch(node):
        node = found["ipv6"] or found["ipv4"]
    try:
        address = ip_address(node)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))


def _hop(node: str, trusted: Sequence[str]) -> Hop:
    if node.startswith(UNIX):
        return Hop(node, None, "unix" if "unix" in trusted else None)
    address = _address(node)
    return Hop(node, address, _trusted_as(address, trusted) if address else None)


def _trusted_as(address: Address, trusted: Sequence[str]) -> str | None:
    for entry in trusted:
        if any(address in network for network in proxy_networks(entry)):
            return entry
    return None


def _x_forwarded_for(header: str) -> Iterator[str]:
    """Yield the nodes of X-Forwarded-For, the nearest first. Servers join several such headers with commas."""
    return (node for entry in reversed(header.split(",")) if (node := entry.strip()))


# RFC 7239, section 4, and what many proxies send: spaces around semicolons, ports and IPv6 without quotes.
# All repetitions are possessive, so that rejecting a header never takes long.
_TOKEN = r"[\w!#$%&'*+.^`|~-]++"
_VALUE = r"""(?:[\w!#$%&'*+.^`|~:\[\]-]++|"(?:[^"\\]|\\.)*+")"""
_PAIR = re.compile(rf"({_TOKEN})=({_VALUE})", re.ASCII)
_ELEMENT = re.compile(rf"[ \t]*+(?:{_TOKEN}={_VALUE})?+(?:[ \t]*+;[ \t]*+(?:{_TOKEN}={_VALUE})?+)*+[ \t]*+", re.ASCII)


def _forwarded(header: str) -> Iterator[str]:
    """Yield the nodes of Forwarded, the nearest first; for an element without exactly one node, something else.

    The text is read from the right as well, so a quote that a client left open can't swallow what a proxy appended.
    """
    end = len(header)
    while end > 0:
        start = _start_of_element(header, end)
        if start is None:
            yield "a malformed element"
            return
        nodes = [value for name, value in _PAIR.findall(header, start, end) if name.lower() == "for"]
        if len(nodes) == 1:
            yield _unquoted(nodes[0])
        elif element := header[start:end].strip():
            yield element
        end = start - 1


def _start_of_element(header: str, end: int) -> int | None:
    """Return the start of the shortest element that ends at `end`; None if there is none."""
    start = end + 1
    while start > 0:
        start = header.rfind(",", 0, start - 1) + 1
        if _ELEMENT.fullmatch(header, start, end):
            return start
    return None


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


_HEADERS = {"X-Forwarded-For": ("HTTP_X_FORWARDED_FOR", _x_forwarded_for), "Forwarded": ("HTTP_FORWARDED", _forwarded)}
