"""Outcomes of requests that are sent as raw bytes, and random requests that nobody would think of.

``python -m tests.wire [REQUESTS] [SEED]`` sends that many to each sample under each server, and prints a table.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sample_flask import okta

from .framework_contract import same_refusal
from .server import Answer
from .wire_cases import GET, request
from .wire_servers import PAIRS, Target, opened, started

#: A server's own statuses for a method or a version of HTTP that it does not support.
SERVERS_OWN = {501, 505}
_CHALLENGE = re.compile(
    r'Bearer realm="api"(?:, error="[a-z_]+")?(?:, scope="[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")?'
    r', resource_metadata="[!#-\[\]-~]+"'
)


def outcome(answers: list[Answer]) -> str:
    """Return the answers in a few words; raise AssertionError for one that is not as it must be."""
    return ", ".join(map(_told, answers)) or "closed"


def _told(answer: Answer) -> str:
    if answer.status == 0:
        return "no status line"
    if answer.headers["Content-Type"] == "application/problem+json":
        if "WWW-Authenticate" in answer.headers:
            assert _CHALLENGE.fullmatch(answer.headers["WWW-Authenticate"])
        if not answer.body:
            return f"{answer.status} without a body"
        code = str(answer.json["code"])
        same_refusal(answer, answer.status, code)
        return f"{answer.status} {code}"
    if answer.status == 200:
        if answer.body and answer.json == okta.INDEX:
            return "200 public"
        if not answer.body and "Allow" in answer.headers:
            return "200 options"
        assert "Authorization" in answer.headers["Vary"]
        assert answer.headers["Cache-Control"] == "private"
    elif answer.body.startswith(b"{") and "errorCode" in answer.json:
        return f"{answer.status} application"
    return str(answer.status)


def assert_dull(target: Target, sent: bytes, token: bytes = b"") -> str:
    """Send a request and return its outcome; raise AssertionError, with the request, for one that must not occur.

    Only ``token``, or the target's own if there is none, may be let in.
    """
    try:
        answers = target.server.send(sent)
        told = outcome(answers)
    except Exception as error:
        raise AssertionError(f"{sent[:2000]!r} was answered with {error!r}") from error
    for answer in answers:
        reached = _told(answer) == "200" or b'"profile"' in answer.body
        may_reach = is_good(sent, token or target.token)
        assert may_reach or not reached, f"{sent[:2000]!r} has reached a view"
        is_dull = answer.status < 500 or answer.status in SERVERS_OWN
        assert is_dull, f"{sent[:2000]!r} was answered with {told}"
        if 300 <= answer.status < 400:
            host = urlsplit(answer.headers["Location"]).netloc
            assert host in sent.decode("latin-1").partition("\nHost: ")[2], f"{sent[:2000]!r} leads to {host}"
        assert answer.status or target.pair.speaks_http_09, f"{sent[:2000]!r} was answered with {answer.body!r}"
    return told


# The random requests

# White space as the most lenient of the servers defines it.
_SPACE = rb"[ \t\v\f\x1c-\x1f\x85\xa0]*"
_GOOD = re.compile(
    rb"(?:^|[\r\n])(?:authorization:" + _SPACE + rb"(?:bearer +|ssws *)|x[-_]api[-_]key:" + _SPACE + rb")"
    rb"(\w+)" + _SPACE + rb"(?=[\r\n])",
    re.IGNORECASE | re.ASCII,
)
_FOLD = re.compile(rb"\r?\n[ \t]+")
_PIECES = [
    *(b"\r\n", b"\n", b"\r", b"\r\n ", b"\r\n\r\n", b" ", b"\t", b":", b",", b";", b"=", b"?", b"#", b"\\", b"@"),
    *(b"%2f", b"%2e%2e", b"%00", b"//", b"/../", b"&access_token=", b"HTTP/1.1", b"HTTP/1.0"),
    *(b", Bearer ", b"SSWS ", b"Basic ", b"\r\nX-API-Key: ", b"\r\nX_API_Key: ", b"\r\nHost: evil.example"),
    *(b"\r\nContent-Length: 5", b"\r\nTransfer-Encoding: chunked"),
    *(b"\x00", b"\x0b", b"\x0c", b"\x7f", b"\x85", b"\xa0", b"\xff", b"\xc0\xaf"),
    *(text.encode() for text in "ſ\u2028１"),
]


def is_good(sent: bytes, token: bytes) -> bool:
    """Return whether the request may be let in: whether some header in it holds the token in an allowed form."""
    return token in _GOOD.findall(_FOLD.sub(b" ", sent))


def hostile_requests(token: bytes, seed: str) -> Iterator[bytes]:
    """Yield, without end, the good request with changed bytes in its line and its Authorization header."""
    # Not for any secret: the same seed gives the same requests, apart from the token.
    rng = random.Random(seed)
    while True:
        line, header = GET, b"Authorization: Bearer " + token
        if rng.random() < 0.4:
            line = _mutated(line, rng)
        if rng.random() < 0.8:
            header = _mutated(header, rng)
        headers = [header] * rng.choices([0, 1, 2], [2, 7, 1])[0]
        # The body is complete in both framings: as five bytes, and as chunks, of which there are none.
        yield request(line, *headers, body=b"0\r\n\r\n")


def _mutated(text: bytes, rng: random.Random) -> bytes:
    changed = bytearray(text)
    for _ in range(rng.randint(1, 3)):
        # Half of the positions are the beginnings and ends of words.
        borders = [found.start() for found in re.finditer(rb"\b", changed)] or [0]
        at, other = (rng.choice(rng.choice([borders, range(len(changed) + 1)])) for _ in range(2))
        part = slice(min(at, other), max(at, other))
        match rng.randrange(8):
            case 0:
                changed[at:at] = rng.choice(_PIECES)
            case 1:
                changed[at : at + 1] = rng.choice(_PIECES)
            case 2:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 3:
                del changed[at : at + rng.randint(1, 3)]
            case 4:
                changed[part] = changed[part].swapcase()
            case 5:
                changed[at:at] = changed[part]
            case 6:
                changed[part] = changed[part][::-1]
            case 7 if rng.random() < 0.1:
                changed[at:at] = changed[at : at + 1] * rng.choice([100, 9_000, 70_000])
    return bytes(changed)


def tally(target: Target, requests: int, seed: str = "1") -> Counter[str]:
    """Count the outcomes of that many random requests; raise AssertionError for one that must not occur."""
    generator = hostile_requests(target.token, seed)
    return Counter(assert_dull(target, next(generator)) for _ in range(requests))


def column(told: str) -> str:
    """Return the table's column for an outcome: the status of the first answer, with its kind if the status is 200."""
    first = told.partition(",")[0]
    return first[:3] if first[:3].isdigit() and first[:3] != "200" else first


def table(counted: Mapping[str, Counter[str]]) -> str:
    """Return the outcomes of each pair as a Markdown table."""
    by_column = {name: Counter[str]() for name in counted}
    for name, outcomes in counted.items():
        for told, number in outcomes.items():
            by_column[name][column(told)] += number
    columns = sorted({told for outcomes in by_column.values() for told in outcomes})
    rows = [["", *columns], ["---"] + ["--:"] * len(columns)]
    rows += [[name, *(f"{outcomes[told]:,}" for told in columns)] for name, outcomes in by_column.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(requests: int = 300, seed: str = "1") -> None:
    counted = {}
    for sample in dict.fromkeys(pair.sample for pair in PAIRS):
        with tempfile.TemporaryDirectory() as folder, opened(sample, Path(folder)) as databases:
            for pair in PAIRS:
                if pair.sample == sample:
                    with started(pair, databases) as target:
                        counted[pair.name] = tally(target, requests, seed)
    print(table(counted))  # noqa: T201


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:3])
