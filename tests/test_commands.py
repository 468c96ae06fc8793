from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from pagestats.models import PageView
from pagestats.tallies import tallies, tally
from tests.factories import T0, raw_views


def run(*args, **options):
    out = StringIO()
    call_command(*args, stdout=out, **options)
    return out.getvalue().strip()


@pytest.mark.django_db
def test_backfill_aggregates_says_how_many_views_and_visitors():
    raw_views((f"/{number}", f"s{number % 3}", T0) for number in range(1201))
    assert run("backfill_aggregates") == "Backfilled 1,201 page views with 3 new visitors"
    assert run("backfill_aggregates") == "No page views to backfill"
    assert PageView.objects.pending().count() == 0


@pytest.mark.django_db
def test_backfill_aggregates_refuses_a_batch_size_that_is_none():
    with pytest.raises(CommandError, match="batch_size is 0, not a number from 1 to 10,000"):
        call_command("backfill_aggregates", batch_size=0)


@pytest.mark.django_db
def test_backfill_aggregates_tells_the_status_and_folds_nothing():
    raw_views([("/a", "s", T0)])
    assert run("backfill_aggregates", status=True) == "1 page view pending\nNo backfill has run yet"
    run("backfill_aggregates")
    assert "Last backfill: finished, started " in run("backfill_aggregates", status=True)


@pytest.mark.django_db
def test_the_doctor_tells_in_one_screen_what_a_question_needs():
    raw_views([("/a", "s", T0)])
    tally("not_stored", "bot", count=1234)
    tallies.write()
    told = run("pagestats_doctor", remote_addr="10.0.0.1", x_forwarded_for="6.6.6.6, 203.0.113.9")
    for fact in (
        "recording is on",
        "identity: anonymous; an id lives one reporting day",
        "reporting zone: Europe/Amsterdam",
        "trusted proxies: loopback, private, link-local, unix",
        "The client is 203.0.113.9: the nearest of X-Forwarded-For that is no trusted proxy.",
        "none: no anonymous id was ever made",
        "1 page view pending",
        "pagestats clean-up: not made yet",
        "no clean-up has run yet",
        "1,234  not_stored (bot)",
    ):
        assert fact in told, told
    assert len(told.splitlines()) < 25
