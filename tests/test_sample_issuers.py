"""Both samples under gunicorn take the tokens of an issuer that they are told to trust, and no forgery of one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey

from sample_flask.playground import SAMPLES, WORKERS, Playground, gunicorn
from tokenguard import Issuer
from tokenguard.foreign import revoke_token

from .conftest import run_together
from .forgeries import FORGERIES, publish_more_keys
from .idp import AUDIENCE, RSA_KEYS, Idp, https_idp
from .samples import issuer_on
from .server import Answer, Server
from .test_sample_directory import ADA, GROUPS, USERS, assert_error

NIGHTLY = "0oa1nightly"
CLOCK = "tests/services/clock_ahead.py"
#: Which of the directory's scopes each of the issuer's scopes stands for.
SCOPES = {"users:read": "okta.users.read", "users:manage": "okta.users.manage"}


@dataclass
class Sample:
    """One of the samples, which trusts two issuers, one of which does not answer."""

    server: Server
    issuer: Issuer
    idp: Idp
    away: Idp
    #: A token of the sample's own.
    own: str
    #: Holds the number of seconds by which its clock for keys is ahead.
    ahead: Path


@pytest.fixture(scope="module")
def issuers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Idp, Idp, Path]]:
    """Two issuers served over HTTPS, and the certificate to trust; on the real clock, as the samples are."""
    with https_idp(tmp_path_factory.mktemp("idp")) as (idp, certificate):
        idp.at = int(time.time())
        publish_more_keys(idp)
        # Another issuer on the same server.
        away = Idp(idp.base, "/oauth2/away")
        away.at = idp.at
        yield idp, away, certificate


@pytest.fixture(scope="module", params=SAMPLES)
def sample(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, issuers: tuple[Idp, Idp, Path]
) -> Iterator[Sample]:
    idp, away, certificate = issuers
    idp.asked.clear()
    playground = Playground(tmp_path_factory.mktemp(request.param), SAMPLES[request.param])
    trusted = [{"issuer": each.issuer, "audience": AUDIENCE, "scopes": SCOPES} for each in (idp, away)]
    playground.settings |= {
        "TOKENGUARD_ISSUERS": json.dumps(trusted),
        "TOKENGUARD_STALENESS": "0",
        "SSL_CERT_FILE": str(certificate),
        "PYTHONWARNINGS": "error",
    }
    playground.run(*playground.sample.tables)
    ahead = playground.folder / "ahead"
    ahead.write_text("0")
    environ = playground.environ | {"CLOCK_AHEAD": str(ahead)}
    with (
        issuer_on(playground) as issuer,
        gunicorn(playground.sample.app, environ, options=["--config", CLOCK]) as serving,
    ):
        issuer.register("billing", "okta.users.read", actor="tests")
        own = issuer.issue("billing", "okta.users.read", actor="tests").text.reveal()
        server = Server(int(serving.url.rpartition(":")[2]), serving.log)
        yield Sample(server, issuer, idp, away, own, ahead)
        log = "".join(serving.log)
    assert "Warning:" not in log
    assert "Traceback" not in log
    assert not re.search(r"eyJ[\w-]+\.", log)  # what every JWT begins with, and perhaps a random id


def refused(answer: Answer) -> None:
    assert_error(answer, 401, "E0000011")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'
    assert "X-Okta-Request-Id" in answer.headers


def test_its_tokens_are_taken_beside_own_ones(sample: Sample) -> None:
    for _ in range(2 * WORKERS):
        assert sample.server.get(USERS, sample.own).status == 200
        assert sample.server.get(USERS, sample.idp.token()).status == 200
    assert sample.server.get(USERS).status == 401


def test_its_scopes_are_what_they_stand_for_here(sample: Sample) -> None:
    assert_error(sample.server.get(GROUPS, sample.idp.token()), 403, "E0000006")
    # As it calls its own scope, another service may have called one that is worth more.
    literal = sample.idp.token(scp=["okta.users.read", "*"], jti="literal")
    assert_error(sample.server.get(USERS, literal), 403, "E0000006")
    # The manage scope implies the read scope.
    assert sample.server.get(ADA, sample.idp.token(scp=["users:manage"], jti="manager")).status == 200


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_and_broken_tokens_are_refused(sample: Sample, forgery: str) -> None:
    refused(sample.server.get(USERS, FORGERIES[forgery](sample.idp)))


def test_truncated_tokens_are_refused(sample: Sample) -> None:
    text = sample.idp.token()
    for length in [1, 2, 3, *range(10, len(text), 97)]:
        refused(sample.server.get(USERS, text[:-length]))


def test_a_flood_of_unknown_keys_is_no_flood_at_the_issuer(sample: Sample) -> None:
    for number in range(20):
        refused(sample.server.get(USERS, sample.idp.token(kid=f"unknown-{number}", key=RSA_KEYS[1])))
    assert sample.idp.asked.count(sample.idp.keys_path) <= WORKERS


def test_every_key_that_it_publishes_for_that_is_good(sample: Sample) -> None:
    assert sample.server.get(USERS, sample.idp.token(kid="two", jti="elliptic")).status == 200


def test_keys_come_and_go_under_running_workers(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    idp, old, new = sample.idp, sample.idp.jwks()["keys"], RSAKey.generate_key(2048)

    def answers(name: str) -> set[int]:
        """Return the answers to new tokens with the new key, sent together so that more than one worker answers."""
        found: list[int] = []
        texts = [idp.token(kid="new", key=new, jti=f"{name}-{number}") for number in range(2 * WORKERS)]
        run_together([lambda text=text: found.append(sample.server.get(USERS, text).status) for text in texts])
        return set(found)

    # Every worker has just asked for the keys.
    idp.asked.clear()
    sample.ahead.write_text("61")
    for number in range(100):
        assert answers(f"unknown-{number}") == {401}
        if idp.asked.count(idp.keys_path) == WORKERS:
            break
    monkeypatch.setattr(idp, "jwks", lambda: {"keys": [*old, new.as_dict(private=False) | {"kid": "new"}]})
    idp.asked.clear()
    assert answers("too early") == {401}
    assert idp.asked == []
    sample.ahead.write_text("122")
    assert answers("published") == {200}
    assert 1 <= idp.asked.count(idp.keys_path) <= WORKERS
    monkeypatch.undo()
    sample.ahead.write_text(str(122 + 3601))
    assert answers("withdrawn") == {401}
    assert sample.server.get(USERS, idp.token(jti="still there")).status == 200


def test_an_issuer_that_is_away_is_a_503_and_all_others_go_on(sample: Sample) -> None:
    for _ in range(WORKERS):
        answer = sample.server.get(USERS, sample.away.token())
        assert_error(answer, 503, "E0000009")
        assert answer.headers["Retry-After"] == "5"
        assert "WWW-Authenticate" not in answer.headers
        # One issuer's key does not sign for the other.
        refused(sample.server.get(USERS, sample.idp.token(iss="https://localhost/oauth2/away")))
    assert sample.server.get(USERS, sample.idp.token()).status == 200
    assert sample.server.get(USERS, sample.own).status == 200


def test_a_token_is_revoked_and_a_client_disabled_here(sample: Sample) -> None:
    text, other = sample.idp.token(jti="leaked"), sample.idp.token(jti="other")
    for _ in range(2 * WORKERS):
        assert sample.server.get(USERS, text).status == 200
    revoke_token(sample.issuer, sample.idp.issuer, NIGHTLY, "leaked", actor="tests")
    for _ in range(2 * WORKERS):
        refused(sample.server.get(USERS, text))
        assert sample.server.get(USERS, other).status == 200
    sample.issuer.disable(f"{NIGHTLY} of {sample.idp.issuer}", actor="tests")
    for _ in range(2 * WORKERS):
        refused(sample.server.get(USERS, other))
        assert sample.server.get(USERS, sample.own).status == 200
