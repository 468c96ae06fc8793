import logging
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from django.db import OperationalError

from pagestats import tallies as room
from pagestats.models import Calendar, Tally
from pagestats.tallies import Tallies, tallies, tally
from tests import ROOT
from tests.beside import Beside
from tests.factories import a_lock_error


def stored():
    return {(row.outcome, row.reason): row.count for row in Tally.objects.all()}


@pytest.mark.django_db
def test_counts_are_added_up_in_memory_and_written_together(django_assert_num_queries):
    for _ in range(3):
        tally("not_stored", "bot")
    tally("recorded", count=2)
    assert stored() == {}
    tallies.write()
    assert stored() == {("not_stored", "bot"): 3, ("recorded", ""): 2}
    with django_assert_num_queries(0):
        tallies.write()


@pytest.mark.django_db
def test_what_several_processes_write_adds_up():
    for process in (Tallies(), Tallies()):
        process.count("recorded", times=2)
        process.write()
    assert stored() == {("recorded", ""): 4}
    assert Tally.objects.get().day >= date(2026, 1, 1)


@pytest.mark.django_db
def test_counts_are_written_when_they_are_due(monkeypatch):
    monkeypatch.setattr(room, "WRITE_EVERY", 0)
    tally("recorded")
    assert stored() == {("recorded", ""): 1}


@pytest.mark.django_db
def test_what_cannot_be_written_is_kept_for_the_next_time(monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise OperationalError("no database today")

    monkeypatch.setattr("pagestats.sql.transact", fail)
    tally("recorded")
    with caplog.at_level(logging.WARNING, logger="pagestats"):
        tallies.write()
    assert "no database today" in caplog.text
    assert tallies.counts() == {("recorded", ""): 1}


def test_a_forked_process_does_not_write_what_its_parent_counted(monkeypatch):
    parent = Tallies()
    parent.count("recorded")
    monkeypatch.setattr("os.getpid", lambda: -1)
    parent.count("repeat")
    assert parent.counts() == {("repeat", ""): 1}


def test_counting_asks_no_router_of_the_site(settings):
    class Broken:
        def db_for_write(self, model, **hints):
            raise RuntimeError("a fault of the site's own")

    settings.DATABASE_ROUTERS = [Broken()]
    counting = Tallies()
    counting.count("failed", "RuntimeError")  # as the guard around recording does
    assert counting.counts() == {("failed", "RuntimeError"): 1}


def test_a_router_that_fails_costs_no_counts(settings, caplog):
    class Broken:
        def db_for_write(self, model, **hints):
            raise RuntimeError("a fault of the site's own")

    counting = Tallies()
    counting.count("recorded")
    settings.DATABASE_ROUTERS = [Broken()]
    counting.write()
    assert counting.counts() == {("recorded", ""): 1}
    assert "a fault of the site's own" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_page_waits_for_one_try_to_write_the_counts(monkeypatch):
    calls = []

    def fail(counts, day, *, using):
        calls.append(counts)
        raise a_lock_error()

    monkeypatch.setattr(room, "_add", fail)
    tally("recorded")
    tallies.write()
    assert len(calls) == 1
    assert tallies.counts() == {("recorded", ""): 1}


@pytest.mark.django_db(transaction=True)
def test_the_one_try_waits_for_another_writer():
    other, counting = Tallies(), Tallies()
    other.count("recorded")
    counting.count("recorded")
    beside = Beside(other.write)  # on SQLite it keeps all others from writing, elsewhere those of the same count
    threading.Timer(0.5, beside.may_go_on.set).start()
    began = time.monotonic()
    counting.write()
    assert time.monotonic() - began > 0.3
    assert beside.ends() is None
    assert not counting.counts()
    assert stored() == {("recorded", ""): 2}


@pytest.mark.django_db
def test_a_reason_of_any_text_is_counted():
    counting = Tallies()
    for reason in ("bot", "x" * 65, "y\x00\ud800"):
        counting.count("not_stored", reason)
    counting.write()
    assert not counting.counts()
    assert {reason[:3]: len(reason) for reason in Tally.objects.values_list("reason", flat=True)} == {
        "bot": 3,
        "xxx": 64,
        "y??": 3,
    }


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_hits_are_tallied_on_the_reporting_day(zone):
    Calendar.unguarded.create(pk=Calendar.ROW, zone=zone)
    before = datetime.now(ZoneInfo(zone)).date()
    counting = Tallies()
    counting.count("recorded")
    counting.write()
    assert before <= Tally.objects.get().day <= datetime.now(ZoneInfo(zone)).date()


IN_A_SUITE = """
import sys
import django
from django.conf import settings
settings.DATABASES["default"].update(NAME=sys.argv[1], TEST={"NAME": sys.argv[1] + ".test"})
django.setup()
from django.core.management import call_command
from django.test.utils import setup_databases, setup_test_environment, teardown_databases
from pagestats.tallies import tally
call_command("migrate", verbosity=0)
old = setup_databases(verbosity=0, interactive=False)
tally("recorded")
teardown_databases(old, verbosity=0)
"""


def test_a_test_suite_leaves_no_counts_in_the_site_s_own_database(tmp_path):
    path = tmp_path / "site.sqlite3"
    environment = {
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PAGESTATS_TEST_DB": "sqlite",
    }
    command = [sys.executable, "-c", IN_A_SUITE, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT COUNT(*) FROM pagestats_tally").fetchall() == [(0,)]
