"""The figures of any range of days, compared with a count of the page views themselves."""

import itertools
import pickle
from datetime import UTC, date, datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from example_project.blog.models import Post
from pagestats import sql, stats
from pagestats.content import Titled
from pagestats.days import DAY
from pagestats.models import Calendar, PageView, Rollup, Seal, Visitor
from pagestats.recording import record_page_view
from pagestats.rollups import backfill, rebuild
from pagestats.stats import (
    CannotTell,
    DayCounts,
    HourCounts,
    Refused,
    UnknownPage,
    read_moment,
    report,
    reporting_day,
)
from tests import oracle
from tests.factories import CONTENT, HOUR, T0, a_hit, raw_views
from tests.ranges import (
    DAYS,
    ZONES,
    begin_of,
    compare_with_a_count,
    counted,
    counted_pages,
    days_of,
    some_views,
    store,
    told,
)

pytestmark = pytest.mark.slow("hundreds of made-up ranges")

TODAY = T0.date()


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=20)
@given(data=st.data())
def test_a_range_is_what_the_page_views_say(zone, data):
    days = days_of(ZONES[zone], ZONES[zone] + (DAYS - 1) * DAY)
    views = data.draw(some_views(begin=begin_of(days[0], zone), days=DAYS))
    start, end = sorted([data.draw(st.sampled_from(days)), data.draw(st.sampled_from(days))])
    compare_with_a_count(views, zone, [(start, end)])


@pytest.mark.django_db
@pytest.mark.parametrize("start", [0, 1, 2, 9])
def test_a_range_that_begins_soon_or_long_after_the_first_day_is_as_exact(start):
    days = {"s": [0, 1, 5, 8, 15], "t": [3, 4, 9], "u": [0, 1, 20], "v": [11]}
    views = [oracle.View("/a", "", session_id, T0 + number * DAY) for session_id in days for number in days[session_id]]
    store(views, "UTC")
    start, end = TODAY + start * DAY, TODAY + (start + 10) * DAY
    assert told(report(start, end)) == counted(views, "UTC", start, end)


def sizes(start, end, **asked):
    figures = report(start, end, **asked)
    return figures.views, figures.visitors, figures.new_visitors


@pytest.mark.django_db
@pytest.mark.parametrize("asked", [{}, {"dimension": "page", "value": "/a"}], ids=["site", "page"])
def test_an_earlier_view_that_is_pending_moves_who_is_new_to_its_day(asked):
    for day in (TODAY, TODAY + DAY):
        record_page_view(a_hit(at=T0 + (day - TODAY)))
    assert sizes(TODAY, TODAY + DAY, **asked) == (2, 1, 1)
    raw_views([("/a", "s", T0 - 2 * DAY)])
    assert sizes(TODAY, TODAY + DAY, **asked) == (2, 1, 0)
    assert sizes(TODAY - 2 * DAY, TODAY - DAY, **asked) == (1, 1, 1)
    assert sizes(TODAY - 2 * DAY, TODAY, **asked) == (2, 1, 1)
    assert sizes(TODAY - DAY, TODAY - DAY, **asked) == (0, 0, 0)
    raw_views([("/a", "t", T0 - 2 * DAY), ("/a", "t", T0)])
    assert sizes(TODAY, TODAY + DAY, **asked) == (3, 2, 0)
    assert sizes(TODAY - 2 * DAY, TODAY, **asked) == (4, 2, 2)


@pytest.mark.django_db
def test_a_view_that_is_folded_in_changes_no_figure():
    raw_views((f"/{number % 3}", f"s{number % 4}", T0 + number * 7 * HOUR) for number in range(40))
    asked = {"dimension": "page", "compare": True, "by": "day"}
    before = report(TODAY, TODAY + 9 * DAY, **asked)
    for _ in backfill(batch_size=7):
        assert report(TODAY, TODAY + 9 * DAY, **asked) == before
    assert before.views == 33


@pytest.mark.django_db
def test_a_view_that_comes_between_two_queries_is_counted_once(monkeypatch):
    record_page_view(a_hit())
    first = report(TODAY, TODAY)
    arrivals = []

    def arrive(execute, sql, params, many, context):
        answer = execute(sql, params, many, context)
        if not arrivals and "EXISTS" in sql:
            arrivals.append(raw_views([("/a", "t", T0)]))
        return answer

    with connection.execute_wrapper(arrive):
        then = report(TODAY, TODAY)
    assert (first.views, first.visitors) == (1, 1)
    assert (then.views, then.visitors, then.new_visitors, len(arrivals)) == (2, 2, 2, 1)


@pytest.mark.django_db
def test_pages_come_most_viewed_first_and_have_titles(settings):
    settings.PAGESTATS_CONTENT = CONTENT
    Post.objects.create(slug="hello", title="Hello", published=True)
    for path, sessions in {"/hello": "stu", "/b": "st", "/a": "st", "/é": "s", "/B": "st"}.items():
        for session_id in sessions:
            record_page_view(a_hit(path=path, session_id=session_id))
    record_page_view(a_hit(path="/tomorrow", at=T0 + DAY))
    Rollup.unguarded.create(dimension="page", value="/erased", day=TODAY, views=0, visitors=0, new_visitors=0)
    told = report(TODAY, TODAY, dimension="page")
    assert told.rows == (("/hello", 3, 3), ("/B", 2, 2), ("/a", 2, 2), ("/b", 2, 2), ("/é", 1, 1))
    assert told.titles["/hello"] == Titled("Hello", "blog")
    assert told.titles.keys() == {row.value for row in told.rows}
    part = report(TODAY, TODAY, dimension="page", limit=2, offset=1)
    assert (part.rows, part.total_rows) == (told.rows[1:3], 5)
    none = report(TODAY, TODAY, dimension="page", limit=0)
    assert (none.rows, none.total_rows) == ((), 5)
    assert report(TODAY, TODAY).rows == ()


@pytest.mark.django_db
def test_pages_are_searched_by_path_and_by_their_present_title(settings):
    settings.PAGESTATS_CONTENT = CONTENT
    Post.objects.create(slug="hello", title="Grüße", published=True)
    for path, sessions in {"/hello": "s", "/HELLO/b": "stu", "/100%": "st", "/100x": "s"}.items():
        for session_id in sessions:
            record_page_view(a_hit(path=path, session_id=session_id))

    def found(search, **more):
        told = report(TODAY, TODAY, dimension="page", search=search, **more)
        assert told.titles.keys() == {row.value for row in told.rows}
        return [row.value for row in told.rows], told.total_rows

    assert found("hello") == (["/HELLO/b", "/hello"], 2)
    assert found("hello", limit=1, offset=1) == (["/hello"], 2)
    assert found("hello", order="visitors") == (["/hello", "/HELLO/b"], 2)
    assert found("GRÜSSE") == (["/hello"], 1)
    assert found("100%") == (["/100%"], 1)
    assert found("_") == ([], 0)
    Post.objects.update(published=False)
    assert found("GRÜSSE") == ([], 0)
    assert found("hello", public=True) == ([], 0)


@pytest.mark.django_db
def test_a_report_of_one_page_has_its_row():
    path = "/" + "x" * 600
    record_page_view(a_hit(path=path))
    record_page_view(a_hit(path="/b"))
    told = report(TODAY, TODAY, dimension="page", value=path)
    assert told.rows == ((a_hit(path=path).path, 1, 1),)
    assert (told.value, told.views, told.total_rows) == (a_hit(path=path).path, 1, 1)
    unknown = report(TODAY, TODAY, dimension="page", value="/unknown")
    assert (unknown.views, unknown.rows, unknown.total_rows) == (0, (), 0)


@pytest.mark.django_db
def test_the_public_learns_of_no_path_that_may_be_a_secret(settings):
    settings.PAGESTATS_CONTENT = CONTENT
    settings.PAGESTATS_CLIENT_PATHS = ["/docs/.*"]
    Post.objects.create(slug="hello", title="Hello", published=True)
    for number in range(9):
        for session_id in "st":
            record_page_view(a_hit(path=f"/reset/{number}", session_id=session_id))
    for path in ("/hello", "/docs/a", "/"):
        record_page_view(a_hit(path=path))
    told = report(TODAY, TODAY, dimension="page", limit=2, public=True)
    assert [row.value for row in told.rows] == ["/", "/docs/a"]
    assert told.titles.keys() == {"/", "/docs/a"}
    assert (told.total_rows, told.views) == (12, 21)
    rest = report(TODAY, TODAY, dimension="page", limit=2, offset=2, public=True)
    assert [row.value for row in rest.rows] == ["/hello"]
    assert report(TODAY, TODAY, dimension="page", value="/hello", public=True).views == 1
    for path in ("/reset/1", "/nowhere"):
        with pytest.raises(UnknownPage, match=f"value is '{path}', which isn't a public page"):
            report(TODAY, TODAY, dimension="page", value=path, public=True)


def hours_of(day, zone):
    """Return the local times at which the hours of a day begin, by going through it minute by minute."""
    at, until = begin_of(day, zone), begin_of(day + DAY, zone)
    before = None
    while at < until:
        local = at.astimezone(ZoneInfo(zone))
        if (hour := (local.hour, local.utcoffset())) != before:
            yield local
        before = hour
        at += timedelta(minutes=1)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Asia/Kolkata", date(2026, 3, 29), 24),
        ("Asia/Kathmandu", date(2026, 3, 29), 24),
        ("Australia/Lord_Howe", date(2026, 4, 5), 25),  # 24 and a half: the second one o'clock lasts half an hour
        ("Australia/Lord_Howe", date(2026, 10, 4), 24),  # 23 and a half: two o'clock does
        ("Africa/Cairo", date(2026, 4, 24), 23),  # clocks skip midnight
        ("Asia/Gaza", date(2011, 4, 1), 24),  # they are put forward by an hour at one minute past midnight
        ("America/Havana", date(2026, 11, 1), 25),  # midnight comes twice
        ("America/St_Johns", date(2010, 11, 6), 24),
        ("America/St_Johns", date(2010, 11, 7), 26),  # it did, and after its first minute an hour of the day before
        ("Pacific/Apia", date(2011, 12, 30), 0),  # was left out
    ],
)
def test_hours_are_those_of_the_clock(zone, day, hours):
    Calendar.unguarded.create(pk=Calendar.ROW, zone=zone)
    begins = list(hours_of(day, zone))
    assert len(begins) == hours
    raw_views(
        (f"/{session_id}", session_id, begin.astimezone(UTC) + timedelta(minutes=number))
        for number, begin in enumerate(begins)
        for session_id in ["s", f"t{number % 5}"]
    )
    around = [begin_of(day, zone) - timedelta(microseconds=1), begin_of(day + DAY, zone)]
    raw_views(("/s", "s", at) for at in around)
    told = report(day, day, by="hour")
    assert told.hours == tuple(HourCounts(begin, 2, 2) for begin in begins)
    assert [hour.start.isoformat() for hour in told.hours] == [begin.isoformat() for begin in begins]
    assert told.days == (DayCounts(day, 2 * hours, 1 + min(5, hours) if hours else 0),)
    page = report(day, day, by="hour", dimension="page", value="/s")
    assert page.hours == tuple(HourCounts(begin, 1, 1) for begin in begins)
    list(backfill())
    assert report(day, day, by="hour") == told


@pytest.mark.django_db
def test_two_days_have_hours_and_days_with_nothing_are_there():
    told = report(TODAY, TODAY + DAY, by="hour")
    assert len(told.hours) == 48
    assert told.days == (DayCounts(TODAY, 0, 0), DayCounts(TODAY + DAY, 0, 0))
    assert report(TODAY, TODAY).hours == ()


@pytest.mark.django_db
def test_days_are_those_of_the_stored_zone(settings):
    settings.TIME_ZONE = "Pacific/Auckland"
    raw_views([("/a", "s", datetime(2026, 3, 14, 12, 30, tzinfo=UTC))])
    assert (report(TODAY, TODAY).views, report(TODAY + DAY, TODAY + DAY).views) == (0, 1)
    Calendar.unguarded.create(pk=Calendar.ROW, zone="UTC")
    told = report(TODAY, TODAY)
    assert (told.views, told.zone) == (1, ZoneInfo("UTC"))
    assert reporting_day(datetime(2026, 3, 14, 23, 59, tzinfo=UTC)) == TODAY


@pytest.mark.django_db
@pytest.mark.parametrize(("dimension", "number"), [*(("page", n) for n in range(4)), (None, 1), (None, 2)])
def test_a_zone_that_changes_between_two_queries_leaves_no_report_of_both(monkeypatch, dimension, number):
    views = [oracle.View(f"/{n % 5}", "", f"s{n % 2}", T0 + n * 5 * HOUR) for n in range(20)]
    for view in views:
        record_page_view(a_hit(path=view.path, session_id=view.session_id, at=view.timestamp))
    statements = itertools.count()

    def change(execute, sql, params, many, context):
        if next(statements) == number:
            list(rebuild(zone="Asia/Kathmandu"))
        return execute(sql, params, many, context)

    start, end = TODAY + DAY, TODAY + 2 * DAY
    with connection.execute_wrapper(change):
        answer = report(start, end, dimension=dimension, compare=True)
    assert next(statements) > number
    zone = str(answer.zone)
    assert told(answer) == counted(views, zone, start, end)
    assert told(answer.previous) == counted(views, zone, start - 2 * DAY, end - 2 * DAY)
    assert answer.rows == (counted_pages(views, zone, start, end) if dimension else ())


@pytest.mark.django_db
def test_a_range_is_compared_with_the_previous_one_and_the_year_before():
    for number, day in enumerate([date(2026, 3, 1), date(2026, 2, 27), date(2026, 2, 26), date(2025, 3, 3)]):
        for session in range(number + 1):
            at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
            record_page_view(a_hit(session_id=f"s{session}", at=at))
    told = report(date(2026, 3, 1), date(2026, 3, 3), compare=True)
    assert (told.views, told.returning_visitors) == (1, 1)
    assert (told.previous.start, told.previous.end) == (date(2026, 2, 26), date(2026, 2, 28))
    assert (told.previous.views, told.previous.visitors, told.previous.new_visitors) == (5, 3, 0)
    assert (told.year_before.start, told.year_before.end) == (date(2025, 3, 1), date(2025, 3, 3))
    assert told.year_before.days[-1] == DayCounts(date(2025, 3, 3), 4, 4)
    alone = report(date(2026, 3, 1), date(2026, 3, 3))
    assert (alone.previous, alone.year_before) == (None, None)


@pytest.mark.django_db
@pytest.mark.parametrize(("start", "end"), [(date(2028, 2, 29), date(2028, 2, 29)), (date(2028, 2, 28),) * 2])
def test_a_year_before_29_february_is_28_february(start, end):
    told = report(start, end, compare=True).year_before
    assert (told.start, told.end) == (date(2027, 2, 28), date(2027, 2, 28))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ((TODAY, TODAY - DAY, {}), "start is 2026-03-14, after end, which is 2026-03-13. Exchange them."),
        (("2026-03-14", TODAY, {}), "start is '2026-03-14', not a date. Use a datetime.date."),
        ((TODAY, T0, {}), "not a date"),
        ((TODAY, None, {}), "end is None, not a date"),
        ((date(1969, 12, 31), TODAY, {}), "start is 1969-12-31, outside the years 1970 to 2199."),
        ((TODAY, date(2200, 1, 1), {}), "end is 2200-01-01, outside the years 1970 to 2199."),
        ((TODAY, TODAY + 3660 * DAY, {}), "are 3,661 days. Ask for at most 3,660."),
        ((TODAY, TODAY, {"limit": -1}), "limit is -1, not a whole number from 0 to 1,000,000,000."),
        ((TODAY, TODAY, {"offset": -1}), "offset is -1, not a whole number from 0 to 1,000,000,000."),
        ((TODAY, TODAY, {"limit": 2**64}), "limit is 18446744073709551616, not a whole number from 0 to"),
        ((TODAY, TODAY, {"limit": "5"}), "limit is '5', not a whole number"),
        ((TODAY, TODAY, {"limit": True}), "limit is True, not a whole number"),
        ((TODAY, TODAY, {"offset": None}), "offset is None, not a whole number"),
        ((TODAY, TODAY, {"dimension": "country"}), "dimension is 'country'. Use 'page', or None for the whole site."),
        ((TODAY, TODAY, {"value": "/a"}), "value is '/a', without a dimension. Give the dimension with it."),
        ((TODAY, TODAY, {"dimension": "page", "value": "/\0"}), "with a NUL character"),
        ((TODAY, TODAY, {"dimension": "page", "value": "/\ud800"}), "with a lone surrogate"),
        ((TODAY, TODAY, {"dimension": "page", "value": b"/a"}), "value is b'/a', a bytes, not a path."),
        ((TODAY, TODAY, {"dimension": []}), "dimension is []. Use 'page'"),
        ((TODAY, TODAY, {"dimension": "page", "search": 5}), "search is 5, a int, not a text."),
        ((TODAY, TODAY, {"by": "week"}), "by is 'week'. Use 'day' or 'hour'."),
        ((TODAY, TODAY, {"order": "title"}), "order is 'title'. Use '-views' or 'views' or '-visitors' or"),
        (
            (TODAY, TODAY, {"search": "a"}),
            "search is 'a', and there are no rows to search. Give a dimension without a value.",
        ),
        ((TODAY, TODAY, {"search": "a", "dimension": "page", "value": "/a"}), "there are no rows to search"),
        ((TODAY, TODAY + 2 * DAY, {"by": "hour"}), "are 3 days, too many for hours. Ask for at most 2, or by day."),
    ],
)
def test_what_is_no_range_is_refused_with_the_reason(asked, why):
    start, end, more = asked
    with pytest.raises(Refused) as refusal:
        report(start, end, **more)
    assert why in str(refusal.value)
    assert isinstance(refusal.value, ValueError)


def test_every_order_is_one_of_sql():
    assert set(get_args(stats.Order)) == sql.ORDERS.keys()


@pytest.mark.django_db
@pytest.mark.parametrize("day", [date(1970, 1, 1), date(2199, 12, 31)])
def test_the_first_and_the_last_day_are_days(day):
    Calendar.unguarded.create(pk=Calendar.ROW, zone="Pacific/Kiritimati")
    assert report(day, day, by="hour", compare=True).views == 0
    assert len(report(TODAY, TODAY + 3659 * DAY).days) == 3660


SEAL = TODAY + 5 * DAY


def on(day, session_id="s", path="/a"):
    return path, session_id, T0 + (day - TODAY)


@pytest.fixture
def sealed(db):
    """A site on whose tenth day the page views before the sixth were pruned; one of the sessions came back since."""
    days = [TODAY, TODAY + 4 * DAY, SEAL, TODAY + 9 * DAY]
    for day in days:
        record_page_view(a_hit(at=T0 + (day - TODAY)))
    record_page_view(a_hit(path="/b", session_id="t", at=T0))
    PageView.objects.filter(timestamp__lt=begin_of(SEAL, "Europe/Amsterdam")).delete()
    Visitor.unguarded.filter(session_id="s").update(last_sealed_day=TODAY + 4 * DAY)
    Visitor.unguarded.filter(session_id="t").update(last_sealed_day=TODAY)
    Calendar.unguarded.update(sealed_before=SEAL, sealed_on=TODAY + 9 * DAY)
    return Seal.unguarded.create(before=SEAL, open_from=TODAY + 9 * DAY)


def test_figures_of_the_site_are_exact_over_a_seal(sealed):
    assert sizes(TODAY, TODAY + 9 * DAY) == (5, 2, 2)
    raw_views([on(TODAY + 9 * DAY, "t", "/c"), on(TODAY + 9 * DAY, "u", "/c")])
    assert sizes(TODAY, TODAY + 9 * DAY) == (7, 3, 3)
    assert sizes(TODAY + DAY, TODAY + 9 * DAY) == (5, 3, 1)
    assert sizes(SEAL, TODAY + 9 * DAY) == (4, 3, 1)


def test_a_session_is_known_again_by_its_last_sealed_day(sealed):
    record_page_view(a_hit(path="/b", session_id="t", at=T0 + 9 * DAY))
    assert sizes(TODAY, TODAY + 8 * DAY) == (4, 2, 2)
    raw_views([on(TODAY + 7 * DAY, "t")])
    assert sizes(TODAY, TODAY + 8 * DAY) == (5, 2, 2)


def test_visitors_of_a_page_are_told_on_either_side_of_a_seal(sealed):
    page = {"dimension": "page", "value": "/a"}
    assert sizes(TODAY, SEAL - DAY, **page) == (2, 1, 1)
    assert sizes(SEAL, TODAY + 9 * DAY, **page) == (2, 1, None)
    assert sizes(TODAY, TODAY + 8 * DAY, **page) == (3, 1, 1)  # each return to these days was counted in time
    with pytest.raises(CannotTell) as refusal:
        report(TODAY, TODAY + 9 * DAY, **page)
    assert str(refusal.value) == (
        "Visitors of '/a' aren't available from 2026-03-14 to 2026-03-23: page views before 2026-03-19 were deleted, so"
        " returning visitors can't be recognised across that date. Choose 2026-03-14 to 2026-03-18 or 2026-03-19 to"
        " 2026-03-23."
    )


def test_a_page_that_nobody_viewed_before_the_seal_is_told_over_it(sealed):
    for day in (SEAL, TODAY + 9 * DAY, TODAY + 10 * DAY):
        record_page_view(a_hit(path="/new", session_id="t", at=T0 + (day - TODAY)))
    raw_views([on(TODAY + 9 * DAY, "u", "/new")])
    page = {"dimension": "page", "value": "/new"}
    assert sizes(TODAY, TODAY + 10 * DAY, **page) == (4, 2, 2)
    assert sizes(TODAY + 9 * DAY, TODAY + 10 * DAY, **page) == (3, 2, 1)
    # Of a page that was, but not in the range, all but who is new.
    assert sizes(TODAY + DAY, TODAY + 3 * DAY, dimension="page", value="/a") == (0, 0, 0)
    assert sizes(TODAY + DAY, TODAY + 9 * DAY, dimension="page", value="/b") == (0, 0, None)


def test_a_pending_view_is_one_that_was_not_counted_in_time(sealed):
    page = {"dimension": "page", "value": "/a"}
    raw_views([on(TODAY + 8 * DAY, path="/b")])
    assert sizes(TODAY, TODAY + 8 * DAY, **page) == (3, 1, 1)
    raw_views([on(TODAY + 8 * DAY, "t")])
    assert sizes(TODAY, TODAY + 7 * DAY, **page) == (3, 1, 1)
    assert sizes(TODAY + 8 * DAY, TODAY + 8 * DAY, **page) == (1, 1, None)
    with pytest.raises(CannotTell):
        report(TODAY, TODAY + 8 * DAY, **page)


def test_pages_over_a_seal_have_views_and_a_reason_instead_of_visitors(sealed):
    told = report(TODAY, TODAY + 9 * DAY, dimension="page")
    assert told.rows == (("/a", 4, None), ("/b", 1, None))
    assert (told.visitors, told.total_rows) == (2, 2)
    assert told.reason.startswith("Visitors of some rows aren't available from 2026-03-14 to 2026-03-23")
    with pytest.raises(CannotTell, match="Visitors of some rows aren't available from"):
        report(TODAY, TODAY + 9 * DAY, dimension="page", order="-visitors")
    since = report(SEAL, TODAY + 9 * DAY, dimension="page", order="-visitors")
    assert (since.rows, since.reason) == ((("/a", 2, 1),), "")


def test_over_a_seal_only_pages_without_earlier_views_show_visitors(sealed):
    for session_id in ("t", "u"):
        record_page_view(a_hit(path="/new", session_id=session_id, at=T0 + 9 * DAY))
    told = report(TODAY, TODAY + 9 * DAY, dimension="page")
    assert told.rows == (("/a", 4, None), ("/new", 2, 2), ("/b", 1, None))
    assert told.reason
    told = report(SEAL - DAY, TODAY + 9 * DAY, dimension="page")
    assert told.rows == (("/a", 3, None), ("/new", 2, 2))
    PageView.objects.filter(path="/a").delete()
    Rollup.unguarded.filter(dimension="page", value="/a").delete()
    told = report(SEAL - DAY, TODAY + 9 * DAY, dimension="page", order="-visitors")
    assert (told.rows, told.reason) == ((("/new", 2, 2),), "")


def test_of_pages_over_a_seal_a_pending_view_leaves_only_its_own_untold(sealed):
    raw_views([on(TODAY + 8 * DAY, "t", "/b"), on(TODAY + 8 * DAY, "t", "/new")])
    told = report(TODAY, TODAY + 8 * DAY, dimension="page")
    assert told.rows == (("/a", 3, 1), ("/b", 2, None), ("/new", 1, 1))


def test_a_comparison_that_cannot_be_told_is_none(sealed):
    Seal.unguarded.create(before=TODAY + 2 * DAY, open_from=TODAY + 3 * DAY)
    told = report(TODAY + 8 * DAY, TODAY + 15 * DAY, dimension="page", value="/a", compare=True)
    assert (told.views, told.previous) == (1, None)
    assert (told.year_before.views, told.year_before.new_visitors) == (0, 0)
    assert report(TODAY + 8 * DAY, TODAY + 15 * DAY, compare=True).previous.visitors == 2


def test_of_several_seals_the_ranges_before_and_after_all_are_named(sealed):
    Seal.unguarded.create(before=TODAY + 2 * DAY, open_from=TODAY + 3 * DAY)
    with pytest.raises(CannotTell, match="Choose 2026-03-14 to 2026-03-15 or 2026-03-19 to 2026-03-23"):
        report(TODAY, TODAY + 9 * DAY, dimension="page", value="/a")


def test_hours_are_refused_where_page_views_are_gone(sealed):
    for day in (SEAL - 2 * DAY, SEAL - DAY):
        with pytest.raises(CannotTell, match=f"Hours aren't available from {day} to"):
            report(day, day + DAY, by="hour")
    assert sum(hour.views for hour in report(SEAL, SEAL + DAY, by="hour").hours) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("is_pending", [False, True])
def test_the_number_of_queries_does_not_depend_on_the_views(django_capture_queries, is_pending):
    def queries(**asked):
        statements = django_capture_queries(lambda: report(TODAY, TODAY + DAY, **asked))
        assert all(statement.startswith(("SELECT", "WITH", "(SELECT")) for statement in statements)
        return len(statements)

    asked = [{}, {"dimension": "page"}, {"dimension": "page", "value": "/1"}, {"by": "hour"}, {"compare": True}]

    def add(numbers):
        for number in numbers:
            record_page_view(a_hit(path=f"/{number}", session_id=f"s{number}"))
        raw_views([("/1", f"p{number}", T0) for number in numbers] if is_pending else [])

    add(range(1, 2))
    few = [queries(**more) for more in asked]
    add(range(2, 30))
    assert [queries(**more) for more in asked] == few
    assert few == [3, 4, 3, 4, 3]


def test_a_refusal_is_english_and_its_reason_can_be_translated(sealed, monkeypatch):
    monkeypatch.setattr("pagestats.stats.refusals.gettext", lambda message: f"Übersetzt: {message}")
    with pytest.raises(CannotTell, match="Visitors of '/a' aren't available") as refusal:
        report(TODAY, TODAY + 9 * DAY, dimension="page", value="/a")
    assert refusal.value.reason.translated == f"Übersetzt: {refusal.value}"
    found = report(TODAY, TODAY + 9 * DAY, dimension="page")
    assert found.reason.translated == f"Übersetzt: {found.reason}"
    assert pickle.loads(pickle.dumps(found)) == found
    assert pickle.loads(pickle.dumps(found)).reason.translated == found.reason.translated


def test_lenient_reports_leave_out_what_is_not_available(sealed):
    found = report(SEAL - DAY, SEAL, by="hour", lenient=True)
    assert (found.hours, found.views) == ((), 2)
    by_views = report(TODAY, TODAY + 9 * DAY, dimension="page")
    assert report(TODAY, TODAY + 9 * DAY, dimension="page", order="-visitors", lenient=True) == by_views


@pytest.mark.django_db
def test_hours_of_the_previous_range_come_with_a_comparison():
    for at in (T0 - DAY, T0, T0 + HOUR):
        record_page_view(a_hit(at=at))
    found = report(TODAY, TODAY, by="hour", compare=True)
    assert found.previous.hours == report(TODAY - DAY, TODAY - DAY, by="hour").hours
    assert [hour.views for hour in found.previous.hours if hour.views] == [1]
    assert sum(hour.views for hour in found.hours) == 2
    assert report(TODAY, TODAY, compare=True).previous.hours == ()


@pytest.mark.django_db
def test_a_moment_is_read_in_one_statement_and_passed_down(django_capture_queries):
    record_page_view(a_hit())
    assert len(django_capture_queries(lambda: read_moment(T0))) == 1
    moment = read_moment(T0)
    assert (moment.at, moment.today, str(moment.zone), moment.sealed_before) == (T0, TODAY, "Europe/Amsterdam", None)
    statements = django_capture_queries(lambda: report(TODAY, TODAY, moment=moment))
    assert len(statements) == 2
