"""Reports, tables and commands work for any registered dimension, as they do for pages."""

import random
from dataclasses import replace
from datetime import date, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command

from pagestats import dimensions
from pagestats.content import Titled
from pagestats.days import DAY, day_of
from pagestats.models import PageView
from pagestats.recording import record_page_views
from pagestats.retention import prune
from pagestats.rollups import backfill
from pagestats.stats import CannotTell, Refused, UnknownPage, report, report_rows, reporting_day
from tests.factories import A_SECTION, T0, a_hit, now_by_the_clock, raw_views

pytestmark = pytest.mark.django_db

TODAY = date(2026, 3, 14)
STATS = "/admin/pagestats/stats/"
PATHS = ["/blog/a", "/blog/b", "/news/a", "/news/é", "/", "/a"]


@pytest.fixture
def section():
    with dimensions.also(A_SECTION):
        yield A_SECTION


def made_up_views(seed, count=60):
    chance = random.Random(seed)
    return [
        (chance.choice(PATHS), f"s{chance.randrange(5)}", T0 + chance.randrange(12 * 24) * timedelta(hours=1))
        for _ in range(count)
    ]


def stored_views():
    """Return the (section, session, instant) of each stored view: a repeat is none."""
    rows = PageView.objects.values_list("path", "session_id", "timestamp")
    return [(A_SECTION.value_of(path), session_id, at) for path, session_id, at in rows]


def counted(views, zone, start, end):
    """Return views, visitors and new visitors of a range, by the definitions."""
    days = [(session_id, day_of(at, zone)) for _, session_id, at in views]
    within = [session_id for session_id, day in days if start <= day <= end]
    before = {session_id for session_id, day in days if day < start}
    return len(within), len(set(within)), len(set(within) - before)


@pytest.mark.parametrize("seed", range(6))
def test_counts_of_a_section_are_those_of_its_page_views(section, seed):
    views = made_up_views(seed)
    record_page_views([a_hit(path=path, session_id=session_id, at=at) for path, session_id, at in views[:30]])
    raw_views(views[30:])
    if seed % 2:
        list(backfill())
        raw_views(made_up_views(seed + 100, 5))
    chance = random.Random(seed)
    for _ in range(5):
        start = TODAY + chance.randrange(12) * DAY
        end = start + chance.randrange(8) * DAY
        whole = report(start, end, dimension="section", compare=True)
        stored = stored_views()
        for value in ("blog", "news", "", "a"):
            ours = [view for view in stored if view[0] == value]
            found = report(start, end, dimension="section", value=value, compare=True)
            assert (found.views, found.visitors, found.new_visitors) == counted(ours, found.zone, start, end)
            assert found.previous.views == counted(ours, found.zone, found.previous.start, found.previous.end)[0]
            if found.views:
                assert (value, found.views, found.visitors) in whole.rows
            day = chance.randrange((end - start).days + 1) * DAY + start
            [row] = [row for row in found.days if row.day == day]
            assert row[1:] == counted(ours, found.zone, day, day)[:2]
        assert sum(row.views for row in whole.rows) == whole.views


def test_hours_of_a_section(section):
    record_page_views([a_hit(path="/blog/a"), a_hit(path="/blog/b", session_id="t"), a_hit(path="/news/a")])
    found = report(TODAY, TODAY, dimension="section", value="blog", by="hour")
    assert [(hour.views, hour.visitors) for hour in found.hours if hour.views] == [(2, 2)]


def test_rows_are_ordered_searched_and_cut(section):
    record_page_views([a_hit(path=path, session_id="s") for path in PATHS])
    rows = report_rows(TODAY, TODAY, dimension="section", order="value", limit=2, offset=1)
    assert (rows.rows, rows.total_rows) == ((("a", 1, 1), ("blog", 2, 1)), 4)
    assert rows.titles == {"a": Titled("a", ""), "blog": Titled("blog", "")}
    found = report_rows(TODAY, TODAY, dimension="section", search="BLO")
    assert (found.rows, found.total_rows) == ((("blog", 2, 1),), 1)


def test_the_public_sees_only_public_values(section):
    record_page_views([a_hit(path=path) for path in PATHS])
    assert report(TODAY, TODAY, dimension="section", public=True).rows == ()
    with pytest.raises(UnknownPage, match="value is 'blog', which isn't a public section"):
        report(TODAY, TODAY, dimension="section", value="blog", public=True)


def test_a_dimension_says_which_of_its_values_are_public():
    some = replace(A_SECTION, is_public=lambda value, titled: value == "blog")
    with dimensions.also(some):
        record_page_views([a_hit(path=path) for path in PATHS])
        assert report(TODAY, TODAY, dimension="section", public=True, limit=5).rows == (("blog", 2, 1),)
        assert report(TODAY, TODAY, dimension="section", value="blog", public=True).views == 2


def test_an_unknown_dimension_is_refused_with_the_names_of_all(section):
    with pytest.raises(Refused, match=r"'colour'\. Use 'page' or 'section', or None"):
        report(TODAY, TODAY, dimension="colour")


def test_a_seal_hides_visitors_of_a_section_that_was_viewed_on_both_its_sides(section):
    record_page_views([a_hit(path="/blog/a", at=T0 + n * DAY) for n in (0, 3)])
    record_page_views([a_hit(path="/news/a", at=T0 + 3 * DAY)])
    list(prune(TODAY + 2 * DAY, at=T0 + 3 * DAY))
    record_page_views([a_hit(path="/blog/b", session_id="t", at=T0 + 4 * DAY), a_hit(path="/news/b", at=T0 + 4 * DAY)])
    rows = report_rows(TODAY, TODAY + 4 * DAY, dimension="section")
    assert rows.rows == (("blog", 3, None), ("news", 2, 1))
    assert "Choose 2026-03-14 to 2026-03-15 or 2026-03-16 to 2026-03-18." in rows.reason
    with pytest.raises(CannotTell, match="Visitors of 'blog' aren't available"):
        report(TODAY, TODAY + 4 * DAY, dimension="section", value="blog")
    with pytest.raises(CannotTell, match="Visitors of some rows"):
        report_rows(TODAY, TODAY + 4 * DAY, dimension="section", order="-visitors")
    lenient = report_rows(TODAY, TODAY + 4 * DAY, dimension="section", order="-visitors", lenient=True)
    assert lenient == rows
    assert report(TODAY, TODAY + 4 * DAY, dimension="section", value="news").visitors == 1


def test_the_admin_has_a_panel_and_a_csv_of_each_further_dimension(section, admin_client):
    record_page_views([a_hit(path=path, at=now_by_the_clock()) for path in PATHS])
    html = admin_client.get(STATS).content.decode()
    assert '<h2 id="pagestats-panel-section">Sections</h2>' in html
    assert f"{STATS}csv/section/?period=30d" in html
    response = admin_client.get(f"{STATS}csv/section/?period=today&order=value")
    lines = b"".join(response).decode("utf-8-sig").splitlines()
    assert lines == ["section,title,type,views,visitors", ",,,1,1", "a,a,,1,1", "blog,blog,,2,1", "news,news,,2,1"]
    assert 'filename="section-' in response.headers["Content-Disposition"]


def test_the_admin_has_no_panel_without_further_dimensions(admin_client):
    assert "pagestats-panel" not in admin_client.get(STATS).content.decode()
    assert admin_client.get(f"{STATS}csv/section/").status_code == 404


def test_the_command_lists_any_dimension(section):
    record_page_views([a_hit(path=path, at=now_by_the_clock()) for path in PATHS])
    today = reporting_day()

    def printed(**options):
        output = StringIO()
        call_command("pagestats_report", f"{today}", **options, stdout=output)
        return output.getvalue().splitlines()

    lines = printed(dimension="section", order="value")
    assert lines[-6].split() == ["Section", "Page", "views", "Visitors", "Title"]
    assert lines[-1] == "4 of 4 sections"
    assert printed(dimension="section", value="blog")[0].startswith(f"blog, {today}")


def test_a_dimension_has_a_moment_of_one_zone(section):
    raw_views([("/blog/a", "s", datetime(2026, 3, 14, 23, 30, tzinfo=T0.tzinfo))])
    assert report_rows(TODAY + DAY, TODAY + DAY, dimension="section").rows == (("blog", 1, 1),)
