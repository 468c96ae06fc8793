"""Short mixes of all that may happen to a site's page views: see tests/state_machine.py."""

import pytest
from django.db import connection

from tests.state_machine import run, sections_are_counted

pytestmark = pytest.mark.slow("hundreds of made-up lives of a site")


@pytest.mark.django_db
def test_any_mix_of_writers_is_exact_for_one_more_dimension():
    with sections_are_counted():
        run(examples=8 if connection.vendor == "sqlite" else 5, steps=25)


@pytest.mark.django_db
def test_any_mix_of_writers_leaves_the_truth_after_each_step():
    run(examples=8 if connection.vendor == "sqlite" else 5, steps=25)
