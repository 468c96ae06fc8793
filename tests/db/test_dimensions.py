"""A dimension beside those that ship is recorded, changed and verified exactly, and takes nothing but its entry."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pagestats import dimensions
from pagestats.days import DAY
from pagestats.dimensions import PAGE, SITE, Dimension, Key
from pagestats.models import PageView, Return, Rollup
from pagestats.recording import record_page_view, record_page_views
from pagestats.retention import erase, forget, prune
from pagestats.rollups import SealedDay, backfill, merge_paths, rebuild, repair, verify
from pagestats.rollups.adding import Addition, add
from pagestats.rollups.figures import Figure
from tests.factories import A_SECTION, T0, a_hit, raw_views
from tests.oracle import also_counting, expected_rollups, stored_rollups

pytestmark = pytest.mark.django_db

ZONE = "Europe/Amsterdam"
TODAY = date(2026, 3, 14)
KEY = Key("section", "blog")


@pytest.fixture
def section():
    with dimensions.also(A_SECTION), also_counting(A_SECTION.name, A_SECTION.value_of):
        yield A_SECTION


def cells(dimension, value):
    """Return the views, visitors and new visitors of a value on each day."""
    rows = Rollup.objects.filter(dimension=dimension.name, value=value).order_by("day")
    return list(rows.values_list("views", "visitors", "new_visitors"))


def assert_exact():
    assert stored_rollups() == expected_rollups(PageView.objects.rolled_up(), ZONE)
    assert list(verify()) == []


def test_the_site_comes_first_and_pages_are_the_first_list():
    assert dimensions.registered()[0] is SITE
    assert dimensions.with_rows()[0] is PAGE


def test_two_dimensions_can_not_have_one_name(section):
    with pytest.raises(ValueError, match="already"):
        dimensions.register(A_SECTION)


def test_a_dimension_is_registered_for_the_length_of_a_block():
    with dimensions.also(A_SECTION):
        assert dimensions.keys("/blog/a")[-1] == ("section", "blog")
    assert dimensions.keys("/blog/a") == (("site", ""), ("page", "/blog/a"))


@pytest.mark.parametrize("figure", [Figure("views", KEY, TODAY), Figure("returns", KEY, TODAY, TODAY - DAY)])
def test_counts_of_a_dimension_that_is_not_registered_are_not_stored(figure):
    addition = Addition(figures={figure: 1}, visitors=[], instants={})
    with pytest.raises(dimensions.NotRegistered, match=r"'section'.*Register it"):
        add(addition, using="default")
    assert not Rollup.objects.exists()
    assert not Return.objects.exists()
    with dimensions.also(A_SECTION):
        add(addition, using="default")
    assert Rollup.objects.exists() or Return.objects.exists()


@pytest.mark.parametrize(("is_rolled_up", "refused"), [(True, False), (False, True)])
def test_only_a_dimension_that_is_rolled_up_may_have_rows(is_rolled_up, refused):
    refusal = pytest.raises(dimensions.NotRegistered) if refused else nullcontext()
    with dimensions.also(replace(A_SECTION, is_rolled_up=is_rolled_up)), refusal:
        dimensions.refuse_unregistered(["site", "page", "section"])


def test_a_session_on_two_pages_of_a_section_is_one_visitor_of_it(section):
    record_page_view(a_hit(path="/blog/a"))
    record_page_view(a_hit(path="/blog/b"))
    assert cells(section, "blog") == [(2, 1, 1)]
    assert_exact()


def test_a_visitor_who_returns_to_a_section_on_another_page_is_not_new(section):
    record_page_view(a_hit(path="/blog/a"))
    record_page_view(a_hit(path="/blog/b", at=T0 + DAY))
    assert cells(section, "blog") == [(1, 1, 1), (1, 1, 0)]
    assert Return.objects.get(dimension="section").previous_day == TODAY
    assert_exact()


def test_a_late_view_of_another_page_moves_who_is_new_in_the_section(section):
    record_page_view(a_hit(path="/blog/a"))
    record_page_view(a_hit(path="/blog/b", at=T0 - DAY))
    assert cells(section, "blog") == [(1, 1, 1), (1, 1, 0)]
    assert_exact()


def test_erasing_a_session_leaves_nothing_of_it_in_a_section(section):
    record_page_views([a_hit(path="/blog/a"), a_hit(path="/blog/b")])
    assert erase("s") == 2
    assert cells(section, "blog") in ([], [(0, 0, 0)])
    assert_exact()


def test_forgetting_a_session_changes_no_section(section):
    record_page_views([a_hit(path="/blog/a"), a_hit(path="/blog/b", at=T0 + DAY)])
    forget("s")
    assert cells(section, "blog") == [(1, 1, 1), (1, 1, 0)]
    assert_exact()


def test_a_batch_and_a_backfill_count_sections(section):
    record_page_views([a_hit(path="/blog/a"), a_hit(path="/blog/b"), a_hit(path="/news/a", session_id="t")])
    raw_views([("/news/b", "t", T0 + DAY), ("/blog/c", "u", T0)])
    list(backfill(batch_size=1))
    assert cells(section, "blog") == [(3, 2, 2)]
    assert cells(section, "news") == [(1, 1, 1), (1, 1, 0)]
    assert_exact()


def test_merging_into_another_section_moves_who_is_new_there(section):
    record_page_views([a_hit(path="/blog/a"), a_hit(path="/blog/b", at=T0 + DAY), a_hit(path="/news/b", at=T0 + DAY)])
    list(merge_paths("/blog/a", "/news/a"))
    assert cells(section, "blog")[-1] == (1, 1, 1)
    assert cells(section, "news") == [(1, 1, 1), (1, 1, 0)]
    assert_exact()


def test_merging_within_a_section_changes_nothing_of_it(section):
    record_page_views([a_hit(path="/blog/a"), a_hit(path="/blog/b")])
    list(merge_paths("/blog/a", "/blog/b"))
    assert cells(section, "blog") == [(2, 1, 1)]
    assert_exact()


def test_a_merge_is_refused_where_page_views_of_the_section_were_pruned(section):
    record_page_views([a_hit(path="/blog/old", at=T0 - 2 * DAY), a_hit(path="/blog/a"), a_hit(path="/news/a")])
    list(prune(TODAY, at=T0))
    with pytest.raises(SealedDay, match="section 'blog'"):
        merge_paths("/news/a", "/blog/a")
    list(merge_paths("/news/a", "/news/b"))
    assert list(verify()) == []


def test_pruned_page_views_stay_in_a_section_and_verify_says_so(section):
    record_page_views([a_hit(path="/blog/a", at=T0 - 2 * DAY), a_hit(path="/blog/b")])
    list(prune(TODAY, at=T0))
    assert cells(section, "blog") == [(1, 1, 1), (1, 1, 0)]
    assert list(verify()) == []


def test_a_rebuild_counts_sections(section):
    record_page_views([a_hit(path="/blog/a", at=datetime(2026, 3, 14, 23, 30, tzinfo=UTC)), a_hit(path="/blog/b")])
    list(rebuild(zone="UTC"))
    assert cells(section, "blog") == [(2, 1, 1)]
    assert list(verify()) == []


def test_verify_finds_what_is_wrong_in_a_section_and_repair_sets_it_right(section):
    record_page_views([a_hit(path="/blog/a"), a_hit(path="/blog/b", at=T0 + DAY), a_hit(path="/news/a")])
    Rollup.unguarded.filter(dimension="section", value="blog", day=TODAY).update(views=7, visitors=3)
    Return.unguarded.filter(dimension="section").delete()
    found = {(each.dimension, each.value, each.table, each.figure, each.stored, each.counted) for each in verify()}
    assert found == {
        ("section", "blog", "rollup", "views", 7, 1),
        ("section", "blog", "rollup", "visitors", 3, 1),
        ("section", "blog", "return", "visitors", 0, 1),
    }
    list(repair())
    assert_exact()


def test_a_dimension_that_is_registered_later_is_filled_by_repair():
    record_page_views([a_hit(path="/blog/a"), a_hit(path="/blog/b", at=T0 + DAY), a_hit(path="/news/a")])
    with dimensions.also(A_SECTION), also_counting(A_SECTION.name, A_SECTION.value_of):
        assert {each.dimension for each in verify()} == {"section"}
        list(repair())
        assert_exact()


def test_rows_of_a_dimension_that_is_not_registered_are_drift():
    with dimensions.also(A_SECTION):
        record_page_views([a_hit(path="/blog/a"), a_hit(path="/blog/b", at=T0 + DAY)])
    assert {(each.table, each.dimension, each.figure, each.stored) for each in verify()} == {
        ("rollup", "section", "rows", 2),
        ("return", "section", "rows", 1),
    }
    list(repair())
    assert_exact()


def test_a_dimension_that_is_not_rolled_up_stores_nothing():
    alone = Dimension(
        name="length",
        value_of=lambda path: str(len(path)),
        expression=A_SECTION.expression,
        label="Lengths",
        noun="length",
        is_rolled_up=False,
    )
    with dimensions.also(alone):
        record_page_view(a_hit(path="/blog/a"))
        assert not Rollup.objects.filter(dimension="length").exists()
        assert list(verify()) == []


def test_what_ships_reads_no_page_views_of_a_session_to_record_one():
    record_page_view(a_hit(path="/blog/a"))
    with CaptureQueriesContext(
        connection,
    ) as plain:
        record_page_view(a_hit(path="/blog/b"))
    with dimensions.also(A_SECTION), CaptureQueriesContext(connection) as sectioned:
        record_page_view(a_hit(path="/blog/c"))
    assert len(sectioned) == len(plain) + 1
