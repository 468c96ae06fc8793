"""The figures of the site's own objects: of the pages that their content sources say they are viewed at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeVar

from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Model, QuerySet
from django.db.models.sql.compiler import SQLCompiler

from pagestats import content, sql
from pagestats.content import Undecided
from pagestats.dimensions import PAGE
from pagestats.hits import instant
from pagestats.models import PageTotal, PageView
from pagestats.stats.ranges import MOST_DAYS
from pagestats.stats.refusals import Refused, refuse_no_number_of_rows, stored_path
from pagestats.stats.titled import address

Rows = TypeVar("Rows", bound=QuerySet[Any])


class NoPage(Refused):
    """The figures of a model's objects can't be had as it was asked. The message says why, and what to do."""


def with_views(queryset: Rows, *, days: int | None = None, name: str = "views", at: datetime | None = None) -> Rows:
    """Give each row of a queryset the views of its page, exact at the instant of each reading, 0 without any.

    It stays one statement, which finds what was counted of a page by the index of its path; with `days`, the zone of
    the days is read first. It may be sorted, filtered and added up by the figure.

    Arguments:
        queryset: of a model that a content source has.
        days: of the last so many reporting days, today included; None is all time.
        name: what the figure is called. The model must not have a field of this name.
        at: the aware datetime of which the last day is; None is now, whenever the queryset is read.

    Raises `NoPage`, a `ValueError`, where SQL can't tell the paths of the objects: now, or when the queryset is read if
    it is made before the URL patterns are in use, as one that is a part of a view may be. The figure is None for a path
    of more than 512 characters. `views_of` knows either.
    """
    return _with(queryset, "views", name, _range(days, at))


def with_visitors(
    queryset: Rows, *, days: int | None = None, name: str = "visitors", at: datetime | None = None
) -> Rows:
    """Give each row of a queryset the visitors of its page, like `with_views`.

    Where ids live one day they are daily visitors. None: it can't be told, since page views of this page that would
    tell who came back were pruned, of all time or within the range.
    """
    return _with(queryset, "visitors", name, _range(days, at))


def views_of(thing: Model, *, days: int | None = None, at: datetime | None = None) -> int:
    """Return the views of the page of one object; 0 where its path can't be told of its values.

    Arguments: as of `with_views`. Raises `NoPage` if no content source has objects of its model.
    """
    path = content.path_of(thing)
    _require_source(type(thing), "views")
    _range(days, at)  # refuses what is none
    return 0 if path is None else views_on(path, days=days, at=at)


def _require_source(model: type[Model], figure: str) -> None:
    if not content.sources_of(model):
        raise NoPage(
            f"The {figure} of {model._meta.label} can't be told: no content source has this model. Add one to"
            " PAGESTATS_CONTENT."
        )


def views_on(path: str, *, days: int | None = None, at: datetime | None = None) -> int:
    """Return the views of the page at a path, which need not be that of an object; raise `Refused` for no path."""
    using, path = router.db_for_read(PageTotal), stored_path("path", path)
    return sql.page_figure(path, "views", dimension=PAGE.name, range=_range(days, at), using=using) or 0


class Popular(NamedTuple):
    """A published object, and how often its page was viewed."""

    object: Model
    title: str
    url: str
    views: int


def popular(*, days: int | None = 7, limit: int = 10, at: datetime | None = None) -> list[Popular]:
    """Return the most viewed published objects of all content sources, most first; none without a view.

    One query a content source, since each has a table of its own, and one for the zone of the days; more only where
    many objects share their pages. Of two objects on one page the first created is it. Arguments: as of `with_views`;
    raises `NoPage` as it does.
    """
    refuse_no_number_of_rows("limit", limit)
    range = _range(days, at)
    if range:
        range = range.settled(router.db_for_read(PageView))
    found: dict[str, Popular] = {}
    for source in content.configured_sources():
        here: dict[str, Popular] = {}
        for thing in _most_viewed(source, range, limit):
            path = getattr(thing, PATH)
            if len(here) == limit or not getattr(thing, VIEWS):
                break
            if path not in here and path not in found and path not in content.FIXED:
                here[path] = Popular(thing, str(getattr(thing, TITLE)), address(path), getattr(thing, VIEWS))
        found |= here
    return sorted(found.values(), key=lambda row: -row.views)[:limit]


VIEWS, TITLE, PATH = "pagestats_views", "pagestats_title", "pagestats_path"


def _most_viewed(source: content.Source, range: sql.Range | None, limit: int) -> Iterator[Any]:
    """Yield the things of a source, the most viewed first, as many at once as are likely to be asked for."""
    rows = _with(source.things(), "views", VIEWS, range)
    rows = rows.annotate(**{TITLE: F(source.title), PATH: content.path_expression(source.model)})
    rows = rows.order_by(F(VIEWS).desc(nulls_last=True), "pk")
    start, size = 0, 2 * limit  # with those that others are in front of
    while some := list(rows[start : start + size]):
        yield from some
        if len(some) < size:
            break
        start, size = start + size, 2 * size


def _with(queryset: Rows, figure: Literal["views", "visitors"], name: str, range: sql.Range | None) -> Rows:
    model = queryset.model
    _require_source(model, figure)
    using, ours = queryset.db, router.db_for_read(PageView)
    if using != ours:
        raise NoPage(
            f"The {figure} of {model._meta.label} can't be a column of its rows: they are in the database {using!r},"
            f" and page views in {ours!r}. Use stats.views_of(), object by object."
        )
    try:
        path = content.path_expression(model)
    except Undecided as error:
        raise _no_column(model, figure, error) from None
    column = _Column(path, figure, dimension=PAGE.name, range=range)
    return queryset.annotate(**{name: column})


class _Column(sql.PageFigure):
    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> tuple[str, Any]:  # type: ignore[override]  # see sql/objects.py
        try:
            return super().as_sql(compiler, connection, **context)
        except Undecided as error:
            raise _no_column(compiler.query.model, self.figure, error) from None


def _no_column(model: Any, figure: str, error: Undecided) -> NoPage:
    return NoPage(
        f"The {figure} of {model._meta.label} can't be a column of its rows: {error}. Use stats.views_of(), object"
        " by object."
    )


def _range(days: int | None, at: datetime | None) -> sql.Range | None:
    """Return the range of days, None for all time; raise `Refused` for what is no number of days."""
    if days is not None and (isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MOST_DAYS):
        raise Refused(f"days is {days!r}. Use a number from 1 to {MOST_DAYS:,}, or None for all time.")
    if at is not None:
        instant(at)
    return None if days is None else sql.Range(days, at)
