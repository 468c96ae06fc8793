"""Change page views that the rollups contain: subtract sessions, merge paths."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Iterable
from datetime import date, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from django.db import router
from django.db.models import Q

from pagestats import dimensions, sql
from pagestats.days import day_of, start_of
from pagestats.dimensions import PAGE, Dimension, Key, keys
from pagestats.hits import Hit
from pagestats.models import ActiveSession, Calendar, PageTotal, PageView, Rollup, Visitor
from pagestats.rollups.adding import Addition, SealedDay, add
from pagestats.rollups.chunks import Progress, Scope, chunk_size, chunks, scope_of
from pagestats.rollups.figures import Figure, cells


def subtract_sessions(session_ids: Iterable[str], *, using: str) -> set[str]:
    """Subtract everything that some sessions added to the rollups, and blank their visitors; return their paths.

    Call it in a transaction that holds the locks of the sessions and that deletes their rolled-up page views or makes
    them pending. None of the sessions may have sealed days. After the page views are gone, call `refresh_page_totals`
    for the paths.
    """
    zone = Calendar.zone_of(sql.current(Calendar.objects.using(using)))
    days: defaultdict[str, defaultdict[Key, list[date]]] = defaultdict(lambda: defaultdict(list))
    instants: dict[str, tuple[datetime, datetime]] = {}
    views = PageView.objects.using(using).rolled_up().filter(session_id__in=session_ids)
    for session_id, path, at in sql.current(views).values_list("session_id", "path", "timestamp"):
        day = day_of(at, zone)
        for key in keys(path):
            days[session_id][key].append(day)
        _stretch(instants, path, at)
    figures: Counter[Figure] = Counter()
    for of_session in days.values():
        figures.subtract(cells(of_session))
    add(Addition(figures=figures, visitors=(), instants=instants), using=using)
    Visitor.unguarded.using(using).filter(session_id__in=session_ids).update(**Visitor.BLANK)
    return set(instants)


def refresh_page_totals(paths: Iterable[str], *, using: str) -> None:
    """Set again when pages were first and last viewed, after views of them were removed; delete rows without views.

    Call it in the transaction that changed the totals of these pages, after that change: the transaction holds their
    rows then, and a writer that stores a view of one of the pages waits. Only the stored instants remember when pruned
    page views were; where the stored last instant is of a view that was removed, the beginning of the last sealed day
    with a view is the best that is known.
    """
    calendar = sql.current(Calendar.objects.using(using).row()).first()
    views = PageView.objects.using(using).rolled_up()
    for path in sorted(paths):
        stored = PageTotal.unguarded.using(using).filter(path=path)
        if stored.filter(views=0, visitors=0).delete()[0]:
            continue  # a row without views would hand its old instants to the next view of the page
        of_page = views.filter(path=path)
        first, last = (
            sql.current(of_page.order_by(order)).values_list("timestamp", flat=True).first()
            for order in ("timestamp", "-timestamp")
        )
        if (total := sql.current(stored).first()) is None:
            continue
        if calendar is not None and (sealed_day := _last_sealed_day(PAGE.key(path), calendar, using=using)):
            zone = ZoneInfo(calendar.zone)
            first = min(at for at in (total.first_viewed, first) if at is not None)
            if last is None or day_of(last, zone) <= sealed_day:
                is_of_a_pruned_view = total.last_viewed < start_of(sealed_day + timedelta(days=1), zone)
                last = total.last_viewed if is_of_a_pruned_view else max(last or first, start_of(sealed_day, zone))
        if first is not None and last is not None:
            stored.update(first_viewed=first, last_viewed=last)


def _stretch(instants: dict[str, tuple[datetime, datetime]], path: str, at: datetime) -> None:
    first, last = instants.get(path, (at, at))
    instants[path] = min(first, at), max(last, at)


def _last_sealed_day(key: Key, calendar: Calendar, *, using: str) -> date | None:
    """Return the last sealed day on which anything was counted for a key, if any."""
    if calendar.sealed_before is None:
        return None
    rollups = Rollup.objects.using(using).filter(
        dimension=key.dimension, value=key.value, day__lt=calendar.sealed_before
    )
    return sql.current(rollups.filter(views__gt=0).order_by("-day")).values_list("day", flat=True).first()


def merge_paths(source: str, target: str, *, batch_size: int | None = None) -> Generator[Progress, None, None]:
    """Move all page views of one path to another, chunk by chunk, and yield the progress after each chunk.

    Each chunk is one transaction with all views that some sessions have of the two paths; their counts move with them.
    It may run beside live traffic, and may be killed at any instant and run again. Views are not deduplicated again:
    where a session viewed both pages within the window, both views still count. Views that arrive at `source` while
    the merge runs are moved too. Redirect the old path first, or merge once more.

    Args:
        source: the path whose page views are moved away.
        target: the path that gets them.
        batch_size: page views that a chunk starts with, 1 to 10,000; None is 500.

    Raises:
        ValueError: both paths are the same, or the target does not begin with a slash.
        InvalidHit: a path is not a text that can be stored.
        SealedDay: page views of one of the paths were pruned, so sessions that viewed both pages can't be recognised.
    """
    source, target = _two_paths(source, target)
    size = chunk_size(batch_size)
    using = router.db_for_write(PageView)
    _refuse_sealed_pages(source, target, using=using)
    return _merge(source, target, size, using=using)


def preview_merge(source: str, target: str) -> Scope:
    """Return how much `merge_paths` would move; raise what it would raise. Nothing is written."""
    source, target = _two_paths(source, target)
    using = router.db_for_write(PageView)
    _refuse_sealed_pages(source, target, using=using)
    return scope_of(PageView.objects.using(using).filter(path=source), Calendar.zone_of(Calendar.objects.using(using)))


def _two_paths(source: str, target: str) -> tuple[str, str]:
    paths = Hit(path=source, session_id="").path, Hit(path=target, session_id="").path
    if paths[0] == paths[1]:
        raise ValueError(f"source and target are both {paths[0]!r}. Name two paths; they are compared byte by byte.")
    if not paths[1].startswith("/"):
        raise ValueError(f"target is {paths[1]!r}, which does not begin with a slash. Give the whole path.")
    return paths


def _refuse_sealed_pages(source: str, target: str, *, using: str) -> None:
    """Raise `SealedDay` where page views that would tell who viewed both pages, or both their values, were pruned."""
    calendar = sql.current(Calendar.objects.using(using).row()).first()
    if calendar is None:
        return
    for dimension in _changed_by_merge(source, target):
        for path in (source, target):
            if _last_sealed_day(key := dimension.key(path), calendar, using=using):
                what = "" if dimension is PAGE else f"The {dimension.noun} "
                raise SealedDay(
                    f"{what}{key.value!r} has page views before {calendar.sealed_before} that were deleted, so visitors"
                    " who viewed both pages can't be recognised. Redirect the old path and keep both sets of counts."
                )


def _changed_by_merge(source: str, target: str) -> list[Dimension]:
    """Return the dimensions in which views of the two paths have different values."""
    return [each for each in dimensions.rolled_up() if each.value_of(source) != each.value_of(target)]


def _merge(source: str, target: str, size: int, *, using: str) -> Generator[Progress, None, None]:
    views = PageView.objects.using(using).filter(path=source)
    total, processed = views.count(), 0
    for chunk in chunks(lambda: views, size, by="timestamp", using=using):
        sessions = {session_id for _, session_id in chunk}
        processed += sql.transact(partial(_merge_chunk, sessions, source, target, using=using), using=using)
        yield Progress(processed=processed, total=max(total, processed))
    here = ActiveSession.objects.using(using).filter(current_path=source)
    sql.retrying(lambda: here.update(current_path=target), using=using)


def _merge_chunk(sessions: set[str], source: str, target: str, *, using: str) -> int:
    """Move the views of some sessions, and add what that changes.

    Counts change only in the dimensions in which the two paths have different values, and there only for these values;
    so of these, all rolled-up views of the sessions are read, whichever path they are of.
    """
    sql.lock_sessions(sessions, using=using)
    _refuse_sealed_pages(source, target, using=using)
    zone = Calendar.zone_of(sql.current(Calendar.objects.using(using)))
    changed = _changed_by_merge(source, target)
    concerned = Q()
    for dimension in changed:
        concerned |= dimension.counts_for(dimension.value_of(source)) | dimension.counts_for(dimension.value_of(target))
    before: defaultdict[str, defaultdict[Key, list[date]]] = defaultdict(lambda: defaultdict(list))
    after: defaultdict[str, defaultdict[Key, list[date]]] = defaultdict(lambda: defaultdict(list))
    instants: dict[str, tuple[datetime, datetime]] = {}
    views = PageView.objects.using(using).filter(session_id__in=sessions)
    rolled_up = sql.current(views.rolled_up().filter(concerned))
    for session_id, path, at in rolled_up.values_list("session_id", "path", "timestamp"):
        day, new_path = day_of(at, zone), target if path == source else path
        for dimension in changed:
            before[session_id][dimension.key(path)].append(day)
            after[session_id][dimension.key(new_path)].append(day)
        if path in (source, target):
            _stretch(instants, path, at)
            _stretch(instants, target, at)
    figures: Counter[Figure] = Counter()
    for session_id, days in before.items():
        figures.update(cells(after[session_id]))
        figures.subtract(cells(days))
    moved = views.filter(path=source).update(path=target)
    add(Addition(figures=figures, visitors=(), instants=instants), using=using)
    if source in instants:  # otherwise this transaction doesn't hold the row, and another writer may
        refresh_page_totals([source], using=using)
    return moved
