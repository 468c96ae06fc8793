"""Settings of a site with one page, on the database named in the environment."""

import os
from pathlib import Path
from tempfile import gettempdir

from tests.databases import postgresql

SECRET_KEY = "benchmark"
USE_TZ = True
TIME_ZONE = "UTC"
ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "benchmarks.site"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "pagestats",
    "example_project.blog",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
STATIC_URL = "static/"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
PAGESTATS_IDENTITY = "benchmarks.site.by_cookie"
PAGESTATS_ROLLUPS = os.environ.get("BENCH_ROLLUPS", "immediate")

NAME = os.environ.get("BENCH_NAME", "pagestats_bench")
FOLDER = Path(os.environ.get("BENCH_FOLDER", gettempdir()))
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / f"{NAME}.sqlite3",
        # As Django's documentation suggests for production.
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
if os.environ.get("BENCH_DB") == "postgresql":
    DATABASES["default"] = {"ENGINE": "django.db.backends.postgresql", "NAME": NAME, **postgresql()}
