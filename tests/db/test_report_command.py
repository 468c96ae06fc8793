"""manage.py pagestats_report."""

import io
import json
import sys
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from pagestats import identity, stats
from pagestats.hits import instant
from pagestats.models import Calendar, Seal
from pagestats.recording import record_page_view
from tests.factories import T0, a_hit, raw_views
from tests.factories import run_command as run


@pytest.mark.django_db
def test_a_report_is_a_table(settings):
    settings.PAGESTATS_IDENTITY = "cookie"
    for path, session_id in [("/a", "s"), ("/a", "t"), ("/\x1b[2J", "s")]:
        record_page_view(a_hit(path=path, session_id=session_id, at=T0))
    raw_views([("/", f"p{number}", T0) for number in range(1200)])
    raw_views([("/", "s", T0.replace(day=12))])
    assert run("pagestats_report", "2026-03-13", "2026-03-14", compare=True).splitlines() == [
        "2026-03-13 to 2026-03-14, Europe/Amsterdam",
        "                           2026-03-11 to 2026-03-12  2025-03-13 to 2025-03-14",
        "Page views          1,203            1 (+120200.0%)                         0",
        "Unique visitors     1,202            1 (+120100.0%)                         0",
        "New visitors        1,201            1 (+120000.0%)                         0",
        "Returning visitors      1                         0                         0",
        "",
        "Day             Page views  Visitors",
        "2026-03-13 Fri           0         0",
        "2026-03-14 Sat       1,203     1,202",
        "",
        "Page      Page views  Visitors  Title",
        "/              1,200     1,200  Home",
        "/a                 2         2",
        "/\\x1b[2J           1         1",
        "3 of 3 pages",
    ]


@pytest.mark.django_db
def test_a_report_of_a_page_by_hour_says_daily_visitors():
    raw_views([("/a", "s", T0)])
    lines = run("pagestats_report", "2026-03-29", "2026-03-29", page="/a", by="hour").splitlines()
    assert lines[:3] == ["/a, 2026-03-29, Europe/Amsterdam", "Page views      0", "Daily visitors  0"]
    assert [line.split()[1:3] for line in lines[5:8]] == [["00:00", "+0100"], ["01:00", "+0100"], ["03:00", "+0200"]]
    assert len(lines) == 5 + 23


@pytest.mark.django_db
def test_pages_are_ordered_and_searched():
    raw_views([("/a", "s", T0), ("/ab", "s", T0), ("/c", "s", T0)])
    lines = run("pagestats_report", "2026-03-14", "2026-03-14", order="-value", search="A").splitlines()
    assert lines[-3:] == ["/ab            1         1", "/a             1         1", "2 of 2 pages"]


@pytest.mark.django_db
def test_a_report_is_of_the_last_days():
    raw_views([("/a", "s", instant(None))])
    today = stats.reporting_day()
    told = json.loads(run("pagestats_report", days=2, json=True))
    assert (told["end"], len(told["days"]), told["days"][1]["views"]) == (str(today), 2, 1)
    assert len(json.loads(run("pagestats_report", json=True))["days"]) == 30
    assert json.loads(run("pagestats_report", "2026-01-01", json=True))["end"] == str(today)


@pytest.mark.django_db
def test_a_report_in_json_is_the_one_of_the_api():
    raw_views([("/é", "s", T0)])
    printed = run("pagestats_report", "2026-03-14", "2026-03-14", json=True, by="hour")
    told = stats.report(T0.date(), T0.date(), dimension="page", limit=20, by="hour")
    assert "/é" in printed
    assert json.loads(printed)["rows"] == [
        {"value": "/é", "title": "/é", "page_type": "other", "views": 1, "visitors": 1}
    ]
    assert json.loads(printed).keys() == told.written(lifetime=identity.lifetime()).keys()


@pytest.mark.django_db
def test_a_report_says_what_cannot_be_told():
    for at in (T0 - timedelta(days=1), T0):
        record_page_view(a_hit(at=at))
    Seal.unguarded.create(before="2026-03-14", open_from="2026-03-14")
    Calendar.unguarded.update(sealed_before="2026-03-14")
    lines = run("pagestats_report", "2026-03-13", "2026-03-14").splitlines()
    assert lines[-3].split() == ["/a", "2", "not", "available"]
    assert lines[-1].startswith("Visitors of some rows aren't available from 2026-03-13 to 2026-03-14: page views")
    with pytest.raises(CommandError, match="Visitors of '/a' aren't available from 2026-03-13"):
        call_command("pagestats_report", "2026-03-13", "2026-03-14", page="/a")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "options", "why"),
    [
        (["2026-03-15", "2026-03-14"], {}, "start is 2026-03-15, after end"),
        (["yesterday"], {}, "argument START: 'yesterday' is not a date. Write it like 2026-01-31."),
        (["2026-03-14", "x"], {}, "argument END: 'x' is not a date"),
        (["2026-03-14"], {"days": 3}, "START and --days can't be combined."),
        ([], {"days": 0}, "--days is 0, not a number from 1 to 3,660."),
        ([], {"days": 10**9}, "--days is 1000000000, not a number from 1 to 3,660."),
        ([], {"days": 3661}, "--days is 3661, not a number from 1 to 3,660."),
        (["1999-01-01", "2026-03-14"], {}, "days. Ask for at most 3,660."),
        (["2150-01-01"], {}, "START is 2150-01-01, and today is "),
        (["2026-03-14", "2026-03-14"], {"limit": -1}, "limit is -1, not a whole number from 0 to"),
    ],
)
def test_a_report_of_no_range_is_refused(arguments, options, why):
    with pytest.raises(CommandError) as refusal:
        call_command("pagestats_report", *arguments, **options)
    assert why in str(refusal.value)


def test_a_search_in_one_page_is_refused_in_the_words_of_the_command():
    with pytest.raises(CommandError, match="Leave one out"):
        call_command("pagestats_report", "--page", "/a", "--search", "b")


@pytest.mark.django_db
def test_a_page_without_its_slash_is_refused_unless_somebody_viewed_it():
    raw_views([("/a", "s", T0), ("beside", "s", T0)])
    for page in ("a", ""):
        with pytest.raises(CommandError, match=f"--page is '{page}', which has no views.*: --page /{page}$"):
            run("pagestats_report", "2026-03-14", "2026-03-14", page=page)
    assert run("pagestats_report", "2026-03-14", "2026-03-14", page="/b").startswith("/b, 2026-03-14")
    for viewed, day in (("1", "2026-03-14"), ("0", "2026-03-15")):
        told = run("pagestats_report", day, day, page="beside")
        assert told.startswith(f"beside, {day}")
        assert told.splitlines()[1].split() == ["Page", "views", viewed]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.django_db
def test_a_report_is_told_in_any_encoding(monkeypatch, encoding):
    raw_views([("/页/😀", "s", T0)])
    told = {}
    for options in ["", "--json"]:
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        call_command("pagestats_report", "2026-03-14", *options.split())
        out.flush()
        told[options] = out.buffer.getvalue().decode(encoding)
        assert out.errors == "strict"
    assert json.loads(told["--json"])["rows"][0]["value"] == "/页/😀"
    assert ("/页/😀" in told["--json"]) == (encoding == "utf-8")
    assert ("/页/😀 " if encoding == "utf-8" else "/\\u9875/\\U0001f600 ") in told[""]


@pytest.mark.django_db
def test_no_path_steers_the_terminal_by_way_of_json():
    raw_views([("/\x9b2J", "s", T0)])
    printed = run("pagestats_report", "2026-03-14", "2026-03-14", json=True)
    assert printed.isprintable()
    assert json.loads(printed)["rows"][0]["value"] == "/\x9b2J"
