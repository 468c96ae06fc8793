"""The porch: wiring, nothing else."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class PagestatsConfig(AppConfig):
    """Page statistics."""

    name = "pagestats"
    verbose_name = _("Page stats")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, and what is made after `migrate`."""
        from pagestats import checks, schedules  # noqa: F401  # importing them registers them

        post_migrate.connect(schedules.make_after_migrate, sender=self)
