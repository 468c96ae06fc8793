"""Content sources: the site's own models that give pages their titles and types, live."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.core.exceptions import EmptyResultSet, FieldError, ValidationError
from django.db.models import F, Model, Q, QuerySet, Subquery
from django.urls import Resolver404, ResolverMatch, get_resolver, get_script_prefix, resolve
from django.utils import timezone, translation

from pagestats.conf import Settings, conf

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
    "": Titled("Home", "home"),
    "/": Titled("Home", "home"),
    "/stats": Titled("Stats", "stats"),
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


def sources() -> list[Source]:
    """Return the site's content sources in their order."""
    return [
        Source(name=name, **{"arguments": {}, **source, "model": apps.get_model(source["model"])})
        for name, source in conf.CONTENT.items()
    ]


def published_counts() -> dict[str, int]:
    """Return how many things each source has published."""
    return {source.name: source.things().count() for source in sources()}


def titles(paths: Iterable[str]) -> dict[str, Titled]:
    """Return the title and the page type of each path.

    The rule: "" and "/" are the home page, "/stats" the stats page; else each content source is asked, in their order:
    one with a `slug` has the page whose slug is the path without one leading slash, one with a `url_name` those that
    the URL pattern of that name leads to; else the path is its own title, of type "other".
    """
    paths = set(paths)
    found = {path: FIXED[path] for path in paths & FIXED.keys()}
    match = cache(_match)
    # In the site's own time zone: the year of a URL is not to change with the zone that a reader has activated.
    with timezone.override(None):
        for source in sources():
            titled = source.titles(paths - found.keys(), match)
            found |= {path: Titled(title, source.type) for path, title in titled.items()}
    return found | {path: Titled(path, "other") for path in paths - found.keys()}


def _match(path: str) -> ResolverMatch | None:
    """Return what the site's URL patterns make of a path, whatever the language it is in, or None."""
    prefix = get_script_prefix()
    if path.startswith(prefix):
        path = f"/{path.removeprefix(prefix)}"
    # `i18n_patterns` match in the active language alone, which is that of who reads, not of the page.
    language = translation.get_language_from_path(path) if settings.USE_I18N else None
    with translation.override(language or settings.LANGUAGE_CODE):
        try:
            return resolve(path, urlconf=settings.ROOT_URLCONF)
        except Resolver404:
            return None


def _is_comparable(value: object) -> bool:
    """Tell whether every database takes a value: a text has no NUL and no lone surrogate."""
    return not isinstance(value, str) or not re.search("[\x00\ud800-\udfff]", value)


def _batches(paths: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(paths), size):
        yield paths[start : start + size]


class Fault(NamedTuple):
    """What is wrong with a content source, and what to write instead."""

    fault: str
    hint: str


def faults() -> list[Fault]:
    """Return what is wrong with the content sources: models, fields and URL names that are not there.

    It asks no database. Whether PAGESTATS_CONTENT has the right shape is not asked here; if not, nothing is returned.
    """
    if Settings.CONTENT.fault():
        return []
    return [fault for name, source in conf.CONTENT.items() for fault in _faults(f"PAGESTATS_CONTENT[{name!r}]", source)]


def _faults(where: str, source: Mapping[str, Any]) -> Iterator[Fault]:
    try:
        model = apps.get_model(source["model"])
    except (LookupError, ValueError):
        yield Fault(
            f"{where} has the model {source['model']!r}, which is not installed.",
            'Use "app_label.ModelName" of an app in INSTALLED_APPS.',
        )
    else:
        yield from _lookup_faults(where, source, model)
    if url_name := source.get("url_name"):
        yield from _url_faults(where, url_name, source["arguments"])


def _lookup_faults(where: str, source: Mapping[str, Any], model: type[Model]) -> Iterator[Fault]:
    rows = model._default_manager.all()
    label = model._meta.label
    for key in ("title", "slug"):
        if field := source.get(key):
            try:
                rows.values_list(field)
            except FieldError as error:
                yield Fault(f"{where} has the {key} {field!r}, which is no field of {label}.", f"{error}.")
    for lookup, value in source["published"].items():
        value = value() if callable(value) else value
        try:
            rows.filter(**{lookup: value})
        except FieldError as error:
            yield Fault(f"{where} has the published lookup {lookup!r}, which {label} does not have.", f"{error}.")
        except UNANSWERABLE as error:
            hint = " ".join(error.messages) if isinstance(error, ValidationError) else f"{error}"
            yield Fault(f"{where} compares the published lookup {lookup!r} with {value!r}, which it can't.", hint)
    for argument, lookup in source.get("arguments", {}).items():
        try:
            # Any expression will do: names are looked up, and no value is there to be refused.
            rows.filter(**{lookup: F("pk")})
        except FieldError as error:
            yield Fault(
                f"{where} has the lookup {lookup!r} for the argument {argument!r}, which {label} does not have.",
                f"{error}.",
            )
        except UNANSWERABLE:
            pass


def _url_faults(where: str, url_name: str, arguments: Mapping[str, str]) -> Iterator[Fault]:
    captured = _captured(url_name)
    if not captured:
        yield Fault(
            f"{where} has the url_name {url_name!r}, which no URL pattern has.",
            'Use a name of ROOT_URLCONF as reverse() takes it: "name", or "namespace:name".',
        )
    elif not any(arguments.keys() <= names for names in captured):
        patterns = " or ".join(", ".join(sorted(names)) or "nothing" for names in captured)
        yield Fault(
            f"{where} has the arguments {', '.join(map(repr, arguments))}, which the URL patterns of {url_name!r} do"
            " not capture together.",
            f"By name, they capture {patterns}.",
        )


def _captured(url_name: str) -> list[set[str]]:
    """Return which arguments each of the URL patterns of a name captures."""
    *namespaces, name = url_name.split(":")
    resolver = get_resolver(settings.ROOT_URLCONF)
    above: set[str] = set()
    for namespace in namespaces:
        if namespace not in resolver.namespace_dict:
            return []
        prefix, resolver = resolver.namespace_dict[namespace]
        above |= re.compile(prefix).groupindex.keys()
    return [
        above | {argument for argument in (*arguments, *defaults) if not argument.startswith("_")}
        for possibilities, _, defaults, _ in resolver.reverse_dict.getlist(name)
        for _, arguments in possibilities
    ]
