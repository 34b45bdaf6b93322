"""The settings, as the system checks need them: read anew whenever those run."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from ..config import PREFIX, Options
from ..databases import CLOCKS
from ..errors import ConfigurationError
from ..hooks import Hooks
from ..memory import MemoryStore
from ..service import Service
from ..signing import generate_key
from . import conf
from .store import DjangoStore

_DJANGOS_OWN = {conf.USING, conf.READ_USING, *conf.URLS}


def given_options() -> dict[str, Any] | None:
    """The options as they are given; None if that is not a dictionary, which check_options reports."""
    try:
        return conf.configured_options()
    except ConfigurationError:
        return None


def core_options(given: dict[str, Any]) -> dict[str, Any]:
    """The options that are the same for every framework."""
    return {word: value for word, value in given.items() if word not in _DJANGOS_OWN}


def _build(options: dict[str, Any]) -> Service:
    # With a good key, as check_signing_key reports a missing one.
    return Service.build(Options.read({"SIGNING_KEY": generate_key(), **options}), MemoryStore(), hooks=Hooks())


def wrong_with(options: dict[str, Any]) -> str | None:
    """What is wrong with these options; None if nothing is."""
    try:
        _build(options)
    except ConfigurationError as error:
        return str(conf.SettingError(error))
    return None


def sound_options() -> Options | None:
    """The options; None if one of them is wrong, which check_options reports."""
    try:
        return _build(core_options(conf.configured_options())).options
    except ConfigurationError:
        return None


def origin(word: str) -> str:
    """Where the option is set, as a sentence."""
    if getattr(settings, "TOKENGUARD", {}).get(word) is None:
        return f"It is the environment variable {PREFIX}{word}."
    return "It is in the setting TOKENGUARD."


def secret_keys() -> set[bytes]:
    """Django's own secret keys."""
    try:
        keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    except ImproperlyConfigured:
        return set()
    return {key.encode() if isinstance(key, str) else key for key in keys}


def found_store() -> DjangoStore | None:
    """The store; None if the settings cannot be read.

    Raises ConfigurationError for a database that cannot be used. Connects to nothing.
    """
    given = given_options()
    if given is None:
        return None
    store = conf.chosen_store(given.get(conf.USING))
    if store.using not in connections:
        raise ConfigurationError(f"the database routers keep tokens in {store.using!r}, which is not in DATABASES")
    return store


def sound_store() -> DjangoStore | None:
    """The same, but None for everything that check_database reports."""
    try:
        store = found_store()
        return store if store is not None and connections[store.using].vendor in CLOCKS else None
    except (ConfigurationError, ImproperlyConfigured):
        return None


def tenant_apps() -> list[str]:
    """The applications whose tables django-tenants creates for each tenant, or for each of a type."""
    shared, types = getattr(settings, "PUBLIC_SCHEMA_NAME", "public"), getattr(settings, "TENANT_TYPES", {})
    found: list[Any] = []
    # A setting of this name may belong to something else.
    with suppress(TypeError):
        found += getattr(settings, "TENANT_APPS", ())
    with suppress(AttributeError, LookupError, TypeError):
        found += [app for name, kind in types.items() if name != shared for app in kind["APPS"]]
    return [app for app in found if isinstance(app, str)]


def middleware_classes() -> list[type]:
    """The classes in MIDDLEWARE, in their order; Django itself reports what cannot be imported."""
    found = []
    for path in settings.MIDDLEWARE:
        try:
            kind = import_string(path)
        except ImportError:
            continue
        if isinstance(kind, type):
            found.append(kind)
    return found
