"""Querysets that add page views and visitors to the rows of a site's own models."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from django.db.models import QuerySet

from pagestats import stats


class ViewsMixin:
    """Add `with_views()` and `with_visitors()` to your queryset: `class PostQuerySet(ViewsMixin, models.QuerySet)`."""

    def with_views(self, *, days: int | None = None, name: str = "views", at: datetime | None = None) -> Self:
        """Annotate each row with the views of its page, of all time or of the last `days`; see `stats.with_views`."""
        rows: Any = self
        found: Self = stats.with_views(rows, days=days, name=name, at=at)
        return found

    def with_visitors(self, *, days: int | None = None, name: str = "visitors", at: datetime | None = None) -> Self:
        """Annotate each row with the visitors of its page; see `stats.with_visitors`."""
        rows: Any = self
        found: Self = stats.with_visitors(rows, days=days, name=name, at=at)
        return found


class ViewsQuerySet(ViewsMixin, QuerySet[Any]):
    """For a model without a queryset of its own: `objects = ViewsQuerySet.as_manager()`."""
