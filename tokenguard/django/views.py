"""What views use: the decorators and mixins, and the caller's identity.

A guarded view always needs the header that carries the token, which no browser sends by itself: so it is exempt from
Django's CSRF check, and nothing else is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

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
#: What a class may ask for: a scope, several, or either by the name of an HTTP method or of an action.
Asked: TypeAlias = str | Iterable[str] | Mapping[str, str | Iterable[str]]
#: Where the system checks find what a view asks for.
REQUIREMENTS = "tokenguard_requirements"


def require_scopes(*scopes: str, any_of: Iterable[str] = ()) -> Callable[[V], V]:
    """Let a view be called only with a token that has all of ``scopes`` and, if given, one of ``any_of``.

    For functions, sync or async; for a class with ``@method_decorator(require_scopes(…), name="dispatch")``. Raises
    InvalidValue at once for a malformed scope or none at all. A class whose methods ask for different scopes is guarded
    with :class:`ScopesRequiredMixin`.
    """
    requirement = Requirement.scopes(*scopes, any_of=any_of)
    return _guarding(lambda request: requirement, requirement)


def require_token(view: V) -> V:
    """Let a view be called only with a valid token, whatever its scopes."""
    return _guarding(lambda request: ANY_TOKEN, ANY_TOKEN)(view)


def get_identity(request: HttpRequest) -> Identity | None:
    """Who is calling, or None when the request carries no valid token: ``request.identity``, with its type.

    Raises ImproperlyConfigured where the middleware is missing.
    """
    _check_passed(request)
    return service().requests.authenticate(request.META)


def refuse_unless(requirement: Requirement, request: HttpRequest) -> HttpResponse | None:
    """The answer to a request that does not meet ``requirement``, or to a preflight; None for one that may pass."""
    if not hasattr(request, "META"):
        raise TypeError(
            "guard a method of a class with @method_decorator(require_scopes(…)): it takes no request first"
        )
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
    """What decides whether the request meets ``requirement``. The answer is kept out of Django's caches.

    Raises ImproperlyConfigured where the middleware is missing, or the catalogue has no such scope.
    """
    _check_passed(request)
    # Where cache_page stands around the guard, it would give the answer out again without a look at the token; and the
    # headers that tell a cache are set further out. So it is told in its own way.
    vars(getattr(request, "_request", request))["_cache_update_cache"] = False
    found = service()
    try:
        found.options.catalog.check(requirement)
    except ConfigurationError as error:
        raise SettingError(error) from None
    return found.requests


class TokenRequiredMixin(View):
    """Lets a class-based view be called only with a valid token. Put it first among the bases."""

    @classmethod
    def get_requirement(cls, method: str) -> Requirement:
        """What the handler of this HTTP method (in lower case) asks for."""
        return ANY_TOKEN

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """The view, guarded. Raises ImproperlyConfigured if it asks for nothing that a token could have."""
        asked = {method: cls.get_requirement(method) for method in cls.http_method_names if hasattr(cls, method)}
        asked.setdefault("head", asked.get("get", ANY_TOKEN))
        # Whatever has no handler is answered with 405, and that needs no scopes.
        return _guarding(lambda request: asked.get(_method(request), ANY_TOKEN), *asked.values())(
            super().as_view(**initkwargs)
        )


class ScopesRequiredMixin(TokenRequiredMixin):
    """Lets a class-based view be called only with a token that has all of ``required_scopes``.

    And, if ``required_any_of`` is given, one of those. Each is a scope, several, or a dictionary that names those for
    each HTTP method that the view has, in lower case. Put it first among the bases.
    """

    required_scopes: ClassVar[Asked] = ()
    required_any_of: ClassVar[Asked] = ()

    @classmethod
    def get_requirement(cls, method: str) -> Requirement:
        given = (cls.required_scopes, cls.required_any_of)
        by_method = [names for names in given if isinstance(names, Mapping)]
        if method == "options" and by_method and not any(method in names for names in by_method):
            return ANY_TOKEN  # Django's own answer, which tells the methods
        try:
            all_of, any_of = [scopes_for(names, method) for names in given]
            return Requirement.scopes(*all_of, any_of=any_of)
        except (InvalidValue, TypeError) as error:
            raise ImproperlyConfigured(
                f"what {cls.__qualname__} requires for {method.upper()} cannot be asked for: {error}"
            ) from None


def scopes_for(given: Asked | None, *names: str) -> tuple[str, ...]:
    """The scopes that are given, or that a mapping gives for the first of ``names`` that it has."""
    if isinstance(given, Mapping):
        given = next((given[name] for name in names if name in given), ())
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(given)


def _guarding(find: Callable[[HttpRequest], Requirement], *requirements: Requirement) -> Callable[[V], V]:
    """A decorator that asks of a request what ``find`` says, which is one of ``requirements``."""

    def decorate(view: V) -> V:
        if inspect.isclass(view):
            raise TypeError(
                f'guard the class {view.__name__} with @method_decorator(require_scopes(…), name="dispatch"), '
                "or with ScopesRequiredMixin among its bases"
            )

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            refusal = refuse_unless(find(request), request)
            return view(request, *args, **kwargs) if refusal is None else refusal

        @wraps(view)
        async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            refusal = refuse_unless(find(request), request)
            return await view(request, *args, **kwargs) if refusal is None else refusal

        found = cast(V, guarded_async if _is_async(view) else guarded)
        vars(found).update({"csrf_exempt": True, REQUIREMENTS: requirements})
        return found

    return decorate


def _method(request: HttpRequest) -> str:
    return (request.method or "").lower()


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
