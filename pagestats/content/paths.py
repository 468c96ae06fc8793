"""How the path of a content source's row is built from the values of the row, in Python and in SQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime
from typing import Any, NamedTuple

from django.core.exceptions import FieldDoesNotExist
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Case, DateField, Expression, F, Field, Func, IntegerField, Model, Q, TextField, Value, When
from django.db.models.functions import Cast
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

from pagestats.conf import conf
from pagestats.content import patterns
from pagestats.content.expressions import DayPart, ExactText, Joined, Lacks, UuidText
from pagestats.content.patterns import Captured, Template, Undecided


def is_client_path(path: str) -> bool:
    """Return whether PAGESTATS_CLIENT_PATHS declares a path a page of the site, though no URL pattern matches it."""
    return any(re.fullmatch(pattern, path) for pattern in conf.CLIENT_PATHS)


SLUG_TEMPLATE = Template(("/", Captured("slug")))
"""The path of a slug. A row with an empty slug has no path: "/" is the home page."""

DAY_PARTS: dict[str, Callable[[date], int]] = {
    "year": lambda day: day.year,
    "month": lambda day: day.month,
    "day": lambda day: day.day,
}


class Place(NamedTuple):
    """Where a row has a value: in the last of `fields`, which the others lead to, or in a part of its date."""

    fields: tuple[Field[Any, Any], ...]
    part: str

    @classmethod
    def of_lookup(cls, model: type[Model], lookup: str) -> Place:
        """Return where the value is that a lookup compares with; raise `Undecided` if it isn't exactly one value."""
        fields, rest = _fields_of(model, lookup)
        part = rest.pop(0) if rest and rest[0] in DAY_PARTS and isinstance(fields[-1], DateField) else ""
        if rest and (len(rest) > 1 or rest[0] not in EQUALITIES):
            raise Undecided(f"the lookup {lookup!r} is not an equality")
        return cls(tuple(fields), part)

    def of(self, thing: Any) -> Any:
        """Return the value for a row, in the site's own time zone; None if the row has none."""
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
        """Return the same value as SQL text; raise `Undecided` for a type that databases write in ways of their own."""
        name = F("__".join(field.name for field in self.fields))
        if self.part:
            return ExactText(Cast(DayPart(name, self.part), IntegerField()))
        column: Any = self.fields[-1]
        while column.is_relation:
            column = column.target_field
        kind = column.get_internal_type()
        if hasattr(column, "from_db_value") or (kind not in AS_TEXT and not kind.endswith(WHOLE_NUMBERS)):
            raise Undecided(f"{column} is a {type(column).__name__}, which not every database writes in the same way")
        return ExactText(UuidText(name) if kind == "UUIDField" else name)


AS_TEXT = ("CharField", "SlugField", "TextField", "UUIDField")
WHOLE_NUMBERS = ("IntegerField", "AutoField")


EQUALITIES = ("exact", "iexact")


def _fields_of(model: type[Model], lookup: str) -> tuple[list[Field[Any, Any]], list[str]]:
    """Return the fields that a lookup goes through, and the rest of its names: a part of a date, a comparison."""
    names = lookup.split("__")
    fields = []
    here: type[Model] | None = model
    while names and here is not None:
        name = names.pop(0)
        try:
            field = here._meta.pk if name == "pk" else here._meta.get_field(name)
        except FieldDoesNotExist:
            raise Undecided(
                f"the lookup {lookup!r} contains {name!r}, which is not a field of {here._meta.label}"
            ) from None
        if not isinstance(field, Field) or field.many_to_many:
            raise Undecided(f"the lookup {lookup!r} may lead to many values")
        fields.append(field)
        here = field.related_model if field.is_relation and names and names[0] not in EQUALITIES else None
    return fields, names


def template_of(url_name: str, arguments: Iterable[str]) -> Template:
    """Return how a path is built from the values of these arguments or, without a URL name, from a slug."""
    return patterns.template(url_name, dict.fromkeys(arguments)) if url_name else SLUG_TEMPLATE


class PagePath(Func):
    """The path of each row, built when the statement is compiled.

    A view may define a queryset at import, before the URL patterns are loaded, and read it later in any language.
    """

    output_field = TextField()

    def __init__(self, url_name: str, arguments: tuple[str, ...], *texts: Expression) -> None:
        super().__init__(*texts)
        self.url_name, self.arguments = url_name, arguments

    def get_group_by_cols(self) -> list[Any]:
        """Return the values that the path is built from: it depends on nothing else in the row."""
        return [column for text in self.get_source_expressions() for column in text.get_group_by_cols()]

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> tuple[str, Any]:  # type: ignore[override]  # see expressions.py
        """Return the path, NULL if a value isn't allowed in it; raise `Undecided` if SQL can't build it."""
        texts = dict(zip(self.arguments, self.get_source_expressions(), strict=True))
        parts = template_of(self.url_name, texts).parts
        path = Joined(*(Value(part) if isinstance(part, str) else texts[part.argument] for part in parts))
        conditions = [Lacks(texts[part.argument], part.stray) for part in parts if isinstance(part, Captured)]
        expression = Case(When(Q(*conditions), then=path), output_field=TextField()) if conditions else path
        return compiler.compile(expression.resolve_expression(compiler.query))
