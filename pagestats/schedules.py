"""What django-q2 is to do again and again: made once after `migrate`, and from then on its owner's.

That a schedule was made is remembered in a `Run`, so that neither its deletion nor a change is ever undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from django.apps import apps
from django.conf import settings
from django.db import connections, models, router

from pagestats.conf import conf
from pagestats.hits import instant
from pagestats.models import Run
from pagestats.tasks import UNSAVED, NoCluster, require_django_q

State = Literal["scheduled", "changed", "removed", "not made"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A schedule as this app makes it."""

    name: str
    func: str
    every: timedelta
    first_at: time | None = None
    """The time of day, on the site's clock, at which it runs first; None is at once."""

    def next_run(self, at: datetime) -> datetime:
        """Return when it is to run first if it is made at an instant."""
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
        """Return the columns of its row that an owner may change, but for the time of the next run."""
        return {
            "hook": None,
            "args": None,
            "kwargs": repr({"q_options": UNSAVED}),
            "schedule_type": "I",  # minutes
            "minutes": self.every // timedelta(minutes=1),
            "repeats": -1,  # for ever
            "cron": None,
            "cluster": None,
            "intended_date_kwarg": None,
        }

    def is_row(self, row: models.Model) -> bool:
        """Tell whether a row is as this app makes it."""
        columns = self.columns()
        return {name: getattr(row, name) or None for name in columns} == {
            name: value or None for name, value in columns.items()
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a schedule stands: its plan, and its row, None when there is none."""

    plan: Plan
    state: State
    row: Any

    def describe(self) -> str:
        """Return how it stands in words, and what to do about it."""
        planned = self.plan.describe()
        match self.state:
            case "not made":
                said = "not made yet; manage.py migrate or --restore makes it"
            case "removed":
                said = f"removed; --restore makes it again, {planned}"
            case "changed":
                said = f"changed by its owner, next {_when(self.row)}; --restore sets it back to {planned}"
            case "scheduled":
                said = f"{planned}, next {_when(self.row)}"
        return f"{self.plan.name}: {said}"


def plans() -> list[Plan]:
    """Return the schedules that a site gets."""
    night = timedelta(days=1)
    return [
        Plan(name="pagestats clean-up", func="pagestats.tasks.clean_up", every=conf.CLEANUP_INTERVAL),
        Plan(name="pagestats rollups", func="pagestats.tasks.fold", every=timedelta(minutes=1)),
        Plan(name="pagestats prune", func="pagestats.tasks.prune", every=night, first_at=time(3, 15)),
        Plan(name="pagestats verify", func="pagestats.tasks.verify", every=night, first_at=time(4, 15)),
    ]


def make_after_migrate(*, using: str, **kwargs: Any) -> None:
    """Make the schedules that were never made: what `migrate` calls for each database, whatever was migrated."""
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
    """Make each schedule what this app makes of it, also one that its owner changed or deleted."""
    _require_tables()
    for plan in plans():
        if not _rows(plan).update(next_run=plan.next_run(instant(None)), **plan.columns()):
            _create(plan)
        if plan.name not in _made():
            _remember(plan)
        _delete_duplicates(plan)


def remove() -> int:
    """Delete the schedules, not to be made again by `migrate`, and return how many there were."""
    _require_tables()
    made = _made()
    deleted = 0
    for plan in plans():
        deleted += _rows(plan).delete()[0]
        if plan.name not in made:
            _remember(plan)
    return deleted


def standings() -> list[Standing]:
    """Return how each schedule stands."""
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
    """Return the tables that are not there, or not yet with all their columns."""
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
    _rows(plan).create(name=plan.name, func=plan.func, next_run=plan.next_run(instant(None)), **plan.columns())


def _delete_duplicates(plan: Plan) -> None:
    """Keep one row: one that its owner changed rather than one that is as this app makes it, then the oldest.

    Two processes that make a schedule at the same time make two; whoever comes here last sees both.
    """
    rows = sorted(_rows(plan), key=lambda row: (plan.is_row(row), row.pk))
    if len(rows) > 1:
        _rows(plan).filter(pk__in=[row.pk for row in rows[1:]]).delete()


def _made() -> set[str]:
    runs = Run.objects.using(router.db_for_write(Run)).filter(kind=Run.Kind.SCHEDULE)
    return {result["name"] for result in runs.values_list("result", flat=True)}


def _remember(plan: Plan) -> None:
    now = instant(None)
    Run.objects.using(router.db_for_write(Run)).create(
        kind=Run.Kind.SCHEDULE,
        status=Run.Status.FINISHED,
        started=now,
        updated=now,
        finished=now,
        result={"name": plan.name},
    )
