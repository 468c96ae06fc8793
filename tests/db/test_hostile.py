"""Five hundred requests that nobody would send by mistake, while the database is up and while it is down."""

import json
import logging
import random
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path, re_path

from pagestats.models import ActiveSession, PageView
from pagestats.tallies import tallies
from tests.agents import CHROME

pytestmark = pytest.mark.slow("a thousand requests")

REQUESTS = 500
VICTIM = "198.51.100.7"
API = "/api/stats/"

PATHS = [
    *("/", "/constructor", "/__proto__", "/a%00b", "/%00", "/%ff%fe", "/%ed%a0%80", "/%f0%9f%99%82", "/..%2f..%2fetc"),
    *("/a%0d%0aSet-Cookie:x=y", "/?x=%00", "//evil.example/", "/<script>alert(1)</script>", "/'; DROP TABLE x; --"),
    *("/" + "long/" * 2000, "/" + "%f0%9f%99%82" * 800, "/admin/", "/" + "a" * 512, "/" + "a" * 513),
]
ADDRESSES = [
    "203.0.113.66",
    "2001:db8::66",
    "::ffff:203.0.113.66",
    "",
    "unix:",
    "garbage",
    "999.1.1.1",
    "1.2.3.4:99999",
]
FORWARDED = [
    *(VICTIM, f"{VICTIM}, 10.0.0.1", f"{VICTIM}," * 1000, "unknown", "_hidden", "\x00", "é" * 50, ",,,,", "-1"),
    *("' OR 1=1 --", "[::1", "fe80::1%eth0", "0x7f.1", "127.1", f"{VICTIM}:0", "for=x"),
]
AGENTS = [CHROME, "", " ", "\xff\xfe", "Mozilla/" + "x" * 10_000, "Googlebot", "a" * 10_000, "(" * 500, "\x00", "é"]
HOSTS = ["testserver", "testserver:99999999", "evil.example", "a b", "[::1", "testserver.", "x" * 300]
BODIES: list[bytes] = [
    *(
        b"",
        b"{",
        b"[]",
        b"null",
        b"NaN",
        b'"x"',
        b"\xff\xfe",
        b"[" * 3000,
        b"{" * 4000,
        b'{"path":' * 400,
        b"x" * 10_240,
    ),
    *(json.dumps({"path": sent}).encode() for sent in PATHS),
    *(json.dumps({"path": sent}).encode() for sent in ({}, [], 7, None, True, "\ud800", "\x00", 1e308, "a" * 4000)),
    *(b'{"path": "/", "path": "/x"}', b'{"path": "/", "session_id": "chosen-by-me-0000"}', b'{"path": "/", "at": 1}'),
]


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("a page")


@pytest.fixture
def site(settings: Any) -> None:
    """A site whose pages need no database, so that what fails can only be ours."""
    urls = ModuleType("urls_of_a_site_without_a_database")
    vars(urls)["urlpatterns"] = [path("api/", include("pagestats.urls")), re_path("", page)]
    settings.ROOT_URLCONF = urls
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.MIDDLEWARE = ["pagestats.middleware.PageViewMiddleware"]
    settings.PAGESTATS_TRUSTED_PROXIES = ["loopback", "private"]  # a socket's peer would be one; none here is
    logging.getLogger("django").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("django").setLevel(logging.NOTSET)


def hostile_requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (method, path, arguments of the client), always the same ones."""
    chance = random.Random(20260314)
    for _ in range(REQUESTS):
        extra: dict[str, Any] = {
            "REMOTE_ADDR": chance.choice(ADDRESSES),
            "HTTP_USER_AGENT": chance.choice(AGENTS + [CHROME] * 5),
            "HTTP_HOST": chance.choice(HOSTS + ["testserver"] * 20),
            "HTTP_X_FORWARDED_FOR": chance.choice(FORWARDED),
        }
        if chance.random() < 0.3:
            extra["HTTP_FORWARDED"] = f"for={chance.choice(FORWARDED)}"
        if chance.random() < 0.2:
            extra["HTTP_SEC_FETCH_DEST"] = chance.choice(["document", "\x00", "x" * 9000])
        if chance.random() < 0.5:
            yield "GET", chance.choice(PATHS), extra
            continue
        extra["HTTP_SEC_FETCH_SITE"] = chance.choice(["same-origin"] * 8 + ["cross-site", "", "\x00"])
        extra["HTTP_ORIGIN"] = chance.choice(
            ["http://testserver", "http://evil.example", "null", "\x00", "http://[::1"]
        )
        extra["data"] = chance.choice(BODIES)
        extra["content_type"] = chance.choice(
            ["application/json"] * 3 + ["text/plain;charset=UTF-8", "text/plain; charset=nonsense", "a/b", ""]
        )
        yield "POST", API + chance.choice(["page-views/", "heartbeats/"]), extra


def send_all() -> tuple[list[int], int]:
    """Send the hostile requests; return the status of each answer, and how many were for the API."""
    client = Client(raise_request_exception=False)
    statuses, to_the_api = [], 0
    for method, target, extra in hostile_requests():
        statuses.append(client.generic(method, target, **extra).status_code)
        to_the_api += method == "POST"
    return statuses, to_the_api


def assert_all_tallied(to_the_api: int) -> None:
    """Check that the middleware has a line for each answer, and the API one for each that it did not record."""
    by_the_middleware = {"method", "status", "no_document", "prefetch", "fragment", "no_store", "excluded"}
    counts = tallies.counts()
    served = sum(count for (_, reason), count in counts.items() if reason in by_the_middleware)
    assert REQUESTS <= sum(counts.values()) <= REQUESTS + to_the_api
    assert served >= to_the_api


@pytest.mark.django_db(transaction=True)
def test_hostile_requests_break_nothing_and_count_for_nobody_else(site: None) -> None:
    Client().get("/", REMOTE_ADDR=VICTIM, headers={"user-agent": CHROME})
    victim = ActiveSession.objects.get()
    tallies.clear()

    statuses, to_the_api = send_all()

    assert set(statuses) <= {200, 204, 400, 403, 404, 411, 413, 415, 429}
    assert_all_tallied(to_the_api)
    assert list(PageView.objects.filter(session_id=victim.session_id).values_list("path", flat=True)) == ["/"]
    assert ActiveSession.objects.get(pk=victim.pk).last_seen == victim.last_seen
    assert PageView.objects.exclude(session_id=victim.session_id).count() > 20
    assert all(len(view.path) <= 512 and "\x00" not in view.path for view in PageView.objects.all())


@pytest.mark.django_db(transaction=True)
def test_hostile_requests_are_answered_while_the_database_is_down(
    site: None, monkeypatch: pytest.MonkeyPatch, expected_errors: Any
) -> None:
    def refuse(self: BaseDatabaseWrapper) -> None:
        raise OperationalError("connection refused")

    connection.close()
    with monkeypatch.context() as down:
        down.setattr(BaseDatabaseWrapper, "connect", refuse)
        statuses, to_the_api = send_all()
    errors = expected_errors()

    assert set(statuses) <= {200, 204, 400, 403, 404, 411, 413, 415, 429, 503}
    assert 500 not in statuses
    assert_all_tallied(to_the_api)
    failed = sum(count for (outcome, _), count in tallies.counts().items() if outcome == "failed")
    assert failed == len(errors) > 50
    assert PageView.objects.count() == 0
