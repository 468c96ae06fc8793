import re
from datetime import timedelta
from types import ModuleType

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.urls import clear_url_caches, include, path

from pagestats.checks import CHECKS, check_reporting_zone
from pagestats.conf import Settings, conf
from tests import ROOT

WRONG = {
    "ENABLED": "yes",
    "DEDUP_WINDOW": 30,
    "SESSION_TIMEOUT": timedelta(0),
    "HEARTBEAT_DEDUP": None,
    "ROLLUPS": "eventually",
    "BACKFILL_BATCH_SIZE": 0,
    "SCHEDULES": "never",
    "CLEANUP_INTERVAL": timedelta(seconds=90),
    "KEEP_PAGE_VIEWS": timedelta(days=1),
    "EXCLUDE": ["admin"],
    "EXCLUDE_STAFF": None,
    "COUNT_NO_STORE": "no",
    "OPT_OUTS": ["gdpr"],
    "IDENTITY": "fingerprint",
    "TRUSTED_PROXIES": ["10.0.0.1/8"],
    "PUBLIC": 1,
    "CLIENT_PATHS": ["("],
    "THROTTLE": "often",
    "THROTTLE_NEW_PATHS": 100,
    "CONTENT": {"posts": {"model": "blog.Post"}},
}


def ours():
    return run_checks(tags=["pagestats"])


def test_a_site_with_default_settings_is_told_nothing():
    assert ours() == []


def test_there_is_a_wrong_value_for_each_setting():
    assert [f"PAGESTATS_{name}" for name in WRONG] == [setting.name for setting in Settings.all()]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *WRONG.items(),
        ("SESSION_TIMEOUT", timedelta.max),
        ("HEARTBEAT_DEDUP", timedelta(days=367)),
        ("KEEP_PAGE_VIEWS", timedelta(days=36_501)),
        ("BACKFILL_BATCH_SIZE", 10_001),
        ("BACKFILL_BATCH_SIZE", True),
        ("OPT_OUTS", [["gpc"]]),
        ("CLIENT_PATHS", ["a{99999999999}"]),
    ],
)
def test_a_wrong_setting_is_reported_with_its_value_and_a_hint(settings, name, value):
    setattr(settings, f"PAGESTATS_{name}", value)
    (message,) = ours()
    assert message.id == "pagestats.E001"
    assert message.msg.startswith(f"PAGESTATS_{name} is {value!r}, not ")
    assert message.hint.startswith("Use ")


@pytest.mark.parametrize(("name", "value"), WRONG.items(), ids=WRONG.keys())
def test_reading_a_wrong_setting_fails_with_the_words_of_its_check(settings, name, value):
    setattr(settings, f"PAGESTATS_{name}", value)
    (message,) = ours()
    with pytest.raises(ImproperlyConfigured) as refused:
        getattr(conf, name)
    assert str(refused.value) == f"{message.msg} {message.hint}"


SOURCE = {"model": "blog.Post", "published": {}, "title": "title", "slug": "slug", "type": "blog"}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("CONTENT", {"posts": SOURCE, 1: SOURCE}, "1 is not a string"),
        ("CONTENT", {"posts": "blog.Post"}, "'posts' is 'blog.Post', not a dict"),
        ("CONTENT", {"posts": {k: v for k, v in SOURCE.items() if k != "published"}}, "'posts' lacks 'published'"),
        ("CONTENT", {"posts": {**SOURCE, "slug": ""}}, "'posts' has '' for 'slug', not a string"),
        ("CONTENT", {"posts": {**SOURCE, "published": None}}, "'posts' has None for 'published', not a dict"),
        (
            "CONTENT",
            {"posts": {**SOURCE, "published": {1: 2}}},
            "'posts' has a lookup in 'published' that is not a string",
        ),
        (
            "CONTENT",
            {"posts": {**SOURCE, "url_name": "post", "arguments": {}}},
            "'posts' has 'slug'; its keys are model, published, title, type, url_name, arguments",
        ),
        (
            "CONTENT",
            {"posts": {**{k: v for k, v in SOURCE.items() if k != "slug"}, "url_name": "post", "arguments": {"a": 1}}},
            "'posts' has a name or a lookup in 'arguments' that is not a string",
        ),
        ("TRUSTED_PROXIES", ["unix", "10.0.0.1/8"], "10.0.0.1/8 has host bits set, write 10.0.0.0/8"),
        ("TRUSTED_PROXIES", ["a proxy"], "'a proxy' does not appear to be an IPv4 or IPv6 network"),
        ("CLIENT_PATHS", ["/a", "("], "'(', missing ), unterminated subpattern at position 0"),
    ],
)
def test_of_a_value_with_many_parts_the_part_that_is_wrong_is_said(settings, name, value, why):
    setattr(settings, f"PAGESTATS_{name}", value)
    (message,) = ours()
    assert message.msg.endswith(f": {why}.")


def test_a_name_that_is_no_setting_is_told(settings):
    settings.PAGESTATS_DEDUP = 5
    settings.PAGESTATS_XYZ = 5
    assert [(message.id, message.hint) for message in ours()] == [
        ("pagestats.W007", "Is it PAGESTATS_DEDUP_WINDOW? Or silence pagestats.W007."),
        ("pagestats.W007", "Or silence pagestats.W007."),
    ]


@pytest.mark.parametrize(
    ("heartbeat_dedup", "told"), [(timedelta(seconds=119), []), (timedelta(minutes=2), ["pagestats.W008"])]
)
def test_heartbeats_that_are_skipped_until_their_session_has_left_are_told(settings, heartbeat_dedup, told):
    settings.PAGESTATS_HEARTBEAT_DEDUP = heartbeat_dedup
    assert [message.id for message in ours()] == told


@pytest.mark.parametrize(
    ("identity", "days", "told"),
    [("anonymous", 1, []), ("anonymous", 2, ["pagestats.W009"]), ("cookie", 2, [])],
)
def test_a_window_that_is_longer_than_an_id_lives_is_told(settings, identity, days, told):
    settings.PAGESTATS_IDENTITY = identity
    settings.PAGESTATS_DEDUP_WINDOW = timedelta(days=days)
    assert [message.id for message in ours()] == told


def test_settings_that_count_on_a_cluster_that_is_not_there_are_told(settings):
    settings.PAGESTATS_ROLLUPS = "deferred"
    settings.PAGESTATS_KEEP_PAGE_VIEWS = timedelta(days=30)
    assert ours() == []
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django_q"]
    messages = ours()
    assert [message.id for message in messages] == ["pagestats.W010"] * 2
    assert "manage.py backfill_aggregates" in messages[0].hint
    assert "manage.py pagestats_prune" in messages[1].hint


def test_settings_are_read_each_time(settings):
    assert timedelta(minutes=30) == conf.DEDUP_WINDOW
    settings.PAGESTATS_DEDUP_WINDOW = timedelta(minutes=5)
    assert timedelta(minutes=5) == conf.DEDUP_WINDOW


def test_a_site_without_time_zone_support_is_refused(settings):
    settings.USE_TZ = False
    (message,) = ours()
    assert message.id == "pagestats.E002"
    assert message.hint == "Set USE_TZ = True, Django's default."


OURS = "pagestats.middleware.PageViewMiddleware"
CACHE = "django.middleware.cache.FetchFromCacheMiddleware"


def test_a_site_without_the_middleware_is_told(settings):
    settings.MIDDLEWARE = [CACHE]
    (message,) = ours()
    assert (message.id, message.hint) == ("pagestats.W001", "Put it first in MIDDLEWARE, or silence pagestats.W001.")


def test_a_site_with_the_middleware_behind_a_cache_is_told(settings):
    settings.MIDDLEWARE = [CACHE, OURS]
    (message,) = ours()
    assert (message.id, message.hint) == ("pagestats.W002", "Put it first in MIDDLEWARE.")
    assert CACHE in message.msg
    settings.MIDDLEWARE = [OURS, CACHE]
    assert ours() == []


def test_a_pool_of_connections_together_with_the_cluster_is_told(settings, monkeypatch):
    database = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": True}}
    monkeypatch.setitem(settings.DATABASES, "pooled", database)
    (message,) = ours()
    assert message.id == "pagestats.W003"
    assert message.msg.startswith("DATABASES['pooled'] has a connection pool")
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django_q"]
    assert ours() == []


def test_a_content_source_that_cannot_be_queried_is_told(settings):
    source = {"model": "blog.Post", "published": {}, "title": "no_such_field", "slug": "slug", "type": "blog"}
    settings.PAGESTATS_CONTENT = {"posts": source}
    (message,) = ours()
    assert message.id == "pagestats.E003"
    assert "PAGESTATS_CONTENT['posts']" in message.msg
    assert "no_such_field" in message.msg


@pytest.mark.parametrize("name", ["no.such.module", "datetime.date"])
def test_an_identity_that_leads_nowhere_is_told(settings, name):
    settings.PAGESTATS_IDENTITY = name
    (message,) = ours()
    assert message.id == "pagestats.E004"
    assert repr(name) in message.msg


def test_a_process_without_urls_is_checked_all_the_same(settings):
    settings.PAGESTATS_EXCLUDE = ["/private/", "blog:"]
    del settings.ROOT_URLCONF
    assert ours() == []


def of_the_request_alone(request):
    raise AssertionError(request)


of_the_request_alone.lifetime = "lasting"


def test_an_identity_that_takes_other_arguments_is_told(settings):
    settings.PAGESTATS_IDENTITY = "tests.unit.test_checks.of_the_request_alone"
    (message,) = ours()
    assert message.id == "pagestats.E004"
    assert "can't be called as (request, *, at, claimed): got an unexpected keyword argument 'at'." in message.msg


@pytest.mark.parametrize("name", ["member", "Daily", "OptedOut", "Number"])
def test_an_identity_of_the_site_is_fine(settings, name):
    settings.PAGESTATS_IDENTITY = f"tests.db.test_identity.{name}"
    assert ours() == []


def test_an_identity_of_the_browser_without_a_url_for_it_is_told(settings, urls_without_the_api):
    settings.PAGESTATS_IDENTITY = "client"
    (message,) = ours()
    assert message.id == "pagestats.W004"
    assert message.hint.startswith('Add path("hello/", include("pagestats.beacons"))')


@pytest.fixture
def urls_without_the_api(settings):
    module = ModuleType("urls_without_the_api")
    module.urlpatterns = []
    settings.ROOT_URLCONF = module
    return module


def test_an_identity_of_the_browser_with_a_url_for_it_is_told_nothing(settings, urls_without_the_api):
    settings.PAGESTATS_IDENTITY = "client"
    urls_without_the_api.urlpatterns = [path("api/", include("pagestats.urls"))]
    clear_url_caches()
    assert ours() == []


def test_a_database_without_the_tables_is_not_asked_for_the_zone(monkeypatch):
    monkeypatch.setattr(connection.introspection, "table_names", lambda: [])
    assert check_reporting_zone(None, databases=["default"]) == check_reporting_zone(None, databases=["another"]) == []


def test_a_middleware_that_is_there_twice_is_told(settings):
    settings.MIDDLEWARE = [OURS, CACHE, OURS]
    (message,) = ours()
    assert (message.id, message.msg.partition(" is ")[2][:7]) == ("pagestats.W011", "2 times")


@pytest.mark.parametrize(
    ("place", "hint"), [("admn:", "Is it admin:? Or silence pagestats.W012."), ("nope:", "Or silence pagestats.W012.")]
)
def test_an_excluded_namespace_that_is_not_there_is_told(settings, place, hint):
    settings.PAGESTATS_EXCLUDE = ["/private/", "admin:", place]
    (message,) = ours()
    assert (message.id, message.hint) == ("pagestats.W012", hint)
    assert repr(place) in message.msg


@pytest.mark.parametrize("pattern", ["app/.*", "^app/.*"])
def test_a_client_path_that_no_path_can_match_is_told(settings, pattern):
    settings.PAGESTATS_CLIENT_PATHS = [r"/docs/.*", pattern]
    (message,) = ours()
    assert message.id == "pagestats.E001"
    assert f"{pattern!r}, which matches no path, because every path begins with a slash" in message.msg
    settings.PAGESTATS_CLIENT_PATHS = [r"/docs/.*", r"^/app/.*", r"(/en)?/app", ".*"]
    assert ours() == []


def test_every_entry_of_the_table_is_reported_somewhere():
    code = "".join((ROOT / "pagestats" / name).read_text() for name in ("checks.py", "model_admin.py"))
    assert set(re.findall(r'message\("([EW]\d+)"', code)) == CHECKS.keys()
