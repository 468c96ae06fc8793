"""The tags of a site's own templates: `{% load pagestats %}`."""

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
from pagestats.admission import path_of
from pagestats.cache import keep, kept
from pagestats.conf import conf
from pagestats.hits import instant
from pagestats.models import PageView

logger = logging.getLogger("pagestats")

register = template.Library()

CACHE = 60
"""Seconds for which a tag shows what it read, unless it says another time: 0 is none."""


EVERY, MOST_EVERY = 30, 3_600
"""Seconds between two heartbeats of a page: without another word, and at most."""


THIS = object()
"""What a tag is of that names nothing; None is an object that is not there."""


class Figure(int):
    """A number that stands in a page as the site writes numbers there, and is one to whatever counts with it."""

    def __html__(self) -> str:
        return conditional_escape(number_format(int(self)))


class Listed(list[stats.Popular]):
    """What a template is to list itself."""

    def __html__(self) -> str:
        logger.warning("{% pagestats_popular %} shows nothing by itself. Write {% pagestats_popular as rows %}.")
        return ""

    __str__ = __html__


class AsText(template.Node):
    """What a tag shows, as text: with autoescape off, Django takes what a tag returns as it is."""

    def __init__(self, node: template.Node) -> None:
        self.node = node

    def render(self, context: template.Context) -> SafeString:
        """Render the tag."""
        return SafeString(conditional_escape(self.node.render(context)))


def figure_tag(*, takes_context: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a simple tag that returns what is no text: a number, or a list."""

    def registered(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        register.simple_tag(function, takes_context=takes_context, name=name)
        compiled = register.tags[name]
        register.tag(name, lambda parser, token: AsText(compiled(parser, token)))
        return function

    return registered


@figure_tag(takes_context=True)
def pagestats_views(context: template.Context, thing: Any = THIS, days: int | None = None, cache: int = CACHE) -> Any:
    """Return the views of a page. What fails is logged, and shown as nothing.

    Arguments:
        thing: an object, whose page is meant, or a path; without it, this page.
        days: the last so many reporting days, today included; None is all time.
        cache: for how many seconds the figure is kept; 0 is not at all.
    """
    page = partial(_path, context, thing)
    return _shown("pagestats_views", lambda path: _views(thing, path, days), page, cache, days, empty="")


@figure_tag(takes_context=True)
def pagestats_active(context: template.Context, thing: Any = THIS, cache: int = 10) -> Any:
    """Return how many are on the site now, or on a page. What fails is logged, and shown as nothing.

    Arguments:
        thing: an object, whose page is meant, a path, or "page", which is this one; without it, the whole site.
        cache: for how many seconds the figure is kept; 0 is not at all.
    """
    if thing is THIS:
        return _shown("pagestats_active", lambda _: stats.active_visitors(), lambda: "", cache, "site", empty="")
    page = partial(_path, context, thing)
    return _shown("pagestats_active", lambda path: stats.active_visitors(path) if path else 0, page, cache, empty="")


@figure_tag()
def pagestats_popular(days: int | None = 7, limit: int = 5, cache: int = CACHE) -> Any:
    """Return the most viewed published objects, for `as`: each with `object`, `title`, `url` and `views`.

    What fails is logged, and there are none.

    Arguments:
        days: the last so many reporting days, today included; None is all time.
        limit: at most so many.
        cache: for how many seconds the list is kept; 0 is not at all.
    """

    def read(_: str) -> Listed:
        return Listed(stats.popular(days=days, limit=limit))

    return _shown("pagestats_popular", read, lambda: "", cache, days, limit, empty=Listed())


@register.simple_tag
def pagestats_tracker(*, every: int | str = EVERY, hash: bool = False) -> str:
    """Return the tracker's script tag, the same for everybody who gets this page, now or out of a cache.

    Arguments:
        every: whole seconds between two heartbeats, about: 1 to 3,600. Any other is 30, and the log says so.
        hash: True where the part of an address behind its # makes another page.
    """
    try:
        urls = [reverse(f"pagestats_beacons:{name}") for name in ("script", "views", "beats")]
    except NoReverseMatch:
        logger.warning("There is no tracker without its URLs. Add path('hello/', include('pagestats.beacons')).")
        return ""
    seconds = int(every) if re.fullmatch("[0-9]{1,4}", str(every)) else 0
    if not 1 <= seconds <= MOST_EVERY:
        logger.warning("every is %r, not a number of seconds from 1 to %d, so it is %d.", every, MOST_EVERY, EVERY)
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
    """Return the path of an object's page, of this page, or of a path, which is its own; "" where there is none."""
    if isinstance(thing, Model):
        return content.path_of(thing) or ""
    if thing is THIS or thing == "page":
        return path_of(_request(context))
    if isinstance(thing, str) and thing.startswith("/"):
        return thing
    raise stats.Refused(f"{thing!r} is no object, no path and not 'page'. A variable that is not there is ''.")


def _request(context: template.Context) -> HttpRequest:
    """Return the request of the page that is shown."""
    if isinstance(request := context.get("request"), HttpRequest):
        return request
    raise stats.Refused(
        "There is no request in the context of the template. Add the context processor"
        " django.template.context_processors.request, or name an object."
    )


def _shown(
    tag: str, read: Callable[[str], Any], page: Callable[[], str], seconds: int, *arguments: Any, empty: Any
) -> Any:
    """Return what is cached, else what is read; `empty` when that fails. A page matters more than its statistics."""
    try:
        if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 0:
            raise stats.Refused(f"cache is {seconds!r}, not a number of seconds. Use 0 to keep nothing.")
        path = page()
        key = _key(tag, path, *arguments)
        cached = kept([key]).get(key) if seconds else None
        if cached is None:
            with _beside_the_page():
                cached = (read(path),)
            if seconds:
                keep({key: cached}, seconds=seconds)
    except Exception:  # of the database, a setting, an argument, or the site's own code that makes a path
        logger.exception("{%% %s %%} could not be shown.", tag)
        return empty
    return Figure(cached[0]) if isinstance(cached[0], int) else cached[0]


def _beside_the_page() -> AbstractContextManager[Any]:
    """Keep an error away from a transaction that the page has open, if it has; and open none by itself.

    One of its own may be a writer's (SQLite with `transaction_mode`), and wait for others.
    """
    using = router.db_for_read(PageView)
    return transaction.atomic(using=using) if connections[using].in_atomic_block else nullcontext()


def _key(*parts: Any) -> str:
    digest = hashlib.blake2b(repr((*parts, get_language())).encode(errors="surrogatepass"), digest_size=16)
    return f"pagestats.tag.{digest.hexdigest()}"
