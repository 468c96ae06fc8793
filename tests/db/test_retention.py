from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import pytest

from pagestats import sql
from pagestats.days import DAY
from pagestats.hits import instant
from pagestats.models import ActiveSession, Calendar, PageTotal, PageView, Return, Rollup, Run, Seal, Visitor
from pagestats.recording import record_heartbeat, record_page_view, record_page_views
from pagestats.retention import (
    PendingViews,
    cleanup_stale_sessions,
    erase,
    forget,
    has_sealed_days,
    kept_from,
    preview_erase,
    preview_forget,
    preview_prune,
    prune,
    sweep_visitors,
)
from pagestats.rollups import Progress, RebuildUnderWay, Scope, SealedDay, backfill, rebuild, verify
from tests.factories import T0, a_hit, raw_views
from tests.oracle import expected_rollups, stored_rollups
from tests.stored import assert_rolled_up, everything

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


# One session


ZONE = "Europe/Amsterdam"


def derived():
    """Return what no pruning may change."""
    return {
        model.__name__: sorted(model.objects.values_list(*fields))
        for model, fields in (
            (Visitor, ("session_id", "first_seen", "last_day")),
            (PageTotal, ("path", "views", "visitors", "first_viewed", "last_viewed")),
            (Rollup, ("dimension", "value", "day", "views", "visitors", "new_visitors")),
            (Return, ("dimension", "value", "previous_day", "day", "visitors")),
        )
    }


def fold(rows):
    raw_views(rows)
    list(backfill())


@pytest.mark.django_db
def test_an_erased_session_is_in_no_figure_and_in_no_row():
    fold([("/a", "s", T0), ("/a", "t", T0 + DAY), ("/mine", "s", T0 + DAY), ("/a", "s", T0 + 2 * DAY)])
    raw_views([("/a", "s", T0 + 3 * DAY)])
    record_heartbeat(a_hit())
    assert erase("s") == 4
    assert list(PageView.objects.values_list("session_id", flat=True)) == ["t"]
    assert not ActiveSession.objects.exists()
    assert list(PageTotal.objects.values_list("path", "first_viewed", "last_viewed")) == [("/a", T0 + DAY, T0 + DAY)]
    assert_rolled_up()
    assert erase("s") == 0


@pytest.mark.django_db
def test_an_erased_session_that_comes_back_is_new():
    fold([("/a", "s", T0)])
    erase("s")
    assert record_page_view(a_hit(at=T0 + DAY))
    assert_rolled_up()
    assert Visitor.objects.get().first_seen == T0 + DAY


@pytest.mark.django_db
def test_a_session_of_very_many_views_is_erased_exactly():
    fold((f"/{number % 3}", "s", T0 + timedelta(minutes=number)) for number in range(600))
    fold([("/1", "t", T0)])
    assert erase("s") == 600
    assert_rolled_up()


@pytest.mark.django_db
def test_what_is_known_of_nobody_is_neither_erased_nor_stored():
    before = everything()
    assert (erase("nobody"), forget("nobody")) == (0, 0)
    assert everything() == before


@pytest.mark.django_db
def test_a_long_session_id_is_that_which_is_stored():
    record_page_view(a_hit(session_id="x" * 100))
    assert erase("x" * 100) == 1


@pytest.mark.django_db
def test_a_forgotten_session_has_a_random_id_and_no_figure_changes():
    fold([("/a", "s", T0), ("/b", "s", T0 + DAY), ("/a", "t", T0)])
    raw_views([("/a", "s", T0 + 3 * DAY)])
    record_heartbeat(a_hit())
    before = derived()
    assert forget("s") == 3
    (other,) = set(PageView.objects.exclude(session_id="t").values_list("session_id", flat=True))
    assert len(other) == 32
    assert int(other, 16) >= 0
    assert ActiveSession.objects.get().session_id == other
    after = derived()
    assert after | {"Visitor": None} == before | {"Visitor": None}
    assert sorted(after["Visitor"]) == sorted(
        [(other if row[0] == "s" else row[0], *row[1:]) for row in before["Visitor"]] + [("s", None, None)],
        key=lambda row: row[0],
    )
    assert_rolled_up()
    list(backfill())
    assert_rolled_up()
    assert forget("s") == 0


@pytest.mark.django_db
@pytest.mark.parametrize("take", [erase, forget])
@pytest.mark.parametrize("was_here", [True, False])
def test_a_heartbeat_that_comes_before_the_lock_is_taken_as_well(monkeypatch, take, was_here):
    lock_sessions = sql.lock_sessions

    def lock_after_a_heartbeat(session_ids, *, using):
        record_heartbeat(a_hit(path="/b", at=T0 + timedelta(minutes=1)))
        lock_sessions(session_ids, using=using)

    fold([("/a", "s", T0)])
    if was_here:
        record_heartbeat(a_hit())
    monkeypatch.setattr(sql, "lock_sessions", lock_after_a_heartbeat)
    assert take("s") == 1
    here = ActiveSession.objects.values_list("session_id", "current_path")
    assert list(here) == [(session_id, "/b") for session_id in PageView.objects.values_list("session_id", flat=True)]
    assert not here.filter(session_id="s").exists()


@pytest.mark.django_db
def test_a_session_with_sealed_days_is_forgotten_and_not_erased():
    fold([("/a", "s", T0), ("/a", "s", T0 + 3 * DAY)])
    list(prune(date(2026, 3, 16), at=T0 + 3 * DAY))
    before = everything()
    for refused in (erase, preview_erase):
        with pytest.raises(SealedDay, match=r"the last on 2026-03-14, were pruned.*--forget"):
            refused("s")
    assert everything() == before
    figures = derived()
    assert forget("s") == 1
    assert derived() | {"Visitor": None} == figures | {"Visitor": None}
    other = PageView.objects.get().session_id
    assert Visitor.objects.get(session_id=other).last_sealed_day == date(2026, 3, 14)
    assert not has_sealed_days("s")


@pytest.mark.django_db
def test_the_empty_row_of_a_session_that_is_gone_is_swept_up_after_an_hour(django_assert_num_queries):
    fold([("/a", "s", T0), ("/a", "t", T0), ("/a", "u", T0)])
    erase("s")
    forget("t")
    now = instant(None)
    assert sweep_visitors(at=now + timedelta(minutes=59)) == 0
    record_page_view(a_hit(session_id="s", at=T0 + DAY))
    assert sweep_visitors(at=now + timedelta(minutes=61)) == 1
    with django_assert_num_queries(1):  # a look, which locks nothing
        assert sweep_visitors(at=now + timedelta(minutes=61)) == 0
    assert not Visitor.objects.filter(session_id="t").exists()
    assert_rolled_up()


@pytest.mark.django_db
def test_a_dry_erasure_says_what_it_would_erase_and_writes_nothing():
    fold([("/a", "s", T0), ("/b", "s", T0 + DAY)])
    before = everything()
    assert preview_erase("s") == preview_forget("s") == Scope(page_views=2, sessions=1, days=2)
    assert everything() == before


# Pruning

TODAY = T0 + 5 * DAY
BEFORE = date(2026, 3, 16)


def a_site():
    """Store views of six days; two sessions come back over the boundary."""
    fold((f"/{number % 2}", f"s{number % 4}", T0 + number * DAY / 2) for number in range(12))


@pytest.mark.django_db
def test_pruning_deletes_page_views_and_changes_no_figure():
    a_site()
    before = derived()
    late = list(PageView.objects.filter(timestamp__gte=datetime(2026, 3, 15, 23, tzinfo=UTC)).values_list("pk"))
    progress = list(prune(BEFORE, at=TODAY, batch_size=2))
    assert progress == [Progress(processed=2, total=3), Progress(processed=3, total=3)]
    assert sorted(PageView.objects.values_list("pk")) == sorted(late)
    assert derived() == before
    assert Calendar.objects.values_list("sealed_before", "sealed_on").get() == (BEFORE, date(2026, 3, 19))
    assert Seal.objects.values_list("before", "open_from").get() == (BEFORE, date(2026, 3, 19))
    run = Run.objects.get(kind=Run.Kind.PRUNE)
    assert (run.status, run.processed, run.result) == ("finished", 3, {"before": "2026-03-16", "total": 3})
    assert dict(Visitor.objects.filter(last_sealed_day__isnull=False).values_list("session_id", "last_sealed_day")) == {
        "s0": date(2026, 3, 14),
        "s1": date(2026, 3, 15),
        "s2": date(2026, 3, 15),
    }


@pytest.mark.django_db
def test_a_pruning_that_was_stopped_is_carried_on_by_the_next():
    a_site()
    chunks = prune(BEFORE, at=TODAY, batch_size=1)
    next(chunks)
    chunks.close()
    assert Run.objects.get(kind=Run.Kind.PRUNE).status == "stopped"
    assert list(prune(date(2026, 3, 1), at=TODAY)) == [Progress(processed=3, total=3, earlier=1)]
    assert (Run.objects.get(kind=Run.Kind.PRUNE).status, Seal.objects.count()) == ("finished", 1)
    after = everything()
    assert list(prune(BEFORE, at=TODAY)) == list(prune(date(2026, 3, 1), at=TODAY)) == []
    assert everything() == after


@pytest.mark.django_db
def test_a_seal_is_never_moved_back():
    a_site()
    prune(BEFORE, at=TODAY)  # sealed, and killed before the first chunk
    assert list(prune(date(2026, 3, 15), at=TODAY)) == [Progress(processed=3, total=3)]
    assert (Calendar.objects.get().sealed_before, Seal.objects.count()) == (BEFORE, 1)


@pytest.mark.django_db
def test_a_later_boundary_is_another_seal():
    a_site()
    list(prune(BEFORE, at=TODAY))
    list(prune(date(2026, 3, 17), at=TODAY + DAY))
    assert list(Seal.objects.order_by("before").values_list("before", "open_from")) == [
        (BEFORE, date(2026, 3, 19)),
        (date(2026, 3, 17), date(2026, 3, 20)),
    ]
    assert Visitor.objects.get(session_id="s0").last_sealed_day == date(2026, 3, 16)


@pytest.mark.django_db
def test_the_figures_of_the_site_stay_exact_after_a_pruning():
    a_site()
    everything_ever = list(PageView.objects.all())
    list(prune(BEFORE, at=TODAY))
    for session_id, at in (("s0", TODAY + DAY), ("s3", T0 + 3 * DAY), ("s2", T0 + 2 * DAY), ("new", T0 + 2 * DAY)):
        everything_ever.append(record_page_view(a_hit(path="/new", session_id=session_id, at=at)))
    expected, stored = expected_rollups(everything_ever, ZONE), stored_rollups()
    assert {key: row for key, row in stored.rollups.items() if key[0] == "site"} == {
        key: row for key, row in expected.rollups.items() if key[0] == "site"
    }
    assert {key: row for key, row in stored.returns.items() if key[0] == "site"} == {
        key: row for key, row in expected.returns.items() if key[0] == "site"
    }
    assert stored.visitors == expected.visitors


@pytest.mark.django_db
def test_erasing_an_unsealed_session_keeps_the_sealed_days_of_its_pages():
    fold([("/a", "old", T0), ("/a", "new", T0 + 4 * DAY)])
    list(prune(BEFORE, at=TODAY))
    erase("new")
    total = PageTotal.objects.get()
    assert (total.views, total.visitors, total.first_viewed) == (1, 1, T0)


@pytest.mark.django_db
def test_the_last_sealed_day_stays_known_when_later_views_are_gone():
    fold([("/a", "old", T0), ("/a", "old", T0 + DAY), ("/a", "gone", T0 + 4 * DAY)])
    list(prune(BEFORE, at=TODAY))
    erase("gone")
    assert PageTotal.objects.get().last_viewed == datetime(2026, 3, 14, 23, tzinfo=UTC)
    record_page_view(a_hit(session_id="late", at=T0 + 3 * DAY))
    assert PageTotal.objects.get().last_viewed == T0 + 3 * DAY
    assert list(verify()) == []


@pytest.mark.django_db
def test_the_boundary_is_midnight_of_the_reporting_zone():
    midnight = datetime(2026, 3, 15, 23, tzinfo=UTC)
    fold([("/a", "s", midnight - US), ("/a", "t", midnight)])
    list(prune(BEFORE, at=TODAY))
    assert PageView.objects.get().timestamp == midnight


@pytest.mark.django_db
def test_pending_page_views_before_the_boundary_refuse_the_pruning():
    a_site()
    raw_views([("/a", "s", T0), ("/a", "s", T0 + 4 * DAY)])
    before = everything()
    for refused in (prune, preview_prune):
        with pytest.raises(PendingViews, match=r"1 pending page view before 2026-03-16 .* backfill_aggregates"):
            refused(BEFORE, at=TODAY)
    assert everything() == before


@pytest.mark.django_db
def test_pending_page_views_of_sealed_days_refuse_the_next_one():
    a_site()
    list(prune(BEFORE, at=TODAY))
    raw_views([("/a", "s", T0)])
    with pytest.raises(PendingViews, match="1 pending page view of days before 2026-03-16 can't be rolled up"):
        prune(date(2026, 3, 17), at=TODAY)


@pytest.mark.django_db
def test_days_to_come_are_not_pruned_today_may_be():
    a_site()
    with pytest.raises(ValueError, match="before is 2026-03-20, and today is 2026-03-19"):
        prune(date(2026, 3, 20), at=TODAY)
    list(prune(date(2026, 3, 19), at=TODAY))
    assert PageView.objects.count() == 3


@pytest.mark.django_db
def test_while_the_rollups_are_rebuilt_nothing_is_pruned():
    a_site()
    rebuild(zone="UTC")
    with pytest.raises(RebuildUnderWay):
        prune(BEFORE, at=TODAY)
    assert Calendar.objects.get().sealed_before is None


@pytest.mark.django_db
def test_where_nothing_is_old_enough_nothing_is_sealed():
    assert list(prune(BEFORE, at=TODAY)) == []
    a_site()
    assert list(prune(date(2026, 3, 14), at=TODAY)) == []
    assert (Seal.objects.count(), Run.objects.filter(kind=Run.Kind.PRUNE).count()) == (0, 0)


@pytest.mark.django_db
def test_a_dry_pruning_says_what_it_would_delete_and_writes_nothing():
    a_site()
    before = everything()
    assert preview_prune(BEFORE, at=TODAY) == Scope(page_views=3, sessions=3, days=2)
    assert everything() == before


@pytest.mark.django_db
def test_what_is_kept_is_a_setting(settings):
    assert kept_from(at=TODAY) is None
    settings.PAGESTATS_KEEP_PAGE_VIEWS = timedelta(days=3)
    assert kept_from(at=TODAY) == BEFORE


@pytest.mark.django_db
def test_the_lock_of_a_session_with_pending_views_is_not_swept_up(settings):
    settings.PAGESTATS_ROLLUPS = "deferred"
    record_page_view(a_hit())
    assert sweep_visitors(at=instant(None) + timedelta(hours=2)) == 0
    assert Visitor.objects.get().first_seen is None


@pytest.mark.django_db
def test_a_last_sealed_day_never_goes_back():
    record_page_views([a_hit(at=T0), a_hit(at=T0 - 2 * DAY), a_hit(at=T0 + 2 * DAY)])
    list(prune(T0.date() + DAY, at=T0 + 5 * DAY))
    assert Visitor.objects.get().last_sealed_day == T0.date()
    PageView.objects.create(path="/late", session_id=a_hit().session_id, timestamp=T0 - 3 * DAY, rolled_up=True)
    list(prune(T0.date() + DAY, at=T0 + 5 * DAY))
    assert PageView.objects.count() == 1
    assert Visitor.objects.get().last_sealed_day == T0.date()


@pytest.mark.django_db
def test_a_session_whose_views_a_killed_pruning_left_is_not_erased():
    record_page_views([a_hit(session_id="s", at=T0), a_hit(session_id="t", at=T0 + timedelta(hours=1))])
    with closing(prune(T0.date() + DAY, at=T0 + 5 * DAY, batch_size=1)) as chunks:
        next(chunks)
    with pytest.raises(SealedDay):
        erase("t")


@pytest.mark.django_db
@pytest.mark.parametrize("before", ["2026-01-01", T0])
def test_what_is_no_day_is_refused(before):
    with pytest.raises(ValueError, match="not a date"):
        prune(before)


@pytest.mark.django_db
def test_a_pruning_that_died_is_stopped_by_one_of_another_day():
    record_page_views(a_hit(at=T0 + days * DAY) for days in range(4))
    dead = prune(T0.date() + DAY, at=T0 + 9 * DAY, batch_size=1)
    next(dead)
    list(prune(T0.date() + 2 * DAY, at=T0 + 9 * DAY))
    runs = Run.objects.filter(kind=Run.Kind.PRUNE).order_by("pk")
    assert [run.status for run in runs] == ["stopped", "finished"]
    dead.close()
