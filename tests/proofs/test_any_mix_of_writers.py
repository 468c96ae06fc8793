"""Long mixes of all that may happen to a site's page views: see tests/state_machine.py."""

import pytest

from tests.state_machine import (
    run,
    sections_are_counted,
)


@pytest.mark.timeout(3600)
@pytest.mark.django_db
def test_a_long_mix_of_writers_is_exact_for_one_more_dimension():
    with sections_are_counted():
        run(examples=60, steps=40, after_a_step=3, at_the_end=None)


@pytest.mark.timeout(3600)
@pytest.mark.django_db
def test_a_long_mix_of_writers_leaves_the_truth_after_each_step():
    run(examples=60, steps=40, after_a_step=3, at_the_end=None)
