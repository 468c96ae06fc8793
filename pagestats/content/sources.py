"""Content sources: the site's own models, which give pages their titles and types, live."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from django.apps import apps
from django.core.exceptions import EmptyResultSet, ValidationError
from django.db.models import Case, Exists, Expression, Model, OuterRef, Q, QuerySet, Subquery, When
from django.urls import ResolverMatch
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop

from pagestats.conf import conf
from pagestats.content import patterns
from pagestats.content.expressions import ExactText
from pagestats.content.paths import PagePath, Place, template_of
from pagestats.content.patterns import Template, Undecided
from pagestats.hits import unstorable_in

MOST_SLUGS = 500
"""How many slugs one query asks for by name. For more, it reads all published rows of a source."""

MOST_PAGES = 250
"""How many pages of a `url_name` one query asks for. SQLite allows 2,000 columns and a megabyte of SQL."""

UNANSWERABLE = (ValueError, TypeError, ValidationError, ArithmeticError)
"""What fields raise for a value that they can't be compared with. It comes from a path, which may be anything."""


class Titled(NamedTuple):
    """The title and the page type of a page."""

    title: str
    page_type: str


FIXED = {
    "": Titled(gettext_noop("Home"), "home"),
    "/": Titled(gettext_noop("Home"), "home"),
    "/stats": Titled(gettext_noop("Stats"), "stats"),
}

Match = Callable[[str], ResolverMatch | None]


@dataclass(frozen=True, kw_only=True)
class Source:
    """One entry of PAGESTATS_CONTENT: a model whose published rows are pages of the site.

    Either `slug` or `url_name` with `arguments` says where these pages are: `url_name` is the name of the URL pattern,
    `arguments` has a lookup for each argument that the pattern captures.
    """

    name: str
    model: type[Model]
    published: Mapping[str, Any]
    title: str
    type: str
    slug: str = ""
    url_name: str = ""
    arguments: Mapping[str, str]

    def things(self) -> QuerySet[Model]:
        """Return the published rows. A callable in `published` is called each time."""
        lookups = {lookup: value() if callable(value) else value for lookup, value in self.published.items()}
        return self.model._default_manager.filter(**lookups)

    def titles(self, paths: Iterable[str], match: Match) -> dict[str, str]:
        """Return the titles of the paths that are pages of this source. The oldest row of a path counts."""
        wanted = {path: condition for path in paths if (condition := self._condition(path, match)) is not None}
        if not wanted:
            return {}
        titles = self._titles_by_slug if self.slug else self._titles_by_url
        try:
            return titles(wanted)
        except UNANSWERABLE:
            # At least one path can't be asked for, such as /99999999999999999999 or /0000-02-31/.
            return titles({path: condition for path, condition in wanted.items() if self._is_answerable(condition)})

    def path(self, thing: Model) -> str | None:
        """Return the path of a row, published or not; None if it has none, or the path can't be determined."""
        try:
            values = {argument: self._place(lookup).of(thing) for argument, lookup in self._arguments.items()}
            texts = {argument: "" if value is None else str(value) for argument, value in values.items()}
            try:
                path = self.template().filled(texts)
            except Undecided:
                # The URL patterns may have converters of the site's own.
                path = patterns.reversed_path(self.url_name, values)
        except Undecided:
            return None
        return path if _is_comparable(path) else None

    def template(self) -> Template:
        """Return how the paths of this source are built; raise `Undecided` if that can't be determined."""
        return template_of(self.url_name, self.arguments)

    def path_expression(self) -> PagePath:
        """Return the path of each row of a queryset as SQL: NULL for a row that has none.

        Raises `Undecided` if SQL can't build it. If the URL patterns aren't loaded yet, they are checked only when the
        statement is compiled.
        """
        texts = {argument: self._place(lookup).expression() for argument, lookup in self._arguments.items()}
        if patterns.are_in_use():
            self.template()
        return PagePath(self.url_name, tuple(texts), *texts.values())

    @property
    def _arguments(self) -> Mapping[str, str]:
        return {"slug": self.slug} if self.slug else self.arguments

    def _place(self, lookup: str) -> Place:
        return Place.of_lookup(self.model, lookup)

    def _condition(self, path: str, match: Match) -> Q | None:
        """Return the condition for the row that is the page at a path; None if there can be no such row."""
        if not _is_comparable(path):
            return None
        if self.slug:
            return Q((self.slug, path.removeprefix("/")))
        found = match(path)
        if found is None or found.view_name != self.url_name or not self.arguments.keys() <= found.kwargs.keys():
            return None
        values = [(lookup, found.kwargs[argument]) for argument, lookup in self.arguments.items()]
        return Q(*values) if all(_is_comparable(value) for _, value in values) else None

    def _titles_by_slug(self, wanted: Mapping[str, Q]) -> dict[str, str]:
        slugs = {path: path.removeprefix("/") for path in wanted}
        things, asked = self.things(), set(slugs.values())
        if len(asked) <= MOST_SLUGS:
            things = things.filter(**{f"{self.slug}__in": asked})
        newest_first = things.order_by("-pk").values_list(self.slug, self.title).iterator()
        # To a database "a" and "A" may be the same slug; paths always differ by them.
        titles = {str(slug): str(title) for slug, title in newest_first if str(slug) in asked and title is not None}
        return {path: titles[slug] for path, slug in slugs.items() if slug in titles}

    def _titles_by_url(self, wanted: Mapping[str, Q]) -> dict[str, str]:
        """Ask for each page with the lookups of its view. They need not be equalities, so the database has to judge."""
        things = self.things().order_by("pk").values(self.title)
        found: dict[str, str] = {}
        for paths in _batches(list(wanted), MOST_PAGES):
            titles = [Subquery(things.filter(wanted[path])[:1]) for path in paths]
            # The titles are subqueries of one row; which row it is doesn't matter.
            for row in self.model._base_manager.order_by().values_list(*titles)[:1]:
                found |= {path: str(title) for path, title in zip(paths, row, strict=True) if title is not None}
        return found

    def _is_answerable(self, condition: Q) -> bool:
        try:
            things = self.things().filter(condition)
            things.query.get_compiler(things.db).as_sql()
        except (*UNANSWERABLE, EmptyResultSet):
            return False
        return True


def configured_sources() -> list[Source]:
    """Return the site's content sources in their order."""
    return [
        Source(name=name, **{"arguments": {}, **source, "model": apps.get_model(source["model"])})
        for name, source in conf.CONTENT.items()
    ]


def path_of(thing: Model) -> str | None:
    """Return the path of an object of the site's own, as in `request.path`, published or not.

    It is what `reverse()` returns for the object's content source at this moment: below the prefix under which the site
    is mounted and, with `i18n_patterns`, in the active language. None if no content source has the object's model, the
    object lacks a value that its path needs, or the path can't be determined.
    """
    if not isinstance(thing, Model):
        raise TypeError(f"{thing!r:.100} is not a model instance. For a path, use views_on() or active_visitors().")
    found = sources_of(type(thing))
    if len(found) > 1:
        found = [source for source in found if source.things().filter(pk=thing.pk).exists()] or found
    return found[0].path(thing) if found else None


def path_expression(model: type[Model]) -> Expression:
    """Return the path of each row of a model as SQL: the same path as `path_of` returns for its object.

    Raises `Undecided`, with the reason, if SQL can't build it or if no content source has the model.
    """
    found = sources_of(model)
    if not found:
        raise Undecided(f"no content source has the model {model._meta.label!r}. Add one to PAGESTATS_CONTENT")
    paths = [source.path_expression() for source in found]
    published = [
        When(Exists(source.things().filter(pk=OuterRef("pk"))), then=path)
        for source, path in zip(found, paths, strict=True)
    ]
    return ExactText(Case(*published, default=paths[0]) if len(found) > 1 else paths[0])


def sources_of(model: type[Model]) -> list[Source]:
    """Return the content sources that rows of a model may belong to, in their order."""
    return [source for source in configured_sources() if issubclass(_concrete(model), _concrete(source.model))]


def _concrete(model: type[Model]) -> type[Model]:
    return model._meta.concrete_model or model


def published_counts() -> dict[str, int]:
    """Return how many published rows each content source has."""
    return {source.name: source.things().count() for source in configured_sources()}


def titles(paths: Iterable[str]) -> dict[str, Titled]:
    """Return the title and the page type of each path.

    "" and "/" are the home page, "/stats" is the stats page. Then the content sources are asked in their order: a
    source with a `slug` has the page whose slug is the path without one leading slash; a source with a `url_name` has
    the pages that the URL pattern of that name serves. Any other path is its own title, of type "other".
    """
    paths = set(paths)
    found = {path: Titled(gettext(FIXED[path].title), FIXED[path].page_type) for path in paths & FIXED.keys()}
    match = cache(patterns.match)
    # In the site's own time zone: the year in a URL doesn't depend on the zone that a reader has activated.
    with timezone.override(None):
        for source in configured_sources():
            titled = source.titles(paths - found.keys(), match)
            found |= {path: Titled(title, source.type) for path, title in titled.items()}
    return found | {path: Titled(path, "other") for path in paths - found.keys()}


def _is_comparable(value: object) -> bool:
    """Return whether every database can compare with a value."""
    return not isinstance(value, str) or not unstorable_in(value)


def _batches(paths: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(paths), size):
        yield paths[start : start + size]
