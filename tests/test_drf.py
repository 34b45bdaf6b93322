"""Django REST framework beyond the contract, in this process: APIClient, real views, a real database."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connections
from django.test import override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_page
from drf_spectacular.settings import patched_settings
from drf_spectacular.views import SpectacularAPIView
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import action, api_view, permission_classes, schema
from rest_framework.permissions import AllowAny, BasePermission, IsAdminUser, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient, APIRequestFactory, force_authenticate
from rest_framework.views import APIView, exception_handler
from rest_framework.viewsets import GenericViewSet

from tokenguard import Conditions, Identity, StoreUnavailable
from tokenguard.django import (
    ScopesRequiredMixin,
    TokenGuardMiddleware,
    get_issuer,
    get_store,
    require_token,
    token_authenticated,
    token_refused,
)
from tokenguard.django.conf import service
from tokenguard.django.rest_framework import (
    HasScopes,
    HasToken,
    Refused,
    TokenAuthentication,
    TokenRateThrottle,
    _log_unnamed,
)
from tokenguard.django.store import DjangoStore

from .conftest import KEY
from .idp import AUDIENCE, Idp
from .services.common import CATALOG, HEADERS
from .services.django_settings import database


class Thing(serializers.Serializer[Any]):
    name = serializers.CharField()


class View(APIView):
    """Answers with the caller, as ``request.auth`` and ``request.user`` have it."""

    authentication_classes: Any = (TokenAuthentication, SessionAuthentication)
    permission_classes: Any = (HasScopes,)
    serializer_class = Thing

    def get(self, request: Request) -> Response:
        self.check_object_permissions(request, object())
        return Response({"auth": getattr(request.auth, "client_name", None), "user": str(request.user)})


class Directory(View, GenericViewSet[Any]):
    lookup_value_converter = "int"
    required_scopes: Any = {"list": "users:read", "create": ("users:manage",)}  # noqa: RUF012
    required_any_of: Any = {"search": ("users:manage", "groups:read")}  # noqa: RUF012
    get = None  # type: ignore[assignment]

    def destroy(self, request: Request, **kwargs: Any) -> Response:
        return Response(["done"])

    list = create = destroy

    @action(detail=False)
    def search(self, request: Request) -> Response:
        return Response(["found"])

    @action(detail=False, required_scopes="groups:read", required_any_of=())
    def audit(self, request: Request) -> Response:
        return Response(["audited"])


class ByMethod(View):
    required_scopes: Any = {"get": "users:read", "post": "users:manage"}  # noqa: RUF012

    def post(self, request: Request) -> Response:
        return Response(request.data)


class OwnOptions(View):
    required_scopes = "users:manage"
    response = headers = "names that the framework uses as well"

    def options(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response("secrets")


class PagedWithin(View):
    required_scopes = "users:read"
    schema = None

    @method_decorator(cache_page(60))
    def get(self, request: Request) -> Response:
        return Response({"auth": request.auth.client_name})


class Reads(HasScopes):
    required_scopes = "users:read"


@api_view(["GET"])
@permission_classes([Reads])
@schema(None)
def function(request: Request) -> Response:
    return Response(["called"])


class ReadsGroups(HasScopes):
    required_scopes = "groups:read"


class Never(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return False

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return False


class KnownByToken(TokenAuthentication):
    def get_user(self, identity: Identity) -> User:
        return User(username=f"for {identity.client_name}")


class PerToken(TokenRateThrottle):
    rate = "2/day"


def worded(exc: Exception, context: dict[str, Any]) -> Response | None:
    response = exception_handler(exc, context)
    if response is not None and isinstance(exc, Refused):
        response.data = {"oops": exc.error.code, "codes": exc.get_codes()}
    return response


class OwnWords(View):
    required_scopes = "users:read"

    def get_exception_handler(self) -> Any:
        return worded


class Always200(View):
    authentication_classes = (KnownByToken,)
    permission_classes = (IsAuthenticated,)
    schema = None

    def get_exception_handler(self) -> Any:
        return lambda exc, context: Response({"refused": exc.error.code})


def with_permission(*permissions: Any, **more: Any) -> Callable[..., Any]:
    return type("With", (View,), {"permission_classes": permissions, **more}).as_view()  # type: ignore[attr-defined]


class ByUser(View):
    schema = None

    def get_permissions(self) -> list[Any]:
        return [IsAdminUser()] if self.request.user.is_staff else [AllowAny()]


class ByAuth(View):
    schema = None

    def get_permissions(self) -> list[Any]:
        return [AllowAny() if self.request.auth is None else HasToken(), AnyUser()]


class AnyUser(BasePermission):
    pass


class OwnSchema(SpectacularAPIView):
    authentication_classes = (TokenAuthentication,)
    schema = None


router = SimpleRouter(use_regex_path=False)
router.register("users", Directory, basename="users")
urlpatterns = [
    *router.urls,
    path("by-method", ByMethod.as_view()),
    path("permission-alone", ByMethod.as_view(authentication_classes=(), schema=None)),
    path("read-only", ByMethod.as_view(http_method_names=("get", "options"), schema=None)),
    path("function", function),
    path("own-options", OwnOptions.as_view()),
    path("own-words", OwnWords.as_view()),
    path("or-admin", with_permission(Reads | IsAdminUser)),
    path("admin-or", with_permission(IsAdminUser | Reads)),
    path("either", with_permission(Reads | ReadsGroups)),
    path("both", with_permission(Reads & ReadsGroups)),
    path("no-token", with_permission(~HasToken)),
    path("and-never", with_permission(HasToken & Never)),
    path("nested", with_permission((Reads & AllowAny) | (ReadsGroups & ~Never))),
    path("user", with_permission(HasToken, authentication_classes=(KnownByToken,))),
    path("throttled", with_permission(AllowAny, throttle_classes=(PerToken,))),
    path("public", with_permission()),
    path("by-user", ByUser.as_view()),
    path("by-auth", ByAuth.as_view()),
    path("open", with_permission(AllowAny, schema=None)),
    path("signed-in", with_permission(IsAuthenticated, authentication_classes=(KnownByToken,), schema=None)),
    path(
        "signed-in-or-session",
        with_permission(IsAuthenticated, authentication_classes=(KnownByToken, SessionAuthentication), schema=None),
    ),
    path("paged", cache_page(60)(with_permission(schema=None))),
    path("paged-alone", cache_page(60)(with_permission(HasToken, authentication_classes=(), schema=None))),
    path("paged-always-200", cache_page(60)(Always200.as_view())),
    path("paged-within", PagedWithin.as_view()),
    path("paged-within-guarded", require_token(PagedWithin.as_view())),
    path("nothing-named", with_permission(HasScopes, __qualname__="NothingNamed", schema=None)),
]
urlpatterns.append(path("schema", OwnSchema.as_view(serve_public=False)))


@pytest.fixture(scope="module", autouse=True)
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    alias = "of_rest_framework"
    url = f"sqlite:///{tmp_path_factory.mktemp('drf') / 'db'}"
    connections.databases[alias] = connections.configure_settings({"default": {}, alias: database(url)})[alias]

    class Router:
        def db_for_read(self, model: Any, **hints: Any) -> str:
            return alias

        db_for_write = db_for_read

    with override_settings(
        DATABASE_ROUTERS=[Router()],
        REST_FRAMEWORK={"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"},
        ROOT_URLCONF=__name__,
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        TOKENGUARD={"SCOPES": CATALOG, "HEADERS": HEADERS, "SIGNING_KEY": KEY},
    ):
        call_command("migrate", database=alias, verbosity=0)
        for client in ("billing", "partner"):
            get_issuer().register(client, "*", actor="tests")
        yield
        _write_uses()
    connections[alias].close()
    del connections[alias], connections.databases[alias]


def _write_uses() -> None:
    usage = service().requests.guard.usage
    assert usage is not None
    usage.write(everything=True)


def caller(scopes: str = "", *, client: str = "billing", **more: Any) -> APIClient:
    """A client with a token that has these scopes; without scopes, it sends no token at all."""
    api = APIClient(enforce_csrf_checks=True, raise_request_exception=True)
    if scopes:
        text = get_issuer().issue(client, scopes, actor="tests", **more).text.reveal()
        api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return api


def wrong() -> APIClient:
    api = caller()
    api.credentials(HTTP_AUTHORIZATION="Bearer tg_wrong")
    return api


@pytest.fixture
def admin() -> Iterator[User]:
    user = User.objects.create(username="root", is_staff=True)
    yield user
    user.delete()


@pytest.fixture
def refusals() -> Iterator[list[str]]:
    seen: list[str] = []

    def note(sender: Any, error: Any, **kwargs: Any) -> None:
        seen.append(error.code)

    token_refused.connect(note)
    yield seen
    token_refused.disconnect(note)


def test_each_action_asks_for_its_own_scopes() -> None:
    reads, manages, groups = caller("users:read"), caller("users:manage"), caller("groups:read")
    asked = [
        ("get", "/users/", [200, 200, 403]),
        ("head", "/users/", [200, 200, 403]),
        ("post", "/users/", [403, 200, 403]),
        ("get", "/users/search/", [403, 200, 200]),
        ("get", "/users/audit/", [403, 403, 200]),
        ("get", "/by-method", [200, 200, 403]),
        ("head", "/by-method", [200, 200, 403]),
        ("post", "/by-method", [403, 200, 403]),
    ]
    for method, path_, statuses in asked:
        assert [api.generic(method.upper(), path_).status_code for api in (reads, manages, groups)] == statuses, path_
    assert reads.post("/users/").json()["scope"] == "users:manage"
    assert reads.get("/users/search/").json()["scope"] == "users:manage groups:read"


def test_a_refusal_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for api, path_, said in ((caller(), "/users/", "refused 401"), (caller("groups:read"), "/function", "refused 403")):
        caplog.clear()
        api.get(path_)
        assert [(record.name, record.getMessage()[:11]) for record in caplog.records] == [("tokenguard", said)]
    caplog.clear()
    caller("users:read").get("/own-options", HTTP_ACCEPT="nothing/known")  # Django reports errors that are not ours
    assert [record.name for record in caplog.records if record.levelno >= logging.WARNING] == ["django.request"]


@pytest.mark.parametrize("above", [0, 1, 2])
@pytest.mark.parametrize("url", ["/paged-within", "/paged-within-guarded"])
def test_a_cache_for_the_whole_site_gives_nothing_out(above: int, url: str) -> None:
    cache.clear()
    caches = [f"django.middleware.cache.{name}" for name in ("UpdateCacheMiddleware", "FetchFromCacheMiddleware")]
    with override_settings(MIDDLEWARE=[*caches[:above], *settings.MIDDLEWARE, *caches[above:]]):
        issued, first = get_issuer().issue("billing", "users:read", actor="tests"), caller()
        first.credentials(HTTP_AUTHORIZATION=f"Bearer {issued.text.reveal()}")
        for api, status in ((first, 200), (caller("groups:read"), 403), (caller(), 401), (wrong(), 401)):
            assert [api.get(url).status_code for _ in range(2)] == [status] * 2
        get_issuer().revoke(issued.token.id, actor="tests")
        assert first.get(url).status_code == 401


def test_what_is_asked_is_noted_as_used() -> None:
    issued = get_issuer().issue("billing", "users:manage groups:read", actor="tests")
    caller().get("/users/", headers={"Authorization": f"Bearer {issued.text.reveal()}"})
    _write_uses()
    record = get_store().find(issued.token.id)
    assert record is not None
    assert record.use is not None
    assert list(record.use.scopes) == ["users:read"]
    assert sum(get_store().use_by_day(issued.token.id).values()) == 1


def test_an_action_that_is_not_named_is_refused_to_everybody(caplog: pytest.LogCaptureFixture) -> None:
    _log_unnamed.cache_clear()
    every = caller("*")
    for api in (every, every, caller()):
        assert api.delete("/users/1/").status_code == 403
    # Not even if the permission is negated.
    view = with_permission(~HasScopes, required_scopes={"post": "users:manage"})
    with override_settings(ROOT_URLCONF=(path("turned", view),)):
        assert [api.get("/turned").status_code for api in (every, caller())] == [403, 403]
    (record, _) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == (
        "destroy is refused to everybody: it is not in required_scopes of tests.test_drf.Directory"
    )


def test_what_is_asked_of_all_does_not_open_an_action_that_is_not_named() -> None:
    for named in (
        {"required_scopes": {"post": "users:manage"}, "required_any_of": ("users:read", "groups:read")},
        {"required_scopes": "users:read", "required_any_of": {"post": ("users:manage", "groups:read")}},
        {"required_scopes": {"post": "users:manage", "get": ()}},
    ):
        view = with_permission(HasScopes, **named)
        with override_settings(ROOT_URLCONF=(path("here", view),)):
            assert caller("*").get("/here").status_code == 403


def test_what_is_asked_of_all_adds_to_what_an_action_asks() -> None:
    view = with_permission(HasScopes, required_scopes="users:read", required_any_of={"get": "groups:read"})
    with override_settings(ROOT_URLCONF=(path("here", view),)):
        scopes = ("users:read", "groups:read", "users:read groups:read")
        assert [caller(held).get("/here").status_code for held in scopes] == [403, 403, 200]


def test_what_the_framework_answers_itself_needs_a_valid_token() -> None:
    reads = caller("groups:read")
    assert reads.post("/read-only").status_code == 405
    for path_ in ("/users/", "/by-method", "/function"):
        assert reads.patch(path_).status_code == 405
        assert reads.options(path_).json()["name"]
        for api in (caller(), wrong()):
            assert api.patch(path_).status_code == 401
            assert api.options(path_).status_code == 401


def test_a_views_own_answer_to_options_is_guarded_as_the_rest() -> None:
    assert caller("users:manage").options("/own-options").json() == "secrets"
    assert caller("users:read").options("/own-options").status_code == 403
    assert caller().options("/own-options").status_code == 401


@pytest.mark.parametrize("path_", ["/own-options", "/own-words", "/users/", "/or-admin", "/no-token"])
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_a_preflight_gets_nothing(path_: str, accept: str, refusals: list[str]) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET", "Accept": accept}
    answer = caller().options(path_, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Content-Type" not in answer.headers
    assert refusals == []


@pytest.mark.parametrize(
    ("named", "complaint"),
    [
        ({}, "NothingNamed.required_scopes: name at least one scope"),
        ({"required_scopes": ()}, "NothingNamed.required_scopes: name at least one scope"),
        ({"required_scopes": {}}, "NothingNamed.required_scopes: name at least one scope"),
        ({"required_scopes": None}, "NothingNamed.required_scopes: name at least one scope"),
        ({"required_scopes": ""}, "NothingNamed.required_scopes: '' is not a scope"),
        ({"required_scopes": "a b"}, "NothingNamed.required_scopes: name each scope by itself"),
        ({"required_scopes": "users:*"}, "NothingNamed.required_scopes: a view cannot ask for the wildcard"),
        ({"required_scopes": 5}, "NothingNamed.required_scopes: 'int' object is not iterable"),
        ({"required_any_of": [5]}, "NothingNamed.required_scopes: a scope must be a string, not 5"),
        ({"required_scopes": "users:raed"}, "scope 'users:raed' is not in the catalogue"),
    ],
)
def test_a_view_that_asks_for_nothing_that_can_be_is_an_error(named: dict[str, Any], complaint: str) -> None:
    view = with_permission(HasScopes, __qualname__="NothingNamed", **named)
    with override_settings(ROOT_URLCONF=(path("here", view),)):
        for api in (caller(), caller("*")):
            with pytest.raises(ImproperlyConfigured, match=complaint.replace("*", r"\*")):
                api.get("/here")


@pytest.mark.parametrize("bases", [(ScopesRequiredMixin, APIView), (GenericViewSet, ScopesRequiredMixin)])
def test_the_mixins_are_not_for_views_of_the_framework(bases: tuple[type, ...]) -> None:
    with pytest.raises(TypeError, match=r"guard Mixed, a view of Django REST framework, with its permission HasScopes"):
        type("Mixed", bases, {})


@pytest.mark.parametrize("given", [{"authentication_classes": (TokenAuthentication,)}, {"permission": HasToken}])
def test_without_the_middleware_nothing_works(given: dict[str, Any]) -> None:
    permission = given.pop("permission", AllowAny)
    view = with_permission(permission, **{"authentication_classes": (), **given})
    with pytest.raises(ImproperlyConfigured, match=r"add \"tokenguard.django.TokenGuardMiddleware\" to MIDDLEWARE"):
        view(APIRequestFactory().get("/"))
    with pytest.raises(ImproperlyConfigured, match="to MIDDLEWARE"):
        with_permission(AllowAny, throttle_classes=(PerToken,), authentication_classes=())(APIRequestFactory().get("/"))


def test_a_test_with_a_request_of_its_own_goes_through_the_middleware(admin: User) -> None:
    request = APIRequestFactory().get("/")
    force_authenticate(request, admin)
    view = with_permission(HasToken | IsAdminUser)
    with pytest.raises(ImproperlyConfigured, match=r"a test .* must write TokenGuardMiddleware\(view\)\(request\)"):
        view(request)
    assert TokenGuardMiddleware(view)(request).status_code == 200


def test_the_user_is_anonymous_unless_a_subclass_knows_of_another() -> None:
    assert caller("users:read").get("/public").json() == {"auth": "billing", "user": str(AnonymousUser())}
    assert caller("users:read").get("/user").json() == {"auth": "billing", "user": "for billing"}
    assert wrong().get("/public").json() == {"auth": None, "user": str(AnonymousUser())}
    assert wrong().get("/user").status_code == 401


def test_tokens_from_one_address_are_throttled_apart() -> None:
    cache.clear()
    one, other = caller("users:read"), caller("users:read")
    assert [one.get("/throttled").status_code for _ in range(3)] == [200, 200, 429]
    assert [other.get("/throttled").status_code for _ in range(3)] == [200, 200, 429]
    assert {caller().get("/throttled").status_code for _ in range(4)} == {200}
    assert {wrong().get("/throttled").status_code for _ in range(4)} == {200}
    assert int(one.get("/throttled").headers["Retry-After"]) > 0
    cache.clear()


@pytest.mark.parametrize("scopes", ["users:read", "groups:read"])
def test_a_permission_with_only_any_of_does_not_ask_for_what_the_view_names(scopes: str) -> None:
    view = with_permission(
        type("Any", (HasScopes,), {"required_any_of": ("users:read", "groups:read")}), required_scopes="users:manage"
    )
    with override_settings(ROOT_URLCONF=(path("here", view),)):
        assert caller(scopes).get("/here").status_code == 200


def test_another_issuers_tokens_are_throttled_by_client(monkeypatch: pytest.MonkeyPatch) -> None:
    idps = [Idp("https://one.okta.com"), Idp("https://other.okta.com")]
    for idp in idps:
        idp.at = int(time.time())
    published = json.dumps(idps[0].jwks()).encode()
    monkeypatch.setattr("tokenguard.issuers.jwks.exchange", lambda *_, **__: (200, published))
    trusted = [{"issuer": idp.issuer, "audience": AUDIENCE, "jwks_url": f"{idp.issuer}/v1/keys"} for idp in idps]
    cache.clear()
    with override_settings(TOKENGUARD=settings.TOKENGUARD | {"ISSUERS": trusted}):
        for idp in idps:
            texts = [idp.token(jti=str(number)) for number in range(3)]
            headers = [{"Authorization": f"Bearer {text}"} for text in texts]
            assert [caller().get("/throttled", headers=each).status_code for each in headers] == [200, 200, 429]
    cache.clear()


def test_what_is_told_to_a_caller_is_kept_by_no_cache() -> None:
    cache.clear()
    text = get_issuer().issue("billing", "users:read", actor="tests").text.reveal()
    assert caller().get("/paged", headers={HEADERS[0]: text}).json()["auth"] == "billing"
    assert caller().get("/paged").json()["auth"] is None
    cache.clear()


def test_a_page_that_a_permission_alone_guards_is_kept_by_no_cache() -> None:
    cache.clear()
    issued, api = get_issuer().issue("billing", "users:read", actor="tests"), caller()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {issued.text.reveal()}")
    assert [api.get("/paged-alone").status_code for _ in range(2)] == [200] * 2
    get_issuer().revoke(issued.token.id, actor="tests")
    assert [each.get("/paged-alone").status_code for each in (api, caller())] == [401] * 2


def test_a_refusal_is_kept_by_no_cache_even_where_a_project_takes_it_for_a_page() -> None:
    cache.clear()

    def told(**limits: Any) -> Any:
        text = get_issuer().issue("billing", "users:read", actor="tests", **limits).text.reveal()
        return caller().get("/paged-always-200", headers={HEADERS[0]: text}).json()

    assert told(conditions=Conditions.parse(["10.0.0.0/8"])) == {"refused": "network_not_allowed"}
    assert told()["auth"] == "billing"


@pytest.mark.parametrize("path_", ["/or-admin", "/admin-or"])
def test_an_administrator_or_a_token(path_: str, admin: User, refusals: list[str]) -> None:
    session = caller()
    session.force_login(admin)
    answer = session.get(path_)
    assert (answer.status_code, answer.json()["user"]) == (200, "root")
    assert "WWW-Authenticate" not in answer.headers
    assert caller("users:read").get(path_).status_code == 200
    assert refusals == []
    for api, status, challenge in [
        (caller(), 401, 'Bearer realm="api"'),
        (wrong(), 401, 'Bearer realm="api", error="invalid_token"'),
        (caller("groups:read"), 403, None),
    ]:
        answer = api.get(path_)
        assert (answer.status_code, answer.headers.get("WWW-Authenticate")) == (status, challenge)


def test_combinations() -> None:
    reads, groups, both = caller("users:read"), caller("groups:read"), caller("users:read groups:read")
    expected = {
        "/either": [200, 200, 200, 401, 401],
        "/nested": [200, 200, 200, 401, 401],
        "/both": [403, 403, 200, 401, 401],
        "/no-token": [403, 403, 403, 200, 200],
        "/and-never": [403, 403, 403, 401, 401],
    }
    for path_, statuses in expected.items():
        assert [api.get(path_).status_code for api in (reads, groups, both, caller(), wrong())] == statuses, path_


@pytest.mark.parametrize("url", ["/or-admin", "/signed-in", "/signed-in-or-session"])
def test_what_is_neither_yes_nor_no_stays_that_whatever_the_permissions(
    monkeypatch: pytest.MonkeyPatch, refusals: list[str], url: str
) -> None:
    limited = caller("users:read", conditions=Conditions.parse(rate="1/day"))
    elsewhere = caller("users:read", conditions=Conditions.parse(["10.0.0.0/8"]))
    two = caller()
    two.credentials(HTTP_AUTHORIZATION="Bearer a, Bearer b")
    reads = caller("users:read")
    assert limited.get(url).status_code == 200
    answers = [api.get(url) for api in (limited, elsewhere, two)]
    assert [api.get("/open").status_code for api in (limited, elsewhere, two, wrong())] == [200] * 4
    assert [api.get(url).status_code for api in (wrong(), caller())] == [401, 401]
    refusals[:] = [code for code in refusals if code not in {"invalid_token", "missing_token"}]

    def down(self: DjangoStore, token_id: str, **options: Any) -> None:
        raise StoreUnavailable("it is down")

    monkeypatch.setattr(DjangoStore, "standing", down)
    with override_settings(TOKENGUARD=dict(settings.TOKENGUARD)):  # that the others go on to be served
        answers.append(reads.get(url))
    codes = ["rate_limited", "network_not_allowed", "invalid_request", "temporarily_unavailable"]
    assert [answer.status_code for answer in answers] == [429, 403, 400, 503]
    assert [answer.json()["code"] for answer in answers] == codes == refusals
    assert {answer.headers["Content-Type"] for answer in answers} == {"application/problem+json"}


@pytest.mark.parametrize("url", ["/or-admin", "/signed-in"])
def test_a_401_in_the_frameworks_words_is_a_refusal_too(
    url: str, refusals: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    client = get_issuer().register(f"left at {url}", "users:read", actor="tests")
    left = caller("users:read", client=client.id)
    get_issuer().disable(client.id, actor="tests")
    with caplog.at_level("INFO"):
        answers = [api.get(url) for api in (left, wrong(), caller())]
    assert [(answer.status_code, answer.headers["Cache-Control"]) for answer in answers] == [(401, "no-store")] * 3
    assert refusals == ["invalid_token", "invalid_token", "missing_token"]
    assert [record.name for record in caplog.records] == ["tokenguard"] * 3
    assert re.search(f"client disabled .* client {client.id}", caplog.messages[0])


@pytest.mark.parametrize("url", ["/by-user", "/by-auth"])
def test_a_view_may_look_at_the_user_to_tell_what_its_permissions_are(admin: User, url: str) -> None:
    elsewhere = caller("users:read", conditions=Conditions.parse(["10.0.0.0/8"]))
    signed_in = caller()
    signed_in.force_login(admin)
    answers = [api.get(url).status_code for api in (caller("users:read"), caller(), wrong(), signed_in, elsewhere)]
    assert answers == [200, 200, 200, 200, 200 if url == "/by-user" else 403]


def test_a_refusal_is_told_once(refusals: list[str]) -> None:
    assert caller("users:read").post("/users/", headers={"Accept": "text/html"}).status_code == 403
    assert caller("users:read").post("/users/").status_code == 403
    assert refusals == ["insufficient_scope"] * 2


@pytest.mark.parametrize("url", ["/by-method", "/permission-alone"])
def test_what_a_page_may_offer_refuses_nobody(url: str, refusals: list[str]) -> None:
    seen: list[Identity] = []

    def note(sender: Any, identity: Identity, **kwargs: Any) -> None:
        seen.append(identity)

    token_authenticated.connect(note)
    html = {"Accept": "text/html"}
    pages = {scopes: caller(scopes).get(url, headers=html) for scopes in ("users:read", "*")}
    token_authenticated.disconnect(note)
    for page in pages.values():
        assert (page.status_code, page.headers["Cache-Control"]) == (200, "private")
        assert "WWW-Authenticate" not in page.headers
    assert b'method="POST"' in pages["*"].content
    assert b'method="POST"' not in pages["users:read"].content
    assert refusals == []
    assert len(seen) == 2


def test_the_metadata_offers_what_the_caller_may_send(refusals: list[str]) -> None:
    assert "POST" in caller("users:manage").options("/users/").json()["actions"]
    assert "actions" not in caller("users:read").options("/users/").json()
    assert refusals == []


def test_a_project_may_word_refusals_itself_but_not_take_their_headers(refusals: list[str]) -> None:
    answer = wrong().get("/own-words")
    assert (answer.status_code, answer.json()) == (401, {"oops": "invalid_token", "codes": "invalid_token"})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert refusals == ["invalid_token"]


class Changes(View):
    permission_classes: Any = (HasToken | IsAdminUser,)

    def post(self, request: Request) -> Response:
        return Response({"auth": getattr(request.auth, "client_name", None), "user": str(request.user)})


def test_an_attackers_token_does_not_excuse_a_victims_cookie(admin: User) -> None:
    urls = (path("changes", Changes.as_view()), path("session", with_permission(IsAdminUser, post=Changes.post)))
    with override_settings(ROOT_URLCONF=urls):
        victim = caller()
        victim.force_login(admin)
        # Without a token or with a bad one, the session counts, and requires the CSRF token.
        for headers in ({}, {"Authorization": "Bearer x"}, {"X-API-Key": "x"}):
            for path_ in ("/changes", "/session"):
                answer = victim.post(path_, headers=headers)
                assert answer.status_code == 403
                assert "CSRF" in answer.content.decode()
        assert victim.post("/session", headers={"Authorization": "Bearer a b"}).status_code == 400
        assert "CSRF" in victim.post("/changes", {"access_token": "x"}).content.decode()
        # With a valid token the request is the token's: the cookie does not count at all.
        text = get_issuer().issue("partner", "*", actor="tests").text.reveal()
        bearer = {"Authorization": f"Bearer {text}"}
        assert victim.post("/changes", headers=bearer).json() == {"auth": "partner", "user": str(AnonymousUser())}
        assert victim.post("/session", headers=bearer).status_code == 403


def generated(version: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    out = io.StringIO()
    with patched_settings({"OAS_VERSION": version}):
        call_command("spectacular", validate=True, fail_on_warn=True, stdout=out)
    assert capsys.readouterr().err == ""
    found: dict[str, Any] = yaml.safe_load(out.getvalue())
    return found


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_the_scheme_is_described(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert generated(version, capsys)["components"]["securitySchemes"]["apiToken"] == {
        "type": "http",
        "scheme": "bearer",
        "description": "An API token, as `Authorization: Bearer`, or alone as `X-API-Key`.\n\nScopes:\n\n"
        "- `users:read`: Read users\n- `users:manage`: Change users\n- `groups:read`: Read groups",
    }


def test_a_schema_is_made_without_a_key_and_without_a_line_in_the_log_for_each_operation(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    options = {"SCOPES": CATALOG, "USING": "default", "READ_USING": "default"}
    with override_settings(DEBUG=True, SECRET_KEY="of this test alone", TOKENGUARD=options):
        assert "`users:read`" in str(generated("3.1.0", capsys)["components"])
    assert "SECRET_KEY" not in caplog.text


def test_each_operation_names_its_scopes(capsys: pytest.CaptureFixture[str]) -> None:
    paths = generated("3.1.0", capsys)["paths"]
    expected = {
        ("/users/", "get"): [["users:read"]],
        ("/users/", "post"): [["users:manage"]],
        ("/users/search/", "get"): [["users:manage"], ["groups:read"]],
        ("/users/audit/", "get"): [["groups:read"]],
        ("/by-method", "get"): [["users:read"]],
        ("/by-method", "post"): [["users:manage"]],
        ("/or-admin", "get"): [["users:read"]],
        ("/either", "get"): [["users:read"], ["groups:read"]],
        ("/both", "get"): [["users:read", "groups:read"]],
        ("/nested", "get"): [["users:read"], ["groups:read"]],
        ("/and-never", "get"): [[]],
        ("/no-token", "get"): [[]],
        ("/user", "get"): [[]],
        ("/public", "get"): [[]],
    }
    for (url, method), scopes in expected.items():
        security = [item["apiToken"] for item in paths[url][method]["security"] if "apiToken" in item]
        assert security == scopes, url


def test_before_3_1_operations_cannot_name_scopes(capsys: pytest.CaptureFixture[str]) -> None:
    for url, methods in generated("3.0.3", capsys)["paths"].items():
        for operation in methods.values():
            assert operation["security"][0] == {"apiToken": []}, url


def test_a_schema_that_is_not_public_has_what_its_reader_may_call(refusals: list[str]) -> None:
    answers = [api.get("/schema") for api in (caller("users:read"), caller("*"), caller())]
    assert [answer.status_code for answer in answers] == [200] * 3
    reads, every, nobody = (
        {(url, method) for url, methods in yaml.safe_load(answer.content)["paths"].items() for method in methods}
        for answer in answers
    )
    assert ("/users/", "get") in reads
    assert ("/users/", "post") in every - reads
    assert ("/users/{id}/", "delete") not in every
    assert {url for url, _ in nobody} == {"/no-token", "/public", "/throttled"}
    assert refusals == []


@pytest.mark.parametrize("first", ["tokenguard.django.rest_framework", "rest_framework.views"])
def test_the_settings_may_name_the_classes(first: str) -> None:
    code = f"""
import django
from django.conf import settings
module = "tokenguard.django.rest_framework."
settings.configure(REST_FRAMEWORK={{
    "DEFAULT_AUTHENTICATION_CLASSES": [module + "TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": [module + "HasToken"],
    "DEFAULT_THROTTLE_CLASSES": [module + "TokenRateThrottle"],
    "UNAUTHENTICATED_USER": None,
}}, INSTALLED_APPS=["rest_framework", "tokenguard.django"])
django.setup()
import {first}
from rest_framework.views import APIView
from tokenguard import Identity, Scopes
authentication = APIView.authentication_classes[0]
assert APIView.permission_classes[0].__name__ == "HasToken"
assert authentication().get_user(Identity("c", "billing", "t", Scopes())) is None
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
