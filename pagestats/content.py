"""Content sources: the site's own models that give pages their titles and types, live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.apps import apps
from django.db.models import Model, QuerySet

from pagestats.conf import conf

MOST_SLUGS = 500
"""Slugs that one query asks for by name; for more, it reads all published things of a source."""


class Titled(NamedTuple):
    """What a page is called, and of what type it is."""

    title: str
    page_type: str


FIXED = {
    "": Titled("Home", "home"),
    "/": Titled("Home", "home"),
    "/stats": Titled("Stats", "stats"),
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """One entry of PAGESTATS_CONTENT: a model whose published rows are pages of the site."""

    name: str
    model: type[Model]
    published: Mapping[str, Any]
    title: str
    slug: str
    type: str

    def things(self) -> QuerySet[Model]:
        """Return the published rows."""
        return self.model._default_manager.filter(**self.published)

    def titles(self, slugs: Iterable[str]) -> dict[str, str]:
        """Return the title of each of the slugs that has a published row; the first created wins a shared slug."""
        wanted = set(slugs)
        things = self.things()
        if len(wanted) <= MOST_SLUGS:
            things = things.filter(**{f"{self.slug}__in": wanted})
        newest_first = things.order_by("-pk").values_list(self.slug, self.title)
        # A database may take "a" and "A" for one slug; a path never does.
        return {slug: str(title) for slug, title in newest_first.iterator() if slug in wanted}


def sources() -> list[Source]:
    """Return the site's content sources in their order."""
    return [
        Source(name=name, **{**source, "model": apps.get_model(source["model"])})
        for name, source in conf.CONTENT.items()
    ]


def published_counts() -> dict[str, int]:
    """Return how many things each source has published."""
    return {source.name: source.things().count() for source in sources()}


def titles(paths: Iterable[str]) -> dict[str, Titled]:
    """Return the title and the page type of each path.

    The rule: "" and "/" are the home page, "/stats" the stats page; else the slug, which is the path without one
    leading slash, is looked for in the content sources in their order; else the path is its own title, of type "other".
    """
    paths = set(paths)
    found = {path: FIXED[path] for path in paths & FIXED.keys()}
    for source in sources():
        slugs = {path: path.removeprefix("/") for path in paths - found.keys()}
        titled = source.titles(slugs.values()) if slugs else {}
        found |= {path: Titled(titled[slug], source.type) for path, slug in slugs.items() if slug in titled}
    return found | {path: Titled(path, "other") for path in paths - found.keys()}
