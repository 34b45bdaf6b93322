"""What the service says of itself as a protected resource (RFC 9728): the identifier, and where the document is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client as DjangoClient
from django.test import override_settings
from django.urls import include, path
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from tokenguard import AuthScheme, ConfigurationError, MissingToken, ProtectedResource, TokenGuardMiddleware
from tokenguard.config import Options
from tokenguard.flask import TokenGuard
from tokenguard.http import EMPTY_TYPE
from tokenguard.resource import WELL_KNOWN
from tokenguard.testing import MemoryService

from .conftest import KEY
from .services.common import CATALOG

TENANT = "https://example.com/tenant1"
pytestmark = pytest.mark.usefixtures("without_environment")


@pytest.mark.parametrize(
    ("identifier", "url"),
    [
        ("https://example.com", f"https://example.com{WELL_KNOWN}"),
        ("https://example.com/", f"https://example.com{WELL_KNOWN}"),
        (TENANT, f"https://example.com{WELL_KNOWN}/tenant1"),
        ("https://example.com:8443/a/b~c/", f"https://example.com:8443{WELL_KNOWN}/a/b~c/"),
        ("http://localhost:5000", f"http://localhost:5000{WELL_KNOWN}"),
        ("http://api.localhost:5000", f"http://api.localhost:5000{WELL_KNOWN}"),
        ("http://127.0.0.1:5000/api", f"http://127.0.0.1:5000{WELL_KNOWN}/api"),
        ("http://[::1]", f"http://[::1]{WELL_KNOWN}"),
    ],
)
def test_the_well_known_string_goes_between_host_and_path(identifier: str, url: str) -> None:
    resource = ProtectedResource(identifier)
    assert resource.metadata_url == url
    assert resource.metadata == {"resource": identifier, "bearer_methods_supported": ["header"]}
    challenge = AuthScheme("my api", resource=resource).challenge(MissingToken())
    assert challenge == f'Bearer realm="my api", resource_metadata="{url}"'


BAD_URLS = [
    "",
    "example.com",
    "ftp://example.com",
    "HTTPS://example.com",
    "https://Example.com",
    "https://",
    "https://me:secret@example.com",
    "https://example.com?tenant=1",
    "https://example.com#top",
    "https://example.com/a//b",
    "https://example.com/../b",
    "https://example.com/./",
    "https://example.com/%2e%2e",
    "https://example.com/<id>",
    'https://example.com/"',
    "https://example.com/ü",
    "https://example.com:99999",
    "https://example.com:0",
    "https://example.com/\n",
    None,
]
HTTP_ELSEWHERE = ["http://example.com", "http://192.168.0.1", "http://127.example.com", "http://localhost.example.com"]


@pytest.mark.parametrize("url", BAD_URLS + HTTP_ELSEWHERE)
def test_an_identifier_that_clients_could_not_compare_is_refused(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="the resource must be a"):
        ProtectedResource(url)
    with pytest.raises(ConfigurationError, match="an authorization server must be a"):
        ProtectedResource(TENANT, authorization_servers=[url])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"RESOURCE": "http://example.com"}, "TOKENGUARD_RESOURCE: the resource must be an https URL"),
        ({"RESOURCE": 5}, "TOKENGUARD_RESOURCE must be a string, not int"),
        ({"RESOURCE": TENANT, "AUTHORIZATION_SERVERS": "a b"}, "TOKENGUARD_AUTHORIZATION_SERVERS: an authorization"),
        ({"AUTHORIZATION_SERVERS": ["x"]}, "TOKENGUARD_AUTHORIZATION_SERVERS: an authorization server must be a URL"),
        ({"RESOURCE": TENANT, "RESOURCE_DOCUMENTATION": "docs"}, "TOKENGUARD_RESOURCE_DOCUMENTATION: the documenta"),
        ({"RESOURCE_DOCUMENTATION": "javascript:x"}, "TOKENGUARD_RESOURCE_DOCUMENTATION: the documentation must be"),
        ({"RESOURCE": TENANT, "ADVERTISE_SCOPES": "some"}, "TOKENGUARD_ADVERTISE_SCOPES must be true or false"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Options.read(given)
    assert str(caught.value).startswith(message)


def test_what_would_be_misread_is_refused_in_code_too() -> None:
    with pytest.raises(ConfigurationError, match=r"a list of URLs: write \['https://a.example'\]"):
        ProtectedResource(TENANT, authorization_servers="https://a.example")
    with pytest.raises(ConfigurationError, match=r"a list: write \['users:read', 'users:manage'\]"):
        ProtectedResource(TENANT, scopes="users:read users:manage")
    with pytest.raises(ConfigurationError, match="must be a ProtectedResource"):
        AuthScheme(resource=TENANT)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": None}, "^the name must be a string, not NoneType$"),
        ({"name": b"directory"}, "^the name must be a string, not bytes$"),
        ({"scopes": b"users:read"}, "^each of the scopes must be a string, not int$"),
    ],
)
def test_what_no_document_could_say_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ProtectedResource(TENANT, **given)


def test_the_options_make_the_document() -> None:
    given = {
        "SCOPES": CATALOG,
        "REALM": "directory",
        "RESOURCE": TENANT,
        "RESOURCE_DOCUMENTATION": "https://example.com/docs?page=tokens#how",
        "AUTHORIZATION_SERVERS": "https://a.example https://b.example/x",
    }
    resource = Options.read(given).scheme.resource
    assert resource is not None
    assert resource.metadata == {
        "resource": TENANT,
        "resource_name": "directory",
        "resource_documentation": "https://example.com/docs?page=tokens#how",
        "authorization_servers": ["https://a.example", "https://b.example/x"],
        "scopes_supported": ["users:read", "users:manage", "groups:read"],
        "bearer_methods_supported": ["header"],
    }
    silent = Options.read({**given, "ADVERTISE_SCOPES": "no"}).scheme.resource
    assert silent is not None
    assert "scopes_supported" not in silent.metadata
    assert Options.read({"AUTHORIZATION_SERVERS": "https://a.example"}).scheme.resource is None


def test_the_same_middleware_answers_where_it_is_mounted() -> None:
    service = MemoryService()
    guarded = TokenGuardMiddleware(
        lambda environ, start_response: [], service.guard, scheme=AuthScheme(resource=ProtectedResource(TENANT))
    )
    caller = Client(DispatcherMiddleware(guarded, {"/tenant1": guarded, WELL_KNOWN: guarded}))
    assert caller.get(f"{WELL_KNOWN}/tenant1").json == {"resource": TENANT, "bearer_methods_supported": ["header"]}
    # Not of this resource, or not where clients look for it.
    for elsewhere in (WELL_KNOWN, f"{WELL_KNOWN}/tenant2", f"{WELL_KNOWN}/tenant1/", f"/tenant1{WELL_KNOWN}"):
        assert caller.get(elsewhere).status_code == 401
    unset = Client(TokenGuardMiddleware(lambda environ, start_response: [], service.guard))
    assert unset.get(WELL_KNOWN).status_code == 401
    assert unset.get(WELL_KNOWN).headers["WWW-Authenticate"] == 'Bearer realm="api"'


def flask_app(**config: Any) -> Flask:
    app = Flask(__name__, host_matching=config.pop("host_matching", False), static_folder=None)
    app.config.update(TOKENGUARD_SIGNING_KEY=KEY, TOKENGUARD_DATABASE_URL="memory://", **config)
    TokenGuard(app)
    return app


def test_flask_serves_it_only_if_it_is_set_and_only_at_the_hosts_root() -> None:
    assert flask_app().test_client().get(WELL_KNOWN).status_code == 404
    app = flask_app(TOKENGUARD_RESOURCE=TENANT)
    assert app.test_client().get(f"{WELL_KNOWN}/tenant1").json["resource"] == TENANT
    assert app.test_client().get(WELL_KNOWN).status_code == 404
    below = Client(DispatcherMiddleware(Flask("other"), {"/tenant1": app}))
    assert below.get(f"/tenant1{WELL_KNOWN}/tenant1").status_code == 404
    by_host = flask_app(TOKENGUARD_RESOURCE="https://example.com", host_matching=True).test_client()
    assert by_host.get(WELL_KNOWN, base_url="https://example.com").status_code == 200
    assert by_host.get(WELL_KNOWN, base_url="https://other.example").status_code == 404


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class RootURLs:
    urlpatterns = (path("", include("tokenguard.django.urls")), path("", view))


class URLsBelow:
    urlpatterns = (path("api/", include("tokenguard.django.urls")), path(f"{WELL_KNOWN[1:]}/tenant1", view))


def test_django_serves_it_by_the_setting_as_it_is_at_the_moment() -> None:
    stack = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "tokenguard.django.TokenGuardMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    django = DjangoClient(enforce_csrf_checks=True)
    with override_settings(ROOT_URLCONF=RootURLs, MIDDLEWARE=stack):
        for url, found, missing in [
            (TENANT, f"{WELL_KNOWN}/tenant1", WELL_KNOWN),
            ("https://example.com", WELL_KNOWN, f"{WELL_KNOWN}/tenant1"),
        ]:
            with override_settings(TOKENGUARD={"SIGNING_KEY": KEY, "RESOURCE": url}):
                assert django.get(found).json()["resource"] == url
                assert django.get(missing).status_code == 404
                refused = django.post(found)
                assert (refused.status_code, refused["Allow"]) == (405, "GET, HEAD, OPTIONS")
        with override_settings(TOKENGUARD={"SIGNING_KEY": KEY}):
            assert django.get(WELL_KNOWN).status_code == 404


def test_what_a_service_says_of_itself_byte_for_byte() -> None:
    resource = ProtectedResource(TENANT)
    scheme, body = AuthScheme(resource=resource), json.dumps(resource.metadata).encode()
    methods, anybody = "GET, HEAD, OPTIONS", ("Access-Control-Allow-Origin", "*")

    def ask(method: str, mount: str = "", path: str = f"{WELL_KNOWN}/tenant1") -> Any:
        return scheme.metadata({"REQUEST_METHOD": method, "SCRIPT_NAME": mount, "PATH_INFO": path})

    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "public, max-age=3600"),
        anybody,
    ]
    assert ask("GET") == ask("GET", "/.well-known", "/oauth-protected-resource/tenant1") == (200, headers, body)
    assert scheme.metadata({"REQUEST_METHOD": "GET", "SCRIPT_NAME": f"{WELL_KNOWN}/tenant1"}) == ask("GET")
    assert scheme.metadata({"REQUEST_METHOD": "GET", "PATH_INFO": f"{WELL_KNOWN}/tenant1"}) == ask("GET")
    assert ask("HEAD") == (200, headers, b"")
    assert ask("POST") == (405, [EMPTY_TYPE, ("Content-Length", "0"), ("Allow", methods)], b"")
    for _ in range(2):  # changing an answer does not change the next one
        status, sent, nothing = ask("OPTIONS")
        assert (status, nothing) == (204, b"")
        assert sent == [
            ("Allow", methods),
            anybody,
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", "*"),
        ]
        sent.clear()
    assert ask("GET", path=WELL_KNOWN) is AuthScheme().metadata({"REQUEST_METHOD": "GET"}) is None
