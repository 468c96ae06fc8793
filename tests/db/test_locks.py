"""The order in which rows are locked."""

from datetime import timedelta

import pytest

from pagestats import sql
from pagestats.models import ActiveSession, PageTotal, PageView, Rollup, Visitor
from pagestats.sql import Insert, locks
from pagestats.sql.writing import LOCK, Target
from tests.factories import T0

BEATS = Target.upserting(ActiveSession, key=["session_id"], changes={"current_path": "set", "last_seen": "set"})


def test_tables_come_in_one_order_and_may_be_left_out():
    assert locks.is_in_order([ActiveSession, Visitor, PageTotal, Rollup, PageView])
    assert locks.is_in_order([Visitor, Visitor, Rollup])
    assert locks.is_in_order([Rollup])
    assert not locks.is_in_order([Rollup, PageTotal])
    assert not locks.is_in_order([PageTotal, ActiveSession])


@pytest.mark.django_db
def test_writing_in_another_order_is_refused():
    inserts = [Insert(LOCK, [("s", 1)]), Insert(BEATS, [("s", "/a", T0 + timedelta(0))])]
    with pytest.raises(AssertionError):
        sql.write(inserts, using="default")
    assert sql.write(reversed(inserts), using="default") is not None
    assert Visitor.objects.count() == ActiveSession.objects.count() == 1
