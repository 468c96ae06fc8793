from __future__ import annotations

from django.db import models
from django.urls import reverse
from django.utils import timezone

from pagestats.querysets import ViewsMixin


class EntryQuerySet(ViewsMixin, models.QuerySet):
    def published(self) -> EntryQuerySet:
        return self.filter(published=True)


class Entry(models.Model):
    """The common base of posts and pages: a text with an address, visible once it is published."""

    title = models.CharField(max_length=500)
    # Not unique: a draft may have the address of the published text that it will replace.
    slug = models.SlugField(max_length=500)
    published = models.BooleanField(default=False)
    body = models.TextField(blank=True)
    created = models.DateTimeField(default=timezone.now)

    objects = EntryQuerySet.as_manager()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("entry", args=[self.slug])


class Post(Entry):
    """A text with a date, listed on the home page."""

    class Meta:
        ordering = ["-created", "-pk"]


class Page(Entry):
    """A text without a date, linked at the top of every page."""

    class Meta:
        ordering = ["title", "pk"]
