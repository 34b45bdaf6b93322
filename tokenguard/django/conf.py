"""``settings.TOKENGUARD``, read live: the service as the current settings define it."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from ..config import PREFIX, Options, development_keys, from_environ
from ..errors import ConfigurationError
from ..forks import in_children
from ..frames import clear_frames
from ..issuer import Issuer
from ..service import Service
from ..store import Store
from .no_cache import NoCache
from .signals import signalling_hooks

if TYPE_CHECKING:
    from .store import DjangoStore

#: The options for Django alone: which of DATABASES keeps the tokens, and which is its replica.
USING, READ_USING = "USING", "READ_USING"
#: The options that they replace.
URLS = ("DATABASE_URL", "READ_URL")
#: The settings that the service was built from, and the service.
_built: tuple[tuple[Any, ...], Service] | None = None
#: The value of TOKENGUARD, and the service, if that value alone determines it: SECRET_KEY is not its signing key.
_by_itself: tuple[Any, Service | None] = None, None
#: Django's cache of the settings that have been read. Setting one drops it from the cache.
_known: dict[str, Any] = vars(settings)


class _Building:
    """The lock of the thread that builds the service. A forked child has its own, as it does not have that thread."""

    def __init__(self) -> None:
        self.renew()
        in_children(self.renew)

    def renew(self) -> None:
        self.lock = threading.Lock()


_building = _Building()


class SettingError(ConfigurationError, ImproperlyConfigured):
    """A setting that cannot be used; the message names it as it is written where it is set."""

    def __init__(self, error: ConfigurationError) -> None:
        super().__init__(name_options(str(error)))


def name_options(message: str) -> str:
    """Return ``message`` with each option named as it is set: in the settings, or else in the environment."""
    given = getattr(settings, "TOKENGUARD", {})
    written = {word for word in given if given[word] is not None} if isinstance(given, Mapping) else set()
    elsewhere = from_environ().keys() - written

    def name(found: re.Match[str]) -> str:
        return found[0] if found[1] in elsewhere else f'TOKENGUARD["{found[1]}"]'

    return re.sub(rf"{PREFIX}([A-Z]+(?:_[A-Z]+)*)", name, message)


def service() -> Service:
    """Return the service that the settings define, built when first asked for and again when they change.

    Raises SettingError, which is an ImproperlyConfigured, for a setting that cannot be used.
    """
    global _built, _by_itself
    # A fast path, cheap enough for every request. Where it cannot be sure, _current decides.
    given, found = _by_itself
    if found is not None and _known.get("TOKENGUARD") is given and "django.test.utils" not in sys.modules:
        return found
    read = _settings()
    try:
        if (current := _current(read)) is None:
            with _building.lock:
                if (current := _current(read)) is None:
                    current = build()
                    _built = (read, current)
                    by_itself = read[0] is not None and not signs_with_secret_key(configured_options())
                    _by_itself = (read[0], current) if by_itself else (None, None)
    except BaseException as error:
        clear_frames(error)
        given, read = None, ()
        raise
    return current


def built() -> Service | None:
    """Return the service that was built last; None if there is none yet."""
    return None if _built is None else _built[1]


def build() -> Service:
    """Build the service anew in any case. Raises as :func:`service` does."""
    options, store = load()
    try:
        new = Service.build(options, store, hooks=signalling_hooks())
    except ConfigurationError as error:
        raise SettingError(error) from None
    if tests_run():
        # Uses written at exit would go to the project's own database, as the tests' is gone by then; and a write after
        # the response, once a minute, would make the number of a test's queries depend on the other tests.
        guard = new.requests.guard
        guard.usage, guard.cache = None, NoCache(guard.cache)
        # A test may move the time, and the next one is back in its own.
        guard.clock.follow()
    return new


def load() -> tuple[Options, Store]:
    """Return the options and the store, which need no signing key. Raises as :func:`service` does."""
    try:
        given = complete_options()
        store = chosen_store(given.pop(USING, None), given.pop(READ_USING, None))
        return Options.read(given), store
    except ConfigurationError as error:
        clear_frames(error)
        given = {}
        raise SettingError(error) from None


def load_options() -> Options:
    """Return the configured options alone, without SECRET_KEY, whose use would be logged each time.

    Raises as :func:`service` does.
    """
    try:
        given = configured_options()
        return Options.read({word: value for word, value in given.items() if word not in (USING, READ_USING)})
    except ConfigurationError as error:
        clear_frames(error)
        given = {}
        raise SettingError(error) from None


def chosen_store(using: Any, read_using: Any = None) -> DjangoStore:
    """Return the store in the database of this alias, or else of the routers' choice, and with this replica.

    Raises ConfigurationError if there is no such database.
    """
    from .store import DjangoStore  # its models can be imported only when the applications are loaded

    return DjangoStore(check_alias(USING, using), read_using=check_alias(READ_USING, read_using))


def check_alias(word: str, alias: Any) -> str | None:
    """Return the alias that this option names, if it is set. Raises ConfigurationError if no database has it."""
    if alias is None or (isinstance(alias, str) and alias in connections):
        return alias
    raise ConfigurationError(f"{PREFIX}{word} must name one of DATABASES ({', '.join(connections)}), not {alias!r}")


def complete_options() -> dict[str, Any]:
    """Return the options to build with: those configured, and SECRET_KEY as the signing key where it may serve as one.

    Raises ConfigurationError if the settings are not a mapping, or give the URL of a database.
    """
    options = configured_options()
    for word in URLS:
        if word in options:
            raise ConfigurationError(
                f"{PREFIX}{word} is not used with Django: tokens are kept in one of DATABASES, the default one or the "
                f"one that {PREFIX}{USING} names, and {PREFIX}{READ_USING} names its replica"
            )
    if signs_with_secret_key(options):
        options |= development_keys(settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS)
    return options


def configured_options() -> dict[str, Any]:
    """Return the options from the settings and, for those not set there, from the environment.

    Raises ConfigurationError if the settings are not a mapping.
    """
    given = getattr(settings, "TOKENGUARD", {})
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"the setting TOKENGUARD must be a dictionary of options, not {type(given).__name__}")
    if strange := [word for word in given if not isinstance(word, str)]:
        raise ConfigurationError(
            f"the setting TOKENGUARD must be a dictionary with names of options as keys, not {strange[0]!r}"
        )
    # A URL in the environment may be meant for a Flask service, or for the command line without Django.
    options: dict[str, Any] = {word: value for word, value in from_environ().items() if word not in URLS}
    return options | {word: value for word, value in given.items() if value is not None}


def signs_with_secret_key(options: Mapping[str, Any]) -> bool:
    """Whether SECRET_KEY is the signing key: none is configured, and this is not production."""
    return not options.keys() & {"SIGNING_KEY", "OLD_SIGNING_KEYS"} and for_development() and bool(settings.SECRET_KEY)


def for_development() -> bool:
    """Whether Django runs in debug, or its tests are being run."""
    return bool(settings.DEBUG) or tests_run()


def tests_run() -> bool:
    """Whether Django's tests are being run: between setup_test_environment and its teardown."""
    # Every test runner turns DEBUG off, and leaves no other trace than this.
    test_utils = sys.modules.get("django.test.utils")
    return "saved_data" in getattr(getattr(test_utils, "_TestState", None), "__dict__", ())


def get_issuer() -> Issuer:
    """Return the issuer, which registers clients, and issues, rotates and revokes tokens."""
    return service().issuer


def get_store() -> Store:
    """Return the store, where clients, tokens and events are kept."""
    return service().store


def _current(read: tuple[Any, ...]) -> Service | None:
    if _built is None or any(one is not other for one, other in zip(_built[0], read, strict=True)):
        return None
    return _built[1]


def _settings() -> tuple[Any, ...]:
    # Each is compared by identity: however a setting is changed, except in place, it is then another object.
    return (
        getattr(settings, "TOKENGUARD", None),
        settings.SECRET_KEY,
        settings.SECRET_KEY_FALLBACKS,
        bool(settings.DEBUG),
        settings.DATABASE_ROUTERS,
        tests_run(),
    )
