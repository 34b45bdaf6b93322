"""The contract of every sample under every server, whatever arrives over the wire.

A server's deviations from it are in ``wire_deviations.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

import pytest

from tokenguard import Conditions
from tokenguard.clock import DAY, now

from .conftest import mistyped
from .framework_contract import WHERE, broken, same_refusal
from .server import Answer
from .test_sample_directory import GUARDED
from .wire import assert_dull, outcome, tally
from .wire_cases import CREDENTIALS, GET, NONE, PLACES, Case, request
from .wire_deviations import DEVIATIONS, Deviation
from .wire_lines import LINES, PATHS, REWRITTEN, SMUGGLED
from .wire_servers import PAIRS, Databases, Target, started

#: How many random requests each server gets.
REQUESTS = int(os.environ.get("WIRE_REQUESTS", "300"))
ORIGIN, ASKED = b"Origin: https://example.com", b"Access-Control-Request-Method: GET"
FORBIDDEN = "403 insufficient_scope"


def bearer(token: str) -> bytes:
    return b"Authorization: Bearer " + token.encode()


def one(target: Target, line: bytes, *headers: bytes) -> Answer:
    """Send a request and return its only answer."""
    (answer,) = target.server.send(request(line, *headers))
    return answer


class WireContract:
    sample: str
    server: str

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls, databases: Databases) -> Iterator[Target]:
        (pair,) = (pair for pair in PAIRS if (pair.sample, pair.server) == (cls.sample, cls.server))
        with started(pair, databases) as target:
            yield target

    @classmethod
    def deviations(cls) -> list[Deviation]:
        return DEVIATIONS.get(f"{cls.sample} under {cls.server}", []) + DEVIATIONS.get(cls.server, [])

    def expected(self, cases: Mapping[str, Case]) -> dict[str, str]:
        return {
            name: next((found.outcome for found in self.deviations() if fnmatchcase(name, found.cases)), case.outcome)
            for name, case in cases.items()
        }

    @pytest.mark.parametrize("cases", [CREDENTIALS, PLACES, REWRITTEN], ids=["credentials", "places", "rewritten"])
    def test_what_becomes_of_each_case(self, target: Target, cases: dict[str, Case]) -> None:
        found = {name: outcome(target.server.send(case.sent(target.token))) for name, case in cases.items()}
        assert found == self.expected(cases)

    def test_a_deviation_is_one(self) -> None:
        cases = CREDENTIALS | PLACES | REWRITTEN
        for deviation in self.deviations():
            fitting = {name for name in cases if fnmatchcase(name, deviation.cases)}
            assert any(cases[name].outcome != deviation.outcome for name in fitting), deviation

    def test_whatever_the_path_a_guarded_view_is_not_reached_without_a_token(self, target: Target) -> None:
        token = target.databases.issue("okta.groups.read")
        reached = {}
        for path in PATHS:
            line = b"GET " + path + b" HTTP/1.1"
            without = assert_dull(target, request(line))
            with_one = assert_dull(target, request(line, bearer(token)), token.encode())
            # Where a token makes a difference, one is required.
            assert without in (with_one, NONE), path
            if with_one in ("200", FORBIDDEN):
                assert without == NONE, path
                reached[path] = with_one
        assert (
            reached.items()
            >= {
                b"/api/v1/users": FORBIDDEN,
                b"/api/v1/%75sers": FORBIDDEN,
                b"/mounted/api/v1/users": FORBIDDEN,
                b"/api/v1/groups": "200",
                b"/mounted/api/v1/groups": "200",
            }.items()
        )

    def test_whatever_the_line_nothing_is_reached(self, target: Target) -> None:
        for line in LINES:
            assert_dull(target, request(line))

    def test_a_request_hidden_in_another_reaches_nothing(self, target: Target) -> None:
        for headers, body in SMUGGLED:
            assert_dull(target, request(b"POST /api/v1/users HTTP/1.1", *headers, body=body))

    def test_random_requests(self, target: Target) -> None:
        counted = tally(target, REQUESTS)
        # They are hostile, but not so strange that none reaches tokenguard or a view.
        assert sum(counted[told] for told in (NONE, "400 invalid_request", "401 invalid_token")) > REQUESTS / 10
        assert counted["200"] > 0

    @staticmethod
    def good(target: Target) -> bytes:
        return bearer(target.token.decode())

    def test_what_is_guarded_is_guarded(self, target: Target) -> None:
        for path, methods in GUARDED.items():
            for method in methods:
                same_refusal(one(target, f"{method} {path} HTTP/1.1".encode()), 401, "missing_token")

    def test_the_refusal_of_a_head_is_that_of_a_get_without_its_body(self, target: Target) -> None:
        for headers, status in [((), 401), ((b"Authorization: Bearer x y",), 400), ((b"X-API-Key: x",), 401)]:
            got, head = one(target, GET, *headers), one(target, GET.replace(b"GET", b"HEAD"), *headers)
            assert (head.status, head.body) == (got.status, b"") == (status, b"")
            for name in ("WWW-Authenticate", "Cache-Control", "Vary", "Content-Type"):
                assert head.headers.get_all(name) == got.headers.get_all(name), name

    def test_a_preflight_passes_without_running_the_view(self, target: Target) -> None:
        for path in (*GUARDED, "/mounted/api/v1/users"):
            line = f"OPTIONS {path} HTTP/1.1".encode()
            for headers in ((), (b"Authorization: Bearer x",), (self.good(target),)):
                answer = one(target, line, ORIGIN, ASKED, *headers)
                assert (answer.status in (200, 204), answer.body) == (True, b""), path
            for headers in ((), (ORIGIN,), (ASKED,)):
                answer = one(target, line, *headers)
                assert answer.status == 401 or answer.body == b"", path

    def test_only_an_options_request_is_a_preflight(self, target: Target) -> None:
        for method in ("GET", "HEAD", "POST", "PUT", "OPTION", "OPTIONSX", "options", "QUERY"):
            for path in GUARDED:
                line = f"{method} {path} HTTP/1.1".encode()
                assert_dull(target, request(line, ORIGIN, ASKED, b"X-HTTP-Method-Override: OPTIONS"))
        assert one(target, GET, ORIGIN, ASKED).status == 401

    def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(self, target: Target) -> None:
        issuer, long_ago = target.databases.issuer, target.databases.issuer_at(now() - DAY)
        expired = long_ago.issue("tests", "okta.users.read", expires_in=60, actor="tests").text.reveal()
        revoked = target.databases.issue()
        issuer.revoke(revoked.split("_")[1], actor="tests")
        unknown, valid = issuer.tokens.mint().text.reveal(), target.token.decode()
        forged = mistyped(valid)
        answers = [one(target, GET, bearer(text)) for text in (expired, revoked, unknown, forged, "x", f"{valid}=")]
        for answer in answers:
            same_refusal(answer, 401, "invalid_token")
            assert answer.headers["WWW-Authenticate"] == f'Bearer realm="api", error="invalid_token", {WHERE}'
            del answer.headers["Date"]
        assert len({(answer.body, tuple(answer.headers.items())) for answer in answers}) == 1

    def test_a_scope_that_is_lacking(self, target: Target) -> None:
        refused = one(target, b"GET /api/v1/groups HTTP/1.1", self.good(target))
        same_refusal(refused, 403, "insufficient_scope")
        challenge = f'Bearer realm="api", error="insufficient_scope", scope="okta.groups.read", {WHERE}'
        assert refused.headers["WWW-Authenticate"] == challenge

    def test_another_network(self, target: Target) -> None:
        elsewhere = bearer(target.databases.issue(conditions=Conditions.parse(["10.0.0.0/8"])))
        for header in ("X-Forwarded-For", "X_Forwarded_For", "Forwarded", "REMOTE_ADDR", "X-Real-IP", "Remote-Addr"):
            same_refusal(one(target, GET, elsewhere, f"{header}: 10.0.0.1".encode()), 403, "network_not_allowed")

    def test_too_many_requests(self, target: Target) -> None:
        limited = bearer(target.databases.issue(conditions=Conditions.parse(rate="1/day")))
        assert one(target, GET, limited).status == 200
        refused = one(target, GET, limited)
        same_refusal(refused, 429, "rate_limited")
        assert 0 < int(refused.headers["Retry-After"]) <= 86_400
        assert "RateLimit" not in refused.headers

    def test_the_store_is_down(self, target: Target) -> None:
        unseen = bearer(target.databases.issue())
        with broken(target.databases.store):
            refused = one(target, GET, unseen)
            same_refusal(refused, 503, "temporarily_unavailable")
            assert 0 < int(refused.headers["Retry-After"]) <= 60
            same_refusal(one(target, GET, b"Authorization: Bearer x"), 401, "invalid_token")
            same_refusal(one(target, GET), 401, "missing_token")
            assert one(target, b"GET / HTTP/1.1").status == 200
        assert one(target, GET, unseen).status == 200
