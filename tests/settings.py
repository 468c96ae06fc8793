"""The settings of the test suite.

PAGESTATS_TEST_DB chooses the database. Two runs at the same time need two values of PAGESTATS_TEST_NAME: a run begins
by throwing away the test database of that name.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from tests import databases

NAME = os.environ.get("PAGESTATS_TEST_NAME", "pagestats")

# The processes that a test starts read these settings too, and must come to the same file.
SQLITE_FILE = os.environ.setdefault(
    "PAGESTATS_TEST_SQLITE_FILE", str(Path(tempfile.gettempdir()) / f"test_{NAME}_{os.getpid()}.sqlite3")
)

DATABASES_BY_NAME: dict[str, dict[str, Any]] = {
    "sqlite": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        # In memory, Django's default for tests, is out of reach for another process.
        "TEST": {"NAME": SQLITE_FILE},
    },
    "postgresql": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": NAME,
        # No test looks at what a power cut leaves, and a commit that waits for no disk is many times faster.
        "OPTIONS": {"options": "-c synchronous_commit=off"},
        **databases.postgresql(),
    },
    "mariadb": {
        "ENGINE": "django.db.backends.mysql",
        "NAME": NAME,
        "OPTIONS": {"charset": "utf8mb4"},
        **databases.mariadb(),
    },
}

if os.environ.get("PAGESTATS_TEST_PREPARED"):
    # As docs/speed.md has it behind a pooler: the driver has the server prepare the statements.
    DATABASES_BY_NAME["postgresql"]["OPTIONS"] |= {"server_side_binding": True, "prepare_threshold": 5}

DATABASES = {"default": DATABASES_BY_NAME[os.environ.get("PAGESTATS_TEST_DB", "sqlite")]}

SECRET_KEY = "a key for tests"
# A password that takes long to check makes no test better.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ALLOWED_HOSTS = ["*"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_q",
    "pagestats",
    "example_project.blog",
]

MIDDLEWARE = [
    "pagestats.middleware.PageViewMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
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

# The queue is a table of the test database.
Q_CLUSTER = {"name": "pagestats", "orm": "default", "timeout": 60, "retry": 120}

# A schedule would be made after each test that flushes the database. Those that are about schedules ask for it.
PAGESTATS_SCHEDULES = False

ROOT_URLCONF = "example_project.urls"
STATIC_URL = "static/"

# Not UTC, so that code which takes UTC for the site's own zone by accident is caught.
TIME_ZONE = "Europe/Amsterdam"
USE_TZ = True
