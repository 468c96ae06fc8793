from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction

from pagestats.models import ActiveSession, PageTotal, PageView, Rollup, Visitor
from pagestats.recording import record_heartbeat, record_page_view, record_page_views
from tests.factories import T0, a_hit, raw_views

ALIKE = ["/a", "/A", "/a ", "/á", "/a\u0301", "/a/", "/а", "/ａ", "/🙂", "/🙃", "", "/ß", "/ss", "\u200b/a", "/a\t"]


@pytest.mark.django_db
def test_paths_that_only_look_alike_are_different_pages():
    assert record_page_views([a_hit(path=path) for path in ALIKE]) == len(ALIKE)
    assert sorted(PageTotal.objects.values_list("path", flat=True)) == sorted(ALIKE)
    assert sorted(Rollup.objects.filter(dimension="page").values_list("value", flat=True)) == sorted(ALIKE)


@pytest.mark.django_db
def test_session_ids_that_only_look_alike_are_different_visitors():
    assert record_page_views([a_hit(session_id=session_id) for session_id in ALIKE]) == len(ALIKE)
    assert sorted(Visitor.objects.values_list("session_id", flat=True)) == sorted(ALIKE)
    for session_id in ALIKE:
        assert record_heartbeat(a_hit(session_id=session_id)) == "created"
    assert ActiveSession.objects.count() == len(ALIKE)


@pytest.mark.django_db
def test_instants_are_kept_to_the_microsecond():
    at = T0 + timedelta(microseconds=123_457)
    view = record_page_view(a_hit(at=at))
    record_heartbeat(a_hit(at=at))
    assert PageView.objects.get(pk=view.pk).timestamp == at
    assert ActiveSession.objects.get().last_seen == at
    assert PageTotal.objects.get().first_viewed == at
    assert Visitor.objects.get().first_seen == at


@pytest.mark.django_db
def test_the_longest_texts_fit_in_every_character():
    hit = a_hit(path="🙂" * 512, session_id="🙃" * 64)
    assert record_page_view(hit).path == "🙂" * 512
    assert Rollup.objects.get(dimension="page").value == "🙂" * 512
    assert record_page_view(hit) is None


@pytest.mark.django_db
def test_a_row_from_elsewhere_is_pending():
    (view,) = raw_views([("/a", "s", T0)])
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO pagestats_pageview (path, page_type, session_id, timestamp) VALUES ('/b', '', 's', %s)",
            [connection.ops.adapt_datetimefield_value(T0)],
        )
    assert not PageView.objects.get(pk=view.pk).rolled_up
    assert PageView.objects.pending().count() == 2


@pytest.mark.django_db
def test_a_session_is_active_once():
    ActiveSession.objects.create(session_id="s", current_path="/a", last_seen=T0)
    with pytest.raises(IntegrityError), transaction.atomic():
        ActiveSession.objects.create(session_id="s", current_path="/b", last_seen=T0)


@pytest.mark.django_db
def test_no_system_check_fires_on_this_database():
    out = StringIO()
    # Of this app's: django-q2's own index draws a warning of Django's on MariaDB.
    call_command("check", "pagestats", databases=["default"], fail_level="DEBUG", stdout=out)
    assert "System check identified no issues (0 silenced)." in out.getvalue()


@pytest.mark.django_db
def test_each_index_is_there_once_and_none_that_was_not_asked_for():
    with connection.cursor() as cursor:
        constraints = {
            (model._meta.model_name, *constraint["columns"])
            for model in (PageView, ActiveSession, Visitor, PageTotal, Rollup)
            for constraint in connection.introspection.get_constraints(cursor, model._meta.db_table).values()
            if constraint["index"] or constraint["primary_key"]
        }
        count = sum(
            bool(constraint["index"])
            for model in (PageView, ActiveSession, Visitor, PageTotal, Rollup)
            for constraint in connection.introspection.get_constraints(cursor, model._meta.db_table).values()
            if not constraint["primary_key"] and not constraint["unique"]
        )
    assert constraints == {
        ("pageview", "id"),
        ("pageview", "session_id", "path", "timestamp"),
        ("pageview", "path", "timestamp"),
        ("pageview", "timestamp"),
        ("pageview", "rolled_up", "id"),
        ("activesession", "session_id"),
        ("activesession", "last_seen"),
        ("visitor", "session_id"),
        ("pagetotal", "path"),
        ("pagetotal", "views", "path"),
        ("rollup", "dimension", "value", "day"),
    }
    # Where an index can be partial, that of the pending views of a path has the columns of another one.
    assert count == (7 if connection.features.supports_partial_indexes else 6)


@pytest.mark.django_db
def test_the_index_of_pending_views_holds_only_those_where_the_database_can():
    if not connection.features.supports_partial_indexes:
        assert connection.vendor == "mysql"
        return
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT sql FROM sqlite_master WHERE name = 'pagestats_view_pending'")
        else:
            cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'pagestats_view_pending'")
        (definition,) = cursor.fetchone()
    assert "WHERE" in definition
