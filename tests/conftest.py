"""What holds for every test: no error is hidden, no skip goes unseen, and the report names the database."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from pagestats.identity import day_salts
from pagestats.sql import plans
from pagestats.tallies import tallies

# A test that waits for a database takes as long as the database does.
hypothesis.settings.register_profile("pagestats", deadline=None)
hypothesis.settings.load_profile("pagestats")

pytest_plugins = ["tests.browsing"]
# What these check is shown as if it stood in a test.
for module in ("clusters", "described_site", "killed_backfill", "ranges", "state_machine", "stored"):
    pytest.register_assert_rewrite(f"tests.{module}")

TESTS = Path(__file__).parent
ALLOWED_SKIPS = TESTS / "allowed_skips.txt"

# The folder of a test says what it needs, and by that in which part of the suite it runs: "each" runs on each database,
# the others run once, on SQLite and beside it, since much of them is waiting for browsers and servers.
# PAGESTATS_TEST_PART names the part of such a run. A file that would run on each database, though none makes a
# difference to it, is marked `any_database`.
PARTS = {"unit": "once", "db": "each", "processes": "each", "browser": "browser", "proofs": "each"}

# The folders that are `slow` as a whole. A slow file elsewhere is marked, with the reason.
SLOW = {"processes", "browser", "proofs"}

allowed_skips_key = pytest.StashKey[set[str]]()
database_key = pytest.StashKey[str]()


class Errors(logging.Handler):
    """Keep each record of at least ERROR."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def take(self) -> list[logging.LogRecord]:
        """Return the records so far, and forget them."""
        taken, self.records = self.records, []
        return taken


@pytest.fixture(autouse=True)
def nothing_is_prepared() -> None:
    """Have no statement depend on how often the tests before used it."""
    plans.forget()


@pytest.fixture(autouse=True)
def logged_errors() -> Iterator[Errors]:
    """Fail the test when `pagestats` logged an error that the test did not take with `expected_errors`."""
    logger = logging.getLogger("pagestats")
    errors = Errors()
    logger.addHandler(errors)
    yield errors
    logger.removeHandler(errors)
    if errors.records:
        formatter = logging.Formatter("%(levelname)s %(name)s: %(message)s")
        pytest.fail(
            "pagestats logged what the test did not ask for (expected_errors() after it takes it):\n"
            + "\n".join(formatter.format(record) for record in errors.records),
            pytrace=False,
        )


@pytest.fixture
def expected_errors(logged_errors: Errors) -> Callable[[], list[logging.LogRecord]]:
    """Return a function that takes the errors logged so far, as records; those logged later still fail the test."""
    return logged_errors.take


@pytest.fixture(autouse=True)
def no_tallies_of_another_test() -> Iterator[None]:
    """Begin with nothing counted, and leave nothing to be written when the process ends."""
    tallies.clear()
    yield
    tallies.clear()


@pytest.fixture(autouse=True)
def nothing_kept_by_another_test() -> None:
    """Begin with nothing kept: titles and the figures of tags are kept for a while, salts for a day."""
    cache.clear()
    day_salts.clear()


@pytest.fixture(autouse=True)
def language_of_the_settings() -> None:
    """Begin in LANGUAGE_CODE: the last page that a test got leaves its language active."""
    translation.deactivate()


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("PAGESTATS_FORBID_SKIPS") == "1":
        config.stash[allowed_skips_key] = allowed_skips()


@pytest.hookimpl(tryfirst=True)  # before those with a mark are chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        folder = folder_of(item)
        if folder == "unit" and needs_a_database(item):
            raise pytest.UsageError(f"{item.nodeid} needs a database, so it belongs in tests/db.")
        if folder in SLOW:
            item.add_marker(pytest.mark.slow(f"in tests/{folder}"))
        if folder == "proofs":
            item.add_marker("prove")
        for marker in item.iter_markers():
            if marker.name in ("slow", "any_database") and not marker.args:
                raise pytest.UsageError(f"{item.nodeid} is marked `{marker.name}` without a reason.")
    part = os.environ.get("PAGESTATS_TEST_PART", "")
    if os.environ.get("PAGESTATS_TEST_DB", "sqlite") != "sqlite":
        part = "each"
    if part:
        left_out = [item for item in items if part_of(item) != part]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if part_of(item) == part]


def folder_of(item: pytest.Item) -> str:
    """Return the folder of tests/ that a test is in, which is one of PARTS."""
    folder = item.path.relative_to(TESTS).parts[0]
    if folder not in PARTS:
        raise pytest.UsageError(f"{item.path} is in none of the folders of tests/: {', '.join(PARTS)}.")
    return folder


def needs_a_database(item: pytest.Item) -> bool:
    fixtures = {"db", "transactional_db", "live_server", "admin_client"}
    return item.get_closest_marker("django_db") is not None or not fixtures.isdisjoint(
        getattr(item, "fixturenames", ())
    )


def part_of(item: pytest.Item) -> str:
    return "once" if item.get_closest_marker("any_database") else PARTS[folder_of(item)]


def allowed_skips() -> set[str]:
    """Read the ids of the tests that may be skipped."""
    allowed = set()
    for number, line in enumerate(ALLOWED_SKIPS.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        test_id, _, reason = line.partition(" # ")
        if not reason.strip():
            raise pytest.UsageError(f"{ALLOWED_SKIPS.name}:{number} gives no reason: write it behind the id and ' # '.")
        allowed.add(test_id.strip())
    return allowed


def forbid_skip(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    """Turn a skip into a failure, where skips are forbidden and this one is not allowed."""
    allowed = config.stash.get(allowed_skips_key, None)
    # pytest reports an expected failure as a skip; it did run.
    if allowed is None or not report.skipped or hasattr(report, "wasxfail"):
        return
    if allowed.isdisjoint({report.nodeid, report.nodeid.partition("[")[0]}):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = (
            f"{report.nodeid} was skipped ({reason}), and PAGESTATS_FORBID_SKIPS=1 forbids it. "
            f"Make it run, or list it with the reason in tests/{ALLOWED_SKIPS.name}."
        )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield
    forbid_skip(report, item.config)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report: pytest.CollectReport = yield
    forbid_skip(report, collector.config)
    return report


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker, pytestconfig: pytest.Config) -> None:
    """Note the database's name and version while it is there."""
    with django_db_blocker.unblock():
        version = ".".join(map(str, connection.get_database_version()))
        pytestconfig.stash[database_key] = f"{connection.display_name} {version}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    database = config.stash.get(database_key, f"not used ({os.environ.get('PAGESTATS_TEST_DB', 'sqlite')})")
    terminalreporter.write_line(f"database: {database}")


@pytest.fixture
def django_capture_queries() -> Callable[[Callable[[], object]], list[str]]:
    """Return a function that calls another one and returns the statements that it sent."""

    def capture(work: Callable[[], object]) -> list[str]:
        with CaptureQueriesContext(connection) as context:
            work()
        return [query["sql"] for query in context.captured_queries]

    return capture
