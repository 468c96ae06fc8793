"""What the API says of itself: drf-spectacular writes it down, schemathesis takes it at its word."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.http import JsonResponse
from django.test import Client
from django.urls import include, path
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from pytest_django.live_server_helper import LiveServer

from pagestats import dimensions
from pagestats.api import openapi
from pagestats.hits import instant
from pagestats.intake import Drop, answers, beacons, eligibility
from pagestats.models import PageView
from pagestats.recording import record_page_view
from tests.agents import CHROME
from tests.factories import A_SECTION, a_hit

urlpatterns = [
    path("api/", include("pagestats.urls")),
    path("hello/", include("pagestats.beacons")),  # the same again, which is described once
    path("schema", lambda request: JsonResponse(described())),
]
pytestmark = [pytest.mark.urls(__name__), pytest.mark.any_database("a description of the API, not of its figures")]


@pytest.fixture(autouse=True)
def the_site(settings):
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if not name.startswith("pagestats.")]
    settings.PAGESTATS_CLIENT_PATHS = [r"/[\s\S]*"]
    settings.PAGESTATS_THROTTLE = settings.PAGESTATS_THROTTLE_NEW_PATHS = "100000/s"


def described():
    GENERATOR_STATS.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        described = SchemaGenerator(patterns=urlpatterns[:2]).get_schema(request=None, public=True)
    assert not GENERATOR_STATS, GENERATOR_STATS.emit_summary()
    validate_schema(described)
    return described


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


PATIENCE = 1200  # seconds, of a long search on a busy machine
HOOKS = """
import json
import schemathesis

@schemathesis.serializer("text/plain")
def as_text(context, value):
    return value if isinstance(value, bytes) else json.dumps(value).encode()
"""


# No schema says that one parameter comes after another.
MAY_BE_REFUSED = """
[[operations]]
include-path = "/api/stats/report/"
checks.positive_data_acceptance.expected-statuses = [200, 400]
"""


@pytest.fixture
def a_server(settings, transactional_db):
    """The site over HTTP. Its handler is made now, of the settings of this test."""
    server = LiveServer("127.0.0.1")
    yield server
    server.stop()


def take_at_its_word(server, tmp_path, *, examples):
    """Let schemathesis try what the description says, with a login for the reading and as a page of the site."""
    client = Client()
    client.force_login(User.objects.create_superuser("reader"))
    record_page_view(a_hit(at=instant(None)))
    (tmp_path / "hooks.py").write_text(HOOKS)
    (tmp_path / "schemathesis.toml").write_text(
        f'[auth.openapi.cookieAuth]\napi_key = "{client.cookies["sessionid"].value}"\n' + MAY_BE_REFUSED
    )
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/schema", "--checks", "all"]
    command += ["--phases", "coverage,fuzzing", "--max-examples", str(examples), "--seed", "1", "--no-color"]
    command += ["--header", f"User-Agent: {CHROME}", "--header", "Sec-Fetch-Site: same-origin"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert PageView.objects.count() > 5
    print(done.stdout)


def test_schemathesis_finds_nothing(a_server, settings, tmp_path):
    settings.PAGESTATS_IDENTITY = "client"
    take_at_its_word(a_server, tmp_path, examples=25)


@pytest.mark.prove
@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("identity", ["anonymous", "client"])
def test_schemathesis_finds_nothing_in_a_long_search(a_server, settings, tmp_path, identity):
    settings.PAGESTATS_IDENTITY = identity
    take_at_its_word(a_server, tmp_path, examples=150)
