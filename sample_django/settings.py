"""The settings: for production, unless DJANGO_DEBUG is 1. What differs by deployment is read from the environment.

DJANGO_DEBUG            1 while developing; then nothing else has to be set
DJANGO_SECRET_KEY       Django's own key
TOKENGUARD_SIGNING_KEY  what signs the tokens: ``manage.py tokenguard genkey`` prints one
TOKENGUARD_ISSUERS      other issuers whose JWTs are taken too, as JSON: docs/issuers.md
DJANGO_ALLOWED_HOSTS    the names that this service is reached by, with spaces between them
DJANGO_DATABASE         the SQLite file, by default sample_django.db in the working directory
DJANGO_HTTPS            0 only where it is tried out without HTTPS
DJANGO_STATIC_ROOT      where collectstatic gathers the admin's files, if a web server serves them
"""

from __future__ import annotations

import os

from sample_flask import scopes

DEBUG = os.environ.get("DJANGO_DEBUG") == "1"
# The default key is only for development, and ``manage.py check --deploy`` says so.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or ("django-insecure-for-development-alone" if DEBUG else "")
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "").split()

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "tokenguard.django",
    "sample_django",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "tokenguard.django.TokenGuardMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "sample_django.web.ErrorsMiddleware",
]
TOKENGUARD = {
    "SCOPES": scopes.SCOPES,
    "ERROR_FORM": "okta",
    "IDLE_TIMEOUT": scopes.IDLE_TIMEOUT,
}

ROOT_URLCONF = "sample_django.urls"
WSGI_APPLICATION = "sample_django.wsgi.application"
STATIC_URL = "/static/"
STATIC_ROOT = os.environ.get("DJANGO_STATIC_ROOT")
# As on the command line and in the log. Without this, the admin would show the time in Chicago.
TIME_ZONE = "UTC"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DJANGO_DATABASE", "sample_django.db"),
        "OPTIONS": {
            # Otherwise, a transaction that reads first would fail on its first write, without waiting, if another
            # process had written in between.
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL",
        },
    }
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    # Through the root logger alone: with DEBUG, Django would otherwise write each line itself too.
    "loggers": {"django": {"level": "INFO"}},
}

HTTPS = os.environ.get("DJANGO_HTTPS", "0" if DEBUG else "1") == "1"
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 365 * 86_400 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
