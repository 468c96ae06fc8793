"""What the API says of itself: drf-spectacular writes it down, schemathesis takes it at its word."""

import pytest

from pagestats import dimensions
from pagestats.api import openapi
from pagestats.intake import Drop, answers, beacons, eligibility
from tests.described_site import described, take_at_its_word
from tests.factories import A_SECTION

pytestmark = [
    pytest.mark.urls("tests.described_site"),
    pytest.mark.usefixtures("the_site"),
    pytest.mark.any_database("a description of the API, not of its figures"),
]


def test_each_operation_is_described_without_a_warning():
    operations = {
        (method, path_): operation
        for path_, methods in described()["paths"].items()
        for method, operation in methods.items()
    }
    assert {key: operation["operationId"] for key, operation in operations.items()} == {
        ("get", "/api/stats/"): "stats_retrieve",
        ("get", "/api/stats/active/"): "stats_active",
        ("get", "/api/stats/report/"): "stats_report",
        ("post", "/api/stats/page-views/"): "stats_record_page_view",
        ("post", "/api/stats/heartbeats/"): "stats_record_heartbeat",
    }
    for operation in operations.values():
        assert operation["summary"]
        assert operation["description"]
        assert all(response["description"] for response in operation["responses"].values())


def test_each_status_that_a_test_of_the_api_knows_is_described():
    operations = described()["paths"]
    assert set(operations["/api/stats/"]["get"]["responses"]) == {"200", "400", "401", "403", "429", "503"}
    assert set(operations["/api/stats/report/"]["get"]["responses"]) == {
        "200",
        "400",
        "401",
        "403",
        "404",
        "429",
        "503",
    }
    sent = {"204", "400", "403", "404", "411", "413", "415", "429", "503"}
    for name in ("page-views", "heartbeats"):
        assert set(operations[f"/api/stats/{name}/"]["post"]["responses"]) == sent
    drops = [drop for module in (beacons, eligibility, answers) for drop in vars(module).values() if type(drop) is Drop]
    assert len(drops) > 10
    assert {drop.status for drop in drops} <= openapi.SENDING.keys()


def test_the_dimensions_of_the_register_are_described():
    def parameter():
        [found] = [
            parameter
            for parameter in described()["paths"]["/api/stats/report/"]["get"]["parameters"]
            if parameter["name"] == "dimension"
        ]
        return found

    assert parameter()["schema"]["enum"] == ["page"]
    with dimensions.also(A_SECTION):
        assert parameter()["schema"]["enum"] == ["page", "section"]
        assert "`section` (Sections)" in parameter()["description"]


@pytest.mark.parametrize(("identity", "fields"), [("anonymous", {"path"}), ("client", {"path", "session_id"})])
def test_a_session_id_is_described_where_it_is_taken(settings, identity, fields):
    settings.PAGESTATS_IDENTITY = identity
    body = described()["paths"]["/api/stats/page-views/"]["post"]["requestBody"]
    assert body["required"]
    assert set(body["content"]) == {"application/json", "text/plain"}
    for content in body["content"].values():
        assert set(content["schema"]["properties"]) == set(content["schema"]["required"]) == fields
    beat = described()["paths"]["/api/stats/heartbeats/"]["post"]["requestBody"]["content"]["text/plain"]["schema"]
    assert set(beat["required"]) == fields
    assert set(beat["properties"]) == {*fields, "rendered", "elapsed"}


@pytest.mark.parametrize(("public", "security"), [(False, [{"cookieAuth": []}]), (True, [{"cookieAuth": []}, {}])])
def test_a_login_is_described_where_it_is_needed(settings, public, security):
    settings.PAGESTATS_PUBLIC = public
    operations = described()["paths"]
    for figures in ("/api/stats/", "/api/stats/report/"):
        assert operations[figures]["get"]["security"] == security
    assert "security" not in operations["/api/stats/heartbeats/"]["post"]


def test_schemathesis_finds_nothing(a_server, settings, tmp_path):
    settings.PAGESTATS_IDENTITY = "client"
    take_at_its_word(a_server, tmp_path, examples=25)
