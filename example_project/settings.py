"""Settings of the example site: a plain Django site with what `pagestats` needs."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

# For your own machine only. A real site needs a secret key of its own, and DEBUG = False.
SECRET_KEY = "example-only-not-a-secret"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
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

# Let anybody read the stats, at /stats/.
PAGESTATS_PUBLIC = True

PAGESTATS_CONTENT = {
    "posts": {
        "model": "blog.Post",
        "published": {"published": True},
        "title": "title",
        "slug": "slug",
        "type": "blog",
    },
    "pages": {
        "model": "blog.Page",
        "published": {"published": True},
        "title": "title",
        "slug": "slug",
        "type": "page",
    },
}

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"

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

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("EXAMPLE_DATABASE") or BASE_DIR / "db.sqlite3",
    },
}

# The cluster (manage.py qcluster) keeps its queue in the database. After `timeout` seconds it stops a task, and after
# `retry` seconds it gives the task to another worker, so `retry` must be greater.
Q_CLUSTER = {
    "name": "example",
    "orm": "default",
    "workers": 2,
    "timeout": 60,
    "retry": 120,
    "catch_up": False,
}

# Reporting days begin at midnight in this zone.
TIME_ZONE = "Europe/Amsterdam"
USE_TZ = True
LANGUAGE_CODE = "en-gb"
USE_THOUSAND_SEPARATOR = True

STATIC_URL = "static/"
