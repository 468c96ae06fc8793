"""The site's URL patterns: which view a path leads to, and which path values lead to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

from django.conf import settings
from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.urls import NoReverseMatch, Resolver404, ResolverMatch, get_resolver, get_script_prefix, resolve, reverse
from django.urls.converters import IntConverter, PathConverter, SlugConverter, StringConverter, UUIDConverter
from django.urls.resolvers import URLResolver, get_ns_resolver
from django.utils import translation

STRAY_CHARACTERS: dict[type, str] = {
    IntConverter: "[^0-9]",
    PathConverter: "[\n]",
    SlugConverter: "[^-a-zA-Z0-9_]",
    StringConverter: "[/]",
    UUIDConverter: "[^-0-9a-f]",
}
"""The characters that Django's own converters reject, written as Python, the databases and GLOB all read them."""


class Undecided(ValueError):
    """There is no single rule for the path of the values of a URL name. The message says why."""


class Captured(NamedTuple):
    """A part of a path that is a value."""

    argument: str
    stray: str = ""
    """The characters that the value must not contain, as a regular expression. No value may be empty."""


def namespaces() -> set[str]:
    """Return the namespaces of the site's URL patterns, by their own names and those of their apps."""
    found: set[str] = set()
    resolvers: list[Any] = [get_resolver()]
    while resolvers:
        resolver = resolvers.pop()
        found |= {name for name in (resolver.namespace, resolver.app_name) if name}
        resolvers += [pattern for pattern in resolver.url_patterns if isinstance(pattern, URLResolver)]
    return found


@dataclass(frozen=True)
class Template:
    """How a path is built from fixed texts and values."""

    parts: tuple[str | Captured, ...]

    def filled(self, texts: Mapping[str, str]) -> str | None:
        """Return the path of some values, given as text; None if one of them isn't allowed in it."""
        path = ""
        for part in self.parts:
            if isinstance(part, str):
                path += part
                continue
            text = texts[part.argument]
            if not text or (part.stray and re.search(part.stray, text)):
                return None
            path += text
        return path


def match(path: str, *, urlconf: str | None = None) -> ResolverMatch | None:
    """Return the match of a whole path, or None.

    Translated patterns match in the active language only, which is the reader's, not the page's. So the path is
    resolved in the language that it begins with, if `i18n_patterns` put one there; otherwise in the site's own
    language, then in the active one.

    Args:
        urlconf: the module of the patterns; None is the site's own.
    """
    prefix = get_script_prefix()
    if not path.startswith(prefix):
        return None
    path = f"/{path.removeprefix(prefix)}"
    urlconf = urlconf or settings.ROOT_URLCONF
    begins_with = is_language_prefix_patterns_used(urlconf)[0] and translation.get_language_from_path(path)
    own = dict.fromkeys((settings.LANGUAGE_CODE, translation.get_language()))
    for language in [begins_with] if begins_with else own:
        with translation.override(language), suppress(Resolver404):
            return resolve(path, urlconf=urlconf)
    return None


def captured(url_name: str) -> list[set[str]]:
    """Return the arguments that each URL pattern of a name captures."""
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


def are_in_use() -> bool:
    """Return whether the site's URL patterns are loaded. To use them before may break their import."""
    return "url_patterns" in vars(get_resolver(settings.ROOT_URLCONF))


def reversed_path(url_name: str, values: Mapping[str, Any]) -> str | None:
    """Return the path of some values as a request has it; None if no URL pattern accepts them."""
    try:
        return unquote(reverse(url_name, urlconf=settings.ROOT_URLCONF, kwargs=dict(values)))
    except (NoReverseMatch, ValueError):  # a ValueError where a pattern has a percent sign
        return None


def template(url_name: str, arguments: Mapping[str, Any]) -> Template:
    """Return how the path of a URL name is built from the values of these arguments, in the active language.

    Raises `Undecided` if that takes more than fixed texts and values: several patterns of that name, an argument that
    isn't given, a regular expression, or a converter of the site's own.
    """
    found = [
        (result, converters)
        for possibilities, _, _, converters in _resolver(url_name).reverse_dict.getlist(url_name.split(":")[-1])
        for result, names in possibilities
        if set(names) == arguments.keys()
    ]
    if not found:
        raise Undecided(
            f"the URL patterns of {url_name!r} capture other arguments than {', '.join(map(repr, arguments)) or 'none'}"
        )
    if len(found) > 1:
        raise Undecided(f"{len(found)} URL patterns of {url_name!r} capture these arguments")
    [(result, converters)] = found
    return Template(tuple(_parts(url_name, result, {name: converters.get(name) for name in arguments})))


def _parts(url_name: str, result: str, converters: Mapping[str, Any]) -> Iterator[str | Captured]:
    yield get_script_prefix()
    # Not with `%`, which fails for a pattern that contains one, as reverse() does.
    for number, text in enumerate(re.split(r"%\((\w+)\)s", result)):
        if number % 2 == 0:
            yield text
            continue
        converter = type(converters[text])
        if converter not in STRAY_CHARACTERS:
            by = "a regular expression" if converters[text] is None else converter.__qualname__
            raise Undecided(f"{text!r} is captured by {by} in the URL pattern of {url_name!r}, not by one of Django's")
        yield Captured(text, STRAY_CHARACTERS[converter])


def _resolver(url_name: str) -> URLResolver:
    """Return the resolver of the last part of a URL name, with all patterns above it."""
    *namespaces, _ = url_name.split(":")
    resolver = get_resolver(settings.ROOT_URLCONF)
    above = ""
    converters: dict[str, Any] = {}
    for namespace in namespaces:
        if namespace not in resolver.namespace_dict:
            raise Undecided(f"there is no URL namespace {namespace!r}")
        prefix, resolver = resolver.namespace_dict[namespace]
        above += prefix
        converters |= resolver.pattern.converters
    return get_ns_resolver(above, resolver, tuple(converters.items())) if above else resolver
