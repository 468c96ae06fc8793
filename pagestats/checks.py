"""System checks: what is plausible but wrong, each with an id of its own and a hint."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.urls import NoReverseMatch, reverse

from pagestats import content, identity, rollups
from pagestats.conf import Settings, conf
from pagestats.content import patterns
from pagestats.models import Calendar, PageView
from pagestats.rollups import recount

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
def check_names(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Say which settings look like some of this app, and are none: a name that is misspelt does nothing."""
    known = [setting.name for setting in Settings.all()]
    unknown = [name for name in dir(settings) if name.startswith("PAGESTATS_") and name not in known]
    return [
        Warning(
            f"{name} is in your settings, and is no setting of pagestats: it does nothing.",
            hint=f"{_likely(name, known, prefix='PAGESTATS_')}Or silence pagestats.W007.",
            id="pagestats.W007",
        )
        for name in unknown
    ]


def _likely(name: str, known: Sequence[str], *, prefix: str = "") -> str:
    """Return a question for the name that one may be meant for, "" where none is like it; all begin with a prefix."""
    found = get_close_matches(name.removeprefix(prefix), [one.removeprefix(prefix) for one in known], n=1, cutoff=0.5)
    return "".join(f"Is it {prefix}{one}? " for one in found)


@register("pagestats")
def check_durations(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Say when one duration leaves no room for another."""
    durations = Settings.HEARTBEAT_DEDUP, Settings.SESSION_TIMEOUT, Settings.DEDUP_WINDOW, Settings.IDENTITY
    if any(setting.fault() for setting in durations):
        return []  # said by check_settings
    found: list[CheckMessage] = []
    if conf.HEARTBEAT_DEDUP >= conf.SESSION_TIMEOUT:
        found.append(
            Warning(
                f"PAGESTATS_HEARTBEAT_DEDUP is {conf.HEARTBEAT_DEDUP}, and PAGESTATS_SESSION_TIMEOUT is"
                f" {conf.SESSION_TIMEOUT}: who stays on a page counts as gone before a heartbeat is written again.",
                hint="Make PAGESTATS_HEARTBEAT_DEDUP a fraction of PAGESTATS_SESSION_TIMEOUT.",
                id="pagestats.W008",
            )
        )
    if conf.IDENTITY == "anonymous" and timedelta(days=1) < conf.DEDUP_WINDOW:
        found.append(
            Warning(
                f"PAGESTATS_DEDUP_WINDOW is {conf.DEDUP_WINDOW}, and an anonymous id lives one day: who comes back on"
                " another is somebody else, and counts again.",
                hint='Use at most a day, or PAGESTATS_IDENTITY = "cookie".',
                id="pagestats.W009",
            )
        )
    return found


@register("pagestats")
def check_cluster(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Say when a setting counts on a cluster that there is not."""
    if "django_q" in settings.INSTALLED_APPS or Settings.ROLLUPS.fault() or Settings.KEEP_PAGE_VIEWS.fault():
        return []
    asked = {
        'PAGESTATS_ROLLUPS is "deferred"': ("backfill_aggregates", conf.ROLLUPS == "deferred"),
        f"PAGESTATS_KEEP_PAGE_VIEWS is {conf.KEEP_PAGE_VIEWS}": ("pagestats_prune", conf.KEEP_PAGE_VIEWS is not None),
    }
    return [
        Warning(
            f'{what}, and "django_q" is not in INSTALLED_APPS: there is no cluster to do it.',
            hint=f"Add it, and start manage.py qcluster. Or let cron call manage.py {command}, and silence"
            " pagestats.W010.",
            id="pagestats.W010",
        )
        for what, (command, is_asked) in asked.items()
        if is_asked
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
    """Say when the middleware is not there, or sits behind a cache, where it does not see every page."""
    middleware = list(settings.MIDDLEWARE)
    if middleware.count(MIDDLEWARE) > 1:
        return [
            Warning(
                f"{MIDDLEWARE} is {middleware.count(MIDDLEWARE)} times in MIDDLEWARE: each page is looked at as often,"
                " and tallied as a repeat.",
                hint="Leave the first one, and take the others out.",
                id="pagestats.W011",
            )
        ]
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
def check_exclude(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Say which namespaces that are not to be recorded the site does not have: a name that is misspelt leaves in."""
    if Settings.EXCLUDE.fault() or not getattr(settings, "ROOT_URLCONF", None):
        return []  # said by check_settings; and without URLs, as a worker may be, nothing is excluded
    known = [f"{namespace}:" for namespace in patterns.namespaces()]
    unknown = [
        place
        for place in conf.EXCLUDE
        if place.endswith(":") and place not in known and place not in Settings.EXCLUDE.default
    ]
    return [
        Warning(
            f"PAGESTATS_EXCLUDE has {place!r}, and no URL namespace has this name: it leaves nothing out.",
            hint=f"{_likely(place, known)}Or silence pagestats.W012.",
            id="pagestats.W012",
        )
        for place in unknown
    ]


@register("pagestats")
def check_content(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Say which content sources cannot be queried."""
    return [Error(fault.fault, hint=fault.hint, id="pagestats.E003") for fault in content.find_faults()]


@register("pagestats")
def check_identity(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Say when an identity leads nowhere, and when one needs a browser's beacons and has no address for them."""
    if Settings.IDENTITY.fault():
        return []  # said by check_settings
    try:
        identity.refuse_other_arguments()
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
    calendar = Calendar.objects.using(using).row().first()
    if calendar is None or calendar.zone == settings.TIME_ZONE:
        return []
    return [
        Warning(
            f"TIME_ZONE is {settings.TIME_ZONE!r}, and the reporting days of the figures are those of {calendar.zone}.",
            hint=f"{rollups.where_zones_differ(calendar)} Or silence pagestats.W005.",
            id="pagestats.W005",
        )
    ]
