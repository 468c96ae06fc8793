import json
import re
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command, get_commands
from django.db import DatabaseError
from django.utils import timezone

from pagestats import retention, rollups, tasks
from pagestats.conf import LONGEST_KEPT
from pagestats.days import DAY
from pagestats.hits import Hit
from pagestats.identity import identify
from pagestats.models import ActiveSession, PageTotal, PageView, Visitor
from pagestats.recording import record_heartbeat
from pagestats.rollups import backfill, folding, rebuild
from pagestats.tallies import tallies, tally
from tests import ROOT
from tests.factories import T0, raw_views
from tests.factories import run_command as run
from tests.stored import everything


@pytest.mark.django_db
def test_backfill_aggregates_says_how_many_views_and_visitors():
    raw_views((f"/{number}", f"s{number % 3}", T0) for number in range(1201))
    assert run("backfill_aggregates") == "Backfilled 1,201 page views with 3 new visitors"
    assert run("backfill_aggregates") == "No page views to backfill"
    assert PageView.objects.pending().count() == 0


@pytest.mark.django_db
def test_backfill_aggregates_refuses_an_invalid_batch_size():
    with pytest.raises(CommandError, match="batch_size is 0, not a number from 1 to 10,000"):
        call_command("backfill_aggregates", batch_size=0)


@pytest.mark.parametrize(
    "arguments", [["pagestats_prune", "--before", "2026-01-01"], ["pagestats_merge_paths", "/a", "/b"]]
)
@pytest.mark.parametrize("size", ["0", "10001", "many"])
def test_a_dry_run_refuses_the_batch_size_that_the_run_would_refuse(arguments, size):
    with pytest.raises(CommandError, match=f"--batch-size: '{size}' is not a number from 1 to 10,000"):
        call_command(*arguments, "--dry-run", "--batch-size", size)


@pytest.mark.django_db
def test_backfill_status_rolls_up_nothing():
    raw_views([("/a", "s", T0)])
    assert run("backfill_aggregates", status=True) == "1 page view pending\nNo backfill has run yet"
    run("backfill_aggregates")
    assert "Last backfill: finished, started " in run("backfill_aggregates", status=True)


@pytest.mark.django_db
def test_backfill_aggregates_reports_page_views_of_pruned_days():
    folded([("/a", "s", T0)])
    run("pagestats_prune", before=T0.date() + DAY)
    raw_views([("/a", "t", T0), ("/b", "t", T0)])
    stranded = (
        "2 pending page views can't be rolled up (on a pruned day, or outside the years 1970 to 2199). Correct or"
        " delete these rows."
    )
    assert run("backfill_aggregates") == f"No page views to backfill\n{stranded}"
    assert run("backfill_aggregates", status=True).splitlines()[:2] == ["2 page views pending", stranded]
    assert stranded in run("pagestats_doctor")
    PageView.objects.pending().first().delete()
    raw_views([("/a", "u", T0 + 2 * DAY)])
    lines = run("backfill_aggregates").splitlines()
    assert lines == [
        "Backfilled 1 page view with 1 new visitor",
        f"1 pending page view {stranded.partition('views ')[2]}",
    ]
    assert "1 pending page view can't be rolled up (" in run("backfill_aggregates", status=True)


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati"])
def test_page_views_outside_the_calendar_block_no_command(settings, zone):
    settings.TIME_ZONE = zone
    nowhen = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 30, tzinfo=UTC),
        datetime(2200, 1, 1, tzinfo=UTC),
    ]
    raw_views([("/a", "s", T0), *(("/b", "s", at) for at in nowhen)])
    done, stranded = run("backfill_aggregates").splitlines()
    assert done == "Backfilled 1 page view with 1 new visitor"
    assert stranded.startswith("3 pending page views can't be rolled up")
    assert "3 pending page views can't be rolled up" in run("backfill_aggregates")
    assert run("verify_aggregates").startswith("Exact: ")
    with pytest.raises(CommandError, match=r"1 pending page view before 1970-01-02.* Correct or delete"):
        run("pagestats_prune", before=T0.date() + DAY)
    PageView.objects.filter(timestamp=nowhen[0]).delete()
    assert "Deleted 1 page view" in run("pagestats_prune", before=T0.date() + 2 * DAY)
    raw_views([("/a", "t", T0 + 9 * DAY), ("/b", "t", nowhen[0])])
    assert "Would erase 2 page views of 1 session" in run("pagestats_erase", "t", dry_run=True)
    run("pagestats_erase", "t")
    assert set(PageView.objects.values_list("timestamp", flat=True)) == {*nowhen[1:]}


@pytest.mark.django_db
def test_drift_is_listed_with_control_characters_escaped():
    folded([("/\x1b[31mred\n", "s", T0)])
    PageTotal.unguarded.update(views=7)
    out = StringIO()
    with pytest.raises(CommandError, match="1 stored count differs"):
        call_command("verify_aggregates", stdout=out)
    assert "/\\x1b[31mred\\n" in out.getvalue()
    assert len(out.getvalue().splitlines()) == 1


@pytest.mark.parametrize(("command", "argument"), [("pagestats_prune", "--before"), ("pagestats_report", "START")])
def test_an_invalid_date_is_refused_with_the_same_message(command, argument):
    with pytest.raises(
        CommandError, match=f"argument {argument}: '2026-13-01' is not a date. Write it like 2026-01-31."
    ):
        call_command(command, *(["--before"] if argument == "--before" else []), "2026-13-01")


def folded(rows):
    raw_views(rows)
    list(backfill())


@pytest.mark.django_db
def test_pagestats_erase_prints_what_it_would_do_and_what_it_did():
    folded([("/a", "s", T0), ("/b", "s", T0 + DAY), ("/a", "t", T0), ("/b", "t", T0)])
    before = everything()
    found = "2 page views of 1 session on 2 reporting days"
    assert run("pagestats_erase", "s", dry_run=True) == f"Would erase {found}"
    assert run("pagestats_erase", "s", forget=True, dry_run=True) == f"Would anonymise {found}"
    assert run("pagestats_erase", "nobody") == "No page views of 'nobody'"
    assert everything() == before
    assert run("pagestats_erase", "s") == "Erased 2 page views"
    assert run("pagestats_erase", "t", forget=True) == "Anonymised 2 page views"
    assert run("pagestats_erase", "t", forget=True) == "No page views of 't'"


@pytest.mark.django_db
def test_pagestats_erase_takes_the_value_of_a_cookie(rf, settings):
    settings.PAGESTATS_IDENTITY = "cookie"
    visitor = identify(rf.get("/a"), at=T0)
    folded([("/a", visitor.session_id, T0)])
    assert run("pagestats_erase", f"{visitor.session_id}:not-signed-so", dry_run=True).startswith("Would erase 1 page")
    assert run("pagestats_erase", visitor.cookie.value) == "Erased 1 page view"


@pytest.mark.django_db
def test_pagestats_erase_handles_a_session_with_only_a_heartbeat():
    record_heartbeat(Hit(path="/a", session_id="s", at=T0))
    assert run("pagestats_erase", "s", dry_run=True) == "No page views of 's'. Would erase its heartbeat"
    assert ActiveSession.objects.count() == 1
    assert run("pagestats_erase", "s", forget=True) == "No page views of 's'. Anonymised its heartbeat"
    (random_id,) = ActiveSession.objects.values_list("session_id", flat=True)
    assert random_id != "s"
    assert run("pagestats_erase", random_id).endswith(". Erased its heartbeat")
    assert not ActiveSession.objects.exists()


@pytest.mark.django_db
def test_cleanup_deletes_the_empty_row_of_an_erased_session():
    folded([("/a", "s", T0), ("/a", "t", T0)])
    run("pagestats_erase", "s")
    run("cleanup_stale_sessions")
    erased = Visitor.objects.get(session_id="s")
    Visitor.unguarded.filter(session_id="s").update(version=erased.version - 3_600_000_001)  # an hour ago
    run("cleanup_stale_sessions")
    assert list(Visitor.objects.values_list("session_id", flat=True)) == ["t"]


@pytest.mark.django_db
def test_pagestats_erase_refuses_sealed_days_but_anonymises_them():
    folded([("/a", "s", T0)])
    run("pagestats_prune", "--before", "2026-03-16")
    with pytest.raises(CommandError, match="on 2026-03-14, were pruned"):
        run("pagestats_erase", "s")
    assert run("pagestats_erase", "s", forget=True) == "Anonymised 0 page views"


@pytest.mark.django_db
def test_pagestats_prune_prints_what_it_would_do_and_what_it_did(settings):
    folded([("/a", "s", T0), ("/a", "t", T0 + 3 * DAY)])
    before = everything()
    assert run("pagestats_prune", "--before", "2026-03-16", dry_run=True) == (
        "Would delete 1 page view of 1 session on 1 reporting day, before 2026-03-16"
    )
    with pytest.raises(CommandError, match="PAGESTATS_KEEP_PAGE_VIEWS is None"):
        run("pagestats_prune")
    with pytest.raises(CommandError, match="before is 0001-01-01, outside the years 1970 to 2199"):
        run("pagestats_prune", "--before", "0001-01-01", "--dry-run")
    with pytest.raises(CommandError, match="Future days can't be pruned"):
        run("pagestats_prune", "--before", "2199-12-31")
    with pytest.raises(CommandError, match=r"'soon' is not a date"):
        call_command("pagestats_prune", "--before", "soon")
    assert everything() == before
    assert run("pagestats_prune", "--before", "2026-03-16") == "Deleted 1 page view before 2026-03-16"
    settings.PAGESTATS_KEEP_PAGE_VIEWS = 2 * DAY
    PageView.objects.update(timestamp=timezone.now())
    assert run("pagestats_prune").startswith("No page views before ")


@pytest.mark.django_db
def test_merge_paths_prints_what_it_would_do_and_what_it_did():
    folded([("/a", "s", T0), ("/b", "t", T0)])
    before = everything()
    assert run("pagestats_merge_paths", "/a", "/b", dry_run=True) == (
        "Would move 1 page view of 1 session on 1 reporting day"
    )
    with pytest.raises(CommandError, match="source and target are both '/a'"):
        run("pagestats_merge_paths", "/a", "/a")
    assert everything() == before
    assert run("pagestats_merge_paths", "/a", "/b") == "Moved 1 page view from '/a' to '/b'"
    assert run("pagestats_merge_paths", "/a", "/b") == "No page views of '/a'"
    assert run("pagestats_merge_paths", "a", "/b") == "No page views of 'a'. Paths begin with a slash: /a"


@pytest.mark.django_db
@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("target", ["/no/such/page/at/all", "/b?x=1/y"])
def test_merge_paths_refuses_a_target_that_is_not_a_page(settings, target, dry_run):
    folded([("/a", "s", T0)])
    before = everything()
    why = f"target is {re.escape(repr(target))}, which matches no URL pattern of the site.* open it once"
    with pytest.raises(CommandError, match=why):
        run("pagestats_merge_paths", "/a", target, dry_run=dry_run)
    assert everything() == before
    settings.PAGESTATS_CLIENT_PATHS = [re.escape(target)]
    run("pagestats_merge_paths", "/a", target, dry_run=dry_run)
    settings.PAGESTATS_CLIENT_PATHS = []
    if not dry_run:
        folded([("/c", "s", T0)])
        assert run("pagestats_merge_paths", "/c", target).startswith("Moved 1 page view")  # it has views already


@pytest.mark.django_db
def test_a_rebuild_uses_the_time_zone_of_the_site(settings):
    folded([("/a", "s", T0), ("/b", "t", T0)])
    settings.TIME_ZONE = "Asia/Kathmandu"
    before = everything()
    assert run("backfill_aggregates", rebuild=True, dry_run=True) == (
        "Would rebuild the rollups of 2 page views of 2 sessions on 1 reporting day, in Asia/Kathmandu"
    )
    with pytest.raises(CommandError, match="--dry-run needs --rebuild"):
        run("backfill_aggregates", dry_run=True)
    assert everything() == before
    assert "Europe/Amsterdam, but TIME_ZONE is Asia/Kathmandu. Run `manage.py backfill_aggregates --rebuild`" in run(
        "pagestats_doctor"
    )
    assert run("backfill_aggregates", rebuild=True) == "Rebuilt the rollups in Asia/Kathmandu"
    assert "reporting zone: Asia/Kathmandu\n" in run("pagestats_doctor")


@pytest.mark.django_db
def test_a_backfill_reports_a_rebuild_that_was_killed():
    folded([("/a", "s", T0)])
    rebuild(zone="UTC")
    with pytest.raises(CommandError, match="run backfill_aggregates --rebuild to continue"):
        run("backfill_aggregates")


@pytest.mark.django_db
def test_the_doctor_explains_the_stats_on_one_screen():
    raw_views([("/a", "s", T0)])
    tally("not_stored", "bot", count=1234)
    tallies.write()
    output = run("pagestats_doctor", remote_addr="10.0.0.1", x_forwarded_for="6.6.6.6, 203.0.113.9")
    for fact in (
        "recording is on",
        "identity: anonymous; a visitor's id lasts one reporting day",
        "reporting zone: Europe/Amsterdam",
        "rollups: immediate; page views kept for ever",
        "trusted proxies: loopback, private, link-local, unix",
        "The client is 203.0.113.9: the nearest address in X-Forwarded-For that is not a trusted proxy.",
        "none (no anonymous ids yet)",
        "1 page view pending",
        "pagestats clean-up: not made yet",
        "no clean-up has run yet",
        "never verified; run manage.py verify_aggregates",
        "1,234  not_stored (bot)",
    ):
        assert fact in output, output
    assert len(output.splitlines()) < 25


@pytest.mark.django_db
def test_a_prune_that_finishes_a_killed_one_prints_its_day():
    folded((f"/{day}", "s", T0 + day * DAY) for day in range(6))
    with closing(retention.prune((T0 + 4 * DAY).date(), batch_size=1)) as chunks:
        next(chunks)
    earlier, sealed = (T0 + 2 * DAY).date(), (T0 + 4 * DAY).date()
    output = run("pagestats_prune", before=earlier, dry_run=True)
    assert output == f"Would delete 3 page views of 1 session on 3 reporting days, before {sealed}"
    done = run("pagestats_prune", before=earlier)
    assert done == f"Deleted 3 page views before {sealed} (1 more in an earlier run)"
    assert run("pagestats_prune", before=earlier) == f"No page views before {sealed}"


@pytest.mark.django_db
def test_keeping_page_views_longer_than_the_calendar_prunes_nothing(settings):
    settings.PAGESTATS_KEEP_PAGE_VIEWS = LONGEST_KEPT
    folded([("/a", "s", T0)])
    assert run("pagestats_prune") == "No page views before 1970-01-02"
    assert tasks.prune() == 0


@pytest.mark.django_db
@pytest.mark.parametrize("rebuild", [False, True], ids=["backfill", "rebuild"])
def test_a_command_that_a_rebuild_overtakes_does_not_report_success(monkeypatch, rebuild):
    raw_views((f"/{number}", f"s{number}", T0) for number in range(3))
    chunks = folding.chunks

    def overtaken(*args, **options):
        for chunk in chunks(*args, **options):
            rollups.rebuild(zone="UTC")  # begins
            yield chunk

    monkeypatch.setattr(folding, "chunks", overtaken)
    with pytest.raises(CommandError, match="The rollups are being rebuilt"):
        run("backfill_aggregates", rebuild=rebuild)
    monkeypatch.undo()
    run("backfill_aggregates", rebuild=True)
    assert PageView.objects.pending().count() == 0


@pytest.mark.django_db
def test_a_backfill_skips_days_that_are_sealed_while_it_runs():
    raw_views((f"/{number}", f"s{number}", T0 + number * DAY) for number in range(3))
    with closing(rollups.backfill(batch_size=1)) as chunks:
        next(chunks)
        next(chunks)
        list(retention.prune((T0 + DAY).date()))
        raw_views([("/late", "late", T0)])
        assert [done.processed for done in chunks] == [3]
    assert list(PageView.objects.pending().values_list("path", flat=True)) == ["/late"]


COMMANDS: dict[str, list[str]] = {
    "backfill_aggregates": [],
    "cleanup_stale_sessions": [],
    "pagestats_doctor": [],
    "pagestats_erase": ["s"],
    "pagestats_merge_paths": ["/a", "/b"],
    "pagestats_prune": ["--before", "2026-01-01"],
    "pagestats_report": [],
    "pagestats_schedules": [],
    "verify_aggregates": [],
}

CALL_THEM_ALL = """
import json, sys
import django
from django.conf import settings
from django.core.management import CommandError, call_command
settings.DATABASES["default"]["NAME"] = sys.argv[1]
django.setup()
said = {}
for command, arguments in json.loads(sys.argv[2]).items():
    try:
        call_command(command, *arguments, stdout=open(sys.argv[3], "w"))
    except CommandError as error:
        said[command] = str(error)
print(json.dumps(said))
"""


def said_by_each_command(database, folder):
    """Return why each command failed on a database of SQLite."""
    assert {name for name, app in get_commands().items() if app == "pagestats"} == set(COMMANDS)
    command = [sys.executable, "-c", CALL_THEM_ALL, str(database), json.dumps(COMMANDS), str(folder / "said")]
    environment = {
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PAGESTATS_TEST_DB": "sqlite",
        "PAGESTATS_TEST_SQLITE_FILE": str(folder / "unused"),
    }
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_command_asks_for_migrate_if_tables_are_missing(tmp_path):
    said = said_by_each_command(tmp_path / "empty.sqlite3", tmp_path)
    assert set(said) == set(COMMANDS)
    for text in said.values():
        assert text.endswith("Run manage.py migrate.") or "can't be used before manage.py migrate" in text
        assert "pagestats_" in text


@pytest.mark.django_db
def test_other_database_errors_are_raised_unchanged(monkeypatch):
    def fail():
        raise DatabaseError("out of shared memory")

    monkeypatch.setattr("pagestats.management.commands.cleanup_stale_sessions.cleanup_and_store_run", fail)
    with pytest.raises(DatabaseError, match="out of shared memory"):
        call_command("cleanup_stale_sessions")


def test_every_command_reports_an_unusable_database(tmp_path):
    (tmp_path / "broken.sqlite3").write_bytes(b"no database" * 1_000)
    said = said_by_each_command(tmp_path / "broken.sqlite3", tmp_path)
    assert set(said) == set(COMMANDS)
    assert set(said.values()) == {"The database 'default' can't be used: file is not a database"}
