"""The management of tokens as a URLconf. (``management/`` is where Django looks for commands.)"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, ClassVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.urls import URLPattern, path
from django.utils.encoding import escape_uri_path
from django.utils.module_loading import import_string

from ..errors import ConfigurationError
from ..management import PREFIX, ROUTES, Call, Management, Rights, Route
from ..okta import NotWellFormed, WrongMethod
from ..scopes import ANY_TOKEN, Requirement
from .conf import SettingError, load_options, service
from .endpoints import outside_transactions, read_body
from .headers import to_response
from .middleware import TokenGuardMiddleware, guard_of
from .views import TokenRequiredMixin, get_identity

APP_NAME = "tokenguard_management"


def management_urls(
    prefix: str = PREFIX,
    *,
    read_scope: str = Rights.read,
    manage_scope: str = Rights.manage,
    all_clients_scope: str = Rights.all_clients,
) -> tuple[list[URLPattern], str]:
    """Return the URLs below ``prefix`` by which applications manage their own tokens, as in Okta's API.

    Write ``path("", include(management_urls()))``. Listing tokens takes ``read_scope``; issuing, changing, rotating and
    revoking them takes ``manage_scope``. ``all_clients_scope`` extends either to the tokens of every client, and not
    only the caller's own. Raises ImproperlyConfigured (and ConfigurationError) if TokenGuardMiddleware is missing from
    MIDDLEWARE, or the catalogue does not have the scopes.
    """
    rights = Rights(read_scope, manage_scope, all_clients_scope)
    _check(rights)
    below = prefix.strip("/")
    patterns = []
    for where, routes in groupby(ROUTES, key=lambda route: route.path):
        found = list(routes)
        patterns.append(path(f"{below}{where}", _view(found, rights), name=found[0].name))
    return patterns, APP_NAME


def _check(rights: Rights) -> None:
    kinds = [import_string(name) for name in settings.MIDDLEWARE]
    if not any(isinstance(kind, type) and issubclass(kind, TokenGuardMiddleware) for kind in kinds):
        raise SettingError(
            ConfigurationError(
                'the management of tokens requires a guard: add "tokenguard.django.TokenGuardMiddleware" to MIDDLEWARE'
            )
        )
    try:
        options = load_options()
    except SettingError:
        return  # the system checks report it, if the URLconf can be imported; and so does the middleware
    try:
        rights.check(options.catalog)
    except ConfigurationError as error:
        raise SettingError(error) from None


class _ManagementView(TokenRequiredMixin):
    """The calls of one path."""

    routes: ClassVar[dict[str, Route]]
    rights: ClassVar[Rights]

    @classmethod
    def get_requirement(cls, method: str) -> Requirement:
        route = cls.routes.get(_handler(method))
        return ANY_TOKEN if route is None else route.requirement(cls.rights)

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        allowed = [name.upper() for name in self.http_method_names if hasattr(self, name)]
        return to_response(guard_of(request).scheme.report(WrongMethod(allowed)))

    def call(self, request: HttpRequest, *captured: Any, token_id: str = "", **named: Any) -> HttpResponse:
        identity = get_identity(request)
        assert identity is not None  # noqa: S101 - the guard has let it in
        route = self.routes[_handler(request.method or "")]
        # From the path: what the project's own patterns have captured cannot always be passed to reverse().
        url = request.build_absolute_uri(escape_uri_path(request.path.rsplit("/", route.path.count("/"))[0]))
        call = Call(identity, url, request.GET, lambda length: _read(request, length), request.META, token_id)
        management = Management(service().issuer, guard_of(request).scheme, self.rights)
        return to_response(management.answer(route, call))


def _view(routes: Sequence[Route], rights: Rights) -> Any:
    by_method = {route.method.lower(): route for route in routes}
    handlers = dict.fromkeys(by_method, _ManagementView.call)
    kind: Any = type("ManagementView", (_ManagementView,), {"routes": by_method, "rights": rights, **handlers})
    # Each call is a short transaction of its own, as all writers queue up at one lock, and refusals must be recorded.
    return outside_transactions(kind.as_view())


def _handler(method: str) -> str:
    """Return the name of what answers this HTTP method: Django answers HEAD with the handler of GET."""
    return "get" if method.lower() == "head" else method.lower()


def _read(request: HttpRequest, length: int) -> bytes:
    try:
        return read_body(request, length)
    except UnreadablePostError:
        raise NotWellFormed from None
