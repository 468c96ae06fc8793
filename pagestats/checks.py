"""System checks: what is plausible but wrong, each with an id of its own and a hint."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.urls import NoReverseMatch, reverse

from pagestats import content, identity, recount, rollups
from pagestats.conf import Settings, conf
from pagestats.models import Calendar, PageView

MIDDLEWARE = "pagestats.middleware.PageViewMiddleware"
ANSWER_IN_OUR_PLACE = (
    "django.middleware.cache.FetchFromCacheMiddleware",
    "django.middleware.cache.CacheMiddleware",
)


@register("pagestats")
def check_settings(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Say which settings have a value that they do not take."""
    return [
        Error(fault, hint=setting.hint, id="pagestats.E001") for setting in Settings.all() if (fault := setting.fault())
    ]


@register("pagestats")
def check_time_zone_support(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse naive local times: an hour that comes twice a year cannot be told apart in them."""
    if settings.USE_TZ:
        return []
    return [
        Error(
            "USE_TZ is False: page views of the hour that comes twice when summer time ends could not be told apart.",
            hint="Set USE_TZ = True, Django's default.",
            id="pagestats.E002",
        )
    ]


@register("pagestats")
def check_local_times(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse a database that keeps local times, for the same reason."""
    fault = settings.USE_TZ and recount.local_times(using=router.db_for_write(PageView))
    return [Error(fault, hint=recount.WITHOUT_LOCAL_TIMES, id="pagestats.E005")] if fault else []


@register("pagestats")
def check_middleware(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Say when the middleware is not there, or sits where it does not see every page."""
    middleware = list(settings.MIDDLEWARE)
    if MIDDLEWARE not in middleware:
        return [
            Warning(
                f"{MIDDLEWARE} is not in MIDDLEWARE: no page is recorded unless your own code or a browser does.",
                hint="Put it first in MIDDLEWARE, or silence pagestats.W001.",
                id="pagestats.W001",
            )
        ]
    return [
        Warning(
            f"{MIDDLEWARE} comes after {other} in MIDDLEWARE: pages that are answered from the cache are not recorded.",
            hint="Put it first in MIDDLEWARE.",
            id="pagestats.W002",
        )
        for other in middleware[: middleware.index(MIDDLEWARE)]
        if other in ANSWER_IN_OUR_PLACE
    ]


@register("pagestats")
def check_content(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Say which content sources cannot be queried."""
    return [Error(fault.fault, hint=fault.hint, id="pagestats.E003") for fault in content.faults()]


@register("pagestats")
def check_identity(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Say when an identity leads nowhere, and when one needs a browser's beacons and has no address for them."""
    if Settings.IDENTITY.fault():
        return []  # said by check_settings
    try:
        identity.configured()
    except ImproperlyConfigured as error:
        hint = 'Use "anonymous", "cookie", "client", or the dotted path of a function or class of your own.'
        return [Error(str(error), hint=hint, id="pagestats.E004")]
    if conf.IDENTITY == "client" and not _takes_beacons():
        return [
            Warning(
                'PAGESTATS_IDENTITY is "client", but no URL takes what browsers send: no page is recorded.',
                hint='Add path("hello/", include("pagestats.beacons")) to your URLconf, for the tracker, or use another'
                " identity.",
                id="pagestats.W004",
            )
        ]
    return []


def _takes_beacons() -> bool:
    """Tell whether pagestats.urls or pagestats.beacons is somewhere in the URLconf."""
    for name in ("pagestats:stats-page-views", "pagestats_beacons:views"):
        with suppress(NoReverseMatch):
            reverse(name)
            return True
    return False


@register("pagestats")
def check_connection_pool(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Say when worker processes of the cluster would share the connections of a pool."""
    if "django_q" not in settings.INSTALLED_APPS:
        return []
    return [
        Warning(
            f"DATABASES[{alias!r}] has a connection pool, and the processes that django-q2 forks would share it.",
            hint="Take 'pool' out of its OPTIONS in the settings that `manage.py qcluster` runs with.",
            id="pagestats.W003",
        )
        for alias, database in settings.DATABASES.items()
        if "postg" in database.get("ENGINE", "") and database.get("OPTIONS", {}).get("pool")
    ]


@register(Tags.database)
def check_reporting_zone(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Say when days are reckoned in another zone than the site's. Only `migrate` and `check --database` ask this."""
    using = router.db_for_write(Calendar)
    if using not in (databases or ()) or Calendar._meta.db_table not in connections[using].introspection.table_names():
        return []
    calendar = Calendar.objects.using(using).filter(pk=Calendar.ROW).first()
    if calendar is None or calendar.zone == settings.TIME_ZONE:
        return []
    return [
        Warning(
            f"TIME_ZONE is {settings.TIME_ZONE!r}, and the reporting days of the figures are those of {calendar.zone}.",
            hint=f"{rollups.where_zones_differ(calendar)} Or silence pagestats.W005.",
            id="pagestats.W005",
        )
    ]
