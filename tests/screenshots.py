"""Take the screenshots of the README from the demo, or of every page: python -m tests.screenshots --help."""

import argparse
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.agents import CHROME
from tests.browsing import BROWSER_OPTIONS, PATIENCE, log_in, run_python, served

README = {"page-stats": "/admin/pagestats/stats/", "public-stats": "/stats/"}
README_SIZE = (1280, 960)
EVERY_PAGE = {
    **README,
    "page-stats-yesterday": "/admin/pagestats/stats/?period=yesterday",
    "page-stats-12-months": "/admin/pagestats/stats/?period=12m&order=-visitors&q=the",
    "page-stats-all": "/admin/pagestats/stats/?period=all",
    "page-stats-wrong-range": "/admin/pagestats/stats/?period=custom&start=2026-02-30&end=2026-02-01",
    "page-stats-of-a-path": "/admin/pagestats/stats/page/?path=/",
    "page-views": "/admin/pagestats/pageview/",
    "active-sessions": "/admin/pagestats/activesession/",
    "posts": "/admin/blog/post/",
    "post": "/admin/blog/post/1/change/",
    "blog": "/",
}
WIDTHS, HEIGHT = (360, 768, 1600), 900
SCHEMES = ("light", "dark")
PREPARE = """
import django
django.setup()
from django.utils import timezone
from example_project.blog.management.commands.demo import Command
from pagestats.rollups import begin_verification, verification
Command().prepare(timezone.localtime())
list(verification(begin_verification()))
"""


def main(folder: Path, *, every_page: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        database = Path(place) / "example.sqlite3"
        for arguments in (["-m", "django", "migrate", "--verbosity", "0"], ["-c", PREPARE]):
            run_python(database, *arguments)
        with served(database, Path(place) / "server.log") as site, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER_OPTIONS)
            page = browser.new_page(base_url=site.url, user_agent=CHROME)
            page.set_default_timeout(PATIENCE * 1_000)
            log_in(page, user="demo")
            if every_page:
                take_all(page, folder)
            else:
                take(page, folder)
            browser.close()


def take(page: Page, folder: Path) -> None:
    """Take what the README shows: the first screen of two pages."""
    width, height = README_SIZE
    page.set_viewport_size({"width": width, "height": height})
    for name, address in README.items():
        shoot(page, address, folder / f"{name}.png")


def take_all(page: Page, folder: Path) -> None:
    """Take every page from its top to its end, at each width, light and dark."""
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            for name, address in EVERY_PAGE.items():
                shoot(page, address, folder / f"{name}-{width}-{scheme}.png", whole=True)


def shoot(page: Page, address: str, file: Path, *, whole: bool = False) -> None:
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=file, full_page=whole)
    print(file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Take screenshots of the demo.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs"), help="where they go (default: docs)")
    parser.add_argument(
        "--every-page",
        action="store_true",
        help="not the README's, but all of each page, at three widths, light and dark",
    )
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    main(chosen.folder, every_page=chosen.every_page)
