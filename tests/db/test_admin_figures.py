"""What *Page stats* shows of a period: which one, compared with what, in which order, and as CSV."""

import csv
import io
import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import async_to_sync
from django.http import StreamingHttpResponse
from django.utils import translation

from example_project.blog.models import Post
from pagestats import formats, retention, stats
from pagestats.admin import exports
from pagestats.admin.axis import ROOMS
from pagestats.admin.periods import picked
from pagestats.admin.series import Series
from pagestats.admin.tables import RowsQuery
from pagestats.days import DAY
from pagestats.hits import instant
from pagestats.models import Tally
from pagestats.recording import record_heartbeat, record_page_views
from pagestats.stats import DayCounts, HourCounts
from tests import ROOT
from tests.factories import CONTENT, T0, a_hit, now_by_the_clock, raw_views

TODAY = date(2028, 2, 29)
FIRST = date(2026, 1, 5)
STATS = "/admin/pagestats/stats/"


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ("", date(2028, 1, 31), TODAY),
        ("period=today", TODAY, TODAY),
        ("period=yesterday", TODAY - DAY, TODAY - DAY),
        ("period=7d", date(2028, 2, 23), TODAY),
        ("period=30d", date(2028, 1, 31), TODAY),
        ("period=90d", date(2027, 12, 2), TODAY),
        ("period=12m", date(2027, 3, 1), TODAY),
        ("period=all", FIRST, TODAY),
        ("period=custom&start=2026-01-01&end=2026-01-31", date(2026, 1, 1), date(2026, 1, 31)),
        ("start=2026-01-01&end=2026-01-01", date(2026, 1, 1), date(2026, 1, 1)),
        ("period=custom&start=2028-02-28&end=2030-01-01", date(2028, 2, 28), TODAY),
    ],
)
def test_a_period_is_a_range_of_days(rf, query, start, end):
    period = picked(rf.get(f"/?{query}").GET, today=TODAY, first_day=FIRST)
    assert (period.start, period.end, period.fault) == (start, end, "")
    again = picked(period.query, today=TODAY, first_day=FIRST)
    assert (again.start, again.end, again.name) == (start, end, period.name)
    assert period.is_over == (end < TODAY)


def test_all_begins_with_the_first_page_view_and_goes_back_ten_years_at_most():
    def start(first_day):
        return picked({"period": "all"}, today=TODAY, first_day=first_day).start

    assert start(None) == TODAY
    assert start(TODAY + DAY) == TODAY  # a clock was wrong
    assert start(date(1999, 1, 1)) == TODAY - (stats.MOST_DAYS - 1) * DAY


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ({"period": "fortnight"}, "Unknown period: fortnight."),
        ({"period": "custom"}, "Enter a start and an end date, such as 2026-01-31."),
        ({"period": "custom", "start": "2026-01-01"}, "Enter a start and an end date, such as 2026-01-31."),
        ({"start": "yesterday", "end": "2026-01-01"}, "Enter a start and an end date, such as 2026-01-31."),
        (
            {"start": "0001-01-01", "end": "2026-01-01"},
            "0001-01-01 is outside the years 1970 to 2199. Choose other dates.",
        ),
        (
            {"start": "2026-01-01", "end": "2200-01-01"},
            "2200-01-01 is outside the years 1970 to 2199. Choose other dates.",
        ),
        ({"start": "2026-02-30", "end": "2026-03-01"}, "Enter a start and an end date, such as 2026-01-31."),
        ({"start": "2026-02-02", "end": "2026-02-01"}, "The start date is after the end date."),
        ({"start": "2028-03-01", "end": "2028-03-02"}, "The start date is in the future."),
        ({"start": "2018-02-01", "end": "2028-02-29"}, "The period is longer than ten years. Choose a shorter one."),
    ],
)
def test_what_is_no_period_is_said_and_the_last_30_days_are_shown(query, why):
    period = picked(query, today=TODAY, first_day=FIRST)
    assert (period.name, period.start, period.end, period.fault) == ("30d", date(2028, 1, 31), TODAY, why)
    typed = (query.get("start", ""), query.get("end", "")) if query.get("period") != "fortnight" else None
    assert period.fields == (typed or ("2028-01-31", f"{TODAY}"))  # what is to be mended stays in the form


@pytest.mark.django_db
@pytest.mark.parametrize("year", [1000, 1969, 1970, 2300])
@pytest.mark.parametrize("is_alone", [True, False])
def test_a_page_view_outside_the_years_of_reports_leaves_the_page_alone(admin_client, year, is_alone):
    raw_views([("/old", "s", datetime(year, 1, 1, tzinfo=UTC))])
    if not is_alone:
        record_page_views([a_hit(path="/now", at=instant(None))])
    for address in (f"{STATS}?period=all", f"{STATS}page/?path=/old", f"{STATS}csv/active/"):
        assert admin_client.get(address).status_code == 200
    assert admin_client.get(STATS).context["total_page_views"] == ("1" if is_alone else "2")


@pytest.mark.django_db
def test_a_period_and_an_order_stay_in_the_address(admin_client):
    raw_views([("/", "s", T0)])
    response = admin_client.get(STATS, {"period": "custom", "start": "2026-03-01", "end": "2026-03-31", "q": "a&b"})
    assert next(link["query"] for link in response.context["periods"]) == "period=today&q=a%26b"
    assert not any(link["is_picked"] for link in response.context["periods"])
    html = response.content.decode()
    assert '<input type="hidden" name="q" value="a&amp;b">' in html
    assert 'name="start" value="2026-03-01"' in html
    assert "csv/figures/?period=custom&amp;start=2026-03-01&amp;end=2026-03-31&amp;q=a%26b" in html
    wrong = admin_client.get(STATS, {"start": "2026-03-31", "end": "2026-03-01"})
    assert wrong.status_code == 200
    assert "The start date is after the end date." in wrong.content.decode()


def views_of_days(*counts):
    """Store so many views on each of some days up to today, each of another session; return today's day."""
    now = now_by_the_clock()
    today = stats.reporting_day(now)
    for ago, count in enumerate(reversed(counts)):
        record_page_views(a_hit(path="/a", session_id=f"{ago} {n}", at=now - ago * DAY) for n in range(count))
    return today


@pytest.mark.django_db
def test_figures_are_compared_with_the_period_before(admin_client):
    today = views_of_days(1, 0, 2, 3, 4)
    cards = admin_client.get(STATS, {"start": today - DAY, "end": today}).context["cards"]
    [change] = cards[1].changes
    assert (change.percent, change.direction) == ("+250 %", "up")
    assert change.before == f"2 from {formats.days(today - 3 * DAY, today - 2 * DAY)}"
    [change] = admin_client.get(STATS, {"start": today - 3 * DAY, "end": today - 3 * DAY}).context["cards"][1].changes
    assert (change.percent, change.direction) == ("−100 %", "down")
    # Before the recording began nobody knows.
    assert admin_client.get(STATS).context["cards"][1].changes == ()
    html = admin_client.get(STATS, {"period": "yesterday"}).content.decode()
    assert '<span class="pagestats-change pagestats-up">+50 %</span>' in " ".join(html.split())


@pytest.mark.django_db
def test_a_day_that_has_only_begun_has_no_percentage(admin_client):
    views_of_days(2, 1)
    [change] = admin_client.get(STATS, {"period": "today"}).context["cards"][1].changes
    assert (change.percent, change.before[:7]) == ("", "2 from ")
    assert "Includes today so far." in admin_client.get(STATS).content.decode()
    assert "Today is counted" not in admin_client.get(STATS, {"period": "yesterday"}).content.decode()


@pytest.mark.django_db
def test_the_same_range_a_year_before_is_a_second_comparison(admin_client):
    now = now_by_the_clock()
    for days in (1, 2, 366, 367):
        record_page_views([a_hit(at=now - days * DAY, session_id=f"{days}")])
    today = stats.reporting_day(now)
    cards = admin_client.get(STATS, {"start": today - DAY, "end": today - DAY}).context["cards"]
    assert len(cards[1].changes) == 2


@pytest.mark.django_db
def test_twelve_months_are_compared_with_the_twelve_before_them_once(admin_client):
    now = now_by_the_clock()
    record_page_views(a_hit(at=now - days * DAY, session_id=f"{days}") for days in (1, 300, 400, 1_000))
    [change] = admin_client.get(STATS, {"period": "12m"}).context["cards"][1].changes
    assert (change.percent, change.before[:7]) == ("+100 %", "1 from ")


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [
        (3, 2, "+50 %"),
        (2, 3, "−33 %"),
        (1001, 1000, "+0.1 %"),
        (5, 5, "±0.0 %"),
        (0, 5, "−100 %"),
        (120_300, 100, "+120,200 %"),
        (5, 0, ""),
        (5, 3, "+67 %"),
        (1996, 1000, "+100 %"),
        (10_996, 10_000, "+10 %"),
        (10_994, 10_000, "+9.9 %"),
        (9_996, 10_000, "±0.0 %"),
        (9_995, 10_000, "−0.1 %"),
        (10_000_001, 10_000_000, "±0.0 %"),
    ],
)
def test_a_change_is_a_percentage(now, before, text):
    assert formats.change(now, before) == text


def hour(start, *figures):
    return HourCounts(datetime(2026, 3, 14, start, tzinfo=UTC), *figures)


def test_hours_that_are_yet_to_come_have_no_figures():
    series = Series(
        counts=[hour(0, 4, 2), hour(1, 0, 0), hour(2, 0, 0)],
        before=[hour(0, 1, 1), hour(1, 8, 5), hour(2, 0, 0)],
        at=datetime(2026, 3, 14, 1, tzinfo=UTC),
    )
    assert series.rows == [
        ("midnight", "4", "2", "midnight", "1", "1"),
        ("1 a.m.", "0", "0", "1 a.m.", "8", "5"),
        ("2 a.m.", "", "", "2 a.m.", "0", "0"),
    ]
    assert series.lines["views"] == "0.0,100.0 500.0,200.0"
    assert series.lines["views_before"] == "0.0,175.0 500.0,0.0 1000.0,200.0"
    assert series.area == "0,200 0.0,100.0 500.0,200.0 500.0,200"
    assert series.ticks == ["8", "4", "0"]
    assert places(series) == [("0.00%", "midnight"), ("50.00%", "1 a.m."), ("100.00%", "2 a.m.")]
    assert series.script["views"] == [4, 0]


def places(series):
    return [(mark.x, mark.text) for mark in series.marks]


def of_hours(count):
    begin = datetime(2026, 3, 14, tzinfo=UTC)
    return [HourCounts(begin + n * timedelta(hours=1), 0, 0) for n in range(count)]


def of_days(count):
    return [DayCounts(FIRST + n * DAY, 1, 1) for n in range(count)]


def test_the_axis_of_two_days_names_each_of_them_once():
    assert places(Series(counts=of_hours(48), before=[], at=instant(None))) == [
        ("0.00%", "March 14"),
        ("25.53%", "noon"),
        ("51.06%", "March 15"),
        ("76.60%", "noon"),
        ("100.00%", "11 p.m."),
    ]


@pytest.mark.parametrize(
    ("count", "rows"),
    [
        (1, [0]),
        (2, [0, 1]),
        (6, [0, 1, 2, 3, 4, 5]),
        (7, [0, 1, 2, 3, 4, 5, 6]),
        (8, [0, 2, 4, 7]),
        (12, [0, 3, 6, 9, 11]),
        (30, [0, 7, 14, 21, 29]),
        (31, [0, 7, 14, 21, 30]),
        (90, [0, 22, 44, 66, 89]),
    ],
)
def test_each_mark_is_at_the_place_of_its_row(count, rows):
    days = of_days(count)
    assert places(Series(counts=days, before=[], at=instant(None))) == [
        (f"{100 * row / max(count - 1, 1):.2f}%", f"{days[row].day:%B} {days[row].day.day}") for row in rows
    ]


def test_what_is_compared_may_be_longer_and_the_axis_with_it():
    assert places(Series(counts=of_hours(23), before=of_hours(25), at=instant(None))) == [
        ("0.00%", "midnight"),
        ("20.83%", "5 a.m."),
        ("41.67%", "10 a.m."),
        ("62.50%", "3 p.m."),
        ("91.67%", "10 p.m."),
    ]


def test_a_mark_is_shown_where_it_has_room_and_the_middle_one_sooner():
    days = of_days(90)
    rooms = [mark.room for mark in Series(counts=days, before=[], at=instant(None)).marks]
    assert rooms == ["", "pagestats-from-33", "pagestats-from-15", "pagestats-from-33", ""]


def test_the_style_sheet_has_a_rule_for_each_room():
    sheet = (ROOT / "pagestats/static/pagestats/admin.css").read_text()
    ruled = re.findall(
        r"pagestats-marks \(min-width: (\d+)rem\) {\s+\.pagestats-marks text\.pagestats-from-(\d+) ", sheet
    )
    assert ruled == [(f"{room}", f"{room}") for room in ROOMS]


def test_an_hour_that_comes_twice_is_told_apart():
    berlin = ZoneInfo("Europe/Berlin")
    begin = datetime(2026, 10, 25, 0, tzinfo=UTC)
    texts = formats.hours([(begin + n * timedelta(hours=1)).astimezone(berlin) for n in range(3)])
    assert texts == ["2 a.m. (+0200)", "2 a.m. (+0100)", "3 a.m."]


def test_a_range_of_another_length_is_compared_row_by_row():
    series = Series(counts=[hour(0, 1, 1)], before=[hour(0, 2, 2), hour(1, 3, 3)], at=datetime(2026, 3, 15, tzinfo=UTC))
    assert series.rows == [("midnight", "1", "1", "midnight", "2", "2"), ("", "", "", "1 a.m.", "3", "3")]


@pytest.mark.parametrize(
    ("most", "top"), [(0, "2"), (1, "2"), (2, "2"), (3, "4"), (9, "10"), (10, "20"), (21, "40"), (81_000, "100,000")]
)
def test_the_axis_ends_at_a_round_number(most, top):
    series = Series(counts=[DayCounts(FIRST, most, 1)], before=[], at=instant(None))
    assert series.ticks[0] == top
    assert int(top.replace(",", "")) % 2 == 0


def test_years_have_marks_of_months_and_one_day_is_a_dot():
    days = of_days(1096)
    assert [mark.text for mark in Series(counts=days, before=[], at=instant(None)).marks] == [
        "January 2026",
        "October 2026",
        "July 2027",
        "April 2028",
        "January 2029",
    ]
    assert Series(counts=days[:1], before=[], at=instant(None)).lines["views"] == "0.0,100.0 0.0,100.0"


@pytest.mark.parametrize(("language", "thousands"), [("en", ","), ("de", "."), ("pl", "\xa0"), ("fa", "")])
def test_scripts_are_told_what_sets_thousands_apart(language, thousands):
    with translation.override(language):
        assert formats.thousands() == thousands
        assert formats.number(1_234_567) == f"1{thousands}234{thousands}567"


@pytest.mark.django_db
@pytest.mark.parametrize("days", [1, 2])
def test_a_short_period_is_by_hour_with_the_hours_before(admin_client, days):
    today = views_of_days(5, 4, 3, 2, 1)
    start = today - days * DAY
    series = admin_client.get(STATS, {"start": start, "end": today - DAY}).context["series"]
    assert series.by_hour
    assert sum(row.views for row in series.counts) == sum((2, 3)[:days])
    assert sum(row.views for row in series.before) == sum((3, 4, 5)[days - 1 : 2 * days - 1])
    assert not admin_client.get(STATS, {"start": start - 2 * DAY, "end": today}).context["series"].by_hour


@pytest.fixture
def pruned(settings):
    """Views of one page by one session over a seal; a month before, more that are gone."""
    settings.PAGESTATS_IDENTITY = "cookie"
    at = now_by_the_clock() - 40 * DAY
    for ago in (0, 1, 30, 31, 32):
        record_page_views([a_hit(path="/a", session_id="s", at=at - ago * DAY)])
    list(retention.prune(stats.reporting_day(at) - 20 * DAY))
    return stats.reporting_day(at)


@pytest.mark.django_db(transaction=True)
def test_what_can_no_longer_be_told_is_said_and_the_rest_is_shown(admin_client, pruned):
    sealed = admin_client.get(STATS, {"start": pruned - 31 * DAY, "end": pruned - 31 * DAY})
    assert not sealed.context["series"].by_hour  # its page views are gone
    assert sealed.context["cards"][1].figure == "1"
    over = admin_client.get(STATS, {"start": pruned - 32 * DAY, "end": pruned + 40 * DAY, "order": "-visitors"})
    assert [row["visitors"] for row in over.context["pages"]["rows"]] == ["–"]
    assert "visitors" not in over.context["pages"]["columns"]
    assert "page views before" in over.content.decode()
    of_page = {"path": "/a", "start": pruned - 32 * DAY, "end": pruned + 40 * DAY}
    page = admin_client.get(f"{STATS}page/", of_page)
    assert page.status_code == 200
    assert "No further figures are available for this period." in page.content.decode()
    assert [card.figure for card in page.context["cards"]] == ["0", "5"]
    assert "series" not in page.context
    assert admin_client.get(f"{STATS}csv/figures/", of_page).status_code == 404


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", RowsQuery()),
        ("order=-visitors&q=+a+&p=3", RowsQuery(order="-visitors", search="a", page=3)),
        ("order=title&p=0", RowsQuery()),
        ("p=-1", RowsQuery()),
        ("p=%C2%B2", RowsQuery()),
        ("p=" + "9" * 5000, RowsQuery()),
        ("p=999999", RowsQuery(page=100_000)),
        ("q=%00a" + "b" * 500, RowsQuery(search="a" + "b" * 199)),
    ],
)
def test_what_is_no_order_or_number_is_passed_over(rf, query, asked):
    assert RowsQuery.of(rf.get(f"/?{query}").GET) == asked


@pytest.mark.django_db
def test_pages_are_sorted_searched_and_turned(admin_client, settings):
    settings.PAGESTATS_CONTENT = CONTENT
    Post.objects.create(title="Needle", slug="hay", published=True)
    views = [(f"/{n:03}", f"s{m}", T0) for n in range(120) for m in range(1 + n % 7)]
    raw_views([*views, ("/hay", "s", T0)])
    first = admin_client.get(STATS, {"period": "all"}).context["pages"]
    assert (first["shown"], first["previous"], first["next"]) == ("1–50 of 121", "", "period=all&p=2")
    last = admin_client.get(STATS, {"period": "all", "order": "value", "p": "3"}).context["pages"]
    assert last["shown"] == "101–121 of 121"
    assert (last["rows"][-1]["title"], last["previous"], last["next"]) == ("Needle", "period=all&order=value&p=2", "")
    assert last["columns"]["value"] == {"query": "period=all&order=-value", "sorted": "ascending"}
    assert last["columns"]["views"] == {"query": "period=all", "sorted": ""}
    beyond = admin_client.get(STATS, {"period": "all", "p": "9"})
    assert "There are no more pages." in beyond.content.decode()
    found = admin_client.get(STATS, {"period": "all", "q": "needle"})
    assert [row["path"] for row in found.context["pages"]["rows"]] == ["/hay"]
    nothing = admin_client.get(STATS, {"period": "all", "q": "nothing <b>"}).content.decode()
    assert "No page viewed in this period has “nothing &lt;b&gt;” in its path or title." in nothing
    assert "No page was viewed in this period." in admin_client.get(STATS, {"period": "today"}).content.decode()


@pytest.mark.django_db
def test_one_page_has_a_page_of_its_own(admin_client, settings):
    settings.PAGESTATS_CONTENT = CONTENT
    Post.objects.create(title="Hello", slug="hello", published=True)
    now = now_by_the_clock()
    views_of_days(1, 0)
    record_page_views(a_hit(path="/hello", session_id=f"{n}", at=now - DAY) for n in range(3))
    record_heartbeat(a_hit(path="/hello", session_id="here", at=now))
    record_heartbeat(a_hit(path="/a", session_id="there", at=now))
    response = admin_client.get(f"{STATS}page/", {"path": "/hello", "period": "7d"})
    assert "<title>Hello | Page stats" in response.content.decode()
    assert [(card.label, card.figure) for card in response.context["cards"]] == [
        ("Active now", "1"),
        ("Page views", "3"),
        ("Daily visitors", "3"),
    ]
    assert sum(row.views for row in response.context["series"].counts) == 3
    html = response.content.decode()
    assert f'data-pagestats-live="{STATS}active/?path=%2Fhello"' in html
    assert f'href="{STATS}?period=7d"' in html
    live = admin_client.get(f"{STATS}active/", {"path": "/hello"}).json()
    assert (live["visitors"], [row["path"] for row in live["by_path"]]) == (1, ["/hello"])
    assert admin_client.get(f"{STATS}page/").status_code == 404
    assert admin_client.get(f"{STATS}page/", {"path": "/\0"}).status_code == 404
    assert admin_client.get(f"{STATS}active/", {"path": "/\0"}).status_code == 404
    unknown = admin_client.get(f"{STATS}page/", {"path": "/" + 600 * "x"})
    assert [card.figure for card in unknown.context["cards"]] == ["0", "0", "0"]


@pytest.mark.django_db
@pytest.mark.parametrize("where", ["page/?path=/a", "csv/figures/", "csv/active/", "active/"])
def test_all_of_it_is_for_who_may_read(client, django_user_model, where):
    assert client.get(f"{STATS}{where}").status_code == 302
    client.force_login(django_user_model.objects.create_user("staff", is_staff=True))
    assert client.get(f"{STATS}{where}").status_code == 403


def rows_of(response):
    assert isinstance(response, StreamingHttpResponse)
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    text = b"".join(response.streaming_content).decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.django_db
def test_each_table_is_there_as_csv_whole_and_as_plain_numbers(admin_client, settings):
    settings.PAGESTATS_CONTENT = CONTENT
    Post.objects.create(title='=HYPERLINK("x")', slug="hello", published=True)
    raw_views([(f"/{n:03}", f"s{n}", T0) for n in range(1200)])
    raw_views([("/hello", "s", T0), ("/hello", "t", T0), ("+1", "s", T0)])
    record_heartbeat(a_hit(path="@x", at=instant(None)))
    Tally.objects.create(day=stats.reporting_day(), outcome="failed", reason="-Error", count=1234)
    asked = {"start": "2026-03-13", "end": "2026-03-15"}

    def table(name, **more):
        return admin_client.get(f"{STATS}csv/{name}/", {**asked, **more})

    days = table("figures")
    assert days.headers["Content-Disposition"] == 'attachment; filename="figures-2026-03-13-2026-03-15.csv"'
    assert rows_of(days) == [
        ["day", "views", "visitors"],
        ["2026-03-13", "0", "0"],
        ["2026-03-14", "1203", "1202"],
        ["2026-03-15", "0", "0"],
    ]
    after = rows_of(table("figures", start="2026-03-16", end="2026-03-17"))
    assert (after[0][3:], after[14]) == (
        ["hour before", "views before", "visitors before"],
        ["2026-03-16T13:00:00+01:00", "0", "0", "2026-03-14T13:00:00+01:00", "1203", "1202"],
    )
    assert rows_of(table("figures", path="/hello"))[2] == ["2026-03-14", "2", "2"]
    hours = rows_of(table("figures", start="2026-03-14", end="2026-03-14"))
    assert (hours[0], len(hours), hours[14]) == (
        ["hour", "views", "visitors"],
        25,
        ["2026-03-14T13:00:00+01:00", "1203", "1202"],
    )
    pages = rows_of(table("pages"))
    assert len(pages) == 1 + 1202
    assert pages[:3] == [
        ["path", "title", "type", "views", "visitors"],
        ["/hello", '\'=HYPERLINK("x")', "blog", "2", "2"],
        ["'+1", "'+1", "other", "1", "1"],
    ]
    assert [row[0] for row in rows_of(table("pages", q="hello", p="2"))] == ["path", "/hello"]
    assert rows_of(table("active")) == [["path", "title", "visitors"], ["'@x", "'@x", "1"]]
    assert rows_of(table("requests"))[1:] == [["failed", "'-Error", "1234", "1234"]]
    assert table("secrets").status_code == 404
    assert table("figures", start="2026-03-16").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_under_asgi_csv_is_streamed_too(async_client, admin_user):
    raw_views((f"/{n}", "s", T0) for n in range(1200))

    @async_to_sync
    async def parts():
        await async_client.aforce_login(admin_user)
        response = await async_client.get(f"{STATS}csv/pages/", {"period": "all"})
        assert response.is_async
        return [part.decode() async for part in response.streaming_content]

    sent = parts()
    assert len(sent) == 3
    assert len("".join(sent).splitlines()) == 1201


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["figures", "pages", "active", "requests"])
def test_under_asgi_no_row_of_a_csv_waits_for_the_database(async_client, admin_user, settings, name):
    settings.PAGESTATS_CONTENT = CONTENT
    raw_views([("/a", "s", T0)])
    record_heartbeat(a_hit(path="/a", at=instant(None)))
    Tally.objects.create(day=stats.reporting_day(), outcome="repeat", reason="", count=1)

    @async_to_sync
    async def lines():
        await async_client.aforce_login(admin_user)
        response = await async_client.get(f"{STATS}csv/{name}/", {"start": "2026-03-14", "end": "2026-03-15"})
        return b"".join([part async for part in response.streaming_content]).splitlines()

    assert len(lines()) > 1


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@x", "  =1", "＝1"])
def test_no_cell_is_a_formula(cell):
    assert exports.safe(cell) == f"'{cell}"
    assert exports.safe(f"a{cell}") == f"a{cell}"
    assert exports.safe(-1) == -1


@pytest.mark.parametrize(
    "cell",
    [
        "\xa0=1",
        "\u3000=1",
        "\ufeff=1",
        "\u200b\u202e=1",
        "\x0b=1",
        "\x00=1",
        '"=1',
        "/a;=1",
        "x;y; =1",
        'x;"=1',
        "x\t=1",
        "\t=1",
        "\r=1",
        "\n=1",
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_cell_of_the_csv_is_a_formula_whatever_the_separator(cell, separator):
    lines = "".join(exports._lines([["/p", cell], [cell, "t"]])).removeprefix("\ufeff")
    seen = [each for row in csv.reader(io.StringIO(lines, newline=""), delimiter=separator) for each in row]
    assert any("=1" in each for each in seen)
    assert not [each for each in seen if re.match(r"[\W_]*=", each) and "'" not in each]


@pytest.mark.django_db
def test_a_reader_of_another_language_gets_the_same_csv(admin_client, settings):
    raw_views((f"/{n}", "s", T0) for n in range(1200))
    settings.LANGUAGE_CODE = "de"
    with translation.override("de"):
        rows = rows_of(admin_client.get(f"{STATS}csv/figures/", {"start": "2026-03-13", "end": "2026-03-15"}))
    assert rows[2] == ["2026-03-14", "1200", "1"]
