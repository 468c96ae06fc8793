from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest

from pagestats import retention
from pagestats.models import Calendar, Run, Tally
from pagestats.rollups import backfill, begin_verification, verification
from pagestats.stats import Health, Tallied, health
from tests.factories import T0, raw_views

TODAY = date(2026, 3, 14)


def a_tally(ago, outcome, reason="", count=1):
    return Tally.objects.create(day=TODAY - timedelta(days=ago), outcome=outcome, reason=reason, count=count)


@pytest.mark.django_db
def test_a_site_that_has_just_begun_is_in_good_health():
    assert health(at=T0) == Health(
        zone=ZoneInfo("Europe/Amsterdam"),
        tallied=(),
        pending=0,
        stranded=0,
        last_backfill=None,
        last_cleanup=None,
        last_verify=None,
    )


@pytest.mark.django_db
def test_tallies_are_those_of_today_and_of_seven_days_with_today_most_first():
    a_tally(0, "recorded", count=3)
    a_tally(6, "recorded", count=4)
    a_tally(7, "recorded", count=100)
    a_tally(-1, "recorded", count=100)
    a_tally(0, "not_stored", "bot", count=9)
    a_tally(1, "not_stored", "status", count=7)
    a_tally(0, "failed", "OperationalError", count=1)
    assert health(at=T0).tallied == (
        Tallied("not_stored", "bot", 9, 9),
        Tallied("not_stored", "status", 0, 7),
        Tallied("recorded", "", 3, 7),
        Tallied("failed", "OperationalError", 1, 1),
    )


@pytest.mark.django_db
def test_today_is_a_day_of_the_reporting_zone():
    Calendar.unguarded.create(pk=Calendar.ROW, zone="Pacific/Kiritimati")
    a_tally(-1, "recorded")
    assert health(at=T0).zone == ZoneInfo("Pacific/Kiritimati")
    assert health(at=T0).tallied == (Tallied("recorded", "", 1, 1),)


@pytest.mark.django_db
def test_pending_page_views_and_the_last_backfill_are_told():
    raw_views([("/a", "s", T0), ("/b", "s", T0)])
    assert (health().pending, health().last_backfill) == (2, None)
    list(backfill())
    state = health()
    assert (state.pending, state.last_backfill.status, state.last_backfill.processed) == (0, Run.Status.FINISHED, 2)


@pytest.mark.django_db
def test_the_last_clean_up_is_told():
    list(backfill())
    retention.cleanup_and_store_run()
    assert health().last_cleanup == Run.objects.get(kind=Run.Kind.CLEANUP)


@pytest.mark.django_db
def test_the_last_verification_that_came_to_its_end_is_told():
    list(verification(begin_verification()))
    begin_verification()
    slices = verification(begin_verification())
    next(slices)
    slices.close()
    assert Run.objects.filter(kind=Run.Kind.VERIFY).count() == 3
    last = health().last_verify
    assert (last.status, last.result["drift"]) == (Run.Status.FINISHED, 0)


@pytest.mark.django_db
def test_the_number_of_queries_does_not_depend_on_what_there_is(django_capture_queries):
    assert len(django_capture_queries(lambda: health(at=T0))) == 4
    raw_views([("/a", "s", T0)])
    few = django_capture_queries(lambda: health(at=T0))
    for n in range(40):
        a_tally(n % 9, "not_stored", f"reason {n}")
    raw_views([("/a", f"s{n}", T0) for n in range(40)])
    many = django_capture_queries(lambda: health(at=T0))
    assert len(many) == len(few)
    assert all(query.startswith("SELECT") for query in many)
