"""``make demo``: a sample under gunicorn, real commands, real requests, and what each of them shows.

Exits 0 only if every answer was the one that it must be.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tokenguard.cache import STALENESS

from . import idp
from .playground import WORKERS, Playground, PlaygroundError, Sample, chosen_sample

USERS = "/api/v1/users"
TOKENS = "/api/v1/api-tokens"
NEW_USER = {
    "profile": {"firstName": "Ada", "lastName": "Lovelace", "email": "ada@example.com", "login": "ada@example.com"}
}


@dataclass(frozen=True)
class Answer:
    """The answer to a request; ``data`` is the JSON body, None without one."""

    status: int
    headers: Mapping[str, str]
    data: Any


@dataclass(frozen=True)
class Step:
    """One request: what it tries, the status that its answer must have, and what of the answer to show."""

    title: str
    expected: int
    shows: Callable[[Answer], str]
    method: str = "GET"
    path: str = USERS
    token: str | None = None
    body: dict[str, Any] | None = None
    #: How often to send it at most, until the status is the expected one; earlier tries must be answered with 200.
    tries: int = 1


def main(sample: Sample) -> int:
    """Run the demo; returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="tokenguard-demo-") as folder, idp.serve() as partner:
        playground = Playground(Path(folder), sample)
        playground.settings["TOKENGUARD_ISSUERS"] = partner.trusted
        say("A database, a client, and two tokens for it, from the command line:")
        tokens = set_up(playground)
        with playground.serve() as url:
            say(f"\nThe service runs under gunicorn with {WORKERS} workers at {url}. Real requests:")
            good = [perform(step, url) for step in all_steps(playground, partner, *tokens)]
    failed = good.count(False)
    say(f"\n{len(good)} requests, {failed} of them not answered as they must be." if failed else "\nAll as it must be.")
    return 1 if failed else 0


def set_up(playground: Playground) -> tuple[str, str]:
    """Create the tables, register a client and issue a token that reads and one that manages."""
    run(playground, *playground.sample.tables)
    ceiling = "okta.users.manage okta.groups.read okta.apiTokens.manage"
    run(playground, "tokenguard", "client", "add", "acme-sync", "--scopes", ceiling)
    issue = ("tokenguard", "issue", "acme-sync", "--name")
    reader = run(playground, *issue, "reader", "--scopes", "okta.users.read", "--expires-in", "90d")
    return reader, run(playground, *issue, "manager", "--scopes", "okta.users.manage")


def run(playground: Playground, *command: str) -> str:
    """Print the command as one would type it, and run it; returns its output."""
    quoted = [f'"{word}"' if " " in word else word for word in command]
    say(f"  $ {playground.sample.command} {' '.join(quoted)}")
    return playground.run(*command)


def until_known(playground: Playground, *command: str) -> str:
    """Do the same for a change to what is in use, and wait until every worker knows of it."""
    printed = run(playground, *command)
    settle()
    return printed


def settle() -> None:
    """Wait until every worker knows what another process has changed."""
    say(f"    (known to every worker within {STALENESS:g} second)")
    time.sleep(STALENESS)


def all_steps(playground: Playground, partner: idp.Idp, reader: str, manager: str) -> Iterator[Step]:
    """Yield the requests; each is made when the one before has been answered."""
    yield from scopes_steps(reader, manager)
    yield from issuer_steps(playground, partner, reader)
    yield from ending_steps(playground, reader)
    yield from rotation_steps(playground)
    yield from condition_steps(playground)
    yield from management_steps(playground)


def scopes_steps(reader: str, manager: str) -> Iterator[Step]:
    """Who may do what."""
    forged = reader[:-1] + ("0" if reader[-1] != "0" else "1")
    yield Step("the public page", 200, lambda answer: str(answer.data["name"]), path="/")
    yield Step("no token", 401, challenge)
    yield Step("garbage", 401, challenge, token="garbage")
    yield Step("forged: one character changed", 401, challenge, token=forged)
    yield Step("read with the read token", 200, users, token=reader)
    yield Step("create with the read token", 403, challenge, "POST", token=reader, body=NEW_USER)
    yield Step("groups with the read token", 403, challenge, path="/api/v1/groups", token=reader)
    yield Step("create with the manage token", 200, created, "POST", token=manager, body=NEW_USER)
    yield Step("read with it: manage implies read", 200, found, path=f"{USERS}/ada@example.com", token=manager)


def issuer_steps(playground: Playground, partner: idp.Idp, reader: str) -> Iterator[Step]:
    """A token of another issuer, which the service trusts, beside one of its own."""
    claims = partner.claims("0oa1nightly", "okta.users.read", "okta.groups.read")
    text, audience = partner.sign(claims), {"aud": "api://another"}
    say(f"  A partner's issuer, {partner.issuer}, has signed an access token: {text[:16]}…")
    say(f"    {json.dumps(claims)}")
    yield Step("read with the partner's JWT", 200, users, token=text)
    yield Step("read with a token of our own", 200, users, token=reader)
    yield Step("groups with the JWT", 200, groups, path="/api/v1/groups", token=text)
    yield Step("create with the JWT", 403, challenge, "POST", token=text, body=NEW_USER)
    yield Step("forged: another signature", 401, challenge, token=text[:-9] + text[:9])
    yield Step("a JWT for another service", 401, challenge, token=partner.sign(claims | audience))
    known = ("--issuer", partner.issuer, "--client-id", claims["cid"])
    until_known(playground, "tokenguard", "revoke", claims["jti"], *known)
    yield Step("the JWT, revoked here", 401, challenge, token=text)


def ending_steps(playground: Playground, reader: str) -> Iterator[Step]:
    """What ends a token, for a while or for good."""
    tokenguard = partial(until_known, playground, "tokenguard")
    tokenguard("client", "disable", "acme-sync")
    yield Step("read while the client is disabled", 401, challenge, token=reader)
    tokenguard("client", "enable", "acme-sync")
    yield Step("read when it is enabled again", 200, users, token=reader)
    tokenguard("revoke", token_id(reader))
    yield Step("read with the revoked token", 401, challenge, token=reader)


def rotation_steps(playground: Playground) -> Iterator[Step]:
    """A token is replaced while its client goes on working."""
    tokenguard = partial(run, playground, "tokenguard")
    old = tokenguard("issue", "acme-sync", "--name", "nightly", "--scopes", "okta.users.read")
    new = tokenguard("rotate", token_id(old), "--overlap", "1h")
    yield Step("read with the new token", 200, users, token=new)
    yield Step("the old one in the overlap", 200, users, token=old)
    say_use(tokenguard("show", token_id(old)))
    until_known(playground, "tokenguard", "revoke", token_id(old))
    yield Step("the old one, ended early", 401, challenge, token=old)
    yield Step("the new one goes on", 200, users, token=new)


def condition_steps(playground: Playground) -> Iterator[Step]:
    """From where, and how often, a token may be used."""
    tokenguard = partial(run, playground, "tokenguard")
    issue = ("issue", "acme-sync", "--scopes", "okta.users.read")
    inside = tokenguard(*issue, "--network", "10.0.0.0/8")
    yield Step("from outside its network", 403, why, token=inside)
    limited = tokenguard(*issue, "--rate", "3/minute")
    for number in range(1, 4):
        yield Step(f"3/minute: request {number}", 200, users, token=limited)
    # Without Redis each worker counts by itself, so every further worker may accept as many again.
    tries = 3 * (WORKERS - 1) + 1
    yield Step("3/minute: on, until it is enough", 429, retry_after, token=limited, tries=tries)


def management_steps(playground: Playground) -> Iterator[Step]:
    """Tokens that a client manages by itself, over HTTP."""
    issue = ("tokenguard", "issue", "acme-sync", "--name", "self-service", "--scopes")
    manager = run(playground, *issue, "okta.users.read okta.apiTokens.manage")
    small, successor = Kept(), Kept()
    yield Step("list the client's own tokens", 200, tokens, path=TOKENS, token=manager)
    wanted = {"name": "nightly", "scopes": ["okta.users.read"]}
    yield Step("issue a smaller one", 201, small, "POST", TOKENS, manager, wanted)
    beyond = {"scopes": ["okta.users.manage"]}
    yield Step("issue more than one has", 403, why, "POST", TOKENS, manager, beyond)
    yield Step("read with the smaller one", 200, users, token=small.text)
    yield Step("list tokens with it", 403, challenge, path=TOKENS, token=small.text)
    one = f"{TOKENS}/{token_id(small.text)}"
    yield Step("rotate it", 201, successor, "POST", f"{one}/rotate", manager, {"overlap": "PT1H"})
    yield Step("read with its successor", 200, users, token=successor.text)
    yield Step("revoke the old one", 204, nothing, "DELETE", one, manager)
    settle()
    yield Step("read with the old one", 401, challenge, token=small.text)
    yield Step("the successor revokes itself", 204, nothing, "DELETE", f"{TOKENS}/current", successor.text)
    settle()
    yield Step("read with the successor", 401, challenge, token=successor.text)


class Kept:
    """Shows what is not secret of a new token, and keeps its text for later steps."""

    text = ""

    def __call__(self, answer: Answer) -> str:
        self.text = answer.data["token"]
        return f"token {answer.data['id']} ({' '.join(answer.data['scopes'])}), its text shown only once"


def token_id(text: str) -> str:
    """Return the public id in a token's text."""
    return text.split("_")[1]


def challenge(answer: Answer) -> str:
    """What to show of a refusal."""
    return answer.headers["WWW-Authenticate"]


def why(answer: Answer) -> str:
    """What to show of a refusal whose challenge gives no reason."""
    return str(answer.data["errorCauses"][0]["errorSummary"])


def retry_after(answer: Answer) -> str:
    """What to show of a temporary refusal."""
    return f"Retry-After: {answer.headers['Retry-After']} (without Redis each worker counts for itself)"


def users(answer: Answer) -> str:
    """What to show of a list."""
    return f"{len(answer.data)} users"


def groups(answer: Answer) -> str:
    """What to show of a list of groups."""
    return f"{len(answer.data)} groups"


def tokens(answer: Answer) -> str:
    """What to show of a list of tokens."""
    return f"{len(answer.data)} active tokens, the last for {' '.join(answer.data[-1]['scopes'])}"


def nothing(answer: Answer) -> str:
    """What to show of an empty answer."""
    return "(no body)"


def created(answer: Answer) -> str:
    """What to show of a new user."""
    return f"user {answer.data['id']}, {answer.data['status']}"


def found(answer: Answer) -> str:
    """What to show of a user."""
    profile = answer.data["profile"]
    return f"{profile['firstName']} {profile['lastName']}"


def say_use(table: str) -> None:
    """Print what ``show`` reports of a token in overlap; raises PlaygroundError unless it reports that it is used."""
    lines = [line.strip() for line in table.splitlines()]
    for line in lines:
        if line.startswith(("successor id", "overlap ends at", "last address", "still used")):
            say(f"      {line}")
    if not any(line.startswith("still used") and " yes, " in line for line in lines):
        raise PlaygroundError(f"show does not tell that the old token is still used:\n{table}")


def perform(step: Step, url: str) -> bool:
    """Make the request and print it with its outcome; returns whether the outcome is the expected one."""
    answer = request(step, url)
    for _ in range(step.tries - 1):
        if answer.status == 200:
            answer = request(step, url)
    good = answer.status == step.expected
    shown = step.shows(answer) if good else f"must be {step.expected}: {answer.data}"
    say(f"  {'ok ' if good else 'BAD'} {answer.status}  {step.method:6} {step.path:42} {step.title:34} {shown}")
    return good


def request(step: Step, url: str) -> Answer:
    """Send the request and read the answer, whatever its status."""
    body = None if step.body is None else json.dumps(step.body).encode()
    sent = urllib.request.Request(url + step.path, data=body, method=step.method)
    if step.token is not None:
        sent.add_header("Authorization", f"Bearer {step.token}")
    if body is not None:
        sent.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(sent, timeout=30) as response:
            return read(response)
    except urllib.error.HTTPError as response:
        with response:
            return read(response)


def read(response: Any) -> Answer:
    """Return the parts of an answer that the demo looks at."""
    body = response.read()
    return Answer(response.status, response.headers, json.loads(body) if body else None)


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(chosen_sample(sys.argv[1:])))
    except PlaygroundError as error:
        sys.exit(f"Error: {error}")
