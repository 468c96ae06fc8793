"""Content sources: the site's own models that give pages their titles and types, live."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any, NamedTuple

from django.apps import apps
from django.core.exceptions import EmptyResultSet, FieldDoesNotExist, FieldError, ValidationError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import (
    Case,
    DateField,
    Exists,
    Expression,
    F,
    Field,
    Func,
    IntegerField,
    Model,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Cast
from django.db.models.sql.compiler import SQLCompiler
from django.urls import ResolverMatch
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop

from pagestats import patterns, sql
from pagestats.conf import Settings, conf
from pagestats.hits import UNSTORABLE
from pagestats.patterns import Captured, Template, Undecided

MOST_SLUGS = 500
"""Slugs that one query asks for by name; for more, it reads all published things of a source."""

MOST_PAGES = 250
"""Pages of a `url_name` that one query asks for. SQLite takes no more than 2,000 columns and a megabyte."""

UNANSWERABLE = (ValueError, TypeError, ValidationError, ArithmeticError)
"""What a field raises that cannot be compared with a value, which comes out of a path that anybody may ask for."""


def is_client_path(path: str) -> bool:
    """Tell whether PAGESTATS_CLIENT_PATHS says that a path is a page of the site, though no URL pattern resolves it."""
    return any(re.fullmatch(pattern, path) for pattern in conf.CLIENT_PATHS)


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

SLUG_TEMPLATE = Template(("/", Captured("slug")))
"""How a path is put together of a slug. Without one, "/" is the home page."""

DAY_PARTS: dict[str, Callable[[date], int]] = {
    "year": lambda day: day.year,
    "month": lambda day: day.month,
    "day": lambda day: day.day,
}


class Place(NamedTuple):
    """Where a value of a row stands: in the last of some fields, all others leading to it; or as a part of its day."""

    fields: tuple[Field[Any, Any], ...]
    part: str

    @classmethod
    def of_lookup(cls, model: type[Model], lookup: str) -> Place:
        """Return where the value stands with which a lookup compares; raise `Undecided` if it is not a single one."""
        names = lookup.split("__")
        fields = []
        here: type[Model] | None = model
        while names and here is not None:
            name = names.pop(0)
            try:
                field = here._meta.pk if name == "pk" else here._meta.get_field(name)
            except FieldDoesNotExist:
                raise Undecided(
                    f"the lookup {lookup!r} has {name!r}, which is no field of {here._meta.label}"
                ) from None
            if not isinstance(field, Field) or field.many_to_many:
                raise Undecided(f"the lookup {lookup!r} may lead to many values")
            fields.append(field)
            here = field.related_model if field.is_relation and names and names[0] not in LOOKUPS else None
        part = names.pop(0) if names and names[0] in DAY_PARTS and isinstance(fields[-1], DateField) else ""
        if names and (len(names) > 1 or names[0] not in LOOKUPS):
            raise Undecided(f"the lookup {lookup!r} is no equality")
        return cls(tuple(fields), part)

    def of(self, thing: Any) -> Any:
        """Return the value of a row, in the site's own time zone; None where there is none."""
        *relations, field = self.fields
        for relation in relations:
            thing = getattr(thing, relation.name)
            if thing is None:
                return None
        value = getattr(thing, field.attname)
        if not self.part or value is None:
            return value
        if isinstance(value, datetime) and timezone.is_aware(value):
            value = timezone.localtime(value, timezone.get_default_timezone())
        return DAY_PARTS[self.part](value)

    def expression(self) -> Func:
        """Return the same value as text, of each row of a queryset; raise `Undecided` where databases write it anew."""
        name = F("__".join(field.name for field in self.fields))
        if self.part:
            return sql.ExactText(Cast(sql.DayPart(name, self.part), IntegerField()))
        column: Any = self.fields[-1]
        while column.is_relation:
            column = column.target_field
        kind = column.get_internal_type()
        if hasattr(column, "from_db_value") or (kind not in AS_TEXT and not kind.endswith(WHOLE_NUMBERS)):
            raise Undecided(f"{column} is a {type(column).__name__}, which has no one way to be written")
        return sql.ExactText(sql.UuidText(name) if kind == "UUIDField" else name)


AS_TEXT = ("CharField", "SlugField", "TextField", "UUIDField")
WHOLE_NUMBERS = ("IntegerField", "AutoField")


LOOKUPS = ("exact", "iexact")


def _template(url_name: str, arguments: Iterable[str]) -> Template:
    return patterns.template(url_name, dict.fromkeys(arguments)) if url_name else SLUG_TEMPLATE


class PagePath(Func):
    """The path of each row, put together only when the statement is made.

    A queryset may be made while the URL patterns are imported, as a part of a view, and be read in any language.
    """

    output_field = TextField()

    def __init__(self, url_name: str, arguments: tuple[str, ...], *texts: Expression) -> None:
        super().__init__(*texts)
        self.url_name, self.arguments = url_name, arguments

    def get_group_by_cols(self) -> list[Any]:
        """Return the values that the path is made of: it depends on nothing else of the row."""
        return [column for text in self.get_source_expressions() for column in text.get_group_by_cols()]

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> tuple[str, Any]:  # type: ignore[override]  # see sql/objects.py
        """Return the path, NULL where a value can't be a part of it; raise `Undecided` if SQL can't tell it."""
        texts = dict(zip(self.arguments, self.get_source_expressions(), strict=True))
        parts = _template(self.url_name, texts).parts
        path = sql.Joined(*(Value(part) if isinstance(part, str) else texts[part.argument] for part in parts))
        conditions = [sql.Lacks(texts[part.argument], part.stray) for part in parts if isinstance(part, Captured)]
        expression = Case(When(Q(*conditions), then=path), output_field=TextField()) if conditions else path
        return compiler.compile(expression.resolve_expression(compiler.query))


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
        return _template(self.url_name, self.arguments)

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


def sources() -> list[Source]:
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
    return sql.ExactText(Case(*published, default=paths[0]) if len(found) > 1 else paths[0])


def sources_of(model: type[Model]) -> list[Source]:
    """Return the content sources that may have rows of a model, in their order."""
    return [source for source in sources() if issubclass(_concrete(model), _concrete(source.model))]


def _concrete(model: type[Model]) -> type[Model]:
    return model._meta.concrete_model or model


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
    found = {path: Titled(gettext(FIXED[path].title), FIXED[path].page_type) for path in paths & FIXED.keys()}
    match = cache(patterns.match)
    # In the site's own time zone: the year of a URL is not to change with the zone that a reader has activated.
    with timezone.override(None):
        for source in sources():
            titled = source.titles(paths - found.keys(), match)
            found |= {path: Titled(title, source.type) for path, title in titled.items()}
    return found | {path: Titled(path, "other") for path in paths - found.keys()}


def _is_comparable(value: object) -> bool:
    """Tell whether every database takes a value: a text has no NUL and no lone surrogate."""
    return not isinstance(value, str) or not UNSTORABLE.search(value)


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
    captured = patterns.captured(url_name)
    if not captured:
        yield Fault(
            f"{where} has the url_name {url_name!r}, which no URL pattern has.",
            'Use a name of ROOT_URLCONF as reverse() takes it: "name", or "namespace:name".',
        )
    elif not any(arguments.keys() <= names for names in captured):
        possible = " or ".join(", ".join(sorted(names)) or "nothing" for names in captured)
        yield Fault(
            f"{where} has the arguments {', '.join(map(repr, arguments))}, which the URL patterns of {url_name!r} do"
            " not capture together.",
            f"By name, they capture {possible}.",
        )
