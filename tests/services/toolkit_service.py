"""An unmodified django-oauth-toolkit: an authorization server, and a resource server that asks ours about tokens.

Run as a script, ``python toolkit_service.py FOLDER``, since Django has other settings in the tests' own package. The
environment has the URL of our endpoint and a token that may use it. Prints the port that it listens on.
"""

from __future__ import annotations

import os
import sys
from typing import Any

CLIENT_ID, CLIENT_SECRET = "toolkit-client", "of the tests/alone: 100%"
APPS = ["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"]
SCOPES = {"users:read": "Read users", "groups:read": "Read groups", "introspection": "Introspect"}


def serve(folder: str) -> None:
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="of the tests alone",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        USE_TZ=True,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/toolkit.db"}},
        INSTALLED_APPS=APPS,
        # No migrations and no slow hashes: they take time and make no difference here.
        MIGRATION_MODULES={app.rpartition(".")[2]: None for app in APPS},
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        OAUTH2_PROVIDER={
            "SCOPES": SCOPES,
            "ALLOWED_REDIRECT_URI_SCHEMES": ["https"],
            "RESOURCE_SERVER_INTROSPECTION_URL": os.environ["INTROSPECTION_URL"],
            "RESOURCE_SERVER_AUTH_TOKEN": os.environ["INTROSPECTION_TOKEN"],
        },
    )
    django.setup()
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application
    from oauth2_provider.models import get_application_model
    from werkzeug.serving import make_server

    call_command("migrate", verbosity=0, run_syncdb=True)
    get_application_model().objects.create(
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        client_type="confidential",
        authorization_grant_type="client-credentials",
        name="tests",
    )
    server = make_server("127.0.0.1", 0, get_wsgi_application(), threaded=True)
    print(server.server_port, flush=True)  # noqa: T201 - for the test
    server.serve_forever()


def __getattr__(name: str) -> Any:
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.http import HttpRequest, JsonResponse
    from django.urls import path
    from oauth2_provider.decorators import protected_resource
    from oauth2_provider.views import IntrospectTokenView, RevokeTokenView, TokenView

    @protected_resource(scopes=["users:read"])
    def users(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"users": []})

    return [
        path("token", TokenView.as_view()),
        path("revoke", RevokeTokenView.as_view()),
        path("introspect", IntrospectTokenView.as_view()),
        path("users", users),
    ]


if __name__ == "__main__":
    serve(sys.argv[1])
