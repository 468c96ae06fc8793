"""The figures of every range of days, compared with a count of the page views themselves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagestats.days import DAY
from tests.ranges import DAYS, ZONES, begin_of, compare_with_a_count, days_of, some_views


@pytest.mark.timeout(3600)
@pytest.mark.django_db
@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=150)
@given(data=st.data())
def test_every_range_is_what_the_page_views_say(zone, data):
    days = days_of(ZONES[zone], ZONES[zone] + (DAYS - 1) * DAY)
    views = data.draw(some_views(begin=begin_of(days[0], zone), days=DAYS))
    compare_with_a_count(views, zone, [(start, end) for start in days for end in days if start <= end])
