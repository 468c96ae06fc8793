"""The measures. Each function runs in its own process on its own database and returns its results."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from multiprocessing import get_context
from typing import Any

from benchmarks import traffic

Figures = dict[str, float]
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36"


def timed(work: Callable[[], Any], *, times: int = 5) -> float:
    """Return the median time of some work, in milliseconds."""
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        took.append(time.perf_counter() - begin)
    return statistics.median(took) * 1_000


def requests(count: int, *, offset: int = 0) -> Iterator[Any]:
    """Yield requests, never two of the same session for the same page."""
    from django.test import RequestFactory

    factory = RequestFactory(headers={"user-agent": AGENT})
    for number in range(offset, offset + count):
        request = factory.get(traffic.path(number % 200))
        request.COOKIES["session"] = traffic.session((number + number // 200) % 500)
        yield request


def _per_request(handler: Callable[[Any], Any], asked: list[Any]) -> Figures:
    took = []
    cpu = time.process_time()
    for request in asked:
        begin = time.perf_counter()
        handler(request)
        took.append(time.perf_counter() - begin)
    cpu = time.process_time() - cpu
    return {"µs": statistics.median(took) * 1e6, "CPU µs": cpu / len(asked) * 1e6}


def page_views(*, count: int = 1_000) -> dict[str, Figures]:
    """What the middleware adds to a page, for a new view and a repeat, and two plain inserts to compare with."""
    from django.db import connection
    from django.http import HttpResponse
    from django.urls import resolve

    from pagestats.hits import instant
    from pagestats.middleware import PageViewMiddleware
    from pagestats.models import PageView

    def page(request: Any) -> HttpResponse:
        request.resolver_match = resolve(request.path)
        return HttpResponse("<!doctype html><title>A page</title>")

    def inserting(request: Any) -> HttpResponse:
        response = page(request)
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO pagestats_pageview (path, page_type, session_id, timestamp, rolled_up)"
                " VALUES (%s, %s, %s, %s, %s)",
                [request.path, "", request.COOKIES["session"], instant(None), True],
            )
        return response

    def creating(request: Any) -> HttpResponse:
        response = page(request)
        PageView.objects.create(path=request.path, session_id=request.COOKIES["session"], timestamp=instant(None))
        return response

    recording = PageViewMiddleware(page)
    for request in requests(100, offset=50_000):
        recording(request)  # warm up what a process does once
    figures = {"page": _per_request(page, [*requests(count)])}
    figures["new view"] = _per_request(recording, [*requests(count)])
    [request] = requests(1)
    figures["repeat"] = _per_request(recording, [request] * count)
    figures["raw INSERT alone"] = _per_request(inserting, [*requests(count, offset=10_000)])
    figures["ORM create() alone"] = _per_request(creating, [*requests(count, offset=20_000)])
    return {
        name: {unit: value - figures["page"][unit] for unit, value in found.items()}
        for name, found in figures.items()
        if name != "page"
    }


def bulk(*, count: int = 20_000) -> Figures:
    """Page views per second: recorded one by one, in batches of 1,000, and by a backfill in chunks of 500."""
    from pagestats.hits import Hit
    from pagestats.recording import record_page_view, record_page_views
    from pagestats.rollups import backfill

    hits = [Hit(path=page, session_id=who, at=at) for page, who, at in traffic.views(count, days=90)]
    few = hits[: count // 10]
    begin = time.perf_counter()
    for hit in few:
        record_page_view(hit)
    one_by_one = len(few) / (time.perf_counter() - begin)
    rest = hits[len(few) :]
    begin = time.perf_counter()
    for start in range(0, len(rest), 1_000):
        record_page_views(rest[start : start + 1_000])
    in_batches = len(rest) / (time.perf_counter() - begin)
    from django.core.management import call_command

    call_command("flush", interactive=False, verbosity=0)
    traffic.store(count, days=90, pending=True)
    begin = time.perf_counter()
    for _ in backfill():
        pass
    return {"one by one": one_by_one, "batches": in_batches, "backfill": count / (time.perf_counter() - begin)}


def backfill_memory(*, count: int) -> Figures:
    """The peak memory of a process that runs a backfill, in MB, and its page views per second."""
    from django.db import connection

    from pagestats.rollups import backfill

    context = get_context("spawn")
    child = context.Process(target=_in_child, args=("_store_pending", {"count": count}))
    child.start()
    child.join()
    connection.ensure_connection()
    begin = time.perf_counter()
    for _ in backfill():
        pass
    took = time.perf_counter() - begin
    return {"MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "views/s": count / took}


def _store_pending(*, count: int) -> None:
    traffic.store(count, days=90, pending=True)


def reading(*, count: int, days: int = 365) -> Figures:
    """Milliseconds of each read with so many views over so many days, and of counting page views instead."""
    from django.db.models import Count

    from pagestats.models import PageView
    from pagestats.stats import report, snapshot

    traffic.store(count, days=days)
    first = traffic.BEGIN.date()
    last = first + timedelta(days=days - 1)

    def snapshot_by_counting() -> None:
        PageView.objects.count()
        PageView.objects.aggregate(visitors=Count("session_id", distinct=True))
        list(PageView.objects.values_list("path").annotate(views=Count("pk")).order_by("-views", "path")[:100])
        PageView.objects.order_by("timestamp").first()

    def visitors_by_counting() -> int:
        return PageView.objects.values("session_id").distinct().count()

    assert report(first, last).visitors == visitors_by_counting()
    middle = first + timedelta(days=days // 2)
    some = PageView.objects.filter(timestamp__gte=traffic.BEGIN + (middle - first))
    return {
        "snapshot": timed(lambda: snapshot(limit=100), times=15),
        "snapshot by counting rows": timed(snapshot_by_counting, times=3),
        "visitors of the days": timed(lambda: _site_visitors(first, last), times=15),
        "visitors by COUNT(DISTINCT)": timed(visitors_by_counting, times=3),
        "visitors of their last half": timed(lambda: _site_visitors(middle, last), times=15),
        "the same by COUNT(DISTINCT)": timed(lambda: some.values("session_id").distinct().count(), times=3),
        "report of the days": timed(lambda: report(first, last, dimension="page", limit=100), times=5),
    }


def _site_visitors(first: date, last: date) -> int:
    from pagestats.stats import report

    return report(first, last).visitors


def disk(*, count: int) -> Figures:
    """Bytes per page view in each table and index."""
    from django.db import connection

    traffic.store(count, days=90)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT relname, pg_relation_size(oid) FROM pg_class"
                " WHERE relname LIKE 'pagestats%' AND relkind IN ('r', 'i')"
            )
        else:
            cursor.execute("SELECT name, SUM(pgsize) FROM dbstat WHERE name LIKE '%%pagestats%%' GROUP BY name")
        sizes = {name: size / count for name, size in cursor.fetchall()}
    return {**{name: size for name, size in sorted(sizes.items()) if size >= 0.05}, "all": sum(sizes.values())}


def hot(*, processes: int = 8, seconds: float = 5.0, folding: bool = False) -> Figures:
    """Page views per second of several processes that record on the same day and update the same rollups."""
    from django.db import connections

    from pagestats.models import PageView
    from pagestats.rollups import roll_up_pending

    connections.close_all()
    context = get_context("spawn")
    barrier = context.Barrier(processes + 1)
    children = [
        context.Process(target=_in_child, args=("_record_for", {"number": number, "seconds": seconds}, barrier))
        for number in range(processes)
    ]
    for child in children:
        child.start()
    barrier.wait()
    begin = time.perf_counter()
    behind = 0.0
    while any(child.is_alive() for child in children):
        time.sleep(0.5)
        if folding:
            since = time.perf_counter()
            sum(roll_up_pending(batch_size=2_000))
            behind = max(behind, time.perf_counter() - since)
    took = time.perf_counter() - begin
    return {"views/s": PageView.objects.count() / max(took, seconds), "longest fold s": behind}


def _record_for(*, number: int, seconds: float) -> None:
    from pagestats.hits import Hit
    from pagestats.recording import record_visit

    until = time.monotonic() + seconds
    view = 0
    while time.monotonic() < until:
        view += 1
        record_visit(Hit(path=traffic.path(view % 20), session_id=traffic.session(number * 10_000_000 + view)))


def presence(*, processes: int, sessions: int = 5_000, seconds: float = 5.0) -> Figures:
    """Heartbeats per second of many active sessions, none of them skipped, and what reading costs meanwhile.

    Then the share of heartbeats that are skipped if each session sends one with its page and one every 30 seconds.
    """
    from django.db import connections
    from django.test import RequestFactory

    from pagestats.models import ActiveSession
    from pagestats.presence import active_response
    from pagestats.stats import active

    for number in range(sessions):
        _beat(number, page=0)
    connections.close_all()
    context = get_context("spawn")
    barrier, answers = context.Barrier(processes + 1), context.Queue()
    arguments = {"sessions": sessions, "seconds": seconds, "processes": processes}
    children = [
        context.Process(target=_in_child, args=("_beat_for", {"number": number, **arguments}, barrier, answers))
        for number in range(processes)
    ]
    for child in children:
        child.start()
    barrier.wait()
    asked, unchanged = [], []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        asked.append(timed(lambda: active(limit=100), times=1))
        time.sleep(0.02)
    written, failed = (sum(column) for column in zip(*(answers.get() for _ in children), strict=True))
    for child in children:
        child.join()
    assert ActiveSession.objects.count() == sessions
    tag = active_response(RequestFactory().get("/"), public=False).headers["ETag"]
    again = RequestFactory().get("/", headers={"if-none-match": tag})
    for _ in range(50):
        unchanged.append(timed(lambda: active_response(again, public=False), times=1))
    return {
        "heartbeats written a second": written / seconds,
        "lock errors": failed,
        "share skipped": _share_skipped(),
        "who is here, ms, median": statistics.median(asked),
        "who is here, ms, 95 %": statistics.quantiles(asked, n=20)[-1],
        "304 at rest, ms, median": statistics.median(unchanged),
        "304 at rest, ms, 95 %": statistics.quantiles(unchanged, n=20)[-1],
    }


def _share_skipped(*, sessions: int = 200, beats: int = 4) -> float:
    from pagestats.hits import Hit, instant
    from pagestats.recording import record_heartbeat, record_visit

    began, skipped, sent = instant(None), 0, 0
    for number in range(sessions):
        who, page = traffic.session(1_000_000 + number), traffic.path(number % 20)
        record_visit(Hit(path=page, session_id=who, at=began))
        for beat in range(beats):
            at = began + timedelta(seconds=1 + 30 * beat)
            sent += 1
            skipped += record_heartbeat(Hit(path=page, session_id=who, at=at)) == "skipped"
    return skipped / sent


def _beat(number: int, *, page: int) -> None:
    from pagestats.hits import Hit
    from pagestats.recording import record_heartbeat

    record_heartbeat(Hit(path=traffic.path((number + page) % 20), session_id=traffic.session(number)))


def _beat_for(*, number: int, sessions: int, seconds: float, processes: int) -> tuple[int, int]:
    """Send heartbeats of a share of the sessions, each from a new page; return how many, and how many lock errors."""
    from django.db import OperationalError

    written = failed = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            _beat((number + written * processes) % sessions, page=1 + written * processes // sessions)
        except OperationalError:
            failed += 1
        written += 1
    return written, failed


def verification(*, count: int) -> Figures:
    """Seconds that a verification takes, and the peak memory of its process in MB."""
    from pagestats.rollups import verify

    traffic.store(count, days=90)
    begin = time.perf_counter()
    drift = sum(1 for _ in verify())
    assert not drift, f"{drift} figures differ"
    return {
        "s": time.perf_counter() - begin,
        "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _in_child(name: str, arguments: dict[str, Any], barrier: Any = None, answers: Any = None) -> None:
    set_up()
    if barrier:
        barrier.wait()
    answer = globals()[name](**arguments)
    if answers:
        answers.put(answer)


def set_up() -> None:
    """Set up Django in this process."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
    django.setup()


def describe(at: datetime) -> str:
    """Return the date and the versions of this run."""
    import platform

    import django

    return f"{at:%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}, Django {django.__version__}"
