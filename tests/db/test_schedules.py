import json
import os
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django_q.models import OrmQ, Schedule
from django_q.scheduler import scheduler

from pagestats import schedules
from pagestats.hits import instant
from pagestats.models import Run
from tests import ROOT
from tests.factories import T0, run_command

NAME = "pagestats clean-up"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def scheduling(settings, monkeypatch):
    """Make one schedule only, as an example of all; what a site gets is read in a site of its own below."""
    settings.PAGESTATS_SCHEDULES = True
    planned = schedules.plans
    monkeypatch.setattr(schedules, "plans", lambda: [plan for plan in planned() if plan.name == NAME])


def migrate(*args):
    call_command("migrate", *args, verbosity=0)


set_up_schedules = partial(run_command, "pagestats_schedules")


def made():
    return [(row.name, row.func, row.schedule_type, row.minutes, row.repeats) for row in Schedule.objects.all()]


CLEANUP = (NAME, "pagestats.tasks.clean_up", Schedule.MINUTES, 5, -1)


# After migrate


def test_migrate_makes_the_schedule_once():
    migrate()
    migrate()
    assert made() == [CLEANUP]
    assert Schedule.objects.get().next_run <= instant(None)


@pytest.mark.django_db(transaction=True)  # the scheduler closes the connection
def test_the_scheduler_of_django_q_enqueues_the_cleanup():
    migrate()
    scheduler()
    task = OrmQ.objects.get().task
    assert (task["func"], task["args"], task["kwargs"], task["save"]) == ("pagestats.tasks.clean_up", (), {}, False)
    assert Schedule.objects.get().next_run - instant(None) > timedelta(minutes=4)


def test_a_schedule_that_its_owner_deleted_is_not_made_again():
    migrate()
    Schedule.objects.all().delete()
    migrate()
    assert made() == []


def test_a_schedule_that_its_owner_changed_stays_changed(settings):
    migrate()
    Schedule.objects.update(minutes=60, repeats=0)
    settings.PAGESTATS_CLEANUP_INTERVAL = timedelta(minutes=7)
    migrate()
    assert made() == [(*CLEANUP[:3], 60, 0)]


def test_a_schedule_that_its_owner_renamed_is_not_made_again():
    migrate()
    Schedule.objects.update(name="ours", func="ours.clean_up")
    migrate()
    assert made() == [("ours", "ours.clean_up", *CLEANUP[2:])]


def test_a_schedule_that_is_there_already_is_taken_for_the_one_that_was_made():
    Schedule.objects.create(name=NAME, func=CLEANUP[1], schedule_type=Schedule.HOURLY)
    migrate()
    Schedule.objects.all().delete()
    migrate()
    assert made() == []


def test_duplicates_are_removed_and_the_oldest_stays():
    migrate()
    oldest = Schedule.objects.get()
    for _ in range(2):
        row = Schedule.objects.get(pk=oldest.pk)
        row.pk = None
        row.save()
    Schedule.objects.create(name="of the site", func=CLEANUP[1])
    migrate()
    assert [row.name for row in Schedule.objects.order_by("name")] == ["of the site", NAME]
    assert Schedule.objects.get(name=NAME) == oldest


def test_of_duplicates_the_one_that_its_owner_changed_stays():
    migrate()
    row = Schedule.objects.get()
    row.pk, row.minutes = None, 60
    row.save()
    migrate()
    assert made() == [(*CLEANUP[:3], 60, -1)]


def test_two_processes_that_migrate_at_the_same_time_make_one_schedule(monkeypatch):
    create = schedules._create

    def create_after_another(plan):
        monkeypatch.setattr(schedules, "_create", create)
        schedules.make()
        create(plan)

    monkeypatch.setattr(schedules, "_create", create_after_another)
    schedules.make()
    assert made() == [CLEANUP]


def test_the_interval_is_a_setting(settings):
    settings.PAGESTATS_CLEANUP_INTERVAL = timedelta(hours=2)
    migrate()
    assert made() == [(*CLEANUP[:3], 120, -1)]


def test_no_schedule_is_made_where_the_site_wants_none_until_it_does(settings):
    settings.PAGESTATS_SCHEDULES = False
    migrate()
    assert made() == []
    settings.PAGESTATS_SCHEDULES = True
    migrate()
    assert made() == [CLEANUP]


@pytest.mark.parametrize("app", ["blog", "pagestats", "django_q"])
def test_it_is_made_whichever_app_is_migrated(app):
    migrate(app)
    assert made() == [CLEANUP]


def test_it_is_made_neither_for_another_database_nor_without_django_q(monkeypatch):
    schedules.make_after_migrate(using="another")
    assert made() == []
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "django_q")
    schedules.make_after_migrate(using="default")
    assert made() == []


def test_nothing_is_written_when_all_is_made(django_capture_queries):
    migrate()
    queries = django_capture_queries(lambda: schedules.make_after_migrate(using="default"))
    assert not [query for query in queries if not query.strip().upper().startswith(("SELECT", "PRAGMA", "SHOW"))]


@pytest.mark.parametrize(
    ("at", "first"),
    [("2026-03-14T01:00", "2026-03-14T03:15"), ("2026-03-14T03:15", "2026-03-15T03:15")],
)
def test_what_is_done_at_night_begins_with_the_next_one(at, first):
    here = ZoneInfo("Europe/Amsterdam")
    plan = schedules.Plan(name="nightly", func="f", every=timedelta(days=1), first_at=time(3, 15))
    next_run = plan.next_run(datetime.fromisoformat(at).replace(tzinfo=here).astimezone(UTC))
    assert next_run == datetime.fromisoformat(first).replace(tzinfo=here)
    assert (plan.describe(), plan.columns()["minutes"]) == ("every day", 24 * 60)


# In a site of its own: another process, and databases in files

SITE = '''
import os
from pathlib import Path

SECRET_KEY = "a key for tests"
USE_TZ = True
MIDDLEWARE = ["pagestats.middleware.PageViewMiddleware"]
FOLDER = Path(os.environ["SITE_FOLDER"])
APPS = os.environ["SITE_APPS"].split()
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", *APPS, "pagestats"]
DATABASES = {
    name: {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / name} for name in ("default", "queue", "stats")
}
DATABASE_ROUTERS = [f"site_settings.{name}" for name in os.environ.get("SITE_ROUTERS", "").split()]
Q_CLUSTER = {"name": "site", "orm": "default", "timeout": 60, "retry": 120}


class Apart:
    """Each of the two apps in a database of its own."""

    homes = {"django_q": "queue", "pagestats": "stats"}

    def db_for_read(self, model, **hints):
        return self.homes.get(model._meta.app_label)

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return db == self.homes.get(app_label, "default")
'''


# Run one after the other in one process: what it costs to start one is most of what a command takes.
COMMANDS = """
import io, json, sys
import django
from django.core.management import CommandError, call_command

django.setup()
said = []
for command in json.loads(sys.argv[1]):
    out = io.StringIO()
    try:
        call_command(*command, stdout=out)
        said.append(out.getvalue().strip())
    except CommandError as error:
        said.append(f"CommandError: {error}")
print(json.dumps([said, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


@pytest.fixture
def site(tmp_path):
    """Return a function that runs commands in the site; it returns what each said, and the packages then imported."""
    (tmp_path / "site_settings.py").write_text(SITE)

    def run(*commands, apps="django_q", routers=""):
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
            "SITE_FOLDER": str(tmp_path),
            "SITE_APPS": apps,
            "SITE_ROUTERS": routers,
        }
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", COMMANDS, json.dumps([command.split() for command in commands])],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said, packages = json.loads(done.stdout)
        return said, packages

    return run


NOT_MADE = f"{NAME}: not made yet; run manage.py migrate, or restore it with --restore"
NOT_MIGRATED = "CommandError: django_q_schedule can't be used before manage.py migrate."
QUIETLY = "--verbosity=0"


def test_without_django_q_all_but_the_cluster_works_and_it_is_never_imported(site):
    said, packages = site(
        f"migrate {QUIETLY}",
        "cleanup_stale_sessions",
        "backfill_aggregates",
        "backfill_aggregates --schedule",
        "pagestats_schedules",
        apps="",
    )
    assert said[1:3] == ["Deleted 0 stale sessions", "No page views to backfill"]
    for refusal in said[3:]:
        assert refusal.startswith('CommandError: "django_q" is not in INSTALLED_APPS')
        assert "manage.py cleanup_stale_sessions" in refusal
    assert "pagestats" in packages
    assert {"django_q", "redis"}.isdisjoint(packages)


def test_tables_that_are_not_there_yet_are_waited_for(site):
    site(f"migrate {QUIETLY}", apps="")
    said, _ = site(
        "backfill_aggregates --schedule",
        "pagestats_schedules",
        f"migrate pagestats {QUIETLY}",  # of django_q there is none
        "pagestats_schedules",
        f"migrate django_q 0013 {QUIETLY}",  # and now too little
        "pagestats_schedules",
        f"migrate django_q {QUIETLY}",
        "pagestats_schedules",
        f"migrate pagestats zero {QUIETLY}",
    )
    assert said[0].startswith("CommandError: The queue of django-q2 can't be reached: no such table: django_q_ormq.")
    assert said[1] == said[3] == said[5] == NOT_MIGRATED
    first, *others = said[7].splitlines()
    assert first.startswith(f"{NAME}: every 5 minutes, next ")
    assert "pagestats prune: every day, next " in " ".join(others)


@pytest.mark.parametrize("order", [("default", "queue", "stats"), ("stats", "default", "queue")])
def test_apps_in_databases_of_their_own_get_it_when_both_are_migrated(site, order):
    steps = [step for database in order for step in (f"migrate --database={database} {QUIETLY}", "pagestats_schedules")]
    said, _ = site(*steps, routers="Apart")
    assert all("can't be used before manage.py migrate" in refusal for refusal in said[1:-1:2])
    assert said[-1].startswith(f"{NAME}: every 5 minutes, next ")


# The command


def test_the_command_lists_restores_and_removes():
    assert set_up_schedules() == NOT_MADE
    migrate()
    Schedule.objects.update(next_run=T0)
    assert set_up_schedules() == f"{NAME}: every 5 minutes, next 2026-03-14 12:00:00 UTC"
    assert set_up_schedules(remove=True) == f"{NAME}: removed; to make it again, every 5 minutes, use --restore"
    migrate()
    assert made() == []
    assert set_up_schedules(restore=True).startswith(f"{NAME}: every 5 minutes, next ")
    assert made() == [CLEANUP]


def test_a_changed_schedule_is_listed_as_such_and_restored():
    migrate()
    Schedule.objects.update(minutes=60, repeats=0, next_run=T0)
    assert (
        set_up_schedules() == f"{NAME}: changed by the site, next never; to reset it to every 5 minutes, use --restore"
    )
    set_up_schedules(restore=True)
    assert made() == [CLEANUP]
    assert Schedule.objects.get().next_run > T0


def test_what_is_removed_before_it_was_made_is_not_made():
    set_up_schedules(remove=True)
    migrate()
    assert made() == []


def test_restoring_twice_is_remembered_once():
    set_up_schedules(restore=True)
    set_up_schedules(restore=True)
    assert made() == [CLEANUP]
    assert Run.objects.filter(kind="schedule").count() == 1


def test_the_command_restores_nothing_where_the_site_wants_none(settings):
    settings.PAGESTATS_SCHEDULES = False
    with pytest.raises(CommandError, match="PAGESTATS_SCHEDULES is False"):
        set_up_schedules(restore=True)
    assert set_up_schedules() == f"{NOT_MADE}\nPAGESTATS_SCHEDULES is False, so migrate creates no schedules."


def test_restoring_and_removing_at_once_is_refused():
    with pytest.raises(CommandError, match="not allowed with argument"):
        call_command("pagestats_schedules", "--restore", "--remove")


@pytest.mark.django_db(transaction=True)
def test_it_is_made_after_a_flush():
    migrate()
    call_command("flush", interactive=False, verbosity=0)
    assert made() == [CLEANUP]
