"""System checks: settings and set-ups that look plausible but are wrong.

`CHECKS` is the table of all messages: each has an id that keeps its meaning for ever, what is wrong, and what to do.
The functions below it only find out when a message applies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, NamedTuple

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


class Check(NamedTuple):
    """One message that a check may give.

    Args:
        when: when it is given, as the documentation says it.
        text: what is wrong, with places for values.
        hint: what to do, with places for values. "{silence}" stands for how to silence the message.
    """

    when: str
    text: str
    hint: str


CHECKS = {
    "E001": Check("A setting has a value that it does not take", "{fault}", "{hint}"),
    "E002": Check(
        "`USE_TZ` is off",
        "USE_TZ is False: when summer time ends, one hour occurs twice, and its page views would be ambiguous.",
        "Set USE_TZ = True, Django's default.",
    ),
    "E003": Check("A content source names a model, a field or a URL that does not exist", "{fault}", "{hint}"),
    "E004": Check(
        "The identity can't be imported or called",
        "{fault}",
        'Use "anonymous", "cookie", "client", or the dotted path of a function or class of your own.',
    ),
    "E005": Check("The database stores local times", "{fault}", "{hint}"),
    "W001": Check(
        "The middleware is missing",
        f"{MIDDLEWARE} is not in MIDDLEWARE: no page is recorded unless your own code or a browser records it.",
        "Put it first in MIDDLEWARE, or {silence}.",
    ),
    "W002": Check(
        "The middleware comes after one that answers from a cache",
        f"{MIDDLEWARE} comes after {{other}} in MIDDLEWARE: pages answered from the cache are not recorded.",
        "Put it first in MIDDLEWARE.",
    ),
    "W003": Check(
        "Processes of the cluster would share the connections of a pool",
        "DATABASES[{alias!r}] has a connection pool, and the processes that django-q2 forks would share it.",
        "Take 'pool' out of its OPTIONS in the settings that `manage.py qcluster` runs with.",
    ),
    "W004": Check(
        "The identity is `client`, and no URL accepts beacons",
        'PAGESTATS_IDENTITY is "client", but no URL accepts what browsers send: no page is recorded.',
        'Add path("hello/", include("pagestats.beacons")) to your URLconf for the tracker, or use another identity.',
    ),
    "W005": Check(
        "`TIME_ZONE` is not the reporting zone",
        "TIME_ZONE is {time_zone!r}, but reporting days are those of {zone}.",
        "{advice} Or {silence}.",
    ),
    "W006": Check(
        "An admin with `ViewsAdminMixin` can't show the views of its model",
        "{fault}",
        "The column of views stays empty until this is fixed.",
    ),
    "W007": Check(
        "A setting is misspelt",
        "{name} is in your settings, but pagestats has no such setting: it has no effect.",
        "{likely}Or {silence}.",
    ),
    "W008": Check(
        "Heartbeats are skipped for longer than sessions stay active",
        "PAGESTATS_HEARTBEAT_DEDUP is {heartbeat_dedup}, and PAGESTATS_SESSION_TIMEOUT is {session_timeout}: a reader"
        " who stays on a page counts as gone before the next heartbeat is written.",
        "Make PAGESTATS_HEARTBEAT_DEDUP a fraction of PAGESTATS_SESSION_TIMEOUT.",
    ),
    "W009": Check(
        "The dedup window is longer than an anonymous id lives",
        "PAGESTATS_DEDUP_WINDOW is {dedup_window}, and an anonymous id lives one day: a reader who returns on another"
        " day has another id, and counts again.",
        'Use at most a day, or PAGESTATS_IDENTITY = "cookie".',
    ),
    "W010": Check(
        "A setting needs a cluster, and there is none",
        '{setting}, but "django_q" is not in INSTALLED_APPS: there is no cluster to do the work.',
        "Add it, and start manage.py qcluster. Or let cron run manage.py {command}, and {silence}.",
    ),
    "W011": Check(
        "The middleware is installed twice",
        f"{MIDDLEWARE} is {{count}} times in MIDDLEWARE: each page is judged as often, and counted as a repeat.",
        "Keep the first one, and remove the others.",
    ),
    "W012": Check(
        "`PAGESTATS_EXCLUDE` names a URL namespace that does not exist",
        "PAGESTATS_EXCLUDE has {place!r}, but there is no URL namespace of that name: it excludes nothing.",
        "{likely}Or {silence}.",
    ),
}
"""By the part of the id after "pagestats."; E is an error, W a warning. An id that was given up is never used again."""


def message(check_id: str, /, *, obj: Any = None, **values: Any) -> CheckMessage:
    """Return the message of an id, with its values filled in.

    Args:
        obj: what the message is about, if that is not the settings.
    """
    check = CHECKS[check_id]
    kind = Error if check_id.startswith("E") else Warning
    hint = check.hint.format(silence=f"silence pagestats.{check_id}", **values)
    return kind(check.text.format(**values), hint=hint, obj=obj, id=f"pagestats.{check_id}")


@register("pagestats")
def check_settings(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report settings with a value that they do not take."""
    return [message("E001", fault=fault, hint=setting.hint) for setting in Settings.all() if (fault := setting.fault())]


@register("pagestats")
def check_names(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report settings that look like those of this app but don't exist: a misspelt name has no effect."""
    known = [setting.name for setting in Settings.all()]
    unknown = [name for name in dir(settings) if name.startswith("PAGESTATS_") and name not in known]
    return [message("W007", name=name, likely=_likely(name, known, prefix="PAGESTATS_")) for name in unknown]


def _likely(name: str, known: Sequence[str], *, prefix: str = "") -> str:
    """Return a question with the known name that is most like another, or ""; all names begin with a prefix."""
    found = get_close_matches(name.removeprefix(prefix), [one.removeprefix(prefix) for one in known], n=1, cutoff=0.5)
    return "".join(f"Is it {prefix}{one}? " for one in found)


@register("pagestats")
def check_durations(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report durations that contradict each other."""
    durations = Settings.HEARTBEAT_DEDUP, Settings.SESSION_TIMEOUT, Settings.DEDUP_WINDOW, Settings.IDENTITY
    if any(setting.fault() for setting in durations):
        return []  # reported by check_settings
    found = []
    if conf.HEARTBEAT_DEDUP >= conf.SESSION_TIMEOUT:
        found.append(
            message("W008", heartbeat_dedup=conf.HEARTBEAT_DEDUP, session_timeout=conf.SESSION_TIMEOUT),
        )
    if conf.IDENTITY == "anonymous" and timedelta(days=1) < conf.DEDUP_WINDOW:
        found.append(message("W009", dedup_window=conf.DEDUP_WINDOW))
    return found


@register("pagestats")
def check_cluster(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report settings that need a cluster where there is none."""
    if "django_q" in settings.INSTALLED_APPS or Settings.ROLLUPS.fault() or Settings.KEEP_PAGE_VIEWS.fault():
        return []
    found = []
    if conf.ROLLUPS == "deferred":
        found.append(message("W010", setting='PAGESTATS_ROLLUPS is "deferred"', command="backfill_aggregates"))
    if conf.KEEP_PAGE_VIEWS is not None:
        setting = f"PAGESTATS_KEEP_PAGE_VIEWS is {conf.KEEP_PAGE_VIEWS}"
        found.append(message("W010", setting=setting, command="pagestats_prune"))
    return found


@register("pagestats")
def check_time_zone_support(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse naive local times, in which an hour comes twice a year."""
    return [] if settings.USE_TZ else [message("E002")]


@register("pagestats")
def check_local_times(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse a database that stores local times, for the same reason."""
    fault = settings.USE_TZ and recount.local_times(using=router.db_for_write(PageView))
    return [message("E005", fault=fault, hint=recount.WITHOUT_LOCAL_TIMES)] if fault else []


@register("pagestats")
def check_middleware(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a middleware that is missing, doubled, or behind a cache, where it doesn't see every page."""
    middleware = list(settings.MIDDLEWARE)
    count = middleware.count(MIDDLEWARE)
    if count > 1:
        return [message("W011", count=count)]
    if not count:
        return [message("W001")]
    before = middleware[: middleware.index(MIDDLEWARE)]
    return [message("W002", other=other) for other in before if other in ANSWER_IN_OUR_PLACE]


@register("pagestats")
def check_exclude(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report namespaces to exclude that the site doesn't have: a misspelt name excludes nothing."""
    if Settings.EXCLUDE.fault() or not getattr(settings, "ROOT_URLCONF", None):
        return []  # reported by check_settings; and a worker without URLs has nothing to exclude
    known = [f"{namespace}:" for namespace in patterns.namespaces()]
    unknown = [
        place
        for place in conf.EXCLUDE
        if place.endswith(":") and place not in known and place not in Settings.EXCLUDE.default
    ]
    return [message("W012", place=place, likely=_likely(place, known)) for place in unknown]


@register("pagestats")
def check_content(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report content sources that can't be queried."""
    return [message("E003", fault=fault.fault, hint=fault.hint) for fault in content.find_faults()]


@register("pagestats")
def check_identity(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report an identity that can't be used, and one that needs beacons where no URL accepts them."""
    if Settings.IDENTITY.fault():
        return []  # reported by check_settings
    try:
        identity.refuse_other_arguments()
    except ImproperlyConfigured as error:
        return [message("E004", fault=error)]
    return [message("W004")] if conf.IDENTITY == "client" and not _accepts_beacons() else []


def _accepts_beacons() -> bool:
    """Return whether pagestats.urls or pagestats.beacons is somewhere in the URLconf."""
    for name in ("pagestats:stats-page-views", "pagestats_beacons:views"):
        with suppress(NoReverseMatch):
            reverse(name)
            return True
    return False


@register("pagestats")
def check_connection_pool(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report connection pools that processes of the cluster would share."""
    if "django_q" not in settings.INSTALLED_APPS:
        return []
    return [message("W003", alias=alias) for alias in _pools()]


def _pools() -> Iterator[str]:
    """Yield the alias of each database of PostgreSQL that has a pool."""
    for alias, database in settings.DATABASES.items():
        if "postg" in database.get("ENGINE", "") and database.get("OPTIONS", {}).get("pool"):
            yield alias


@register(Tags.database)
def check_reporting_zone(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report a reporting zone that is not the site's own. Only `migrate` and `check --database` run this check."""
    using = router.db_for_write(Calendar)
    if using not in (databases or ()) or Calendar._meta.db_table not in connections[using].introspection.table_names():
        return []
    calendar = Calendar.objects.using(using).row().first()
    if calendar is None or calendar.zone == settings.TIME_ZONE:
        return []
    advice = rollups.where_zones_differ(calendar)
    return [message("W005", time_zone=settings.TIME_ZONE, zone=calendar.zone, advice=advice)]
