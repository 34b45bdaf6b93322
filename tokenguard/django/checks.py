"""The system checks: what is wrong with the settings and the views, each numbered and with a hint.

They read the settings as they are when they run. The numbers are stable: people silence them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.middleware.cache import UpdateCacheMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.security import SecurityMiddleware
from django.urls import get_resolver

from ..config import PREFIX, WORDS
from ..databases import CLOCKS
from ..errors import ConfigurationError, SchemaError, StoreError
from ..scopes import ScopeCatalog
from . import conf
from .checked_settings import (
    core_options,
    found_store,
    given_options,
    middleware_classes,
    origin,
    secret_keys,
    sound_options,
    sound_store,
    tenant_apps,
    wrong_with,
)
from .connections import is_only_recorded, translated
from .metadata import check_metadata
from .middleware import TokenGuardMiddleware
from .requirements import checked_for_csrf, left_out, names_in_vain, names_nothing, patterns, scopes
from .store import DjangoStore

_INSTEAD_OF_URLS = (
    'Remove it, and name the database with TOKENGUARD["USING"] if it is not the default one, and its replica with '
    'TOKENGUARD["READ_USING"].'
)


def register() -> None:
    """Register the checks."""
    for check in (check_options, check_names, check_signing_key, check_catalog):
        checks.register(check, Tags.security)
    for check in (check_middleware, check_views, check_metadata):
        checks.register(check, Tags.security)
    for check in (check_database, check_replica, check_tenants):
        checks.register(check, Tags.compatibility)
    checks.register(check_tables, Tags.database)
    for check in (check_secret_key, check_https, check_proxies):
        checks.register(check, Tags.security, deploy=True)
    checks.register(check_transactions, Tags.compatibility, deploy=True)


def check_options(**kwargs: Any) -> list[CheckMessage]:
    """E001, E002, E003: each option is read on its own, so that all errors are reported at once."""
    try:
        given = conf.configured_options()
    except ConfigurationError as error:
        hint = 'Write it as TOKENGUARD = {"SCOPES": {…}, "REALM": "…"}.'
        return [Error(str(error), hint=hint, id="tokenguard.E001")]
    found: list[CheckMessage] = []
    for url in conf.URLS:
        if url in given:
            message = f'TOKENGUARD["{url}"] is not used with Django: tokens are kept in one of DATABASES.'
            found.append(Error(message, hint=_INSTEAD_OF_URLS, id="tokenguard.E002"))
    options = core_options(given)
    for word, value in options.items():
        # ISSUERS translates other issuers' scopes into the service's own, so it is read with SCOPES.
        beside = {"SCOPES": options["SCOPES"]} if word == "ISSUERS" and "SCOPES" in options else {}
        if not wrong_with(beside) and (wrong := wrong_with({**beside, word: value})):
            found.append(Error(wrong, hint=origin(word), id="tokenguard.E003"))
    return found


def check_names(**kwargs: Any) -> list[CheckMessage]:
    """E011. Other settings with the prefix are left alone: they may be the project's own."""
    given = given_options() or {}
    found: list[CheckMessage] = []
    for word in (*WORDS, conf.USING, conf.READ_USING):
        # A settings file may set such a variable, as from its environment, and then put that into the dictionary.
        if (value := getattr(settings, PREFIX + word, None)) is None or value == given.get(word):
            continue
        message = f"The setting {PREFIX}{word} is not read: options belong in the dictionary TOKENGUARD."
        hint = _INSTEAD_OF_URLS if word in conf.URLS else f'Write it as TOKENGUARD["{word}"].'
        found.append(Error(message, hint=hint, id="tokenguard.E011"))
    return found


def check_signing_key(**kwargs: Any) -> list[CheckMessage]:
    """E004."""
    given = given_options()
    if given is None or "SIGNING_KEY" in given:
        return []
    try:
        if conf.signs_with_secret_key(given):
            return []
    except ImproperlyConfigured:
        pass  # there is no SECRET_KEY either, which Django itself reports
    message = "There is no signing key: no token can be issued or verified."
    if "OLD_SIGNING_KEYS" in given:
        message = 'TOKENGUARD["OLD_SIGNING_KEYS"] is set, but TOKENGUARD["SIGNING_KEY"] is not.'
    hint = (
        f'Make one with "manage.py tokenguard genkey", and set it as the environment variable {PREFIX}SIGNING_KEY '
        'or as TOKENGUARD["SIGNING_KEY"]. Only with DEBUG, or in tests, does SECRET_KEY serve instead.'
    )
    return [Error(message, hint=hint, id="tokenguard.E004")]


def check_database(**kwargs: Any) -> list[CheckMessage]:
    """E005, E006. Connects to nothing."""
    try:
        store = found_store()
        if store is None or connections[store.using].vendor in CLOCKS:
            return []
    except (ConfigurationError, ImproperlyConfigured) as error:
        hint = 'TOKENGUARD["USING"] must be an alias of DATABASES; without it, the database routers choose one.'
        return [Error(conf.name_options(str(error)), hint=hint, id="tokenguard.E005")]
    message = f"Tokens are kept in SQLite or PostgreSQL, and the database {store.using!r} is neither."
    hint = 'Name another of DATABASES with TOKENGUARD["USING"], and keep the app from this one with a database router.'
    return [Error(message, hint=hint, id="tokenguard.E006")]


def check_replica(**kwargs: Any) -> list[CheckMessage]:
    """E009. Connects to nothing."""
    try:
        alias = conf.check_alias(conf.READ_USING, (given_options() or {}).get(conf.READ_USING))
        if alias is None or connections[alias].vendor in CLOCKS:
            return []
        message = f"Tokens are looked up in SQLite or PostgreSQL, and the replica {alias!r} is neither."
    except (ConfigurationError, ImproperlyConfigured) as error:
        message = conf.name_options(str(error))
    hint = 'TOKENGUARD["READ_USING"] must be the alias of a replica of the database that keeps the tokens.'
    return [Error(message, hint=hint, id="tokenguard.E009")]


def check_tenants(**kwargs: Any) -> list[CheckMessage]:
    """E012. The cache of a process does not distinguish the schemas in which django-tenants keeps tenants apart."""
    store = sound_store()
    if store is None or store.using != getattr(settings, "TENANT_DB_ALIAS", DEFAULT_DB_ALIAS):
        return []
    if not any(app.startswith(__package__) for app in tenant_apps()):
        return []
    message = "Each tenant has tables of tokens in a schema of its own: tokens of one are accepted by the others."
    hint = 'Name "tokenguard.django" in SHARED_APPS alone, and decide by identity.client_id what a client may do.'
    return [Error(message, hint=hint, id="tokenguard.E012")]


def check_middleware(**kwargs: Any) -> list[CheckMessage]:
    """E007, W001."""
    kinds = middleware_classes()
    ours = [place for place, kind in enumerate(kinds) if issubclass(kind, TokenGuardMiddleware)]
    if not ours:
        message = '"tokenguard.django.TokenGuardMiddleware" is not in MIDDLEWARE: no request has an identity.'
        hint = "Add it, above whatever looks at request.identity and below UpdateCacheMiddleware if you have that."
        return [Error(message, hint=hint, id="tokenguard.E007")]
    if not any(issubclass(kind, UpdateCacheMiddleware) for kind in kinds[ours[0] :]):
        return []
    message = (
        "UpdateCacheMiddleware is below TokenGuardMiddleware: it keeps answers that are for one caller alone, and "
        "they are given out again without a look at the token."
    )
    return [checks.Warning(message, hint="Put UpdateCacheMiddleware above TokenGuardMiddleware.", id="tokenguard.W001")]


def check_catalog(**kwargs: Any) -> list[CheckMessage]:
    """W002."""
    options = sound_options()
    if options is None or len(options.catalog):
        return []
    message = "There is no catalogue of scopes: a misspelled scope is granted and required like any other."
    hint = 'Set TOKENGUARD["SCOPES"] to a dictionary of the scopes that this service has and their descriptions.'
    return [checks.Warning(message, hint=hint, id="tokenguard.W002")]


def check_views(**kwargs: Any) -> list[CheckMessage]:
    """E008, E010, W003, W010, W011: what the views of the URLconf ask for."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    options, csrf = sound_options(), any(issubclass(kind, CsrfViewMiddleware) for kind in middleware_classes())
    catalog = options.catalog if options else ScopeCatalog()
    found: dict[tuple[str, str], CheckMessage] = {}
    for pattern in patterns(get_resolver().url_patterns):
        view = pattern.lookup_str
        for name in catalog.unknown(scopes(pattern.callback)):
            found[view, name] = _unknown_scope(view, name, catalog)
        if names_nothing(pattern.callback):
            found[view, "required_scopes"] = _names_nothing(view)
        if names_in_vain(pattern.callback):
            found[view, "required_scopes"] = _names_in_vain(view, pattern.callback)
        if unnamed := left_out(pattern.callback):
            found[view, ", ".join(unnamed)] = _left_out(view, unnamed)
        if csrf and (methods := checked_for_csrf(pattern.callback)):
            found[view, ""] = _half_guarded(view, methods)
    return list(found.values())


def check_secret_key(**kwargs: Any) -> list[CheckMessage]:
    """W004."""
    options = sound_options()
    if options is None or options.signing_keys is None:
        return []
    signing = {key.reveal().encode() for key in (options.signing_keys.current, *options.signing_keys.old)}
    if signing.isdisjoint(secret_keys()):
        return []
    message = "A signing key of tokens is one of Django's secret keys as well: whoever learns one has both."
    hint = 'Make a key for tokens alone with "manage.py tokenguard genkey". Changing it ends the tokens already issued.'
    return [checks.Warning(message, hint=hint, id="tokenguard.W004")]


def check_https(**kwargs: Any) -> list[CheckMessage]:
    """W005."""
    if settings.SECURE_SSL_REDIRECT and any(issubclass(kind, SecurityMiddleware) for kind in middleware_classes()):
        return []
    message = "Plain HTTP is not redirected to HTTPS: callers may go on sending their tokens in clear text."
    hint = "Set SECURE_SSL_REDIRECT, with SecurityMiddleware. If a proxy redirects or refuses, silence this check."
    return [checks.Warning(message, hint=hint, id="tokenguard.W005")]


def check_proxies(**kwargs: Any) -> list[CheckMessage]:
    """W006."""
    options = sound_options()
    trusted = ("SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST", "USE_X_FORWARDED_PORT")
    behind = [name for name in trusted if getattr(settings, name)]
    if options is None or options.scheme.proxies or not behind:
        return []
    message = (
        f'TOKENGUARD["PROXIES"] is 0, but {behind[0]} says that there is a proxy: its address is taken for that of '
        "every caller, in the networks of tokens and in their last use."
    )
    hint = 'Set TOKENGUARD["PROXIES"] to the number of proxies that add to X-Forwarded-For.'
    return [checks.Warning(message, hint=hint, id="tokenguard.W006")]


def check_transactions(**kwargs: Any) -> list[CheckMessage]:
    """W007."""
    store = sound_store()
    if store is None or connections[store.using].vendor != "sqlite":
        return []
    mode = connections[store.using].settings_dict["OPTIONS"].get("transaction_mode")
    if str(mode).upper() in {"IMMEDIATE", "EXCLUSIVE"}:
        return []
    message = (
        f"Transactions on the SQLite database {store.using!r} do not begin with its lock: one that reads before it "
        'writes fails with "database is locked" when another process has written in between.'
    )
    hint = f'Set DATABASES["{store.using}"]["OPTIONS"] = {{"transaction_mode": "IMMEDIATE"}}.'
    return [checks.Warning(message, hint=hint, id="tokenguard.W007")]


def check_tables(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """W008: only for the databases that are named, as by ``check --database default``."""
    store = sound_store()
    if store is None or store.using not in (databases or ()):
        return []
    try:
        # "migrate" runs this check too, before it does what the warning would ask for; so does that of django-tenants.
        with translated(store.using):
            if sys.argv[1:2] in (["migrate"], ["migrate_schemas"]) and not is_only_recorded(connections[store.using]):
                return []
        store.check()
    except StoreError as error:
        # While a fleet is upgraded, the tables are of another version but can be read.
        read = isinstance(error, SchemaError) and _can_be_read(store)
        what = "Tokens can be checked, but neither issued nor revoked" if read else "Tokens cannot be looked up"
        until = "" if read else "Until then every request with a token is answered with 503; "
        hint = f'{until}"manage.py tokenguard doctor" shows more.'
        return [checks.Warning(f"{what}: {error}.", hint=hint, id="tokenguard.W008")]
    return []


def _can_be_read(store: DjangoStore) -> bool:
    try:
        store.find("no token")
    except StoreError:
        return False
    return True


def _unknown_scope(view: str, name: str, catalog: ScopeCatalog) -> CheckMessage:
    message = f"The view {view} requires the scope {name!r}, which is not in the catalogue: nobody can call it."
    hint = f'TOKENGUARD["SCOPES"] has {", ".join(catalog)}.'
    return Error(message, hint=hint, id="tokenguard.E008")


def _names_nothing(view: str) -> CheckMessage:
    message = f"The class of the view {view} has HasScopes among its permissions but names no scope: that gives 500."
    hint = "Set required_scopes or required_any_of; where any valid token will do, HasToken is the permission."
    return checks.Warning(message, hint=hint, id="tokenguard.W010")


def _left_out(view: str, names: list[str]) -> CheckMessage:
    message = f"No token will do for {', '.join(names)} of the view {view}: no mapping names scopes for that."
    hint = "Name them in required_scopes or required_any_of, or take from the view what nobody is to call."
    return checks.Warning(message, hint=hint, id="tokenguard.W011")


def _names_in_vain(view: str, callback: Any) -> CheckMessage:
    message = f"The class of the view {view} names scopes that nothing requires: it is open to tokens without them."
    hint = "Put ScopesRequiredMixin first among its bases."
    if hasattr(callback, "cls"):
        hint = "Put HasScopes among its permission_classes, or into DEFAULT_PERMISSION_CLASSES."
    return Error(message, hint=hint, id="tokenguard.E010")


def _half_guarded(view: str, methods: list[str]) -> CheckMessage:
    message = (
        f"The view {view} requires a token in {', '.join(methods)}, but is checked for CSRF as a whole: callers are "
        "refused there, whatever their token."
    )
    hint = (
        'Guard the whole class as well: @method_decorator(require_token, name="dispatch"). If it has callers without a '
        "token, too, put there the decorator of your own that lets both in."
    )
    return checks.Warning(message, hint=hint, id="tokenguard.W003")
