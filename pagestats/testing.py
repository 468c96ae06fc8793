"""Helpers for the tests of your site: assert that page views are recorded, and add page views over several days."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import Max, Model, Sum
from django.test import AsyncClient, Client, override_settings

from pagestats import content
from pagestats.conf import conf
from pagestats.days import day_of, start_of
from pagestats.formats import counted
from pagestats.hits import Hit, instant
from pagestats.models import Calendar, PageView, Tally
from pagestats.recording import record_page_views
from pagestats.tallies import FAILED, RECORDED, tallies

DAY = timedelta(days=1)


USER_AGENT = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}


class Browser(Client):
    """Django's test client with a browser's User-Agent. Without one it would be treated as a bot and not recorded."""

    def __init__(self, *arguments: Any, headers: Mapping[str, str] | None = None, **keywords: Any) -> None:
        given = {name.lower(): value for name, value in (headers or {}).items()}
        browser = {} if "HTTP_USER_AGENT" in keywords else USER_AGENT
        super().__init__(*arguments, headers=browser | given, **keywords)


class AsyncBrowser(AsyncClient):
    """Django's async test client with a browser's User-Agent: `async_client_class = AsyncBrowser`."""

    def generic(self, *arguments: Any, headers: Mapping[str, str] | None = None, **keywords: Any) -> Any:
        """Send a request with a browser's headers. Django's async client ignores those passed to its constructor."""
        given = {name.lower(): value for name, value in (headers or {}).items()}
        return super().generic(*arguments, headers=USER_AGENT | given, **keywords)


def recording(*, on: bool = True) -> override_settings:
    """Switch recording on or off, as a `with` block or as a decorator of a test or a TestCase.

    If most of your tests don't need it, set PAGESTATS_ENABLED = False in your test settings and switch recording on for
    the tests that do.
    """
    return override_settings(PAGESTATS_ENABLED=on)


class Watch:
    """A context manager for `with` and, in async tests, for `async with`."""

    def __init__(self, block: AbstractContextManager[None]) -> None:
        self._block = block

    def __enter__(self) -> None:
        self._block.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self._block.__exit__(*error)

    async def __aenter__(self) -> None:
        await sync_to_async(self._block.__enter__)()

    async def __aexit__(self, *error: Any) -> bool | None:
        return await sync_to_async(self._block.__exit__)(*error)


def assert_recorded(page: str | Model | None = None, *, times: int | None = None) -> Watch:
    """Fail unless page views are recorded inside the block.

    Args:
        page: a path or an object of a content source; None means any page.
        times: the exact number of page views; None means one or more.

    Raises:
        AssertionError: with what was recorded instead, and why other hits were not.
    """
    return Watch(_recorded(page, times))


@contextmanager
def _recorded(page: str | Model | None, times: int | None) -> Iterator[None]:
    path, before = _path(page), _Recorded()
    yield
    seen = before.since()
    count = seen.views[path] if path is not None else seen.views.total()
    if count == times or (times is None and count):
        return
    wanted = "A page view" if times is None else counted(times, "page view")
    raise AssertionError(f"{wanted}{_on(path)} should have been recorded, {seen.words(count)}.")


def assert_not_recorded(page: str | Model | None = None, *, reason: str | None = None) -> Watch:
    """Fail if a page view is recorded inside the block.

    Args:
        page: a path or an object of a content source; None means any page.
        reason: the reason that a hit must have been dropped for, such as "no_store", "bot" or "repeat"; None means any
            reason or no hit at all.

    Raises:
        AssertionError: with what was recorded, or with the reasons there were instead. Also if recording failed with an
            error, unless `reason` is the name of that error.
    """
    return Watch(_not_recorded(page, reason))


@contextmanager
def _not_recorded(page: str | Model | None, reason: str | None) -> Iterator[None]:
    path, before = _path(page), _Recorded()
    yield
    seen = before.since()
    count = seen.views[path] if path is not None else seen.views.total()
    if count:
        raise AssertionError(f"No page view{_on(path)} should have been recorded, {seen.words(count)}.")
    if reason is None and seen.failed:
        raise AssertionError(
            f"No page view{_on(path)} should have been recorded, but recording failed; {seen.words()}."
        )
    if reason is not None and not seen.reasons[reason]:
        raise AssertionError(f"A page view should have been dropped with the reason {reason!r}; {seen.words()}.")


def add_views(
    page: str | Model,
    views: int = 1,
    *,
    days: int = 1,
    visitors: int = 1,
    until: datetime | None = None,
    returning: bool = False,
    pending: bool = False,
) -> int:
    """Add page views of one page on several reporting days, by invented visitors; return how many were added.

    Args:
        page: a path or an object of a content source.
        views: page views per day, given to the day's visitors in turn, from midnight on.
        days: how many days, the last of which contains `until`.
        visitors: visitors per day.
        until: an aware datetime; None means now.
        returning: True if the same visitors come every day; False if each day has new ones.
        pending: leave the page views for a backfill. The stats are the same.

    Raises:
        ValueError: if a number is below 1, if there are more visitors than views, or if a visitor would need more views
            than fit into one day without being repeats.
    """
    path = _path(page)
    assert path is not None
    zone = Calendar.zone_of(Calendar.objects.all())
    last = day_of(instant(until), zone)
    window = conf.DEDUP_WINDOW
    for name, number in {"views": views, "days": days, "visitors": visitors}.items():
        if number < 1:
            raise ValueError(f"{name} is {number}. Use 1 or more.")
    if visitors > views:
        raise ValueError(f"visitors is {visitors}, but views is {views}. Each visitor needs at least one view.")
    turns = -(-views // visitors)
    if (turns - 1) * window >= DAY - timedelta(hours=2):  # a day may have 23 hours, or less
        raise ValueError(
            f"{turns} views by one visitor don't fit into a day, because a view within {window} of another is a repeat."
            f" Use visitors={views}."
        )
    call, hits = secrets.token_hex(4), []
    for ago in reversed(range(days)):
        day = last - ago * DAY
        for number in range(views):
            turn, visitor = divmod(number, visitors)
            session_id = f"made up {call} {visitor}" if returning else f"made up {call} {visitor} on {day}"
            at = start_of(day, zone) + turn * window
            hits.append(Hit(path=path, session_id=session_id, at=at))
    if not pending:
        return record_page_views(hits)
    rows = [PageView(path=hit.path, session_id=hit.session_id, timestamp=hit.at) for hit in hits]
    return len(PageView.objects.bulk_create(rows))


def _path(page: str | Model | None) -> str | None:
    if page is None or isinstance(page, str):
        return page
    path = content.path_of(page)
    if path is None:
        raise ValueError(f"{page!r} has no known path. Add its model to PAGESTATS_CONTENT.")
    return path


def _on(path: str | None) -> str:
    return "" if path is None else f" of {path!r}"


class _Recorded:
    """Compares what is recorded now with what was recorded when this object was created."""

    def __init__(self) -> None:
        self._last: int = PageView.objects.aggregate(last=Max("pk"))["last"] or 0
        self._tallied = self._tallies()
        self.views: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.failed = False

    def since(self) -> _Recorded:
        """Return this object, updated with what has been recorded since it was created."""
        self.views = Counter(PageView.objects.filter(pk__gt=self._last).values_list("path", flat=True))
        tallied = self._tallies() - self._tallied
        self.reasons = Counter()
        for (outcome, reason), count in tallied.items():
            if outcome != RECORDED:
                self.reasons[reason or outcome] += count
        self.failed = any(outcome == FAILED for outcome, _ in tallied)
        return self

    def words(self, count: int | None = None) -> str:
        """Return in words what was recorded and what was dropped."""
        words = [] if count is None else [f"but {count} {'was' if count == 1 else 'were'}"]
        if self.views:
            words.append("recorded: " + ", ".join(f"{path!r} {times} ×" for path, times in self.views.most_common(10)))
        if self.reasons:
            words.append(
                "not recorded: "
                + ", ".join(f"{reason}{f' {times} ×' if times > 1 else ''}" for reason, times in self.reasons.items())
            )
        if self.reasons["bot"]:
            words.append("the client was treated as a bot: use pagestats.testing.Browser")
        if not self.views and not self.reasons:
            if conf.ENABLED:
                words.append("no hit arrived: check that pagestats.middleware.PageViewMiddleware is in MIDDLEWARE")
            else:
                words.append("PAGESTATS_ENABLED is False: switch it on with pagestats.testing.recording()")
        return "; ".join(words)

    @staticmethod
    def _tallies() -> Counter[tuple[str, str]]:
        """Return the count of each outcome and reason, from this process and from the database."""
        counted = tallies.counts()
        for outcome, reason, count in Tally.objects.values_list("outcome", "reason").annotate(n=Sum("count")):
            counted[outcome, reason] += count
        return counted
