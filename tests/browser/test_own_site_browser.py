"""The figures inside a site's own pages and its own admin, seen with a real Chromium."""

import re
from pathlib import Path

import django
import pytest
from playwright.sync_api import expect

from tests.browsing import (
    LONG_PATH,
    PATIENCE,
    MakeVisitor,
    Site,
    ends,
    gunicorn,
    log_in,
    look_at,
    read,
    run_python,
    table,
)

expect.set_options(timeout=PATIENCE * 1_000)

LONGER_THAN_A_PAUSE = "00:16"
FILL = f"""
import django
django.setup()
from datetime import timedelta
from django.utils import timezone
from example_project.blog.models import Post
from pagestats.hits import Hit
from pagestats.recording import record_heartbeat, record_page_views
Post.objects.create(title="Nowhere", slug="", published=False)
now = timezone.now()
for path, views in (("/first", 1234), ("/about", 12), ({LONG_PATH!r}, 3)):
    record_page_views(Hit(path=path, session_id=f"s{{n}}", at=now - timedelta(days=n % 30)) for n in range(views))
for path, session_id in (("/first", "a"), ("/first", "b"), ({LONG_PATH!r}, "c"), ("/no/page", "d")):
    record_heartbeat(Hit(path=path, session_id=session_id, at=now + timedelta(minutes=9)))
"""


def standalone(socket_number: int, folder: Path) -> list[str]:
    command = gunicorn(socket_number, folder)
    command[command.index("example_project.wsgi")] = "tests.standalone_site"
    return command


alone = pytest.mark.parametrize("site", [standalone], ids=[""], indirect=True)


@pytest.fixture
def filled(site: Site) -> Site:
    """The site with views of a month, and somebody on it."""
    run_python(site.database, "-c", FILL)
    return site


# The frame around is Django's, whose links are told apart by colour alone before 6.0.
OURS = None if django.VERSION >= (6, 0) else ".pagestats-panel"


@alone
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_page_that_stands_alone_is_accessible_empty_and_full(
    request: pytest.FixtureRequest,
    visitor: MakeVisitor,
    color_scheme: str,
) -> None:
    page = visitor(javascript=True, color_scheme=color_scheme).new_page()
    look_at(page, "/standalone/")
    expect(page.get_by_text("Nobody is on the pages shown here.")).to_be_visible()
    expect(page.get_by_role("table")).to_have_count(0)
    request.getfixturevalue("filled")
    look_at(page, "/standalone/")
    expect(page.get_by_role("table")).to_have_count(2)
    assert ("The first post", "blog", "/first", "1,234") in table(page, "Pages by views")
    assert table(page, "Viewing now")[0] == ("The first post /first", "2")


@alone
@pytest.mark.parametrize("title", ["Post", "مرحبا"])
@pytest.mark.parametrize("direction", ["ltr", "rtl"])
def test_the_page_that_stands_alone_begins_at_the_edge_that_reading_begins_at(
    filled: Site,
    visitor: MakeVisitor,
    direction: str,
    title: str,
) -> None:
    retitle = f"import django; django.setup(); from example_project.blog.models import Post; \
Post.objects.filter(slug='first').update(title={title!r})"
    run_python(filled.database, "-c", retitle)
    page = visitor().new_page()
    edge = 0 if direction == "ltr" else 1
    for width in (360, 1600):
        page.set_viewport_size({"width": width, "height": 800})
        read(page, "/standalone/")
        page.locator("html").evaluate("(html, direction) => html.dir = direction", direction)
        for name in ("now", "pages"):
            box = page.locator(f"table.pagestats-{name}").bounding_box()
            assert box is not None
            begin = box["x"] + edge * box["width"]
            row = f"table.pagestats-{name} tr:has-text('{title}')"
            named, path = ends(page, f"{row} .pagestats-title")[0], ends(page, f"{row} .pagestats-path")[0]
            assert named[edge] == pytest.approx(begin, abs=1)
            assert (
                ends(page, f"table.pagestats-{name} thead th")[0][edge] == pytest.approx(begin, abs=1) or width == 360
            )
            if name == "pages" and width == 360:
                assert path[edge] == pytest.approx(begin, abs=1)
            else:
                gap = path[0] - named[1] if direction == "ltr" else named[0] - path[1]
                assert gap >= 8


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_the_column_and_the_panel_of_the_admin_are_accessible(
    filled: Site,
    visitor: MakeVisitor,
    color_scheme: str,
) -> None:
    page = visitor(javascript=True, color_scheme=color_scheme).new_page()
    log_in(page)
    look_at(page, "/admin/blog/post/?o=-5", context=OURS and "#result_list")
    rows = page.locator("#result_list tbody tr")
    expect(rows.locator(".field-page_views")).to_have_text(["1,234", "3", "0", "0"])
    for title in ("The first post", "A draft"):
        read(page, "/admin/blog/post/")
        page.get_by_role("link", name=title).click()
        page.wait_for_url("**/change/**")
        look_at(page, page.url, context=OURS)
        assert page.locator(".pagestats-panel figure").count() == (title == "The first post")
    read(page, "/admin/blog/post/")
    page.get_by_role("link", name="Nowhere").click()
    expect(page.get_by_text("This object has no page yet.")).to_be_visible()


@alone
def test_the_public_page_follows_who_comes_and_says_when_it_can_not(
    site: Site,
    visitor: MakeVisitor,
) -> None:
    page = visitor(javascript=True).new_page()
    page.clock.install()
    log_in(page)  # and is told no more than anybody
    read(page, "/standalone/")
    rows = page.locator("[data-pagestats=by_path] tr")
    stale = page.get_by_text("Can’t reach the site")
    expect(rows).to_have_count(0)
    read(visitor().new_page(), "/", "/first")
    with page.expect_response(re.compile(r"/standalone/\?active$")):
        page.clock.fast_forward(LONGER_THAN_A_PAUSE)
    expect(page.locator("[data-pagestats=visitors]")).to_have_text("1")
    expect(rows).to_have_text(["The first post /first1"])
    expect(page.get_by_text("Nobody is on the pages")).to_be_hidden()
    expect(stale).to_be_hidden()
    page.route("**/standalone/?active", lambda route: route.abort())
    page.clock.fast_forward(LONGER_THAN_A_PAUSE)
    expect(stale).to_be_visible()
