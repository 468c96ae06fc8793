"""System checks: what is plausible but wrong. `Check` is the table of all of them; the functions below say when.

An id keeps its meaning for ever, so that a site may silence it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from difflib import get_close_matches
from enum import Enum
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


class Check(Enum):
    """What can be wrong with a site: an id, what it reports (as the README lists it), its message and its hint.

    The message and the hint have names in braces for the values that `found` fills in.
    """

    SETTING_VALUE = (
        "E001",
        "A setting of pagestats has an invalid value.",
        "{fault}",
        "{hint}",
    )
    NO_TIME_ZONES = (
        "E002",
        "`USE_TZ` is False.",
        "USE_TZ is False: page views of the hour that occurs twice when summer time ends could not be told apart.",
        "Set USE_TZ = True, Django's default.",
    )
    CONTENT_SOURCE = (
        "E003",
        "A content source names a model, field, lookup or URL pattern that does not exist.",
        "{fault}",
        "{hint}",
    )
    IDENTITY = (
        "E004",
        "The identity can't be imported, or can't be called as it must be.",
        "{fault}",
        'Use "anonymous", "cookie", "client", or the dotted path of a function or class of your own.',
    )
    LOCAL_TIMES = (
        "E005",
        "The database stores local times: `TIME_ZONE` is set in `DATABASES`.",
        "{fault}",
        "{hint}",
    )
    NO_MIDDLEWARE = (
        "W001",
        "The middleware is not in `MIDDLEWARE`.",
        "{middleware} is not in MIDDLEWARE: pages are recorded only by your own code or by browsers.",
        "Put it first in MIDDLEWARE, or silence pagestats.W001.",
    )
    MIDDLEWARE_BEHIND_CACHE = (
        "W002",
        "The middleware comes after one that answers from the cache.",
        "{middleware} comes after {other} in MIDDLEWARE: pages that are answered from the cache are not recorded.",
        "Put it first in MIDDLEWARE.",
    )
    CONNECTION_POOL = (
        "W003",
        "The worker processes of the cluster would share a connection pool.",
        "DATABASES[{alias!r}] has a connection pool, which the processes that django-q2 forks would share.",
        "Take 'pool' out of its OPTIONS in the settings that `manage.py qcluster` runs with.",
    )
    NO_BEACONS = (
        "W004",
        'The identity is "client", but no URL takes the beacons of browsers.',
        'PAGESTATS_IDENTITY is "client", but no URL takes the beacons of browsers: no page is recorded.',
        'Add path("hello/", include("pagestats.beacons")) to your URLconf for the tracker, or use another identity.',
    )
    REPORTING_ZONE = (
        "W005",
        "`TIME_ZONE` is not the zone of the stored reporting days. Only `migrate` and `check --database` report this.",
        "TIME_ZONE is {zone!r}, but the stored reporting days are those of {stored}.",
        "{hint} Or silence pagestats.W005.",
    )
    NO_COLUMN_OF_VIEWS = (
        "W006",
        "An admin of your own, with `ViewsAdminMixin`, can't show the views of its model.",
        "{fault}",
        "The column of views stays empty until this is fixed.",
    )
    UNKNOWN_SETTING = (
        "W007",
        "A setting begins with `PAGESTATS_`, but pagestats has no such setting.",
        "{name} is in your settings, but pagestats has no such setting: it does nothing.",
        "{guess}Correct or remove it, or silence pagestats.W007.",
    )
    RARE_HEARTBEATS = (
        "W008",
        "`PAGESTATS_HEARTBEAT_DEDUP` is not shorter than `PAGESTATS_SESSION_TIMEOUT`.",
        "PAGESTATS_HEARTBEAT_DEDUP is {dedup}, and PAGESTATS_SESSION_TIMEOUT is {timeout}: a visitor who stays on a"
        " page counts as gone before the next heartbeat is stored.",
        "Make PAGESTATS_HEARTBEAT_DEDUP a fraction of PAGESTATS_SESSION_TIMEOUT.",
    )
    LONG_WINDOW = (
        "W009",
        "`PAGESTATS_DEDUP_WINDOW` is longer than an anonymous id lives.",
        "PAGESTATS_DEDUP_WINDOW is {window}, but an anonymous id lives one day: a visitor who comes back on another day"
        " has another id, and counts again.",
        'Use at most a day, or PAGESTATS_IDENTITY = "cookie".',
    )
    NO_CLUSTER = (
        "W010",
        "A setting needs the cluster, but `django_q` is not in `INSTALLED_APPS`.",
        '{setting} is {value}, but "django_q" is not in INSTALLED_APPS: no cluster does this work.',
        "Add it, and start manage.py qcluster. Or let cron call manage.py {command}, and silence pagestats.W010.",
    )
    MIDDLEWARE_TWICE = (
        "W011",
        "The middleware is in `MIDDLEWARE` more than once.",
        "{middleware} is {times} times in MIDDLEWARE: each page is judged as often, and counted as a repeat.",
        "Keep the first one, and remove the others.",
    )
    UNKNOWN_NAMESPACE = (
        "W012",
        "`PAGESTATS_EXCLUDE` names a URL namespace that does not exist.",
        "PAGESTATS_EXCLUDE has {place!r}, but no URL namespace has this name: it excludes nothing.",
        "{guess}Correct or remove it, or silence pagestats.W012.",
    )

    def __init__(self, number: str, reports: str, message: str, hint: str) -> None:
        self.id = f"pagestats.{number}"
        self.level: Callable[..., CheckMessage] = Error if number.startswith("E") else Warning
        self.reports = reports
        self.templates = message, hint

    def found(self, *, obj: Any = None, **values: Any) -> CheckMessage:
        """Return the message with its values.

        Args:
            obj: what it is about, where it is not the settings.
        """
        message, hint = (template.format(**values) for template in self.templates)
        return self.level(message, hint=hint, obj=obj, id=self.id)


@register("pagestats")
def check_settings(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report the settings that have an invalid value."""
    return [
        Check.SETTING_VALUE.found(fault=fault, hint=setting.hint)
        for setting in Settings.all()
        if (fault := setting.fault())
    ]


@register("pagestats")
def check_names(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report settings that look like one of this app's but aren't: a misspelt name does nothing."""
    known = [setting.name for setting in Settings.all()]
    return [
        Check.UNKNOWN_SETTING.found(name=name, guess=_guess(name, known, prefix="PAGESTATS_"))
        for name in dir(settings)
        if name.startswith("PAGESTATS_") and name not in known
    ]


def _guess(name: str, known: Sequence[str], *, prefix: str = "") -> str:
    """Return a question for the known name that may be meant, or "" if none is similar; all begin with a prefix."""
    found = get_close_matches(name.removeprefix(prefix), [one.removeprefix(prefix) for one in known], n=1, cutoff=0.5)
    return "".join(f"Did you mean {prefix}{one}? " for one in found)


@register("pagestats")
def check_durations(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a duration that leaves no room for another one."""
    durations = Settings.HEARTBEAT_DEDUP, Settings.SESSION_TIMEOUT, Settings.DEDUP_WINDOW, Settings.IDENTITY
    if any(setting.fault() for setting in durations):
        return []  # reported by check_settings
    found = []
    if conf.HEARTBEAT_DEDUP >= conf.SESSION_TIMEOUT:
        found.append(Check.RARE_HEARTBEATS.found(dedup=conf.HEARTBEAT_DEDUP, timeout=conf.SESSION_TIMEOUT))
    if conf.IDENTITY == "anonymous" and timedelta(days=1) < conf.DEDUP_WINDOW:
        found.append(Check.LONG_WINDOW.found(window=conf.DEDUP_WINDOW))
    return found


@register("pagestats")
def check_cluster(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report the settings that need a cluster where there is none."""
    if "django_q" in settings.INSTALLED_APPS or Settings.ROLLUPS.fault() or Settings.KEEP_PAGE_VIEWS.fault():
        return []
    found = []
    if conf.ROLLUPS == "deferred":
        command = "backfill_aggregates"
        found.append(Check.NO_CLUSTER.found(setting=Settings.ROLLUPS.name, value='"deferred"', command=command))
    if conf.KEEP_PAGE_VIEWS is not None:
        name, value = Settings.KEEP_PAGE_VIEWS.name, conf.KEEP_PAGE_VIEWS
        found.append(Check.NO_CLUSTER.found(setting=name, value=value, command="pagestats_prune"))
    return found


@register("pagestats")
def check_time_zone_support(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report that the site has no time zones: naive local times of an hour that occurs twice a year are ambiguous."""
    return [] if settings.USE_TZ else [Check.NO_TIME_ZONES.found()]


@register("pagestats")
def check_local_times(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a database that stores local times, for the same reason."""
    fault = settings.USE_TZ and recount.local_times(using=router.db_for_write(PageView))
    return [Check.LOCAL_TIMES.found(fault=fault, hint=recount.WITHOUT_LOCAL_TIMES)] if fault else []


@register("pagestats")
def check_middleware(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a middleware that is missing, that is there twice, or that a cache keeps from seeing every page."""
    middleware = list(settings.MIDDLEWARE)
    if (times := middleware.count(MIDDLEWARE)) > 1:
        return [Check.MIDDLEWARE_TWICE.found(middleware=MIDDLEWARE, times=times)]
    if MIDDLEWARE not in middleware:
        return [Check.NO_MIDDLEWARE.found(middleware=MIDDLEWARE)]
    return [
        Check.MIDDLEWARE_BEHIND_CACHE.found(middleware=MIDDLEWARE, other=other)
        for other in middleware[: middleware.index(MIDDLEWARE)]
        if other in ANSWER_IN_OUR_PLACE
    ]


@register("pagestats")
def check_exclude(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report excluded namespaces that the site doesn't have: what a misspelt one should exclude is recorded."""
    if Settings.EXCLUDE.fault() or not getattr(settings, "ROOT_URLCONF", None):
        return []  # reported by check_settings; and a process without URLs, such as a worker, excludes nothing
    known = [f"{namespace}:" for namespace in patterns.namespaces()]
    return [
        Check.UNKNOWN_NAMESPACE.found(place=place, guess=_guess(place, known))
        for place in conf.EXCLUDE
        if place.endswith(":") and place not in known and place not in Settings.EXCLUDE.default
    ]


@register("pagestats")
def check_content(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report the content sources that can't be queried."""
    return [Check.CONTENT_SOURCE.found(fault=fault.fault, hint=fault.hint) for fault in content.find_faults()]


@register("pagestats")
def check_identity(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report an identity that can't be used, and one that needs beacons where no URL takes them."""
    if Settings.IDENTITY.fault():
        return []  # reported by check_settings
    try:
        identity.refuse_other_arguments()
    except ImproperlyConfigured as error:
        return [Check.IDENTITY.found(fault=error)]
    return [Check.NO_BEACONS.found()] if conf.IDENTITY == "client" and not _takes_beacons() else []


def _takes_beacons() -> bool:
    """Return whether pagestats.urls or pagestats.beacons is somewhere in the URLconf."""
    for name in ("pagestats:stats-page-views", "pagestats_beacons:views"):
        with suppress(NoReverseMatch):
            reverse(name)
            return True
    return False


@register("pagestats")
def check_connection_pool(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a connection pool that the worker processes of the cluster would share."""
    if "django_q" not in settings.INSTALLED_APPS:
        return []
    return [
        Check.CONNECTION_POOL.found(alias=alias)
        for alias, database in settings.DATABASES.items()
        if "postg" in database.get("ENGINE", "") and database.get("OPTIONS", {}).get("pool")
    ]


@register(Tags.database)
def check_reporting_zone(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report days that are computed in another zone than the site's. Only `migrate` and `check --database` ask this."""
    using = router.db_for_write(Calendar)
    if using not in (databases or ()) or Calendar._meta.db_table not in connections[using].introspection.table_names():
        return []
    calendar = Calendar.objects.using(using).row().first()
    if calendar is None or calendar.zone == settings.TIME_ZONE:
        return []
    hint = rollups.where_zones_differ(calendar)
    return [Check.REPORTING_ZONE.found(zone=settings.TIME_ZONE, stored=calendar.zone, hint=hint)]
