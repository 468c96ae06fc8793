from dataclasses import FrozenInstanceError, replace
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagestats.days import day_of, start_of
from pagestats.hits import PATH_LENGTH, SESSION_ID_LENGTH, Hit, InvalidHit, instant, shorten, storable, unstorable_in
from tests.factories import T0, a_hit

UNSTORABLE = {
    "NUL": "/a\x00b",
    "a lone surrogate": "/a\ud800b",
    "bytes": b"/a",
    "a number": 7,
    "None": None,
    "a list": ["/a"],
}


@pytest.mark.parametrize("field", ["path", "session_id", "page_type"])
@pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE.keys())
def test_what_no_database_could_keep_is_refused_with_its_name_and_value(field, value):
    with pytest.raises(InvalidHit) as refused:
        a_hit(**{field: value})
    assert str(refused.value).startswith(f"{field} is {value!r}, ")


@pytest.mark.parametrize(
    ("text", "found", "stored"),
    [
        ("", "", ""),
        ("/a", "", "/a"),
        ("/ä/🙂", "", "/ä/🙂"),
        ("/a\x00b", "a NUL character, which PostgreSQL can't store", "/a?b"),
        ("/ä\x00b", "a NUL character, which PostgreSQL can't store", "/ä?b"),
        ("/\ud800", "a lone surrogate, half a character", "/?"),
        ("/\udfff\x00", "a lone surrogate, half a character", "/??"),
    ],
)
def test_what_no_database_could_store_is_named_and_replaced(text, found, stored):
    assert (unstorable_in(text), storable(text)) == (found, stored)


def test_a_hit_without_an_instant_is_of_now():
    before = datetime.now(UTC)
    assert before <= Hit(path="/", session_id="s").at <= datetime.now(UTC)


def test_an_instant_is_kept_in_utc():
    nepal = timezone(timedelta(hours=5, minutes=45))
    assert a_hit(at=T0.astimezone(nepal)) == a_hit(at=T0)
    assert a_hit(at=T0.astimezone(nepal)).at.tzinfo is UTC


@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 1, 1),  # noqa: DTZ001  # which is what is refused
        "2026-01-01",
        0,
        datetime(1969, 12, 31, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),  # the day before in New York
        datetime(2199, 12, 31, tzinfo=UTC),  # the day after in Kiribati
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))),
    ],
)
def test_an_instant_that_is_naive_or_out_of_range_is_refused(at):
    with pytest.raises(InvalidHit, match="at is"):
        instant(at)


def test_a_hit_cannot_be_changed_but_copied_with_changes():
    hit = a_hit()
    with pytest.raises(FrozenInstanceError):
        hit.path = "/b"
    assert replace(hit, path="/b") == a_hit(path="/b")


@pytest.mark.parametrize(("field", "length"), [("path", PATH_LENGTH), ("session_id", SESSION_ID_LENGTH)])
def test_a_text_of_the_full_length_is_kept_and_a_longer_one_shortened(field, length):
    assert getattr(a_hit(**{field: "x" * length}), field) == "x" * length
    shortened = getattr(a_hit(**{field: "x" * (length + 1)}), field)
    assert len(shortened) == length
    assert shortened.startswith("xxx")


def test_two_long_paths_that_begin_alike_stay_two():
    beginning = "/" + "long/" * 200
    assert a_hit(path=beginning + "a").path != a_hit(path=beginning + "b").path


@given(text=st.text(max_size=80), length=st.integers(40, 70))
def test_shortening_is_stable_and_never_too_long(text, length):
    shortened = shorten(text, length)
    assert len(shortened) <= length
    assert shorten(shortened, length) == shortened
    assert shortened == text or len(text) > length


@pytest.mark.parametrize(
    ("zone", "day", "minutes"),
    [
        ("Europe/Berlin", date(2026, 10, 25), 25 * 60),
        ("America/Havana", date(2026, 11, 1), 25 * 60),  # midnight comes twice
        ("America/Scoresbysund", date(2026, 10, 24), 25 * 60),  # the last hour comes twice
        ("America/St_Johns", date(2010, 11, 6), 24 * 60),  # at one minute past midnight its last hour comes once more
        ("America/St_Johns", date(2010, 11, 7), 25 * 60),
        ("Africa/Cairo", date(2026, 4, 24), 23 * 60),  # midnight is skipped
        ("Pacific/Apia", date(2011, 12, 30), 0),  # the whole day is
    ],
)
def test_a_day_is_all_that_lies_between_its_beginning_and_that_of_the_next(zone, day, minutes):
    zone = ZoneInfo(zone)
    begin, end = start_of(day, zone), start_of(day + timedelta(days=1), zone)
    assert end - begin == timedelta(minutes=minutes)
    around = (begin + timedelta(minutes=number) for number in range(-90, minutes + 90))
    assert [at for at in around if day_of(at, zone) == day] == [
        begin + timedelta(minutes=number) for number in range(minutes)
    ]
