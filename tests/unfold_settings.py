"""The example site with django-unfold for its admin."""

from example_project.settings import *  # noqa: F403  # all of them, but for what follows
from example_project.settings import INSTALLED_APPS

INSTALLED_APPS = ["unfold", *INSTALLED_APPS]
