"""The tracker in a real Chromium, on the example site: what it sends from one page.

What is about windows, tabs and settings of the browser is in `test_tracker_tabs.py`. What Chromium cannot be made to do
is put into the page by a script here: it has no Global Privacy Control, and takes every beacon. The CDN is a route.
"""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, Route, expect

from tests.browsing import (
    PATIENCE,
    MakeVisitor,
    Site,
    gunicorn,
    read,
    uvicorn,
)

pytestmark = pytest.mark.parametrize("site", [gunicorn, uvicorn], ids=["gunicorn", "uvicorn"], indirect=True)

HERE, PAGE = "/hello/here/", "/hello/page/"
expect.set_options(timeout=PATIENCE * 1_000)


class Sent:
    """What the tracker of a page sends: where to, and which path it names."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.all: list[tuple[str, dict[str, object]]] = []
        page.on("request", self.note)

    def note(self, request: Request) -> None:
        where = request.url.partition("/hello")[2]
        if request.method == "POST" and where:
            self.all.append((f"/hello{where}", json.loads(request.post_data or "{}")))

    def paths(self, where: str) -> list[object]:
        """Return the paths that were sent to one place."""
        assert self.page.evaluate("1 + 1") == 2  # what it sent before is here by now
        return [body["path"] for place, body in self.all if place == where]


@pytest.fixture
def page(visitor: MakeVisitor) -> Iterator[Page]:
    """A page with JavaScript, in which nothing may go wrong."""
    page = visitor(javascript=True).new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if is_fault(message) else None)
    yield page
    assert wrong == []


def is_fault(message: ConsoleMessage) -> bool:
    """Tell whether the console tells of a fault, other than of what the site refused, which a browser notes there."""
    return message.type == "error" and not message.text.startswith("Failed to load resource")


def views(site: Site) -> dict[str, int]:
    """Return how many page views are stored of each path."""
    with closing(sqlite3.connect(site.database)) as database:
        return dict(database.execute("SELECT path, COUNT(*) FROM pagestats_pageview GROUP BY path"))


def sessions(site: Site) -> int:
    with closing(sqlite3.connect(site.database)) as database:
        [(count,)] = database.execute("SELECT COUNT(DISTINCT session_id) FROM pagestats_pageview").fetchall()
        return int(count)


def kept(page: Page, path: str, *, change: str = "") -> None:
    """Have a path answered by something that keeps its page since long ago, as a CDN would."""
    fresh = page.request.get(path, headers={"user-agent": "robot"})
    body = re.sub(r'data-rendered="\d+"', f'data-rendered="1000000000000"{change}', fresh.text())
    headers = {"content-type": "text/html", "content-security-policy": "default-src 'self'"}
    page.route(f"**{path}", lambda route: route.fulfill(body=body, headers=headers))


def test_middleware_and_tracker_count_a_session_once(page: Page, site: Site) -> None:
    sent = Sent(page)
    with page.expect_response(f"**{HERE}") as beat:
        read(page, "/first")
    assert beat.value.status == 204
    with page.expect_response(f"**{PAGE}") as view:
        page.evaluate("history.pushState({}, '', '/about')")
    assert view.value.status == 204
    page.evaluate("history.replaceState({}, '', '/about?page=2')")  # the same page
    with page.expect_response(f"**{PAGE}"):
        page.go_back()
    assert sent.paths(PAGE) == ["/about", "/first"]
    page.reload()
    with page.expect_response(f"**{PAGE}"):
        page.evaluate("history.pushState({}, '', '/no/page/of/this/site')")
    assert (views(site), sessions(site)) == ({"/first": 1, "/about": 1}, 1)


def test_the_tracker_counts_a_cached_page_under_a_strict_policy(page: Page, site: Site) -> None:
    kept(page, "/first")
    for _ in range(2):
        with page.expect_response(f"**{HERE}"):
            page.goto("/first")
    assert views(site) == {"/first": 1}
    page.unroute("**/first")
    read(page, "/first")
    assert (views(site), sessions(site)) == ({"/first": 1}, 1)


def test_what_it_tells_goes_to_the_site_whatever_the_page_says_its_base_is(page: Page, site: Site) -> None:
    fresh = page.request.get("/first", headers={"user-agent": "robot"})
    body = fresh.text().replace("</script>", '</script><base href="https://elsewhere.example/">', 1)
    page.route("**/first", lambda route: route.fulfill(body=body, headers={"content-type": "text/html"}))
    with page.expect_request(f"**{HERE}") as beat:
        page.goto("/first")
    assert beat.value.url == f"{site.url}{HERE}"


def test_a_page_without_javascript_is_counted_and_sends_nothing(site: Site, visitor: MakeVisitor) -> None:
    without = visitor().new_page()
    asked: list[str] = []
    without.on("request", lambda request: asked.append(request.url.removeprefix(site.url)))
    read(without, "/first", "/about")
    assert {url for url in asked if url.startswith("/hello/")} <= {"/hello/page.js"}
    assert views(site) == {"/first": 1, "/about": 1}


def test_what_is_behind_the_hash_is_another_page_where_the_site_says_so(page: Page) -> None:
    sent = Sent(page)
    kept(page, "/first", change=' data-hash="1"')
    with page.expect_response(f"**{HERE}"):
        page.goto("/first#/one")
    with page.expect_response(f"**{PAGE}"):
        page.evaluate("location.hash = '/two'")
    assert sent.paths(PAGE) == ["/first#/two"]
    # The page that was opened counts as the server would have it, and from then on with what is behind the hash.
    assert sent.paths(HERE) == ["/first", "/first#/two"]
    page.unroute("**/first")
    page.goto("/about#one")
    page.evaluate("location.hash = 'two'")
    assert sent.paths(PAGE) == ["/first#/two"]


def test_a_browser_that_takes_no_beacon_sends_all_the_same(page: Page, site: Site) -> None:
    page.add_init_script("Navigator.prototype.sendBeacon = () => false")
    with page.expect_response(f"**{HERE}") as beat:
        page.goto("/first")
    with page.expect_response(f"**{PAGE}") as view:
        page.evaluate("history.pushState({}, '', '/about')")
    assert (beat.value.status, view.value.status) == (204, 204)
    assert views(site) == {"/first": 1, "/about": 1}


@pytest.mark.parametrize("is_blocked", [False, True], ids=["storage", "no storage"])
def test_the_browser_keeps_an_id_where_the_site_asks_it_to(page: Page, is_blocked: bool) -> None:
    sent = Sent(page)
    kept(page, "/first", change=' data-session="1"')
    if is_blocked:
        page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('blocked') } })")

    def take(route: Route) -> None:
        route.fulfill(status=204)  # the example site takes no id

    page.route("**/hello/*/", take)
    for _ in range(2):
        with page.expect_request(f"**{HERE}"):
            page.goto("/first")
    ids = [str(body["session_id"]) for _, body in sent.all]
    assert all(re.fullmatch(r"[A-Za-z0-9._~-]{16,64}", session) for session in ids)
    assert [(place, body["rendered"]) for place, body in sent.all] == 2 * [(HERE, 1)]  # which counts the view
    assert len(set(ids)) == (2 if is_blocked else 1)


@pytest.mark.parametrize("wish", ["doNotTrack", "globalPrivacyControl"])
def test_who_asks_not_to_be_counted_sends_nothing_where_the_site_grants_it(page: Page, wish: str) -> None:
    sent = Sent(page)
    value = {"doNotTrack": "'1'", "globalPrivacyControl": "true"}[wish]
    page.add_init_script(f"Object.defineProperty(Navigator.prototype, '{wish}', {{ get: () => {value} }})")
    with page.expect_request(f"**{HERE}"):
        page.goto("/first")  # the site has granted nothing
    kept(page, "/first", change=' data-gpc="1" data-dnt="1"')
    count = len(sent.all)
    page.goto("/first")
    assert len(sent.all) == count
