"""The example site under a server, and visitors of it in a real Chromium: what the tests of pages share."""

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests import ROOT
from tests.agents import CHROME

PATIENCE = 60
MakeVisitor = Callable[..., BrowserContext]
BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]
WIDTHS = (320, 360, 800, 1600)
WIDTHS_FOR_AXE = (360, 800, 1600)
LONG_PATH = "/" + 200 * "y"
LONG_TITLE = 200 * "T"
WRITE = f"""
import django
django.setup()
from django.contrib.auth.models import User
from example_project.blog.models import Page, Post
User.objects.create_superuser("editor", password="editor")
Post.objects.create(slug="first", title="The first post", published=True, body="Read `me`.\\n\\n## More")
Post.objects.create(slug="{LONG_PATH[1:]}", title="{LONG_TITLE}", published=True, body="{300 * "w"}")
Post.objects.create(slug="draft", title="A draft", published=False)
Page.objects.create(slug="about", title="About", published=True, body="About this site.")
"""


@dataclass(frozen=True)
class Site:
    """The example site while it is served."""

    port: int
    log: Path

    @property
    def database(self) -> Path:
        return self.log.with_name("example.sqlite3")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, *, method: str = "GET", **headers: str) -> int:
        """Ask for a path without a browser; return the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers={"User-Agent": CHROME, **names})
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()


@pytest.fixture(scope="module")
def written_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database with an editor, two posts, a draft and a page, and no visits."""
    database = tmp_path_factory.mktemp("example") / "written.sqlite3"
    for arguments in (["-m", "django", "migrate", "--verbosity", "0"], ["-c", WRITE]):
        run_python(database, *arguments)
    return database


def run_python(database: Path, *arguments: str) -> str:
    """Run Python in the example site on a database, and return what it printed."""
    command = [sys.executable, *arguments]
    asked = {"cwd": ROOT, "env": environment(database), "check": True, "timeout": PATIENCE}
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, **asked).stdout


@pytest.fixture
def site(request: pytest.FixtureRequest, written_database: Path, tmp_path: Path) -> Iterator[Site]:
    """The example site under a server, with a database of its own; its log must be free of errors at the end."""
    database = tmp_path / "example.sqlite3"
    shutil.copy(written_database, database)
    with served(database, tmp_path / "server.log", getattr(request, "param", gunicorn)) as site:
        yield site
    log = site.log.read_text()
    assert not re.search(r"Traceback|ERROR|not recorded", log), log


def gunicorn(socket_number: int, folder: Path) -> list[str]:
    command = [
        "gunicorn",
        "example_project.wsgi",
        "--bind",
        f"fd://{socket_number}",
        "--workers",
        "2",
        "--threads",
        "4",
    ]
    return [*command, "--worker-tmp-dir", str(folder), "--no-control-socket"]


def uvicorn(socket_number: int, folder: Path) -> list[str]:
    return ["uvicorn", "example_project.asgi:application", "--fd", str(socket_number), "--lifespan", "off"]


@contextmanager
def served(
    database: Path,
    log: Path,
    server: Callable[[int, Path], list[str]] = gunicorn,
    settings: str = "example_project.settings",
) -> Iterator[Site]:
    # The socket is opened here and inherited, so that no other process can take the port in between.
    with socket.create_server(("127.0.0.1", 0)) as listening, log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *server(listening.fileno(), log.parent)],
            cwd=ROOT,
            env=environment(database, settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[listening.fileno()],
        )
        try:
            site = Site(port=listening.getsockname()[1], log=log)
            wait_until_served(site, process)
            yield site
        finally:
            process.terminate()
            process.wait(PATIENCE)


def wait_until_served(site: Site, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            # The style sheet: no page view.
            status = site.get("/static/blog/site.css")
        except OSError:
            time.sleep(0.1)
        else:
            assert status == 200, f"The style sheet is answered {status}."
            return
    pytest.fail(f"The server does not serve the example site:\n{site.log.read_text()}")


def environment(database: Path, settings: str = "example_project.settings") -> dict[str, str]:
    return {**os.environ, "DJANGO_SETTINGS_MODULE": settings, "EXAMPLE_DATABASE": str(database)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("There is no chromium on the PATH. Install it; on Debian: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser: Browser, site: Site) -> Iterator[MakeVisitor]:
    """A function that makes a visitor: a browser window of its own, without JavaScript unless asked."""
    windows = []

    def make(*, user_agent: str = CHROME, javascript: bool = False, color_scheme: str = "light") -> BrowserContext:
        window = browser.new_context(
            base_url=site.url, user_agent=user_agent, java_script_enabled=javascript, color_scheme=color_scheme
        )
        windows.append(window)
        return window

    yield make
    for window in windows:
        window.unroute_all(behavior="ignoreErrors")  # what is still on its way is of no test any more
        window.close()


def read(page: Page, *paths: str) -> None:
    for path in paths:
        response = page.goto(path)
        assert response is not None
        assert response.status == 200, f"{path} is answered {response.status}"


def log_in(page: Page, *, to: str = "/admin/", user: str = "editor") -> Page:
    """Log in with a page, and return it: user's password is its name."""
    page.goto(f"/admin/login/?next={to}")
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(user)
    page.get_by_role("button", name="Log in").click()
    return page


def look_at(page: Page, address: str, *, context: str | None = None) -> None:
    """Look at a page in each width for what is too wide, and for what axe finds in it or in an element of it."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        read(page, address)
        wide = page.evaluate("document.scrollingElement.scrollWidth")
        assert wide <= width, f"{address} is {wide} px wide in a window of {width} px"
        spilling = page.evaluate(
            "[...document.querySelectorAll('.pagestats *')].filter(e => e.scrollWidth > e.clientWidth + 1"
            " && e.clientWidth > 1 && e.checkVisibility() && getComputedStyle(e).display !== 'inline'"
            " && !e.matches('.pagestats-unseen, .pagestats-scroll')).map(e => e.className || e.tagName)"
        )
        assert spilling == [], f"{spilling} of {address} at {width} px"
        if width in WIDTHS_FOR_AXE:
            found = Axe().run(page, context=context)
            assert found.violations_count == 0, f"{address} at {width} px:\n{found.generate_report()}"


def ends(page: Page, selector: str) -> list[tuple[float, float]]:
    """Return where the text of each visible element begins and ends, from the left."""
    found: list[list[float]] = page.locator(f"{selector} >> visible=true").evaluate_all(
        "all => all.map(element => { const range = document.createRange(); range.selectNodeContents(element);"
        " const { left, right } = range.getBoundingClientRect(); return [left, right]; })"
    )
    return [(left, right) for left, right in found]


def figures(page: Page) -> dict[str, str]:
    """Return the cards of the stats page: label to figure."""
    cards = page.locator(".pagestats-cards > div")
    return {card.locator("dt").inner_text(): card.locator("dd").first.inner_text() for card in cards.all()}


def table(page: Page, caption: str) -> list[tuple[str, ...]]:
    """Return the rows of a table of the stats page, without its heading: title, type, path and views of a page."""
    rows = page.get_by_role("table", name=caption).locator("tbody tr").all()
    cells = [[" ".join(text.split()) for text in row.locator("th, td").all_inner_texts()] for row in rows]
    if caption != "Pages by views":
        return [tuple(texts) for texts in cells]
    paths = [row.locator("th .pagestats-path").inner_text() for row in rows]
    return [
        (title.removesuffix(path).rstrip(), kind, path, views)
        for (title, kind, views), path in zip(cells, paths, strict=True)
    ]
