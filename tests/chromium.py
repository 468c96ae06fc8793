"""A Chromium whose windows and tabs are real ones. Playwright's pages are never hidden.

It is told what to do over a pipe, in the words of the DevTools protocol:
https://chromedevtools.github.io/devtools-protocol/
"""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60

# Notes what goes wrong in a page, and what its tracker sends, and when.
LISTEN = """
    const sent = (window.sent = []), wrong = (window.wrong = []), post = navigator.sendBeacon;
    for (const name of ['error', 'unhandledrejection', 'securitypolicyviolation'])
        addEventListener(name, (event) => wrong.push(`${name} ${event.message || event.reason || event.blockedURI}`));
    navigator.sendBeacon = function (url, body) {
        sent.push([new URL(url, location).pathname, JSON.parse(body).path, Date.now()]);
        return post.call(this, url, body);
    };
"""

Preferences = dict[str, Any]

NO_SITE_MAY_STORE: Preferences = {"profile": {"default_content_setting_values": {"cookies": 2}}}
DO_NOT_TRACK: Preferences = {"enable_do_not_track": True}

# It reads from descriptor 3 and writes to 4.
LAUNCH = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, pipe in enumerate(pipes, start=3):
    os.dup2(pipe, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


def until(holds: Callable[[], Any], *, what: str, patience: float = PATIENCE) -> Any:
    """Wait until something holds, and return what it is."""
    deadline = time.monotonic() + patience
    while not (found := holds()):
        assert time.monotonic() < deadline, f"After {patience} seconds it does not hold that {what}."
        time.sleep(0.05)
    return found


class Tab:
    """One tab."""

    def __init__(self, chromium: "Chromium", key: str) -> None:
        self.chromium = chromium
        self.key = key
        self.session = chromium.tell("Target.attachToTarget", targetId=key, flatten=True)["sessionId"]
        self.tell("Page.enable")
        self.tell("Page.addScriptToEvaluateOnNewDocument", source=LISTEN)

    def tell(self, method: str, **arguments: Any) -> dict[str, Any]:
        return self.chromium.tell(method, session=self.session, **arguments)

    def run(self, script: str) -> Any:
        """Return what a script returns, its promise kept."""
        answer = self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, url: str) -> None:
        """Open a page, and wait until it is there."""
        self.tell("Page.navigate", url=url)
        self.wait_for(url)

    def wait_for(self, url: str) -> None:
        """Wait until a page is there and its scripts have run."""
        until(lambda: self.is_at(url), what=f"{url} is there")

    def is_at(self, url: str) -> bool:
        try:
            return bool(self.run(f"location.href === {url!r} && document.readyState === 'complete'"))
        except Refusal:  # one page goes, and the next one is not there yet
            return False

    def show(self) -> None:
        """Bring the tab to the front of its window."""
        self.chromium.tell("Target.activateTarget", targetId=self.key)
        self.wait_until_hidden(False)

    def wait_until_hidden(self, hidden: bool) -> None:
        until(lambda: self.run("document.hidden") is hidden, what=f"hidden is {hidden}")

    def resize(self, state: str) -> None:
        """Make the window of the tab "minimized" or "normal"."""
        window = self.chromium.tell("Browser.getWindowForTarget", targetId=self.key)["windowId"]
        self.chromium.tell("Browser.setWindowBounds", windowId=window, bounds={"windowState": state})

    def crash(self) -> None:
        """Kill the process that renders the tab."""
        self.chromium.send("Page.crash", session=self.session)
        until(lambda: self.chromium.heard("Inspector.targetCrashed", self.session), what="the tab has crashed")


class Refusal(Exception):
    """Chromium does not do what it is told."""


class Chromium:
    """A running Chromium."""

    def __init__(self, to: int, out: int) -> None:
        self.to, self.out = to, out
        self.number = 0
        self.unread = b""
        self.events: list[dict[str, Any]] = []

    def tab(self, url: str = "", *, new_window: bool = False) -> Tab:
        """Open a tab in front of the others, or a window, with a page in it."""
        key = self.tell("Target.createTarget", url="about:blank", newWindow=new_window)["targetId"]
        tab = Tab(self, key)
        if url:
            tab.open(url)
        return tab

    def tell(self, method: str, *, session: str = "", **arguments: Any) -> dict[str, Any]:
        """Tell Chromium what to do, and return what it answers."""
        number = self.send(method, session=session, **arguments)
        while True:
            message = self.read()
            if message.get("id") == number:
                if "error" in message:
                    raise Refusal(f"{method}: {message['error']['message']}")
                return dict(message["result"])

    def send(self, method: str, *, session: str = "", **arguments: Any) -> int:
        self.number += 1
        message = {
            "id": self.number,
            "method": method,
            "params": arguments,
            **({"sessionId": session} if session else {}),
        }
        os.write(self.to, json.dumps(message).encode() + b"\0")
        return self.number

    def read(self) -> dict[str, Any]:
        """Return the next message, and keep it if it is an event."""
        while b"\0" not in self.unread:
            assert select.select([self.out], [], [], PATIENCE)[0], "Chromium does not answer."
            chunk = os.read(self.out, 1 << 16)
            assert chunk, "Chromium has ended."
            self.unread += chunk
        message, _, self.unread = self.unread.partition(b"\0")
        read: dict[str, Any] = json.loads(message)
        if "method" in read:
            self.events.append(read)
        return read

    def heard(self, event: str, session: str) -> bool:
        """Tell whether something has happened in a tab."""
        self.tell("Browser.getVersion")
        return any(heard["method"] == event and heard.get("sessionId") == session for heard in self.events)


@contextmanager
def running(profile: Path, *arguments: str, preferences: Preferences) -> Iterator[Chromium]:
    """Run Chromium with a profile of its own, in which somebody has set some preferences."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("There is no chromium on the PATH. Install it; on Debian: apt-get install chromium", pytrace=False)
    (profile / "Default").mkdir(parents=True)
    (profile / "Default" / "Preferences").write_text(json.dumps(preferences))
    from_here, to = os.pipe()
    out, to_here = os.pipe()
    command = [sys.executable, "-c", LAUNCH, f"{from_here}", f"{to_here}", program]
    options = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", *arguments, "about:blank"]
    process = subprocess.Popen([*command, *options], pass_fds=[from_here, to_here], stderr=subprocess.DEVNULL)
    os.close(from_here)
    os.close(to_here)
    try:
        chromium = Chromium(to, out)
        yield chromium
        chromium.send("Browser.close")
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(to)
        os.close(out)
