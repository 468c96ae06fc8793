"""System checks: what is plausible but wrong, each with an id of its own and a hint."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from pagestats.conf import Settings


@register("pagestats")
def check_settings(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Say which settings have a value that they do not take."""
    return [
        Error(fault, hint=setting.hint, id="pagestats.E001") for setting in Settings.all() if (fault := setting.fault())
    ]


@register("pagestats")
def check_time_zone_support(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Refuse naive local times: an hour that comes twice a year cannot be told apart in them."""
    if settings.USE_TZ:
        return []
    return [
        Error(
            "USE_TZ is False: page views of the hour that comes twice when summer time ends could not be told apart.",
            hint="Set USE_TZ = True, Django's default.",
            id="pagestats.E002",
        )
    ]
