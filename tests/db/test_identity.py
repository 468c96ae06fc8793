from datetime import date, datetime, timedelta
from functools import partial
from itertools import product
from threading import Barrier, Lock, Thread
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.signing import Signer
from django.db import connection
from django.http import HttpResponse, HttpResponseNotModified
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from pagestats import conf, tasks
from pagestats.hits import Hit
from pagestats.identity import (
    DaySaltCache,
    DaySalts,
    Identified,
    configured,
    day_salts,
    identify,
    identities,
    lifetime,
    visitors_label,
)
from pagestats.models import Calendar, Salt
from pagestats.recording import record_page_view
from tests.agents import CHROME
from tests.factories import T0, a_hit
from tests.workers import Signals, Team

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
MIDNIGHT = T0.astimezone(AMSTERDAM).replace(hour=0)
pytestmark = pytest.mark.django_db


def a_request(*, address="203.0.113.7", agent=CHROME, host="example.com", cookie=None, secure=False, **headers):
    headers = {"user-agent": agent, "host": host, **headers} | ({"cookie": cookie} if cookie else {})
    return RequestFactory().get("/", REMOTE_ADDR=address, secure=secure, headers=headers)


def an_id(*, at=T0, **changes):
    return identify(a_request(**changes), at=at).session_id


def a_reason(*, claimed=None, **changes):
    identified = identify(a_request(**changes), at=T0, claimed=claimed)
    assert identified.session_id is None
    return identified.reason


# Anonymous


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
    assert a_reason(address=address) == "no_address"


def test_behind_a_trusted_proxy_the_client_is_identified_and_not_the_proxy():
    behind = {"address": "127.0.0.1", "x-forwarded-for": "6.6.6.6, 203.0.113.7, 10.0.0.1"}
    assert an_id(**behind) == an_id()
    assert an_id(**{"x-forwarded-for": "6.6.6.6"}) == an_id()


@pytest.mark.parametrize("host", ["a b", "example.com/x", "\0", "[::1", "\xe9.example", "x" * 10_000 + "/"])
def test_a_host_that_django_refuses_gives_no_id(host):
    assert a_reason(host=host) == "bad_host"


def test_a_host_that_the_site_does_not_have_gives_no_id(settings):
    settings.ALLOWED_HOSTS = ["example.com"]
    assert a_reason(host="evil.example") == "bad_host"
    assert an_id()


AGENTS = ["", "\0", "\ud800", "\udcff", "\xff\xfe\xc3\x28", "x" * 10_000, "é", "\r\nCookie: a=b", "💥"]
ADDRESSES = ["::ffff:1.2.3.4", "fe80::1%eth0", "1.2.3.4:5678", "[::1]:80", "2001:db8::1", "10.0.0.1", "255.255.255.255"]


@pytest.mark.parametrize(("agent", "address"), [*product(AGENTS, ADDRESSES)], ids=lambda value: repr(value[:16]))
def test_no_agent_and_no_address_raises(agent, address):
    request = a_request(address=address)
    request.META["HTTP_USER_AGENT"] = agent
    found = identify(request, at=T0).session_id
    assert Hit(path="/", session_id=found).session_id == found


def test_each_agent_is_another_visitor_however_broken():
    ids = set()
    for agent in AGENTS:
        request = a_request()
        request.META["HTTP_USER_AGENT"] = agent
        ids.add(identify(request, at=T0).session_id)
    assert len(ids) == len(AGENTS)


def test_an_id_that_a_client_claims_is_not_believed():
    assert identify(a_request(), at=T0, claimed="0" * 32).session_id == an_id()


def test_an_anonymous_id_leaves_nothing_with_the_browser():
    response = HttpResponse()
    assert identify(a_request(), at=T0).remember(response)
    assert response.cookies == {}
    assert set(response.headers) == {"Content-Type"}


def test_tomorrow_an_id_is_another_one():
    assert an_id(at=MIDNIGHT) != an_id(at=MIDNIGHT + timedelta(days=1))


def test_days_are_those_of_the_reporting_zone_not_of_utc():
    before, after = MIDNIGHT - timedelta(minutes=1), MIDNIGHT + timedelta(minutes=1)
    assert before.astimezone(ZoneInfo("UTC")).date() == after.astimezone(ZoneInfo("UTC")).date()
    assert an_id(at=before) != an_id(at=after)


def test_days_are_those_of_the_stored_reporting_zone_when_there_is_one():
    Calendar.unguarded.create(pk=Calendar.ROW, zone="Asia/Tokyo")
    tokyo = datetime(2026, 3, 14, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert an_id(at=tokyo) == an_id(at=tokyo + timedelta(hours=23, minutes=59))
    assert an_id(at=tokyo) != an_id(at=tokyo - timedelta(minutes=1))
    assert set(Salt.objects.values_list("day", flat=True)) == {date(2026, 3, 13), date(2026, 3, 14)}


@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25)])
def test_a_day_of_23_or_25_hours_has_one_salt(day):
    begin = datetime(day.year, day.month, day.day, tzinfo=AMSTERDAM)
    end = begin + timedelta(days=1)  # by the clock on the wall
    hours = round((end.timestamp() - begin.timestamp()) / 3600)
    assert hours in {23, 25}
    utc = ZoneInfo("UTC")
    ids = {an_id(at=begin.astimezone(utc) + timedelta(hours=hour)) for hour in range(hours)}
    assert len(ids) == 1
    assert an_id(at=end.astimezone(utc)) not in ids


def test_making_the_salt_of_a_day_deletes_those_two_days_old():
    for day in range(4):
        an_id(at=MIDNIGHT + timedelta(days=day))
    assert list(Salt.objects.order_by("day").values_list("day", flat=True)) == [date(2026, 3, 16), date(2026, 3, 17)]


@pytest.mark.parametrize("door", [tasks.prune, partial(call_command, "cleanup_stale_sessions", verbosity=0)])
def test_salts_two_days_old_go_from_a_site_without_page_views(monkeypatch, door):
    for day in range(2):
        an_id(at=MIDNIGHT + timedelta(days=day))
    days = Salt.objects.order_by("day").values_list("day", flat=True)
    assert list(days) == [date(2026, 3, 14), date(2026, 3, 15)]
    for now, left in [(2, [date(2026, 3, 15)]), (3, [])]:
        monkeypatch.setattr(timezone, "now", lambda at=MIDNIGHT + timedelta(days=now): at)
        door()
        assert list(days.all()) == left


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


def test_a_session_goes_on_over_midnight_for_less_than_the_window():
    yesterday = an_id(at=MIDNIGHT - timedelta(minutes=1))
    for minutes in (-1, 10, 29):
        record_page_view(a_hit(path=f"/{minutes}", session_id=yesterday, at=MIDNIGHT + timedelta(minutes=minutes)))
    assert an_id(at=MIDNIGHT + timedelta(minutes=30) - timedelta(microseconds=1)) == yesterday
    assert an_id(at=MIDNIGHT + timedelta(minutes=30)) != yesterday


def test_who_was_seen_exactly_a_window_ago_gets_an_id_of_the_new_day():
    yesterday = an_id(at=MIDNIGHT - timedelta(minutes=15))
    record_page_view(a_hit(session_id=yesterday, at=MIDNIGHT - timedelta(minutes=15)))
    assert an_id(at=MIDNIGHT + timedelta(minutes=15) - timedelta(microseconds=1)) == yesterday
    assert an_id(at=MIDNIGHT + timedelta(minutes=15)) != yesterday


def test_a_reload_over_midnight_is_a_repeat():
    before, after = MIDNIGHT - timedelta(minutes=5), MIDNIGHT + timedelta(minutes=5)
    assert record_page_view(a_hit(session_id=an_id(at=before), at=before))
    assert record_page_view(a_hit(session_id=an_id(at=after), at=after)) is None


def test_who_was_not_here_before_midnight_gets_an_id_of_the_new_day():
    yesterday = an_id(at=MIDNIGHT - timedelta(minutes=5))
    assert an_id(at=MIDNIGHT + timedelta(minutes=1)) != yesterday


def test_after_midnight_an_id_costs_one_more_read_until_the_window_is_over():
    an_id(at=MIDNIGHT - timedelta(hours=1))
    an_id(at=MIDNIGHT)
    for minutes, queries in ((29, 1), (30, 0)):
        with CaptureQueriesContext(connection) as captured:
            an_id(at=MIDNIGHT + timedelta(minutes=minutes))
        assert len(captured) == queries


def test_in_the_course_of_a_day_an_id_costs_no_query(django_assert_num_queries):
    an_id(at=MIDNIGHT + timedelta(hours=2))
    with django_assert_num_queries(0):
        an_id(at=MIDNIGHT + timedelta(hours=3))


# Salts, by many at once

PROCESSES = 8
DAYS = 12


def ids_of_days(days: list[int], signals: Signals) -> list[str]:
    """Return the id of one client on each of some days; all processes ask for that of a day together."""
    found = []
    for day in days:
        day_salts.clear()
        signals.together()
        found.append(an_id(at=MIDNIGHT + timedelta(days=day, hours=12)))
        assert found[-1] == an_id(at=MIDNIGHT + timedelta(days=day, hours=13))
    return found


@pytest.mark.django_db(transaction=True)
def test_all_processes_use_the_one_salt_of_a_day():
    with Team(PROCESSES) as team:
        found = team.run(ids_of_days, [list(range(DAYS))] * PROCESSES)
    (ids,) = set(map(tuple, found))
    assert len(set(ids)) == DAYS
    last = MIDNIGHT.date() + timedelta(days=DAYS - 1)
    assert list(Salt.objects.order_by("day").values_list("day", flat=True)) == [last - timedelta(days=1), last]
    assert an_id(at=MIDNIGHT + timedelta(days=DAYS - 1, hours=12)) == ids[-1]


def test_of_many_threads_one_reads_the_salts_and_all_use_them(monkeypatch):
    reads, found = [], []
    together, lock = Barrier(16), Lock()

    class LockOnceAllAreHere:
        def __enter__(self):
            together.wait(60)
            lock.acquire()

        def __exit__(self, *error):
            lock.release()

    def read(at):
        reads.append(at)
        return DaySalts(MIDNIGHT, MIDNIGHT + timedelta(days=1), bytes([len(reads)]), None)

    cache = DaySaltCache(read)
    monkeypatch.setattr(cache, "_lock", LockOnceAllAreHere())
    threads = [Thread(target=lambda: found.append(cache.at(T0))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1
    assert len(found) == 16
    assert len(set(found)) == 1


def test_a_failure_to_read_the_salts_is_not_kept():
    salts = DaySalts(MIDNIGHT, MIDNIGHT + timedelta(days=1), b"", None)
    answers = iter([lambda: 1 // 0, lambda: salts])
    cache = DaySaltCache(lambda at: next(answers)())
    with pytest.raises(ZeroDivisionError):
        cache.at(T0)
    assert cache.at(T0) == salts


# Cookie


@pytest.fixture
def by_cookie(settings):
    settings.PAGESTATS_IDENTITY = "cookie"


def a_cookie(response):
    return f"{identities.COOKIE_NAME}={response.cookies[identities.COOKIE_NAME].value}"


@pytest.fixture
def no_queries(django_assert_num_queries):
    with django_assert_num_queries(0):
        yield


@pytest.mark.usefixtures("by_cookie", "no_queries")
def test_a_cookie_brings_the_same_id_again_whatever_else_changes():
    first, response = identify(a_request(), at=T0), HttpResponse()
    assert first.remember(response)
    cookie = f"a=b; {a_cookie(response)}; c=d"
    again = identify(a_request(cookie=cookie, address="198.51.100.1", agent="Firefox"), at=T0 + timedelta(days=300))
    assert again.session_id == first.session_id
    assert len(again.session_id) == 32
    untouched = HttpResponse()
    assert again.remember(untouched)
    assert untouched.cookies == {}
    assert set(untouched.headers) == {"Content-Type"}


@pytest.mark.usefixtures("by_cookie")
def test_each_browser_without_the_cookie_gets_an_id_of_its_own():
    assert len({an_id() for _ in range(100)}) == 100


@pytest.mark.usefixtures("by_cookie")
@pytest.mark.parametrize("secure", [False, True])
def test_the_cookie_is_the_sites_own_for_a_year_and_out_of_reach_of_scripts(secure):
    response = HttpResponse()
    identify(a_request(secure=secure), at=T0).remember(response)
    cookie = response.cookies["pagestats"]
    assert {name: cookie[name] for name in cookie if cookie[name] and name != "expires"} == {
        "path": "/",
        "max-age": 365 * 24 * 3600,
        "httponly": True,
        "samesite": "Lax",
        **({"secure": True} if secure else {}),
    }
    assert '"' not in cookie.output()


@pytest.mark.usefixtures("by_cookie")
@pytest.mark.parametrize(
    "value",
    [
        "0" * 32,
        "0" * 32 + ":",
        "0" * 32 + ":forged",
        Signer(salt="another").sign("0" * 32),
        Signer(salt="pagestats.identity.cookie", key="another").sign("0" * 32),
        Signer(salt="pagestats.identity.cookie").sign("chosen"),
        "",
        "\ud800",
        "\xff" * 100,
        ":" * 10_000,
    ],
)
def test_a_cookie_that_was_not_given_by_the_site_is_none(value):
    request = a_request()
    request.COOKIES[identities.COOKIE_NAME] = value
    identified, response = identify(request, at=T0), HttpResponse()
    assert identified.session_id not in {None, "0" * 32, "chosen"}
    assert identified.remember(response)
    assert an_id(cookie=a_cookie(response)) == identified.session_id


@pytest.mark.usefixtures("by_cookie")
def test_a_cookie_outlives_a_change_of_the_secret_key(settings):
    response = HttpResponse()
    first = identify(a_request(), at=T0)
    first.remember(response)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [settings.SECRET_KEY]
    assert an_id(cookie=a_cookie(response)) == first.session_id
    settings.SECRET_KEY_FALLBACKS = []
    assert an_id(cookie=a_cookie(response)) != first.session_id


@pytest.mark.usefixtures("by_cookie")
@pytest.mark.parametrize(
    "headers",
    [
        {"Cache-Control": "public"},
        {"Cache-Control": "max-age=60, Public"},
        {"Cache-Control": "s-maxage=60"},
        {"CDN-Cache-Control": "max-age=60"},
        {"Cache-Control": "max-age=0", "Surrogate-Control": "max-age=60"},
    ],
)
def test_no_cookie_goes_with_a_page_that_a_cache_may_give_to_others(headers):
    response = HttpResponse(headers=headers)
    before = dict(response.headers)
    assert not identify(a_request(), at=T0).remember(response)
    assert response.cookies == {}
    assert dict(response.headers) == before


@pytest.mark.usefixtures("by_cookie")
def test_no_cookie_goes_with_the_confirmation_of_a_page_that_a_cache_may_hold():
    response = HttpResponseNotModified()
    assert not identify(a_request(), at=T0).remember(response)
    assert response.cookies == {}


@pytest.mark.usefixtures("by_cookie")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "private"),
        ("", "private"),
        ("max-age=600", "max-age=600, private"),
        ("no-cache", "no-cache, private"),
        ("private, max-age=5", "private, max-age=5"),
        ("private, s-maxage=5", "private, s-maxage=5"),
    ],
)
def test_the_page_that_brings_the_cookie_is_private_and_varies_on_nothing(before, after):
    response = HttpResponse(headers={} if before is None else {"Cache-Control": before})
    assert identify(a_request(), at=T0).remember(response)
    assert response.headers["Cache-Control"] == after
    assert identities.COOKIE_NAME in response.cookies
    assert not response.has_header("Vary")


@pytest.mark.usefixtures("by_cookie")
def test_a_cookie_needs_neither_an_address_nor_a_host():
    assert an_id(address="", host="a b")


# Client


@pytest.fixture
def by_client(settings):
    settings.PAGESTATS_IDENTITY = "client"


@pytest.mark.usefixtures("by_client", "no_queries")
@pytest.mark.parametrize(
    "claimed", ["c98ae87e-5e1b-4b82-b2c8-e8bd67e365d4", "0" * 16, "V1StGXR8_Z5jdHi6B-myT", "~" * 64]
)
def test_the_id_that_a_browser_sends_is_its_session(claimed):
    identified, response = identify(a_request(), at=T0, claimed=claimed), HttpResponse()
    assert identified == Identified(session_id=claimed)
    assert identified.remember(response)
    assert response.cookies == {}


@pytest.mark.usefixtures("by_client", "no_queries")
@pytest.mark.parametrize("claimed", [None, ""])
def test_a_page_alone_brings_no_id(claimed):
    assert a_reason(claimed=claimed) == "no_session_id"


BAD = [
    "0" * 15,
    "0" * 65,
    "a" * 10_000,
    "undefined",
    "\0" * 20,
    "\ud800" * 20,
    "é" * 20,
    "a b" * 6,
    "0" * 16 + "\n",
    7,
    [],
    {},
]


@pytest.mark.usefixtures("by_client", "no_queries")
@pytest.mark.parametrize("claimed", BAD, ids=lambda claimed: repr(claimed)[:16])
def test_what_can_be_no_id_of_a_browser_is_refused(claimed):
    assert a_reason(claimed=claimed) == ("bad_session_id" if claimed else "no_session_id")


# A site's own


def member(request, *, at, claimed):
    return request.headers.get("x-member")


member.lifetime = "lasting"


class Daily:
    lifetime = "day"

    def __call__(self, request, *, at, claimed):
        return f"{request.META['REMOTE_ADDR']} at {at:%H:%M} with {claimed}"


class OptedOut:
    lifetime = "day"

    def __call__(self, request, *, at, claimed):
        return Identified(reason="opted_out")


class Number:
    lifetime = "day"

    def __call__(self, request, *, at, claimed):
        return 7


class Endless:
    lifetime = "for ever"

    def __call__(self, request, *, at, claimed):
        return "x"


class Uncallable:
    lifetime = "day"


NOTHING = None


def test_a_function_of_the_site_may_give_the_id(settings):
    settings.PAGESTATS_IDENTITY = "tests.db.test_identity.member"
    assert identify(a_request(**{"x-member": "m"}), at=T0) == Identified(session_id="m")
    assert a_reason() == "no_session_id"
    assert a_reason(**{"x-member": ""}) == "no_session_id"
    assert lifetime() == "lasting"


def test_a_class_of_the_site_may_give_the_id(settings):
    settings.PAGESTATS_IDENTITY = "tests.db.test_identity.Daily"
    identified = identify(a_request(), at=T0, claimed="c")
    assert identified == Identified(session_id="203.0.113.7 at 12:00 with c")
    assert lifetime() == "day"


def test_an_identity_of_the_site_may_give_its_own_reason(settings):
    settings.PAGESTATS_IDENTITY = "tests.db.test_identity.OptedOut"
    assert a_reason() == "opted_out"


def test_an_identity_that_returns_no_text_is_told(settings):
    settings.PAGESTATS_IDENTITY = "tests.db.test_identity.Number"
    with pytest.raises(TypeError) as refused:
        an_id()
    assert str(refused.value) == "tests.db.test_identity.Number returned 7, a int, not a str or None."


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("nowhere.at_all", "cannot be imported: No module named 'nowhere'."),
        ("tests.db.test_identity.nobody", "cannot be imported: "),
        ("tests.db.test_identity.a_request", "has no lifetime. Give it an attribute `lifetime`, "),
        ("tests.db.test_identity.Endless", "has no lifetime. Give it an attribute `lifetime`, "),
        ("tests.db.test_identity.NOTHING", "has no lifetime. Give it an attribute `lifetime`, "),
        ("tests.db.test_identity.Uncallable", "cannot be called. Use a function or a class."),
    ],
)
def test_a_dotted_path_that_leads_to_no_identity_is_refused(settings, path, fault):
    settings.PAGESTATS_IDENTITY = path
    for ask in (configured, lifetime, an_id):
        with pytest.raises(ImproperlyConfigured) as refused:
            ask()
        assert str(refused.value).startswith(f"PAGESTATS_IDENTITY is {path!r}, which {fault}")


# Lifetimes


@pytest.mark.parametrize(
    ("name", "lives", "label"),
    [
        ("anonymous", "day", "Daily visitors"),
        ("cookie", "lasting", "Unique visitors"),
        ("client", "lasting", "Unique visitors"),
        ("tests.db.test_identity.Daily", "day", "Daily visitors"),
        ("tests.db.test_identity.member", "lasting", "Unique visitors"),
    ],
)
def test_visitors_are_called_by_how_long_an_id_lives(settings, name, lives, label):
    settings.PAGESTATS_IDENTITY = name
    assert lifetime() == lives
    with translation.override("en"):
        assert visitors_label() == label


def test_the_identity_is_anonymous_when_the_site_says_nothing():
    assert (lifetime(), visitors_label()) == ("day", "Daily visitors")


def test_each_name_that_the_setting_takes_is_an_identity():
    assert set(identities._IDENTITIES) == set(conf.IDENTITIES)
