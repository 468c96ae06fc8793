"""The porch: wiring, nothing else."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PagestatsConfig(AppConfig):
    """Page statistics."""

    name = "pagestats"
    verbose_name = _("Page stats")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from pagestats import checks  # noqa: F401
