"""How each database answers at 100,000 page views: by its indexes, and with few rows read."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test import override_settings

from example_project.blog.models import Post
from pagestats import rollups
from pagestats.models import ActiveSession, Calendar, PageTotal, PageView, Return, Rollup, Visitor
from pagestats.recording import record_heartbeat, record_page_view, record_page_views
from pagestats.retention import cleanup_stale_sessions
from pagestats.stats import snapshot, views_on, with_views, with_visitors
from tests.factories import MINUTE, SECOND, T0, a_hit, raw_views
from tests.oracle import DEDUP_WINDOW, expected_rollups

VIEWS = 100_000
SESSIONS = 20_000
COPIES = 10
PATHS = 300
ACTIVE_SESSIONS = 5_000

REPEAT_INDEX = "pagestats_view_repeat"
TIME_INDEX = "pagestats_view_time"
PENDING_INDEXES = {"pagestats_view_pending", "pagestats_view_pending_path"}
# What grows with the traffic. The derived tables grow with the days and the pages.
BIG = {model._meta.db_table for model in (PageView, ActiveSession, Visitor)}
DERIVED = {model._meta.db_table for model in (PageTotal, Rollup, Return)}


# The site


@pytest.fixture(scope="module")
def big_site(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The site with all its page views rolled up, and statistics of it for the planner."""
    with django_db_blocker.unblock():
        insert_big_site()
        analyze()
        yield
        call_command("flush", verbosity=0, interactive=False)


def insert_big_site() -> None:
    """Insert views at random, and copies of them with other sessions: each figure is so many times what it was."""
    chance = random.Random(8)
    views = [
        PageView(
            path=f"/{int(PATHS * chance.random() ** 2)}",
            session_id=f"s{chance.randrange(SESSIONS // COPIES)}",
            timestamp=T0 - chance.randrange(20 * 24 * 60 * 60) * SECOND,
            rolled_up=True,
        )
        for _ in range(VIEWS // COPIES)
    ]
    figures = expected_rollups(views, settings.TIME_ZONE)
    insert(views)
    insert(Visitor(key, *seen) for key, seen in figures.visitors.items())
    with connection.cursor() as cursor:
        copied_id = "CONCAT(session_id, %s)" if connection.vendor == "mysql" else "session_id || %s"
        for copy in range(1, COPIES):
            for table, columns in (
                ("pagestats_pageview", "path, page_type, timestamp, rolled_up"),
                ("pagestats_visitor", "first_seen, last_day"),
            ):
                cursor.execute(
                    f"INSERT INTO {table} (session_id, {columns})"
                    f" SELECT {copied_id}, {columns} FROM {table} WHERE session_id NOT LIKE %s",
                    [f"-{copy}", "%-%"],
                )
    insert(
        PageTotal(path, views * COPIES, visitors * COPIES, first_viewed, last_viewed)
        for path, (views, visitors, first_viewed, last_viewed) in figures.page_totals.items()
    )
    insert(Rollup(*key, *(count * COPIES for count in counts)) for key, counts in figures.rollups.items())
    insert(Return(*key, count * COPIES) for key, count in figures.returns.items())
    insert([Calendar(pk=Calendar.ROW, zone=settings.TIME_ZONE)])
    insert(Post(title="A post", slug=f"{number}", published=True, created=T0) for number in range(PATHS))
    insert(
        ActiveSession(session_id=f"s{number}", current_path=f"/{number % PATHS}", last_seen=T0 - number * SECOND)
        for number in range(ACTIVE_SESSIONS)
    )


def insert(rows: Any) -> None:
    rows = list(rows)
    type(rows[0])._base_manager.bulk_create(rows, batch_size=5_000)


def analyze() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(f"ANALYZE TABLE {', '.join(sorted(BIG | DERIVED))}")
        else:
            cursor.execute("ANALYZE")


@pytest.fixture(params=[0, 1], ids=["nothing pending", "one pending"])
def pending(request: pytest.FixtureRequest, big_site: None, db: None) -> int:
    """The number of pending page views."""
    raw_views([("/pending", "pending", T0)] * request.param)
    if connection.vendor != "mysql":  # where it would commit, and one row of 100,000 changes nothing
        analyze()
    return request.param


# Its plans


class Statement(NamedTuple):
    sql: str
    params: Any


class Read(NamedTuple):
    """One way into a table: by an index or by none; bounded is what does not read all of it."""

    table: str
    index: str | None
    bounded: bool


@contextmanager
def statements() -> Iterator[list[Statement]]:
    """Collect all statements but inserts, which read by the key of what they insert."""
    collected: list[Statement] = []

    def collect(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if re.match("SELECT|UPDATE|DELETE", sql):
            collected.append(Statement(sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(collect):
        yield collected


def reads(statement: Statement) -> list[Read]:
    """Ask the database how it would come to the rows of a statement."""
    found = list(
        {"sqlite": sqlite_reads, "postgresql": postgresql_reads, "mysql": mysql_reads}[connection.vendor](statement)
    )
    tables = tables_by_alias(statement.sql).values()
    assert {read.table for read in found} <= {*tables}, (found, statement)
    return found


def explain(statement: Statement, verb: str) -> list[Sequence[Any]]:
    with connection.cursor() as cursor:
        cursor.execute(f"{verb} {statement.sql}", statement.params)
        return cursor.fetchall()


def tables_by_alias(sql: str) -> dict[str, str]:
    """Return the package's tables of a statement by the names that they go by in it."""
    sql = re.sub('["`]', "", sql)
    found = {}
    for table, alias in re.findall(
        r"(?:FROM|JOIN|UPDATE) (pagestats_\w+)(?: (?!WHERE|SET|FORCE|INNER|LEFT|ORDER)(\w+))?", sql
    ):
        found[alias or table] = table
    return found


def sqlite_reads(statement: Statement) -> Iterator[Read]:
    tables = tables_by_alias(statement.sql)
    for *_, detail in explain(statement, "EXPLAIN QUERY PLAN"):
        found = re.match(
            r"(SCAN|SEARCH) (\w+)(?: USING (?:COVERING )?(?:INDEX (\w+)|(INTEGER PRIMARY KEY)|(.*)))?", detail
        )
        if found and found[2] in tables:
            index = "primary" if found[4] or (found[3] or "").startswith("sqlite_autoindex") else found[3]
            # AUTOMATIC is an index that it makes for the statement, and reads all of the table for.
            yield Read(tables[found[2]], index, bounded=found[1] == "SEARCH" and not found[5])


def postgresql_reads(statement: Statement) -> Iterator[Read]:
    [[[tree]]] = explain(statement, "EXPLAIN (FORMAT JSON)")
    nodes = [tree["Plan"]]
    while nodes:
        node = nodes.pop()
        children = node.get("Plans", [])
        nodes += children
        if node["Node Type"] in ("Index Scan", "Index Only Scan"):
            yield Read(node["Relation Name"], postgresql_index(node), bounded="Index Cond" in node)
        elif node["Node Type"] == "Bitmap Heap Scan":
            for child in children:
                yield from bitmap_reads(node["Relation Name"], child)
        elif node["Node Type"].endswith("Scan") and node.get("Relation Name", "").startswith("pagestats_"):
            yield Read(node["Relation Name"], None, bounded=False)


def reads_by_any_plan(statement: Statement) -> list[Read]:
    """Ask PostgreSQL the same of the plan that it keeps for any parameters of a prepared statement."""
    if connection.vendor != "postgresql":
        return reads(statement)
    first, *rest = statement.sql.split("%s")
    numbered = first + "".join(f"${number}{text}" for number, text in enumerate(rest, start=1))
    literals = psycopg.ClientCursor(connection.connection).mogrify(", ".join(["%s"] * len(rest)), statement.params)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute(f"PREPARE of_any AS {numbered}")
        found = list(postgresql_reads(Statement(f"EXECUTE of_any ({literals})", None)))
        cursor.execute("DEALLOCATE of_any")
    return found


def bitmap_reads(table: str, node: dict[str, Any]) -> Iterator[Read]:
    if "Index Name" in node:
        yield Read(table, postgresql_index(node), bounded="Index Cond" in node)
    for child in node.get("Plans", []):
        yield from bitmap_reads(table, child)


def postgresql_index(node: dict[str, Any]) -> str:
    return "primary" if node["Index Name"].endswith("_pkey") else node["Index Name"]


def effort(statement: Statement) -> int:
    """Carry a statement out and measure it: rows read, blocks read, or steps of SQLite's machine."""
    if connection.vendor == "postgresql":
        [[[tree]]] = explain(statement, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)")
        return tree["Plan"]["Shared Hit Blocks"] + tree["Plan"]["Shared Read Blocks"]
    if connection.vendor == "mysql":
        before = rows_read()
        explain(statement, "")
        return rows_read() - before
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    connection.connection.set_progress_handler(step, 1)
    explain(statement, "")
    connection.connection.set_progress_handler(None, 1)
    return steps


def rows_read() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(count) for _, count in cursor.fetchall())


def mysql_reads(statement: Statement) -> Iterator[Read]:
    tables = tables_by_alias(statement.sql)
    for row in explain(statement, "EXPLAIN"):
        _, _, alias, how, _, index, *_ = row
        if alias in tables:
            yield Read(
                tables[alias], index and index.replace("PRIMARY", "primary"), bounded=how not in ("ALL", "index")
            )


# What the site does


def fold_a_chunk() -> None:
    raw_views((f"/{number % PATHS}", f"s{number}", T0 - number * MINUTE) for number in range(500))
    assert next(rollups.backfill(batch_size=500)).processed == 500


def read_posts(**arguments: Any) -> None:
    slugs = ({"slug": "slug"}, {"url_name": "entry", "arguments": {"slug": "slug"}})
    for rule in slugs:
        source = {"model": "blog.Post", "published": {}, "title": "title", "type": "blog", **rule}
        with override_settings(PAGESTATS_CONTENT={"posts": source}):
            rows = with_visitors(with_views(Post.objects.all(), **arguments), **arguments)
            counted = list(rows.order_by("-views", "pk").values_list("views", "visitors"))
            assert len(counted) == PATHS
            assert counted[0] > (0, 0)
            assert views_on("/1", **arguments) > 0


VERBS: dict[str, Callable[[], object]] = {
    "views of posts": read_posts,
    "views of posts in a week": lambda: read_posts(days=7, at=T0),
    "snapshot": lambda: snapshot(at=T0, limit=100),
    "snapshot of all pages": lambda: snapshot(at=T0),
    "new view": lambda: record_page_view(a_hit(session_id="s5", path="/1", at=T0 + 30 * MINUTE)),
    "late view": lambda: record_page_view(a_hit(session_id="s5", path="/1", at=T0 - 30 * 24 * 60 * MINUTE)),
    "batch": lambda: record_page_views(
        a_hit(session_id=f"s{number}", path="/1", at=T0 - number * MINUTE) for number in range(500)
    ),
    "heartbeat": lambda: record_heartbeat(a_hit(session_id="s9", at=T0 + MINUTE)),
    "clean-up": lambda: cleanup_stale_sessions(at=T0 - (ACTIVE_SESSIONS - 300) * SECOND),
    "backfill": fold_a_chunk,
    "status of the backfill": rollups.backfill_status,
}


@pytest.mark.parametrize("verb", VERBS)
def test_big_tables_are_read_by_index_and_in_part(pending: int, verb: str) -> None:
    with statements() as made:
        VERBS[verb]()
    assert made
    for statement in made:
        found = reads(statement)
        for read in found:
            if read.table not in BIG or read.bounded:
                continue
            # The indexes of pending views have no others where the database knows partial indexes; and the first view
            # is found at the end of its index.
            is_of_pending = read.index in PENDING_INDEXES
            is_small = is_of_pending and connection.features.supports_partial_indexes
            is_first = read.index == TIME_INDEX and statement.sql.endswith(" LIMIT 1")
            assert is_small or is_first, (statement.sql, found)


@pytest.fixture
def analyzed_while_all_was_pending(big_site: None, db: None) -> Iterator[None]:
    """The big site as SQLite's planner has it that was told of it before its first backfill; as it is for others."""
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        for index in PENDING_INDEXES:
            cursor.execute("DELETE FROM sqlite_stat1 WHERE idx = %s", [index])
            told = ["pagestats_pageview", index, f"{VIEWS} {VIEWS} 1"]
            cursor.execute("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (%s, %s, %s)", told)
        cursor.execute("ANALYZE sqlite_schema")  # which has it read that table anew
        yield
        cursor.execute("ANALYZE")


@pytest.mark.parametrize("verb", ["backfill", "status of the backfill"])
def test_what_is_pending_is_found_as_such_however_much_it_is(analyzed_while_all_was_pending: None, verb: str) -> None:
    with statements() as made:
        VERBS[verb]()
    found = [read for statement in made for read in reads(statement) if read.table == PageView._meta.db_table]
    assert found
    assert TIME_INDEX not in {read.index for read in found}


def test_the_repeat_check_is_one_statement_on_one_index_of_page_views(pending: int) -> None:
    with statements() as made:
        assert record_page_view(a_hit(session_id="s5", path="/1", at=T0 + 30 * MINUTE))
    first_look = made[0]
    with statements() as made:
        assert record_page_view(a_hit(session_id="s5", path="/1", at=T0 + 31 * MINUTE)) is None
    [look] = made
    assert look.sql == first_look.sql
    for found in [{*reads(look)}, {*reads_by_any_plan(look)}]:
        assert {read for read in found if read.table == PageView._meta.db_table} == {
            Read(PageView._meta.db_table, REPEAT_INDEX, bounded=True)
        }
        # Of a table with one row there is no shorter way than to read it.
        assert all(read.bounded for read in found if read.table != Calendar._meta.db_table)


def test_the_repeat_check_reads_as_much_for_a_session_of_many_views(big_site: None, db: None) -> None:
    views = 2_000
    insert(
        PageView(path="/1", session_id="often", timestamp=T0 + number * DEDUP_WINDOW, rolled_up=True)
        for number in range(views)
    )
    for number in (0, views // 2, views):
        with statements() as made:
            record_page_view(a_hit(session_id="often", path="/1", at=T0 + number * DEDUP_WINDOW - MINUTE))
        assert max(effort(statement) for statement in made) < views / 4


def test_page_views_are_not_read_for_a_snapshot_while_none_is_pending(big_site: None, db: None) -> None:
    with statements() as made:
        answer = snapshot(at=T0, limit=100)
    assert (answer.total_page_views, len(answer.page_stats), answer.total_paths) == (VIEWS, 100, PATHS)
    ways = {read.index for statement in made for read in reads(statement) if read.table == PageView._meta.db_table}
    # Of two empty indexes of pending views, which one is asked is the planner's whim.
    assert TIME_INDEX in ways
    assert ways - {TIME_INDEX} <= PENDING_INDEXES


def test_one_pending_page_view_is_in_the_snapshot(big_site: None, db: None) -> None:
    before = snapshot(at=T0)
    raw_views([("/pending", "pending", T0)])
    after = snapshot(at=T0)
    assert (after.total_page_views, after.unique_visitors, after.total_paths) == (
        before.total_page_views + 1,
        before.unique_visitors + 1,
        before.total_paths + 1,
    )


def test_derived_tables_can_be_read_by_index(pending: int) -> None:
    if connection.vendor == "postgresql":
        # A table of a few blocks is rightly read as a whole: the question is whether an index would serve a large one.
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    with statements() as made:
        for verb in VERBS.values():
            verb()
    seen = set()
    for statement in made:
        found = reads(statement)
        seen |= {read.table for read in found}
        assert all(read.index for read in found if read.table in DERIVED), (statement.sql, found)
    assert seen >= DERIVED
