"""What ``manage.py check`` reports about wrong settings and views: each check by its number."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from django import conf
from django.core.checks import ERROR, CheckMessage, Tags, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.middleware.cache import UpdateCacheMiddleware
from django.test import override_settings
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from tokenguard import Requirement, config
from tokenguard.django import ScopesRequiredMixin, TokenGuardMiddleware, protect, require_scopes, require_token
from tokenguard.django.store import DjangoStore

from .conftest import KEY, OTHER_KEY
from .services.common import CATALOG

OURS = "tokenguard.django.TokenGuardMiddleware"
GOOD = {"SCOPES": CATALOG, "SIGNING_KEY": KEY}
pytestmark = pytest.mark.usefixtures("without_environment")


def said(*, deploy: bool = False, databases: Sequence[str] | None = None, **settings: Any) -> list[CheckMessage]:
    """The messages of our checks with these settings, all other settings being right."""
    production = {"SECURE_SSL_REDIRECT": True, "SECRET_KEY": "s" * 60}
    good = {"TOKENGUARD": GOOD, "MIDDLEWARE": ["django.middleware.security.SecurityMiddleware", OURS]}
    with override_settings(**{**production, **good, **settings}):
        # With the tag of databases alone, Django 6.1 checks all of them.
        tags = [Tags.security, Tags.compatibility, *([Tags.database] if databases else [])]
        found = run_checks(tags=tags, include_deployment_checks=deploy, databases=databases)
    ours = [message for message in found if str(message.id).startswith("tokenguard.")]
    assert all(message.hint for message in ours)
    return ours


def ids(**settings: Any) -> list[str]:
    return [str(message.id).removeprefix("tokenguard.") for message in said(**settings)]


def options(**given: Any) -> dict[str, Any]:
    return {"TOKENGUARD": {**GOOD, **given}}


def views(*guarded: Callable[..., Any]) -> dict[str, Any]:
    """Settings with a URLconf that includes another one, which has these views."""
    urls = ModuleType("urls")
    below = [path(f"{number}/", view) for number, view in enumerate(guarded)]
    urls.urlpatterns = [path("api/", include((below, "api")))]  # type: ignore[attr-defined]
    return {"ROOT_URLCONF": urls}


@contextmanager
def another_database(**settings: Any) -> Iterator[str]:
    connections.databases["other"] = connections.configure_settings({"default": {}, "other": settings})["other"]
    try:
        yield "other"
    finally:
        del connections.databases["other"]
        if hasattr(connections._connections, "other"):
            del connections["other"]


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def test_nothing_is_said_of_good_settings_not_even_before_a_deployment() -> None:
    assert said() == said(deploy=True) == []


@pytest.mark.parametrize("wrong", [None, "SCOPES", ["SCOPES"], 7, {7: "x"}, {b"SCOPES": {}}])
def test_e001_the_setting_is_a_dictionary_of_options(wrong: Any) -> None:
    assert ids(TOKENGUARD=wrong, deploy=True) == ["E001"]


def test_e001_says_what_the_setting_is() -> None:
    assert said(TOKENGUARD=[])[0].msg == "the setting TOKENGUARD must be a dictionary of options, not list"
    assert (
        said(TOKENGUARD={7: 1})[0].msg
        == "the setting TOKENGUARD must be a dictionary with names of options as keys, not 7"
    )


def test_e002_the_database_is_not_given_by_a_url() -> None:
    assert ids(**options(DATABASE_URL="sqlite:///tokens.db")) == ["E002"]
    assert ids(**options(READ_URL="sqlite:///tokens.db")) == ids(**options(DATABASE_URL=7)) == ["E002"]


def test_a_database_url_in_the_environment_may_be_meant_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENGUARD_DATABASE_URL", "sqlite:///tokens.db")
    assert ids() == []


def test_e003_every_wrong_option_is_told_and_not_only_the_first() -> None:
    wrong = said(**options(REALM='"', PROXIES="many", HEADERS=["X_Key"], PREFIX="My", SCOPE={}, RATE_LIMIT_URL="x"))
    assert [message.id for message in wrong] == ["tokenguard.E003"] * 6
    assert [message.msg for message in wrong][1] == "TOKENGUARD[\"PROXIES\"] must be an integer, not 'many'"
    assert wrong[4].msg == 'unknown option TOKENGUARD["SCOPE"]; did you mean TOKENGUARD["SCOPES"]?'


def test_e003_issuers_are_looked_at_with_the_scopes_that_theirs_stand_for() -> None:
    trusted = {"issuer": "https://idp.example/a", "audience": "api://directory"}
    assert ids(**options(ISSUERS=[trusted])) == []
    (wrong,) = said(**options(ISSUERS=[trusted | {"scopes": {"a": "users:write"}}]))
    assert wrong.msg.startswith('TOKENGUARD["ISSUERS"]: https://idp.example/a: a scope maps to')
    (wrong,) = said(**options(ISSUERS=[trusted], SCOPES=7))
    assert wrong.msg.startswith('TOKENGUARD["SCOPES"]')


def test_e003_tells_where_the_wrong_value_is_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENGUARD_PROXIES", "many")
    (wrong,) = said()
    assert wrong.msg == "TOKENGUARD_PROXIES must be an integer, not 'many'"
    assert wrong.hint == "It is the environment variable TOKENGUARD_PROXIES."
    assert said(**options(PROXIES="few"))[0].hint == "It is in the setting TOKENGUARD."
    assert said(**options(PROXIES=1)) == []


def test_e003_where_all_options_are_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENGUARD_PROXIES", "many")
    with override_settings():
        del conf.settings.TOKENGUARD
        (wrong,) = [message for message in run_checks(tags=[Tags.security]) if message.id == "tokenguard.E003"]
        with pytest.raises(ImproperlyConfigured, match=wrong.msg):
            TokenGuardMiddleware(view)
    assert wrong.msg == "TOKENGUARD_PROXIES must be an integer, not 'many'"
    assert wrong.hint == "It is the environment variable TOKENGUARD_PROXIES."


def test_e003_a_short_key_is_not_quoted() -> None:
    (wrong,) = said(**options(SIGNING_KEY="hunter2"))
    assert wrong.msg.startswith('TOKENGUARD["SIGNING_KEY"]: the signing key has 7 bytes and needs at least 32')
    assert "hunter2" not in str(wrong)


STRANGE: list[Any] = [0, -1, 1.5, True, b"x", "", " ", "é", "\ud800", "x" * 300, object(), [1], [[]], {1: 2}, {"a": 1}]
STRANGE += [{"a": {"implies": 7}}, {"a": {"implies": ["b"]}}, 10**30, float("nan"), {"a b": ""}, "{}", "[]", ["é"]]


@pytest.mark.parametrize("word", [*config._READERS, "USING", "READ_USING", "NONSENSE", ""])
def test_no_value_of_an_option_breaks_the_checks(word: str) -> None:
    for value in STRANGE:
        found = set(ids(**options(**{word: value}), deploy=True))
        assert found <= {"E002", "E003", "E005", "E009", "W002"}, (value, found)
        assert found or word in config._READERS


def test_e004_without_a_signing_key() -> None:
    (missing,) = said(TOKENGUARD={"SCOPES": CATALOG})
    assert missing.id == "tokenguard.E004"
    assert "manage.py tokenguard genkey" in str(missing.hint)
    assert ids(TOKENGUARD={"SCOPES": CATALOG, "OLD_SIGNING_KEYS": [KEY]}) == ["E004"]
    assert ids(TOKENGUARD={"SCOPES": CATALOG}, SECRET_KEY="", DEBUG=True) == ["E004"]


def test_e004_a_key_from_the_environment_or_while_debugging_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ids(TOKENGUARD={"SCOPES": CATALOG}, DEBUG=True) == []
    assert ids(TOKENGUARD={"SCOPES": CATALOG, "OLD_SIGNING_KEYS": [KEY]}, DEBUG=True) == ["E004"]
    monkeypatch.setenv("TOKENGUARD_SIGNING_KEY", KEY)
    assert ids(TOKENGUARD={"SCOPES": CATALOG}) == []


def test_e005_no_such_database() -> None:
    (wrong,) = said(**options(USING="tokens"))
    assert wrong.id == "tokenguard.E005"
    assert wrong.msg == "TOKENGUARD[\"USING\"] must name one of DATABASES (default), not 'tokens'"


class Elsewhere:
    """A database router."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "elsewhere"


def test_e005_a_router_that_leads_nowhere() -> None:
    (wrong,) = said(DATABASE_ROUTERS=[Elsewhere()], deploy=True)
    assert wrong.id == "tokenguard.E005"
    assert wrong.msg == "the database routers keep tokens in 'elsewhere', which is not in DATABASES"


def test_e005_a_database_whose_driver_is_missing() -> None:
    with another_database(ENGINE="nowhere.to.be.found") as other:
        (wrong,) = said(**options(USING=other), deploy=True)
    assert wrong.id == "tokenguard.E005"
    assert "'nowhere.to.be.found' isn't an available database backend" in wrong.msg


def test_e006_a_database_that_is_neither_sqlite_nor_postgresql() -> None:
    with another_database(ENGINE="django.db.backends.dummy") as other:
        assert ids(**options(USING=other), deploy=True, databases=[other]) == ["E006"]


def test_e009_no_such_replica() -> None:
    (wrong,) = said(**options(READ_USING="replica"))
    assert wrong.id == "tokenguard.E009"
    assert wrong.msg == "TOKENGUARD[\"READ_USING\"] must name one of DATABASES (default), not 'replica'"
    assert ids(**options(READ_USING="default")) == []


def test_e009_a_replica_of_another_kind_or_without_a_driver() -> None:
    for engine in ("django.db.backends.dummy", "nowhere.to.be.found"):
        with another_database(ENGINE=engine) as other:
            assert ids(**options(READ_USING=other), deploy=True) == ["E009"]


def test_e007_the_middleware_is_missing() -> None:
    assert ids(MIDDLEWARE=["django.middleware.security.SecurityMiddleware"]) == ["E007"]
    assert ids(MIDDLEWARE=["no.such.Middleware", "os.path.join"]) == ["E007"]
    assert ids(MIDDLEWARE=["no.such.Middleware", OURS]) == []


class OwnMiddleware(TokenGuardMiddleware):
    """A project may subclass the middleware."""


def test_e007_a_subclass_will_do_and_either_name() -> None:
    assert ids(MIDDLEWARE=[f"{__name__}.OwnMiddleware"]) == []
    assert ids(MIDDLEWARE=["tokenguard.django.middleware.TokenGuardMiddleware"]) == []


@pytest.mark.parametrize("name", ["tokenguard.django", "tokenguard.django.apps.TokenGuardConfig"])
def test_e012_tables_in_the_schema_of_each_tenant(name: str) -> None:
    shared, of_tenants = {"APPS": [name]}, {"APPS": ["shop", name]}
    for settings in ({"TENANT_APPS": ["shop", name]}, {"TENANT_TYPES": {"public": shared, "shops": of_tenants}}):
        (wrong,) = said(**settings)
        assert wrong.id == "tokenguard.E012"
        assert ids(**settings, TENANT_DB_ALIAS="of_tenants") == []
    assert ids(SHARED_APPS=[name], TENANT_APPS=["shop"]) == []
    assert ids(TENANT_TYPES={"public": shared, "shops": {"APPS": ["shop"]}}) == []
    assert ids(TENANT_TYPES={"common": shared}, PUBLIC_SCHEMA_NAME="common") == []
    assert ids(TENANT_TYPES=["small", "large"]) == ids(TENANT_TYPES={"small": {}}) == []
    assert ids(TENANT_APPS=None) == ids(TENANT_APPS=[7]) == ids(TENANT_TYPES={"small": {"APPS": [None]}}) == []


@pytest.mark.parametrize("word", [*config.WORDS, "USING", "READ_USING"])
def test_e011_an_option_as_a_setting_of_its_own(word: str) -> None:
    (wrong,) = said(**{f"TOKENGUARD_{word}": OTHER_KEY})
    assert wrong.id == "tokenguard.E011"
    assert wrong.msg.startswith(f"The setting TOKENGUARD_{word} is not read")
    assert wrong.hint == f'Write it as TOKENGUARD["{word}"].' or word in {"DATABASE_URL", "READ_URL"}
    assert OTHER_KEY not in str(wrong)


def test_e011_a_setting_that_goes_into_the_dictionary_or_is_the_projects_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ids(**options(PROXIES=2), TOKENGUARD_PROXIES=2, TOKENGUARD_SIGNING_KEY=KEY) == []
    assert ids(TOKENGUARD_REPORTS=True) == []
    monkeypatch.setenv("TOKENGUARD_REALM", "directory")
    assert ids(TOKENGUARD_REALM="directory") == []


def test_w001_a_cache_below_the_middleware() -> None:
    cache = f"{UpdateCacheMiddleware.__module__}.UpdateCacheMiddleware"
    fetch = f"{UpdateCacheMiddleware.__module__}.FetchFromCacheMiddleware"
    assert ids(MIDDLEWARE=[cache, OURS, fetch]) == []
    assert ids(MIDDLEWARE=[OURS, cache, fetch]) == ["W001"]


def test_w002_no_catalogue() -> None:
    assert ids(TOKENGUARD={"SIGNING_KEY": KEY}) == ["W002"]
    assert ids(**options(SCOPES="{}")) == ["W002"]


class Method(View):
    @method_decorator(require_scopes("users:wirte"))
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


@method_decorator(require_scopes("users:wirte"), name="dispatch")
class Whole(View):
    pass


class Mixed(ScopesRequiredMixin, View):
    required_any_of = ("users:read", "users:wirte")


async def async_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@pytest.mark.parametrize(
    "misspelled",
    [
        require_scopes("users:wirte")(view),
        require_scopes("users:wirte")(async_view),
        require_scopes("users:read")(require_scopes(any_of=("users:wirte",))(view)),
        csrf_exempt(require_scopes("users:wirte")(view)),
        csrf_exempt(Method.as_view()),
        Whole.as_view(),
        Mixed.as_view(),
        protect([path("", view)], "users:wirte")[0].callback,  # type: ignore[union-attr]
    ],
)
def test_e008_a_scope_that_nobody_can_have(misspelled: Callable[..., Any]) -> None:
    (wrong,) = said(**views(misspelled, view, require_token(view)))
    assert wrong.id == "tokenguard.E008"
    assert "'users:wirte'" in wrong.msg
    assert f"{__name__}." in wrong.msg
    assert "users:read" in str(wrong.hint)


def test_e008_without_a_catalogue_every_scope_is_known() -> None:
    assert ids(TOKENGUARD={"SIGNING_KEY": KEY}, **views(Whole.as_view())) == ["W002"]


def test_e008_views_of_rest_framework() -> None:
    from rest_framework.permissions import BasePermission, IsAdminUser
    from rest_framework.views import APIView

    from tokenguard.django import rest_framework as ours

    class Base(APIView):
        permission_classes = (IsAdminUser | ours.HasScopes,)

    class Others(BasePermission):  # type: ignore[misc]
        def has_permission(self, request: Any, view: Any) -> bool:
            return bool(view.required_scopes)

    class ByMethod(Base):
        required_scopes: ClassVar = {"get": "users:read", "post": ("users:read", "users:wirte")}

    class AnyOf(Base):
        required_any_of = ("users:wirte",)

    class Own(ours.HasScopes):  # type: ignore[name-defined, misc]
        required_scopes = "users:wirte"

    class ByPermission(APIView):
        permission_classes = (Own,)
        required_scopes = ("of:somebody:else",)

    class SomebodyElses(APIView):
        permission_classes = (Others,)
        required_scopes = ("of:somebody:else",)

    class Right(Base):
        required_scopes = "users:read"

    assert ids(**views(Right.as_view())) == []
    by_argument = Right.as_view(required_scopes="users:wirte")
    for misspelled in (ByMethod.as_view(), AnyOf.as_view(), ByPermission.as_view(), by_argument):
        (wrong,) = said(**views(misspelled, SomebodyElses.as_view()))
        assert wrong.id == "tokenguard.E008"
        assert "'users:wirte'" in wrong.msg


@pytest.mark.parametrize("named", [{}, {"required_scopes": []}, {"required_scopes": {}}, {"required_scopes": None}])
def test_w010_a_view_that_asks_for_nothing_that_can_be(named: dict[str, Any]) -> None:
    from rest_framework.views import APIView

    from tokenguard.django import rest_framework as ours

    class ByItself(ours.HasScopes):  # type: ignore[name-defined, misc]
        def get_requirement(self, view: Any, method: str) -> Requirement:
            return Requirement.scopes("users:read")

    mixed: Any = type(
        "Mixed", (APIView,), {"permission_classes": (ours.HasToken | ours.HasScopes,), "required_any_of": (), **named}
    )
    (wrong,) = said(**views(mixed.as_view()))
    assert wrong.id == "tokenguard.W010"
    assert "Mixed has HasScopes among its permissions but names no scope" in wrong.msg
    assert ids(**views(mixed.as_view(required_any_of="users:read"))) == []
    assert ids(**views(mixed.as_view(permission_classes=[ByItself]))) == []

    class Later(mixed):
        def get_permissions(self) -> list[Any]:
            return []

    assert ids(**views(Later.as_view())) == []


def test_w011_an_action_that_a_mapping_leaves_out() -> None:
    from rest_framework.permissions import IsAdminUser
    from rest_framework.routers import SimpleRouter
    from rest_framework.views import APIView
    from rest_framework.viewsets import ModelViewSet

    from tokenguard.django import rest_framework as ours

    def answer(self: Any, request: Any) -> None: ...

    class Own(ours.HasScopes):  # type: ignore[name-defined, misc]
        required_scopes: ClassVar = {"get": "users:read", "options": "users:read"}

    def view(**members: Any) -> Any:
        given = {"permission_classes": (ours.HasScopes | IsAdminUser,), "get": answer, "post": answer, **members}
        return type("Mixed", (APIView,), given).as_view()  # type: ignore[attr-defined]

    scope, some = "users:read", {"get": "users:read"}
    for left in (
        view(required_scopes=some),
        view(permission_classes=(Own,)),
        view(required_scopes={**some, "post": ()}),
    ):
        (wrong,) = said(**views(left))
        assert wrong.id == "tokenguard.W011"
        assert wrong.msg == f"No token will do for post of the view {__name__}.Mixed: no mapping names scopes for that."
    for right in (
        view(required_scopes=some, http_method_names=["get", "head", "options"]),
        view(required_scopes=some, required_any_of={"post": scope}),
        view(required_scopes=some, get_permissions=lambda self: []),
        view(required_scopes=some, permission_classes=(IsAdminUser,), initial=answer),
        view(required_scopes=scope, required_any_of={}),
    ):
        assert ids(**views(right)) == []

    class Users(ModelViewSet):  # type: ignore[misc]
        permission_classes = (ours.HasScopes,)
        required_scopes: ClassVar = {"list": scope, "create": scope, "retrieve": scope}

    router = SimpleRouter()
    router.register("users", Users, basename="user")
    (wrong,) = said(ROOT_URLCONF=tuple(router.urls))
    assert wrong.msg.startswith("No token will do for update, partial_update, destroy of the view ")


def test_e010_scopes_that_nothing_asks_for() -> None:
    from rest_framework.permissions import AllowAny
    from rest_framework.views import APIView
    from rest_framework.viewsets import ViewSet

    from tokenguard.django import TokenRequiredMixin
    from tokenguard.django import rest_framework as ours

    class ByToken(APIView):
        permission_classes = (ours.HasToken,)
        required_scopes = "users:read"

    class ToAll(APIView):
        permission_classes = (AllowAny,)
        required_any_of: ClassVar = {"get": "users:read"}

    class Users(ViewSet):
        permission_classes = (ours.HasToken,)
        required_scopes = ()

        def list(self, request: Any) -> None:
            """Any token will do."""

    listing = Users.as_view({"get": "list"})
    # As a router calls it for @action(required_scopes="users:read").
    by_action = Users.as_view({"get": "list"}, required_scopes="users:read")

    class Plain(View):
        required_scopes = "users:read"

    @method_decorator(csrf_exempt, name="dispatch")
    class ByMixin(TokenRequiredMixin, View):
        required_scopes = ("users:read",)

    in_part = protect([path("", ByToken.as_view())], "groups:read")[0].callback  # which asks for another scope

    for vain in (ByToken.as_view(), ToAll.as_view(), by_action, Plain.as_view(), ByMixin.as_view(), in_part):
        (wrong,) = said(**views(vain, listing))
        assert (wrong.id, wrong.level) == ("tokenguard.E010", ERROR)
        assert "names scopes that nothing requires" in wrong.msg
        assert ("HasScopes" in str(wrong.hint)) == hasattr(vain, "cls")


def test_e010_is_not_said_where_something_may_ask() -> None:
    from rest_framework.permissions import AllowAny, BasePermission
    from rest_framework.views import APIView

    from tokenguard.django import rest_framework as ours

    class TokenHasScope(BasePermission):  # type: ignore[misc]
        def has_permission(self, request: Any, view: Any) -> bool:
            return bool(view.required_scopes)

    class Scoped(APIView):
        permission_classes = (ours.HasScopes,)
        required_scopes = "users:read"

    class Opened(Scoped):
        permission_classes = (AllowAny,)

    class Another(APIView):
        permission_classes = (TokenHasScope,)
        required_scopes = ("read",)

    class Later(APIView):
        required_scopes = "users:read"

        def get_permissions(self) -> list[Any]:
            return [ours.HasScopes()]

    class ByItself(View):
        required_scopes = "users:read"

        def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            return require_scopes(self.required_scopes)(super().dispatch)(request)

    class ByMethod(Parts):
        required_scopes = "users:read"

    class ByMixin(ScopesRequiredMixin, View):
        required_scopes: ClassVar = {"get": "users:read", "purge": "users:manage"}  # a method by another middleware
        get = Parts.get

    asked = [Scoped, Opened, Another, Later, ByItself, ByMethod, Mixed, ByMixin]
    catalog = {"SCOPES": {**CATALOG, "users:wirte": ""}}
    by_action = Scoped.as_view(permission_classes=[AllowAny])
    assert ids(**options(**catalog), **views(*(kind.as_view() for kind in asked), by_action)) == []


@pytest.mark.parametrize("named", [5, {"get": 5}, b"users:read", property(lambda view: "users:read")])
def test_what_a_view_asks_for_need_not_be_known_yet(named: Any) -> None:
    from rest_framework.views import APIView

    from tokenguard.django import rest_framework as ours

    view: Any = type("Unclear", (APIView,), {"permission_classes": (ours.HasScopes,), "required_scopes": named})
    assert ids(**views(view.as_view())) == []


def test_e008_a_project_may_have_no_urls() -> None:
    assert ids(ROOT_URLCONF=None) == []


def test_e008_one_view_at_two_paths_is_told_once() -> None:
    assert ids(**views(Whole.as_view(), Whole.as_view())) == ["E008"]


class Parts(View):
    @method_decorator(require_scopes("users:read"))
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    @method_decorator(require_scopes("users:manage"))
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


@method_decorator(require_token, name="dispatch")
class WholeToo(Parts):
    pass


class Reading(View):
    get = Parts.get


def test_w003_methods_that_are_guarded_and_checked_for_csrf() -> None:
    csrf = {"MIDDLEWARE": [OURS, "django.middleware.csrf.CsrfViewMiddleware"]}
    (wrong,) = said(**csrf, **views(Parts.as_view()))
    assert wrong.id == "tokenguard.W003"
    assert "Parts requires a token in post, but" in wrong.msg
    assert ids(**csrf, **views(WholeToo.as_view(), Reading.as_view(), csrf_exempt(Parts.as_view()))) == []
    assert ids(**views(Parts.as_view())) == []


def test_w004_one_key_for_two_things() -> None:
    assert ids(SECRET_KEY=KEY, deploy=True) == ["W004"]
    assert ids(SECRET_KEY_FALLBACKS=[KEY], deploy=True) == ["W004"]
    assert ids(SECRET_KEY=OTHER_KEY.encode(), **options(OLD_SIGNING_KEYS=[OTHER_KEY]), deploy=True) == ["W004"]
    assert ids(SECRET_KEY=KEY) == ids(SECRET_KEY="", deploy=True) == []


def test_w005_no_way_to_https() -> None:
    assert ids(SECURE_SSL_REDIRECT=False, deploy=True) == ["W005"]
    assert ids(MIDDLEWARE=[OURS], deploy=True) == ["W005"]
    assert ids(SECURE_SSL_REDIRECT=False) == []


@pytest.mark.parametrize(
    "proxied",
    [
        {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")},
        {"USE_X_FORWARDED_HOST": True},
        {"USE_X_FORWARDED_PORT": True},
    ],
)
def test_w006_the_proxys_address_for_everybodys(proxied: dict[str, Any]) -> None:
    (wrong,) = said(**proxied, deploy=True)
    assert wrong.id == "tokenguard.W006"
    assert next(iter(proxied)) in wrong.msg
    assert ids(**proxied, **options(PROXIES=1), deploy=True) == ids(**proxied) == []


def test_w007_sqlite_transactions_that_begin_without_the_lock() -> None:
    with another_database(ENGINE="django.db.backends.sqlite3", NAME="/nowhere") as other:
        assert ids(**options(USING=other), deploy=True) == ["W007"]
        assert ids(**options(USING=other)) == []
    for mode in ("immediate", "EXCLUSIVE"):
        sound = {"ENGINE": "django.db.backends.sqlite3", "NAME": "/nowhere", "OPTIONS": {"transaction_mode": mode}}
        with another_database(**sound) as other:
            assert ids(**options(USING=other), deploy=True) == []
    with another_database(ENGINE="django.db.backends.postgresql", NAME="nowhere") as other:
        assert ids(**options(USING=other), deploy=True) == []


def test_w008_the_tables_are_missing(alias: str) -> None:
    (wrong,) = said(**options(USING=alias), databases=[alias])
    assert wrong.id == "tokenguard.W008"
    assert wrong.msg.endswith(f': run "manage.py migrate tokenguard --database {alias}".')
    assert ids(**options(USING=alias)) == ids(databases=["default"], **options(USING=alias)) == []
    DjangoStore(alias).upgrade()
    assert ids(**options(USING=alias), databases=[alias]) == []


def test_w008_tables_of_another_version_can_be_read(alias: str) -> None:
    DjangoStore(alias).upgrade()
    with connections[alias].cursor() as cursor:
        cursor.execute("UPDATE tokenguard_revision SET schema_version = 99")
    (wrong,) = said(**options(USING=alias), databases=[alias])
    assert wrong.msg.startswith("Tokens can be checked, but neither issued nor revoked: the database has schema")
    assert wrong.hint is not None
    assert "503" not in wrong.hint


def test_w008_the_database_cannot_be_reached() -> None:
    assert ids(databases=["default"]) == ["W008"]


class Project:
    """A new project, with these lines at the end of its settings."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        self._run("-m", "django", "startproject", "mysite", ".")
        with (folder / "mysite" / "settings.py").open("a") as file:
            file.write(settings)

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run("manage.py", *arguments)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO_")}
        environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
        return subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=environ, text=True, capture_output=True
        )


ADDED = f"""
INSTALLED_APPS += ["tokenguard.django"]
MIDDLEWARE += ["{OURS}"]
TOKENGUARD = {{"SCOPES": {{"users:read": "Read"}}}}
"""


@pytest.mark.usefixtures("children_not_measured")
def test_help_lists_the_commands(tmp_path: Path) -> None:
    project = Project(tmp_path, ADDED)
    asked = project.manage("help", "tokenguard")
    assert asked.returncode == 0
    assert asked.stdout == project.manage("tokenguard", "--help").stdout
    assert asked.stdout.startswith("Usage: manage.py tokenguard")


@pytest.mark.usefixtures("children_not_measured")
def test_the_options_of_every_command_are_taken(tmp_path: Path) -> None:
    project = Project(tmp_path, ADDED)
    plain = project.manage("tokenguard", "pattern")
    options = ["--traceback", "--no-color", "--force-color", "--skip-checks", "-v", "2", "--verbosity=0", "-v3"]
    for arguments in (["pattern", *options], [*options, "pattern"]):
        done = project.manage("tokenguard", *arguments, "--settings", "mysite.settings")
        assert (done.returncode, done.stdout, done.stderr) == (0, plain.stdout, plain.stderr)
    for wrong, said in (("-v9", "argument -v/--verbosity: invalid choice: 9"), ("--trace", "No such option")):
        refused = project.manage("tokenguard", "pattern", wrong)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert said in refused.stderr
        assert "manage.py tokenguard" in refused.stderr
    assert project.manage("tokenguard", "genkey", "--", "--traceback").returncode == 2


@pytest.mark.usefixtures("children_not_measured")
def test_a_new_project_is_set_up_without_a_word_of_complaint(tmp_path: Path) -> None:
    project = Project(tmp_path, ADDED)
    for command in ("makemigrations", "migrate", "check"):
        done = project.manage(command)
        assert done.returncode == 0
        assert done.stderr == ""
    assert project.manage("check", "--database", "default").stderr == ""


@pytest.mark.usefixtures("children_not_measured")
def test_a_production_without_a_key_is_told_how_to_get_one(tmp_path: Path) -> None:
    project = Project(tmp_path, f"{ADDED}\nDEBUG = False\n")
    refused = project.manage("migrate")
    assert refused.returncode == 1
    assert "(tokenguard.E004) There is no signing key" in refused.stderr
    key = project.manage("tokenguard", "genkey")
    assert (key.returncode, key.stderr) == (0, "")
    with (tmp_path / "mysite" / "settings.py").open("a") as file:
        file.write(f'TOKENGUARD["SIGNING_KEY"] = "{key.stdout.strip()}"\n')
    done = project.manage("migrate")
    assert (done.returncode, done.stderr) == (0, "")


class MetadataURLs:
    urlpatterns = (path("", include("tokenguard.django.urls")),)


class MetadataElsewhere:
    urlpatterns = (path("api/", include("tokenguard.django.urls")),)


def test_w009_a_resource_whose_metadata_the_urlconf_does_not_serve() -> None:
    for url in ("https://example.com", "https://example.com/tenant1"):
        with_resource = options(RESOURCE=url)
        assert ids(ROOT_URLCONF=MetadataURLs, **with_resource) == []
        assert ids(ROOT_URLCONF=MetadataElsewhere, **with_resource) == ["W009"]
        assert ids(ROOT_URLCONF=None, **with_resource) == []
    (message,) = said(ROOT_URLCONF=MetadataElsewhere, **options(RESOURCE="https://example.com/tenant1"))
    assert "/.well-known/oauth-protected-resource/tenant1" in message.msg
    assert ids(ROOT_URLCONF=MetadataElsewhere) == []
    assert ids(**options(RESOURCE="http://example.com")) == ["E003"]
