"""Measure `with_views()` against what a site would write itself, a COUNT over joined page views."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from benchmarks import traffic
from benchmarks.measures import timed

POSTS = 50_000
DAYS = 90
WEEK = 7


def own_models(*, count: int) -> dict[str, Any]:
    """Milliseconds of each query with so many views of 50,000 posts, and the plan of the first query."""
    from django.test import override_settings

    source = {"model": "blog.Post", "published": {}, "title": "title", "type": "blog", "slug": "slug"}
    with override_settings(PAGESTATS_CONTENT={"posts": source}):
        return _measured(count)


def _measured(count: int) -> dict[str, Any]:
    from django.db import connection

    from example_project.blog.models import Post

    traffic.store(count, days=DAYS, paths=POSTS)
    at = traffic.BEGIN + timedelta(days=DAYS) - timedelta(seconds=1)
    Post.objects.bulk_create(
        (Post(title="A post", slug=traffic.path(number)[1:], published=True, created=at) for number in range(POSTS)),
        batch_size=5_000,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    ids = list(Post.objects.order_by("pk").values_list("pk", flat=True)[:25])
    asked: dict[str, tuple[Any, Callable[[], list[Any]]]] = {}
    for name, days in (("of all time", None), (f"of {WEEK} days", WEEK)):
        rows = Post.objects.with_views(days=days, at=at)
        most = rows.order_by("-views", "pk").values_list("pk", "views")
        some = rows.filter(pk__in=ids).order_by("-views", "pk").values_list("pk", "views")
        asked[f"20 most read, {name}"] = most[:20], _joined(days, "", 20)
        asked[f"25 posts, {name}"] = some, _joined(days, f" WHERE post.id IN ({', '.join(map(str, ids))})", 25)
    found: dict[str, Any] = {}
    for name, (rows, joined) in asked.items():
        assert list(rows) == joined(), name
        found[name] = {"with_views": timed(lambda rows=rows: list(rows.all()), times=3)}
        found[name]["COUNT join"] = timed(joined, times=3)
    first = next(iter(asked.values()))[0]
    found["plans"] = [line.strip() for line in first.explain().splitlines()][:30]
    return found


def _joined(days: int | None, condition: str, most: int) -> Callable[[], list[Any]]:
    """Return a function that counts the page views of posts, joined by path."""
    from django.db import connection

    since = traffic.BEGIN + timedelta(days=DAYS - WEEK)
    lately = "" if days is None else f" AND view.timestamp >= '{since:%Y-%m-%d %H:%M:%S}'"
    # PostgreSQL refuses to compare texts of different collations.
    collation = ' COLLATE "C"' if connection.vendor == "postgresql" else ""
    statement = (
        "SELECT post.id, COUNT(view.id) FROM blog_post post LEFT JOIN pagestats_pageview view"
        f" ON view.path = ('/' || post.slug){collation}{lately}{condition}"
        f" GROUP BY post.id ORDER BY COUNT(view.id) DESC, post.id LIMIT {most}"
    )

    def ask() -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()]

    return ask
