"""The django-q2 schedules. They are made once after `migrate`; later changes by the site owner are kept.

A `Run` remembers that a schedule was made, so that `migrate` never undoes its deletion or a change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import partial
from typing import Any, Literal
from zoneinfo import ZoneInfo

from django.apps import apps
from django.conf import settings
from django.db import connections, models, router

from pagestats import runs, sql
from pagestats.conf import conf
from pagestats.hits import instant
from pagestats.models import Run
from pagestats.runs import ScheduleResult
from pagestats.tasks import UNSAVED, NoCluster, require_django_q

State = Literal["scheduled", "changed", "removed", "not made"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A schedule as pagestats makes it."""

    name: str
    func: str
    every: timedelta
    first_at: time | None = None
    """The time of day, in TIME_ZONE, at which it first runs; None is at once."""

    def next_run(self, at: datetime) -> datetime:
        """Return when it first runs if it is made at an instant."""
        if self.first_at is None:
            return at
        here = at.astimezone(ZoneInfo(settings.TIME_ZONE))
        first = datetime.combine(here.date(), self.first_at, tzinfo=here.tzinfo)
        return first if first > here else first + timedelta(days=1)

    def describe(self) -> str:
        """Return how often it runs, in words."""
        if self.every == timedelta(days=1):
            return "every day"
        minutes = self.every // timedelta(minutes=1)
        return f"every {minutes:,} minutes" if minutes > 1 else "every minute"

    def columns(self) -> dict[str, Any]:
        """Return the columns of its row that an owner may change, except the time of the next run."""
        return {
            "hook": None,
            "args": None,
            "kwargs": repr({"q_options": UNSAVED}),
            "schedule_type": "I",  # minutes
            "minutes": self.every // timedelta(minutes=1),
            "repeats": -1,  # without end
            "cron": None,
            "cluster": None,
            "intended_date_kwarg": None,
        }

    def is_row(self, row: models.Model) -> bool:
        """Return whether a row is as pagestats makes it."""
        columns = self.columns()
        return {name: getattr(row, name) or None for name in columns} == {
            name: value or None for name, value in columns.items()
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """The state of a schedule, with its plan and its row; the row is None if it doesn't exist."""

    plan: Plan
    state: State
    row: Any

    def describe(self) -> str:
        """Return the state in words, and what to do about it."""
        planned = self.plan.describe()
        match self.state:
            case "not made":
                said = "not made yet; run manage.py migrate, or restore it with --restore"
            case "removed":
                said = f"removed; to make it again, {planned}, use --restore"
            case "changed":
                said = f"changed by the site, next {_when(self.row)}; to reset it to {planned}, use --restore"
            case "scheduled":
                said = f"{planned}, next {_when(self.row)}"
        return f"{self.plan.name}: {said}"


def plans() -> list[Plan]:
    """Return the schedules that a site gets from `migrate`."""
    night = timedelta(days=1)
    return [
        Plan(name="pagestats clean-up", func="pagestats.tasks.clean_up", every=conf.CLEANUP_INTERVAL),
        Plan(name="pagestats rollups", func="pagestats.tasks.roll_up_pending", every=timedelta(minutes=1)),
        Plan(name="pagestats prune", func="pagestats.tasks.prune", every=night, first_at=time(3, 15)),
        Plan(name="pagestats verify", func="pagestats.tasks.verify", every=night, first_at=time(4, 15)),
    ]


def make_after_migrate(*, using: str, **kwargs: Any) -> None:
    """Make the schedules that were never made. `migrate` calls this for each database, whatever it migrated."""
    if not apps.is_installed("django_q") or not conf.SCHEDULES:
        return
    if using in {router.db_for_write(model) for model in _tables()} and not _missing_tables():
        make()


def make() -> None:
    """Make each schedule that was never made before, and delete duplicates. Safe to run twice, and at the same time."""
    made = _made()
    for plan in plans():
        if plan.name not in made:
            if not _rows(plan).exists():
                _create(plan)
            _remember(plan)
        _delete_duplicates(plan)


def restore() -> None:
    """Reset each schedule to how pagestats makes it, even if the site owner has changed or deleted it."""
    _require_tables()
    for plan in plans():
        reset = partial(_rows(plan).update, next_run=plan.next_run(instant(None)), **plan.columns())
        if not _retrying(reset):
            _create(plan)
        if plan.name not in _made():
            _remember(plan)
        _delete_duplicates(plan)


def remove() -> int:
    """Delete the schedules, so that `migrate` doesn't make them again, and return how many there were."""
    _require_tables()
    made = _made()
    deleted = 0
    for plan in plans():
        deleted += _retrying(_rows(plan).delete)[0]
        if plan.name not in made:
            _remember(plan)
    return deleted


def standings() -> list[Standing]:
    """Return the state of each schedule."""
    _require_tables()
    made = _made()
    found = []
    for plan in plans():
        row = _rows(plan).order_by("pk").first()
        state: State
        if row is not None:
            state = "scheduled" if plan.is_row(row) else "changed"
        else:
            state = "removed" if plan.name in made else "not made"
        found.append(Standing(plan=plan, state=state, row=row))
    return found


def _when(row: Any) -> str:
    return f"{row.next_run:%Y-%m-%d %H:%M:%S %Z}" if row.repeats and row.next_run else "never"


def _tables() -> list[type[models.Model]]:
    return [_schedule(), Run]


def _schedule() -> Any:
    from django_q.models import Schedule

    return Schedule


def _missing_tables() -> list[str]:
    """Return the tables that don't exist, or don't have all their columns yet."""
    missing = []
    for model in _tables():
        table = model._meta.db_table
        connection = connections[router.db_for_write(model)]
        with connection.cursor() as cursor:
            columns = set()
            if table in connection.introspection.table_names(cursor):
                columns = {column.name for column in connection.introspection.get_table_description(cursor, table)}
        if not columns >= {field.column for field in model._meta.local_concrete_fields}:
            missing.append(table)
    return missing


def _require_tables() -> None:
    require_django_q()
    if missing := _missing_tables():
        raise NoCluster(f"{' and '.join(missing)} can't be used before manage.py migrate.")


def _rows(plan: Plan) -> Any:
    schedules = _schedule().objects
    return schedules.using(router.db_for_write(schedules.model)).filter(name=plan.name, func=plan.func)


def _create(plan: Plan) -> None:
    columns = {"name": plan.name, "func": plan.func, "next_run": plan.next_run(instant(None)), **plan.columns()}
    _retrying(partial(_rows(plan).create, **columns))


def _delete_duplicates(plan: Plan) -> None:
    """Keep one row: one that the site owner changed rather than one that is as pagestats makes it, then the oldest.

    Two processes that make a schedule at the same time make two rows; the process that gets here last sees both.
    """
    rows = sorted(_rows(plan), key=lambda row: (plan.is_row(row), row.pk))
    if len(rows) > 1:
        _retrying(_rows(plan).filter(pk__in=[row.pk for row in rows[1:]]).delete)


def _made() -> set[str]:
    return {ScheduleResult.of(run).name for run in runs.of_kind(Run.Kind.SCHEDULE)}


def _remember(plan: Plan) -> None:
    runs.store_finished(ScheduleResult(name=plan.name))


def _retrying(work: Callable[[], Any]) -> Any:
    """Write schedules, and try again after a lock error."""
    return sql.retrying(work, using=router.db_for_write(_schedule()))
