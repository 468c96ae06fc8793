"""What the site's own models take from here: querysets whose rows know their views."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from django.db.models import QuerySet

from pagestats import stats


class ViewsMixin:
    """Give a queryset of your own the views of each row's page: `class PostQuerySet(ViewsMixin, models.QuerySet)`."""

    def with_views(self, *, days: int | None = None, name: str = "views", at: datetime | None = None) -> Self:
        """Give each row the views of its page, all time or of the last so many days; see `stats.with_views`."""
        rows: Any = self
        found: Self = stats.with_views(rows, days=days, name=name, at=at)
        return found

    def with_visitors(self, *, days: int | None = None, name: str = "visitors", at: datetime | None = None) -> Self:
        """Give each row the visitors of its page; see `stats.with_visitors`."""
        rows: Any = self
        found: Self = stats.with_visitors(rows, days=days, name=name, at=at)
        return found


class ViewsQuerySet(ViewsMixin, QuerySet[Any]):
    """The queryset of a model that needs no other: `objects = ViewsQuerySet.as_manager()`."""
