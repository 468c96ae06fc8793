from datetime import timedelta

import pytest

from pagestats.models import ActiveSession
from pagestats.recording import record_heartbeat
from pagestats.retention import cleanup_stale_sessions
from tests.factories import T0, a_hit

US = timedelta(microseconds=1)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("age", "deleted"),
    [(timedelta(minutes=2) - US, 0), (timedelta(minutes=2), 0), (timedelta(minutes=2) + US, 1)],
)
def test_sessions_older_than_two_minutes_are_deleted(age, deleted):
    record_heartbeat(a_hit())
    assert cleanup_stale_sessions(at=T0 + age) == deleted
    assert ActiveSession.objects.count() == 1 - deleted


@pytest.mark.django_db
def test_the_timeout_is_a_setting(settings):
    settings.PAGESTATS_SESSION_TIMEOUT = timedelta(hours=1)
    record_heartbeat(a_hit())
    assert cleanup_stale_sessions(at=T0 + timedelta(hours=1)) == 0
    assert cleanup_stale_sessions(at=T0 + timedelta(hours=1) + US) == 1


@pytest.mark.django_db
def test_the_cleanup_is_one_statement_whatever_the_number_of_sessions(django_assert_num_queries):
    for number in range(20):
        record_heartbeat(a_hit(session_id=f"s{number}"))
    with django_assert_num_queries(1):
        assert cleanup_stale_sessions(at=T0 + timedelta(days=1)) == 20


@pytest.mark.django_db
def test_without_an_instant_it_is_now():
    record_heartbeat(a_hit(at=T0 - timedelta(days=365)))
    record_heartbeat(a_hit(session_id="here", at=None))
    assert cleanup_stale_sessions() == 1
    assert ActiveSession.objects.get().session_id == "here"
