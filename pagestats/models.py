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
from pagestats.guarded import GuardedModel, GuardedQuerySet, UnguardedQuerySet
from pagestats.hits import PAGE_TYPE_LENGTH, PATH_LENGTH, SESSION_ID_LENGTH


class PageViewQuerySet(models.QuerySet["PageView"]):
    """Page views, by whether the rollups contain them."""

    def pending(self) -> PageViewQuerySet:
        """Return the page views that no rollup contains yet."""
        return self.filter(rolled_up=False)

    def rolled_up(self) -> PageViewQuerySet:
        """Return the page views that the rollups contain."""
        return self.filter(rolled_up=True)


class PageView(models.Model):
    """A hit that was counted. Page views are facts: the visitors, totals, rollups and returns are derived from them."""

    path = ExactCharField(_("path"), max_length=PATH_LENGTH)
    page_type = ExactCharField(_("page type"), max_length=PAGE_TYPE_LENGTH, blank=True, default="")
    session_id = ExactCharField(_("session"), max_length=SESSION_ID_LENGTH)
    timestamp = models.DateTimeField(_("time"))
    rolled_up = models.BooleanField(
        _("rolled up"),
        db_default=False,
        help_text=_(
            "False while no rollup contains this page view. A page view that pagestats did not record itself (a"
            " fixture, bulk_create, plain SQL) stays pending until a backfill."
        ),
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
            # Made only by databases that support partial indexes: elsewhere it would slow down each page view, and save
            # little.
            PartialIndex(
                fields=["path", "timestamp"], name="pagestats_view_pending_path", where=models.Q(rolled_up=False)
            ),
        )

    def __str__(self) -> str:
        return f"{self.path} at {self.timestamp:%Y-%m-%d %H:%M:%S}"


class Stats(PageView):
    """The owner of the permission `pagestats.view_stats` and of the entry *Page stats* in the menu of an admin."""

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
        """Return the sessions that have left. A session exactly as old as the timeout is neither active nor stale."""
        return self.filter(last_seen__lt=at - conf.SESSION_TIMEOUT)


class ActiveSession(models.Model):
    """A session that was on the site a moment ago, and the path it was on."""

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


REPAIR = (
    "Run `manage.py backfill_aggregates` to roll up pending page views, or `manage.py verify_aggregates --repair` to"
    " correct what differs from the page views."
)


class Visitor(GuardedModel):
    """A session that was ever seen. Its row is the lock of the session: every writer of rollups takes it first.

    The other columns are None while the row is nothing but a lock: the session has no rolled-up page view. Each write
    to the session increments `version`. A writer that has read something of the session can tell by it whether anyone
    else has written since.
    """

    INSTEAD = f"Run `manage.py pagestats_erase SESSION` to remove a session. {REPAIR}"

    session_id = ExactCharField(_("session"), max_length=SESSION_ID_LENGTH, primary_key=True)
    first_seen = models.DateTimeField(_("first seen"), null=True)
    last_day = models.DateField(_("last reporting day"), null=True)
    version = models.BigIntegerField(
        _("version"), db_default=0, help_text=_("Incremented on every write to this session (optimistic lock).")
    )
    last_sealed_day = models.DateField(
        _("last sealed reporting day"),
        null=True,
        help_text=_("The last reporting day of those page views of this session that were pruned."),
    )

    BLANK: ClassVar[dict[str, None]] = {"first_seen": None, "last_day": None, "last_sealed_day": None}
    """The columns of a row that is nothing but a lock."""

    class Meta:
        verbose_name = _("visitor")
        verbose_name_plural = _("visitors")

    def __str__(self) -> str:
        return self.session_id


class PageTotal(GuardedModel):
    """The all-time figures of one path, without its pending page views."""

    INSTEAD = REPAIR

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


class Rollup(GuardedModel):
    """The counts of one reporting day for one value of one dimension.

    ("site", "") is the whole site, ("page", path) a page. Views and new visitors of several days can be added up;
    visitors can't, since one visitor may come on each of these days: see `Return`.
    """

    INSTEAD = REPAIR

    pk = models.CompositePrimaryKey("dimension", "value", "day")
    dimension = ExactCharField(_("dimension"), max_length=DIMENSION_LENGTH)
    value = ExactCharField(_("value"), max_length=PATH_LENGTH, blank=True)
    day = models.DateField(_("reporting day"))
    views = models.BigIntegerField(_("views"))
    visitors = models.BigIntegerField(_("visitors"), help_text=_("Distinct sessions of the day."))
    new_visitors = models.BigIntegerField(_("new visitors"), help_text=_("Visitors never seen on an earlier day."))

    class Meta:
        verbose_name = _("rollup")
        verbose_name_plural = _("rollups")

    def __str__(self) -> str:
        return f"{self.dimension} {self.value} on {self.day}"


class Return(GuardedModel):
    """How many visitors of a day were last seen on the earlier `previous_day`, for one value of one dimension.

    These rows make the visitors of any range exact. Summing daily visitors counts a returning visitor once per day.
    Each of those days except the first has a Return row whose `previous_day` is also in the range, so subtracting those
    rows leaves each visitor counted once.
    """

    INSTEAD = REPAIR

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


class CalendarQuerySet(GuardedQuerySet["Calendar"]):
    """The calendar, which is one row, to read."""

    def row(self) -> CalendarQuerySet:
        """Return the one row. It exists once anything was counted."""
        return self.filter(pk=Calendar.ROW)


class UnguardedCalendarQuerySet(UnguardedQuerySet["Calendar"]):
    """The calendar, to write."""

    def row(self) -> UnguardedCalendarQuerySet:
        """Return the one row."""
        return self.filter(pk=Calendar.ROW)

    def lock(self) -> bool:
        """Lock the row until the transaction ends, and return whether there is one.

        A write locks it: when that is the first statement of a transaction, SQLite waits for its turn.
        """
        return bool(self.row().update(zone=models.F("zone")))


class Calendar(GuardedModel):
    """One row: the zone in which reporting days are computed, and which of them are sealed."""

    INSTEAD = (
        "Run `manage.py backfill_aggregates --rebuild` to change the reporting zone, or `manage.py pagestats_prune` to"
        " seal days."
    )
    ROW = 1

    zone = models.CharField(
        _("reporting zone"), max_length=64, help_text=_("The site's TIME_ZONE when its first page view was rolled up.")
    )
    next_zone = models.CharField(
        _("next reporting zone"),
        max_length=64,
        blank=True,
        default="",
        help_text=_("Set while the rollups are rebuilt. Until the rebuild is done, every new page view stays pending."),
    )
    sealed_before = models.DateField(
        _("sealed before"), null=True, help_text=_("Page views of reporting days before this one were pruned.")
    )
    sealed_on = models.DateField(_("sealed on"), null=True, help_text=_("The reporting day of the latest pruning."))

    objects: ClassVar = CalendarQuerySet.as_manager()
    unguarded: ClassVar = UnguardedCalendarQuerySet.as_manager()

    class Meta:
        verbose_name = _("calendar")
        verbose_name_plural = _("calendar")

    def __str__(self) -> str:
        return self.zone

    @classmethod
    def zone_of(cls, rows: models.QuerySet[Calendar]) -> ZoneInfo:
        """Return the zone stored in some rows of this table, or else the zone that the first page view will store."""
        return cls.zone_named(rows.filter(pk=cls.ROW).values_list("zone", flat=True).first())

    @classmethod
    def zone_named(cls, stored: str | None) -> ZoneInfo:
        """Return the zone of that name. None, nothing is stored yet, stands for the site's TIME_ZONE."""
        return ZoneInfo(stored or settings.TIME_ZONE)


class Seal(GuardedModel):
    """A day before which page views were pruned. A session that came on both sides of it is known only in part."""

    INSTEAD = "Run `manage.py pagestats_prune` to prune page views and seal their days."

    before = models.DateField(_("sealed before"), primary_key=True)
    open_from = models.DateField(
        _("open from"),
        help_text=_(
            "The earliest reporting day of a page view that was recorded after the pruning. Returns across the seal to"
            " earlier days were counted while the page views on both sides were stored."
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
        """Return the salts that are two or more days old. Visits that began before midnight need yesterday's."""
        return self.filter(day__lt=today - timedelta(days=1))


class Salt(models.Model):
    """The secret of one reporting day. Without it, the anonymous session ids of that day can't be made again."""

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
    """A drop counter: how many hits of one reporting day were not stored, and why.

    Approximate: a process that is killed loses the counts of its last seconds.
    """

    pk = models.CompositePrimaryKey("day", "outcome", "reason")
    day = models.DateField(_("reporting day"))
    outcome = ExactCharField(_("outcome"), max_length=32)
    reason = ExactCharField(_("reason"), max_length=REASON_LENGTH, blank=True)
    count = models.BigIntegerField(_("count"))

    class Meta:
        verbose_name = _("drop counter")
        verbose_name_plural = _("drop counters")

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
        """What a run does. These are not the choices of the column, so that a new kind needs no migration."""

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
