"""The checks that look at a database."""

from datetime import date

import pytest
from django.core.checks import Tags, run_checks
from django.core.management import CommandError, call_command
from django.db import connection, connections

from pagestats.models import Calendar
from pagestats.rollups import recount, slices


def ours():
    return run_checks(tags=["pagestats"])


@pytest.mark.django_db
def test_a_database_that_keeps_local_times_is_refused_and_never_verified(settings, monkeypatch):
    assert recount.local_times(using="default") is None
    local = "America/New_York"
    database = connections["default"]
    monkeypatch.setitem(database.settings_dict, "TIME_ZONE", local)
    for name in ("timezone", "timezone_name"):
        vars(database).pop(name, None)
    try:
        if connection.vendor == "postgresql":  # which keeps instants
            assert ours() == []
            return
        (message,) = ours()
        assert message.id == "pagestats.E005"
        assert message.msg.startswith(f"The database 'default' has the TIME_ZONE {local!r}: ")
        assert message.hint == "Take TIME_ZONE out of its DATABASES."
        with pytest.raises(CommandError, match="can't be verified"):
            call_command("verify_aggregates", repair=True)
        with pytest.raises(recount.LocalTimes):
            list(slices(fix=True))
    finally:
        for name in ("timezone", "timezone_name"):
            vars(database).pop(name, None)


@pytest.mark.django_db
def test_a_reporting_zone_other_than_the_sites_is_a_warning_of_the_database(settings):
    def told(databases):
        messages = run_checks(tags=[Tags.database], databases=databases)
        return [message for message in messages if message.id.startswith("pagestats.")]

    assert told(["default"]) == []
    Calendar.unguarded.create(pk=Calendar.ROW, zone=settings.TIME_ZONE)
    assert told(["default"]) == []
    settings.TIME_ZONE = "UTC"
    assert ours() == []
    (message,) = told(["default"])
    assert message.id == "pagestats.W005"
    assert message.msg.startswith("TIME_ZONE is 'UTC', but reporting days are those of Europe/Amst")
    assert "backfill_aggregates --rebuild" in message.hint
    Calendar.unguarded.update(sealed_before=date(2026, 3, 16))  # and a rebuild would be refused
    (message,) = told(["default"])
    assert message.hint == (
        "Page views before 2026-03-16 were pruned, so days can't be counted again. The reporting zone stays"
        " 'Europe/Amsterdam': set TIME_ZONE to that. Or silence pagestats.W005."
    )
