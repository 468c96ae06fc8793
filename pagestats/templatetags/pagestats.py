"""Template tags for your own pages: `{% load pagestats %}`."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from django import template
from django.db import connections, router, transaction
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.formats import number_format
from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import get_language

from pagestats import content, stats
from pagestats.cache import keep, kept
from pagestats.conf import conf
from pagestats.hits import instant
from pagestats.intake import path_of
from pagestats.models import PageView

logger = logging.getLogger("pagestats")

register = template.Library()

CACHE = 60
"""How many seconds a tag's value is cached by default. 0 disables the cache."""


EVERY, MOST_EVERY = 30, 3_600
"""Seconds between two heartbeats of a page: the default and the maximum."""


THIS = object()
"""The default of a tag's argument. It can't be None, which is what a missing object is in a template."""


class Figure(int):
    """A number that templates show in the site's number format, and that still compares and adds up as an int."""

    def __html__(self) -> str:
        return conditional_escape(number_format(int(self)))


class Listed(list[stats.Popular]):
    """The rows of `pagestats_popular`, for a template to loop over. Shown directly, they are an empty text."""

    def __html__(self) -> str:
        logger.warning(
            "{% pagestats_popular %} shows nothing on its own. Use {% pagestats_popular as rows %} and loop over rows."
        )
        return ""

    __str__ = __html__


class AsText(template.Node):
    """Renders a tag as text. With autoescape off, Django would pass on the tag's return value unchanged."""

    def __init__(self, node: template.Node) -> None:
        self.node = node

    def render(self, context: template.Context) -> SafeString:
        """Render the tag."""
        return SafeString(conditional_escape(self.node.render(context)))


def figure_tag(*, takes_context: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a simple tag that returns a number or a list instead of text."""

    def registered(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        register.simple_tag(function, takes_context=takes_context, name=name)
        compiled = register.tags[name]
        register.tag(name, lambda parser, token: AsText(compiled(parser, token)))
        return function

    return registered


@figure_tag(takes_context=True)
def pagestats_views(context: template.Context, thing: Any = THIS, days: int | None = None, cache: int = CACHE) -> Any:
    """Return the views of a page. If that fails, log the error and show nothing.

    Args:
        thing: an object of a content source, or a path. Default: the page being rendered.
        days: count the last so many reporting days, today included; None means all time.
        cache: how many seconds to cache the number; 0 disables the cache.
    """
    page = partial(_path, context, thing)
    return _shown("pagestats_views", lambda path: _views(thing, path, days), page, cache, days, empty="")


@figure_tag(takes_context=True)
def pagestats_active(context: template.Context, thing: Any = THIS, cache: int = 10) -> Any:
    """Return how many visitors are active now. If that fails, log the error and show nothing.

    Args:
        thing: an object of a content source, a path, or "page" for the page being rendered. Default: the whole site.
        cache: how many seconds to cache the number; 0 disables the cache.
    """
    if thing is THIS:
        return _shown("pagestats_active", lambda _: stats.active_visitors(), lambda: "", cache, "site", empty="")
    page = partial(_path, context, thing)
    return _shown("pagestats_active", lambda path: stats.active_visitors(path) if path else 0, page, cache, empty="")


@figure_tag()
def pagestats_popular(days: int | None = 7, limit: int = 5, cache: int = CACHE) -> Any:
    """Return the most viewed published objects as rows of `object`, `title`, `url` and `views`. Needs `as name`.

    If that fails, log the error and return an empty list.

    Args:
        days: count the last so many reporting days, today included; None means all time.
        limit: the most rows to return.
        cache: how many seconds to cache the list; 0 disables the cache.
    """

    def read(_: str) -> Listed:
        return Listed(stats.popular(days=days, limit=limit))

    return _shown("pagestats_popular", read, lambda: "", cache, days, limit, empty=Listed())


@register.simple_tag
def pagestats_tracker(*, every: int | str = EVERY, hash: bool = False) -> str:
    """Return the tracker's script tag. It is the same for every visitor, so the page may be cached.

    Args:
        every: about how many seconds between two heartbeats, a whole number from 1 to 3,600. For any other value, log a
            warning and use 30.
        hash: True if addresses that differ only after the # are different pages.
    """
    try:
        urls = [reverse(f"pagestats_beacons:{name}") for name in ("script", "views", "beats")]
    except NoReverseMatch:
        logger.warning("{% pagestats_tracker %} needs its URLs. Add path('hello/', include('pagestats.beacons')).")
        return ""
    seconds = int(every) if re.fullmatch("[0-9]{1,4}", str(every)) else 0
    if not 1 <= seconds <= MOST_EVERY:
        logger.warning("every is %r, not a whole number from 1 to %d. Using %d seconds.", every, MOST_EVERY, EVERY)
        seconds = EVERY
    rendered = round(instant(None).timestamp() * 1000)
    options = {"session": conf.IDENTITY == "client", "hash": hash, **dict.fromkeys(conf.OPT_OUTS, True)}
    return format_html(
        '<script src="{}" defer data-views="{}" data-beats="{}" data-rendered="{}" data-every="{}"{}></script>',
        *urls,
        rendered,
        seconds,
        format_html_join("", ' data-{}="1"', [(name,) for name, is_on in options.items() if is_on]),
    )


def _views(thing: Any, path: str, days: int | None) -> int:
    return stats.views_of(thing, days=days) if isinstance(thing, Model) else stats.views_on(path, days=days)


def _path(context: template.Context, thing: Any) -> str:
    """Return the path that a tag's argument stands for; "" if an object has no page."""
    if isinstance(thing, Model):
        return content.path_of(thing) or ""
    if thing is THIS or thing == "page":
        return path_of(_request(context))
    if isinstance(thing, str) and thing.startswith("/"):
        return thing
    raise stats.Refused(f"{thing!r} is not an object, a path or 'page'. An undefined template variable is ''.")


def _request(context: template.Context) -> HttpRequest:
    """Return the request of the page being rendered."""
    if isinstance(request := context.get("request"), HttpRequest):
        return request
    raise stats.Refused(
        "The template context has no request. Add the context processor django.template.context_processors.request, or"
        " pass an object or a path to the tag."
    )


def _shown(
    tag: str, read: Callable[[str], Any], page: Callable[[], str], seconds: int, *arguments: Any, empty: Any
) -> Any:
    """Return the cached value, or read it; return `empty` if that fails. A page matters more than its statistics."""
    try:
        if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 0:
            raise stats.Refused(f"cache is {seconds!r}, not a number of seconds. Use 0 to disable the cache.")
        path = page()
        key = _key(tag, path, *arguments)
        cached = kept([key]).get(key) if seconds else None
        if cached is None:
            with _beside_the_page():
                cached = (read(path),)
            if seconds:
                keep({key: cached}, seconds=seconds)
    except Exception:  # from the database, a setting, an argument, or the site's own code that builds a path
        logger.exception("{%% %s %%} could not be shown.", tag)
        return empty
    return Figure(cached[0]) if isinstance(cached[0], int) else cached[0]


def _beside_the_page() -> AbstractContextManager[Any]:
    """Return a savepoint if the page has a transaction open, so that an error here can't break that transaction.

    Otherwise return a block that does nothing. Opening a transaction could take the write lock (SQLite with
    `transaction_mode`) and wait for other writers.
    """
    using = router.db_for_read(PageView)
    return transaction.atomic(using=using) if connections[using].in_atomic_block else nullcontext()


def _key(*parts: Any) -> str:
    digest = hashlib.blake2b(repr((*parts, get_language())).encode(errors="surrogatepass"), digest_size=16)
    return f"pagestats.tag.{digest.hexdigest()}"
