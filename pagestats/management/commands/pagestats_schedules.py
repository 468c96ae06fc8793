"""List, restore or remove the schedules of this app in django-q2."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from pagestats import schedules
from pagestats.conf import conf
from pagestats.management.base import StatsCommand
from pagestats.tasks import NoCluster


class Command(StatsCommand):
    """manage.py pagestats_schedules."""

    help = (
        "Lists the schedules of this app in django-q2. Each is created once, after migrate. From then on it is yours: "
        "migrate never restores a schedule that you changed or deleted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        actions = parser.add_mutually_exclusive_group()
        actions.add_argument(
            "--restore", action="store_true", help="Restore all schedules, also those that you changed or deleted."
        )
        actions.add_argument(
            "--remove", action="store_true", help="Delete all schedules. migrate won't create them again."
        )

    def handle(self, *, restore: bool, remove: bool, **options: Any) -> None:
        """Restore or remove the schedules if asked to, then list them."""
        if restore and not conf.SCHEDULES:
            raise CommandError("PAGESTATS_SCHEDULES is False. Set it to True to use schedules.")
        try:
            if restore:
                schedules.restore()
            if remove:
                schedules.remove()
            for standing in schedules.standings():
                self.stdout.write(standing.describe())
        except NoCluster as error:
            raise CommandError(str(error)) from error
        if not conf.SCHEDULES:
            self.stdout.write("PAGESTATS_SCHEDULES is False, so migrate creates no schedules.")
