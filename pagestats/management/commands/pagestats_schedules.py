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
        "Lists what this app has django-q2 do again and again. Each schedule is made once, after migrate, and is yours "
        "then: migrate never undoes that you changed or deleted it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        actions = parser.add_mutually_exclusive_group()
        actions.add_argument(
            "--restore", action="store_true", help="Make them as they were made first, also changed and deleted ones."
        )
        actions.add_argument("--remove", action="store_true", help="Delete them, for good.")

    def handle(self, *, restore: bool, remove: bool, **options: Any) -> None:
        """List, after restoring or removing."""
        if restore and not conf.SCHEDULES:
            raise CommandError("PAGESTATS_SCHEDULES is False. Set it to True to have schedules.")
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
            self.stdout.write("PAGESTATS_SCHEDULES is False: migrate makes none.")
