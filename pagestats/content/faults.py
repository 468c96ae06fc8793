"""What is wrong with PAGESTATS_CONTENT, for the system checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from django.apps import apps
from django.core.exceptions import FieldError, ValidationError
from django.db.models import F, Model

from pagestats.conf import Settings, conf
from pagestats.content import patterns
from pagestats.content.sources import UNANSWERABLE


class Fault(NamedTuple):
    """What is wrong with a content source, and what to write instead."""

    fault: str
    hint: str


def find_faults() -> list[Fault]:
    """Return what is wrong with the content sources: models, fields, lookups and URL names that don't exist.

    No database is queried. Nothing is returned while PAGESTATS_CONTENT doesn't have the right shape, which the check of
    the settings reports.
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
                yield Fault(f"{where} has the {key} {field!r}, which is not a field of {label}.", f"{error}.")
    for lookup, value in source["published"].items():
        value = value() if callable(value) else value
        try:
            rows.filter(**{lookup: value})
        except FieldError as error:
            yield Fault(f"{where} has the published lookup {lookup!r}, which {label} does not have.", f"{error}.")
        except UNANSWERABLE as error:
            hint = " ".join(error.messages) if isinstance(error, ValidationError) else f"{error}"
            yield Fault(f"{where} compares the published lookup {lookup!r} with {value!r}, which is impossible.", hint)
    for argument, lookup in source.get("arguments", {}).items():
        try:
            # An expression in place of a value: only the names are checked.
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
            f"They capture {possible} by name.",
        )
