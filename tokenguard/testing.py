"""For the tests of a service: test clients and headers with a valid token, and a service that lives in memory.

Nothing here is needed to serve requests. Tokens are issued where the service under test looks for them, and only while
that is being tested.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, Required, TypedDict, TypeVar, Unpack, cast, overload

from werkzeug.test import Client

from .clock import Clock, now
from .conditions import Conditions
from .config import Options
from .errors import ConfigurationError
from .guard import Guard
from .hooks import Hooks
from .issuer import Issuer, Provided
from .memory import MemoryStore
from .policy import Policy
from .scopes import Scopes
from .service import Service
from .tokens import random_id
from .wsgi import TokenGuardMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from django import test
    from flask import Flask

    class DjangoClient(test.Client):
        """A name for Django's test client that a strict type checker finds even without Django."""


__all__ = ["AsClient", "MemoryService", "as_client", "bearer"]

#: The actor in the audit trail for tokens of tests; also the name of these tokens.
ACTOR = "tests"
#: How long they live where the policy requires an end, in seconds.
LIFETIME = 3600
_HEADER = "Authorization"
_IN_ENVIRON = "HTTP_AUTHORIZATION"
_IN_SCOPE = "AUTHORIZATION"


# Protocols, and not the frameworks' classes: a type checker knows nothing of a framework that is not installed, and
# would accept anything as one of its classes.
class HasDefaults(Protocol):
    """Django's test clients and request factories."""

    @property
    def defaults(self) -> Mapping[str, Any]:
        """What the environ or scope of each request contains."""


AnyClient = TypeVar("AnyClient", bound=Client | HasDefaults)
AppClient = TypeVar("AppClient", bound=Client, covariant=True)


class HasTestClient(Protocol[AppClient]):
    """A Flask application."""

    def test_client(self) -> AppClient:
        """Its own test client."""


class IssueOptions(TypedDict, total=False):
    """What a token may be given, as in :meth:`tokenguard.Issuer.issue`."""

    name: str
    expires_in: int | None
    idle_timeout: int | None
    conditions: Conditions | None
    not_after: int | None
    provided: Provided | None


class BearerOptions(IssueOptions, total=False):
    """Those options, and what else :func:`bearer` takes."""

    scopes: Required[Scopes | str | Iterable[str]]
    client: str | None
    issuer: Issuer | None


class MemoryService:
    """A guard and an issuer on a store in memory: to test what no framework sets up.

    ``scopes`` is a catalogue, as in the options; ``clock`` a function that returns epoch microseconds. Each service has
    a new signing key of its own, so its tokens are worth nothing anywhere else.
    """

    def __init__(self, scopes: Mapping[str, Any] | None = None, *, clock: Clock = now) -> None:
        options = Options.read({"SIGNING_KEY": secrets.token_urlsafe(32), "SCOPES": scopes})
        built = Service.build(options, MemoryStore(clock), hooks=Hooks(), clock=clock)
        self.store = built.store
        self.guard: Guard = built.requests.guard
        self.issuer: Issuer = built.issuer


def bearer(
    target: object = None,
    /,
    *,
    scopes: Scopes | str | Iterable[str],
    client: str | None = None,
    issuer: Issuer | None = None,
    **options: Unpack[IssueOptions],
) -> dict[str, str]:
    """Return the header of a request with a new token that has ``scopes``, as a dictionary.

    ``target`` is what the request will be sent to: a Flask application, a TokenGuardMiddleware, a Guard or a
    MemoryService, or a test client of one of those; nothing for the Django project whose tests are running. If
    ``issuer`` is given, it issues the token instead.

    ``client`` names the calling application, which is registered if there is none of that name; without it, a new one
    is registered each time. The rest is passed to :meth:`tokenguard.Issuer.issue`, such as ``expires_in``; what the
    service's policy requires of every token need not be given.

    Raises ConfigurationError for a service that is not being tested, and whatever the issuer raises: IssuanceError
    for a scope that the catalogue does not have, or that the client may not have.
    """
    granted_by = _granting_to(target) if issuer is None else issuer
    name = f"tests-{random_id()}" if client is None else client
    if granted_by.store.client(name) is None:
        granted_by.register(name, scopes, actor=ACTOR)
    issued = granted_by.issue(name, scopes, actor=ACTOR, **_wanted(granted_by.policy) | options)
    return {_HEADER: f"Bearer {issued.text.reveal()}"}


@overload
def as_client(target: None = None, /, **options: Unpack[BearerOptions]) -> DjangoClient: ...
@overload
def as_client(target: HasTestClient[AppClient], /, **options: Unpack[BearerOptions]) -> AppClient: ...
@overload
def as_client(target: AnyClient, /, **options: Unpack[BearerOptions]) -> AnyClient: ...
@overload
def as_client(target: WSGIApplication, /, **options: Unpack[BearerOptions]) -> Client: ...
def as_client(target: Any = None, /, *, scopes: Scopes | str | Iterable[str], **options: Any) -> Any:
    """Return a test client that sends a new token with ``scopes`` in every request that brings none of its own.

    For a Flask application it is the application's own test client, for any other WSGI application Werkzeug's, and
    without one a Django test client. If a test client or a Django request factory is given, that gets the token and is
    returned. The rest is as in :func:`bearer`.
    """
    if not (target is None or callable(target) or _is_client(target)):
        raise TypeError(
            f"as_client() takes an application or a test client, not {type(target).__name__}: for a client of "
            "any other kind, bearer() gives the header"
        )
    authorization = bearer(target, scopes=scopes, **options)[_HEADER]
    if target is None:
        from django.test import Client as DjangoClient

        return _equipped(DjangoClient(), authorization)
    if hasattr(target, "test_client"):
        return _equipped(target.test_client(), authorization)
    return _equipped(target if _is_client(target) else Client(target), authorization)


class AsClient(Protocol):
    """The type of the pytest fixture ``as_client``, for annotations.

    As :func:`as_client`, but without an application it may return any client: that of the project's framework.
    """

    @overload
    def __call__(self, target: None = None, /, **options: Unpack[BearerOptions]) -> Any: ...
    @overload
    def __call__(self, target: HasTestClient[AppClient], /, **options: Unpack[BearerOptions]) -> AppClient: ...
    @overload
    def __call__(self, target: AnyClient, /, **options: Unpack[BearerOptions]) -> AnyClient: ...
    @overload
    def __call__(self, target: WSGIApplication, /, **options: Unpack[BearerOptions]) -> Client: ...


def _wanted(policy: Policy) -> IssueOptions:
    wanted = IssueOptions(name=ACTOR)
    if policy.needs_expiry:
        wanted["expires_in"] = min(LIFETIME, policy.max_lifetime or LIFETIME)
    return wanted


def _equipped(client: Any, authorization: str) -> Any:
    if _is(client, "flask.testing", "FlaskClient"):
        client.environ_base[_IN_ENVIRON] = authorization
    elif _is(client, "django.test.client", "AsyncRequestFactory"):
        # Under the name that a request's own header has there, so that this one takes its place.
        client.defaults[_IN_SCOPE] = authorization
    elif _is(client, "django.test.client", "RequestFactory"):
        client.defaults[_IN_ENVIRON] = authorization
    else:
        client.application = _Sending(_unwrapped(client.application), authorization)
    return client


class _Sending:
    """A wrapper around a WSGI application that adds the token to each request."""

    def __init__(self, app: WSGIApplication, authorization: str) -> None:
        self.app = app
        self.authorization = authorization

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.setdefault(_IN_ENVIRON, self.authorization)
        return self.app(environ, start_response)


def _granting_to(target: Any) -> Issuer:
    """Return the granting side of the service that a request to ``target`` reaches."""
    guard, issuer = _sides(target)
    # The next test is back in its own time, maybe with the same token.
    guard.clock.follow()
    return issuer


def _sides(target: Any) -> tuple[Guard, Issuer]:
    if target is None or _is(target, "django.test.client", "RequestFactory"):
        return _sides_of(_django_service())
    if isinstance(target, Client):
        return _sides(_unwrapped(target.application))
    if _is(target, "flask", "Flask"):
        return _sides_of(_flask_service(target))
    if isinstance(target, MemoryService):
        return target.guard, target.issuer
    guard = target.requests.guard if isinstance(target, TokenGuardMiddleware) else target
    if isinstance(guard, Guard):
        return guard, Issuer(guard.store, guard.tokens, catalog=guard.catalog, clock=guard.clock)
    raise TypeError(
        f"cannot tell how {type(target).__name__} is guarded: give the Flask application, the "
        "TokenGuardMiddleware, or issuer="
    )


def _sides_of(service: Service) -> tuple[Guard, Issuer]:
    return service.requests.guard, service.issuer


def _flask_service(app: Flask) -> Service:
    from .flask.extension import check_options
    from .flask.views import service_of

    built = service_of(app)
    if not app.testing:
        raise ConfigurationError("tokens for tests are issued only in a test: set TESTING = True in the app's config")
    check_options(app)  # a database that was named too late is not the one that the token would be written to
    return built


def _django_service() -> Service:
    try:
        from django.apps import apps
    except ModuleNotFoundError:
        raise TypeError("Django is not installed, so give the application: as_client(app, …)") from None
    from .django.conf import service, tests_run

    if not tests_run():
        raise ConfigurationError(
            "tokens for tests are issued only while Django's tests run: by manage.py test, by pytest-django, or "
            "after django.test.utils.setup_test_environment(). For a Flask application, give it: as_client(app, …)"
        )
    from .django.store import DjangoStore
    from .django.upgrade import restore_counter

    built = service()
    # A test that rolls back from serialized data leaves the tables without the counter.
    restore_counter(apps.get_app_config("tokenguard"), cast(DjangoStore, built.store).using)
    return built


def _is_client(target: object) -> bool:
    return isinstance(target, Client) or _is(target, "django.test.client", "RequestFactory")


def _unwrapped(app: Any) -> Any:
    return app.app if isinstance(app, _Sending) else app


def _is(target: object, module: str, name: str) -> bool:
    # A class whose module is not imported has no instances.
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(target, kind)
