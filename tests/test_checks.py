from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

from pagestats.conf import Settings, conf

WRONG = {
    "ENABLED": "yes",
    "DEDUP_WINDOW": 30,
    "SESSION_TIMEOUT": timedelta(0),
    "HEARTBEAT_DEDUP": None,
    "BACKFILL_BATCH_SIZE": 0,
    "EXCLUDE": ["admin"],
    "EXCLUDE_STAFF": None,
    "COUNT_NO_STORE": "no",
    "IDENTITY": "fingerprint",
    "TRUSTED_PROXIES": ["10.0.0.1/8"],
    "PUBLIC": 1,
    "CLIENT_PATHS": ["("],
    "CONTENT": {"posts": {"model": "blog.Post"}},
}


def ours():
    return run_checks(tags=["pagestats"])


def test_a_site_with_default_settings_is_told_nothing():
    assert ours() == []


def test_there_is_a_wrong_value_for_each_setting():
    assert [f"PAGESTATS_{name}" for name in WRONG] == [setting.name for setting in Settings.all()]


@pytest.mark.parametrize(("name", "value"), WRONG.items(), ids=WRONG.keys())
def test_a_value_that_a_setting_does_not_take_is_said_with_the_value_and_a_hint(settings, name, value):
    setattr(settings, f"PAGESTATS_{name}", value)
    (message,) = ours()
    assert message.id == "pagestats.E001"
    assert message.msg.startswith(f"PAGESTATS_{name} is {value!r}, not ")
    assert message.hint.startswith("Use ")


@pytest.mark.parametrize(("name", "value"), WRONG.items(), ids=WRONG.keys())
def test_a_value_that_a_setting_does_not_take_is_refused_in_the_same_words_where_it_is_read(settings, name, value):
    setattr(settings, f"PAGESTATS_{name}", value)
    (message,) = ours()
    with pytest.raises(ImproperlyConfigured) as refused:
        getattr(conf, name)
    assert str(refused.value) == f"{message.msg} {message.hint}"


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
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django_q"]
    (message,) = ours()
    assert message.id == "pagestats.W003"
    assert message.msg.startswith("DATABASES['pooled'] has a connection pool")
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django_q"]
    assert ours() == []
