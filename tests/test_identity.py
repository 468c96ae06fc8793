from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.test import RequestFactory

from pagestats.identity import day_salts, session_id
from pagestats.models import Salt
from pagestats.recording import record_page_view
from tests.factories import T0, a_hit

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
MIDNIGHT = T0.astimezone(AMSTERDAM).replace(hour=0)
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_salts_of_another_test():
    day_salts.clear()
    yield
    day_salts.clear()


def a_request(*, address="203.0.113.7", agent=CHROME, host="example.com"):
    return RequestFactory().get("/", REMOTE_ADDR=address, headers={"user-agent": agent, "host": host})


def an_id(*, at=T0, **changes):
    return session_id(a_request(**changes), at=at)


def test_a_browser_keeps_its_id_all_day():
    assert an_id(at=MIDNIGHT) == an_id(at=MIDNIGHT + timedelta(hours=23, minutes=59))


def test_an_id_is_anonymous_text():
    assert len(an_id()) == 32
    assert set(an_id()) <= set("0123456789abcdef")


@pytest.mark.parametrize("changes", [{"address": "203.0.113.8"}, {"agent": "Firefox"}, {"host": "other.example.com"}])
def test_another_address_agent_or_host_is_another_visitor(changes):
    assert an_id() != an_id(**changes)


def test_no_other_client_can_be_put_together_from_the_parts():
    assert an_id(host="example.com", agent="\0x") != an_id(host="example.com", agent="x")


def test_an_address_of_the_same_ipv6_network_is_the_same_visitor():
    assert an_id(address="2001:db8:1:2::1") == an_id(address="2001:db8:1:2:ffff::9")
    assert an_id(address="2001:db8:1:2::1") != an_id(address="2001:db8:1:3::1")
    assert an_id(address="::ffff:203.0.113.7") == an_id()


@pytest.mark.parametrize("address", ["", "unix:", "not an address", "1.2.3.4.5"])
def test_a_client_without_an_address_has_no_id(address):
    assert an_id(address=address) is None


def test_tomorrow_an_id_is_another_one():
    assert an_id(at=MIDNIGHT) != an_id(at=MIDNIGHT + timedelta(days=1))


def test_days_are_those_of_the_reporting_zone_not_of_utc():
    before, after = MIDNIGHT - timedelta(minutes=1), MIDNIGHT + timedelta(minutes=1)
    assert before.astimezone(ZoneInfo("UTC")).date() == after.astimezone(ZoneInfo("UTC")).date()
    assert an_id(at=before) != an_id(at=after)


def test_making_the_salt_of_a_day_deletes_those_two_days_old():
    for day in range(4):
        an_id(at=MIDNIGHT + timedelta(days=day))
    assert list(Salt.objects.order_by("day").values_list("day", flat=True)) == [date(2026, 3, 16), date(2026, 3, 17)]


def test_each_day_has_a_salt_of_its_own_and_keeps_it():
    an_id(at=MIDNIGHT)
    day_salts.clear()
    first = an_id(at=MIDNIGHT)
    assert Salt.objects.count() == 1
    Salt.objects.all().delete()
    day_salts.clear()
    assert an_id(at=MIDNIGHT) != first


def test_the_secret_key_is_part_of_the_key(settings):
    before = an_id()
    settings.SECRET_KEY = "another"
    assert an_id() != before


def test_a_session_goes_on_over_midnight():
    before = MIDNIGHT - timedelta(minutes=5)
    yesterday = an_id(at=before)
    record_page_view(a_hit(session_id=yesterday, at=before))
    assert an_id(at=MIDNIGHT + timedelta(minutes=10)) == yesterday
    assert an_id(at=MIDNIGHT + timedelta(minutes=25)) != yesterday


def test_who_was_not_here_before_midnight_gets_an_id_of_the_new_day():
    yesterday = an_id(at=MIDNIGHT - timedelta(minutes=5))
    assert an_id(at=MIDNIGHT + timedelta(minutes=1)) != yesterday


def test_in_the_course_of_a_day_an_id_costs_no_query(django_assert_num_queries):
    an_id(at=MIDNIGHT + timedelta(hours=2))
    with django_assert_num_queries(0):
        an_id(at=MIDNIGHT + timedelta(hours=3))
