"""Views and visitors of the site's own objects, whose paths the content sources give."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Model, QuerySet
from django.db.models.sql.compiler import SQLCompiler

from pagestats import content
from pagestats.content import Undecided
from pagestats.days import Moment
from pagestats.hits import instant
from pagestats.models import PageTotal, PageView
from pagestats.stats.moments import read_moment
from pagestats.stats.page_figures import Figure, LastDays, PageFigure, page_figure
from pagestats.stats.ranges import MOST_DAYS
from pagestats.stats.refusals import Refused, refuse_no_number_of_rows, stored_path
from pagestats.stats.titled import address

Rows = TypeVar("Rows", bound=QuerySet[Any])


class NoPage(Refused):
    """The figures of a model's objects aren't available as they were asked for. The message says what to do instead."""


def with_views(
    queryset: Rows,
    *,
    days: int | None = None,
    name: str = "views",
    at: datetime | None = None,
    moment: Moment | None = None,
) -> Rows:
    """Annotate each row of a queryset with the views of its page, 0 without any: exact whenever the queryset is read.

    It stays one statement, which finds the counts of a page by an index; with `days`, the moment is read before it.
    You may sort, filter and aggregate by the figure.

    Args:
        queryset: rows of a model that a content source has.
        days: the views of the last so many reporting days, today included; None is all time.
        name: what to call the figure. The model must not have a field of this name.
        at: the aware datetime up to whose day to count; None is the time at which the queryset is read.
        moment: the same, if it was read already.

    Raises:
        NoPage: a `ValueError`, where SQL can't compute the paths of the objects. It is raised here, or when the
            queryset is read if it is made before the URL patterns are loaded, as that of a class-based view may be.

    The figure is None for a path of more than 512 characters. `views_of` works in both cases.
    """
    return _with(queryset, "views", name, _last_days(days, at, moment))


def with_visitors(
    queryset: Rows,
    *,
    days: int | None = None,
    name: str = "visitors",
    at: datetime | None = None,
    moment: Moment | None = None,
) -> Rows:
    """Annotate each row of a queryset with the visitors of its page, like `with_views`.

    Where ids live for a day they are daily visitors. None: not available, because page views of this page were pruned,
    so returning visitors can't be recognised.
    """
    return _with(queryset, "visitors", name, _last_days(days, at, moment))


def views_of(thing: Model, *, days: int | None = None, at: datetime | None = None, moment: Moment | None = None) -> int:
    """Return the views of the page of one object; 0 where its values don't make a path.

    The arguments are those of `with_views`. Raises `NoPage` if no content source has objects of its model.
    """
    path = content.path_of(thing)
    _require_source(type(thing), "views")
    _last_days(days, at, moment)  # refuses a wrong number of days
    return 0 if path is None else views_on(path, days=days, at=at, moment=moment)


def _require_source(model: type[Model], figure: str) -> None:
    if not content.sources_of(model):
        raise NoPage(
            f"The {figure} of {model._meta.label} aren't available: no content source has this model. Add one to"
            " PAGESTATS_CONTENT."
        )


def views_on(path: str, *, days: int | None = None, at: datetime | None = None, moment: Moment | None = None) -> int:
    """Return the views of the page at a path, with or without an object; raise `Refused` if it isn't a path.

    The other arguments are those of `with_views`.
    """
    using, path = router.db_for_read(PageTotal), stored_path("path", path)
    return page_figure(path, "views", last_days=_last_days(days, at, moment), using=using) or 0


class Popular(NamedTuple):
    """A published object, and how often its page was viewed."""

    object: Model
    title: str
    url: str
    views: int


def popular(
    *, days: int | None = 7, limit: int = 10, at: datetime | None = None, moment: Moment | None = None
) -> list[Popular]:
    """Return the most viewed published objects of all content sources, most first; none without a view.

    It takes one query for each content source, since each has a table of its own, and one for the moment; more only
    where many objects share their pages. Of two objects on one page it returns the one that was created first. The
    other arguments are those of `with_views`, and so is what it raises.
    """
    refuse_no_number_of_rows("limit", limit)
    if days is not None:
        moment = moment or read_moment(at)
    last_days = _last_days(days, at, moment)
    found: dict[str, Popular] = {}
    for source in content.configured_sources():
        here: dict[str, Popular] = {}
        for thing in _most_viewed(source, last_days, limit):
            path = getattr(thing, PATH)
            if len(here) == limit or not getattr(thing, VIEWS):
                break
            if path not in here and path not in found and path not in content.FIXED:
                here[path] = Popular(thing, str(getattr(thing, TITLE)), address(path), getattr(thing, VIEWS))
        found |= here
    return sorted(found.values(), key=lambda row: -row.views)[:limit]


VIEWS, TITLE, PATH = "pagestats_views", "pagestats_title", "pagestats_path"


def _most_viewed(source: content.Source, last_days: LastDays | None, limit: int) -> Iterator[Any]:
    """Yield the things of a source, the most viewed first, reading as many at once as are likely to be wanted."""
    rows = _with(source.things(), "views", VIEWS, last_days)
    rows = rows.annotate(**{TITLE: F(source.title), PATH: content.path_expression(source.model)})
    rows = rows.order_by(F(VIEWS).desc(nulls_last=True), "pk")
    start, size = 0, 2 * limit  # some share their page with one that was created before
    while some := list(rows[start : start + size]):
        yield from some
        if len(some) < size:
            break
        start, size = start + size, 2 * size


def _with(queryset: Rows, figure: Figure, name: str, last_days: LastDays | None) -> Rows:
    model = queryset.model
    _require_source(model, figure)
    using, ours = queryset.db, router.db_for_read(PageView)
    if using != ours:
        raise NoPage(
            f"The {figure} of {model._meta.label} can't be a column of its rows: they are in the database {using!r},"
            f" and page views in {ours!r}. Use stats.views_of() for each object."
        )
    try:
        path = content.path_expression(model)
    except Undecided as error:
        raise _no_column(model, figure, error) from None
    return queryset.annotate(**{name: _Column(path, figure, last_days=last_days)})


class _Column(PageFigure):
    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> tuple[str, Any]:  # type: ignore[override]  # see page_figures.py
        try:
            return super().as_sql(compiler, connection, **context)
        except Undecided as error:
            raise _no_column(compiler.query.model, self.figure, error) from None


def _no_column(model: Any, figure: str, error: Undecided) -> NoPage:
    return NoPage(
        f"The {figure} of {model._meta.label} can't be a column of its rows: {error}. Use stats.views_of() for each"
        " object."
    )


def _last_days(days: int | None, at: datetime | None, moment: Moment | None) -> LastDays | None:
    """Return the range of days, None for all time; raise `Refused` unless it is a number of days."""
    if days is not None and (isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MOST_DAYS):
        raise Refused(f"days is {days!r}. Use a number from 1 to {MOST_DAYS:,}, or None for all time.")
    if at is not None:
        instant(at)
    return None if days is None else LastDays(days, at, moment)
