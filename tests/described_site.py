"""A site that serves the description of its API, and schemathesis, which takes it at its word."""

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

from pagestats.hits import instant
from pagestats.models import PageView
from pagestats.recording import record_page_view
from tests.agents import CHROME
from tests.factories import a_hit

urlpatterns = [
    path("api/", include("pagestats.urls")),
    path("hello/", include("pagestats.beacons")),  # the same again, which is described once
    path("schema", lambda request: JsonResponse(described())),
]


def described():
    GENERATOR_STATS.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        described = SchemaGenerator(patterns=urlpatterns[:2]).get_schema(request=None, public=True)
    assert not GENERATOR_STATS, GENERATOR_STATS.emit_summary()
    validate_schema(described)
    return described


@pytest.fixture
def the_site(settings):
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if not name.startswith("pagestats.")]
    settings.PAGESTATS_CLIENT_PATHS = [r"/[\s\S]*"]
    settings.PAGESTATS_THROTTLE = settings.PAGESTATS_THROTTLE_NEW_PATHS = "100000/s"


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
