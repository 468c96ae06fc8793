"""Who is here now, kept up to date in a page by its script, seen with a real Chromium.

Where Playwright stops the clock, no page is ever hidden: there the page is told so by the property and the event that a
browser would tell it by. A tab that is hidden by another one has the clock that it has, made ten times as fast.
"""

from pathlib import Path

import pytest
from playwright.sync_api import Page, Response, Route, expect

from tests.agents import CHROME
from tests.browsing import (
    BROWSER_OPTIONS,
    PATIENCE,
    MakeVisitor,
    Site,
    gunicorn,
    log_in,
    read,
    uvicorn,
)
from tests.chromium import running, until

expect.set_options(timeout=PATIENCE * 1_000)

STATS = "/admin/pagestats/stats/"
ACTIVE = f"{STATS}active/"
LONGER_THAN_A_PAUSE = "00:16"


@pytest.fixture
def editor(visitor: MakeVisitor) -> Page:
    """The page *Page stats* in the window of somebody who may see it, where the clock goes on only when it is told."""
    page = visitor(javascript=True).new_page()
    page.clock.install()
    log_in(page, to=STATS)
    return page


def answers(page: Page) -> list[int]:
    """Return the list of statuses with which the script of a page is answered, which grows."""
    statuses: list[int] = []

    def note(response: Response) -> None:
        if response.url.endswith(ACTIVE):
            statuses.append(response.status)

    page.on("response", note)
    return statuses


def wait(page: Page) -> None:
    page.clock.fast_forward(LONGER_THAN_A_PAUSE)


def turn(page: Page, *, hidden: bool) -> None:
    """Tell a page that it is hidden, or seen again."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event('visibilitychange'));
        }""",
        hidden,
    )


@pytest.mark.parametrize("site", [gunicorn, uvicorn], indirect=True)
def test_figures_follow_who_comes_without_a_reload(editor: Page, site: Site, visitor: MakeVisitor) -> None:
    statuses = answers(editor)
    now = editor.locator("[data-pagestats=visitors]")
    rows = editor.locator("[data-pagestats=by_path] tr")
    expect(now).to_have_text("0")
    expect(editor.get_by_text("Nobody has been on the site")).to_be_visible()

    read(visitor().new_page(), "/first")
    with editor.expect_response(f"**{ACTIVE}"):
        wait(editor)
    expect(now).to_have_text("1")
    expect(rows).to_have_text(["The first post /first1"])
    expect(editor.get_by_text("Nobody has been on the site")).to_be_hidden()

    with editor.expect_response(f"**{ACTIVE}"):
        wait(editor)
    expect(now).to_have_text("1")
    assert statuses == [200, 304]


def test_numbers_stay_written_as_the_server_writes_them(editor: Page) -> None:
    def in_another_language(route: Route) -> None:
        answer = route.fetch()
        marked = answer.text().replace('data-pagestats-thousands=","', 'data-pagestats-thousands="’"')
        route.fulfill(response=answer, body=marked)

    editor.route(f"**{STATS}", in_another_language)
    editor.route(f"**{ACTIVE}", lambda route: route.fulfill(json={"visitors": 1_234_567, "by_path": []}))
    editor.reload()
    with editor.expect_response(f"**{ACTIVE}"):
        wait(editor)
    expect(editor.locator("[data-pagestats=visitors]")).to_have_text("1’234’567")


def test_a_hidden_page_asks_nothing_and_asks_at_once_when_it_is_back(editor: Page) -> None:
    statuses = answers(editor)
    turn(editor, hidden=True)
    for _ in range(3):
        wait(editor)
    assert editor.evaluate("1 + 1") == 2  # what it had sent before would be here
    assert statuses == []
    with editor.expect_response(f"**{ACTIVE}"):
        turn(editor, hidden=False)
    assert statuses == [200]


def test_a_site_that_does_not_answer_is_reported_and_polled_less_often(editor: Page) -> None:
    asked = []
    stale = editor.locator("[data-pagestats=stale]")
    expect(stale).to_be_hidden()
    editor.route(f"**{ACTIVE}", lambda route: (asked.append(1), route.abort()))
    wait(editor)
    expect(stale).to_be_visible()
    wait(editor)  # half of the next pause, which is twice as long
    assert editor.evaluate("1 + 1") == 2
    assert len(asked) == 1
    editor.unroute(f"**{ACTIVE}")
    with editor.expect_response(f"**{ACTIVE}"):
        wait(editor)
    expect(stale).to_be_hidden()


def test_an_answer_that_never_comes_is_none(editor: Page) -> None:
    asked = []
    editor.route(f"**{ACTIVE}", lambda route: asked.append(route))
    with editor.expect_request(f"**{ACTIVE}"):
        wait(editor)
    expect(editor.locator("[data-pagestats=stale]")).to_be_hidden()
    wait(editor)
    assert len(asked) == 1
    wait(editor)  # it is half a minute that it asked
    expect(editor.locator("[data-pagestats=stale]")).to_be_visible()
    editor.unroute(f"**{ACTIVE}")
    with editor.expect_response(f"**{ACTIVE}"):
        for _ in range(2):
            wait(editor)
    expect(editor.locator("[data-pagestats=stale]")).to_be_hidden()


HURRY = """
    const later = window.setTimeout, ask = window.fetch, statuses = (window.statuses = []);
    window.setTimeout = (work, pause) => later(work, pause / 10);
    window.fetch = (...all) => ask(...all).then((answer) => (statuses.push(answer.status), answer));
"""


def test_the_public_page_polls_only_in_front_and_at_once_when_it_returns(site: Site, tmp_path: Path) -> None:
    options = [*BROWSER_OPTIONS, f"--user-agent={CHROME}"]
    with running(tmp_path / "profile", *options, preferences={}) as chromium:
        tab = chromium.tab()
        tab.tell("Page.addScriptToEvaluateOnNewDocument", source=HURRY)
        tab.open(f"{site.url}/stats/")
        until(lambda: len(tab.run("statuses")) >= 2, what="it asked twice")
        chromium.tab(f"{site.url}/first")
        tab.wait_until_hidden(True)
        asked = len(tab.run("statuses"))
        tab.run("new Promise((done) => later(done, 3000))")  # the longest pause is half of that
        assert len(tab.run("statuses")) == asked
        tab.show()
        until(lambda: len(tab.run("statuses")) > asked, what="it asked at once")
        until(
            lambda: tab.run("document.querySelector('[data-pagestats=visitors]').textContent") == "1", what="1 is here"
        )
        assert set(tab.run("statuses")) <= {200, 304}
        assert tab.run("window.wrong") == []
