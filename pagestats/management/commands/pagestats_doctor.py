"""Print one screen with what you need to explain the stats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils import timezone

from pagestats import identity, schedules, stats
from pagestats.conf import conf
from pagestats.formats import counted
from pagestats.identity import addresses
from pagestats.management.base import StatsCommand
from pagestats.models import Calendar, Salt
from pagestats.rollups import backfill_status, where_zones_differ
from pagestats.runs import VerifyResult
from pagestats.stats import Health
from pagestats.tasks import NoCluster


class Command(StatsCommand):
    """manage.py pagestats_doctor."""

    help = (
        "Shows how visitors are identified, the reporting time zone, which client address a request has and why, how "
        "many page views are pending, whether the stats are exact, what is scheduled, and why hits were not counted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options, which describe a request as your server receives it."""
        parser.add_argument(
            "--remote-addr",
            default="127.0.0.1",
            metavar="ADDRESS",
            help="The address that connects (default: 127.0.0.1).",
        )
        parser.add_argument("--x-forwarded-for", default="", metavar="HEADER", help="Its X-Forwarded-For header.")
        parser.add_argument("--forwarded", default="", metavar="HEADER", help="Its Forwarded header (RFC 7239).")

    def handle(self, **options: Any) -> None:
        """Print the sections."""
        meta = {
            "REMOTE_ADDR": options["remote_addr"],
            "HTTP_X_FORWARDED_FOR": options["x_forwarded_for"],
            "HTTP_FORWARDED": options["forwarded"],
        }
        health = cache(stats.health)  # read once, by the first section that needs it
        sections = {
            "recording": _recording(),
            "client address": iter([addresses.explain(meta)]),
            "salts": _salts(),
            "page views": _page_views(),
            "verification": _verification(health),
            "schedules": _schedules(health),
            "hits of the last seven days (approximate)": _tallies(health),
        }
        for title, lines in sections.items():
            self.stdout.write(self.style.MIGRATE_HEADING(title))
            for line in lines:
                self.stdout.write(f"  {line}")


def _recording() -> Iterator[str]:
    yield f"recording is {'on' if conf.ENABLED else 'off: PAGESTATS_ENABLED is False'}"
    yield f"identity: {conf.IDENTITY}; a visitor's id lasts {HOW_LONG[identity.lifetime()]}"
    yield f"reporting zone: {_zone()}"
    kept = "for ever" if conf.KEEP_PAGE_VIEWS is None else f"{conf.KEEP_PAGE_VIEWS.days:,} days"
    yield f"rollups: {conf.ROLLUPS}; page views kept {kept}"
    yield f"trusted proxies: {', '.join(conf.TRUSTED_PROXIES) or 'none'}"


def _zone() -> str:
    calendar = Calendar.objects.row().first()
    if calendar is None or calendar.zone == settings.TIME_ZONE:
        return settings.TIME_ZONE
    return f"{calendar.zone}, but TIME_ZONE is {settings.TIME_ZONE}. {where_zones_differ(calendar)}"


HOW_LONG = {"day": "one reporting day", "lasting": "as long as the browser keeps it"}


def _salts() -> Iterator[str]:
    days = [str(day) for day in Salt.objects.order_by("day").values_list("day", flat=True)]
    yield f"of {', '.join(days)}" if days else "none (no anonymous ids yet)"


def _schedules(health: Callable[[], Health]) -> Iterator[str]:
    try:
        for standing in schedules.standings():
            yield standing.describe()
    except NoCluster as error:
        yield str(error)
    if run := health().last_cleanup:
        removed = counted(run.processed, "stale session")
        yield f"last clean-up: {run.started:%Y-%m-%d %H:%M:%S %Z}, removed {removed}"
    else:
        yield "no clean-up has run yet"


def _page_views() -> Iterator[str]:
    yield from backfill_status().describe(timezone.now()).splitlines()


def _verification(health: Callable[[], Health]) -> Iterator[str]:
    run = health().last_verify
    if run is None:
        yield "never verified; run manage.py verify_aggregates"
        return
    result = VerifyResult.of(run)
    differs = f"{counted(result.drift, 'difference')}; to fix, run manage.py verify_aggregates --repair"
    yield f"verified at {run.finished:%Y-%m-%d %H:%M:%S %Z}: {differs if result.drift else 'exact'}"
    if sealed_before := result.sealed_before:
        yield f"days before {sealed_before} were skipped: their page views have been pruned"


def _tallies(health: Callable[[], Health]) -> Iterator[str]:
    tallied = health().tallied
    for row in tallied:
        yield f"{row.last_days:>12,}  {row.outcome}{f' ({row.reason})' if row.reason else ''}"
    if not tallied:
        yield "none; if pages were served, check that the middleware is in MIDDLEWARE"
