import logging
import time
from ipaddress import ip_address
from threading import Thread

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from pagestats.identity import addresses
from pagestats.identity.addresses import client_address, explain

CLIENT = "203.0.113.7"
OTHER = "198.51.100.9"
HEADERS = {"forwarded_for": "HTTP_X_FORWARDED_FOR", "forwarded": "HTTP_FORWARDED"}


@pytest.fixture(autouse=True)
def warned_of_nothing_yet(monkeypatch):
    monkeypatch.setattr(addresses, "_warned", addresses.Lock())


def a_meta(*, peer="127.0.0.1", **headers):
    return {"REMOTE_ADDR": peer, **{HEADERS[name]: header for name, header in headers.items()}}


def client(**changes):
    request = RequestFactory().get("/")
    request.META |= a_meta(**changes)
    address = client_address(request)
    return None if address is None else str(address)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "pagestats"]


# The peer


@pytest.mark.parametrize("peer", [CLIENT, "2001:db8::1", "127.0.0.1", "10.1.2.3", "::1"])
def test_without_a_header_the_client_is_the_peer(peer):
    assert client(peer=peer) == peer


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("::ffff:203.0.113.7", CLIENT),
        ("fe80::1%eth0", "fe80::1"),
        ("203.0.113.7:5678", CLIENT),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_an_address_is_one_however_it_is_written(peer, address):
    assert client(peer=peer) == address
    assert client(forwarded_for=peer) == address
    assert client(forwarded=f'for="{peer}"') == address


@pytest.mark.parametrize(
    "peer", ["not an address", "1.2.3.4.5", "1.2.3.4:", "1.2.3.4:99999999", "[::1", "é", "\ud800", " "]
)
def test_a_peer_that_is_no_address_has_none_and_is_not_believed(peer):
    assert client(peer=peer, forwarded_for=CLIENT) is None


@pytest.mark.parametrize("peer", ["", "unix:", None])
def test_behind_a_unix_socket_only_a_header_tells_the_client(peer, settings):
    assert client(peer=peer) is None
    assert client(peer=peer, forwarded_for=CLIENT) == CLIENT
    settings.PAGESTATS_TRUSTED_PROXIES = ["loopback"]
    assert client(peer=peer, forwarded_for=CLIENT) is None


def test_a_server_without_a_peer_is_one_on_a_unix_socket():
    request = RequestFactory().get("/", headers={"x-forwarded-for": CLIENT})
    del request.META["REMOTE_ADDR"]
    assert str(client_address(request)) == CLIENT


# Trust


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "10.0.0.1", "172.16.0.1", "172.31.255.255"])
@pytest.mark.parametrize("header", ["forwarded_for", "forwarded"])
def test_what_a_trusted_proxy_says_is_believed(peer, header):
    said = CLIENT if header == "forwarded_for" else f"for={CLIENT}"
    assert client(peer=peer, **{header: said}) == CLIENT


@pytest.mark.parametrize("peer", ["192.168.1.1", "fd00::1", "169.254.169.254", "fe80::1%eth0", "::ffff:10.0.0.1"])
def test_private_and_link_local_peers_are_trusted_too(peer):
    assert client(peer=peer, forwarded_for=CLIENT) == CLIENT


@pytest.mark.parametrize("peer", ["172.15.0.1", "172.32.0.1", "100.64.0.1", "8.8.8.8", "198.51.100.1", "2001:db8::1"])
@pytest.mark.parametrize("said", [{"forwarded_for": CLIENT}, {"forwarded": f"for={CLIENT}"}])
def test_what_anybody_else_says_is_not(peer, said):
    assert client(peer=peer, **said) == peer


def test_a_site_names_its_own_proxies(settings):
    settings.PAGESTATS_TRUSTED_PROXIES = ["198.51.100.0/24", "2001:db8::/32", "192.0.2.1"]
    for peer in ("198.51.100.250", "2001:db8:9::1", "192.0.2.1"):
        assert client(peer=peer, forwarded_for=CLIENT) == CLIENT
    for peer in ("127.0.0.1", "10.0.0.1", "192.0.2.2", ""):
        assert client(peer=peer, forwarded_for=CLIENT) == (peer or None)


def test_a_site_may_trust_nobody(settings):
    settings.PAGESTATS_TRUSTED_PROXIES = []
    assert client(peer="127.0.0.1", forwarded_for=CLIENT) == "127.0.0.1"


# The walk


@pytest.mark.parametrize(
    ("chain", "address"),
    [
        (f"{OTHER}, {CLIENT}", CLIENT),  # the left one is what the client made up
        (f"{CLIENT}, 10.0.0.1", CLIENT),
        (f"{OTHER},{CLIENT},10.0.0.1,127.0.0.1", CLIENT),
        (f"{OTHER}, 10.0.0.9, {CLIENT}", CLIENT),
        (f" , {CLIENT} ,, ", CLIENT),
        (f"{OTHER}, unix:, {CLIENT}, unix:", CLIENT),
        (f"{CLIENT}, garbage", "127.0.0.1"),
        (f"{CLIENT}, garbage, 10.0.0.1", "10.0.0.1"),
        (f"{CLIENT}, unknown", "127.0.0.1"),
        (f"{CLIENT}, _hidden, 10.0.0.1", "10.0.0.1"),
        ("garbage", "127.0.0.1"),
        (", ,", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("10.0.0.5", "10.0.0.5"),  # an intranet
        ("10.0.0.5, 10.0.0.1", "10.0.0.5"),
        ("10.0.0.5, ::1, unix:", "10.0.0.5"),
    ],
)
def test_the_client_is_the_rightmost_that_is_not_trusted(chain, address):
    assert client(forwarded_for=chain) == address
    elements = ", ".join(f'for="{node.strip()}"' if node.strip() else "" for node in chain.split(","))
    assert client(forwarded=elements) == address


def test_behind_a_unix_socket_garbage_leaves_no_address():
    assert client(peer="", forwarded_for=f"{CLIENT}, garbage") is None


def test_an_intranet_that_names_its_proxies_believes_no_client(settings):
    settings.PAGESTATS_TRUSTED_PROXIES = ["loopback", "10.0.0.1"]
    assert client(forwarded_for="10.0.0.9, 10.0.0.5, 10.0.0.1") == "10.0.0.5"


def test_several_lines_of_a_header_are_one_list():
    # As WSGI and ASGI servers hand them on.
    assert client(forwarded_for=f"{OTHER},{CLIENT},10.0.0.1") == CLIENT


# Forwarded, RFC 7239


@pytest.mark.parametrize(
    ("header", "address"),
    [
        # the examples of sections 4, 6 and 7
        ('For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
        ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
        ('for="_gazonk"', "127.0.0.1"),
        ('for="192.0.2.43:47011"', "192.0.2.43"),
        ('for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown', "127.0.0.1"),
        ('for=_hidden, for=_SEVKISEK;by="[2001:db8::1]"', "127.0.0.1"),
        ("by=10.0.0.1;FOR=203.0.113.7 ; proto=https;", CLIENT),
        ("for=203.0.113.7:80", CLIENT),
        ("for=[2001:db8::1]:_port", "2001:db8::1"),
        ("for=2001:db8::1", "2001:db8::1"),
        (r'for="203\.0.113.7"', CLIENT),
        ('for=203.0.113.7;host="a, for=6.6.6.6"', CLIENT),
        (r'for=203.0.113.7;host="a, \"for=6.6.6.6"', CLIENT),
        (r'for=203.0.113.7;host="a, for=\"6.6.6.6\""', CLIENT),
        ('for="203.0.113.7";ext="x;for=6.6.6.6"', CLIENT),
        # what a client left open at the left reaches nothing at the right
        ('for="6.6.6.6, for=203.0.113.7', CLIENT),
        ('for=6.6.6.6, x=", for="203.0.113.7:80"', CLIENT),
        ('for=6.6.6.6, x="\\, for="203.0.113.7:80";host="a.example"', CLIENT),
        # garbage
        ("for=6.6.6.6, proto=https", "127.0.0.1"),
        ("for=6.6.6.6, for=203.0.113.7;for=10.0.0.1", "127.0.0.1"),
        ("for=6.6.6.6, for=", "127.0.0.1"),
        ('for=6.6.6.6, for=""', "127.0.0.1"),
        ("for=6.6.6.6, for =203.0.113.7", "127.0.0.1"),
        ("for=6.6.6.6, x for=203.0.113.7", "127.0.0.1"),
        ("for=6.6.6.6, for=203.0.113.7 x", "127.0.0.1"),
        ('for=6.6.6.6, for="203.0.113.7', "127.0.0.1"),
        ("203.0.113.7", "127.0.0.1"),
        ("for=6.6.6.6, garbage, for=10.0.0.1", "10.0.0.1"),
    ],
)
def test_forwarded_is_read_as_its_standard_says(header, address):
    assert client(forwarded=header) == address


# Both headers


def test_two_headers_that_agree_are_believed():
    assert client(forwarded_for=f"{OTHER}, {CLIENT}", forwarded=f"for={CLIENT}") == CLIENT


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.1", ""])
def test_neither_of_two_headers_that_disagree_is_believed(peer):
    assert client(peer=peer, forwarded_for=CLIENT, forwarded=f"for={OTHER}") == (peer or None)


def test_an_empty_header_is_none():
    assert client(forwarded_for=CLIENT, forwarded=" , ") == CLIENT


# The warning


def test_a_header_of_an_untrusted_peer_warns_once_in_a_process(caplog):
    requests = [{"peer": OTHER, "forwarded_for": CLIENT}, {"peer": "198.51.100.8", "forwarded": f"for={CLIENT}"}] * 3
    threads = [Thread(target=client, kwargs=request) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (record,) = (record for record in caplog.records if record.name == "pagestats")
    assert record.levelno == logging.WARNING


def test_the_warning_tells_the_network_and_nobodys_address(caplog):
    client(peer=OTHER, forwarded_for=CLIENT)
    (message,) = warnings(caplog)
    assert message.startswith("X-Forwarded-For came from 198.51.100.0/24, which is not in PAGESTATS_TRUSTED_PROXIES")
    assert OTHER not in message
    assert CLIENT not in message


def test_the_warning_tells_the_network_of_an_ipv6_peer(caplog):
    client(peer="2001:db8:1:2::3", forwarded=f"for={CLIENT}")
    (message,) = warnings(caplog)
    assert message.startswith("Forwarded came from 2001:db8:1::/48, ")


def test_nothing_is_said_of_what_is_in_order(caplog):
    client(peer=OTHER)
    client(forwarded_for=f"garbage, {CLIENT}")
    client(peer="", forwarded_for=CLIENT)
    client(peer=CLIENT, forwarded_for=f"{OTHER}, {CLIENT}, 10.0.0.1")  # read by the server already
    explain(a_meta(peer=OTHER, forwarded_for=CLIENT))
    assert warnings(caplog) == []


# In words


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        (a_meta(peer=CLIENT), "The client is 203.0.113.7: the peer, which is not a trusted proxy."),
        (
            a_meta(peer=CLIENT, forwarded_for=OTHER),
            "The client is 203.0.113.7: the peer, which is not a trusted proxy. Its X-Forwarded-For is not believed.",
        ),
        (
            a_meta(),
            "The client is 127.0.0.1. The peer is 127.0.0.1 (trusted: loopback), a trusted proxy, but sent neither "
            "X-Forwarded-For nor Forwarded.",
        ),
        (
            a_meta(peer=""),
            "The client has no address. The peer is a Unix socket (trusted: unix), a trusted proxy, but sent neither "
            "X-Forwarded-For nor Forwarded.",
        ),
        (
            a_meta(forwarded_for=f"{OTHER}, {CLIENT}, 10.0.0.3"),
            "The client is 203.0.113.7: the nearest address in X-Forwarded-For that is not a trusted proxy. "
            "The way to it: 127.0.0.1 (trusted: loopback), 10.0.0.3 (trusted: private).",
        ),
        (
            a_meta(peer="unix:", forwarded="for=10.0.0.5"),
            "The client is 10.0.0.5: the farthest address in Forwarded: all of them are trusted. "
            "The way to it: a Unix socket (trusted: unix), 10.0.0.5 (trusted: private).",
        ),
        (
            a_meta(forwarded_for=f"{CLIENT}, <b>"),
            "The client is 127.0.0.1: X-Forwarded-For is believed up to '<b>', which is not an address. "
            "The way to it: 127.0.0.1 (trusted: loopback).",
        ),
        (
            a_meta(forwarded_for=CLIENT, forwarded=f"for={OTHER}"),
            "The client is 127.0.0.1. The headers disagree, so neither is believed. "
            "By X-Forwarded-For: The client is 203.0.113.7: the nearest address in X-Forwarded-For that is not a "
            "trusted proxy. "
            "The way to it: 127.0.0.1 (trusted: loopback). "
            "By Forwarded: The client is 198.51.100.9: the nearest address in Forwarded that is not a trusted proxy. "
            "The way to it: 127.0.0.1 (trusted: loopback).",
        ),
        (a_meta(peer="?"), "The client has no address. The peer is '?': no address, and not trusted."),
    ],
)
def test_the_decision_is_explained_in_words(meta, words):
    assert explain(meta) == words


def test_the_network_that_makes_a_proxy_a_trusted_one_is_told(settings):
    settings.PAGESTATS_TRUSTED_PROXIES = ["198.51.100.0/24"]
    assert "198.51.100.9 (trusted: 198.51.100.0/24)" in explain(a_meta(peer=OTHER, forwarded_for=CLIENT))


# Hostile requests

HOSTILE = [
    "\0",
    "\ud800",
    "\xff\xfe",
    "'; DROP TABLE",
    "1.2.3.4\r\nX-Forwarded-For: 6.6.6.6",
    "," * 10_000,
    "10.0.0.1," * 1_100,
    "6.6.6.6" * 1_500,
    "1" * 10_000,
    ":" * 10_000,
    "[" * 10_000,
    '"' * 10_000,
    ";" * 10_000,
    " " * 10_000,
    "; " * 5_000 + "x",
    ";" + " " * 10_000 + "x",
    'a="' * 3_000,
    ',a="' * 2_500,
    ',a="\\' * 2_000,
    'a=",";' * 1_600 + "x",
    "for=" * 2_500,
    "for=1.2.3.4;" * 900,
    "fe80::1%" + "x" * 10_000,
    "１.２.３.４",
    "0x7f.1",
    "127.1",
    "2130706433",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:12]))
def test_no_header_raises_or_takes_long(text):
    began = time.process_time()
    for meta in (
        a_meta(peer=text),
        a_meta(forwarded_for=text),
        a_meta(forwarded=text),
        a_meta(forwarded=f'for="{text}"'),
    ):
        request = RequestFactory().get("/")
        request.META |= meta
        assert str(client_address(request)) in {"None", "127.0.0.1", "10.0.0.1", "fe80::1", "1.2.3.4"}
        assert explain(meta).startswith("The client ")
    assert time.process_time() - began < 1


NODES = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(
        ["10.0.0.1", "127.0.0.1", "unix:", "unknown", "_x", "", "[::1]:80", "fe80::1%eth0", '"', "for=", ";"]
    ),
    st.text(max_size=5),
)


@given(st.lists(NODES, max_size=6).map(",".join), st.lists(NODES, max_size=6).map(",".join), st.ip_addresses(v=4))
def test_whatever_a_client_writes_at_the_left_the_proxy_is_believed(left, elements, address):
    # The client's own address is appended by the proxy; a trusted one, as on an intranet, is the exception.
    public = f"{address.packed[0] % 50 + 11}.{address.packed[1]}.{address.packed[2]}.{address.packed[3]}"
    assert client(forwarded_for=f"{left}, {public}") == public
    assert client(forwarded=f"{elements}, for={public}") == public
    assert client(forwarded=f'{elements}, for="{public}:80";proto=https') == public


@given(st.text(), st.text(), st.text())
def test_no_text_raises(peer, forwarded_for, forwarded):
    told = client(peer=peer, forwarded_for=forwarded_for, forwarded=forwarded)
    assert told is None or ip_address(told)
