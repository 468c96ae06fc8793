"""Verify: count everything again and compare. Repair: correct what differs.

The work is done in parts: the visitors, each dimension of the register, and rows of dimensions that are not in the
register. Each part is cut into slices of some 20,000 page views. One statement counts and compares a slice, so it is
exact beside writers and holds no lock. A `Position` says what comes next; it can be stored, so that another process can
continue from there.

Writers add the same amount to the page views and to what is stored of them, so the difference between the two doesn't
change while they work. A repair adds that difference, and need not stop anybody from recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import partial
from itertools import pairwise
from typing import Any

from django.conf import settings
from django.db import models, router

from pagestats import dimensions, sql
from pagestats.days import DAY, day_of
from pagestats.dimensions import PAGE, Dimension
from pagestats.models import Calendar, PageTotal, PageView, Return, Rollup, Seal, Visitor
from pagestats.rollups import recount
from pagestats.rollups.adding import PAGE_TOTALS, RETURNS, ROLLUPS
from pagestats.rollups.changing import refresh_page_totals
from pagestats.rollups.recount import (
    Cell,
    Counts,
    DayBounds,
    Days,
    Recount,
    TextRange,
    TotalRow,
    VisitorRow,
)
from pagestats.sql import Insert, Target

VIEWS_IN_A_SLICE = 20_000
VIEWS_OF_DAYS_IN_A_SLICE = 50_000
"""Slices of days are larger, since each session that was seen before the slice costs a look-up of its own."""
ROWS_IN_A_SLICE = 5_000
CELLS_IN_A_SLICE = 20_000
"""How many stored sessions or pages, and how many rollups, a slice has at most: they may have no page views left."""

Stored = int | datetime | date | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """A stored number that differs from what the page views say.

    Args:
        table: "visitor", "rollup", "return" or "page total".
        value: a session id in the table "visitor", else a value of `dimension`.
        figure: the name of the column; "rows" where a dimension is not in the register.
        stored: what is stored; None when there is no such row.
        counted: what the page views say; for instants and days, None when there is no page view.
    """

    table: str
    value: str
    figure: str
    stored: Stored
    counted: Stored
    dimension: str = ""
    day: date | None = None
    previous_day: date | None = None

    def __str__(self) -> str:
        words = [self.table, self.dimension, self.value, self.day and f"on {self.day}"]
        words.append(self.previous_day and f"before on {self.previous_day}")
        where = " ".join(word for word in words if word)
        return f"{where}: {self.figure} is {_in_words(self.stored)}, counted {_in_words(self.counted)}"


def _in_words(value: Stored) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value is None else str(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where a verification continues: in a part of it, at a session or a page, and there at a day.

    Args:
        part: "visitors", the name of a dimension, "dimensions" or "end".
        texts: the sessions or pages that come next.
        since: the day that comes next.
        views: how many views were found missing in the rollups of the page so far. A page may take several slices, and
            its total is compared with what all its rollups should be.
        visitors: the same of visitors.
    """

    part: str = "visitors"
    texts: TextRange = field(default_factory=TextRange)
    since: date | None = None
    views: int = 0
    visitors: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the position as plain values."""
        since = self.since and self.since.isoformat()
        return {
            "part": self.part,
            "low": self.texts.low,
            "is_open": self.texts.is_open,
            "only": self.texts.only,
            "since": since,
            "views": self.views,
            "visitors": self.visitors,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Position:
        """Return the position that these plain values are of."""
        return cls(
            part=stored["part"],
            texts=TextRange(low=stored["low"], is_open=stored["is_open"], only=stored["only"]),
            since=date.fromisoformat(stored["since"]) if stored["since"] else None,
            views=stored["views"],
            visitors=stored["visitors"],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """What one slice showed: the drift, how much was compared, how many page views were read, and what comes next."""

    drift: tuple[Drift, ...]
    compared: Counter[str]
    views_read: int
    then: Position


def verify() -> Iterator[Drift]:
    """Count everything again and yield each stored number that differs. Nothing is changed.

    It may run beside live traffic and backfills. Pending page views are not compared with anything, and sealed days are
    skipped.

    Raises:
        LocalTimes: the database stores local times.
    """
    for checked in slices():
        yield from checked.drift


def repair() -> Iterator[Drift]:
    """Correct each stored number that differs from what the page views say, and yield what it was.

    Only what differs is written, in one transaction for each slice that has drift. It may run beside live traffic,
    backfills and other repairs, and may be killed at any instant. Call it outside any transaction.

    Raises:
        LocalTimes: the database stores local times.
    """
    for checked in slices(fix=True):
        yield from checked.drift


def slices(*, start: Position | None = None, fix: bool = False) -> Generator[Slice, None, None]:
    """Compare slice by slice, and yield what each one showed.

    Args:
        start: where to continue; None is the beginning.
        fix: correct what differs; the drift that is yielded is what it was.

    Raises:
        LocalTimes: the database stores local times.
    """
    using = router.db_for_write(PageView)
    work = _Work(using=using, fix=fix, bounds=DayBounds.stored(using=using))
    position = start or Position()
    while position.part != END:
        checked = _check(work, position)
        yield checked
        position = checked.then


@dataclass(kw_only=True, slots=True)
class _Work:
    """What all slices of a verification share."""

    using: str
    fix: bool
    bounds: DayBounds

    def count(self, recounted: Callable[[DayBounds], Recount]) -> Recount:
        """Count by the calendar that the statement itself saw: a prune or a rebuild may have changed it meanwhile."""
        while not (found := recounted(self.bounds)).is_by(self.bounds):
            self.bounds = DayBounds.of(found.zone, found.sealed_before, using=self.using)
        return found

    def settle(self, recounted: Callable[[DayBounds], Recount], amend: Callable[[Recount], None]) -> Recount:
        """Compare; where something differs and drift is to be fixed, compare again in a transaction and correct it.

        Repairs wait for one another there, on a row that recording doesn't write: what another repair has corrected
        meanwhile doesn't differ any more.
        """
        found = self.count(recounted)
        if not self.fix or not found.rows:
            return found

        def transaction() -> Recount:
            _wait_for_other_repairs(using=self.using)
            found = self.count(recounted)
            amend(found)
            return found

        return sql.transact(transaction, using=self.using)


def _wait_for_other_repairs(*, using: str) -> None:
    """Lock the calendar's row until the transaction ends, by a write as the first statement, and make it if need be."""
    calendars = Calendar.unguarded.using(using)
    if not calendars.lock():
        calendars.bulk_create([Calendar(pk=Calendar.ROW, zone=settings.TIME_ZONE)], ignore_conflicts=True)
        calendars.lock()


def _check_visitors(work: _Work, position: Position) -> Slice:
    """Compare the rows of some sessions. They come before everything else, since writers rely on their days."""
    views = PageView.objects.using(work.using).order_by("session_id", "path", "timestamp")
    rows = Visitor.objects.using(work.using).order_by("session_id")
    bounds = (views, "session_id", VIEWS_IN_A_SLICE), (rows, "session_id", ROWS_IN_A_SLICE)
    sessions, then = _next_texts(position, *bounds)
    recounted = partial(_visitors, sessions, using=work.using)
    found = work.count(recounted)
    if work.fix and found.rows:
        locked = {row.session_id for row in found.rows}

        def correct() -> Recount:
            # Nobody changes what a locked session has, and the statement sees what was committed before the lock.
            sql.lock_sessions(locked, using=work.using)
            found = work.count(recounted)
            found = found._replace(rows=[row for row in found.rows if row.session_id in locked])
            seen = [(row.session_id, *_seen(row, work.bounds)) for row in found.rows]
            sql.write([Insert(_VISITORS, seen)], using=work.using)
            return found

        found = sql.transact(correct, using=work.using)
    drift = [each for row in found.rows for each in _drift_of_visitor(row, work.bounds)]
    compared = Counter(visitors=found.compared)
    return Slice(drift=tuple(drift), compared=compared, views_read=found.page_views, then=then)


def _visitors(sessions: TextRange, bounds: DayBounds, *, using: str) -> Recount:
    return recount.visitors(bounds, sessions, using=using)


_SEEN = "first_seen", "last_day", "last_sealed_day"
_VISITORS = Target.upserting(Visitor, key=["session_id"], changes=dict.fromkeys(_SEEN, "set"))


def _seen(row: VisitorRow, bounds: DayBounds) -> tuple[datetime | None, date | None, date | None]:
    """Return when a session was first seen, its last reporting day and its last sealed day.

    They follow from its page views and from what is stored of the pruned ones. What only the row itself knows is kept:
    when a session was first seen whose first page views were pruned, and its last sealed day. Where that day is not
    sealed at all, the day on which the session was first seen is the best that is known.
    """
    seal = bounds.sealed_before
    is_older = seal is not None and row.first_seen is not None and row.first_seen < bounds.start_of(seal)
    sealed_day = row.last_sealed_day
    if sealed_day is not None and (seal is None or sealed_day >= seal):
        sealed_day = day_of(row.first_seen, bounds.zone) if row.first_seen is not None and is_older else None
    if sealed_day is None:
        return row.first_counted, row.last_day_counted, None
    first_seen = row.first_seen
    if not is_older:
        first_seen = min((at for at in (row.first_counted, first_seen) if at is not None), default=None)
    return first_seen, max(day for day in (row.last_day_counted, sealed_day) if day is not None), sealed_day


def _drift_of_visitor(row: VisitorRow, bounds: DayBounds) -> Iterator[Drift]:
    stored = row.first_seen, row.last_day, row.last_sealed_day
    for figure, now, counted in zip(_SEEN, stored, _seen(row, bounds), strict=True):
        if now != counted:
            yield Drift(table="visitor", value=row.session_id, figure=figure, stored=now, counted=counted)


def _check_days(dimension: Dimension, work: _Work, position: Position) -> Slice:
    """Compare the cells of all values of a dimension on some days."""
    days, rest = _next_days(work, position, PageView.objects.using(work.using))
    found = work.settle(
        lambda bounds: recount.cells(bounds, dimension, days, using=work.using),
        lambda found: _add_cells(found.rows, dimension, using=work.using),
    )
    compared = Counter(cells=found.compared)
    if dimension.is_whole_site:
        compared.update(days=found.days, page_views=found.page_views)
    return Slice(
        drift=tuple(_drift_of_cells(found.rows, dimension)),
        compared=compared,
        views_read=found.page_views,
        then=replace(rest, part=dimension.name) if rest else _part_after(dimension.name),
    )


def _check_pages(work: _Work, position: Position) -> Slice:
    """Compare the cells of some pages, and then their totals with what the rollups should be."""
    views = PageView.objects.using(work.using).order_by("path", "timestamp")
    rows = PageTotal.objects.using(work.using).order_by("path")
    cells = Rollup.objects.using(work.using).filter(dimension=PAGE.name).order_by("value", "day")
    if position.texts.only:
        paths, then = position.texts, Position(part=PAGE.name, texts=_after(position.texts.low))
    else:
        bounds = (views, "path", VIEWS_IN_A_SLICE), (rows, "path", ROWS_IN_A_SLICE), (cells, "value", CELLS_IN_A_SLICE)
        paths, then = _next_texts(position, *bounds)
    days, rest = Days(), None
    if paths.only:
        days, rest = _next_days(work, position, views.filter(path=paths.low))
    found = work.settle(
        lambda bounds: recount.cells(bounds, PAGE, days, values=paths, using=work.using),
        lambda found: _add_cells(found.rows, PAGE, using=work.using),
    )
    drift = list(_drift_of_cells(found.rows, PAGE))
    compared = Counter(cells=found.compared)
    views_read = found.page_views
    missing: dict[str, Counter[str]] = {paths.low: Counter(views=position.views, visitors=position.visitors)}
    if not work.fix:
        for cell in found.rows:
            if cell.previous_day is None:
                of_path = missing.setdefault(cell.value, Counter())
                of_path["views"] += cell.counted.views - cell.stored.views
                of_path["visitors"] += cell.counted.new_visitors - cell.stored.new_visitors
    if rest:
        of_path = missing[paths.low]
        then = replace(rest, texts=paths, views=of_path["views"], visitors=of_path["visitors"])
        return Slice(drift=tuple(drift), compared=compared, views_read=views_read, then=then)
    is_whole = any(any(of_path.values()) for of_path in missing.values())
    found = work.settle(
        lambda bounds: _totals(bounds, paths, missing, is_whole=is_whole, using=work.using),
        lambda found: _set_totals(found.rows, work.bounds, using=work.using),
    )
    drift += [each for row in found.rows for each in _drift_of_total(row, work.bounds)]
    compared["pages"] += found.compared
    return Slice(drift=tuple(drift), compared=compared, views_read=views_read, then=then)


def _check_register(work: _Work, position: Position) -> Slice:
    """Report rows of dimensions that are not in the register, and delete them where drift is to be fixed."""
    drift = []
    for model, table in ((Rollup, "rollup"), (Return, "return")):
        unknown = model.unguarded.using(work.using).filter(_is_unregistered()).order_by("dimension")
        for name, stored in unknown.values_list("dimension").annotate(rows=models.Count("dimension")):
            drift.append(Drift(table=table, dimension=name, value="", figure="rows", stored=stored, counted=0))
            if work.fix:
                sql.transact(unknown.filter(dimension=name).delete, using=work.using)
    return Slice(drift=tuple(drift), compared=Counter(), views_read=0, then=Position(part=END))


def _is_unregistered() -> models.Q:
    """Return the condition of rows of other dimensions: those between the registered names, which an index finds."""
    names = sorted(dimension.name for dimension in dimensions.rolled_up())
    condition = models.Q(dimension__lt=names[0]) | models.Q(dimension__gt=names[-1])
    for name, following in pairwise(names):
        condition |= models.Q(dimension__gt=name, dimension__lt=following)
    return condition


def _add_cells(cells: Iterable[Cell], dimension: Dimension, *, using: str) -> None:
    """Add what is missing: the returns first and the rollups last, as every writer does."""
    rollups, returns, counted_again = [], [], []
    for cell in cells:
        missing = Counts(*(counted - stored for counted, stored in zip(cell.counted, cell.stored, strict=True)))
        if cell.previous_day is None:
            rollups.append((dimension.name, cell.value, cell.day, *missing))
        else:
            returns.append((dimension.name, cell.value, cell.previous_day, cell.day, missing.visitors))
        if not dimension.is_whole_site and (missing.visitors or missing.new_visitors):
            counted_again.append(cell.day)
    dimensions.refuse_unregistered([dimension.name])
    sql.write([Insert(RETURNS, returns), Insert(ROLLUPS, rollups)], using=using)
    if counted_again:
        # As with a view that is recorded late, who of these returned over a seal can't be known.
        first = min(counted_again)
        Seal.unguarded.using(using).filter(open_from__gt=first).update(open_from=first)


def _drift_of_cells(cells: Iterable[Cell], dimension: Dimension) -> Iterator[Drift]:
    for cell in cells:
        for figure, stored, counted in zip(Counts._fields, cell.stored, cell.counted, strict=True):
            if stored != counted:
                yield Drift(
                    table="rollup" if cell.previous_day is None else "return",
                    dimension=dimension.name,
                    value=cell.value,
                    day=cell.day,
                    previous_day=cell.previous_day,
                    figure=figure,
                    stored=stored,
                    counted=counted,
                )


def _totals(
    bounds: DayBounds, paths: TextRange, missing: dict[str, Counter[str]], *, is_whole: bool, using: str
) -> Recount:
    """Compare totals with what the rollups would be if nothing was missing in them; `rows` are those that differ."""
    found = recount.totals(bounds, paths, is_whole=is_whole, using=using)
    rows = []
    for row in found.rows:
        of_path = missing.get(row.path, Counter())
        due = row._replace(
            rollup_views=row.rollup_views + of_path["views"], rollup_visitors=row.rollup_visitors + of_path["visitors"]
        )
        if any(_drift_of_total(due, bounds)):
            rows.append(due)
    return found._replace(rows=rows)


def _ends(row: TotalRow, bounds: DayBounds) -> tuple[datetime | None, datetime | None]:
    """Return when a page was first and last viewed, judging by its page views and by what is stored of pruned ones.

    Only the stored instants remember when a pruned page view was.
    """
    first, last = row.first_counted, row.last_counted
    seal = bounds.sealed_before
    if seal is not None and row.first_day is not None and row.first_day < seal:
        first = min((at for at in (row.first_viewed, first) if at is not None), default=None)
        if last is None or last < bounds.start_of(seal):
            last = max((at for at in (row.last_viewed, last) if at is not None), default=None)
    return first, last


def _drift_of_total(row: TotalRow, bounds: DayBounds) -> Iterator[Drift]:
    figures: dict[str, tuple[Stored, Stored]] = {
        "views": (row.views, row.rollup_views),
        "visitors": (row.visitors, row.rollup_visitors),
    }
    if row.rollup_views:  # without views, the row counts as missing
        first, last = _ends(row, bounds)
        figures |= {"first_viewed": (row.first_viewed, first), "last_viewed": (row.last_viewed, last)}
    for figure, (stored, counted) in figures.items():
        if stored != counted:
            yield Drift(
                table="page total", dimension=PAGE.name, value=row.path, figure=figure, stored=stored, counted=counted
            )


def _set_totals(rows: Sequence[TotalRow], bounds: DayBounds, *, using: str) -> None:
    """Add what is missing in totals; then, while their rows are locked, set their instants."""
    added = []
    for row in rows:
        first, last = _ends(row, bounds)
        if first is None or last is None:
            first, last = row.first_viewed, row.last_viewed
        if (first is None or last is None) and row.first_day is not None and row.last_day is not None:
            # The row of a page whose views were all pruned was lost. Its days are the best that is known.
            first, last = bounds.start_of(row.first_day), bounds.start_of(row.last_day)
        added.append((row.path, row.rollup_views - row.views, row.rollup_visitors - row.visitors, first, last))
    sql.write([Insert(PAGE_TOTALS, added)], using=using)
    refresh_page_totals([row.path for row in rows], using=using)


def _after(text: str) -> TextRange:
    return TextRange(low=text, is_open=True)


def _next_texts(position: Position, *bounds: tuple[models.QuerySet[Any], str, int]) -> tuple[TextRange, Position]:
    """Return the next range of paths or sessions, and the position after it.

    A text that alone has more rows than a slice is a range of its own.

    Args:
        bounds: rows in the order of the column that holds the text, that column, and how many of them a range has at
            most.
    """
    at = position.texts
    ends: list[str] = []
    for rows, column, most in bounds:
        rest = {f"{column}__{'gt' if at.is_open else 'gte'}": at.low} if at.low or at.is_open else {}
        ends += rows.filter(**rest).values_list(column, flat=True)[most : most + 1]
    if not ends:
        return at, _part_after(position.part)
    end = min(ends)
    if end == at.low and not at.is_open:
        return TextRange(low=end, only=True), Position(part=position.part, texts=_after(end))
    return replace(at, high=end), Position(part=position.part, texts=TextRange(low=end))


def _next_days(work: _Work, position: Position, views: models.QuerySet[PageView]) -> tuple[Days, Position | None]:
    """Return the next days of a slice, and the position after them, None at the end. One day is never cut."""
    since, bounds = position.since, work.bounds
    if (seal := bounds.sealed_before) and (since is None or since < seal):
        since = seal
    if since is not None:
        views = views.filter(timestamp__gte=bounds.start_of(since))
    instants = views.order_by("timestamp").values_list("timestamp", flat=True)
    last = instants[VIEWS_OF_DAYS_IN_A_SLICE : VIEWS_OF_DAYS_IN_A_SLICE + 1]
    for at in last:
        first_day, until = (day_of(other, bounds.zone) for other in (instants[0], at))
        until = max(until, first_day + DAY)
        return Days(since=position.since, until=until), replace(position, since=until)
    return Days(since=position.since), None


VISITORS_PART, REGISTER_PART, END = "visitors", "dimensions", "end"


def _parts() -> list[str]:
    """Return the parts of a verification in their order: visitors first, since writers go by their days."""
    return [VISITORS_PART, *(dimension.name for dimension in dimensions.rolled_up()), REGISTER_PART, END]


def _part_after(part: str) -> Position:
    """Return the beginning of the part that follows another; the end, when the register lost that one meanwhile."""
    parts = _parts()
    return Position(part=parts[parts.index(part) + 1] if part in parts else REGISTER_PART)


def _check(work: _Work, position: Position) -> Slice:
    """Compare what comes next at a position."""
    if position.part == VISITORS_PART:
        return _check_visitors(work, position)
    if position.part == PAGE.name:
        return _check_pages(work, position)
    if position.part == REGISTER_PART:
        return _check_register(work, position)
    if position.part not in _parts():
        return Slice(drift=(), compared=Counter(), views_read=0, then=_part_after(position.part))
    return _check_days(dimensions.named(position.part), work, position)
