"""Other issuers' access tokens in whole services: an issuer that is really asked over HTTPS, and every database."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from django.core.management import call_command
from django.http import HttpRequest, JsonResponse
from django.test import Client
from django.urls import path
from flask import Flask, request
from flask.testing import FlaskClient

from tokenguard import Guard, MemoryStore, ScopeCatalog, Secret, SigningKeys, Store, TokenFormat
from tokenguard.cli import command_tree
from tokenguard.clock import DAY, SECOND, isoformat, now
from tokenguard.config import Options
from tokenguard.django import get_issuer
from tokenguard.django import require_scopes as django_require_scopes
from tokenguard.errors import InvalidToken
from tokenguard.flask import TokenGuard, current_identity, require_scopes
from tokenguard.foreign import register_client, revoke_token
from tokenguard.issuer import Issuer
from tokenguard.issuers.jwt import JWTSource, TrustedIssuer
from tokenguard.prune import prune
from tokenguard.sources import local_client_id
from tokenguard.store import EventFilter, NewUse
from tokenguard.testing import bearer

from .conftest import KEY, StoppedClock, django_alias, django_project
from .idp import AUDIENCE, RSA_KEYS, Idp
from .server import served
from .services.common import CATALOG


@pytest.fixture
def idp(trusted_idp: Idp) -> Idp:
    return trusted_idp


def sent(idp: Idp, **claims: Any) -> dict[str, str]:
    at = int(time.time())
    return {"Authorization": "Bearer " + idp.token(**{"iat": at, "exp": at + 600} | claims)}


def trusted(idp: Idp) -> list[dict[str, Any]]:
    return [{"issuer": idp.issuer, "audience": AUDIENCE}]


@pytest.fixture
def http(idp: Idp) -> FlaskClient:
    app = Flask(__name__)
    app.config.update(
        TESTING=True,
        TOKENGUARD_SIGNING_KEY=KEY,
        TOKENGUARD_DATABASE_URL="memory://",
        TOKENGUARD_SCOPES=CATALOG,
        TOKENGUARD_ISSUERS=trusted(idp),
    )
    TokenGuard(app)

    @app.get("/users")
    @require_scopes("users:read")
    def users() -> dict[str, Any]:
        return {"caller": current_identity.client_id, "issuer": current_identity.issuer}

    return app.test_client()


def test_flask_takes_both_kinds(http: FlaskClient, idp: Idp) -> None:
    own = bearer(http.application, scopes="users:read")
    for _ in range(2):
        assert http.get("/users", headers=own).json["issuer"] == "tokenguard"
        assert http.get("/users", headers=sent(idp)).json == {"caller": "0oa1nightly", "issuer": idp.issuer}
    assert idp.asked.count(idp.keys_path) == 1


def test_refusals_are_those_of_any_token(http: FlaskClient, idp: Idp) -> None:
    forged = http.get("/users", headers=sent(idp, aud="api://other"))
    assert (forged.status_code, forged.headers["WWW-Authenticate"]) == (
        401,
        'Bearer realm="api", error="invalid_token"',
    )
    lacking = http.get("/users", headers=sent(idp, scp=["groups:read"]))
    assert (lacking.status_code, lacking.json["code"]) == (403, "insufficient_scope")
    query = http.get("/users?access_token=x", headers=sent(idp))
    assert query.status_code == 400


def test_an_issuer_that_is_away_is_a_503_and_own_tokens_go_on(http: FlaskClient, idp: Idp) -> None:
    own = bearer(http.application, scopes="users:read")
    idp.broken = 503
    away = http.get("/users", headers=sent(idp))
    assert (away.status_code, away.headers["Retry-After"]) == (503, "5")
    assert "WWW-Authenticate" not in away.headers
    assert http.get("/users", headers=own).status_code == 200


def test_a_key_unknown_within_a_minute_of_the_last_fetch_is_not_asked_for(
    http: FlaskClient, idp: Idp, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http.get("/users", headers=sent(idp)).status_code == 200
    monkeypatch.setattr(idp, "keys", idp.keys | {"new": RSA_KEYS[1]})
    assert http.get("/users", headers=sent(idp, kid="new")).status_code == 401
    assert idp.asked.count(idp.keys_path) == 1


def test_inspect_shows_what_begins_as_our_own_tokens_to_no_issuer() -> None:
    store, shown = MemoryStore(), []
    endpoint = Flask("endpoint")

    @endpoint.post("/introspect")
    def introspect() -> dict[str, Any]:
        shown.append(request.form["token"])
        return {"active": True, "client_id": "nightly"}

    issuer = Options.read({"SIGNING_KEY": KEY, "SCOPES": CATALOG}).issuer(store)
    issuer.register("billing", "users:read", actor="tests")
    own = issuer.issue("billing", "users:read", actor="tests").text.reveal()
    with served(endpoint) as url:
        # It takes tokens, whatever they begin with.
        asked = {"issuer": "http://localhost", "introspection_url": f"{url}/introspect", "bearer_token": "x"}
        given = {"SIGNING_KEY": KEY, "SCOPES": CATALOG, "ISSUERS": [asked]}
        tree = command_tree(lambda: (Options.read(given), store))
        for text, code in ((own, 0), (own[:-1], 1), (f"{own[:-1]}-", 1), ("tg_x", 1), ("of-another", 0)):
            done = CliRunner().invoke(tree, ["inspect"], input=text)
            assert done.exit_code == code, done.stderr
    assert shown == ["of-another"]


@django_require_scopes("users:read")
def users(request: HttpRequest) -> JsonResponse:
    identity = request.identity  # type: ignore[attr-defined]
    return JsonResponse({"caller": identity.client_id, "issuer": identity.issuer})


urlpatterns = [path("users", users)]


@pytest.fixture
def project(sqlite_url: str, idp: Idp) -> Iterator[Client]:
    with django_alias(sqlite_url) as alias, django_project(alias, __name__, ISSUERS=trusted(idp)):
        yield Client()


def test_django_takes_both_kinds_and_disables_a_client(project: Client, idp: Idp) -> None:
    get_issuer().register("billing", "users:read", actor="tests")
    own = get_issuer().issue("billing", "users:read", actor="tests").text.reveal()
    for _ in range(2):
        assert project.get("/users", headers={"Authorization": f"Bearer {own}"}).json()["issuer"] == "tokenguard"
        assert project.get("/users", headers=sent(idp)).json() == {"caller": "0oa1nightly", "issuer": idp.issuer}
    client = register_client(get_issuer(), idp.issuer, "0oa1nightly", actor="tests")
    get_issuer().disable(client.id, actor="tests")
    assert project.get("/users", headers=sent(idp)).status_code == 401
    assert project.get("/users", headers={"Authorization": f"Bearer {own}"}).status_code == 200


def test_a_revocation_holds_on_every_store(any_store: Store, clock: StoppedClock) -> None:
    idp = Idp("https://org.okta.com")
    tokens, catalog = TokenFormat(SigningKeys(KEY)), ScopeCatalog(CATALOG)
    source = JWTSource([TrustedIssuer(idp.issuer, AUDIENCE)], fetch=idp.fetch)
    guard = Guard(any_store, tokens, catalog=catalog, clock=clock, sources=[source])
    issuer = Issuer(any_store, tokens, catalog=catalog, clock=clock)
    text, other = idp.token(), idp.token(jti="other")
    for known in (text, other, text):
        assert guard.authenticate(Secret(known)).client_id == "0oa1nightly"
    revoke_token(issuer, idp.issuer, "0oa1nightly", idp.claims["jti"], actor="tests")
    with pytest.raises(InvalidToken):
        guard.authenticate(Secret(text))
    assert guard.authenticate(Secret(other)).client_name == "0oa1nightly of https://org.okta.com/oauth2/default"
    issuer.disable("0oa1nightly of https://org.okta.com/oauth2/default", actor="tests")
    with pytest.raises(InvalidToken):
        guard.authenticate(Secret(other))


def test_the_command_line_limits_clients_and_revokes_tokens(any_store: Store) -> None:
    tree = command_tree(lambda: (Options(catalog=ScopeCatalog(CATALOG)), any_store))
    theirs = ["--issuer", "https://org.okta.com/oauth2/default", "--client-id", "0oa1nightly"]
    run = CliRunner().invoke
    added = run(tree, ["client", "add", "nightly", "--scopes", "users:read", *theirs])
    assert added.exit_code == 0
    assert run(tree, ["revoke", "AT.0mP4JKAZX1iACIT4vbEDF7Lpv", *theirs]).exit_code == 0
    (record,) = any_store.records()
    assert (record.client.name, record.token.name) == ("nightly", "AT.0mP4JKAZX1iACIT4vbEDF7Lpv")
    assert record.token.expires_at is None
    assert run(tree, ["revoke", "AT.soon", *theirs, "--expires-in", "1h"]).exit_code == 0
    ends = {known.token.name: known.token.expires_at for known in any_store.records()}["AT.soon"]
    assert ends is not None
    assert abs(ends - now() - 3600 * SECOND) < 60 * SECOND
    assert run(tree, ["revoke", record.token.id, "--expires-in", "1h"]).exit_code == 2
    assert run(tree, ["client", "add", "other", "--scopes", "users:read", *theirs]).exit_code == 1
    assert run(tree, ["revoke", "AT.x", *theirs[:2]]).exit_code == 2
    assert run(tree, ["list"]).exit_code == 0
    assert run(tree, ["show", record.token.id]).exit_code == 0


def test_who_mistypes_an_issuer_is_told_that_nothing_of_it_is_taken(idp: Idp) -> None:
    store = MemoryStore()
    for command in (["client", "add", "nightly", "--scopes", "users:read"], ["revoke", "AT.0mP4"]):
        for issuer, told in ((idp.issuer + "/", True), (idp.issuer, False)):
            name = [word.replace("nightly", f"nightly {told}") for word in command]
            done = run_cli(store, idp, *name, "--issuer", issuer, "--client-id", "0oa1nightly")
            assert (done.exit_code, f"{issuer} is not one of TOKENGUARD_ISSUERS" in done.stderr) == (0, told)


@pytest.mark.parametrize(
    "issuer", ["idp.example", "https://Idp.example", "http://idp.example", "https://idp.example?a"]
)
def test_what_cannot_be_an_issuer_is_refused_where_none_is_known(issuer: str) -> None:
    """Otherwise a token would be called revoked, and go on working."""
    store = MemoryStore()
    tree = command_tree(lambda: (Options(), store))
    for command in (["client", "add", "nightly", "--scopes", "users:read"], ["revoke", "AT.0mP4"]):
        done = CliRunner().invoke(tree, [*command, "--issuer", issuer, "--client-id", "0oa1nightly"])
        assert (done.exit_code, "an issuer must be a" in done.stderr) == (2, True)
    assert store.clients() == []


def test_what_was_revoked_is_pruned_once_it_has_ended(any_store: Store, clock: StoppedClock) -> None:
    issuer, theirs = Issuer(any_store, None, clock=clock), ("https://org.okta.com/oauth2/default", "0oa1nightly")
    ends = clock() + 30 * DAY
    for name, end in (("soon", clock() + DAY), ("late", ends), ("never", None)):
        revoke_token(issuer, *theirs, name, actor="tests", expires_at=end)
    # A record stays as long as its token could be accepted without it: revoked long ago, and not ended.
    clock.move(29 * 86_400)
    assert prune(any_store, 2 * 86_400, actor="tests").tokens == 1
    assert {record.token.name for record in any_store.records()} == {"late", "never"}
    clock.move(2 * 86_400)
    assert prune(any_store, 2 * 86_400, actor="tests").tokens == 0
    clock.move(86_400)
    assert prune(any_store, 2 * 86_400, actor="tests").tokens == 1
    assert {record.token.name for record in any_store.records()} == {"never"}
    assert any_store.client(local_client_id(*theirs)) is not None


@pytest.mark.parametrize(
    ("ends", "kept"), [([1, 30], 30), ([30, 1], 30), ([1, None], None), ([None, 1], None), ([1, 1], 1)]
)
def test_of_what_is_revoked_again_the_later_end_counts(
    any_store: Store, clock: StoppedClock, ends: list[int | None], kept: int | None
) -> None:
    issuer, theirs = Issuer(any_store, None, clock=clock), ("https://org.okta.com/oauth2/default", "0oa1nightly")
    at = clock()
    for number, days in enumerate(ends):
        end = None if days is None else at + days * DAY
        clock.move(60)
        revoke_token(issuer, *theirs, "J", actor="tests", reason=f"time {number}", expires_at=end)
    (record,) = any_store.records()
    assert record.token.expires_at == (None if kept is None else at + kept * DAY)
    assert record.token.revoked_at == at + 60 * SECOND
    told = [event.data["reason"][1] for event in any_store.events(9, EventFilter(kind="token.revoked"))]
    assert sorted(told) == (["time 0"] if kept == ends[0] else ["time 0", "time 1"])
    clock.move(29 * 86_400)
    assert prune(any_store, 86_400, actor="tests").tokens == (kept == 1)


def test_manage_py_prunes_them_too(project: Client, idp: Idp, capsys: pytest.CaptureFixture[str]) -> None:
    for name, end in (("ended", 1_000_000), ("endless", None)):
        revoke_token(get_issuer(), idp.issuer, "0oa1nightly", name, actor="tests", expires_at=end)
    call_command("tokenguard", "prune", "--older-than", "1d")
    assert "Removed: 1 token" in capsys.readouterr().err
    assert [record.token.name for record in get_issuer().store.records()] == ["endless"]


def run_cli(store: Store, idp: Idp, *arguments: str, text: str = "") -> Result:
    given = {"SIGNING_KEY": KEY, "SCOPES": CATALOG, "ISSUERS": trusted(idp)}
    return CliRunner().invoke(command_tree(lambda: (Options.read(given), store)), arguments, input=text)


def inspected(store: Store, idp: Idp, text: str) -> dict[str, Any]:
    done = run_cli(store, idp, "inspect", "--json", text=text)
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_inspect_tells_what_a_jwt_is_and_what_it_is_worth_here(idp: Idp) -> None:
    store, text = MemoryStore(), sent(idp, scp=["users:manage"])["Authorization"][7:]
    found = inspected(store, idp, text)
    assert (found["issuer"], found["client_id"], found["state"]) == (idp.issuer, "0oa1nightly", "active")
    assert found["token_id"] == idp.claims["jti"]
    assert found["effective_scopes"] == ["users:manage", "users:read"]
    assert found["registered_as"] is None
    assert found["local_client_id"] == local_client_id(idp.issuer, "0oa1nightly")
    issuer = Options.read({"SCOPES": CATALOG}).issuer(store)
    register_client(issuer, idp.issuer, "0oa1nightly", name="nightly", scopes="users:read", actor="tests")
    issuer.disable("nightly", actor="tests")
    found = inspected(store, idp, text)
    assert (found["state"], found["registered_as"]) == ("client disabled", "nightly")
    assert found["effective_scopes"] == ["users:read"]
    revoked = revoke_token(issuer, idp.issuer, "0oa1nightly", idp.claims["jti"], actor="tests")
    found = inspected(store, idp, text)
    assert (found["state"], found["local_token_id"]) == ("revoked", revoked.id)
    shown = run_cli(store, idp, "inspect", text=text)
    assert shown.exit_code == 0
    assert "revoked" in shown.stdout
    assert text[:40] not in shown.stdout + shown.stderr


def test_inspect_says_why_a_jwt_is_refused(idp: Idp) -> None:
    store = MemoryStore()
    wrong = run_cli(store, idp, "inspect", text=sent(idp, aud="api://other")["Authorization"][7:])
    assert (wrong.exit_code, wrong.stderr) == (1, "Error: this is not a valid token: for another audience\n")
    idp.broken = 503
    away = run_cli(store, idp, "inspect", text=sent(idp)["Authorization"][7:])
    assert (away.exit_code, away.stdout) == (1, "")
    assert "its issuer is unavailable" in away.stderr


def test_inspect_shows_what_an_issuer_says_and_no_terminal_obeys_it(idp: Idp) -> None:
    odd = "a\x1b[31m\x9b1mb\u202ec\nä"
    text = sent(idp, sub=odd)["Authorization"][7:]
    assert inspected(MemoryStore(), idp, text)["subject"] == odd
    for more in ([], ["--json"]):
        shown = run_cli(MemoryStore(), idp, "inspect", *more, text=text)
        assert (shown.exit_code, shown.stderr) == (0, "")
        assert shown.stdout.replace("\n", "").isprintable()
        assert "ä" in shown.stdout


def test_the_command_line_tells_when_a_client_has_called(any_store: Store, clock: StoppedClock) -> None:
    idp = Idp("https://org.okta.com")
    issuer = Issuer(any_store, None, catalog=ScopeCatalog(CATALOG), clock=clock)
    client = register_client(issuer, idp.issuer, "0oa1nightly", name="nightly", actor="tests")
    tree = command_tree(lambda: (Options(catalog=ScopeCatalog(CATALOG)), any_store))
    shown = json.loads(CliRunner().invoke(tree, ["client", "show", "nightly", "--json"]).stdout)
    assert (shown["last_used_at"], shown["last_address"]) == (None, None)
    assert "requests_by_day" not in shown
    at = now()
    any_store.record_uses([NewUse(client.id, at, "192.0.2.7", frozenset({"users:read"}), {at // DAY: 3})])
    shown = json.loads(CliRunner().invoke(tree, ["client", "show", "nightly", "--json"]).stdout)
    assert (shown["last_used_at"], shown["last_address"]) == (isoformat(at), "192.0.2.7")
    assert list(shown["requests_by_day"].values()) == [3]
    assert "192.0.2.7" in CliRunner().invoke(tree, ["client", "show", "nightly"]).stdout
