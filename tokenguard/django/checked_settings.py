"""What the settings say, for the system checks: read anew whenever those run."""

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
    """The options as they are given; None where that is no dictionary, which check_options tells."""
    try:
        return conf.configured_options()
    except ConfigurationError:
        return None


def core_options(given: dict[str, Any]) -> dict[str, Any]:
    """Those that are the same for every framework."""
    return {word: value for word, value in given.items() if word not in _DJANGOS_OWN}


def _build(options: dict[str, Any]) -> Service:
    # Beside a good key: that there is none is told by check_signing_key.
    return Service.build(Options.read({"SIGNING_KEY": generate_key(), **options}), MemoryStore(), hooks=Hooks())


def wrong_with(options: dict[str, Any]) -> str | None:
    """What is wrong with these options; None if nothing is."""
    try:
        _build(options)
    except ConfigurationError as error:
        return str(conf.SettingError(error))
    return None


def sound_options() -> Options | None:
    """The options; None if one of them is wrong, which check_options tells."""
    try:
        return _build(core_options(conf.configured_options())).options
    except ConfigurationError:
        return None


def origin(word: str) -> str:
    """Where the option is given."""
    if getattr(settings, "TOKENGUARD", {}).get(word) is None:
        return f"It is the environment variable {PREFIX}{word}."
    return "It stands in the setting TOKENGUARD."


def secret_keys() -> set[bytes]:
    """Django's own."""
    try:
        keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    except ImproperlyConfigured:
        return set()
    return {key.encode() if isinstance(key, str) else key for key in keys}


def found_store() -> tuple[DjangoStore, str] | None:
    """The store, and the kind of its database; None for settings that could not name one.

    Raises ConfigurationError or ImproperlyConfigured for a database that cannot be used. Connects to nothing.
    """
    given = given_options()
    if given is None:
        return None
    store = conf.chosen_store(given.get(conf.USING))
    if store.using not in connections:
        raise ConfigurationError(f"the database routers keep tokens in {store.using!r}, which is none of DATABASES")
    return store, connections[store.using].vendor


def sound_store() -> tuple[DjangoStore, str] | tuple[None, None]:
    """The same, without what check_database tells."""
    try:
        found = found_store()
    except (ConfigurationError, ImproperlyConfigured):
        return None, None
    return found if found and found[1] in CLOCKS else (None, None)


def tenant_apps() -> list[str]:
    """The applications of which django-tenants makes the tables for each tenant, or for each of a type."""
    shared, types = getattr(settings, "PUBLIC_SCHEMA_NAME", "public"), getattr(settings, "TENANT_TYPES", {})
    found: list[Any] = []
    # A setting of such a name may be somebody else's.
    with suppress(TypeError):
        found += getattr(settings, "TENANT_APPS", ())
    with suppress(AttributeError, LookupError, TypeError):
        found += [app for name, kind in types.items() if name != shared for app in kind["APPS"]]
    return [app for app in found if isinstance(app, str)]


def middleware_classes() -> list[type]:
    """The classes in MIDDLEWARE, in their order; what cannot be imported is told by Django."""
    found = []
    for path in settings.MIDDLEWARE:
        try:
            kind = import_string(path)
        except ImportError:
            continue
        if isinstance(kind, type):
            found.append(kind)
    return found
