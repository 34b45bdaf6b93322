"""Introspection of other issuers' tokens in Django, whose event loop never waits for the endpoint."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient, Client
from django.urls import path
from flask import Flask, jsonify, request

from tokenguard.django import get_issuer, require_scopes
from tokenguard.django.introspection import introspection_view

from .conftest import django_alias, django_project
from .server import served


@require_scopes("users:read")
def users(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"caller": request.identity.client_id})  # type: ignore[attr-defined]


@require_scopes("users:read")
async def users_async(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"caller": request.identity.client_id})  # type: ignore[attr-defined]


urlpatterns = [
    path("users", users),
    path("async", users_async),
    path("introspect", introspection_view("users:manage")),
]


#: Seconds that the project waits for the endpoint: more than an answer takes on a busy machine.
PATIENCE = 10


class Endpoint:
    """Says that good tokens are active, as soon as it may answer."""

    def __init__(self) -> None:
        self.arrived, self.may_answer = threading.Event(), threading.Event()
        self.may_answer.set()
        self.asked = 0

    def app(self) -> Flask:
        app = Flask("endpoint")

        @app.post("/introspect")
        def introspect() -> Any:
            self.asked += 1
            self.arrived.set()
            self.may_answer.wait(2 * PATIENCE)
            active = request.form["token"].startswith("good")
            return jsonify({"active": active} | ({"client_id": "nightly", "scope": "users:read"} if active else {}))

        return app


@pytest.fixture
def patience() -> int:
    return PATIENCE


@pytest.fixture
def endpoint(sqlite_url: str, patience: int) -> Iterator[Endpoint]:
    """An endpoint that a project asks; the project's tables exist."""
    endpoint = Endpoint()
    with served(endpoint.app()) as url, django_alias(sqlite_url) as alias:
        asked = {"issuer": "http://localhost", "introspection_url": f"{url}/introspect", "bearer_token": "x"}
        with django_project(alias, __name__, ISSUERS=[asked | {"timeout": patience}]):
            yield endpoint


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def test_tokens_of_both_kinds(endpoint: Endpoint) -> None:
    get_issuer().register("billing", "users:read", actor="tests")
    own = get_issuer().issue("billing", "users:read", actor="tests").text.reveal()
    http = Client()
    assert http.get("/users", headers=bearer("good")).json() == {"caller": "nightly"}
    assert http.get("/users", headers=bearer("bad")).status_code == 401
    assert http.get("/users", headers=bearer(own)).status_code == 200
    assert http.get("/users", headers=bearer(own[:-1])).status_code == 401
    assert endpoint.asked == 2


def test_nobody_on_the_event_loop_waits_for_the_endpoint(endpoint: Endpoint) -> None:
    endpoint.may_answer.clear()

    async def meanwhile() -> Any:
        asking = asyncio.create_task(AsyncClient().get("/async", headers=bearer("good")))
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, endpoint.arrived.wait, 10)
        endpoint.may_answer.set()  # would come too late if the loop itself waited
        return await asking

    assert asyncio.run(meanwhile()).json() == {"caller": "nightly"}


@pytest.mark.parametrize("patience", [1])
def test_an_endpoint_that_is_late_is_503(endpoint: Endpoint) -> None:
    endpoint.may_answer.clear()
    try:
        late = Client().get("/users", headers=bearer("good"))
    finally:
        endpoint.may_answer.set()
    assert (late.status_code, late.headers["Retry-After"]) == (503, "5")


def test_other_services_are_told_of_own_tokens_alone(endpoint: Endpoint) -> None:
    get_issuer().register("asking", "users:manage", actor="tests")
    own = get_issuer().issue("asking", "users:manage", actor="tests").text.reveal()
    http = Client(enforce_csrf_checks=True)
    for text, active in ((own, True), ("good", False)):
        answer = http.post(
            "/introspect", f"token={text}", content_type="application/x-www-form-urlencoded", headers=bearer(own)
        )
        assert answer.json()["active"] is active
    assert endpoint.asked == 0
