"""What the views of a URLconf ask for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.urls import URLPattern, URLResolver

from ..scopes import Requirement
from .views import REQUIREMENTS, ScopesRequiredMixin

_SAFE_METHODS = {"get", "head", "options", "trace"}
_WORDS = ("required_scopes", "required_any_of")


def patterns(within: Sequence[URLPattern | URLResolver]) -> Iterator[URLPattern]:
    """Yield every pattern in these, including nested ones."""
    for pattern in within:
        if isinstance(pattern, URLResolver):
            yield from patterns(pattern.url_patterns)
        else:
            yield pattern


def scopes(view: Callable[..., Any]) -> list[str]:
    """Return the names of all scopes that a view, or one of its methods, asks for."""
    return list(dict.fromkeys([*_guarded_with(view), *_rest_framework_scopes(view)]))


def _guarded_with(view: Any) -> list[str]:
    asked = [*_requirements(view)]
    for method in _methods(view).values():
        asked += _requirements(method)
    return [name for requirement in asked for name in requirement.names]


def _requirements(view: Any) -> Iterator[Requirement]:
    while view is not None:
        yield from getattr(view, REQUIREMENTS, ())
        view = getattr(view, "__wrapped__", None)


def _methods(view: Any) -> dict[str, Any]:
    """Return the handler of each HTTP method of a class-based view, and its dispatch, by name."""
    owner = getattr(view, "view_class", None)
    if owner is None:
        return {}
    return {name: getattr(owner, name) for name in (*owner.http_method_names, "dispatch") if hasattr(owner, name)}


def checked_for_csrf(view: Any) -> list[str]:
    """Return the guarded methods of a view at which callers fail the CSRF check."""
    if getattr(view, "csrf_exempt", False):
        return []
    unsafe = {name: method for name, method in _methods(view).items() if name not in {*_SAFE_METHODS, "dispatch"}}
    return [name for name, method in unsafe.items() if any(True for _ in _requirements(method))]


def names_nothing(view: Any) -> bool:
    """Whether a view of Django REST framework has HasScopes among its permissions, and names no scope for it.

    False if the view or the permission decides at run time which permissions or scopes to ask for.
    """
    return any(
        not any(named) and _asks_as_named(view, permission) for permission, named in _asked_of_rest_framework(view)
    )


def left_out(view: Any) -> list[str]:
    """Return the actions or methods of a view of Django REST framework that HasScopes refuses, whatever the token.

    These are those that a mapping leaves out; none if the view or the permission decides at run time.
    """
    found: list[str] = []
    for permission, named in _asked_of_rest_framework(view):
        mappings = [given for given in named if given and isinstance(given, Mapping)]
        if mappings and _asks_as_named(view, permission):
            found += [name for name in _handled(view) if not any(given.get(name) for given in mappings)]
    return list(dict.fromkeys(found))


def _asks_as_named(view: Any, permission: type) -> bool:
    return _is_inherited(view.cls, ("get_permissions", "initial", "setup")) and _is_inherited(
        permission, ("get_requirement", "has_permission")
    )


def _handled(view: Any) -> list[str]:
    """Return the names by which a mapping may list the handlers of a view of Django REST framework."""
    methods, actions = view.cls.http_method_names, getattr(view, "actions", None)
    if actions:
        return [name for method, name in actions.items() if method in methods]
    # HEAD is asked for what GET is; the answer to OPTIONS is the framework's own.
    return [method for method in methods if method not in {"head", "options"} and hasattr(view.cls, method)]


def names_in_vain(view: Any) -> bool:
    """Whether the class of a view names scopes that nothing asks for, so that tokens without them are let in.

    False if code other than that of the frameworks and tokenguard may read those names; and if a subclass, or an
    action, has other permissions than the class that names them.
    """
    owner = getattr(view, "cls", None) or getattr(view, "view_class", None)
    if owner is None:
        return False
    given = getattr(view, "initkwargs", None) or getattr(view, "view_initkwargs", {})
    named = {word: value for word in _WORDS if (value := given.get(word) or getattr(owner, word, None))}
    if not named or not _is_inherited(owner, ("as_view", "setup", "dispatch")):
        return False
    # What else guards the view may ask for other scopes, as protect does for a whole part of the URLconf.
    asked = _guarded_with(view)
    if issubclass(owner, ScopesRequiredMixin) or (asked and {*_flat(named)}.issubset(asked)):
        return False
    if not hasattr(owner, "permission_classes"):
        return True
    permissions = [*_single(given.get("permission_classes", owner.permission_classes))]
    for word in named:
        if not given.get(word):
            permissions += _single(getattr(_definer(owner, word), "permission_classes", ()))
    return (
        _is_inherited(owner, ("get_permissions", "check_permissions", "initial"))
        and all(_is_inherited(permission, ("has_permission",)) for permission in permissions)
        and not any(map(_is_has_scopes, permissions))
    )


def _definer(kind: type, name: str) -> type:
    return next((base for base in kind.__mro__ if name in vars(base)), kind)


def _is_has_scopes(permission: type) -> bool:
    # If nothing has imported the module, nothing asks for HasScopes.
    ours = sys.modules.get("tokenguard.django.rest_framework")
    return ours is not None and issubclass(permission, ours.HasScopes)


def _rest_framework_scopes(view: Any) -> Iterator[str]:
    """Yield the scopes that a view of Django REST framework names, for all of its actions."""
    for _, named in _asked_of_rest_framework(view):
        yield from _flat(named)


def _asked_of_rest_framework(view: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Yield each HasScopes among the permissions of a view of Django REST framework, and what is named for it."""
    owner = getattr(view, "cls", None)
    if owner is None:
        return
    given = getattr(view, "initkwargs", {})
    for permission in _single(given.get("permission_classes", owner.permission_classes)):
        if _is_has_scopes(permission):
            yield (
                permission,
                [getattr(permission, word) or given.get(word) or getattr(owner, word, None) for word in _WORDS],
            )


def _is_inherited(kind: type, names: tuple[str, ...]) -> bool:
    """Whether the class has these methods from the frameworks or tokenguard, unchanged."""
    return all(
        getattr(kind, name).__module__.startswith(("rest_framework.", "tokenguard.", "django.")) for name in names
    )


def _single(permissions: Any) -> Iterator[Any]:
    """Yield the permissions, and one by one those that are combined with ``&``, ``|`` and ``~``."""
    for permission in permissions:
        if isinstance(permission, type):
            yield permission
        else:
            operands = (getattr(permission, name, None) for name in ("op1_class", "op2_class"))
            yield from _single([operand for operand in operands if operand is not None])


def _flat(given: Any) -> Iterator[str]:
    # Anything else, such as a property, has a value only at run time.
    if isinstance(given, str):
        yield given
    elif isinstance(given, Iterable):
        for each in given.values() if isinstance(given, Mapping) else given:
            yield from _flat(each)
