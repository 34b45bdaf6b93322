"""Django beyond the contract: settings, views of every kind, CSRF, signals, and an event loop that nothing blocks."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from asgiref.sync import markcoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIRequest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections, transaction
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory, modify_settings, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import ResolverMatch, URLPattern, URLResolver, include, path, reverse
from django.urls.resolvers import RoutePattern
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_page
from django.views.decorators.vary import vary_on_cookie

from tokenguard import Conditions, ConfigurationError, Identity, InvalidValue
from tokenguard.django import (
    ScopesRequiredMixin,
    TokenGuardMiddleware,
    TokenRequiredMixin,
    conf,
    get_identity,
    get_issuer,
    get_store,
    middleware,
    protect,
    require_scopes,
    require_token,
    token_authenticated,
    token_issued,
    token_refused,
    token_revoked,
    token_rotated,
)
from tokenguard.django.conf import service
from tokenguard.django.revocation import revoke_token

from .child import in_child
from .conftest import KEY, OTHER_KEY, django_project, run_together
from .services.common import CATALOG

SETTINGS = {"SCOPES": CATALOG, "SIGNING_KEY": KEY, "USING": "of_this_test"}


# The project


def login_required(get_response: Any) -> Any:
    """Django's LoginRequiredMiddleware, for a user who is not logged in."""

    class Anonymous(LoginRequiredMiddleware):
        def process_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            request.user = AnonymousUser()
            return super().process_view(request, *args, **kwargs)

    return Anonymous(get_response)


def corrected(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Take the address from ``X-Real-IP``, as for a proxy that adds a header of its own."""

    def correct(request: HttpRequest) -> HttpResponse:
        request.META["REMOTE_ADDR"] = request.META.get("HTTP_X_REAL_IP", request.META["REMOTE_ADDR"])
        return get_response(request)

    return correct


def cacheable(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Let caches keep every answer, and drop header values that it does not know."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Cache-Control"] = "public, max-age=600"
        response["Vary"] = "Accept"
        del response["WWW-Authenticate"]
        return response

    return answer


def breaking(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Lose the connection to the tokens' database after the view."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        connections[get_store().using].connection.close()  # type: ignore[attr-defined]
        return response

    return answer


def seen(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.identity.client_name if request.identity else "nobody")  # type: ignore[attr-defined]


async def seen_async(request: HttpRequest) -> HttpResponse:
    return seen(request)


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse([b"a", b"b"])


def fails(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("of the view")


class Guarded(ScopesRequiredMixin):
    required_scopes = ("users:read",)

    def get(self, request: HttpRequest) -> HttpResponse:
        return seen(request)

    post = get


class Either(ScopesRequiredMixin):
    required_any_of = ("users:manage", "groups:read")

    async def get(self, request: HttpRequest) -> HttpResponse:
        return seen(request)


@method_decorator(require_token, name="dispatch")
class Dispatching(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return seen(request)

    post = get


class ByMethod(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("open")

    @method_decorator(require_scopes("users:manage"))
    def post(self, request: HttpRequest) -> HttpResponse:
        return seen(request)


class Scoped(ScopesRequiredMixin):
    required_scopes: ClassVar = {"get": "users:read", "post": ("users:read", "users:manage"), "delete": ()}
    required_any_of: ClassVar = {"delete": ("users:manage", "groups:read")}

    def get(self, request: HttpRequest) -> HttpResponse:
        return seen(request)

    post = delete = get


def public(request: HttpRequest) -> HttpResponse:
    return HttpResponse("for everybody")


urlpatterns = [
    path("scoped", Scoped.as_view()),
    path("public", public),
    path("paged", cache_page(60)(require_scopes("users:read")(seen))),
    path("paged-class", cache_page(60)(Guarded.as_view())),
    path("paged-within", require_scopes("users:read")(cache_page(60)(seen))),
    path("paged-within-async", require_scopes("users:read")(cache_page(60)(seen_async))),
    path("paged-around-and-within", cache_page(60)(require_scopes("users:read")(cache_page(60)(seen)))),
    path("open", seen),
    path("read", require_scopes("users:read")(seen)),
    path("read-async", require_scopes("users:read")(seen_async)),
    path("either", Either.as_view()),
    path("class", Guarded.as_view()),
    path("dispatching", Dispatching.as_view()),
    path("by-method", ByMethod.as_view()),
    path("stream", require_token(stream)),
    path("fails", require_token(fails)),
]
pytestmark = pytest.mark.usefixtures("project")


@pytest.fixture
def project(alias: str) -> Iterator[None]:
    with override_settings(DEBUG_PROPAGATE_EXCEPTIONS=False), django_project(alias, __name__):
        get_issuer().register("billing", "users:manage groups:read", actor="tests")
        yield


@pytest.fixture
def http() -> Client:
    return Client(enforce_csrf_checks=True, raise_request_exception=False)


def issue(scopes: str = "users:read", **more: Any) -> str:
    return get_issuer().issue("billing", scopes, actor="tests", **more).text.reveal()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Views of every kind


@pytest.mark.parametrize("url", ["/read", "/read-async", "/class", "/dispatching", "/stream", "/either"])
def test_every_kind_of_view_can_be_guarded(http: Client, url: str) -> None:
    refused = http.get(url)
    assert (refused.status_code, refused["Content-Type"]) == (401, "application/problem+json")
    assert refused["WWW-Authenticate"] == 'Bearer realm="api"'
    assert http.get(url, headers=bearer(issue("users:manage"))).status_code == 200


def test_scopes_are_asked_for(http: Client) -> None:
    token = bearer(issue("users:read"))
    assert http.get("/read", headers=token).status_code == 200
    assert http.get("/either", headers=token).status_code == 403
    assert "users:manage groups:read" in http.get("/either", headers=token)["WWW-Authenticate"]
    assert http.get("/by-method", headers=token).content == b"open"


def test_a_view_that_fails_is_still_marked(http: Client) -> None:
    response = http.get("/fails", headers=bearer(issue()))
    assert (response.status_code, response["Cache-Control"], response["Vary"]) == (500, "private", "Authorization")


def test_request_identity_is_an_identity_or_none(http: Client) -> None:
    assert http.get("/open").content == b"nobody"
    assert http.get("/open", headers=bearer("x")).content == b"nobody"
    assert http.get("/open", headers=bearer(issue())).content == b"billing"
    assert http.get("/open", headers=bearer(issue()))["Vary"] == "Authorization"


def test_neither_user_nor_session_nor_cookie_is_touched(http: Client) -> None:
    response = http.get("/read", headers=bearer(issue()))
    assert not hasattr(response.wsgi_request, "user")
    assert not response.cookies


def test_a_class_cannot_be_decorated_by_mistake() -> None:
    with pytest.raises(TypeError, match=r"@method_decorator\(require_token, .*TokenRequiredMixin"):
        require_token(ByMethod)
    with pytest.raises(TypeError, match=r"@method_decorator\(require_scopes\(…\), .*ScopesRequiredMixin"):
        require_scopes("users:read")(ByMethod)


def test_a_mixin_that_would_not_be_asked_is_a_mistake_that_shows_at_once() -> None:
    class OwnWay(View):
        @classmethod
        def as_view(cls, **initkwargs: Any) -> Any:
            return lambda request: HttpResponse("open")

    with pytest.raises(TypeError, match=r"Open may be unguarded: put the mixin that guards it before OwnWay"):
        type("Open", (OwnWay, ScopesRequiredMixin), {"required_scopes": "users:read"})
    type("Guarded", (ScopesRequiredMixin, OwnWay), {"required_scopes": "users:read"})


def test_a_mixin_that_asks_for_nothing_is_a_mistake_that_shows_at_once() -> None:
    class Nothing(ScopesRequiredMixin):
        pass

    with pytest.raises(ImproperlyConfigured, match=r"Nothing for OPTIONS is invalid: name at least one scope"):
        Nothing.as_view()
    for scopes in ((), ("a b",)):
        with pytest.raises(InvalidValue):
            require_scopes(*scopes)
    assert TokenRequiredMixin.as_view().csrf_exempt  # type: ignore[attr-defined]


def test_a_scope_that_the_catalogue_does_not_have_is_a_mistake_that_is_named() -> None:
    request = RequestFactory().get("/", headers=bearer(issue()))
    TokenGuardMiddleware(lambda request: HttpResponse())(request)
    with pytest.raises(ImproperlyConfigured, match="users:raed"):
        require_scopes("users:raed")(seen)(request)


def test_without_the_middleware_nothing_passes() -> None:
    request = RequestFactory().get("/", headers=bearer(issue()))
    for attempt in (require_token(seen), get_identity):
        with pytest.raises(ImproperlyConfigured, match="MIDDLEWARE"):
            attempt(request)


def test_the_application_is_tokenguard_django_and_not_tokenguard() -> None:
    with (
        modify_settings(INSTALLED_APPS={"remove": ["tokenguard.django"], "append": ["tokenguard"]}),
        pytest.raises(ImproperlyConfigured, match=r'add "tokenguard\.django" to INSTALLED_APPS'),
    ):
        TokenGuardMiddleware(lambda request: HttpResponse())


def test_the_refusal_of_a_head_request_has_no_body() -> None:
    """Whatever the server does with a body. Content-Length is that of the answer to GET (RFC 9110, section 9.3.2)."""
    got, head = (_response(require_scopes("users:read")(seen), method, "groups:read") for method in ("GET", "HEAD"))
    assert (got.status_code, head.status_code) == (403, 403)
    assert (len(got.content), head.content) == (int(head["Content-Length"]), b"")
    assert dict(got.items()) == dict(head.items())


def test_methods_of_a_class_may_ask_for_different_scopes(http: Client) -> None:
    read, groups = bearer(issue("users:read")), bearer(issue("groups:read"))
    manage = bearer(issue("users:manage"))
    asked = {
        method: [http.generic(method, "/scoped", headers=token).status_code for token in (read, groups, manage)]
        for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "get")
    }
    assert asked == {
        "GET": [200, 403, 200],
        "HEAD": [200, 403, 200],
        "POST": [403, 403, 200],
        "DELETE": [403, 200, 200],
        "OPTIONS": [200, 200, 200],
        "PUT": [405, 405, 405],
        "get": [200, 403, 200],
    }
    assert {http.generic(method, "/scoped").status_code for method in asked} == {401}


@pytest.mark.parametrize("scopes", [{}, {"GET": "users:read"}, {"get": "a b"}, {"get": ()}, None, 7, {"get": 7}, "a b"])
def test_a_class_that_leaves_a_method_out_is_a_mistake_that_shows_at_once(scopes: Any) -> None:
    class Half(View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return seen(request)

    guarded = type("Guarded", (ScopesRequiredMixin, Half), {"required_scopes": scopes})
    with pytest.raises(ImproperlyConfigured, match="the requirement of Guarded for GET is invalid"):
        guarded.as_view()  # type: ignore[attr-defined]


class OwnWay(View):
    """Answers every method in ``dispatch``, without a handler on the class."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return seen(request)


class LateHandlers(View):
    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        for name in ("get", "head", "post", "put", "delete", "options"):
            setattr(self, name, seen)


@pytest.mark.parametrize("kind", [OwnWay, LateHandlers])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_a_view_with_a_dispatch_or_a_setup_of_its_own_asks_for_no_less(kind: type[View], method: str) -> None:
    guarded: Any = type("Guarded", (ScopesRequiredMixin, kind), {"required_scopes": "users:manage"})
    assert _status(guarded.as_view(), method, "users:read") == 403
    assert _status(guarded.as_view(), method, "users:manage") == 200


@pytest.mark.parametrize("kind", [OwnWay, LateHandlers])
def test_what_a_class_does_not_name_is_not_for_its_own_dispatch_or_setup(kind: type[View]) -> None:
    named = {"get": "groups:read", "post": "users:manage"}
    guarded: Any = type("Guarded", (ScopesRequiredMixin, kind), {"required_scopes": named})
    found = [_status(guarded.as_view(), method, "users:manage") for method in ("GET", "HEAD", "POST", "PUT", "DELETE")]
    assert found == [403, 403, 200, 405, 405]


def test_a_class_that_asks_nothing_of_a_method_does_not_open_it() -> None:
    class Half(TokenRequiredMixin, OwnWay):
        @classmethod
        def get_requirement(cls, method: str) -> Any:
            return None if method == "put" else super().get_requirement(method)

    assert [_status(Half.as_view(), method, "users:read") for method in ("GET", "PUT")] == [200, 405]


def test_what_is_given_to_as_view_is_asked_for() -> None:
    view = Guarded.as_view(required_scopes="users:manage")
    assert [_status(view, "GET", scopes) for scopes in ("users:read", "users:manage")] == [403, 200]
    assert (view.view_class, _status(Guarded.as_view(), "GET", "users:read")) == (Guarded, 200)  # type: ignore[attr-defined]
    with pytest.raises(ImproperlyConfigured, match="the requirement of Guarded for GET"):
        Guarded.as_view(required_scopes={"post": "users:manage"})


def test_what_is_asked_of_all_methods_opens_none_that_is_left_out() -> None:
    class Half(ScopesRequiredMixin):
        required_scopes: ClassVar = {"get": "users:manage"}
        required_any_of = ("groups:read",)

        def get(self, request: HttpRequest) -> HttpResponse:
            return seen(request)

        delete = get

    with pytest.raises(ImproperlyConfigured, match=r"Half for DELETE is invalid"):
        Half.as_view()


def test_a_views_own_answer_to_options_is_guarded_as_the_rest() -> None:
    class Telling(Scoped):
        def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            return seen(request)

    with pytest.raises(ImproperlyConfigured, match=r"Telling for OPTIONS is invalid"):
        Telling.as_view()


def test_head_may_be_named_where_get_answers_it() -> None:
    view = Guarded.as_view(required_scopes={"get": "users:read", "post": "users:read", "head": "users:manage"})
    assert [_status(view, method, "users:read") for method in ("GET", "HEAD")] == [200, 403]


def _status(view: Any, method: str, scopes: str) -> int:
    return _response(view, method, scopes).status_code


def _response(view: Any, method: str, scopes: str) -> HttpResponse:
    request = RequestFactory().generic(method, "/", headers=bearer(issue(scopes)))
    response: HttpResponse = TokenGuardMiddleware(view)(request)
    return response


def test_a_method_that_is_decorated_like_a_function_is_a_mistake_that_is_named() -> None:
    class Wrong(View):
        @require_scopes("users:read")
        def get(self, request: HttpRequest) -> HttpResponse:
            return seen(request)

    with pytest.raises(TypeError, match="method_decorator"):
        Wrong.as_view()(RequestFactory().get("/"))


# A part of a URLconf


class Bare(View):
    def get(self, request: HttpRequest, **captured: int) -> HttpResponse:
        return seen(request)

    post = get


class BelowProtected:
    urlpatterns: ClassVar = [
        path("function", seen),
        path("async", seen_async),
        path("class/<int:number>", Bare.as_view(), name="class"),
        path("more/", include(([path("strict", require_scopes("groups:read")(seen), name="strict")], "more"))),
    ]


PROTECTED = ["/api/function", "/api/async", "/api/class/1", "/api/more/strict"]


@pytest.fixture(params=["include", "list"])
def protected(project: None, request: pytest.FixtureRequest) -> Iterator[None]:
    given = include((BelowProtected, "api")) if request.param == "include" else BelowProtected.urlpatterns
    part = protect(given, "users:read")
    urls = (path("api/", include(part) if isinstance(part, list) else part), path("bare/", include(BelowProtected)))
    with override_settings(ROOT_URLCONF=urls):
        yield


@pytest.mark.usefixtures("protected")
@pytest.mark.parametrize("url", PROTECTED)
def test_a_part_of_a_urlconf_is_guarded(http: Client, url: str) -> None:
    assert http.get(url).status_code == 401
    assert http.get(url, headers=bearer(issue("groups:read"))).status_code == 403
    answer = http.get(url, headers=bearer(issue("users:read groups:read")))
    assert (answer.status_code, answer.content) == (200, b"billing")


@pytest.mark.usefixtures("protected")
def test_a_view_of_a_guarded_part_may_ask_for_more(http: Client) -> None:
    codes = [http.get(url, headers=bearer(issue("users:read"))).status_code for url in PROTECTED]
    assert codes == [200, 200, 200, 403]


@pytest.mark.usefixtures("protected")
def test_no_browser_reaches_a_guarded_part_of_a_urlconf_by_itself(http: Client) -> None:
    """So its views need no check for CSRF, which those of the same URLconf elsewhere keep."""
    assert http.post("/api/class/1", headers=bearer(issue())).status_code == 200
    assert http.post("/bare/class/1", headers=bearer(issue())).status_code == 403


@pytest.mark.usefixtures("protected")
def test_what_is_guarded_in_one_part_stays_as_it_is_elsewhere(http: Client) -> None:
    assert http.get("/bare/function").content == b"nobody"


def test_names_in_a_guarded_part_of_a_urlconf() -> None:
    included = protect(include((BelowProtected, "api"), namespace="v1"), "users:read")
    with override_settings(ROOT_URLCONF=(path("api/", included),)):
        assert reverse("v1:class", kwargs={"number": 1}) == "/api/class/1"
        assert reverse("v1:more:strict") == "/api/more/strict"


def test_what_a_part_of_a_urlconf_may_ask_for(http: Client) -> None:
    for asked, sent, status in (
        (protect([path("", seen)]), "groups:read", 200),
        (protect([path("", seen)], any_of=["users:read", "groups:read"]), "groups:read", 200),
        (protect([path("", seen)], any_of=["users:read", "users:manage"]), "groups:read", 403),
    ):
        with override_settings(ROOT_URLCONF=tuple(asked)):
            assert http.get("/").status_code == 401
            assert http.get("/", headers=bearer(issue(sent))).status_code == status
    with pytest.raises(InvalidValue):
        protect([path("", seen)], any_of=[])


def test_the_arguments_of_a_guarded_part_of_a_urlconf_reach_its_views(http: Client) -> None:
    """They may be what restricts a view."""

    def tell(request: HttpRequest, **arguments: str) -> HttpResponse:
        return HttpResponse(str(sorted(arguments.items())))

    below = include([path("<slug:name>", tell, {"mode": "read"})])
    with override_settings(ROOT_URLCONF=tuple(protect([path("<slug:org>/", below, {"area": "users"})]))):
        answer = http.get("/acme/ada", headers=bearer(issue()))
    assert answer.content == b"[('area', 'users'), ('mode', 'read'), ('name', 'ada'), ('org', 'acme')]"


def test_no_view_gets_into_a_guarded_part_of_a_urlconf_by_another_way(http: Client) -> None:
    class Chosen(URLPattern):
        def resolve(self, path: str) -> ResolverMatch:
            return ResolverMatch(seen, (), {})

    class Found(URLResolver):
        @property
        def url_patterns(self) -> list[URLPattern]:  # type: ignore[override]
            return [path("found", seen)]

    given = [Chosen(RoutePattern("chosen", is_endpoint=True), seen), Found(RoutePattern(""), [])]
    with override_settings(ROOT_URLCONF=tuple(protect(given))):
        given.append(path("later", seen))
        codes = [http.get(url).status_code for url in ("/chosen", "/found", "/later")]
    assert codes == [401, 401, 404]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("urls", "expected what include() returns or a list of patterns, not 'urls'"),
        (("urls", "name"), "expected what include() returns or a list of patterns, not ('urls', 'name')"),
        ([path("", seen), seen], f"expected what path() returns, not {seen!r}"),
        ((re, None, None), f"The included URLconf '{re!r}' does not appear to have any patterns in it."),
    ],
    ids=["name", "pair", "view", "module"],
)
def test_only_urls_can_be_guarded_as_a_part_of_a_urlconf(given: Any, message: str) -> None:
    with pytest.raises((TypeError, ImproperlyConfigured), match=re.escape(message)):
        protect(given)


# Caches


@pytest.mark.parametrize("url", ["/paged", "/paged-class"])
def test_a_cache_around_a_guarded_view_gives_nothing_out(http: Client, url: str) -> None:
    cache.clear()
    with override_settings(TOKENGUARD=SETTINGS | {"HEADERS": ["X-API-Key"]}):
        text = issue()
        assert http.get(url, headers={"X-API-Key": text}).status_code == 200
        assert http.get(url).status_code == 401
        assert http.get(url, headers=bearer(text)).status_code == 200
        get_issuer().revoke(text.split("_")[1], actor="tests")
        assert http.get(url, headers=bearer(text)).status_code == 401


def test_a_cache_within_the_guard_keeps_what_it_is_told_to(http: Client) -> None:
    cache.clear()
    text = issue()
    assert http.get("/paged-within", headers=bearer(text)).headers["Expires"]
    assert http.get("/paged-within").status_code == 401


CACHES_ABOVE = [f"django.middleware.cache.{name}" for name in ("UpdateCacheMiddleware", "FetchFromCacheMiddleware")]


@pytest.mark.parametrize("url", ["/paged-within", "/paged-within-async", "/paged-around-and-within", "/read", "/class"])
@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_cache_for_the_whole_site_gives_nothing_out(http: Client, url: str, above: int) -> None:
    """Nor does a cache within the guard, which uses the same keys."""
    cache.clear()
    order = [*CACHES_ABOVE[:above], *settings.MIDDLEWARE, *CACHES_ABOVE[above:]]
    first, other = bearer(issue()), bearer(issue())
    with override_settings(MIDDLEWARE=order):
        for _ in range(2):
            for headers, status in ((first, 200), (other, 200), (bearer("x"), 401), ({}, 401)):
                assert http.get(url, headers=headers).status_code == status
        get_issuer().revoke(first["Authorization"].split("_")[1], actor="tests")
        assert http.get(url, headers=first).status_code == 401
        # Answers that are the same for everybody are still cached.
        assert http.get("/public").headers["Expires"]


def test_a_cache_above_may_keep_an_answer_after_which_uses_are_written(http: Client) -> None:
    cache.clear()
    usage = service().requests.guard.usage
    assert usage is not None
    with override_settings(MIDDLEWARE=[*CACHES_ABOVE, *settings.MIDDLEWARE]):
        usage.due.add("some token")
        answers = [http.get("/public") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].headers["Expires"]
    assert not usage.due


def test_an_error_after_a_refusal_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    def fails_if_refused(request: HttpRequest) -> HttpResponse:
        raise KeyError(require_scopes("users:read")(seen)(request).status_code)

    with override_settings(ROOT_URLCONF=(path("", fails_if_refused),)):
        assert Client(raise_request_exception=False).get("/").status_code == 500
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["django.request"]


def test_what_was_told_to_nobody_in_particular_may_be_cached_by_all(http: Client) -> None:
    public = http.get("/public")
    assert (public.get("Cache-Control"), public["Vary"]) == (None, "Authorization")
    assert http.get("/public", headers=bearer(issue()))["Cache-Control"] == "private"
    assert http.get("/public", headers=bearer("x"))["Cache-Control"] == "private"


@pytest.mark.parametrize(
    ("own", "sent"),
    [
        ({"Vary": "Accept-Language"}, ("private", "Accept-Language, Authorization")),
        ({"Cache-Control": "no-store"}, ("no-store", "Authorization")),
        ({"cache-control": "no-store", "vary": "Cookie"}, ("no-store", "Cookie, Authorization")),
    ],
)
def test_what_a_view_says_to_caches_itself_stays(http: Client, own: dict[str, str], sent: tuple[str, str]) -> None:
    view = require_scopes("users:read")(lambda request: HttpResponse(headers=own))
    with override_settings(ROOT_URLCONF=(path("", view),)):
        answer = http.get("/", headers=bearer(issue()))
    assert (answer["Cache-Control"], answer["Vary"]) == sent


def test_what_is_added_to_a_refusals_vary_stays(http: Client) -> None:
    """As a decorator of the view does it."""
    view = vary_on_cookie(require_scopes("users:read")(lambda request: HttpResponse()))
    with override_settings(ROOT_URLCONF=(path("", view),)):
        refused = http.get("/")
    assert (refused.status_code, refused["Cache-Control"]) == (401, "no-store")
    assert refused["Vary"] == "Authorization, Cookie"
    assert refused["WWW-Authenticate"] == 'Bearer realm="api"'


def test_what_a_view_refuses_itself_is_in_djangos_log(
    http: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not what tokenguard refuses, which is in its own; only that it could not decide is in both."""
    view = require_scopes("users:read")(lambda request: HttpResponse(status=404, headers={"Vary": "Cookie"}))
    limited = issue(conditions=Conditions.parse(rate="1/minute"))
    with override_settings(ROOT_URLCONF=(path("", view), path("revoke", revoke_token))):
        assert http.get("/", headers=bearer(issue())).status_code == 404
        assert http.get("/", headers=bearer("x")).status_code == 401
        assert http.post("/revoke").status_code == 400
        monkeypatch.setattr(service().requests.guard, "limiter", None)
        assert http.get("/", headers=bearer(limited)).status_code == 503
    assert http.get("/nowhere").status_code == 404
    logged = [record.getMessage() for record in caplog.records if record.name == "django.request"]
    assert logged == ["Not Found: /", "Service Unavailable: /", "Not Found: /nowhere"]


def test_headers_are_the_same_where_django_keeps_them_in_another_way(
    http: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issue()

    def answers() -> list[tuple[int, dict[str, str]]]:
        sent = [http.get(path, headers=bearer(text)) for path in ("/public", "/read") for text in (token, "x")]
        return [(answer.status_code, dict(answer.headers)) for answer in sent]

    monkeypatch.setattr("tokenguard.django.headers._IS_KNOWN", True)
    known = answers()
    assert {status for status, _ in known} == {200, 401}
    monkeypatch.setattr("tokenguard.django.headers._IS_KNOWN", False)
    assert answers() == known


@pytest.mark.parametrize("url", ["/read", "/read-async", "/class"])
def test_a_refusal_that_is_changed_below_the_middleware_still_says_what_it_must(http: Client, url: str) -> None:
    unchanged = http.get(url)
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, "tests.test_django.cacheable"]):
        refused = Client().get(url)
    assert refused.status_code == 401
    assert dict(refused.headers) == dict(unchanged.headers) | {"Vary": "Accept, Authorization"}
    assert refused["Cache-Control"] == "no-store"


# Sessions


def test_guarded_views_ask_for_no_login(http: Client) -> None:
    """Where Django's own middleware asks everybody for one."""
    kept = [*settings.MIDDLEWARE, "tests.test_django.login_required"]
    with override_settings(MIDDLEWARE=kept, LOGIN_URL="/open"):
        for url in ("/read", "/class", "/dispatching"):
            assert http.get(url, headers=bearer(issue())).status_code == 200
            assert http.get(url).status_code == 401
        assert http.get("/public").status_code == 302


# Networks


@pytest.mark.parametrize("url", ["/read", "/read-async", "/class"])
def test_an_address_that_is_corrected_below_the_middleware_decides(http: Client, url: str) -> None:
    token = bearer(issue(conditions=Conditions.parse(["10.0.0.0/8"])))
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, "tests.test_django.corrected"]):
        for peer, corrected, status in (("10.0.0.1", "192.0.2.1", 403), ("192.0.2.1", "10.0.0.1", 200)):
            answer = http.get(url, headers=token | {"X-Real-IP": corrected}, REMOTE_ADDR=peer)
            assert answer.status_code == status


# CSRF


@pytest.mark.parametrize("url", ["/class", "/dispatching"])
def test_a_guarded_view_needs_no_csrf_token(http: Client, url: str) -> None:
    assert http.post(url, headers=bearer(issue())).status_code == 200
    assert http.post(url).status_code == 401


def test_nothing_else_is_exempt(http: Client) -> None:
    """An attacker's own valid token, sent along, does not exempt a request with a victim's cookies."""
    token = bearer(issue("users:manage"))
    http.cookies["sessionid"] = "of the victim"
    refused = http.post("/open", headers=token)
    assert (refused.status_code, b"CSRF" in refused.content) == (403, True)
    # A class with one open method is not exempt as a whole.
    assert b"CSRF" in http.post("/by-method", headers=token).content


def test_the_guard_does_not_read_forms(http: Client) -> None:
    answer = http.post("/class", {"access_token": issue()})
    assert answer.status_code == 401


# Settings


def test_settings_are_read_live(http: Client) -> None:
    token = bearer(issue())
    assert http.get("/read", headers=token).status_code == 200
    with override_settings(TOKENGUARD=SETTINGS | {"SIGNING_KEY": OTHER_KEY}):
        assert http.get("/read", headers=token).status_code == 401
        with override_settings(TOKENGUARD=SETTINGS | {"SIGNING_KEY": OTHER_KEY, "OLD_SIGNING_KEYS": [KEY]}):
            assert http.get("/read", headers=token).status_code == 200
    settings.TOKENGUARD = SETTINGS | {"REALM": "directory"}
    assert http.get("/read")["WWW-Authenticate"] == 'Bearer realm="directory"'
    assert http.get("/read", headers=token).status_code == 200
    assert service() is service()


def test_threads_that_ask_at_once_get_the_same_service() -> None:
    """Two would keep two caches and two logs of uses."""
    together, found = threading.Barrier(8), []

    def ask() -> None:
        together.wait()
        found.append(service())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for realm in ("one", "two", "three"):
            with override_settings(TOKENGUARD=SETTINGS | {"REALM": realm}):
                run_together([ask] * 8)
                assert {id(each) for each in found} == {id(service())}
            found.clear()
    finally:
        sys.setswitchinterval(interval)


@override_settings(TOKENGUARD={"SIGNING_KEY": KEY, "PREFIX": "fork"})
def test_a_child_forked_while_another_thread_builds_the_service_builds_its_own() -> None:
    with conf._building.lock:
        assert in_child(lambda: conf.service().requests.guard.tokens.beginning) == "fork_"


def test_they_are_in_production_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing of Django's tests is imported, most requests do not look at every setting."""
    monkeypatch.delitem(sys.modules, "django.test.utils")
    monkeypatch.setenv("TOKENGUARD_SIGNING_KEY", KEY)
    without = {name: value for name, value in SETTINGS.items() if name != "SIGNING_KEY"}

    def realm() -> str:
        assert service() is service()
        return service().requests.scheme.realm

    settings.TOKENGUARD = SETTINGS | {"REALM": "one"}
    assert realm() == "one"
    settings.TOKENGUARD = SETTINGS | {"REALM": "two"}
    assert realm() == "two"
    del settings.TOKENGUARD
    assert realm() == "api"
    settings.TOKENGUARD = SETTINGS | {"REALM": "three"}
    assert realm() == "three"
    monkeypatch.delenv("TOKENGUARD_SIGNING_KEY")
    settings.DEBUG = True
    settings.TOKENGUARD = without | {"REALM": "four"}
    assert realm() == "four"
    settings.DEBUG = False
    with pytest.raises(ImproperlyConfigured, match="the signing key is missing"):
        service()
    settings.TOKENGUARD = SETTINGS


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SCOPE": {}}, r'unknown option TOKENGUARD\["SCOPE"\]; did you mean TOKENGUARD\["SCOPES"\]\?'),
        ({"SIGNING_KEY": "short"}, r'TOKENGUARD\["SIGNING_KEY"\]: .* at least 32'),
        ({"SCOPES": []}, r'TOKENGUARD\["SCOPES"\] must map'),
        ({"PROXIES": "many"}, r'TOKENGUARD\["PROXIES"\] must be an integer'),
        ({"USING": "elsewhere"}, r'TOKENGUARD\["USING"\] must name one of DATABASES \(default, of_this_test\)'),
        ({"USING": ["default"]}, r'TOKENGUARD\["USING"\] must name one of DATABASES'),
        (
            {"READ_USING": "elsewhere"},
            r'TOKENGUARD\["READ_USING"\] must name one of DATABASES \(default, of_this_test\)',
        ),
        ({"DATABASE_URL": "sqlite:///x.db"}, r'TOKENGUARD\["DATABASE_URL"\] is not used with Django'),
        ({1: 2}, "the setting TOKENGUARD must be a dictionary"),
        (["SCOPES"], "the setting TOKENGUARD must be a dictionary"),
    ],
)
def test_settings_that_cannot_be_used_are_named_when_the_server_starts(given: Any, said: str) -> None:
    options = SETTINGS | given if isinstance(given, dict) else given
    with override_settings(TOKENGUARD=options), pytest.raises(ImproperlyConfigured, match=said) as refused:
        TokenGuardMiddleware(seen)
    assert isinstance(refused.value, ConfigurationError)


def test_a_key_is_asked_for_unless_it_is_for_development(caplog: pytest.LogCaptureFixture) -> None:
    without = {name: value for name, value in SETTINGS.items() if name != "SIGNING_KEY"}
    with override_settings(TOKENGUARD=without):
        with pytest.raises(ImproperlyConfigured, match=r'TOKENGUARD\["SIGNING_KEY"\]: the signing key is missing'):
            service()
        with override_settings(DEBUG=True):
            text = issue()
            assert "tokens are signed with a key made from SECRET_KEY" in caplog.text
            old = settings.SECRET_KEY
            with override_settings(SECRET_KEY="another"):
                assert Client().get("/read", headers=bearer(text)).status_code == 401
                with override_settings(SECRET_KEY_FALLBACKS=[old]):
                    assert Client().get("/read", headers=bearer(text)).status_code == 200
            assert Client().get("/read", headers=bearer(text)).status_code == 200
            with override_settings(TOKENGUARD=SETTINGS):
                assert Client().get("/read", headers=bearer(text)).status_code == 401
        with pytest.raises(ImproperlyConfigured, match=r'TOKENGUARD\["SIGNING_KEY"\]: the signing key is missing'):
            service()


def test_the_environment_gives_what_the_settings_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENGUARD_REALM", "of the environment")
    monkeypatch.setenv("TOKENGUARD_DATABASE_URL", "nonsense, and for others")
    with override_settings(TOKENGUARD=dict(SETTINGS)):
        assert service().requests.scheme.realm == "of the environment"
    with override_settings(TOKENGUARD=SETTINGS | {"REALM": "of the settings"}):
        assert service().requests.scheme.realm == "of the settings"


# What a request costs


def test_a_request_with_a_token_that_is_known_is_no_query(http: Client, alias: str) -> None:
    token = bearer(issue())
    http.get("/read", headers=token)  # the first use is written down
    with CaptureQueriesContext(connections[alias]) as queries:
        for _ in range(5):
            assert http.get("/read", headers=token).status_code == 200
        assert len(queries) <= 1  # the one that asks for changes once in a while
        forged = [bearer(token["Authorization"][7:-1] + end) for end in "0123"]
        assert [http.get("/read", headers=wrong).status_code for wrong in forged].count(401) >= 3
        for headers in ({}, bearer("x"), {"Authorization": "Basic x"}):
            assert http.get("/read", headers=headers).status_code == 401
    assert len(queries) <= 2


def test_a_use_is_written_once_a_minute_outside_of_the_request(http: Client) -> None:
    text = issue()
    for _ in range(3):
        http.get("/read", headers=bearer(text))
    record = get_store().find(text.split("_")[1])
    assert record is not None
    assert record.use is not None
    assert list(record.use.scopes) == ["users:read"]
    assert sum(get_store().use_by_day(record.token.id).values()) == 1


def test_an_answer_is_closed_also_if_a_connection_cannot_be(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows is Django's own: closing files, and signalling that the request is finished."""

    def fail(connection: object) -> None:
        raise OperationalError("the connection is lost")

    closed: list[bool] = []
    answer = HttpResponse()
    answer._resource_closers.append(lambda: closed.append(True))  # type: ignore[attr-defined]
    request = RequestFactory().get("/", headers=bearer(issue()))
    TokenGuardMiddleware(lambda request: answer)(request)  # now the token's first use waits to be written
    monkeypatch.setattr(type(connections[alias]), "close_if_unusable_or_obsolete", fail)
    with pytest.raises(OperationalError):
        answer.close()
    assert closed == [True]


def test_a_connection_that_breaks_is_not_left_to_what_comes_next(http: Client, alias: str) -> None:
    """Not under Django's test client either, which keeps Django itself from replacing it."""
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, f"{__name__}.breaking"]):
        assert http.get("/read", headers=bearer(issue())).status_code == 200
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")


def test_a_refused_request_is_no_use(http: Client) -> None:
    text = issue("groups:read")
    assert http.get("/read", headers=bearer(text)).status_code == 403
    record = get_store().find(text.split("_")[1])
    assert record is not None
    assert record.use is None


def test_a_database_that_is_away_is_503(http: Client, alias: str) -> None:
    token = bearer(issue())
    with connections[alias].cursor() as cursor:
        cursor.execute("ALTER TABLE tokenguard_token RENAME TO elsewhere")
        refused = http.get("/read", headers=token)
        assert (refused.status_code, refused["Retry-After"]) == (503, "5")
        assert http.get("/open", headers=token).content == b"nobody"
        cursor.execute("ALTER TABLE elsewhere RENAME TO tokenguard_token")
    assert http.get("/read", headers=token).status_code == 200


def test_the_transaction_of_another_database_outlives_a_response(http: Client, tmp_path: Path) -> None:
    """As that of a TestCase, where tokens are in a database of their own."""
    token = bearer(issue())
    connections.databases["another"] = connections.configure_settings(
        {"default": {}, "another": {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "another.db"}}
    )["another"]
    try:
        with transaction.atomic(using="another"), connections["another"].cursor() as cursor:
            cursor.execute("CREATE TABLE of_the_project (number INTEGER)")
            assert http.get("/read", headers=token).status_code == 200
            cursor.execute("INSERT INTO of_the_project VALUES (1)")
        with connections["another"].cursor() as cursor:
            assert cursor.execute("SELECT number FROM of_the_project").fetchall() == [(1,)]
    finally:
        connections["another"].close()
        del connections["another"], connections.databases["another"]


# Another's identity


def test_anothers_identity_on_the_request_is_replaced_and_named(caplog: pytest.LogCaptureFixture) -> None:
    middleware._warn_once.cache_clear()
    for _ in range(2):
        request = RequestFactory().get("/")
        request.identity = object()  # type: ignore[attr-defined]
        TokenGuardMiddleware(lambda request: HttpResponse())(request)
        assert request.identity is None  # type: ignore[attr-defined]
    assert caplog.text.count("request.identity was set already, to a object") == 1


def test_its_own_and_nobodys_are_not_named(caplog: pytest.LogCaptureFixture) -> None:
    middleware._warn_once.cache_clear()
    request = RequestFactory().get("/", headers=bearer(issue()))
    request.identity = None  # type: ignore[attr-defined]
    TokenGuardMiddleware(TokenGuardMiddleware(seen))(request)
    assert request.identity is not None  # type: ignore[attr-defined]
    assert "was set already" not in caplog.text


def test_also_on_an_async_server(caplog: pytest.LogCaptureFixture) -> None:
    middleware._warn_once.cache_clear()
    request = _asgi_request({})
    request.identity = object()

    async def respond(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    asyncio.run(TokenGuardMiddleware(respond)(request))
    assert request.identity is None
    assert "request.identity was set already, to a object" in caplog.text


def test_a_guarded_view_sees_the_caller_whatever_another_middleware_set() -> None:
    def meddling(get_response: Any) -> Any:
        def respond(request: HttpRequest) -> HttpResponse:
            request.identity = Identity("evil", "evil", "evil", None)  # type: ignore[arg-type, attr-defined]
            return get_response(request)

        return respond

    handler = TokenGuardMiddleware(meddling(require_token(seen)))
    request = RequestFactory().get("/", headers=bearer(issue()))
    assert handler(request).content == b"billing"
    assert get_identity(request) == request.identity  # type: ignore[attr-defined]


# Signals


def test_signals_tell_what_happens(http: Client) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    signals = {
        "authenticated": token_authenticated,
        "refused": token_refused,
        "issued": token_issued,
        "rotated": token_rotated,
        "revoked": token_revoked,
    }
    with ExitStack() as receiving:
        for name, signal in signals.items():
            receiving.enter_context(
                _receiving(signal, lambda sender, signal, name=name, **arguments: heard.append((name, arguments)))
            )
        text = issue()
        http.get("/read", headers=bearer(text))
        http.get("/open", headers=bearer(text))
        http.get("/open")
        http.get("/either", headers=bearer(text))
        http.get("/read", headers=bearer("x"))
        issued = get_issuer().rotate(text.split("_")[1], actor="tests")
        get_issuer().revoke(issued.token.id, actor="tests")
    assert [name for name, _ in heard] == [
        *["issued", "authenticated", "authenticated", "refused", "refused", "rotated", "revoked"]
    ]
    assert heard[1][1]["identity"].client_name == "billing"
    assert heard[3][1]["error"].code == "insufficient_scope"
    assert heard[6][1]["token"].id == issued.token.id


def test_a_receiver_that_fails_breaks_nothing(http: Client, caplog: pytest.LogCaptureFixture) -> None:
    text = issue()

    def failing(sender: Any, identity: Identity, environ: Any, **kwargs: Any) -> None:
        raise RuntimeError(f"quoting {environ['HTTP_AUTHORIZATION']}")

    with _receiving(token_authenticated, failing):
        assert http.get("/read", headers=bearer(text)).status_code == 200
    assert "a receiver failed" in caplog.text
    assert text[-40:] not in caplog.text


def test_a_receiver_that_fails_keeps_no_other_from_being_told(http: Client, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def failing(**kwargs: Any) -> None:
        raise RuntimeError

    def hearing(error: Any, **kwargs: Any) -> None:
        heard.append(error.code)

    with _receiving(token_refused, failing), _receiving(token_refused, hearing):
        assert http.get("/read").status_code == 401
    assert heard == ["missing_token"]
    assert "a receiver failed: test_a_receiver_that_fails_keeps" in caplog.text


@contextmanager
def _receiving(signal: Signal, receiver: Any) -> Iterator[None]:
    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


# The event loop


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the functions that the middleware has run in a thread."""
    done: list[str] = []

    def counting(function: Any, **options: Any) -> Any:
        assert options["thread_sensitive"]  # in another one nobody would close the connection
        done.append(function.__name__)
        return sync_to_async(function, **options)

    monkeypatch.setattr("tokenguard.django.middleware.sync_to_async", counting)
    return done


def test_on_an_event_loop_only_what_needs_the_database_goes_to_a_thread(hops: list[str], alias: str) -> None:
    text = issue()
    handled: list[str] = []

    async def view(request: HttpRequest) -> HttpResponse:
        asyncio.get_running_loop()
        handled.append(str(getattr(get_identity(request), "client_name", None)))
        return HttpResponse()

    async def requests() -> list[HttpResponse]:
        respond = TokenGuardMiddleware(require_scopes("users:read")(view))
        credentials: list[dict[str, str]] = [{}, bearer("x"), bearer(text[:-4] + "0000"), bearer("a b")]
        answers = [await respond(_asgi_request(headers)) for headers in credentials]
        assert hops == []
        answers.append(await respond(_asgi_request(bearer(text))))
        await sync_to_async(_forget)(alias)
        return answers

    answers = asyncio.run(requests())
    assert [answer.status_code for answer in answers] == [401, 401, 401, 400, 200]
    assert hops == ["authenticate"]
    assert handled == ["billing"]


def test_a_token_that_a_middleware_has_moved_is_asked_for_in_a_thread_too(hops: list[str], alias: str) -> None:
    text = issue()

    def moving(get_response: Any) -> Any:
        async def respond(request: HttpRequest) -> HttpResponse:
            request.META["HTTP_AUTHORIZATION"] = request.META.pop("HTTP_X_FORWARDED_AUTHORIZATION")
            found: HttpResponse = await get_response(request)
            return found

        return markcoroutinefunction(respond)

    async def answer() -> HttpResponse:
        respond = TokenGuardMiddleware(moving(require_scopes("users:read")(seen_async)))
        found: HttpResponse = await respond(_asgi_request({"X-Forwarded-Authorization": f"Bearer {text}"}))
        await sync_to_async(_forget)(alias)
        return found

    assert asyncio.run(answer()).content == b"billing"
    assert hops == ["authenticate"]


def test_receivers_may_use_the_database_also_on_an_async_server(alias: str) -> None:
    text = issue()
    seen_by_receivers: list[int] = []
    threads: set[int] = set()

    def counting(sender: Any, **kwargs: Any) -> None:
        threads.add(threading.get_ident())
        seen_by_receivers.append(len(get_store().clients()))

    async def statuses() -> list[int]:
        client = AsyncClient(raise_request_exception=False)
        found = [(await client.get("/read-async", headers=headers)).status_code for headers in ({}, bearer(text))]
        found.append((await client.get("/open", headers=bearer(text))).status_code)
        threads.add(await sync_to_async(threading.get_ident)())  # where Django closes what is too old
        await sync_to_async(_forget)(alias)
        return found

    with _receiving(token_refused, counting), _receiving(token_authenticated, counting):
        assert asyncio.run(statuses()) == [401, 200, 200]
    assert seen_by_receivers == [1, 1, 1]
    assert len(threads) == 1


def _forget(alias: str) -> None:
    """Close the connection of the event loop's thread, which outlives the test."""
    connections[alias].close()
    del connections[alias]


def _asgi_request(headers: dict[str, str]) -> ASGIRequest:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.1", 1),
    }
    return ASGIRequest(scope, None)


def test_async_views_under_the_whole_async_stack(alias: str) -> None:
    text = issue("users:manage", conditions=Conditions.parse(["127.0.0.0/8"]))

    async def statuses() -> list[int]:
        client = AsyncClient(raise_request_exception=False)
        urls = ["/read-async", "/read", "/either", "/dispatching", "/class", "/open"]
        found = [(await client.get(url, headers=bearer(text))).status_code for url in urls]
        found += [(await client.get(url)).status_code for url in urls]
        await sync_to_async(_forget)(alias)
        return found

    # One of Django's, which has to know whether what it is put around is async.
    with override_settings(MIDDLEWARE=["django.middleware.security.SecurityMiddleware", *settings.MIDDLEWARE]):
        assert asyncio.run(statuses()) == [200] * 6 + [401] * 5 + [200]


# The command line


def test_the_command_tree_is_the_one(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("tokenguard", "client", "list", "--json")
    assert '"name": "billing"' in capsys.readouterr().out
    with pytest.raises(CommandError, match="no token has the id 'nosuch'"):
        call_command("tokenguard", "revoke", "nosuch")
    with override_settings(TOKENGUARD={"SCOPE": {}}), pytest.raises(CommandError, match=r'TOKENGUARD\["SCOPE"\]'):
        call_command("tokenguard", "list")


def test_its_errors_name_an_option_as_it_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], alias: str
) -> None:
    def refusal(*arguments: str, **options: Any) -> str:
        options = {"USING": alias, "PREFIX": None, "SIGNING_KEY": None, **options}
        with override_settings(TOKENGUARD=options), pytest.raises(CommandError) as refused:
            call_command("tokenguard", *arguments)
        return str(refused.value)

    assert refusal("pattern", PREFIX="My").startswith('TOKENGUARD["PREFIX"]: the prefix must be')
    for arguments in (["scan", __file__], ["issue", "billing", "--scopes", "users:read"]):
        assert refusal(*arguments).startswith('TOKENGUARD["SIGNING_KEY"]')
    monkeypatch.setenv("TOKENGUARD_PREFIX", "Yours")
    assert refusal("pattern").startswith("TOKENGUARD_PREFIX: the prefix must be")
    assert refusal("pattern", PREFIX="My").startswith('TOKENGUARD["PREFIX"]: the prefix must be')
    with override_settings(TOKENGUARD={"USING": alias, "PREFIX": "tg"}):
        call_command("tokenguard", "doctor", "--json")
    assert r"set TOKENGUARD[\"SCOPES\"] to the service's catalogue" in capsys.readouterr().out
    with override_settings(TOKENGUARD={"USING": alias, "PUSH_URL": "nonsense"}), pytest.raises(CommandError):
        call_command("tokenguard", "doctor", "--json")
    assert r"from here: TOKENGUARD[\"PUSH_URL\"]: the URL cannot be used" in capsys.readouterr().out


def test_setting_up_needs_no_key(capsys: pytest.CaptureFixture[str], alias: str) -> None:
    with override_settings(TOKENGUARD={"USING": alias}):
        call_command("tokenguard", "genkey")
        call_command("tokenguard", "init")
    assert "up to date" in capsys.readouterr().err
