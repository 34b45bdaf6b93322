"""What views use: the decorators and mixins, and the caller's identity.

A guarded view always needs the header that carries the token, which no browser sends by itself: so it is exempt from
Django's CSRF check, and nothing else is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.generic import View

from ..errors import AuthError, ConfigurationError, InvalidValue
from ..http import is_preflight
from ..identity import Identity
from ..scopes import ANY_TOKEN, Requirement
from ..wsgi import RequestGuard
from .conf import SettingError, service
from .middleware import passed

V = TypeVar("V", bound=Callable[..., Any])
#: Where the system checks find what a view asks for.
REQUIREMENT = "tokenguard_requirement"


def require_scopes(*scopes: str, any_of: Iterable[str] = ()) -> Callable[[V], V]:
    """Let a view be called only with a token that has all of ``scopes`` and, if given, one of ``any_of``.

    For functions, sync or async; for a class with ``@method_decorator(require_scopes(…), name="dispatch")``. Raises
    InvalidValue at once for a malformed scope or none at all. A view that needs its own scopes by method guards its
    methods in the same way: then the class is not exempt from the CSRF check.
    """
    return _guarding(Requirement.scopes(*scopes, any_of=any_of))


def require_token(view: V) -> V:
    """Let a view be called only with a valid token, whatever its scopes."""
    return _guarding(ANY_TOKEN)(view)


def get_identity(request: HttpRequest) -> Identity | None:
    """Who is calling, or None when the request carries no valid token: ``request.identity``, with its type.

    Raises ImproperlyConfigured where the middleware is missing.
    """
    _check_passed(request)
    return service().requests.authenticate(request.META)


def refuse_unless(requirement: Requirement, request: HttpRequest) -> HttpResponse | None:
    """The answer to a request that does not meet ``requirement``, or to a preflight; None for one that may pass."""
    if is_preflight(request.META):
        return HttpResponse(status=204)
    requests = judge(requirement, request)
    try:
        request.identity = requests.admit(request.META, requirement)  # type: ignore[attr-defined]
    except AuthError as error:
        error.__traceback__ = None  # it leads to the environ, which remembers the error
        status, headers, body = requests.scheme.refusal(error)
        return HttpResponse(body, status=status, headers=dict(headers))
    return None


def judge(requirement: Requirement, request: HttpRequest) -> RequestGuard:
    """What decides whether the request meets ``requirement``.

    Raises ImproperlyConfigured where the middleware is missing, or the catalogue has no such scope.
    """
    _check_passed(request)
    found = service()
    try:
        found.options.catalog.check(requirement)
    except ConfigurationError as error:
        raise SettingError(error) from None
    return found.requests


class TokenRequiredMixin(View):
    """Lets a class-based view be called only with a valid token. Put it first among the bases."""

    @classmethod
    def get_requirement(cls) -> Requirement:
        """What the view asks for."""
        return ANY_TOKEN

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """The view, guarded. Raises ImproperlyConfigured if it asks for nothing that a token could have."""
        return _guarding(cls.get_requirement())(super().as_view(**initkwargs))


class ScopesRequiredMixin(TokenRequiredMixin):
    """Lets a class-based view be called only with a token that has all of ``required_scopes``.

    And, if ``required_any_of`` is given, one of those. Put it first among the bases.
    """

    required_scopes: Iterable[str] = ()
    required_any_of: Iterable[str] = ()

    @classmethod
    def get_requirement(cls) -> Requirement:
        scopes = (cls.required_scopes,) if isinstance(cls.required_scopes, str) else cls.required_scopes
        try:
            return Requirement.scopes(*scopes, any_of=cls.required_any_of)
        except InvalidValue as error:
            raise ImproperlyConfigured(f"{cls.__qualname__}.required_scopes: {error}") from None


def _guarding(requirement: Requirement) -> Callable[[V], V]:
    def decorate(view: V) -> V:
        if inspect.isclass(view):
            raise TypeError(
                f'guard the class {view.__name__} with @method_decorator(require_scopes(…), name="dispatch"), '
                "or with ScopesRequiredMixin among its bases"
            )

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            refusal = refuse_unless(requirement, request)
            return view(request, *args, **kwargs) if refusal is None else refusal

        @wraps(view)
        async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            refusal = refuse_unless(requirement, request)
            return await view(request, *args, **kwargs) if refusal is None else refusal

        found = cast(V, guarded_async if _is_async(view) else guarded)
        vars(found).update({"csrf_exempt": True, REQUIREMENT: requirement})
        return found

    return decorate


def _is_async(view: Callable[..., Any]) -> bool:
    # The dispatch method of a class whose handlers are async is a plain function that returns what they return, and
    # method_decorator hands it over bound to the view.
    owner = getattr(getattr(view, "func", None), "__self__", None)
    return iscoroutinefunction(view) or bool(getattr(owner, "view_is_async", False))


def _check_passed(request: HttpRequest) -> None:
    if not passed(request):
        raise ImproperlyConfigured(
            'the request did not come through tokenguard: add "tokenguard.django.TokenGuardMiddleware" to MIDDLEWARE'
        )
