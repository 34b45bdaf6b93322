from __future__ import annotations

from typing import Any, assert_type

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient, AsyncRequestFactory, RequestFactory, TestCase
from django.test import Client as DjangoClient
from flask import Flask
from flask.testing import FlaskClient
from rest_framework.test import APIClient
from werkzeug.test import Client

from tokenguard import Conditions, TokenGuardMiddleware
from tokenguard.testing import AsClient, MemoryService, as_client, bearer


def application(environ: Any, start_response: Any) -> list[bytes]:
    return []


@pytest.fixture
def reader(as_client: AsClient, app: Flask) -> FlaskClient:
    as_client(scopes="users:read").get("/users")
    as_client(scopse="users:read")  # type: ignore[call-overload]
    assert_type(as_client(APIClient(), scopes="users:read"), APIClient)
    return as_client(app, scopes="users:read", expires_in=60)


def test_what_is_returned(app: Flask) -> None:
    service = MemoryService({"users:read": "List users"})
    guarded = TokenGuardMiddleware(application, service.guard, "users:read")
    of_django: DjangoClient = as_client(scopes="users:read")
    of_django.nonsense()  # type: ignore[attr-defined]
    assert_type(as_client(app, scopes="users:read"), FlaskClient)
    assert_type(as_client(app.test_client(), scopes="users:read"), FlaskClient)
    assert_type(as_client(guarded, scopes="users:read"), Client)
    assert_type(as_client(application, scopes="users:read", issuer=service.issuer), Client)
    assert_type(as_client(APIClient(), scopes=["users:read"]), APIClient)
    assert_type(as_client(RequestFactory(), scopes="users:read"), RequestFactory)
    assert_type(as_client(AsyncClient(), scopes="users:read"), AsyncClient)
    assert_type(as_client(AsyncRequestFactory(), scopes="users:read"), AsyncRequestFactory)


def test_what_is_noticed(app: Flask) -> None:
    bearer(app, scopes="users:read", client="billing", name="x", conditions=Conditions.parse(rate="5/minute"))
    bearer(app, scopes="users:read", exipres_in=3)  # type: ignore[call-arg]
    as_client(app, scopes="users:read", exipres_in=3)  # type: ignore[call-overload]
    as_client(app, scopes="users:read", expires_in="3")  # type: ignore[call-overload]
    as_client(app)  # type: ignore[call-overload]
    as_client(17, scopes="users:read")  # type: ignore[call-overload]


class Tests(TestCase):
    async def test_async(self) -> None:
        client = await sync_to_async(lambda: as_client(self.async_client, scopes="users:read"))()
        assert_type(client, AsyncClient)
