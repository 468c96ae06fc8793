"""What the tables hold, and whether it is what the page views say."""

from typing import Any

from django.apps import apps
from django.conf import settings

from pagestats.models import PageView
from pagestats.stats import snapshot
from tests.oracle import expected_rollups, stored_rollups


def everything() -> dict[str, list[str]]:
    """Return all rows of all tables."""
    models = apps.get_app_config("pagestats").get_models()
    return {model.__name__: sorted(map(repr, model._base_manager.values_list())) for model in models}


def assert_rolled_up(zone: str | None = None) -> None:
    """Check that the rollups are those of the page views that were rolled up, in a zone or the site's own."""
    assert stored_rollups() == expected_rollups(PageView.objects.rolled_up(), zone or settings.TIME_ZONE)


def assert_exact(zone: str | None = None) -> None:
    """Check the rollups, and that the totals of the snapshot are a count of all page views, pending ones included."""
    assert_rolled_up(zone)
    answer = snapshot()
    views: list[Any] = list(PageView.objects.values_list("session_id", flat=True))
    assert (answer.total_page_views, answer.unique_visitors) == (len(views), len(set(views)))
