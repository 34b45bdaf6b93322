"""What views use: the decorators and mixins, and the caller's identity.

A guarded view always needs the header that carries the token, and no browser sends that by itself. So guarded views
are exempt from Django's CSRF check, and nothing else is.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.views.generic import View

from ..errors import AuthError, ConfigurationError, InvalidValue
from ..frames import clear_frames
from ..http import Answer, is_preflight
from ..identity import Identity
from ..request import RequestGuard
from ..scopes import ANY_TOKEN, Requirement
from ..verified import Verified
from .conf import SettingError
from .headers import refusal, to_response
from .middleware import LOOKED_AT_WITH, guard_of, in_thread_if_heard, look_up

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    # Of any response: the other bases of a guarded view may narrow it, as TemplateView does.
    _AnyView = View[Any]
else:
    _AnyView = View

V = TypeVar("V", bound=Callable[..., Any])
#: What a class may ask for: a scope, several scopes, or a mapping from an HTTP method or an action to either.
Asked: TypeAlias = str | Iterable[str] | Mapping[str, str | Iterable[str]]
#: The requirement for a request, and the callable that answers it.
Choice: TypeAlias = tuple[Requirement, Callable[..., Any]]
#: The attribute in which the system checks find the requirements of a view.
REQUIREMENTS = "tokenguard_requirements"


def require_scopes(*scopes: str, any_of: Iterable[str] = ()) -> Callable[[V], V]:
    """Let a view be called only with a token that has all of ``scopes`` and, if given, one of ``any_of``.

    For functions, sync or async, and for classes by ``@method_decorator(require_scopes(…), name="dispatch")``. Raises
    InvalidValue at once if a scope is malformed, or if there is none at all. Guard a class whose methods ask for
    different scopes with :class:`ScopesRequiredMixin`.
    """
    return guarding(Requirement.scopes(*scopes, any_of=any_of))


def require_token(view: V) -> V:
    """Let a view be called only with a valid token, whatever its scopes."""
    return guarding(ANY_TOKEN)(view)


def get_identity(request: HttpRequest) -> Identity | None:
    """Return the caller's identity, or None if the request carries no valid token: ``request.identity``, typed.

    Raises ImproperlyConfigured if the middleware is missing.
    """
    requests = guard_of(request)
    found = requests.wave_through(request.META, None)
    return found.identity if isinstance(found, Verified) else requests.authenticate(request.META)


def refuse_unless(requirement: Requirement, request: HttpRequest) -> HttpResponse | None:
    """Return the answer to a request that does not meet ``requirement``, or to a preflight; None if it may pass."""
    try:
        environ = request.META
    except AttributeError:
        raise TypeError(
            "guard a method of a class with @method_decorator(require_scopes(…)): it takes no request first"
        ) from None
    if environ["REQUEST_METHOD"] == "OPTIONS" and is_preflight(environ):
        return to_response(Answer(204, [], b""))
    requests: RequestGuard = getattr(request, LOOKED_AT_WITH, None) or guard_of(request)
    if hasattr(request, "_cache_update_cache"):
        keep_out_of_caches(request)
    try:
        verified = requests.wave_through(environ, requirement)
        if verified is None:
            decided = _decide(requests, environ, requirement)
            if isinstance(decided, AuthError):
                return refusal(requests.scheme.refusal(decided), environ["REQUEST_METHOD"])
            verified = decided
    except BaseException as error:
        clear_frames(error)
        del environ
        raise
    request.identity = verified.identity  # type: ignore[attr-defined]
    return None


def _decide(requests: RequestGuard, environ: WSGIEnvironment, requirement: Requirement) -> Verified | AuthError:
    try:
        return requests.decide(environ, requirement)
    except ConfigurationError as error:
        raise SettingError(error) from None


def judge(requirement: Requirement, request: HttpRequest) -> RequestGuard:
    """Return the RequestGuard that decides on ``requirement``, and keep the answer out of Django's caches.

    Raises ImproperlyConfigured if the middleware is missing, or if the catalogue lacks a scope of the requirement.
    """
    requests = guard_of(request)
    keep_out_of_caches(request)
    try:
        requests.guard.catalog.check(requirement)
    except ConfigurationError as error:
        raise SettingError(error) from None
    return requests


def keep_out_of_caches(request: HttpRequest) -> None:
    """Keep the answer out of Django's caches, so that it is given to nobody else."""
    # A cache around the guard would serve the answer again without checking the token, and the headers that forbid that
    # are only set further out. So clear the flag that Django's caches go by, if one has seen the request. It stays
    # cleared: a cache further in would set it again, and may store the answer where the outer one finds it.
    kind: Any = type(request)
    if hasattr(request, "_cache_update_cache") and "_cache_update_cache" not in vars(kind):
        request.__class__ = _kept_out_of_caches(kind)


@lru_cache
def _kept_out_of_caches(kind: Any) -> Any:
    never = property(lambda request: False, lambda request, value: None)
    return type(kind.__name__, (kind,), {"_cache_update_cache": never, "__module__": kind.__module__})


class TokenRequiredMixin(_AnyView):
    """Let a class-based view be called only with a valid token. Put it first among the bases.

    Raises TypeError for a class that would be open in spite of it, and for a view of Django REST framework.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        framework = sys.modules.get("rest_framework.views")
        if framework is not None and issubclass(cls, framework.APIView):
            raise TypeError(f"guard {cls.__qualname__}, a view of Django REST framework, with its permission HasScopes")
        # Another base's as_view may never call the one of this class.
        asked_first = next(base for base in cls.__mro__ if "as_view" in vars(base))
        if not issubclass(asked_first, TokenRequiredMixin):
            raise TypeError(
                f"{cls.__qualname__} may be unguarded: put the mixin that guards it before {asked_first.__name__}"
            )

    @classmethod
    def get_requirement(cls, method: str) -> Requirement:
        """Return what the handler of this HTTP method (in lower case) asks for."""
        return ANY_TOKEN

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., Any]:
        """Return the guarded view. Raises ImproperlyConfigured if what a method asks for is empty or malformed."""
        view = super().as_view(**initkwargs)
        # Arguments given here override the class's own attributes, as they do in the view.
        owner: Any = type(cls.__name__, (cls,), {"__qualname__": cls.__qualname__, **initkwargs}) if initkwargs else cls
        methods = [method for method in owner.http_method_names if hasattr(owner, method)]
        asked: dict[str, Requirement] = {method: owner.get_requirement(method) for method in methods}

        def choose(request: HttpRequest) -> Choice:
            method = (request.method or "").lower()
            # Also for a method without a handler here: the view's own setup or dispatch may provide one.
            with suppress(ImproperlyConfigured):
                if requirement := asked.get(method) or owner.get_requirement(method):
                    return requirement, view
            return ANY_TOKEN, not_allowed

        def not_allowed(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            unnamed = cls(**initkwargs)
            unnamed.setup(request, *args, **kwargs)
            return unnamed.http_method_not_allowed(request, *args, **kwargs)

        return guarding(*asked.values(), choose=choose)(view)


class ScopesRequiredMixin(TokenRequiredMixin):
    """Let a class-based view be called only with a token that has all of ``required_scopes``.

    If ``required_any_of`` is given, the token must also have one of those. Each is a scope, several scopes, or a
    dictionary that names them for each HTTP method of the view, in lower case; any other method is answered with 405.
    Put it first among the bases.
    """

    required_scopes: ClassVar[Asked] = ()
    required_any_of: ClassVar[Asked] = ()

    @classmethod
    def get_requirement(cls, method: str) -> Requirement:
        given = (cls.required_scopes, cls.required_any_of)
        # Django answers HEAD with what answers GET.
        names = (method, "get") if method == "head" and not hasattr(cls, method) else (method,)
        by_method = [asked for asked in given if isinstance(asked, Mapping)]
        # Scopes asked of all methods must not open a method that a mapping leaves out.
        left_out = bool(by_method) and not any(name in asked for asked in by_method for name in names)
        if left_out and method == "options" and cls.options is View.options:
            return ANY_TOKEN  # Django's own answer, which lists the methods
        try:
            all_of, any_of = [() if left_out else scopes_for(asked, *names) for asked in given]
            return Requirement.scopes(*all_of, any_of=any_of)
        except (InvalidValue, TypeError) as error:
            raise ImproperlyConfigured(
                f"the requirement of {cls.__qualname__} for {method.upper()} is invalid: {error}"
            ) from None


def scopes_for(given: Asked | None, *names: str) -> tuple[str, ...]:
    """Return the given scopes or, of a mapping, those for the first of ``names`` that it has."""
    if isinstance(given, Mapping):
        given = next((given[name] for name in names if name in given), ())
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(given)


def guarding(*requirements: Requirement, choose: Callable[[HttpRequest], Choice] | None = None) -> Callable[[V], V]:
    """Return a decorator that asks the first of ``requirements`` of every request to a view.

    ``choose``, if given, returns what is asked of a request and the callable that answers it instead. Then
    ``requirements`` are all those that the view is known to ask for. It raises TypeError for what is no view.
    """

    def decorate(view: V) -> V:
        _check_is_view(view, requirements)
        always: Choice = (requirements[0] if choose is None else ANY_TOKEN), view

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            requirement, answer = always if choose is None else choose(request)
            if (refusal := refuse_unless(requirement, request)) is not None:
                return refusal
            return answer(request, *args, **kwargs)

        @wraps(view)
        async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            # The caller is known already, unless something has changed the request's headers since the middleware.
            if hasattr(request, "META"):
                await look_up(request, guard_of(request))
            requirement, answer = always if choose is None else choose(request)
            if (refusal := await in_thread_if_heard(refuse_unless, requirement, request)) is not None:
                return refusal
            return await answer(request, *args, **kwargs)

        found = cast(V, guarded_async if _is_async(view) else guarded)
        # Nor is a session needed: LoginRequiredMiddleware would redirect callers without one to a login page.
        vars(found).update({"csrf_exempt": True, "login_required": False, REQUIREMENTS: requirements})
        return found

    return decorate


def _check_is_view(view: object, requirements: tuple[Requirement, ...]) -> None:
    """Raise TypeError for what no decorator can guard, naming what to write instead."""
    if not callable(view):
        raise TypeError(f"expected a view, not {view!r}: to require scopes, write @require_scopes(…)")
    if inspect.isclass(view):
        is_token = requirements == (ANY_TOKEN,)
        decorator, kind = ("require_token", "Token") if is_token else ("require_scopes(…)", "Scopes")
        raise TypeError(
            f'guard the class {view.__name__} with @method_decorator({decorator}, name="dispatch"), '
            f"or with {kind}RequiredMixin among its bases"
        )


def _is_async(view: Callable[..., Any]) -> bool:
    # The dispatch method of a class with async handlers is a plain function that returns what they return, and
    # method_decorator passes it bound to the view.
    owner = getattr(getattr(view, "func", None), "__self__", None)
    return iscoroutinefunction(view) or bool(getattr(owner, "view_is_async", False))
