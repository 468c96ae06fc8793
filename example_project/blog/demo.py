"""The content and the invented visits of the demo. The command `demo` calls these functions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from example_project.blog.models import Entry, Page, Post
from example_project.blog.writing import PAGES, POSTS, Text
from pagestats.hits import Hit
from pagestats.recording import record_heartbeat, record_page_views

DAYS = 90
SEED = 2015
USER = PASSWORD = "demo"

VISITORS_BY_WEEKDAY = (150, 160, 155, 145, 120, 70, 80)
# Busiest around eleven and again in the evening, almost empty at four.
VISITORS_BY_HOUR = (3, 2, 1, 1, 1, 2, 4, 8, 14, 18, 20, 20, 16, 17, 18, 17, 15, 13, 12, 14, 16, 14, 10, 6)
SHARE_OF_READERS_WHO_GO_ON = 0.52
SHARE_OF_RELOADS = 0.08
SHARE_OF_READERS_WHO_COME_BACK = 0.15


def add_editor() -> bool:
    """Create the user of the admin; return False if it exists already."""
    users = get_user_model()._default_manager
    if users.filter(username=USER).exists():
        return False
    users.create_superuser(username=USER, password=PASSWORD)
    return True


def add_texts(today: date) -> int:
    """Add missing posts and pages, dated back from `today`; return how many."""
    return sum(_add(model, text, today) for model, texts in ((Post, POSTS), (Page, PAGES)) for text in texts)


def _add(model: type[Entry], text: Text, today: date) -> bool:
    _, added = model._default_manager.get_or_create(
        slug=text.slug,
        defaults={
            "title": text.title,
            "published": text.published,
            "body": text.body,
            "created": _written(text, today),
        },
    )
    return added


def _written(text: Text, today: date) -> datetime:
    return timezone.make_aware(datetime.combine(today - timedelta(days=text.days_old), time(8, 30)))


def add_visits(until: datetime) -> Iterator[int]:
    """Record the invented visits of the 90 days up to `until`; yield the number of views of each day.

    All of it is one transaction, so a run that is interrupted leaves nothing behind.
    """
    with transaction.atomic():
        for day in days(until):
            yield record_page_views(hit for hit in visits(day, today=until.date()) if hit.at <= until)


def days(until: datetime) -> list[date]:
    """Return the days that end with the day of `until`."""
    return [until.date() - timedelta(days=ago) for ago in reversed(range(DAYS))]


def visits(day: date, *, today: date) -> Iterator[Hit]:
    """Yield the invented hits of one day, the same in each run: each visitor walks from page to page."""
    rng = random.Random(f"{SEED} {day} {today}")
    popularity = _popularity(day, today=today)
    for _ in range(round(VISITORS_BY_WEEKDAY[day.weekday()] * rng.uniform(0.9, 1.1))):
        session_id = f"{rng.getrandbits(128):032x}"
        hour = rng.choices(range(24), VISITORS_BY_HOUR)[0]
        at = timezone.make_aware(datetime.combine(day, time(hour, rng.randrange(60), rng.randrange(60))))
        for pause, (path, page_type) in _walk(rng, popularity):
            at += pause
            # A visitor's id lasts one day, so a walk ends at midnight.
            if timezone.localdate(at) != day:
                break
            yield Hit(path=path, session_id=session_id, at=at, page_type=page_type)


def _popularity(day: date, *, today: date) -> dict[tuple[str, str], float]:
    """Return the weight of each page on a day. A post has its highest weight when it is new."""
    home = {("/", "home"): 10.0}
    posts = {}
    for text in POSTS:
        age = text.days_old - (today - day).days
        if text.published and age >= 0:
            posts[f"/{text.slug}", "blog"] = 1.5 + 14 / (1 + age)
    pages = {("/about", "page"): 1.6, ("/contact", "page"): 0.6}
    # This page was unpublished halfway through the 90 days.
    unpublished = {("/colophon", "page"): 0.5} if (today - day).days > DAYS // 2 else {}
    return home | posts | pages | unpublished


def _walk(rng: random.Random, popularity: dict[tuple[str, str], float]) -> Iterator[tuple[timedelta, tuple[str, str]]]:
    """Yield the pages that a visitor reads on one day, each with the time since the previous page."""
    places, weights = list(popularity), list(popularity.values())
    place = first = rng.choices(places, weights)[0]
    yield timedelta(), place
    while rng.random() < SHARE_OF_READERS_WHO_GO_ON:
        if rng.random() >= SHARE_OF_RELOADS:
            place = rng.choices(places, weights)[0]
        yield timedelta(seconds=rng.randint(15, 240)), place
    if rng.random() < SHARE_OF_READERS_WHO_COME_BACK:
        yield timedelta(minutes=rng.randint(40, 300)), first


def add_heartbeats(at: datetime) -> None:
    """Record heartbeats of a few invented visitors, whose ids are the same in each run."""
    rng = random.Random(SEED)
    places = ["/", "/", "/a-visitor-without-a-cookie", "/a-visitor-without-a-cookie", "/pull-the-plug", "/about"]
    for path in places:
        record_heartbeat(Hit(path=path, session_id=f"{rng.getrandbits(128):032x}", at=at))
