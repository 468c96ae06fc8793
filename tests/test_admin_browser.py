"""The admin's page *Page stats*, seen with a real Chromium."""

import subprocess
import sys
from collections.abc import Callable

import django
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, Route

from tests.test_browser import (
    LONG_PATH,
    PATIENCE,
    ROOT,
    WIDTHS,
    MakeVisitor,
    Site,
    browser,  # noqa: F401
    environment,
    read,
    site,  # noqa: F401
    table,
    visitor,  # noqa: F401
    written_database,  # noqa: F401
)

STATS = "/admin/pagestats/stats/"
HOSTILE_PATH = "/<script>document.title='stolen'</script>" + 200 * "x"
FILL = f"""
import django
django.setup()
from datetime import timedelta
from django.utils import timezone
from pagestats.hits import Hit
from pagestats.models import PageView, Tally
from pagestats.recording import record_heartbeat, record_page_views
from pagestats.retention import clean_up
now = timezone.now()
paths = ["/first", "/about", {LONG_PATH!r}, {HOSTILE_PATH!r}, *(f"/unknown/{{n}}" for n in range(120))]
record_page_views(Hit(path=path, session_id=f"s{{n}}", at=now) for n, path in enumerate(paths))
for n, path in enumerate(paths[:5]):
    record_heartbeat(Hit(path=path, session_id=f"s{{n}}", at=now + timedelta(minutes=9)))
PageView.objects.create(path="/first", session_id="pending", timestamp=now)
today = timezone.localdate()
for outcome, reason in [("recorded", ""), ("repeat", ""), ("not_stored", "bot"), ("failed", 60 * "E")]:
    for day in (today - timedelta(days=1), today, today + timedelta(days=1)):
        Tally.objects.create(day=day, outcome=outcome, reason=reason, count=123456)
clean_up()
"""


@pytest.fixture
def filled(site: Site) -> Site:  # noqa: F811
    """The site after a few of everything was recorded."""
    database = site.log.with_name("example.sqlite3")
    command = [sys.executable, "-c", FILL]
    subprocess.run(command, cwd=ROOT, env=environment(database), check=True, timeout=PATIENCE)
    return site


def log_in(window: BrowserContext) -> Page:
    page = window.new_page()
    read(page, "/admin/")
    page.get_by_label("Username").fill("editor")
    page.get_by_label("Password").fill("editor")
    page.get_by_role("button", name="Log in").click()
    return page


def figures(page: Page) -> dict[str, str]:
    """Return the cards of the page: label to figure."""
    cards = page.locator(".pagestats-cards > div")
    return {card.locator("dt").inner_text(): card.locator("dd").first.inner_text() for card in cards.all()}


def test_one_page_opened_is_one_view_and_one_visitor_who_is_there_now(visitor: MakeVisitor) -> None:  # noqa: F811
    reader = visitor().new_page()
    read(reader, "/first")
    reader.reload()
    page = log_in(visitor())
    page.get_by_role("link", name="Page stats", exact=True).last.click()

    assert page.url.endswith(STATS)
    assert page.get_by_role("heading", level=1).inner_text() == "Page stats"
    assert figures(page) == {
        "Active now": "1",
        "Page views": "1",
        "Daily visitors": "1",
        "Published: posts": "2",
        "Published: pages": "1",
    }
    assert table(page, "Viewing now") == [("/first", "1")]
    assert table(page, "Pages by views") == [("The first post\n/first", "blog", "1")]
    page.get_by_role("link", name="The first post").click()
    assert page.url.endswith("/first")


# The frame around the page is Django's, whose links are told apart by colour alone before 6.0.
OURS = None if django.VERSION >= (6, 0) else ".pagestats"


def look_at(page: Page) -> None:
    """Look at the page in each width for what is too wide, and for what axe finds."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        read(page, STATS)
        wide = page.evaluate("document.scrollingElement.scrollWidth")
        assert wide <= width, f"{wide} px wide in a window of {width} px"
        spilling = page.evaluate(
            "[...document.querySelectorAll('.pagestats *')].filter(e => e.scrollWidth > e.clientWidth + 1"
            " && e.clientWidth && getComputedStyle(e).display !== 'inline'"
            " && !e.matches('.pagestats-unseen')).map(e => e.className || e.tagName)"
        )
        assert spilling == [], f"{spilling} at {width} px"
        if width in (360, 1600):
            found = Axe().run(page, context=OURS)
            assert found.violations_count == 0, f"{width} px:\n{found.generate_report()}"


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_empty_page_is_accessible_and_never_wider_than_the_window(
    visitor: MakeVisitor,  # noqa: F811
    color_scheme: str,
) -> None:
    page = log_in(visitor(javascript=True, color_scheme=color_scheme))
    look_at(page)
    assert page.get_by_text("No page view yet.").first.is_visible()
    assert page.get_by_role("link", name="View site").count() == 2


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_full_page_is_accessible_and_never_wider_than_the_window(
    visitor: MakeVisitor,  # noqa: F811
    filled: Site,
    color_scheme: str,
) -> None:
    page = log_in(visitor(javascript=True, color_scheme=color_scheme))
    look_at(page)
    assert page.get_by_text("The first 100 of 124 pages").is_visible()
    assert page.get_by_role("heading", level=2).all_inner_texts() == [
        "At a glance",
        "Viewing now",
        "Pages by views",
        "Health",
    ]
    assert page.title() == "Page stats | Django site admin"
    assert ("Recorded", "123,456", "246,912") in table(page, "Health")


def test_the_page_follows_the_theme_of_the_admin(visitor: MakeVisitor, filled: Site) -> None:  # noqa: F811
    page = log_in(visitor(javascript=True, color_scheme="light"))
    read(page, STATS)
    color: Callable[[], str] = lambda: page.evaluate(  # noqa: E731
        "getComputedStyle(document.querySelector('.pagestats-figure')).color"
    )
    assert color() == "rgb(0, 0, 0)"
    page.locator("html").evaluate("html => html.dataset.theme = 'dark'")
    assert color() == "rgb(255, 255, 255)"


def test_a_strict_content_security_policy_has_nothing_to_refuse(
    visitor: MakeVisitor,  # noqa: F811
    filled: Site,
) -> None:
    window = visitor(javascript=True)
    page = log_in(window)
    asked: list[str] = []
    refused: list[str] = []

    def strictly(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, headers={**response.headers, "content-security-policy": "default-src 'self'"})

    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: refused.append(message.text))
    page.on("pageerror", lambda error: refused.append(str(error)))
    window.route("**/*", strictly)
    read(page, STATS)

    assert page.locator(".pagestats-bar").first.is_visible()
    assert page.title() == "Page stats | Django site admin"
    assert refused == []
    assert [url for url in asked if not url.startswith(f"{filled.url}/")] == []
    page.evaluate("document.body.setAttribute('style', 'color: red')")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">')")
    assert any("Content Security Policy" in text for text in refused)
