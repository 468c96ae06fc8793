"""One factory for each noun."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.models import Value
from django.db.models.functions import Concat, StrIndex, Substr
from django.utils import timezone

from example_project.blog.models import Post
from pagestats.dimensions import Dimension
from pagestats.hits import Hit
from pagestats.models import PageView

T0 = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
MILLISECOND, SECOND, MINUTE, HOUR = (timedelta(**{unit: 1}) for unit in ("milliseconds", "seconds", "minutes", "hours"))

# Values of PAGESTATS_CONTENT.
POSTS = {"model": "blog.Post", "published": {"published": True}, "title": "title", "slug": "slug", "type": "blog"}
PAGES = {"model": "blog.Page", "published": {"published": True}, "title": "title", "slug": "slug", "type": "page"}
CONTENT = {"posts": POSTS, "pages": PAGES}
WITH_DRAFTS = {"posts": {**POSTS, "published": {}}}


A_SECTION = Dimension(
    name="section",
    value_of=lambda path: f"{path}//"[1:].partition("/")[0],
    expression=lambda path: _up_to_a_slash(Substr(Concat(path, Value("//")), 2)),
    label="Sections",
    noun="section",
)
"""A dimension beside those that ship: the first part of the path. `dimensions.also(A_SECTION)` registers it."""


def _up_to_a_slash(text: Any) -> Any:
    return Substr(text, 1, StrIndex(text, Value("/")) - 1)


def now_by_the_clock() -> datetime:
    """Return this moment in the reporting zone, where so many days before are the same time of so many days before."""
    return timezone.localtime()


def a_hit(**changes: Any) -> Hit:
    """Return a hit of session "s" on "/a" at T0, but for the changes."""
    return Hit(**{"path": "/a", "session_id": "s", "at": T0, **changes})


def a_post(slug: str = "hello", **changes: Any) -> Post:
    """Return a stored post, published at T0, but for the changes."""
    return Post.objects.create(**{"title": slug.title(), "slug": slug, "published": True, "created": T0, **changes})


def raw_views(rows: Iterable[tuple[str, str, datetime]]) -> list[PageView]:
    """Store (path, session id, timestamp) rows behind the app's back: they are pending."""
    return PageView.objects.bulk_create(
        PageView(path=path, session_id=session_id, timestamp=at) for path, session_id, at in rows
    )


def run_command(*arguments: Any, **options: Any) -> str:
    """Run a management command and return its output, without the last line break."""
    out = StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue().strip()


def a_lock_error():
    """Return the error with which this database says that a lock can't be had."""
    error = OperationalError(1213, "Deadlock found")
    cause = Exception(1213, "Deadlock found")
    if connection.vendor == "postgresql":
        cause.sqlstate = "40P01"
    elif connection.vendor == "sqlite":
        cause.sqlite_errorcode = 5
    error.__cause__ = cause
    return error


class Failing:
    """Fail, on a lock, the first times that a page view is about to be inserted, and count the times."""

    def __init__(self, times):
        self.times, self.calls = times, 0

    def __enter__(self):
        self.wrapper = connection.execute_wrapper(self.fail)
        self.wrapper.__enter__()
        return self

    def __exit__(self, *exc):
        self.wrapper.__exit__(*exc)

    def fail(self, execute, statement, *args):
        if re.search('INSERT INTO ["`]pagestats_pageview', statement):
            self.calls += 1
            if self.calls <= self.times:
                raise a_lock_error()
        return execute(statement, *args)
