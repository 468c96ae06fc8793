"""Count the page views of an access log by the plainest means, to hold against what `pagestats` counts.

It knows nothing of the package: dictionaries, and one pass over the lines.

    python tests/count_access_log.py access.log.gz

A request is a page view here when it is a GET, was answered 200, and is no asset: the file name at the end of its path
has none of the extensions in ASSETS. A path is what stands before the query. A session is an address with a user agent.
"""

import gzip
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

ASSETS = frozenset(
    [
        *("css", "js", "map", "ico", "png", "jpg", "jpeg", "gif", "svg", "webp", "woff", "woff2", "ttf", "otf", "eot"),
        *("swf", "xml", "rss", "atom", "xsl", "txt", "log", "conf", "json", "pdf"),
        *("zip", "gz", "tgz", "bz2", "xz", "tar", "jar", "deb", "rpm", "gem", "exe"),
    ]
)
WINDOW = timedelta(minutes=30)

# The combined format. The closing quote of the user agent is missing where a line was cut.
LINE = re.compile(
    r'(?P<address>\S+) \S+ \S+ \[(?P<at>[^\]]+)\] "(?P<method>[A-Z]+) (?P<target>\S+) [^"]*" (?P<status>\d{3}) \S+'
    r' "(?P<referrer>.*?)" "(?P<agent>.*?)"?$'
)


class Request(NamedTuple):
    """A request that is a page view, if it is no repeat."""

    path: str
    session_id: str
    at: datetime


class Counts(NamedTuple):
    """What was counted."""

    views: int
    visitors: int
    views_by_path: dict[str, int]


def requests(log: Path) -> Iterator[Request]:
    """Yield the requests of a log that are for pages, in the order of its lines."""
    with gzip.open(log, "rt", encoding="utf-8") as lines:
        for line in lines:
            found = LINE.match(line.rstrip("\n"))
            if not found or found["method"] != "GET" or found["status"] != "200":
                continue
            path = found["target"].partition("?")[0]
            if is_asset(path):
                continue
            client = f"{found['address']} {found['agent']}"
            yield Request(
                path=path,
                session_id=hashlib.sha256(client.encode()).hexdigest()[:32],
                at=datetime.strptime(found["at"], "%d/%b/%Y:%H:%M:%S %z"),
            )


def is_asset(path: str) -> bool:
    """Tell by its extension whether a path is of a file that is no page."""
    _, dot, extension = path.rpartition("/")[2].rpartition(".")
    return bool(dot) and extension.lower() in ASSETS


def without_repeats(requests: Iterable[Request]) -> list[Request]:
    """Return the requests that come at least half an hour after the last kept one of their session and path.

    They are judged in order of time; those of one second in the order of their lines.
    """
    kept = []
    last: dict[tuple[str, str], datetime] = {}
    for request in sorted(requests, key=lambda request: request.at):
        key = request.session_id, request.path
        if key not in last or request.at - last[key] >= WINDOW:
            last[key] = request.at
            kept.append(request)
    return kept


def count(requests: Iterable[Request]) -> Counts:
    """Count requests, each as one view."""
    sessions = set()
    views_by_path: dict[str, int] = {}
    for request in requests:
        sessions.add(request.session_id)
        views_by_path[request.path] = views_by_path.get(request.path, 0) + 1
    return Counts(sum(views_by_path.values()), len(sessions), views_by_path)


def main(log: Path) -> None:
    every = list(requests(log))
    for name, counted in (("all rows", count(every)), ("by the 30-minute rule", count(without_repeats(every)))):
        most = sorted(counted.views_by_path.items(), key=lambda item: (-item[1], item[0]))
        print(f"{name}: {counted.views} views, {counted.visitors} sessions, {len(most)} paths")
        print(json.dumps(dict(most), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} LOG.gz")
    main(Path(sys.argv[1]))
