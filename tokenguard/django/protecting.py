"""Guarding a part of a URLconf at once, as a decorator guards one view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, overload

from django.urls import URLPattern, URLResolver
from django.urls.resolvers import RoutePattern

from ..scopes import Requirement
from .views import guarding

Pattern: TypeAlias = URLPattern | URLResolver
Patterns: TypeAlias = list[URLPattern] | list[URLResolver] | list[Pattern]
#: What ``include()`` returns: patterns, or a module that has them; and the names of an application and a namespace.
Included: TypeAlias = tuple[Any, str | None, str | None]


@overload
def protect(urls: Patterns, *scopes: str, any_of: Iterable[str] | None = None) -> list[Pattern]: ...
@overload
def protect(urls: Included, *scopes: str, any_of: Iterable[str] | None = None) -> Included: ...


def protect(urls: Patterns | Included, *scopes: str, any_of: Iterable[str] | None = None) -> list[Pattern] | Included:
    """Guard every view of ``urls``, which ``include()`` has returned or is a list of patterns; return the like.

    Scopes are as in require_scopes; without any, a valid token is enough. A view may require more with a decorator of
    its own. What is passed in stays as it is, and may be used unguarded elsewhere. Raises InvalidValue for a malformed
    scope or an empty ``any_of``, ImproperlyConfigured for a module without URLs, and TypeError for anything else.
    """
    guard = guarding(Requirement.scopes_or_token(*scopes, any_of=any_of))
    if isinstance(urls, list):
        return [*_guarded(urls, guard)]
    if not isinstance(urls, tuple) or len(urls) != 3:
        raise TypeError(f"expected what include() returns or a list of patterns, not {urls!r}")
    # Django finds the patterns, or says that a module has none.
    return [*_guarded(URLResolver(RoutePattern(""), urls[0]).url_patterns, guard)], urls[1], urls[2]


def _guarded(urls: Sequence[Pattern], guard: Callable[[Any], Any]) -> Iterator[Pattern]:
    for each in urls:
        if isinstance(each, URLResolver):
            below = [*_guarded(each.url_patterns, guard)]
            yield URLResolver(each.pattern, below, each.default_kwargs, each.app_name, each.namespace)
        elif isinstance(each, URLPattern):
            yield URLPattern(each.pattern, guard(each.callback), each.default_args, each.name)
        else:
            raise TypeError(f"expected what path() returns, not {each!r}")
