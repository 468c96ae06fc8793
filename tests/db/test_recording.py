import re
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction
from hypothesis import example, given
from hypothesis import strategies as st

from pagestats import rollups, sql
from pagestats.days import DAY, start_of
from pagestats.hits import InvalidHit
from pagestats.models import ActiveSession, Calendar, PageTotal, PageView, Return, Rollup, Seal, Visitor
from pagestats.recording import (
    HITS_IN_A_TRANSACTION,
    record_heartbeat,
    record_page_view,
    record_page_views,
    record_visit,
)
from pagestats.stats import snapshot
from tests.factories import T0, Failing, a_hit, a_lock_error, raw_views

MS = timedelta(milliseconds=1)
US = timedelta(microseconds=1)
HALF_HOUR = timedelta(minutes=30)
SPECIAL = st.sampled_from("\\\"'{},%? \n\t")
pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("before_or_after", [1, -1])
@pytest.mark.parametrize(
    ("gap", "counts"),
    [
        (timedelta(0), False),
        (HALF_HOUR - MS, False),
        (HALF_HOUR - US, False),
        (HALF_HOUR, True),
        (HALF_HOUR + US, True),
    ],
)
def test_less_than_half_an_hour_before_or_after_a_stored_view_is_a_repeat(gap, counts, before_or_after):
    record_page_view(a_hit())
    assert (record_page_view(a_hit(at=T0 + before_or_after * gap)) is not None) == counts


def test_the_window_does_not_slide():
    instants = [T0 + timedelta(minutes=10 * step) for step in range(7)]
    assert [record_page_view(a_hit(at=at)) is not None for at in instants] == [True, False, False] * 2 + [True]


def test_a_view_between_two_that_leave_no_room_for_it_is_a_repeat():
    record_page_view(a_hit(at=T0))
    record_page_view(a_hit(at=T0 + timedelta(minutes=50)))
    assert record_page_view(a_hit(at=T0 + timedelta(minutes=25))) is None


@pytest.mark.parametrize("changes", [{"path": "/b"}, {"session_id": "t"}])
def test_another_path_or_another_session_is_no_repeat(changes):
    record_page_view(a_hit())
    assert record_page_view(a_hit(**changes)) is not None


def test_a_pending_view_makes_a_repeat_like_any_other():
    raw_views([("/a", "s", T0)])
    assert record_page_view(a_hit(at=T0 + timedelta(minutes=29))) is None
    assert Visitor.objects.count() == 0


@pytest.mark.parametrize("window", [timedelta(minutes=1), timedelta(hours=24)])
def test_the_window_is_a_setting(settings, window):
    settings.PAGESTATS_DEDUP_WINDOW = window
    record_page_view(a_hit())
    assert record_page_view(a_hit(at=T0 + window - US)) is None
    assert record_page_view(a_hit(at=T0 + window)) is not None


def test_a_view_is_returned_as_it_is_stored():
    view = record_page_view(a_hit(page_type="blog"))
    stored = PageView.objects.values_list("pk", "path", "page_type", "session_id", "timestamp", "rolled_up").get()
    assert stored == (view.pk, "/a", "blog", "s", T0, True)


def test_a_batch_is_judged_in_the_order_of_its_instants():
    minutes = [40, 0, 20, 60, 29]
    assert record_page_views([a_hit(at=T0 + timedelta(minutes=minute)) for minute in minutes]) == 2
    stored = PageView.objects.order_by("timestamp").values_list("timestamp", flat=True)
    assert list(stored) == [T0, T0 + timedelta(minutes=40)]


def test_of_two_hits_at_the_same_instant_the_first_given_counts():
    record_page_views([a_hit(page_type="first"), a_hit(page_type="second")])
    assert PageView.objects.get().page_type == "first"


def test_a_batch_longer_than_a_transaction_counts_like_one():
    hits = [
        a_hit(session_id=f"s{number % 7}", at=T0 + number * timedelta(minutes=10))
        for number in range(2 * HITS_IN_A_TRANSACTION + 1)
    ]
    counted = record_page_views(reversed(hits))
    assert counted == PageView.objects.count() == len(hits)
    assert record_page_views(hits) == 0


@given(st.sets(st.text(SPECIAL | st.characters(codec="utf-8", exclude_characters="\0"), max_size=64), min_size=4))
@example({"NULL", "null", "", '"', "\\", '\\"', "{}", "{a,b}", "%s", "a,b", " a ", "\n", "\x01", "'; --", "é"})
def test_a_batch_keeps_each_text_as_it_is(texts):
    with transaction.atomic():
        hits = [a_hit(path=text, session_id=text, page_type=text) for text in texts]
        assert record_page_views(hits) == len(texts)
        assert record_page_views(hits) == 0
        stored = PageView.objects.values_list("path", "session_id", "page_type")
        assert sorted(stored) == sorted((text, text, text) for text in texts)
        assert set(Visitor.objects.values_list("pk", flat=True)) == texts
        assert dict(PageTotal.objects.values_list("path", "views")) == dict.fromkeys(texts, 1)
        transaction.set_rollback(True)


def test_an_empty_batch_counts_nothing_and_asks_nothing(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert record_page_views([]) == 0


def test_a_batch_with_an_invalid_hit_stores_nothing():
    with pytest.raises(InvalidHit):
        record_page_views(a_hit(path=path) for path in ["/a", "/\x00"])
    assert PageView.objects.count() == 0


def test_a_repeat_costs_one_query(django_assert_num_queries):
    record_page_view(a_hit())
    with django_assert_num_queries(1):
        assert record_page_view(a_hit()) is None


def test_a_second_page_on_the_same_day_does_not_write_the_visitor_again(django_capture_queries):
    record_page_view(a_hit())
    queries = django_capture_queries(lambda: record_page_view(a_hit(path="/b")))
    assert sum("INTO" in query and "pagestats_visitor" in query for query in queries) == 1


def test_days_are_those_of_the_zone_stored_with_the_first_view(settings):
    midnight = T0.replace(hour=23, minute=30)
    record_page_view(a_hit(at=midnight))
    settings.TIME_ZONE = "Pacific/Honolulu"
    record_page_view(a_hit(at=midnight, path="/b"))
    days = Rollup.objects.filter(dimension="site").values_list("day", "views", "visitors", "new_visitors")
    assert list(days) == [((midnight + timedelta(hours=1)).date(), 2, 1, 1)]


def test_a_late_view_makes_an_earlier_day_the_first_one():
    for day in (5, 1, 3):
        record_page_view(a_hit(at=T0 + timedelta(days=day)))
    days = [(T0 + timedelta(days=day)).date() for day in (1, 3, 5)]
    site = Rollup.objects.filter(dimension="site").order_by("day").values_list("day", "visitors", "new_visitors")
    assert list(site) == [(days[0], 1, 1), (days[1], 1, 0), (days[2], 1, 0)]
    returns = Return.objects.filter(dimension="site", visitors__gt=0).order_by("day")
    assert list(returns.values_list("previous_day", "day")) == [(days[0], days[1]), (days[1], days[2])]


def test_a_failure_leaves_nothing_behind():
    def fail_at_the_view(execute, statement, *args):
        if re.search('INSERT INTO ["`]pagestats_pageview', statement):
            raise OperationalError("the disk is full")
        return execute(statement, *args)

    with pytest.raises(OperationalError, match="the disk is full"), connection.execute_wrapper(fail_at_the_view):
        record_page_view(a_hit())
    assert (PageView.objects.count(), Visitor.objects.count(), Rollup.objects.count()) == (0, 0, 0)


@pytest.mark.django_db(transaction=True)
def test_a_lock_error_is_cured_by_trying_again():
    with Failing(2) as failing:
        assert record_page_view(a_hit()) is not None
    assert failing.calls == 3
    assert (PageView.objects.count(), PageTotal.objects.get().views) == (1, 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("record", [record_page_view, record_visit])
def test_whoever_has_waited_long_is_not_kept_waiting_by_another_try(record):
    with Failing(2) as failing, pytest.raises(OperationalError):
        record(a_hit(), patience=0)
    assert failing.calls == 1
    with Failing(2) as failing:
        assert record(a_hit())  # an import waits for as long as it takes
    assert failing.calls == 3


@pytest.mark.django_db(transaction=True)
def test_inside_another_transaction_a_lock_error_is_the_callers():
    with Failing(2) as failing, pytest.raises(OperationalError), transaction.atomic():
        record_page_view(a_hit())
    assert failing.calls == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("others", [1, 2, 3, 5])
def test_what_somebody_else_wrote_after_the_look_is_looked_at_again(monkeypatch, others):
    """The other one records the same page a minute before each look's end; then a page of the same session."""
    look, looks = sql.load_state, []

    def look_and_be_overtaken(viewed, *, using):
        around = look(viewed, using=using)
        if len(looks) < others and not connection.in_atomic_block:
            looks.append(viewed)
            monkeypatch.setattr(sql, "load_state", look)
            assert record_page_view(a_hit(path=f"/{len(looks)}")) is not None
            monkeypatch.setattr(sql, "load_state", look_and_be_overtaken)
        return around

    monkeypatch.setattr(sql, "load_state", look_and_be_overtaken)
    assert record_visit(a_hit())
    assert len(looks) == (min(others, 3) if sql.can_write_if_unchanged("default") else 1)
    site = Rollup.objects.get(dimension="site")
    assert (site.views, site.visitors, site.new_visitors) == (len(looks) + 1, 1, 1)
    assert PageView.objects.count() == len(looks) + 1
    assert ActiveSession.objects.get().current_path == "/a"


@pytest.mark.django_db(transaction=True)
def test_a_repeat_of_what_somebody_else_wrote_after_the_look_is_not_stored(monkeypatch):
    look = sql.load_state

    def look_and_be_overtaken(viewed, *, using):
        around = look(viewed, using=using)
        monkeypatch.setattr(sql, "load_state", look)
        assert record_page_view(a_hit()) is not None
        return around

    monkeypatch.setattr(sql, "load_state", look_and_be_overtaken)
    assert record_page_view(a_hit(at=T0 + timedelta(minutes=29))) is None
    assert PageView.objects.count() == 1


def test_an_error_that_is_no_lock_is_not_tried_again():
    assert not sql.is_lock_error(OperationalError("no such table: pagestats_visitor"))
    assert sql.is_lock_error(a_lock_error())


TEN_SECONDS = timedelta(seconds=10)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"at": T0}, "skipped"),
        ({"at": T0 + TEN_SECONDS - MS}, "skipped"),
        ({"at": T0 + TEN_SECONDS - US}, "skipped"),
        ({"at": T0 + TEN_SECONDS}, "updated"),
        ({"at": T0 + MS, "path": "/b"}, "updated"),
        ({"at": T0, "path": "/b"}, "updated"),
        ({"at": T0 - MS, "path": "/b"}, "skipped"),
        ({"at": T0 - timedelta(hours=1)}, "skipped"),
        ({"session_id": "t"}, "created"),
    ],
)
def test_a_heartbeat_says_what_came_of_it(changes, outcome):
    assert record_heartbeat(a_hit()) == "created"
    hit = a_hit(**changes)
    assert record_heartbeat(hit) == outcome
    expected = a_hit() if outcome == "skipped" else hit
    stored = ActiveSession.objects.get(session_id=hit.session_id)
    assert (stored.current_path, stored.last_seen) == (expected.path, expected.at)


def test_skipped_heartbeats_do_not_keep_a_session_from_its_next_update():
    outcomes = [record_heartbeat(a_hit(at=T0 + timedelta(seconds=4 * beat))) for beat in range(6)]
    assert outcomes == ["created", "skipped", "skipped", "updated", "skipped", "skipped"]


def test_a_heartbeat_counts_no_page_view():
    record_heartbeat(a_hit())
    assert (PageView.objects.count(), Visitor.objects.count()) == (0, 0)


def test_a_skipped_heartbeat_costs_one_query(django_assert_num_queries):
    record_heartbeat(a_hit())
    with django_assert_num_queries(1):
        record_heartbeat(a_hit())


def test_deferred_views_are_stored_pending_and_read_at_once(settings):
    settings.PAGESTATS_ROLLUPS = "deferred"
    view = record_page_view(a_hit())
    assert (view.rolled_up, PageView.objects.get().rolled_up) == (False, False)
    assert record_page_view(a_hit(at=T0 + HALF_HOUR - US)) is None
    assert record_visit(a_hit(path="/b"))
    assert record_page_views(a_hit(session_id="t", path=path) for path in ["/a", "/b", "/b"]) == 2
    assert not Rollup.objects.exists()
    read = snapshot(at=T0)
    assert (read.total_page_views, read.unique_visitors, read.active_visitors) == (4, 2, 1)
    assert [(page.path, page.views) for page in read.page_stats] == [("/a", 2), ("/b", 2)]
    assert sum(rollups.roll_up_pending()) == 4
    assert snapshot(at=T0) == read
    assert Rollup.objects.get(dimension="site").visitors == 2


def test_while_the_rollups_are_rebuilt_views_stay_pending():
    record_page_view(a_hit())
    Calendar.unguarded.update(next_zone="UTC")
    assert not record_page_view(a_hit(path="/b")).rolled_up
    assert Rollup.objects.get(dimension="site").views == 1
    assert sum(rollups.roll_up_pending()) == 0


@pytest.mark.parametrize("rollups_are", ["immediate", "deferred"])
def test_a_view_of_a_sealed_day_is_refused(settings, rollups_are):
    record_page_view(a_hit())
    today = T0.date()
    Calendar.unguarded.update(sealed_before=today, sealed_on=today)
    settings.PAGESTATS_ROLLUPS = rollups_are
    with pytest.raises(rollups.SealedDay, match=f"'/late' .* is on {today - DAY}, and page views before {today} were"):
        record_page_views([a_hit(path="/b"), a_hit(path="/late", at=T0 - DAY)])
    assert PageView.objects.count() == 1
    raw_views([("/late", "s", T0 - DAY), ("/c", "s", T0)])
    assert sum(rollups.roll_up_pending()) == 1
    assert PageView.objects.pending().count() == 1


def test_a_view_that_is_later_than_a_pruning_opens_its_seal():
    record_page_view(a_hit())
    today = T0.date()
    Calendar.unguarded.update(sealed_before=today - 9 * DAY, sealed_on=today)
    Seal.unguarded.create(before=today - 9 * DAY, open_from=today)
    record_page_view(a_hit(path="/b"))
    assert Seal.objects.get().open_from == today
    for days, opened in [(3, 3), (2, 3), (5, 5)]:
        record_page_view(a_hit(path="/b", at=T0 - days * DAY))
        assert Seal.objects.get().open_from == today - opened * DAY


@pytest.mark.django_db(transaction=True)
def test_a_late_view_that_turns_out_to_be_a_repeat_opens_no_seal(monkeypatch):
    record_page_view(a_hit(path="/first"))
    midnight = start_of(T0.date(), Calendar.zone_of(Calendar.objects.all()))
    Calendar.unguarded.update(sealed_before=T0.date() - 9 * DAY, sealed_on=T0.date())
    Seal.unguarded.create(before=T0.date() - 9 * DAY, open_from=T0.date())
    look = sql.load_state

    def look_and_be_overtaken(views, *, using):
        around = look(views, using=using)
        monkeypatch.setattr(sql, "load_state", look)
        assert record_page_view(a_hit(at=midnight + timedelta(minutes=5))) is not None
        return around

    monkeypatch.setattr(sql, "load_state", look_and_be_overtaken)
    assert record_page_view(a_hit(at=midnight - timedelta(minutes=5))) is None
    assert Seal.objects.get().open_from == T0.date()


@pytest.mark.django_db
def test_a_view_that_loads_state_before_a_rebuild_begins_stays_pending(monkeypatch):
    record_page_view(a_hit())
    look = sql.load_state

    def look_and_begin(*arguments, **options):
        found = look(*arguments, **options)
        Calendar.unguarded.update(next_zone="UTC")
        return found

    monkeypatch.setattr(sql, "load_state", look_and_begin)
    assert not record_page_view(a_hit(path="/b")).rolled_up
