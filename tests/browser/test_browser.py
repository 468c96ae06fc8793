"""The example site under gunicorn, visited with a real Chromium."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Request

from tests.agents import FIREFOX
from tests.browsing import (
    LONG_PATH,
    LONG_TITLE,
    WIDTHS,
    MakeVisitor,
    Site,
    figures,
    gunicorn,
    log_in,
    read,
    table,
    uvicorn,
)


def test_the_stats_page_shows_the_visits_of_a_browser_without_javascript(visitor: MakeVisitor) -> None:
    page = visitor().new_page()
    read(page, "/")
    page.get_by_role("link", name="The first post").click()
    assert page.get_by_role("heading", level=1).inner_text() == "The first post"
    page.reload()
    page.get_by_role("link", name="About").click()
    assert page.get_by_role("heading", level=1).inner_text() == "About"
    page.get_by_role("link", name="Stats").click()

    assert page.url.endswith("/stats/")
    assert figures(page) == {
        "Active now": "1",
        "Page views": "3",
        "Daily visitors": "1",
        "Published: posts": "2",
        "Published: pages": "1",
    }
    assert table(page, "Viewing now") == [("About /about", "1")]
    assert table(page, "Pages by views") == [
        ("Home", "home", "/", "1"),
        ("About", "page", "/about", "1"),
        ("The first post", "blog", "/first", "1"),
    ]


@pytest.mark.parametrize("site", [gunicorn, uvicorn], ids=["gunicorn", "uvicorn"], indirect=True)
def test_the_stats_page_the_admin_and_the_api_agree_under_any_server(visitor: MakeVisitor) -> None:
    one, other = visitor().new_page(), visitor(user_agent=FIREFOX).new_page()
    read(one, "/", "/first", "/first", "/about")
    read(other, "/first", "/stats/", "/stats/")
    public = figures(other)
    pages = [(title, kind, path, views) for title, kind, path, views in table(other, "Pages by views")]

    editor = visitor().new_page()
    log_in(editor, to="/admin/pagestats/stats/")
    editor.get_by_role("heading", name="Health").wait_for()  # the last part of the page
    shown = editor.locator("#content").inner_text()
    answer = editor.request.get("/api/stats/").json()

    assert public["Page views"] == "5"
    assert public["Daily visitors"] == "2"
    assert public["Active now"] == "2"
    assert pages[0] == ("The first post", "blog", "/first", "2")
    for label in ("Active now", "Page views", "Daily visitors"):
        assert re.search(rf"{label}\s+{public[label]}\b", shown, re.IGNORECASE), shown
    assert (answer["active_visitors"], answer["total_page_views"], answer["unique_visitors"]) == (2, 5, 2)
    # What only a visitor named, the stats page itself too, is for who has the permission.
    assert [
        (page["title"], page["page_type"], page["path"], str(page["views"]))
        for page in answer["page_stats"]
        if page["page_type"] != "other"
    ] == pages
    for title, _, path, _ in pages:
        assert title in shown
        assert path in shown


def test_another_browser_is_another_visitor(visitor: MakeVisitor) -> None:
    one, other = visitor().new_page(), visitor(user_agent=FIREFOX).new_page()
    read(one, "/", "/first", "/first")
    read(other, "/first", "/stats/")

    assert figures(other)["Active now"] == "2"
    assert figures(other)["Page views"] == "3"
    assert figures(other)["Daily visitors"] == "2"
    assert table(other, "Viewing now") == [("The first post /first", "2")]
    assert table(other, "Pages by views") == [("The first post", "blog", "/first", "2"), ("Home", "home", "/", "1")]


def test_two_windows_of_one_browser_are_one_visitor(visitor: MakeVisitor) -> None:
    read(visitor().new_page(), "/first")
    page = visitor().new_page()
    read(page, "/first", "/stats/")

    assert figures(page)["Page views"] == "1"
    assert figures(page)["Daily visitors"] == "1"


def test_what_is_no_page_that_a_person_read_is_not_counted(visitor: MakeVisitor, site: Site) -> None:
    assert site.get("/first", User_Agent="Mozilla/5.0 (compatible; Googlebot/2.1)") == 200
    assert site.get("/first", User_Agent="") == 200
    assert site.get("/first", Sec_Purpose="prefetch") == 200
    assert site.get("/first", Sec_Purpose="prefetch;prerender") == 200
    assert site.get("/first", Purpose="prefetch") == 200
    assert site.get("/first", method="HEAD") == 200
    assert site.get("/draft") == 404
    assert site.get("/first/") == 404
    assert site.get("/stats") == 302
    assert site.get("/static/blog/site.css") == 200
    page = log_in(visitor().new_page())
    assert page.get_by_role("heading", name="Site administration").is_visible()
    read(page, "/stats/")

    assert figures(page) == {
        "Active now": "0",
        "Page views": "0",
        "Daily visitors": "0",
        "Published: posts": "2",
        "Published: pages": "1",
    }
    assert page.get_by_role("table", name="Pages by views").count() == 0
    assert page.get_by_text("No page has been viewed yet.").is_visible()


def test_nothing_is_wider_than_the_window(visitor: MakeVisitor) -> None:
    page = visitor(javascript=True).new_page()
    for path in ("/", "/first", "/about", LONG_PATH, "/stats/"):
        read(page, path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            wide = page.evaluate("document.scrollingElement.scrollWidth")
            assert wide <= width, f"{path} is {wide} px wide in a window of {width} px"
    assert (LONG_TITLE, "blog", LONG_PATH, "1") in table(page, "Pages by views")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_pages_are_accessible(visitor: MakeVisitor, color_scheme: str) -> None:
    page = visitor(javascript=True, color_scheme=color_scheme).new_page()
    for path in ("/stats/", "/", "/first", "/about", "/stats/"):
        read(page, path)
        for width in (360, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            found = Axe().run(page)
            assert found.violations_count == 0, f"{path} at {width} px:\n{found.generate_report()}"


def test_the_pages_ask_nobody_else_for_anything_and_set_no_cookie(visitor: MakeVisitor, site: Site) -> None:
    window = visitor(javascript=True)
    page = window.new_page()
    asked: list[Request] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("response", lambda response: response.ok or complaints.append(f"{response.url}: {response.status}"))
    read(page, "/", "/first", "/about", "/stats/")

    assert {request.url for request in asked if not request.url.startswith(f"{site.url}/")} == set()
    # The stats page has one that keeps who is here now up to date, and each page the tracker.
    scripts = {request.url for request in asked if request.resource_type == "script"}
    assert scripts <= {f"{site.url}/static/pagestats/live.js", f"{site.url}/hello/page.js"}
    assert complaints == []
    assert window.cookies() == []
