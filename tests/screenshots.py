"""Take the screenshots of the README from the demo: python -m tests.screenshots [FOLDER]."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browsing import BROWSER_OPTIONS, CHROME, PATIENCE, ROOT, environment, served

PAGES = {"page-stats": "/admin/pagestats/stats/", "public-stats": "/stats/"}
SIZE = {"width": 1280, "height": 960}
PREPARE = """
import django
django.setup()
from django.utils import timezone
from example_project.blog.management.commands.demo import Command
from pagestats.rollups import begin_verification, verification
Command().prepare(timezone.localtime())
list(verification(begin_verification()))
"""


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        database = Path(place) / "example.sqlite3"
        for arguments in (["-m", "django", "migrate", "--verbosity", "0"], ["-c", PREPARE]):
            subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment(database), check=True)
        with served(database, Path(place) / "server.log") as site, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER_OPTIONS)
            take(browser, site.url, folder)
            browser.close()


def take(browser: Browser, url: str, folder: Path) -> None:
    page = browser.new_page(base_url=url, viewport=SIZE, user_agent=CHROME)
    page.set_default_timeout(PATIENCE * 1_000)
    page.goto("/admin/login/?next=/admin/")
    page.get_by_label("Username").fill("demo")
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Log in").click()
    for name, address in PAGES.items():
        page.goto(address)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=folder / f"{name}.png")
        print(f"{folder / name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
