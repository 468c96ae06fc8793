"""The golden traces: what the original did, to the millisecond, and the package does too.

A trace is a file of recorded ops, one JSON object a line. The environment variable PAGESTATS_TRACES names the folder of
the traces; without it, that is `shared/traces` beside the project.
"""

import contextlib
import dataclasses
import datetime
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from example_project.blog.models import Page, Post
from pagestats.hits import Hit, InvalidHit
from pagestats.models import ActiveSession, PageView
from pagestats.recording import record_heartbeat, record_page_view
from pagestats.retention import cleanup_stale_sessions
from pagestats.rollups import Progress, backfill, repair, verify
from pagestats.stats import snapshot
from tests.factories import CONTENT
from tests.oracle import (
    Content,
    Refused,
    Rollups,
    Site,
    View,
    expected_rollups,
    is_refused,
    most_first,
    stored_rollups,
)

TRACES = Path(os.environ.get("PAGESTATS_TRACES") or Path(__file__).resolve().parents[3] / "shared" / "traces")
DESIGN_DECIDES = {"seed-bug", "nul", "clock-backwards", "js-prototype"}
"""Tags of traces in which the original did what the design deliberately does not."""

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
CHUNK = 500
CONTENT_MODELS = {"posts": Post, "pages": Page}
ARGUMENTS = {
    "recordPageView": {"path": "path", "pageType": "page_type", "sessionId": "session_id"},
    "heartbeat": {"currentPath": "path", "sessionId": "session_id"},
}
"""The arguments of the ops that become hits, with their names in Hit."""

pytestmark = pytest.mark.django_db


def trace_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.jsonl") if path.is_file())


def trace_params() -> list[Any]:
    no_traces = pytest.mark.skip(reason=f"no traces (*.jsonl) in {TRACES}; PAGESTATS_TRACES names another folder")
    return [pytest.param(path, id=path.stem) for path in trace_files(TRACES)] or [
        pytest.param(None, id="none", marks=no_traces)
    ]


def instant(milliseconds: float) -> datetime.datetime:
    return EPOCH + datetime.timedelta(milliseconds=milliseconds)


@dataclasses.dataclass(eq=False)
class Created:
    """A row that the original created: as each of the two models has it, and whether the original's aggregates do."""

    number: int
    original: View | None
    designed: View | None
    aggregated: bool


@dataclasses.dataclass(eq=False)
class Chain:
    """A backfill that takes a chunk a round: ours, and how far the original's is in its rows."""

    chunks: Iterator[Progress]
    last: int = -1


class Replay:
    """One trace, played on the package and on two models of it.

    `designed` does what the design says; `original` does what the recorded system did, and differs in this alone: it
    refuses and shortens no text. The package must answer as `designed`. The record must be what `original` answers,
    unless a tag says that the design decides. In a trace without such texts the two are the same, so that the package
    must answer as recorded.
    """

    def __init__(self, trace: Path) -> None:
        with trace.open(encoding="utf-8", newline="\n") as lines:
            parsed = [json.loads(line) for line in lines if line.strip()]
        self.name = trace.name
        assert [line["kind"] for line in parsed] == ["header", *["op"] * (len(parsed) - 2), "final"], (
            f"{self.name}: not one header, ops, and one final"
        )
        self.header, *self.ops, self.final = parsed
        assert self.ops, f"{self.name}: a trace with no ops"
        assert self.header["ops"] == len(self.ops), f"{self.name}: not as many ops as its header says"
        self.design_decides = not DESIGN_DECIDES.isdisjoint(self.header["tags"])
        self.designed = Site()
        self.original = Site(original=True)
        self.created: list[Created] = []
        self.numbers = itertools.count()
        self.chains: list[Chain] = []
        self.opened = contextlib.ExitStack()
        self.any_deleted = False
        self.where = f"{self.name} header"

    def run(self) -> None:
        play = {
            "recordPageView": self.record_page_view,
            "heartbeat": self.heartbeat,
            "getStats": self.get_stats,
            "cleanupStaleSessions": self.cleanup,
            "backfillAggregates": self.backfill,
            "backfillStart": self.backfill_start,
            "backfillStep": self.backfill_step,
            "rawInsertViews": self.raw_insert,
            "rawDeleteViews": self.raw_delete,
            "content": self.content,
            "aggCounts": self.aggregate_counts,
            "aggQuery": self.skip,
        }
        with self.opened:
            for op in self.ops:
                self.where = f"{self.name} op {op.get('i')} {op['op']}"
                assert op["op"] in play, f"{self.where}: an op that this replay does not know"
                if op.get("error", {}).get("kind") == "ArgumentValidationError":
                    self.refused_arguments(op)
                    continue
                assert self.design_decides or "error" not in op, f"{self.where}: an error that the design leaves alone"
                play[op["op"]](instant(op["t"]), op.get("args", {}), op)
            self.where = f"{self.name} final"
            self.finish()

    def agree(self, what: str, *, ours: Any, designed: Any, recorded: Callable[[], Any], original: Any) -> None:
        """Compare the package with the design, and the record with the original.

        `recorded` is called only if the record counts: where the design decides, it may be of any form.
        """
        assert ours == designed, f"{self.where}: {what}, ours and the design's"
        if not self.design_decides:
            assert recorded() == original, f"{self.where}: {what}, the record and the original's rules"

    # Page views and heartbeats

    def record_page_view(self, at: datetime.datetime, args: dict[str, str], op: dict[str, Any]) -> None:
        path, page_type, session_id = args["path"], args["pageType"], args["sessionId"]
        try:
            stored = record_page_view(Hit(path=path, page_type=page_type, session_id=session_id, at=at))
            ours = "deduped" if stored is None else "inserted"
        except InvalidHit:
            stored = None
            ours = "refused"
        view: View | None
        try:
            view = self.designed.record(path, session_id, at, page_type)
            designed = "deduped" if view is None else "inserted"
        except Refused:
            view = None
            designed = "refused"
        original_view = self.original.record(path, session_id, at, page_type)
        self.agree(
            "effect and result",
            ours=(ours, None),
            designed=(designed, None),
            recorded=lambda: (op["effect"], op["result"]),
            original=("deduped" if original_view is None else "inserted", None),
        )
        if stored is not None:
            assert as_row(stored) == self.designed.rows()[-1], f"{self.where}: the page view that was returned"
        if op.get("effect") == "inserted":
            self.created.append(Created(next(self.numbers), original_view, view, aggregated=True))

    def heartbeat(self, at: datetime.datetime, args: dict[str, str], op: dict[str, Any]) -> None:
        path, session_id = args["currentPath"], args["sessionId"]
        try:
            ours = record_heartbeat(Hit(path=path, session_id=session_id, at=at))
        except InvalidHit:
            ours = "refused"
        try:
            designed = self.designed.heartbeat(path, session_id, at)
        except Refused:
            designed = "refused"
        words = {"created": "created", "patched": "updated", "unchanged": "skipped"}
        self.agree(
            "effect and result",
            ours=(ours, None),
            designed=(designed, None),
            recorded=lambda: (words.get(op["effect"]), op["result"]),
            original=(self.original.heartbeat(path, session_id, at), None),
        )

    def refused_arguments(self, op: dict[str, Any]) -> None:
        """Show that no hit can be made of the arguments; a name that is missing or unknown is refused before that."""
        args = op.get("args")
        names = ARGUMENTS.get(op["op"])
        if names and isinstance(args, dict) and set(args) == set(names):
            with pytest.raises(InvalidHit):
                Hit(**{names[name]: value for name, value in args.items()}, at=instant(op["t"]))

    # Answers

    def get_stats(self, at: datetime.datetime, args: dict[str, Any], op: dict[str, Any]) -> None:
        self.agree(
            "result",
            ours=told(snapshot(at=at)),
            designed=self.designed.snapshot(at),
            recorded=lambda: as_snapshot(op["result"]),
            original=self.original.snapshot(at),
        )

    def cleanup(self, at: datetime.datetime, args: dict[str, Any], op: dict[str, Any]) -> None:
        before = session_ids()
        count = cleanup_stale_sessions(at=at)
        designed = self.designed.cleanup(at)
        original = self.original.cleanup(at)
        self.agree(
            "result and deleted",
            ours=(count, sorted(before - session_ids())),
            designed=(len(designed), designed),
            recorded=lambda: (op["result"], sorted(op["deleted"])),
            original=(len(original), original),
        )

    def aggregate_counts(self, at: datetime.datetime, args: dict[str, Any], op: dict[str, Any]) -> None:
        self.compare_aggregates(op.get("result"))

    def compare_aggregates(self, recorded: dict[str, Any] | None) -> None:
        """Compare the rollups alone, cell by cell with the design, and in sum with the record where that counts too.

        The record counts while nothing is pending, in our tables or in the original's, and no row was ever deleted: the
        original does not take a deleted row out of its aggregates, and that is one of the deliberate differences.
        """
        stored = stored_rollups()
        expected = expected_rollups(self.designed.rolled_up(), settings.TIME_ZONE)
        assert stored == expected, f"{self.where}: the rollups, ours and the design's"
        if self.design_decides or self.any_deleted or self.designed.pending():
            return
        if all(row.aggregated for row in self.created):
            self.agree(
                "aggregates",
                ours=totals_of_rollups(stored),
                designed=totals_of_views(self.designed.stored_views()),
                recorded=lambda: as_totals(recorded or {}),
                original=totals_of_views(self.original.views),
            )

    # Backfill

    def backfill(self, at: datetime.datetime, args: dict[str, Any], op: dict[str, Any]) -> None:
        self.compare_message(op)
        pending = len(self.designed.pending())
        visitors = len({view.session_id for view in self.designed.rolled_up()})
        chunks = list(backfill())
        self.note_rolled_up()
        assert [(chunk.processed, chunk.total) for chunk in chunks] == [
            (min(pending, start + CHUNK), pending) for start in range(0, pending, CHUNK)
        ], f"{self.where}: progress"
        if chunks:
            new_visitors = len({view.session_id for view in self.designed.rolled_up()}) - visitors
            assert chunks[-1].new_visitors == new_visitors, f"{self.where}: new visitors"
        assert self.designed.pending() == [], f"{self.where}: pending page views after a backfill"
        for row in self.created:
            row.aggregated = True
        self.chains = []

    def backfill_start(self, at: datetime.datetime, args: dict[str, Any], op: dict[str, Any]) -> None:
        self.compare_message(op)
        if self.created:
            self.chains.append(Chain(self.begin_backfill()))

    def begin_backfill(self) -> Iterator[Progress]:
        return self.opened.enter_context(contextlib.closing(backfill(batch_size=CHUNK)))

    def backfill_step(self, at: datetime.datetime, args: dict[str, Any], op: dict[str, Any]) -> None:
        """Run one chunk of each chain. The original's goes over all rows in chunks, ours over the pending ones."""
        chunks = iter(op.get("chunks") or [])
        for chain in list(self.chains):
            pending = len(self.designed.pending())
            if next(chain.chunks, None) is None:
                # Ours came to its end before the original did, which will meet the rows that have come since.
                chain.chunks = self.begin_backfill()
                next(chain.chunks, None)
            self.note_rolled_up()
            assert len(self.designed.pending()) == max(0, pending - CHUNK), f"{self.where}: pending after a chunk"
            page = [row for row in self.created if row.number > chain.last][:CHUNK]
            for row in page:
                row.aggregated = True
                chain.last = row.number
            # The record tells whether a chain ended with its last full chunk or with an empty one after it.
            result = next(chunks, {}).get("result") or {}
            if result.get("status", "complete" if len(page) < CHUNK else "in_progress") == "complete":
                self.chains.remove(chain)

    def compare_message(self, op: dict[str, Any]) -> None:
        """Compare the original's message: it had nothing to backfill only where there was no row at all."""
        if not self.design_decides:
            message = "Backfill started. Check logs for progress." if self.created else "No pageViews to backfill"
            assert op["result"] == {"message": message}, f"{self.where}: the record and the original's rules"

    def note_rolled_up(self) -> None:
        """Take over from the table which views are rolled up: the choice of a chunk is ours."""
        flags = PageView.objects.order_by("pk").values_list("rolled_up", flat=True)
        for view, rolled_up in zip(self.designed.views, flags, strict=True):
            assert rolled_up or not view.rolled_up, f"{self.where}: a rolled-up view became pending"
            view.rolled_up = rolled_up

    # What came behind the app's back

    def raw_insert(self, at: datetime.datetime, args: dict[str, Any], op: dict[str, Any]) -> None:
        """Insert the rows as pending ones; those that no door would store are left out of ours."""
        stored = len(self.designed.views)
        for path, page_type, session_id, timestamp in args["rows"]:
            row = (path, page_type, session_id, instant(timestamp))
            try:
                view = self.designed.insert(*row)
            except Refused:
                view = None
            self.created.append(Created(next(self.numbers), self.original.insert(*row), view, aggregated=False))
        PageView.objects.bulk_create(
            PageView(path=view.path, page_type=view.page_type, session_id=view.session_id, timestamp=view.timestamp)
            for view in self.designed.stored_views()[stored:]
        )

    def raw_delete(self, at: datetime.datetime, args: dict[str, Any], op: dict[str, Any]) -> None:
        """Delete the rows, and repair: what differs then is what is found, if any of them was in the rollups."""
        gone = [self.created[index] for index in args["indexes"]]
        views = [row.designed for row in gone if row.designed is not None]
        pks = list(PageView.objects.order_by("pk").values_list("pk", flat=True))
        PageView.objects.filter(pk__in=[pks[self.designed.views.index(view)] for view in views]).delete()
        self.any_deleted = True
        self.created = [row for row in self.created if row not in gone]
        self.designed.delete(views)
        self.original.delete([row.original for row in gone if row.original is not None])
        drift = list(verify())
        assert bool(drift) == any(view.rolled_up for view in views)
        assert list(repair()) == drift
        assert list(verify()) == []

    # Content

    def content(self, at: datetime.datetime, args: dict[str, Any], op: dict[str, Any]) -> None:
        model = CONTENT_MODELS[args["table"]]
        slug = storable(args["slug"])
        if args["action"] == "insert":
            fields = {"slug": slug, "title": storable(args["title"]), "published": args["published"]}
            pk = model.objects.create(**fields).pk
            self.designed.content[args["table"]].append(Content(**fields, pk=pk))
            self.original.content[args["table"]].append(Content(args["slug"], args["title"], args["published"]))
            return
        ours = self.designed.nth(args["table"], slug, args["nth"])
        originals = self.original.nth(args["table"], args["slug"], args["nth"])
        if args["action"] == "patch":
            fields = {name: storable(value) for name, value in args["set"].items()}
            assert model.objects.filter(pk=ours.pk).update(**fields) == 1
            for name, value in args["set"].items():
                setattr(ours, name, storable(value))
                setattr(originals, name, value)
        elif args["action"] == "delete":
            model.objects.get(pk=ours.pk).delete()
            self.designed.content[args["table"]].remove(ours)
            self.original.content[args["table"]].remove(originals)
        else:
            pytest.fail(f"{self.where}: an action that this replay does not know")

    def skip(self, at: datetime.datetime, args: dict[str, Any], op: dict[str, Any]) -> None:
        """Do nothing: a question to the original's aggregate component."""

    # The end

    def finish(self) -> None:
        self.agree(
            "page views",
            ours=[as_row(view) for view in PageView.objects.order_by("pk")],
            designed=self.designed.rows(),
            recorded=lambda: [(*texts, instant(at)) for *texts, at in self.final["pageViews"]],
            original=[row[:4] for row in self.original.rows()],
        )
        # Our table has no order of creation: the session is the key.
        self.agree(
            "active sessions",
            ours=sorted(ActiveSession.objects.values_list("session_id", "current_path", "last_seen")),
            designed=sorted(self.designed.session_rows()),
            recorded=lambda: [(*texts, instant(at)) for *texts, at in self.final["activeSessions"]],
            original=self.original.session_rows(),
        )
        self.compare_aggregates(self.final["aggregates"])


def storable(value: Any) -> Any:
    """Return a value of the site's content that each database can keep: a letter that it can't is replaced."""
    if not isinstance(value, str):
        return value
    return "".join("\N{REPLACEMENT CHARACTER}" if is_refused(letter) else letter for letter in value)


def session_ids() -> set[str]:
    return set(ActiveSession.objects.values_list("session_id", flat=True))


def as_row(view: PageView) -> tuple[str, str, str, datetime.datetime, bool]:
    return view.path, view.page_type, view.session_id, view.timestamp, view.rolled_up


def told(answer: Any) -> dict[str, Any]:
    """A frozen answer as a dictionary of its fields."""
    return {field.name: getattr(answer, field.name) for field in dataclasses.fields(answer)}


def as_snapshot(result: dict[str, Any]) -> dict[str, Any]:
    """A recorded result in the form of our answer, equal counts ordered by path."""
    since = result["trackingSince"]
    return {
        "active_visitors": result["activeVisitors"],
        "active_by_path": most_first((row["path"], row["count"]) for row in result["activeByPath"]),
        "total_page_views": result["totalPageViews"],
        "unique_visitors": result["uniqueVisitors"],
        "published": {"posts": result["publishedPosts"], "pages": result["publishedPages"]},
        "tracking_since": None if since is None else instant(since),
        "page_stats": most_first(
            (row["path"], row["title"], row["pageType"], row["views"]) for row in result["pageStats"]
        ),
        "total_paths": len(result["pageStats"]),
    }


def as_totals(result: dict[str, Any]) -> tuple[int, int, list[tuple[str, int]]]:
    """Recorded aggregates as views, visitors, and views of each path."""
    by_path = sorted((path, count) for path, count in result["pageViewsByPath"])
    return result["totalPageViews"], result["uniqueVisitors"], by_path


def totals_of_rollups(rollups: Rollups) -> tuple[int, int, list[tuple[str, int]]]:
    site = [cells for (dimension, _, _), cells in rollups.rollups.items() if dimension == "site"]
    by_path = sorted((path, views) for path, (views, *_) in rollups.page_totals.items())
    return sum(views for views, _, _ in site), sum(new_visitors for _, _, new_visitors in site), by_path


def totals_of_views(views: Iterable[View]) -> tuple[int, int, list[tuple[str, int]]]:
    views = list(views)
    by_path = sorted(Counter(view.path for view in views).items())
    return len(views), len({view.session_id for view in views}), by_path


def replay(trace: Path) -> None:
    with override_settings(PAGESTATS_CONTENT=CONTENT):
        Replay(trace).run()


@pytest.mark.parametrize("trace", trace_params())
def test_trace_is_replayed_exactly(trace):
    replay(trace)


# A record that was changed


def repeat_was_stored(line):
    if line.get("effect") == "deduped":
        return line | {"effect": "inserted"}


def view_was_a_repeat(line):
    if line.get("effect") == "inserted":
        return line | {"effect": "deduped"}


def heartbeat_was_skipped(line):
    if line.get("effect") == "patched":
        return line | {"effect": "unchanged"}


def heartbeat_created_a_session(line):
    if line.get("effect") == "unchanged":
        return line | {"effect": "created"}


def stats(line):
    return line["result"] if line.get("op") == "getStats" else {}


def one_more_page_view(line):
    if stats(line):
        return line | {"result": line["result"] | {"totalPageViews": line["result"]["totalPageViews"] + 1}}


def one_more_visitor(line):
    if stats(line):
        return line | {"result": line["result"] | {"uniqueVisitors": line["result"]["uniqueVisitors"] + 1}}


def one_more_published_page(line):
    if stats(line):
        return line | {"result": line["result"] | {"publishedPages": line["result"]["publishedPages"] + 1}}


def tracked_a_millisecond_longer(line):
    if stats(line).get("trackingSince"):
        return line | {"result": line["result"] | {"trackingSince": line["result"]["trackingSince"] - 1}}


def one_more_active_visitor_on_a_path(line):
    if stats(line).get("activeByPath"):
        first, *others = line["result"]["activeByPath"]
        return line | {"result": line["result"] | {"activeByPath": [first | {"count": first["count"] + 1}, *others]}}


def another_title(line):
    if stats(line).get("pageStats"):
        first, *others = line["result"]["pageStats"]
        return line | {"result": line["result"] | {"pageStats": [first | {"title": "Another title"}, *others]}}


def one_more_view_of_a_page(line):
    if stats(line).get("pageStats"):
        first, *others = line["result"]["pageStats"]
        return line | {"result": line["result"] | {"pageStats": [first | {"views": first["views"] + 1}, *others]}}


def one_more_session_cleaned_up(line):
    if line.get("op") == "cleanupStaleSessions":
        return line | {"result": line["result"] + 1}


def another_session_cleaned_up(line):
    if line.get("deleted"):
        return line | {"deleted": ["another", *line["deleted"][1:]]}


def one_more_view_in_the_aggregates(line):
    if line.get("op") == "aggCounts":
        return line | {"result": line["result"] | {"totalPageViews": line["result"]["totalPageViews"] + 1}}


def nothing_to_backfill_the_other_way_round(line):
    if line.get("op") == "backfillAggregates":
        other = {"No pageViews to backfill": "Backfill started. Check logs for progress."}
        message = other.get(line["result"]["message"], "No pageViews to backfill")
        return line | {"result": {"message": message}}


def final_view_a_millisecond_later(line):
    if line.get("pageViews"):
        *others, (path, page_type, session_id, timestamp) = line["pageViews"]
        return line | {"pageViews": [*others, [path, page_type, session_id, timestamp + 1]]}


def final_view_of_another_type(line):
    if line.get("pageViews"):
        (path, page_type, session_id, timestamp), *others = line["pageViews"]
        return line | {"pageViews": [[path, page_type + "x", session_id, timestamp], *others]}


def final_view_missing(line):
    if line.get("pageViews"):
        return line | {"pageViews": line["pageViews"][1:]}


def final_session_a_millisecond_later(line):
    if line.get("activeSessions"):
        (session_id, path, last_seen), *others = line["activeSessions"]
        return line | {"activeSessions": [[session_id, path, last_seen + 1], *others]}


def final_visitor_more(line):
    if line["kind"] == "final":
        return line | {"aggregates": line["aggregates"] | {"uniqueVisitors": line["aggregates"]["uniqueVisitors"] + 1}}


def final_page_missing(line):
    if line["kind"] == "final" and line["aggregates"]["pageViewsByPath"]:
        return line | {
            "aggregates": line["aggregates"] | {"pageViewsByPath": line["aggregates"]["pageViewsByPath"][1:]}
        }


def changed_copy(change, specimen, folder):
    """Write a copy of the smallest trace that has what `change` changes, with its last such line changed.

    Where none of the traces has it, the specimen does.
    """
    for trace in [*sorted(trace_files(TRACES), key=lambda path: path.stat().st_size), specimen]:
        lines = [json.loads(line) for line in trace.read_bytes().splitlines()]
        kinds = {line.get("op") for line in lines}
        if not DESIGN_DECIDES.isdisjoint(lines[0]["tags"]) or kinds & {"rawInsertViews", "rawDeleteViews"}:
            continue
        for position, line in reversed(list(enumerate(lines))):
            if (changed := change(line)) is not None:
                lines[position] = changed
                copy = folder / trace.name
                copy.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
                return copy
    return pytest.fail("not even the specimen has what this changes")


@pytest.mark.parametrize(
    "change",
    [
        repeat_was_stored,
        view_was_a_repeat,
        heartbeat_was_skipped,
        heartbeat_created_a_session,
        one_more_page_view,
        one_more_visitor,
        one_more_published_page,
        tracked_a_millisecond_longer,
        one_more_active_visitor_on_a_path,
        another_title,
        one_more_view_of_a_page,
        one_more_session_cleaned_up,
        another_session_cleaned_up,
        one_more_view_in_the_aggregates,
        nothing_to_backfill_the_other_way_round,
        final_view_a_millisecond_later,
        final_view_of_another_type,
        final_view_missing,
        final_session_a_millisecond_later,
        final_visitor_more,
        final_page_missing,
    ],
)
def test_one_changed_value_in_a_record_fails_the_replay(change, specimen, tmp_path):
    with pytest.raises(AssertionError, match="the record and the original's rules"):
        replay(changed_copy(change, specimen, tmp_path))


def test_specimen_is_replayed_as_long_as_nothing_is_changed(specimen):
    replay(specimen)


# What the traces at hand may not have


T = 1_766_271_600_000
DAY = 24 * 60 * 60 * 1000
NO_TOTALS = {"totalPageViews": 0, "uniqueVisitors": 0, "pageViewsByPath": []}
STARTED = {"message": "Backfill started. Check logs for progress."}


@pytest.fixture
def a_trace(tmp_path):
    def write(*ops, tags=(), views=(), sessions=(), totals=NO_TOTALS):
        header = {"kind": "header", "tags": list(tags), "ops": len(ops)}
        final = {
            "kind": "final",
            "t": T,
            "pageViews": list(views),
            "activeSessions": list(sessions),
            "aggregates": totals,
        }
        numbered = [{"kind": "op", "i": number, "t": T, **op} for number, op in enumerate(ops)]
        trace = tmp_path / "trace.jsonl"
        trace.write_text("".join(json.dumps(line) + "\n" for line in (header, *numbered, final)), encoding="utf-8")
        return trace

    return write


def a_view(path="/a", session_id="s", effect="inserted", **changes):
    args = {"path": path, "pageType": "page", "sessionId": session_id}
    return {"op": "recordPageView", "args": args, "result": None, "effect": effect, **changes}


def stats_told(page_stats=(), visitors=0, since=T, **changes):
    rows = [
        {"path": path, "title": title, "pageType": page_type, "views": views}
        for path, title, page_type, views in page_stats
    ]
    result = {
        "activeVisitors": 0,
        "activeByPath": [],
        "totalPageViews": sum(row["views"] for row in rows),
        "uniqueVisitors": visitors,
        "publishedPosts": 0,
        "publishedPages": 0,
        "trackingSince": since,
        "pageStats": rows,
    }
    return {"op": "getStats", "result": result | changes}


def totals(by_path, visitors):
    return {
        "totalPageViews": sum(count for _, count in by_path),
        "uniqueVisitors": visitors,
        "pageViewsByPath": by_path,
    }


def a_heartbeat(path="/a", session_id="s", effect="created", **changes):
    args = {"currentPath": path, "sessionId": session_id}
    return {"op": "heartbeat", "args": args, "result": None, "effect": effect, **changes}


@pytest.fixture
def specimen(a_trace):
    """A trace with one of each that a test may change."""
    return a_trace(
        {"op": "backfillAggregates", "result": {"message": "No pageViews to backfill"}},
        a_view(),
        a_view(effect="deduped"),
        a_heartbeat(),
        a_heartbeat(effect="unchanged"),
        a_heartbeat("/b", effect="patched"),
        a_heartbeat(session_id="t", t=T + DAY),
        stats_told(
            [["/a", "/a", "other", 1]],
            1,
            activeVisitors=2,
            activeByPath=[{"path": "/a", "count": 1}, {"path": "/b", "count": 1}],
        ),
        {"op": "cleanupStaleSessions", "t": T + DAY, "result": 1, "deleted": ["s"]},
        {"op": "aggCounts", "result": totals([["/a", 1]], 1)},
        views=[["/a", "page", "s", T]],
        sessions=[["t", "/a", T + DAY]],
        totals=totals([["/a", 1]], 1),
    )


def test_unknown_op_fails_the_replay(a_trace):
    with pytest.raises(AssertionError, match="does not know"):
        replay(a_trace({"op": "recordEverything", "result": None}))


def test_trace_with_no_ops_fails_the_replay(a_trace):
    with pytest.raises(AssertionError, match="no ops"):
        replay(a_trace())


def test_trace_that_was_cut_short_fails_the_replay(a_trace):
    trace = a_trace(a_view(), views=[["/a", "page", "s", T]], totals=totals([["/a", 1]], 1))
    replay(trace)
    trace.write_text("".join(trace.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(AssertionError, match="one final"):
        replay(trace)


def test_trace_without_the_ops_that_its_header_counts_fails_the_replay(a_trace):
    trace = a_trace({"op": "aggQuery"}, {"op": "aggQuery"})
    header, _, *others = trace.read_text().splitlines(keepends=True)
    trace.write_text("".join([header, *others]))
    with pytest.raises(AssertionError, match="as its header says"):
        replay(trace)


def test_backfill_in_steps_with_live_views_between(a_trace):
    old = [[f"/{number % 3}", "page", f"s{number % 7}", T - DAY + number * 1000] for number in range(1001)]
    late = ["/late", "page", "s0", T - 2 * DAY]
    by_path = [["/0", 334], ["/1", 334], ["/2", 333], ["/late", 1], ["/live", 1]]
    replay(
        a_trace(
            {"op": "backfillStart", "result": {"message": "No pageViews to backfill"}},
            {"op": "backfillStep"},
            {"op": "rawInsertViews", "args": {"rows": old}},
            {"op": "backfillStart", "result": STARTED},
            {"op": "aggCounts", "result": totals([], 0)},
            {"op": "backfillStep", "chunks": [{"result": {"status": "in_progress"}}]},
            a_view("/live", "s7"),
            {"op": "aggCounts", "result": totals([["/0", 167], ["/1", 167], ["/2", 166], ["/live", 1]], 8)},
            {"op": "backfillStep", "chunks": [{"result": {"status": "in_progress"}}]},
            {"op": "rawInsertViews", "args": {"rows": [late]}},
            {"op": "backfillStep", "chunks": [{"result": {"status": "complete"}}]},
            {"op": "aggCounts", "result": totals(by_path, 8)},
            {"op": "backfillStep", "chunks": []},
            views=[*old, ["/live", "page", "s7", T], late],
            totals=totals(by_path, 8),
        )
    )


def test_a_backfill_step_that_leaves_rows_pending_compares_no_aggregates(a_trace):
    row = ["/a", "page", "s", T - DAY]
    replay(
        a_trace(
            {"op": "rawInsertViews", "args": {"rows": [row]}},
            {"op": "backfillStart", "result": STARTED},
            {"op": "aggCounts", "result": totals([], 0)},
            stats_told([["/a", "/a", "other", 1]], 1, T - DAY),
            views=[row],
        )
    )


def test_deleted_rows_leave_the_numbers_at_the_raw_truth(a_trace):
    old = [["/a", "page", "s1", T - DAY], ["/b", "page", "s2", T - DAY], ["/b", "page", "s1", T - 2 * DAY]]
    replay(
        a_trace(
            {"op": "rawInsertViews", "args": {"rows": old}},
            {"op": "rawDeleteViews", "args": {"indexes": [0]}},
            stats_told([["/b", "/b", "other", 2]], 2, T - 2 * DAY),
            {"op": "backfillAggregates", "result": STARTED},
            a_view("/c", "s3"),
            {"op": "rawDeleteViews", "args": {"indexes": [1, 2]}},
            {"op": "aggCounts", "result": totals([["/b", 2], ["/c", 1]], 3)},
            stats_told([["/b", "/b", "other", 1]], 1, T - DAY),
            a_view("/c", "s3"),
            stats_told([["/b", "/b", "other", 1], ["/c", "/c", "other", 1]], 2, T - DAY),
            views=[old[1], ["/c", "page", "s3", T]],
            totals=totals([["/b", 2], ["/c", 2]], 4),
        )
    )


def test_refused_arguments_change_nothing(a_trace):
    error = {"error": {"kind": "ArgumentValidationError"}}
    replay(
        a_trace(
            {"op": "recordPageView", "args": {"path": 42, "pageType": "page", "sessionId": "s"}, **error},
            {"op": "recordPageView", "args": {"path": "/a", "pageType": None, "sessionId": "s"}, **error},
            {"op": "recordPageView", "args": {"path": "/a", "sessionId": "s"}, **error},
            {"op": "heartbeat", "args": {"currentPath": "/a", "sessionId": ["s"]}, **error},
            {"op": "heartbeat", "args": {"currentPath": "/a", "sessionId": "s", "city": "Delft"}, **error},
            stats_told(since=None),
        )
    )


def test_arguments_that_are_not_refused_fail_the_replay(a_trace):
    args = {"path": "/a", "pageType": "page", "sessionId": "s"}
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        replay(a_trace({"op": "recordPageView", "args": args, "error": {"kind": "ArgumentValidationError"}}))


@pytest.mark.parametrize(("letter", "tags"), [("\0", ["nul"]), ("\ud800", []), ("\udfff", ["random"])])
def test_text_that_no_database_keeps_is_refused_and_the_rest_is_as_recorded(letter, tags, a_trace):
    path = f"/a{letter}"
    replay(
        a_trace(
            a_view(path),
            a_view(path, effect="deduped"),
            a_view("/a"),
            a_view("/a", f"s{letter}"),
            {"op": "rawInsertViews", "args": {"rows": [[path, "page", "s", T], ["/b", "page", "s", T]]}},
            a_heartbeat(path),
            {"op": "rawDeleteViews", "args": {"indexes": [0]}},
            stats_told(
                [["/a", "/a", "other", 2], [path, path, "other", 1], ["/b", "/b", "other", 1]],
                2,
                activeVisitors=1,
                activeByPath=[{"path": path, "count": 1}],
            ),
            {"op": "cleanupStaleSessions", "t": T + DAY, "result": 1, "deleted": ["s"]},
            tags=tags,
            views=[
                ["/a", "page", "s", T],
                ["/a", "page", f"s{letter}", T],
                [path, "page", "s", T],
                ["/b", "page", "s", T],
            ],
        )
    )
    assert [as_row(view)[:3] for view in PageView.objects.all()] == [("/a", "page", "s"), ("/b", "page", "s")]


def test_clock_that_went_back_is_judged_by_time(a_trace):
    replay(
        a_trace(
            a_view(),
            a_view(t=T - 1, effect="inserted"),
            a_view(t=T - 1_800_000),
            a_heartbeat(),
            a_heartbeat("/b", effect="patched", t=T - 1),
            tags=["clock-backwards"],
        )
    )
    assert PageView.objects.count() == 2
    assert list(ActiveSession.objects.values_list("current_path", "last_seen")) == [("/a", instant(T))]


def test_answer_that_the_original_failed_on_is_given(a_trace):
    replay(
        a_trace(
            a_view("constructor"),
            {"op": "getStats", "error": {"kind": "ReturnsValidationError"}},
            tags=["js-prototype"],
        )
    )


def test_error_that_the_design_does_not_decide_fails_the_replay(a_trace):
    with pytest.raises(AssertionError, match="leaves alone"):
        replay(a_trace({"op": "getStats", "error": {"kind": "ReturnsValidationError"}}))


def test_nth_content_of_a_slug_is_the_nth_created(a_trace):
    def content(action, **args):
        return {"op": "content", "args": {"table": "posts", "action": action, "slug": "a", **args}}

    def told_with(title, page_type, posts):
        return stats_told([["/a", title, page_type, 1]], 1, publishedPosts=posts)

    replay(
        a_trace(
            a_view(),
            content("insert", title="First", published=True),
            content("insert", title="Other case", published=True, slug="A"),
            content("insert", title="Second", published=True),
            told_with("First", "blog", 3),
            content("patch", nth=0, set={"published": False}),
            told_with("Second", "blog", 2),
            content("patch", nth=1, set={"title": "Second, renamed"}),
            told_with("Second, renamed", "blog", 2),
            content("delete", nth=0),
            content("patch", nth=0, set={"slug": "b"}),
            told_with("/a", "other", 2),
            {
                "op": "content",
                "args": {"table": "pages", "action": "insert", "slug": "a", "title": "Page", "published": True},
            },
            stats_told([["/a", "Page", "page", 1]], 1, publishedPosts=2, publishedPages=1),
            views=[["/a", "page", "s", T]],
            totals=totals([["/a", 1]], 1),
        )
    )


def test_long_paths_and_sessions_that_begin_alike_stay_apart(a_trace):
    paths = ["/" + "a" * 511, "/" + "a" * 512, "/" + "a" * 512 + "b"]
    ids = ["s" * 64, "s" * 65, "s" * 66]
    replay(
        a_trace(
            *[a_view(path, session) for path in paths for session in ids],
            *[a_view(path, session, effect="deduped") for path in paths for session in ids],
            *[a_heartbeat(path, session) for path, session in zip(paths, ids, strict=True)],
            stats_told(
                [[path, path, "other", 3] for path in paths],
                3,
                activeVisitors=3,
                activeByPath=[{"path": path, "count": 1} for path in paths],
            ),
            {"op": "cleanupStaleSessions", "t": T + DAY, "result": 3, "deleted": ids},
            views=[[path, "page", session, T] for path in paths for session in ids],
            totals=totals([[path, 3] for path in paths], 3),
        )
    )


def test_traces_are_the_files_of_the_folder_itself(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "README.md", "more.jsonl/c.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in trace_files(tmp_path)] == ["a.jsonl", "b.jsonl"]
