"""manage.py pagestats_doctor, after the site has cleaned up, verified and pruned."""

import pytest
from django.apps import apps
from django.core.management import CommandError

from pagestats.days import DAY
from pagestats.models import Rollup
from pagestats.retention import prune
from pagestats.rollups import backfill
from pagestats.tasks import clean_up
from tests.factories import T0, raw_views, run_command

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_doctor_shows_the_last_clean_up_and_the_last_verification() -> None:
    raw_views(("/a", "s", T0 + number * DAY) for number in range(3))
    list(backfill())
    clean_up()
    run_command("verify_aggregates")
    shown = run_command("pagestats_doctor")
    assert ", removed 0 stale sessions\n" in shown
    assert "verified at " in shown
    assert ": exact\n" in shown
    assert "no clean-up has run yet" not in shown


def test_the_doctor_shows_drift_and_the_days_that_were_not_verified() -> None:
    raw_views(("/a", "s", T0 + number * DAY) for number in range(3))
    list(backfill())
    sealed = (T0 + DAY).date()
    list(prune(sealed, at=T0 + 5 * DAY))
    assert Rollup.unguarded.filter(dimension="site", day=(T0 + 2 * DAY).date()).update(views=7) == 1
    with pytest.raises(CommandError):
        run_command("verify_aggregates")
    shown = run_command("pagestats_doctor")
    assert "1 difference; to fix, run manage.py verify_aggregates --repair\n" in shown
    assert f"days before {sealed} were skipped: their page views have been pruned\n" in shown


def test_without_django_q_the_doctor_says_so_and_the_schedules_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "django_q")
    assert '"django_q" is not in INSTALLED_APPS' in run_command("pagestats_doctor")
    with pytest.raises(CommandError, match='"django_q" is not in INSTALLED_APPS'):
        run_command("pagestats_schedules")
