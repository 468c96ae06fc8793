"""The tables: page views are facts, rollups are derived, active sessions are ephemeral."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import ClassVar
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from pagestats.conf import conf
from pagestats.fields import ExactCharField, PartialIndex
from pagestats.hits import PAGE_TYPE_LENGTH, PATH_LENGTH, SESSION_ID_LENGTH


class PageViewQuerySet(models.QuerySet["PageView"]):
    """Page views, described."""

    def pending(self) -> PageViewQuerySet:
        """Return the views that no rollup contains yet."""
        return self.filter(rolled_up=False)

    def rolled_up(self) -> PageViewQuerySet:
        """Return the views that the rollups contain."""
        return self.filter(rolled_up=True)


class PageView(models.Model):
    """A hit that was counted. A fact: everything but the active sessions can be derived from these rows."""

    path = ExactCharField(_("path"), max_length=PATH_LENGTH)
    page_type = ExactCharField(_("page type"), max_length=PAGE_TYPE_LENGTH, blank=True, default="")
    session_id = ExactCharField(_("session"), max_length=SESSION_ID_LENGTH)
    timestamp = models.DateTimeField(_("time"))
    rolled_up = models.BooleanField(
        _("rolled up"),
        db_default=False,
        help_text=_("False: pending. A row that came by any other door than record_page_view is, until a backfill."),
    )

    objects = PageViewQuerySet.as_manager()

    class Meta:
        verbose_name = _("page view")
        verbose_name_plural = _("page views")
        indexes = (
            models.Index(fields=["session_id", "path", "timestamp"], name="pagestats_view_repeat"),
            models.Index(fields=["path", "timestamp"], name="pagestats_view_path"),
            models.Index(fields=["timestamp"], name="pagestats_view_time"),
            PartialIndex(fields=["rolled_up", "id"], name="pagestats_view_pending", where=models.Q(rolled_up=False)),
            # Left out where no index is partial: there it would cost each view, and save little.
            PartialIndex(
                fields=["path", "timestamp"], name="pagestats_view_pending_path", where=models.Q(rolled_up=False)
            ),
        )

    def __str__(self) -> str:
        return f"{self.path} at {self.timestamp:%Y-%m-%d %H:%M:%S}"


class Stats(PageView):
    """What the permission `pagestats.view_stats`, and the entry *Page stats* in the menu of an admin, belong to."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = _("page stats")
        verbose_name_plural = _("page stats")


class ActiveSessionQuerySet(models.QuerySet["ActiveSession"]):
    """Sessions, by the age of their last heartbeat."""

    def active(self, at: datetime) -> ActiveSessionQuerySet:
        """Return the sessions that are on the site at an instant."""
        return self.filter(last_seen__gt=at - conf.SESSION_TIMEOUT)

    def stale(self, at: datetime) -> ActiveSessionQuerySet:
        """Return the sessions that have left. Exactly as old as the timeout is neither active nor stale."""
        return self.filter(last_seen__lt=at - conf.SESSION_TIMEOUT)


class ActiveSession(models.Model):
    """A session that was on the site a moment ago, and where."""

    session_id = ExactCharField(_("session"), max_length=SESSION_ID_LENGTH, primary_key=True)
    current_path = ExactCharField(_("current path"), max_length=PATH_LENGTH)
    last_seen = models.DateTimeField(_("last seen"))

    objects = ActiveSessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("active session")
        verbose_name_plural = _("active sessions")
        indexes = (models.Index(fields=["last_seen"], name="pagestats_active_seen"),)

    def __str__(self) -> str:
        return f"{self.session_id} on {self.current_path}"


class Visitor(models.Model):
    """A session that was ever seen. Its row is the lock of the session: every writer of rollups takes it first.

    The columns are None while the row is a lock and nothing else: the session has no rolled-up view. By its `version`,
    who read something of the session and is about to write sees whether anybody else wrote in between.
    """

    session_id = ExactCharField(_("session"), max_length=SESSION_ID_LENGTH, primary_key=True)
    first_seen = models.DateTimeField(_("first seen"), null=True)
    last_day = models.DateField(_("last reporting day"), null=True)
    version = models.BigIntegerField(
        _("version"), db_default=0, help_text=_("Counted on by who writes anything of the session.")
    )
    last_sealed_day = models.DateField(
        _("last sealed reporting day"), null=True, help_text=_("Of the views of this session that were pruned.")
    )

    BLANK: ClassVar[dict[str, None]] = {"first_seen": None, "last_day": None, "last_sealed_day": None}
    """The columns of a row that is a lock and nothing else."""

    class Meta:
        verbose_name = _("visitor")
        verbose_name_plural = _("visitors")

    def __str__(self) -> str:
        return self.session_id


class PageTotal(models.Model):
    """The figures of one path since tracking began, without its pending views."""

    path = ExactCharField(_("path"), max_length=PATH_LENGTH, primary_key=True)
    views = models.BigIntegerField(_("views"))
    visitors = models.BigIntegerField(_("visitors"))
    first_viewed = models.DateTimeField(_("first viewed"))
    last_viewed = models.DateTimeField(_("last viewed"))

    class Meta:
        verbose_name = _("page total")
        verbose_name_plural = _("page totals")
        indexes = (models.Index(fields=["-views", "path"], name="pagestats_total_views"),)

    def __str__(self) -> str:
        return f"{self.path}: {self.views}"


DIMENSION_LENGTH = 32


class Rollup(models.Model):
    """The figures of one reporting day for one value of one dimension; they add up over days, `visitors` does not.

    ("site", "") is the whole site, ("page", path) a page.
    """

    pk = models.CompositePrimaryKey("dimension", "value", "day")
    dimension = ExactCharField(_("dimension"), max_length=DIMENSION_LENGTH)
    value = ExactCharField(_("value"), max_length=PATH_LENGTH, blank=True)
    day = models.DateField(_("reporting day"))
    views = models.BigIntegerField(_("views"))
    visitors = models.BigIntegerField(_("visitors"), help_text=_("Distinct sessions of the day."))
    new_visitors = models.BigIntegerField(_("new visitors"), help_text=_("Those never seen on a day before."))

    class Meta:
        verbose_name = _("rollup")
        verbose_name_plural = _("rollups")

    def __str__(self) -> str:
        return f"{self.dimension} {self.value} on {self.day}"


class Return(models.Model):
    """How many visitors of a day were last seen on the earlier `previous_day`, in that dimension and value.

    What makes visitors of any range exact: each visitor-day of a range but the session's first one in it has its
    previous day in the range too, and is taken off once.
    """

    pk = models.CompositePrimaryKey("dimension", "value", "previous_day", "day")
    dimension = ExactCharField(_("dimension"), max_length=DIMENSION_LENGTH)
    value = ExactCharField(_("value"), max_length=PATH_LENGTH, blank=True)
    previous_day = models.DateField(_("previous day"))
    day = models.DateField(_("reporting day"))
    visitors = models.BigIntegerField(_("visitors"))

    class Meta:
        verbose_name = _("return")
        verbose_name_plural = _("returns")

    def __str__(self) -> str:
        return f"{self.dimension} {self.value} on {self.day}, before on {self.previous_day}"


class CalendarQuerySet(models.QuerySet["Calendar"]):
    """The calendar, which is one row."""

    def row(self) -> CalendarQuerySet:
        """Return the one row, which is there once anything was counted."""
        return self.filter(pk=Calendar.ROW)

    def lock(self) -> bool:
        """Lock the row until the transaction ends, and tell whether there is one.

        By a write: as the first statement of a transaction, SQLite waits for its turn.
        """
        return bool(self.row().update(zone=models.F("zone")))


class Calendar(models.Model):
    """The one row that says how days are reckoned, and which of them are sealed."""

    ROW = 1

    zone = models.CharField(
        _("reporting zone"), max_length=64, help_text=_("That of the site when its first view was rolled up.")
    )
    next_zone = models.CharField(
        _("next reporting zone"),
        max_length=64,
        blank=True,
        default="",
        help_text=_("Not empty while the rollups are rebuilt: until that is done, every new view stays pending."),
    )
    sealed_before = models.DateField(
        _("sealed before"), null=True, help_text=_("Page views of earlier reporting days were pruned.")
    )
    sealed_on = models.DateField(
        _("sealed on"), null=True, help_text=_("The reporting day on which page views were pruned last.")
    )

    objects = CalendarQuerySet.as_manager()

    class Meta:
        verbose_name = _("calendar")
        verbose_name_plural = _("calendar")

    def __str__(self) -> str:
        return self.zone

    @classmethod
    def zone_of(cls, rows: models.QuerySet[Calendar]) -> ZoneInfo:
        """Return the zone that is stored in some rows of this table, else the one that is about to be."""
        return cls.zone_named(rows.filter(pk=cls.ROW).values_list("zone", flat=True).first())

    @classmethod
    def zone_named(cls, stored: str | None) -> ZoneInfo:
        """Return the zone of that name; None: nothing is stored, and the first view will store the site's."""
        return ZoneInfo(stored or settings.TIME_ZONE)


class Seal(models.Model):
    """A boundary at which page views were pruned: what a session viewed on both its sides is known only in part."""

    before = models.DateField(_("sealed before"), primary_key=True)
    open_from = models.DateField(
        _("open from"),
        help_text=_(
            "The earliest day of which a view was recorded after the pruning. Of earlier days, each return across the"
            " seal was counted while the page views on both its sides were there."
        ),
    )

    class Meta:
        verbose_name = _("seal")
        verbose_name_plural = _("seals")

    def __str__(self) -> str:
        return f"{self.before}"


class SaltQuerySet(models.QuerySet["Salt"]):
    """Salts, by their age."""

    def expired(self, today: date) -> SaltQuerySet:
        """Return the salts that are two days old or more: yesterday's is of visits that began before midnight."""
        return self.filter(day__lt=today - timedelta(days=1))


class Salt(models.Model):
    """The secret of one reporting day, without which its anonymous session ids can't be made again."""

    day = models.DateField(_("reporting day"), primary_key=True)
    secret = models.BinaryField(_("secret"), max_length=32)

    objects = SaltQuerySet.as_manager()

    class Meta:
        verbose_name = _("salt")
        verbose_name_plural = _("salts")

    def __str__(self) -> str:
        return f"{self.day}"


REASON_LENGTH = 64


class Tally(models.Model):
    """How many hits of a day were not stored, and why. Approximate: a process that is killed loses its last seconds."""

    pk = models.CompositePrimaryKey("day", "outcome", "reason")
    day = models.DateField(_("reporting day"))
    outcome = ExactCharField(_("outcome"), max_length=32)
    reason = ExactCharField(_("reason"), max_length=REASON_LENGTH, blank=True)
    count = models.BigIntegerField(_("count"))

    class Meta:
        verbose_name = _("tally")
        verbose_name_plural = _("tallies")

    def __str__(self) -> str:
        return f"{self.day} {self.outcome} {self.reason}: {self.count}"


STALLED_AFTER = timedelta(minutes=1)
"""A running run without progress for longer than this was killed, or waits for a cluster or a lock."""


class RunQuerySet(models.QuerySet["Run"]):
    """Runs, by how long ago they made progress. The verbs that write them are in `pagestats.runs`."""

    def running(self) -> RunQuerySet:
        """Return the runs that have not ended."""
        return self.filter(status=Run.Status.RUNNING)

    def alive(self, at: datetime) -> RunQuerySet:
        """Return the runs that made progress shortly before an instant."""
        return self.filter(updated__gte=at - STALLED_AFTER)

    def stalled(self, at: datetime) -> RunQuerySet:
        """Return the runs that had made no progress for `STALLED_AFTER` at an instant."""
        return self.filter(updated__lt=at - STALLED_AFTER)

    def newest_first(self) -> RunQuerySet:
        """Return the runs in the order of their start, the latest first."""
        return self.order_by("-started", "-pk")


class Run(models.Model):
    """A piece of work that takes a while, and how far it has come. Any process may read it.

    `pagestats.runs` writes the rows, and has a type for the `result` of each kind.
    """

    class Kind(models.TextChoices):
        """What is run. These are not the choices of the column, so that a new kind needs no migration."""

        BACKFILL = "backfill", _("backfill")
        CLEANUP = "clean-up", _("clean-up")
        PRUNE = "prune", _("prune")
        VERIFY = "verify", _("verify")
        SCHEDULE = "schedule", _("schedule")

    class Status(models.TextChoices):
        """The state of a run."""

        RUNNING = "running", _("running")
        FINISHED = "finished", _("finished")
        STOPPED = "stopped", _("stopped")

    kind = models.CharField(_("kind"), max_length=32)
    status = models.CharField(_("status"), max_length=16, choices=Status)
    started = models.DateTimeField(_("started"))
    updated = models.DateTimeField(_("last progress"))
    finished = models.DateTimeField(_("finished"), null=True)
    processed = models.BigIntegerField(_("processed"), default=0)
    result = models.JSONField(_("result"), default=dict)

    objects = RunQuerySet.as_manager()

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        indexes = (models.Index(fields=["kind", "-started"], name="pagestats_run_kind"),)

    def __str__(self) -> str:
        return f"{self.kind} of {self.started:%Y-%m-%d %H:%M:%S}: {self.status}"
