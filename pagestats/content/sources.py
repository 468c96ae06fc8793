"""Content sources: the site's own models that give pages their titles and types, live."""

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
"""Slugs that one query asks for by name; for more, it reads all published things of a source."""

MOST_PAGES = 250
"""Pages of a `url_name` that one query asks for. SQLite takes no more than 2,000 columns and a megabyte."""

UNANSWERABLE = (ValueError, TypeError, ValidationError, ArithmeticError)
"""What a field raises that cannot be compared with a value, which comes out of a path that anybody may ask for."""


class Titled(NamedTuple):
    """What a page is called, and of what type it is."""

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

    Where they are is said either by `slug` or by `url_name` and `arguments`: which URL pattern serves them, and the
    lookup of each argument that it captures.
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
        """Return the published rows. A callable in `published` is called now, each time."""
        lookups = {lookup: value() if callable(value) else value for lookup, value in self.published.items()}
        return self.model._default_manager.filter(**lookups)

    def titles(self, paths: Iterable[str], match: Match) -> dict[str, str]:
        """Return the title of each of the paths that is a page of this source; the first created is served on it."""
        wanted = {path: condition for path in paths if (condition := self._condition(path, match)) is not None}
        if not wanted:
            return {}
        titles = self._titles_by_slug if self.slug else self._titles_by_url
        try:
            return titles(wanted)
        except UNANSWERABLE:
            # One of them is to blame, such as /99999999999999999999 or /0000-02-31/.
            return titles({path: condition for path, condition in wanted.items() if self._is_answerable(condition)})

    def path(self, thing: Model) -> str | None:
        """Return the path at which a row is viewed, published or not, or None when none can be told."""
        try:
            values = {argument: self._place(lookup).of(thing) for argument, lookup in self._arguments.items()}
            texts = {argument: "" if value is None else str(value) for argument, value in values.items()}
            try:
                path = self.template().filled(texts)
            except Undecided:
                # The URL patterns may know how to write the values, though nobody else does.
                path = patterns.reversed_path(self.url_name, values)
        except Undecided:
            return None
        return path if _is_comparable(path) else None

    def template(self) -> Template:
        """Return how the paths of this source are put together; raise `Undecided` where that can't be told."""
        return template_of(self.url_name, self.arguments)

    def path_expression(self) -> PagePath:
        """Return the path of each row of a queryset, NULL for one that has none; raise `Undecided` if SQL can't.

        What the URL patterns don't allow is told when the statement is made, unless they are in use already.
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
        """Return the condition that a row meets which is the page at a path, or None when there can be no such page."""
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
        # A database may take "a" and "A" for one slug; a path never does.
        titles = {str(slug): str(title) for slug, title in newest_first if str(slug) in asked and title is not None}
        return {path: titles[slug] for path, slug in slugs.items() if slug in titles}

    def _titles_by_url(self, wanted: Mapping[str, Q]) -> dict[str, str]:
        """Ask for each page as its view would, and let the database judge: a lookup need not be an equality."""
        things = self.things().order_by("pk").values(self.title)
        found: dict[str, str] = {}
        for paths in _batches(list(wanted), MOST_PAGES):
            titles = [Subquery(things.filter(wanted[path])[:1]) for path in paths]
            # Of any one row all that is asked is to carry the answers.
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
    """Return the path at which an object of the site's own is viewed, as `request.path` has it, published or not.

    It is the one that `reverse()` would make of the object's content source, here and now: below the prefix under which
    the site is mounted and, with `i18n_patterns`, in the active language. None: no content source has objects of its
    model, the object lacks what its path is made of, or its path can't be told.
    """
    if not isinstance(thing, Model):
        raise TypeError(f"{thing!r:.100} is no object of a model. Of a path, ask for views_on() or active_visitors().")
    found = sources_of(type(thing))
    if len(found) > 1:
        found = [source for source in found if source.things().filter(pk=thing.pk).exists()] or found
    return found[0].path(thing) if found else None


def path_expression(model: type[Model]) -> Expression:
    """Return what `path_of` tells of an object, as an expression of its row.

    Raises `Undecided`, with the reason, where SQL can't tell it, or no content source has objects of the model.
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
    """Return the content sources that may have rows of a model, in their order."""
    return [source for source in configured_sources() if issubclass(_concrete(model), _concrete(source.model))]


def _concrete(model: type[Model]) -> type[Model]:
    return model._meta.concrete_model or model


def published_counts() -> dict[str, int]:
    """Return how many things each source has published."""
    return {source.name: source.things().count() for source in configured_sources()}


def titles(paths: Iterable[str]) -> dict[str, Titled]:
    """Return the title and the page type of each path.

    The rule: "" and "/" are the home page, "/stats" the stats page; else each content source is asked, in their order:
    one with a `slug` has the page whose slug is the path without one leading slash, one with a `url_name` those that
    the URL pattern of that name leads to; else the path is its own title, of type "other".
    """
    paths = set(paths)
    found = {path: Titled(gettext(FIXED[path].title), FIXED[path].page_type) for path in paths & FIXED.keys()}
    match = cache(patterns.match)
    # In the site's own time zone: the year of a URL is not to change with the zone that a reader has activated.
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
