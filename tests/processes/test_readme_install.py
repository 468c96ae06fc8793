"""The README's three steps, as they stand there, in a fresh site with the built wheel."""

import html
import http.cookiejar
import os
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import ROOT
from tests.agents import CHROME

pytestmark = pytest.mark.any_database("the fresh site brings a SQLite file of its own")

README = (ROOT / "README.md").read_text()
STEPS = README.partition("## Three steps")[2].partition("\n## ")[0]
SECONDS_TO_START = 30

Run = Callable[..., subprocess.CompletedProcess[str]]


def blocks(language: str) -> list[str]:
    """Return the code blocks of the three steps that are marked as a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", STEPS, re.DOTALL | re.MULTILINE)
    return [code for marked, code in found if marked == language]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, since building leaves its traces beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pagestats", "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", ROOT / name, folder / name], check=True)
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", folder]
    subprocess.run(build, check=True, capture_output=True)
    return next((folder / "dist").glob("*.whl"))


@pytest.fixture
def run(wheel: Path, tmp_path: Path) -> Run:
    """Return a function that runs Python in the folder of the site, where the package is the wheel's."""
    packages = tmp_path / "packages"

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PAGESTATS", "DJANGO"))}
        return subprocess.run(
            [sys.executable, "-W", "ignore", *arguments],
            cwd=tmp_path,
            env={**kept, "PYTHONPATH": str(packages), **environment},
            check=True,
            capture_output=True,
            text=True,
        )

    install, *_ = blocks("")
    assert install == "pip install django-pagestats\n"
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), str(wheel))
    located = run("-c", "import pagestats; print(pagestats.__file__)").stdout
    assert located.startswith(str(packages))
    return run


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the site of a folder, and give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(folder / "packages")}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    command = [sys.executable, "-W", "ignore", "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
    assert "Traceback" not in (folder / "server.log").read_text()


class Browser:
    """What opens pages and keeps cookies, and runs no JavaScript."""

    def __init__(self) -> None:
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(cookies)
        self.opener.addheaders = [("User-Agent", CHROME), ("Accept", "text/html")]

    def open(self, url: str, **form: str) -> str:
        """Open a page, or send a form, and return what it shows, tags and runs of blanks left out."""
        sent = urllib.parse.urlencode(form).encode() if form else None
        request = urllib.request.Request(url, data=sent, headers={"Referer": url})
        with self.opener.open(request, timeout=30) as answer:
            self.source = answer.read().decode()
        return " ".join(html.unescape(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", self.source, flags=re.S)).split())

    def log_in(self, url: str, *, user: str, password: str) -> str:
        self.open(url)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.source)
        assert token
        return self.open(url, csrfmiddlewaretoken=token[1], username=user, password=password, next="/admin/")


def test_three_steps_and_the_admin_shows_one_view_and_one_active_visitor(run: Run, tmp_path: Path) -> None:
    run("-m", "django", "startproject", "site_of_the_reader", ".")
    (lines, *_), (_, migrate, *_) = blocks("python"), blocks("")
    assert "INSTALLED_APPS" in lines
    apps, middleware = lines.split("MIDDLEWARE", 1)
    # "# ..." stands for what the site has already.
    settings = apps.replace("# ...", "*INSTALLED_APPS,") + "MIDDLEWARE" + middleware.replace("# ...", "*MIDDLEWARE,")
    with (tmp_path / "site_of_the_reader/settings.py").open("a") as file:
        file.write(settings)
    run("manage.py", "check", "--fail-level", "INFO")
    assert migrate == "python manage.py migrate\n"
    run(*migrate.split()[1:])
    superuser = ("createsuperuser", "--noinput", "--username", "reader", "--email", "reader@example.com")
    run("manage.py", *superuser, DJANGO_SUPERUSER_PASSWORD="a password")

    with served(tmp_path) as address:
        browser = Browser()
        assert "The install worked successfully" in browser.open(f"{address}/")
        menu = browser.log_in(f"{address}/admin/login/", user="reader", password="a password")
        assert "Page stats" in menu
        stats = browser.open(f"{address}/admin/pagestats/stats/")

    assert re.search(r"Active now 1\b", stats), stats
    assert re.search(r"Page views 1\b", stats), stats
    assert re.search(r"Daily visitors 1\b", stats), stats
    content = browser.source.partition('id="content"')[2].partition('id="footer"')[0]
    assert re.findall("<script[^>]*>", content) == ['<script id="pagestats-series" type="application/json">']
