"""What the views of a URLconf ask for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.urls import URLPattern, URLResolver

from ..scopes import Requirement
from .views import REQUIREMENTS

_SAFE_METHODS = {"get", "head", "options", "trace"}
_WORDS = ("required_scopes", "required_any_of")


def patterns(within: Sequence[URLPattern | URLResolver]) -> Iterator[URLPattern]:
    """Every pattern in these, with those that they include."""
    for pattern in within:
        if isinstance(pattern, URLResolver):
            yield from patterns(pattern.url_patterns)
        else:
            yield pattern


def scopes(view: Callable[..., Any]) -> list[str]:
    """The names of all scopes that a view asks for, or some method of it."""
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
    """What answers each HTTP method of a class-based view, and its dispatch."""
    owner = getattr(view, "view_class", None)
    if owner is None:
        return {}
    return {name: getattr(owner, name) for name in (*owner.http_method_names, "dispatch") if hasattr(owner, name)}


def checked_for_csrf(view: Any) -> list[str]:
    """The guarded methods of a view at which callers fail the CSRF check."""
    if getattr(view, "csrf_exempt", False):
        return []
    unsafe = {name: method for name, method in _methods(view).items() if name not in {*_SAFE_METHODS, "dispatch"}}
    return [name for name, method in unsafe.items() if any(True for _ in _requirements(method))]


def names_nothing(view: Any) -> bool:
    """Whether HasScopes is among the permissions of a view of Django REST framework that names no scope for it.

    False where the view, or the permission, finds out later whom or what to ask.
    """
    return any(
        not any(named)
        and _is_inherited(view.cls, ("get_permissions", "initial", "setup"))
        and _is_inherited(permission, ("get_requirement", "has_permission"))
        for permission, named in _asked_of_rest_framework(view)
    )


def names_in_vain(view: Any) -> bool:
    """Whether the class of a view names scopes and nothing asks for them, so that tokens without them are let in.

    False where something else than the frameworks and tokenguard may look at what is named; and where a subclass, or
    an action, has taken other permissions than the class that names it.
    """
    owner = getattr(view, "cls", None) or getattr(view, "view_class", None)
    if owner is None or _guarded_with(view):
        return False
    given = getattr(view, "initkwargs", None) or getattr(view, "view_initkwargs", {})
    named = [word for word in _WORDS if given.get(word) or getattr(owner, word, None)]
    if not named or not _is_inherited(owner, ("as_view", "setup", "dispatch")):
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
    # Where nobody has imported it, nobody asks for HasScopes.
    ours = sys.modules.get("tokenguard.django.rest_framework")
    return ours is not None and issubclass(permission, ours.HasScopes)


def _rest_framework_scopes(view: Any) -> Iterator[str]:
    """What a view of Django REST framework names, for whatever action."""
    for _, named in _asked_of_rest_framework(view):
        yield from _flat(named)


def _asked_of_rest_framework(view: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Each HasScopes among the permissions of a view of Django REST framework, and whatever is named for it."""
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
    """Whether these methods of the class are those of the framework, or of tokenguard."""
    return all(
        getattr(kind, name).__module__.startswith(("rest_framework.", "tokenguard.", "django.")) for name in names
    )


def _single(permissions: Any) -> Iterator[Any]:
    """The permissions, those that are combined with ``&``, ``|`` and ``~`` one by one."""
    for permission in permissions:
        if isinstance(permission, type):
            yield permission
        else:
            operands = (getattr(permission, name, None) for name in ("op1_class", "op2_class"))
            yield from _single([operand for operand in operands if operand is not None])


def _flat(given: Any) -> Iterator[str]:
    # What is none of these, such as a property, is known only when it is asked for.
    if isinstance(given, str):
        yield given
    elif isinstance(given, Iterable):
        for each in given.values() if isinstance(given, Mapping) else given:
            yield from _flat(each)
