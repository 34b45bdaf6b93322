"""The promises of docs/security.md that no other file tests; and that each test which the page names exists."""

from __future__ import annotations

import ast
import base64
import hmac
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from django.test import Client as DjangoClient
from django.test import override_settings
from flask import Flask

from tokenguard import (
    AuthError,
    AuthScheme,
    Guard,
    InvalidToken,
    MemoryStore,
    RequestGuard,
    Requirement,
    Scopes,
    Secret,
    SigningKeys,
    TokenFormat,
)
from tokenguard.flask import TokenGuard, require_token
from tokenguard.issuers.jwt import JWTSource, TrustedIssuer
from tokenguard.resource import WELL_KNOWN
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.store import Change, EventKind

from .conftest import KEY, OTHER_KEY, CountingStore, StoppedClock, World
from .idp import AUDIENCE, Idp
from .services.common import CATALOG

TESTS = Path(__file__).parent
PAGES = [TESTS.parent / "docs" / "security.md", TESTS.parent / "SECURITY.md"]


def functions(path: Path) -> set[str]:
    """Return the names of a file's tests, those in classes with the class's name in front."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        below = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {f"{prefix}{each.name}" for each in below if isinstance(each, ast.FunctionDef)}
    return found


def test_every_test_that_the_promises_rest_on_is_there() -> None:
    text = "".join(page.read_text() for page in PAGES)
    named = re.findall(r"\b(\w+\.py)::((?:\w+::)?test_\w+)", text)
    assert len(named) > 60
    assert text.count("::test_") == len(named)
    for file in {file for file, _ in named}:
        missing = {test for where, test in named if where == file} - functions(TESTS / file)
        assert not missing, f"{file} has no {', '.join(sorted(missing))}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLAlchemyStore]:
    store = SQLAlchemyStore(f"sqlite:///{tmp_path / 'tokens.db'}")
    store.upgrade()
    yield store
    store.close()


def refusal(world: World, text: str) -> str:
    with pytest.raises(InvalidToken) as refused:
        world.guard.authenticate(Secret(text))
    return refused.value.reason


def test_a_copy_of_the_database_holds_nothing_that_lets_anybody_in(store: SQLAlchemyStore, tmp_path: Path) -> None:
    world = World(store)
    first = world.issue(expires_in=3600)
    texts = [first.text.reveal(), world.issuer.rotate(first.token.id, overlap=60, actor="tests").text.reveal()]
    world.usage.note(world.guard.admit(Secret(texts[0]), None), Requirement(("users:read",)), "192.0.2.7")
    world.usage.write(everything=True)
    store.close()  # so that the file holds everything
    copy = (tmp_path / "tokens.db").read_bytes() + KEY.encode()
    for text in texts:
        secret, tag = text[20:52], text[52:]
        assert text[3:19].encode() in copy
        assert not any(part.encode() in copy for part in (secret, tag))
    # Every part of it that is as long as a secret, sent as a token: alone, or in a token's form.
    for run in set(re.findall(rb"[0-9A-Za-z]{32,}", copy)):
        assert refusal(world, run.decode())
        assert refusal(world, f"{texts[0][:20]}{run.decode()[:32]}{'0' * 43}")


def test_who_writes_the_database_cannot_give_one_token_the_place_of_another(store: SQLAlchemyStore) -> None:
    """The row of a signed text is found by the id that is signed, and by the digest of the whole text."""
    world = World(store)
    mine, theirs = world.issue("users:read"), world.issue("groups:read")
    with store.transaction() as tx:
        swapped = replace(theirs.token, digest=mine.token.digest)
        tx.put_token(swapped, Change(EventKind.TOKEN_ISSUED, 0, "intruder"))
    assert world.guard.authenticate(mine.text).token_id == mine.token.id
    assert refusal(world, theirs.text.reveal()) == "unknown"


def test_who_writes_the_database_and_holds_a_token_may_do_what_we_say(store: SQLAlchemyStore) -> None:
    """The limit that the page states: if this fails, tokenguard has become better, and the page should say so."""
    world = World(store)
    issued = world.issue("users:read")
    world.issuer.revoke(issued.token.id, actor="tests")
    assert refusal(world, issued.text.reveal()) == "revoked"
    with store.transaction() as tx:
        widened = replace(issued.token, scopes=Scopes.parse("users:manage"))
        tx.put_token(widened, Change(EventKind.TOKEN_ISSUED, 0, "intruder"))
    assert "users:manage" in world.guard.authenticate(issued.text).scopes


def encoded(part: Mapping[str, str] | bytes) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
@pytest.mark.parametrize("issuer", ["https://login.example.com", "tokenguard"])
def test_a_token_of_another_issuer_is_none_of_ours_whoever_signed_it(algorithm: str, issuer: str) -> None:
    store = CountingStore()
    world = World(store)
    issued = world.issue()
    claims = {"iss": issuer, "jti": issued.token.id, "client_id": issued.token.client_id, "scope": "users:manage"}
    signed = f"{encoded({'alg': algorithm, 'typ': 'at+jwt'})}.{encoded(claims)}"
    tag = hmac.digest(KEY.encode(), signed.encode(), "sha256") if algorithm == "HS256" else b""
    assert refusal(world, f"{signed}.{encoded(tag)}") == "not a token of this service"
    assert store.asked == 0


def test_the_same_token_is_worth_nothing_to_a_service_with_another_key_or_prefix() -> None:
    store = CountingStore()
    world = World(store)
    text = world.issue().text
    for tokens in (TokenFormat(SigningKeys(OTHER_KEY)), TokenFormat(SigningKeys(KEY), "staging")):
        assert refusal(World(store, tokens=tokens), text.reveal())
    assert store.asked == 0


def test_what_a_client_says_of_the_host_changes_nothing() -> None:
    """Neither the URL in the challenge, nor the resource that the document names."""
    app = Flask(__name__)
    app.config.update(
        TOKENGUARD_SIGNING_KEY=KEY, TOKENGUARD_DATABASE_URL="memory://", TOKENGUARD_RESOURCE="https://api.example.com"
    )
    TokenGuard(app)
    app.add_url_rule("/", view_func=require_token(lambda: "never"))
    lies = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "Forwarded": "host=evil.example"}
    refused = app.test_client().get("/", headers=lies, base_url="http://evil.example")
    assert refused.headers["WWW-Authenticate"].endswith(f'resource_metadata="https://api.example.com{WELL_KNOWN}"')
    told = app.test_client().get(WELL_KNOWN, headers=lies, base_url="http://evil.example")
    assert told.json["resource"] == "https://api.example.com"
    assert "evil" not in f"{refused.headers}{refused.text}{told.headers}{told.text}"


@pytest.mark.parametrize(
    "path",
    ["/read", "//read", "/./read", "/open/../read", "/read/", "/READ", "/%72ead", "/read;x=1", "/read\0", "read"],
)
def test_no_spelling_of_a_path_goes_round_a_guard(path: str) -> None:
    """In Flask and in Django alike, the guard is on the view, after the framework has parsed the path."""
    app = Flask(__name__)
    app.config.update(TOKENGUARD_SIGNING_KEY=KEY, TOKENGUARD_DATABASE_URL="memory://")
    TokenGuard(app)
    app.add_url_rule("/read", view_func=require_token(lambda: "told"))
    statuses = [app.test_client().get("/", environ_overrides={"PATH_INFO": path}).status_code]
    with override_settings(TOKENGUARD={"SIGNING_KEY": KEY}, ROOT_URLCONF="tests.services.django_service"):
        statuses.append(DjangoClient().get("/", PATH_INFO=path).status_code)
    assert set(statuses) <= {301, 308, 401, 404}
    assert path != "/read" or statuses == [401, 401]


@pytest.mark.parametrize(
    ("claims", "environ"),
    [
        ({}, {"REMOTE_ADDR": "192.0.2.1\nforged"}),
        ({}, {"HTTP_X_FORWARDED_FOR": "\x1b[2Jforged"}),
        ({}, {"HTTP_X_FORWARDED_FOR": "forged\u2028"}),
        ({"jti": "forged\nline"}, {}),
        ({"cid": "forged\r\nline"}, {}),
        ({"sub": "forged\x85line"}, {}),
        ({"scp": ["forged\nline"]}, {}),
        ({"iss": "https://org.okta.com\nforged"}, {}),
    ],
    ids=range(8),
)
def test_nobody_adds_a_line_to_the_log_or_moves_its_cursor(
    claims: dict[str, object], environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither by the request nor by what an issuer has signed for them."""
    caplog.set_level(logging.DEBUG, "tokenguard")
    idp = Idp("https://org.okta.com")
    source = JWTSource([TrustedIssuer(idp.issuer, AUDIENCE)], fetch=idp.fetch)
    tokens = TokenFormat(SigningKeys(KEY))
    guard = Guard(MemoryStore(), tokens, catalog=CATALOG, clock=StoppedClock(), sources=[source])
    requests = RequestGuard(guard, AuthScheme(proxies=int("HTTP_X_FORWARDED_FOR" in environ)))
    sent = {"HTTP_AUTHORIZATION": f"Bearer {idp.token(**claims)}", "REMOTE_ADDR": "192.0.2.1"} | environ
    with pytest.raises(AuthError):
        requests.admit(sent, Requirement(("users:manage",)))
    assert caplog.messages
    assert all(line.isprintable() for line in caplog.messages)
