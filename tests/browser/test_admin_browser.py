"""The admin's page *Page stats*, seen with a real Chromium."""

import shutil
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import django
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route

from tests.agents import CHROME
from tests.browsing import (
    LONG_PATH,
    WIDTHS,
    MakeVisitor,
    Site,
    ends,
    figures,
    log_in,
    look_at,
    read,
    run_python,
    served,
    table,
)

STATS = "/admin/pagestats/stats/"
HOSTILE_PATH = "/<script>document.title='stolen'</script>" + 200 * "x"
FILL = f"""
import django
django.setup()
from datetime import timedelta
from django.utils import timezone
from example_project.blog.models import Post
from pagestats.hits import Hit
from pagestats.models import PageView, Rollup, Tally
from pagestats.recording import record_heartbeat, record_page_views
from pagestats.retention import cleanup_and_store_run
from pagestats.rollups import begin_verification, verification
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
cleanup_and_store_run()
Rollup.unguarded.update(views=1234)
list(verification(begin_verification()))
"""
EARLIER = """
record_page_views(Hit(path="/first", session_id="s", at=now - timedelta(days=days)) for days in range(1, 90))
Post.objects.filter(slug="first").update(title="مرحبا بالعالم")
"""


@pytest.fixture
def filled(site: Site) -> Site:
    """The site after a few of everything was recorded."""
    run_python(site.database, "-c", FILL)
    return site


@pytest.fixture
def filled_for_long(site: Site) -> Site:
    """The site after a few of everything was recorded, and views of a page with an Arabic title on each of 90 days."""
    run_python(site.database, "-c", FILL + EARLIER)
    return site


def facts(page: Page) -> list[tuple[str, str]]:
    """Return the facts of all time: label and figure."""
    return [
        (row.locator("dt").inner_text(), row.locator("dd").inner_text())
        for row in page.locator(".pagestats-all-time .pagestats-facts > div").all()
    ]


def test_one_page_opened_is_one_view_and_one_visitor_who_is_there_now(visitor: MakeVisitor) -> None:
    reader = visitor().new_page()
    read(reader, "/first")
    reader.reload()
    page = log_in(visitor().new_page())
    page.get_by_role("link", name="Page stats", exact=True).last.click()

    assert page.url.endswith(STATS)
    assert page.get_by_role("heading", level=1).inner_text() == "Page stats"
    assert figures(page) == {
        "Active now": "1",
        "Page views": "1",
        "Daily visitors": "1",
    }
    assert table(page, "Viewing now") == [("The first post /first", "1")]
    assert table(page, "Pages") == [("The first post /first", "blog", "1", "1")]
    assert ("Published: posts", "2") in facts(page)
    page.get_by_role("link", name="The first post").click()
    assert page.locator(".pagestats-title").inner_text() == "The first post"
    assert figures(page) == {"Active now": "1", "Page views": "1", "Daily visitors": "1"}
    page.get_by_role("link", name="Open the page").click()
    assert page.url.endswith("/first")


# The frame around the page is Django's, whose links are told apart by colour alone before 6.0.
OURS = None if django.VERSION >= (6, 0) else ".pagestats"


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_empty_page_is_accessible_and_never_wider_than_the_window(
    visitor: MakeVisitor,
    color_scheme: str,
) -> None:
    page = log_in(visitor(javascript=True, color_scheme=color_scheme).new_page())
    look_at(page, STATS, context=OURS)
    assert page.get_by_text("No page view yet.").first.is_visible()
    assert page.get_by_role("link", name="View site").count() == 2


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_full_page_is_accessible_and_never_wider_than_the_window(
    visitor: MakeVisitor,
    filled: Site,
    color_scheme: str,
) -> None:
    page = log_in(visitor(javascript=True, color_scheme=color_scheme).new_page())
    look_at(page, STATS, context=OURS)
    assert page.get_by_text("1–50 of 124").is_visible()
    assert page.get_by_role("heading", level=2).all_inner_texts() == [
        "At a glance",
        "By day",
        "Pages",
        "Viewing now",
        "All time",
        "Health",
    ]
    assert page.title() == "Page stats | Django site admin"
    assert ("Recorded", "123,456", "246,912") in table(page, "Health")


@pytest.mark.parametrize("javascript", [False, True])
def test_each_mark_stands_below_its_point_and_touches_no_other(
    visitor: MakeVisitor,
    filled_for_long: Site,
    javascript: bool,
) -> None:
    page = log_in(visitor(javascript=javascript).new_page())
    today = date.fromisoformat(page.evaluate("new Date().toISOString().slice(0, 10)"))
    for count in (3, 6, 7, 8, 15, 30, 90):
        days = [today - timedelta(days=ago) for ago in range(count, 0, -1)]
        names = [f"{day.day} {day:%B}" for day in days]
        read(page, f"{STATS}?start={days[0]}&end={days[-1]}")
        for direction in ("ltr", "rtl"):
            page.locator("html").evaluate("(html, direction) => html.dir = direction", direction)
            for width in (*WIDTHS, 500):
                page.set_viewport_size({"width": width, "height": 900})
                look_at_the_marks(page, names)


def look_at_the_marks(page: Page, names: list[str]) -> None:
    """Look whether each mark stands below the point of the day that it names."""
    box = page.locator(".pagestats-canvas").bounding_box()
    assert box is not None
    selector = ".pagestats-marks text"
    texts, marks = page.locator(f"{selector} >> visible=true").all_text_contents(), ends(page, selector)
    assert (texts[0], texts[-1]) == (names[0], names[-1])
    assert (marks[0][0], marks[-1][1]) == pytest.approx((box["x"], box["x"] + box["width"]), abs=1.5)
    middles = [(left + right) / 2 for left, right in marks[1:-1]]
    points = [box["x"] + box["width"] * names.index(text) / (len(names) - 1) for text in texts[1:-1]]
    assert middles == pytest.approx(points, abs=1.5), texts
    assert all(right + 4 < left for (_, right), (left, _) in pairwise(marks)), texts


def look_at_the_figures(page: Page, address: str) -> None:
    """Look whether the table below the chart keeps its labels whole, and is scrolled sideways by keyboard."""
    page.set_viewport_size({"width": 360, "height": 800})
    read(page, address)
    page.get_by_text("The same figures as a table").click()
    broken = page.locator(".pagestats-scroll :is(th, td)").evaluate_all(
        "all => all.filter(cell => { const range = document.createRange(); range.selectNodeContents(cell);"
        " return range.getClientRects().length > 1; }).map(cell => cell.textContent)"
    )
    assert broken == []
    scroller = page.locator(".pagestats-scroll")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
    scroller.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.pagestats-scroll').scrollLeft > 0")
    scroller.evaluate("scroller => scroller.scrollLeft = scroller.scrollWidth")
    last = page.locator(".pagestats-scroll tbody tr").first.locator("td").last.bounding_box()
    assert last is not None
    assert last["x"] + last["width"] <= 360
    found = Axe().run(page, context=".pagestats")
    assert found.violations_count == 0, found.generate_report()


def test_the_table_of_the_figures_keeps_its_labels_whole(visitor: MakeVisitor, filled_for_long: Site) -> None:
    page = log_in(visitor(javascript=True).new_page())
    today = date.fromisoformat(page.evaluate("new Date().toISOString().slice(0, 10)"))
    look_at_the_figures(page, STATS)
    look_at_the_figures(page, f"{STATS}?start={today - timedelta(days=2)}&end={today - timedelta(days=1)}")


@pytest.mark.parametrize("width", [360, 1600])
def test_titles_and_paths_begin_at_one_edge_in_either_direction(
    visitor: MakeVisitor,
    filled_for_long: Site,
    width: int,
) -> None:
    page = log_in(visitor(javascript=True).new_page())
    page.set_viewport_size({"width": width, "height": 800})
    read(page, STATS)
    for direction, edge in (("ltr", 0), ("rtl", 1)):
        page.locator("html").evaluate("(html, direction) => html.dir = direction", direction)
        for table_of in (".pagestats-pages", ".pagestats-now"):
            box = page.locator(f"{table_of} table").bounding_box()
            assert box is not None
            edges = [each[edge] for each in ends(page, f"{table_of} tbody tr:has(th > .pagestats-path) th bdi")]
            assert len(edges) >= 2
            assert edges == pytest.approx([box["x"] + edge * box["width"]] * len(edges), abs=1), direction


def test_what_the_pointer_is_told_is_laid_out_as_the_page_is(visitor: MakeVisitor, filled_for_long: Site) -> None:
    page = log_in(visitor(javascript=True).new_page())
    read(page, STATS)
    for direction in ("ltr", "rtl"):
        page.locator("html").evaluate("(html, direction) => html.dir = direction", direction)
        page.locator(".pagestats-canvas .u-over").hover()
        tip = page.locator(".pagestats-tip")
        tip.wait_for()
        assert tip.evaluate("tip => getComputedStyle(tip).direction") == direction
        page.mouse.move(0, 0)


def test_the_hours_of_two_days_are_never_wider_than_the_window(visitor: MakeVisitor, filled: Site) -> None:
    page = log_in(visitor(javascript=True).new_page())
    today = page.evaluate("new Date().toISOString().slice(0, 10)")
    yesterday = page.evaluate("new Date(Date.now() - 86400000).toISOString().slice(0, 10)")
    look_at(page, f"{STATS}?start={yesterday}&end={today}", context=OURS)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        marks = page.locator(".pagestats-marks text:visible").evaluate_all(
            "all => all.map(mark => mark.getBoundingClientRect()).map(({ left, right }) => [left, right])"
        )
        assert len(marks) >= 2
        assert all(right + 4 < left for (_, right), (left, _) in pairwise(marks)), f"{marks} at {width} px"


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_page_of_one_path_and_the_table_of_a_custom_period_are_accessible(
    visitor: MakeVisitor,
    filled: Site,
    color_scheme: str,
) -> None:
    page = log_in(visitor(javascript=True, color_scheme=color_scheme).new_page())
    today = page.evaluate("new Date().toISOString().slice(0, 10)")
    look_at(page, f"{STATS}page/?path=/first&start=2026-01-01&end={today}", context=OURS)
    page.get_by_text("The same figures as a table").click()
    assert page.get_by_role("table", name="By day").is_visible()
    found = Axe().run(page, context=OURS)
    assert found.violations_count == 0, found.generate_report()


def test_the_chart_shows_the_figures_under_the_pointer(
    visitor: MakeVisitor,
    filled: Site,
) -> None:
    still = log_in(visitor().new_page())
    read(still, STATS)
    assert still.locator(".pagestats-canvas svg").is_visible()
    points = still.locator(".pagestats-canvas polyline.pagestats-views:not(.pagestats-before)").get_attribute("points")
    assert points is not None
    assert len(points.split()) == 30

    page = log_in(visitor(javascript=True).new_page())
    read(page, STATS)
    canvas = page.locator(".pagestats-canvas canvas")
    canvas.wait_for()
    assert not page.locator(".pagestats-canvas svg").is_visible()
    assert not page.locator(".pagestats-tip").is_visible()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 40)  # today
    tip = page.locator(".pagestats-tip")
    tip.wait_for()
    told = " ".join(tip.inner_text().split())
    page.get_by_text("The same figures as a table").click()
    day, views, visitors = table(page, "By day")[-1]
    assert told == f"{day} Page views{views} Visitors{visitors}"
    # It is drawn anew in another theme and at another width.
    page.locator("html").evaluate("html => html.dataset.theme = 'dark'")
    page.set_viewport_size({"width": 500, "height": 800})
    page.wait_for_function("document.querySelector('.pagestats-canvas canvas').clientWidth < 500")
    assert page.locator(".pagestats-canvas canvas").count() == 1


def test_a_period_is_picked_with_a_click_and_with_two_days(visitor: MakeVisitor, filled: Site) -> None:
    page = log_in(visitor().new_page())
    read(page, STATS)
    period = page.get_by_role("navigation", name="Period")
    period.get_by_role("link", name="Today").click()
    assert page.url.endswith("?period=today")
    assert period.locator("[aria-current]").inner_text() == "Today"
    assert page.get_by_role("heading", name="By hour").is_visible()
    page.get_by_role("searchbox").fill("about")
    page.get_by_role("button", name="Search").click()
    assert page.url.endswith("?period=today&q=about")
    assert table(page, "Pages") == [("About /about", "page", "1,234", "1")]
    period.get_by_text("Custom").click()
    period.get_by_label("From").fill("2026-01-05")
    period.get_by_label("To").fill("2026-01-11")
    period.get_by_role("button", name="Show").click()
    assert "period=custom&start=2026-01-05&end=2026-01-11" in page.url
    assert "q=about" in page.url
    assert figures(page)["Page views"] == "0"


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_it_is_as_good_in_django_unfold(
    browser: Browser,
    written_database: Path,
    tmp_path: Path,
    color_scheme: str,
) -> None:
    database = tmp_path / "example.sqlite3"
    shutil.copy(written_database, database)
    run_python(database, "-c", FILL + EARLIER)
    with served(database, tmp_path / "server.log", settings="tests.unfold_settings") as site:
        window = browser.new_context(base_url=site.url, user_agent=CHROME, color_scheme=color_scheme)
        page = log_in(window.new_page())
        # The frame around the page is another's.
        look_at(page, STATS, context=".pagestats")
        assert page.locator("html").evaluate("html => html.classList.contains('dark')") == (color_scheme == "dark")
        lightness = page.locator(".pagestats-figure").first.evaluate(
            "e => getComputedStyle(e).color.match(/[0-9]+/)[0]"
        )
        assert (int(lightness) > 127) == (color_scheme == "dark")
        page.locator(".pagestats-pages").get_by_role("link", name="مرحبا بالعالم").click()
        assert page.locator(".pagestats-title").inner_text() == "مرحبا بالعالم"
        look_at_the_figures(page, STATS)
        window.close()


def test_the_page_follows_the_theme_of_the_admin(visitor: MakeVisitor, filled: Site) -> None:
    page = log_in(visitor(javascript=True, color_scheme="light").new_page())
    read(page, STATS)
    color = "getComputedStyle(document.querySelector('.pagestats-figure')).color"
    assert page.evaluate(color) == "rgb(0, 0, 0)"
    page.locator("html").evaluate("html => html.dataset.theme = 'dark'")
    assert page.evaluate(color) == "rgb(255, 255, 255)"


def test_a_strict_content_security_policy_has_nothing_to_refuse(
    visitor: MakeVisitor,
    filled: Site,
) -> None:
    window = visitor(javascript=True)
    page = log_in(window.new_page())
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
