"""Settings of the site in `tracked_site.py`."""

import os

from example_project.settings import (  # noqa: F401
    ALLOWED_HOSTS,
    DATABASES,
    DEBUG,
    INSTALLED_APPS,
    SECRET_KEY,
    STATIC_URL,
    TEMPLATES,
    TIME_ZONE,
    USE_TZ,
)

ROOT_URLCONF = "tests.tracked_site"
MIDDLEWARE = ["tests.tracked_site.told", "pagestats.middleware.PageViewMiddleware"]
PAGESTATS_IDENTITY = os.environ.get("TRACKED_IDENTITY", "anonymous")
PAGESTATS_OPT_OUTS = os.environ.get("TRACKED_OPT_OUTS", "").split()
