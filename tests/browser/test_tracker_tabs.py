"""The tracker in the windows and tabs of a real Chromium, under a strict policy, with threads and with asyncio.

Nothing is made believe here: tabs are hidden, killed, prerendered and kept by Chromium itself, and what arrives is told
by the log of the site.
"""

import json
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.agents import CHROME
from tests.browsing import (
    BROWSER_OPTIONS,
    Site,
    gunicorn,
    served,
    uvicorn,
)
from tests.chromium import DO_NOT_TRACK, NO_SITE_MAY_STORE, Chromium, Preferences, Tab, running, until

HERE, PAGE = "/hello/here/", "/hello/page/"
OPTIONS = [*BROWSER_OPTIONS, f"--user-agent={CHROME}"]
SECOND = 1_000
# The way to this machine is so short that what is not kept alive would arrive, too.
NO_BEACON = """
    const ask = window.fetch;
    navigator.sendBeacon = () => false;
    window.fetch = (url, options) => (options.keepalive ? ask(url, options) : Promise.reject(new Error('lost')));
"""
WITH_A_WORKER = "navigator.serviceWorker.register('/worker.js').then(() => navigator.serviceWorker.ready).then(() => 1)"
WITHOUT_LOCKS = "Object.defineProperty(Navigator.prototype, 'locks', { value: undefined })"

Told = dict[str, object]


@pytest.fixture
def chosen() -> dict[str, str]:
    """What is set otherwise than by default: see `tracked_settings.py`."""
    return {}


@pytest.fixture(params=[gunicorn, uvicorn], ids=["gunicorn", "uvicorn"])
def site(
    request: pytest.FixtureRequest,
    chosen: dict[str, str],
    written_database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    """The tracked site under a server; its log must be free of errors at the end."""
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    database = tmp_path / "example.sqlite3"
    shutil.copy(written_database, database)
    with served(database, tmp_path / "server.log", request.param, "tests.tracked_settings") as site:
        yield site
    log = site.log.read_text()
    assert "Traceback" not in log, log
    assert "not recorded" not in log, log


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    """A Chromium as it comes."""
    with watched(tmp_path, {}) as chromium:
        yield chromium


@contextmanager
def watched(folder: Path, preferences: Preferences) -> Iterator[Chromium]:
    with running(folder / "profile", *OPTIONS, preferences=preferences) as chromium:
        yield chromium


def told(site: Site, to: str = "") -> list[Told]:
    """Return the requests that have arrived, in their order, or those to one place."""
    lines = [line for line in site.log.read_text().splitlines() if line.startswith("told {") and line.endswith("}")]
    all_told = [json.loads(line.removeprefix("told ")) for line in lines]
    return [one for one in all_told if to in ("", one["to"])]


def beats(site: Site) -> Counter[object]:
    """Return how many heartbeats of each path have arrived."""
    return Counter(one["path"] for one in told(site, HERE))


def wait_for(site: Site, path: str, count: int) -> None:
    until(lambda: beats(site)[path] >= count, what=f"{count} heartbeats of {path} have arrived")


def asked(site: Site, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(site.database, timeout=30)) as database, database:
        return database.execute(sql).fetchall()


def views(site: Site) -> dict[object, object]:
    """Return how many page views are stored of each path."""
    rows = asked(site, "SELECT path, COUNT(*) FROM pagestats_pageview GROUP BY path")
    return {row[0]: row[1] for row in rows}


def make_old(site: Site) -> None:
    """Have all that was viewed so far be viewed long ago, so that the next view is no repeat."""
    asked(site, "UPDATE pagestats_pageview SET timestamp = '2026-01-01 00:00:00'")


def nothing_is_wrong(*tabs: Tab) -> None:
    """Hold that no error and no refusal of the policy reached a page."""
    for tab in tabs:
        assert tab.run("window.wrong") == []


def test_a_hidden_tab_is_silent_and_beats_at_once_when_it_is_back(site: Site, chromium: Chromium) -> None:
    first = chromium.tab(f"{site.url}/first?every=1")
    wait_for(site, "/first", 3)
    second = chromium.tab(f"{site.url}/second?every=1")  # in front of the first
    first.wait_until_hidden(True)
    wait_for(site, "/second", 2)
    before = beats(site)["/first"]
    wait_for(site, "/second", 4)
    assert beats(site)["/first"] == before
    first.show()
    second.wait_until_hidden(True)
    wait_for(site, "/first", before + 1)
    nothing_is_wrong(first, second)
    assert views(site) == {"/first": 1, "/second": 1}
    assert asked(site, "SELECT COUNT(*) FROM pagestats_activesession") == [(1,)]


def test_a_page_that_a_script_wrote_anew_is_silent_while_it_is_hidden(site: Site, chromium: Chromium) -> None:
    first = chromium.tab(f"{site.url}/first?every=1")
    wait_for(site, "/first", 2)
    first.run("document.open(); document.write('anew'); document.close()")  # which takes its listeners away
    chromium.tab(f"{site.url}/second?every=1")
    first.wait_until_hidden(True)
    wait_for(site, "/second", 3)
    before = beats(site)["/first"]
    wait_for(site, "/second", 6)
    assert beats(site)["/first"] == before
    first.show()
    wait_for(site, "/first", before + 1)


def test_a_window_that_is_put_away_and_brought_back(site: Site, chromium: Chromium) -> None:
    tab = chromium.tab(f"{site.url}/first")  # whose second heartbeat would be due in ten minutes
    wait_for(site, "/first", 1)
    tab.resize("minimized")
    tab.wait_until_hidden(True)
    assert len(tab.run("window.sent")) == 1
    tab.resize("normal")
    tab.wait_until_hidden(False)
    wait_for(site, "/first", 2)
    nothing_is_wrong(tab)


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_one_of_two_windows_beats_and_the_other_soon_after_its_crash(
    site: Site, chromium: Chromium, locks: bool
) -> None:
    every = 5
    tabs = [chromium.tab(new_window=True) for _ in range(2)]
    for tab, path in zip(tabs, ["/first", "/second"], strict=True):
        if not locks:
            tab.tell("Page.addScriptToEvaluateOnNewDocument", source=WITHOUT_LOCKS)
        tab.open(f"{site.url}{path}?every={every}")
        wait_for(site, path, 1)
    # Each sends one when it is opened; without locks, both may have been due before one heard of the other's.
    at_most = 1 if locks else 2
    until(lambda: sum(beats(site).values()) >= 2 + 2 * at_most, what="one has sent more than the other may")
    beating, waiting = sorted(tabs, key=lambda tab: -len(tab.run("window.sent")))
    sent = len(waiting.run("window.sent"))
    assert sent <= at_most
    nothing_is_wrong(*tabs)
    crashed = time.time() * SECOND
    beating.crash()
    until(lambda: len(waiting.run("window.sent")) > sent, what="the other window has taken over")
    _, _, taken_over = waiting.run("window.sent")[sent]
    assert taken_over - crashed < 2 * every * SECOND
    nothing_is_wrong(waiting)


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_a_page_that_comes_back_out_of_the_browsers_memory_is_a_view(
    site: Site, chromium: Chromium, locks: bool
) -> None:
    tab = chromium.tab()
    if not locks:
        tab.tell("Page.addScriptToEvaluateOnNewDocument", source=WITHOUT_LOCKS)
    tab.open(f"{site.url}/first")
    wait_for(site, "/first", 1)
    tab.run("window.isRemembered = 1")
    tab.open(f"{site.url}/second")
    wait_for(site, "/second", 1)
    make_old(site)
    tab.run("history.back()")
    until(lambda: views(site) == {"/first": 2, "/second": 1}, what="the view has arrived")
    wait_for(site, "/first", 2)
    assert tab.run("window.isRemembered") == 1  # it was not asked for again
    assert len(told(site, "/first")) == 1
    tab.run("history.forward()")
    until(lambda: views(site) == {"/first": 2, "/second": 2}, what="the view has arrived")
    nothing_is_wrong(tab)


@pytest.mark.parametrize("ahead", ["prerender", "prefetch"])
def test_a_page_that_was_asked_for_ahead_counts_once_when_it_is_opened(
    site: Site, chromium: Chromium, ahead: str
) -> None:
    tab = chromium.tab(f"{site.url}/first?{ahead}=/second")
    until(lambda: told(site, "/second"), what="the page was asked for ahead")
    wait_for(site, "/first", 1)
    if ahead == "prerender":
        until(lambda: len(told(site, "/hello/page.js")) >= 1, what="its script may have run")
    assert views(site) == {"/first": 1}
    assert beats(site)["/second"] == 0
    tab.run("location.href = '/second'")
    wait_for(site, "/second", 1)
    until(lambda: views(site) == {"/first": 1, "/second": 1}, what="the view is stored")
    [only] = told(site, "/second")
    assert str(only["purpose"]).startswith("prefetch")
    assert asked(site, "SELECT COUNT(DISTINCT session_id) FROM pagestats_pageview") == [(1,)]


@pytest.mark.parametrize("patience", [0, 2_500], ids=["opened at once", "opened later"])
def test_a_page_that_a_link_prefetched_counts_once_when_it_is_opened(
    site: Site, chromium: Chromium, patience: int
) -> None:
    tab = chromium.tab(f"{site.url}/first")
    link = "Object.assign(document.createElement('link'), { rel: 'prefetch', href: '/second?max-age' })"
    tab.run(f"document.head.append({link})")
    is_there = "performance.getEntriesByType('resource').some(({ name }) => name.endsWith('/second?max-age'))"
    until(lambda: tab.run(is_there), what="the page was asked for ahead")
    tab.run(f"new Promise((done) => setTimeout(done, {patience}))")
    assert views(site) == {"/first": 1}
    tab.open(f"{site.url}/second?max-age")
    until(lambda: views(site) == {"/first": 1, "/second": 1}, what="the view is stored")
    assert len(told(site, "/second")) == 1
    assert asked(site, "SELECT COUNT(DISTINCT session_id) FROM pagestats_pageview") == [(1,)]
    nothing_is_wrong(tab)


def test_a_page_that_a_service_worker_fetched_counts_once(site: Site, chromium: Chromium) -> None:
    tab = chromium.tab(f"{site.url}/first")
    tab.run(WITH_A_WORKER)
    for _ in range(2):
        tab.open(f"{site.url}/second")
    assert tab.run("navigator.serviceWorker.controller !== null")
    wait_for(site, "/second", 2)
    assert views(site) == {"/first": 1, "/second": 1}
    nothing_is_wrong(tab)


def test_a_page_that_was_prerendered_and_not_opened_is_none(site: Site, chromium: Chromium) -> None:
    tab = chromium.tab(f"{site.url}/first?every=1&prerender=/second")
    until(lambda: told(site, "/second"), what="the page was asked for ahead")
    wait_for(site, "/first", 4)
    assert beats(site)["/second"] == 0
    assert views(site) == {"/first": 1}
    nothing_is_wrong(tab)


@pytest.mark.parametrize("beacons", [True, False], ids=["beacons", "fetch"])
def test_a_quick_navigation_loses_no_heartbeat(site: Site, chromium: Chromium, beacons: bool) -> None:
    paths = [f"/p{n}" for n in range(6)]
    tab = chromium.tab()
    leave_at_once = f"""
        const paths = {json.dumps(paths)}, next = paths[paths.indexOf(location.pathname) + 1];
        if (next) document.addEventListener('DOMContentLoaded', () => (location.href = next));
    """
    tab.tell("Page.addScriptToEvaluateOnNewDocument", source=leave_at_once)
    if not beacons:
        tab.tell("Page.addScriptToEvaluateOnNewDocument", source=NO_BEACON)
    tab.tell("Page.navigate", url=f"{site.url}{paths[0]}")
    tab.wait_for(f"{site.url}{paths[-1]}")
    for path in paths:
        wait_for(site, path, 1)
    assert views(site) == dict.fromkeys(paths, 1)
    nothing_is_wrong(tab)


@pytest.mark.parametrize("query", ["lost?", "first?no-store"])
def test_of_what_is_no_page_or_may_be_a_secret_nothing_is_told(site: Site, chromium: Chromium, query: str) -> None:
    secret = chromium.tab(f"{site.url}/{query}")
    secret.run("history.pushState({}, '', '/pushed')")
    assert secret.run("window.sent") == []
    nothing_is_wrong(secret)
    secret.open(f"{site.url}/second")
    wait_for(site, "/second", 1)
    assert {one["path"] for one in [*told(site, HERE), *told(site, PAGE)]} == {"/second"}
    assert views(site) == {"/second": 1}


@pytest.mark.parametrize("way", ["a form", "a service worker"])
def test_a_secret_stays_one_however_it_is_asked_for(site: Site, chromium: Chromium, way: str) -> None:
    tab = chromium.tab(f"{site.url}/second")
    wait_for(site, "/second", 1)
    if way == "a form":
        secret = f"{site.url}/first?no-store"
        tab.run(
            "const form = Object.assign(document.createElement('form'), { method: 'post', action: '/first?no-store' });"
            "document.body.append(form); form.submit()"
        )
        tab.wait_for(secret)
    else:
        tab.run(WITH_A_WORKER)
        tab.open(f"{site.url}/first?no-store")
        assert tab.run("navigator.serviceWorker.controller !== null")
    assert tab.run("window.sent") == []
    tab.open(f"{site.url}/third")
    wait_for(site, "/third", 1)
    assert {*beats(site)} == {"/second", "/third"}
    assert views(site) == {"/second": 1, "/third": 1}


def test_a_frame_is_no_page(site: Site, chromium: Chromium) -> None:
    tab = chromium.tab(f"{site.url}/first?every=1&frame=/second%3Fevery=1")
    wait_for(site, "/first", 3)
    assert len(told(site, "/second")) == 1
    assert set(beats(site)) == {"/first"}
    assert views(site) == {"/first": 1}
    nothing_is_wrong(tab)


def test_a_script_that_is_run_twice_sends_once(site: Site, chromium: Chromium) -> None:
    tab = chromium.tab(f"{site.url}/first")
    again = """
        new Promise((done) => {
            const old = document.querySelector('script'), script = document.createElement('script');
            for (const { name, value } of old.attributes) script.setAttribute(name, value);
            script.onload = done;
            document.head.append(script);
        }).then(() => 'done')
    """
    assert tab.run(again) == "done"
    tab.run("history.pushState({}, '', '/second')")
    wait_for(site, "/second", 1)
    assert [url for url, _, _ in tab.run("window.sent")] == [HERE, PAGE, HERE]
    nothing_is_wrong(tab)


@pytest.mark.parametrize("chosen", [{}, {"TRACKED_IDENTITY": "client"}], ids=["anonymous", "client"])
def test_blocked_storage_is_no_error_and_heartbeats_go_on(site: Site, tmp_path: Path) -> None:
    with watched(tmp_path, NO_SITE_MAY_STORE) as chromium:
        tab = chromium.tab(f"{site.url}/first?every=1")
        wait_for(site, "/first", 3)
        assert tab.run("(() => { try { return localStorage.length } catch { return 'blocked' } })()") == "blocked"
        assert {one["status"] for one in told(site, HERE)} == {204}
        assert views(site) == {"/first": 1}
        nothing_is_wrong(tab)


@pytest.mark.parametrize("chosen", [{}, {"TRACKED_OPT_OUTS": "gpc dnt"}], ids=["not granted", "granted"])
def test_who_asks_not_to_be_tracked_sends_nothing_where_the_site_grants_it(
    site: Site, chosen: dict[str, str], tmp_path: Path
) -> None:
    granted = bool(chosen)
    with watched(tmp_path, DO_NOT_TRACK) as chromium:
        tab = chromium.tab(f"{site.url}/first")
        tab.run("history.pushState({}, '', '/second')")
        assert tab.run("window.sent.map(([url, path]) => [url, path])") == (
            [] if granted else [[HERE, "/first"], [PAGE, "/second"], [HERE, "/second"]]
        )
        if not granted:
            until(lambda: "/second" in views(site), what="the view is stored")
        assert views(site) == ({} if granted else {"/first": 1, "/second": 1})
        nothing_is_wrong(tab)


@pytest.mark.parametrize("chosen", [{"TRACKED_IDENTITY": "client"}], ids=["client"])
def test_with_the_identity_client_a_browser_is_one_visitor_on_all_its_pages(site: Site, chromium: Chromium) -> None:
    tab = chromium.tab(f"{site.url}/first")
    wait_for(site, "/first", 1)
    tab.open(f"{site.url}/second")
    wait_for(site, "/second", 1)
    tab.run("history.pushState({}, '', '/third')")
    other = chromium.tab(f"{site.url}/first", new_window=True)
    wait_for(site, "/first", 2)
    until(lambda: views(site) == {"/first": 1, "/second": 1, "/third": 1}, what="the views are stored")
    assert asked(site, "SELECT COUNT(DISTINCT session_id) FROM pagestats_pageview") == [(1,)]
    nothing_is_wrong(tab, other)


def test_what_one_window_of_a_browser_holds_is_of_one_site(site: Site, chromium: Chromium) -> None:
    tab = chromium.tab(f"{site.url}/first?every=1")
    wait_for(site, "/first", 2)
    held = tab.run("navigator.locks.query().then(({held}) => held.map(({name}) => name))")
    assert held == [HERE]  # another site of the host, below a prefix, has another


def test_a_path_that_is_no_utf8_is_one_page_whatever_tells_of_it(site: Site, chromium: Chromium) -> None:
    tab = chromium.tab(f"{site.url}/first")
    wait_for(site, "/first", 1)
    tab.open(f"{site.url}/all/caf%E9")
    wait_for(site, "/all/caf%E9", 1)
    tab.run("history.pushState({}, '', '/first')")
    until(lambda: len(told(site, PAGE)) == 1, what="the first view was told")
    tab.run("history.back()")
    until(lambda: len(told(site, PAGE)) == 2, what="the second view was told")
    assert sorted(views(site).values()) == [1, 1]
