"""For the tests of a site: was a page view recorded, and if not, why; and views made up, over days."""

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
    """Django's test client with the name of a browser. By its own, which is none, it is a robot, and not recorded."""

    def __init__(self, *arguments: Any, headers: Mapping[str, str] | None = None, **keywords: Any) -> None:
        given = {name.lower(): value for name, value in (headers or {}).items()}
        browser = {} if "HTTP_USER_AGENT" in keywords else USER_AGENT
        super().__init__(*arguments, headers=browser | given, **keywords)


class AsyncBrowser(AsyncClient):
    """The same for async tests: `async_client_class = AsyncBrowser`."""

    def generic(self, *arguments: Any, headers: Mapping[str, str] | None = None, **keywords: Any) -> Any:
        """Ask with the headers of a browser. Those that Django's async client is made with, it does not send."""
        given = {name.lower(): value for name, value in (headers or {}).items()}
        return super().generic(*arguments, headers=USER_AGENT | given, **keywords)


def recording(*, on: bool = True) -> override_settings:
    """Switch recording on, or off, in a `with` block, a test or a whole TestCase: it decorates, too.

    A site whose tests are about something else sets PAGESTATS_ENABLED = False in its settings for tests, and switches
    recording on where it matters.
    """
    return override_settings(PAGESTATS_ENABLED=on)


class Watch:
    """What `with` takes, and in an async test `async with`."""

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

    Arguments:
        page: a path or an object of a content source; None is any page.
        times: how many are recorded, exactly; None is one or more.

    Raises `AssertionError`, which says what was recorded instead, and why what came was not.
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
    raise AssertionError(f"{wanted}{_on(path)} should have been recorded, and {seen.words(count)}.")


def assert_not_recorded(page: str | Model | None = None, *, reason: str | None = None) -> Watch:
    """Fail if a page view is recorded inside the block.

    Arguments:
        page: a path or an object of a content source; None is any page.
        reason: why nothing was recorded has to be this, as the tallies say it: "no_store", "bot", "repeat".

    Raises `AssertionError`, which says what was recorded, or which other reason there was; also where recording failed,
    which breaks no page and is no reason that anybody wants, unless `reason` is the name of the error.
    """
    return Watch(_not_recorded(page, reason))


@contextmanager
def _not_recorded(page: str | Model | None, reason: str | None) -> Iterator[None]:
    path, before = _path(page), _Recorded()
    yield
    seen = before.since()
    count = seen.views[path] if path is not None else seen.views.total()
    if count:
        raise AssertionError(f"No page view{_on(path)} should have been recorded, and {seen.words(count)}.")
    if reason is None and seen.failed:
        raise AssertionError(
            f"No page view{_on(path)} should have been recorded, and recording failed; {seen.words(0)}."
        )
    if reason is not None and not seen.reasons[reason]:
        raise AssertionError(f"A page view should have been left out for the reason {reason!r}, and {seen.words(0)}.")


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
    """Make up page views of a page on each of some reporting days, by visitors of their own; return how many there are.

    Arguments:
        page: a path or an object of a content source.
        views: of each day, dealt out to its visitors in turn.
        days: so many days, the last of which is that of `until`; they are spread from its first hour on.
        visitors: of each day; a view more than a visitor can have on a day is refused.
        until: an aware datetime; None is now.
        returning: the same visitors come on each day; else each day has its own.
        pending: leave them for a backfill. Figures are the same.
    """
    path = _path(page)
    assert path is not None
    zone = Calendar.zone_of(Calendar.objects.all())
    last = day_of(instant(until), zone)
    window = conf.DEDUP_WINDOW
    for name, number in {"views": views, "days": days, "visitors": visitors}.items():
        if number < 1:
            raise ValueError(f"{name} is {number}. Ask for one or more.")
    if visitors > views:
        raise ValueError(f"visitors is {visitors}, and views is {views}: some would have none. Ask for as many views.")
    turns = -(-views // visitors)
    if (turns - 1) * window >= DAY - timedelta(hours=2):  # a day may have 23 hours, or less
        raise ValueError(
            f"{turns} views of one visitor on one day are too many: a view within {window} of another is a repeat. Ask"
            f" for {views} visitors."
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
        raise ValueError(f"{page!r} is viewed at no path that is known. Name its model in PAGESTATS_CONTENT.")
    return path


def _on(path: str | None) -> str:
    return "" if path is None else f" of {path!r}"


class _Recorded:
    """What has been recorded so far, and what has come since."""

    def __init__(self) -> None:
        self._last: int = PageView.objects.aggregate(last=Max("pk"))["last"] or 0
        self._tallied = self._tallies()
        self.views: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.failed = False

    def since(self) -> _Recorded:
        """Return itself, with what has come since it was made."""
        self.views = Counter(PageView.objects.filter(pk__gt=self._last).values_list("path", flat=True))
        tallied = self._tallies() - self._tallied
        self.reasons = Counter()
        for (outcome, reason), count in tallied.items():
            if outcome != RECORDED:
                self.reasons[reason or outcome] += count
        self.failed = any(outcome == FAILED for outcome, _ in tallied)
        return self

    def words(self, count: int) -> str:
        """Return what happened instead, and why."""
        words = ["none was" if not count else "1 was" if count == 1 else f"{count} were"]
        if self.views:
            words.append("recorded: " + ", ".join(f"{path!r} {times} ×" for path, times in self.views.most_common(10)))
        if self.reasons:
            words.append(
                "not recorded: "
                + ", ".join(f"{reason}{f' {times} ×' if times > 1 else ''}" for reason, times in self.reasons.items())
            )
        if self.reasons["bot"]:
            words.append("to be no robot, a test asks with pagestats.testing.Browser")
        if not self.views and not self.reasons:
            if conf.ENABLED:
                words.append("nothing came: see that pagestats.middleware.PageViewMiddleware is in MIDDLEWARE")
            else:
                words.append("PAGESTATS_ENABLED is False: switch it on with pagestats.testing.recording()")
        return "; ".join(words)

    @staticmethod
    def _tallies() -> Counter[tuple[str, str]]:
        """Return how often each outcome and reason was tallied, in this process and, once written, in the database."""
        counted = tallies.counts()
        for outcome, reason, count in Tally.objects.values_list("outcome", "reason").annotate(n=Sum("count")):
            counted[outcome, reason] += count
        return counted
