"""Tally what a site's middleware should make of an access log, by the plainest means: one pass over the lines.

It knows nothing of the package; of bots it asks the same library. Everything happens at one moment: a session on a
path counts once. A client accepts HTML where it asks for no asset, and gets it.

    python tests/tally_access_log.py access.log.gz
"""

import gzip
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from crawlerdetect import CrawlerDetect

from tests.count_access_log import LINE, is_asset


class Line(NamedTuple):
    """One request of a log, and how it was answered."""

    address: str
    agent: str
    method: str
    target: str
    status: int

    @property
    def is_asset(self) -> bool:
        return is_asset(self.target.partition("?")[0])


def lines(log: Path) -> Iterator[Line]:
    """Yield the requests of a log, leaving out lines that are none."""
    with gzip.open(log, "rt", encoding="utf-8") as text:
        for line in text:
            if found := LINE.match(line.rstrip("\n")):
                yield Line(found["address"], found["agent"], found["method"], found["target"], int(found["status"]))


def tally(lines: Iterator[Line]) -> Counter[tuple[str, str]]:
    """Count outcomes with their reasons."""
    tallies: Counter[tuple[str, str]] = Counter()
    seen = set()
    bots: dict[str, bool] = {}
    for line in lines:
        view = line.address, line.agent, line.target.partition("?")[0]
        if line.agent not in bots:
            bots[line.agent] = not line.agent or bool(CrawlerDetect(user_agent=line.agent).isCrawler())
        if line.method != "GET":
            outcome = "not_stored", "method"
        elif line.status not in (200, 304):
            outcome = "not_stored", "status"
        elif line.is_asset:
            outcome = "not_stored", "no_document"
        elif bots[line.agent]:
            outcome = "not_stored", "bot"
        elif view in seen:
            outcome = "repeat", ""
        else:
            seen.add(view)
            outcome = "recorded", ""
        tallies[outcome] += 1
    return tallies


if __name__ == "__main__":
    for outcome, count in sorted(tally(lines(Path(sys.argv[1]))).items()):
        print(count, *outcome)
