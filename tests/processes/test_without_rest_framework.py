"""A site without Django REST framework has all but the API: the middleware, the tracker, the tags, the admin."""

import json
import subprocess
import sys

from django.contrib import admin
from django.http import HttpResponse
from django.template import Context, Template
from django.urls import include, path

from tests import ROOT


def a_page(request):
    return HttpResponse(Template("{% load pagestats %}<p>a page</p>{% pagestats_tracker %}").render(Context()))


urlpatterns = [
    path("", a_page),
    path("admin/", admin.site.urls),
    path("hello/", include("pagestats.beacons")),
]

A_SITE = """
import json, sys
sys.modules["rest_framework"] = None
import django
from django.conf import settings
settings.INSTALLED_APPS.remove("rest_framework")
settings.ROOT_URLCONF = "tests.processes.test_without_rest_framework"
settings.DATABASES["default"]["NAME"] = sys.argv[1]
django.setup()
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import Client
from pagestats.models import ActiveSession, PageView
from pagestats.testing import Browser
call_command("migrate", verbosity=0)
call_command("check")
browser, asked = Browser(headers={"sec-fetch-site": "same-origin"}), {"content_type": "application/json"}
page = browser.get("/")
statuses = {
    "page": page.status_code,
    "tracker": "data-beats" in page.content.decode() and browser.get("/hello/page.js").status_code,
    "view": browser.post("/hello/page/", {"path": "/"}, **asked).status_code,
    "heartbeat": browser.post("/hello/here/", {"path": "/"}, **asked).status_code,
    "error": browser.post("/hello/page/", {"path": ""}, **asked).json()["detail"],
    "unknown": browser.post("/hello/here/", {"path": "/nowhere"}, **asked).status_code,
    "views": PageView.objects.count(),
    "sessions": ActiveSession.objects.count(),
}
client = Client()
client.force_login(User.objects.create_superuser("reader"))
statuses["admin"] = client.get("/admin/pagestats/stats/").status_code
try:
    import pagestats.urls
except ImproperlyConfigured as error:
    statuses["api"] = str(error)
statuses["imported"] = [name for name in sys.modules if name.startswith("rest_framework.")]
print(json.dumps(statuses))
"""


def test_only_the_api_needs_rest_framework(tmp_path):
    environment = {
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PAGESTATS_TEST_DB": "sqlite",
    }
    command = [sys.executable, "-c", A_SITE, str(tmp_path / "site.sqlite3")]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen.pop("api").startswith("pagestats.urls is the API, which needs Django REST framework")
    assert seen == {
        "page": 200,
        "tracker": 200,
        "view": 204,
        "heartbeat": 204,
        "error": "path is empty.",
        "unknown": 404,
        "views": 1,
        "sessions": 1,
        "admin": 200,
        "imported": [],
    }
