"""What the API says of itself, taken at its word in a long search."""

import pytest

from tests.described_site import PATIENCE, take_at_its_word

pytestmark = [
    pytest.mark.urls("tests.described_site"),
    pytest.mark.usefixtures("the_site"),
    pytest.mark.any_database("a description of the API, not of its figures"),
]


@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("identity", ["anonymous", "client"])
def test_schemathesis_finds_nothing_in_a_long_search(a_server, settings, tmp_path, identity):
    settings.PAGESTATS_IDENTITY = identity
    take_at_its_word(a_server, tmp_path, examples=150)
