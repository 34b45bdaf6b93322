"""The command line, as a person and as a program meets it: standard output, standard error, exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup

from tokenguard import SigningKeys, Store
from tokenguard.cli import command_tree
from tokenguard.config import Options, from_environ
from tokenguard.flask import TokenGuard
from tokenguard.sqlalchemy import SQLAlchemyStore

from .conftest import KEY, OTHER_KEY

SCOPES = '{"users:read": "Read", "users:manage": {"description": "Change", "implies": ["users:read"]}}'
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=["tokenguard", "flask"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs the tree, bare or as Flask's, in an empty folder."""
    opened: list[SQLAlchemyStore] = []

    def load() -> tuple[Options, Store]:
        options = Options.read(from_environ())
        opened.append(SQLAlchemyStore(options.database_url))
        return options, opened[-1]

    def make_app() -> Flask:
        app = Flask("app")
        app.config["TOKENGUARD_SCOPES"] = json.loads(SCOPES)
        TokenGuard(app)
        opened.append(app.extensions["tokenguard"].store)
        return app

    def run(*arguments: str, stdin: str = "", **settings: str | None) -> subprocess.CompletedProcess[str]:
        bare = request.param == "tokenguard"
        tree, words = (command_tree(load), []) if bare else (FlaskGroup(create_app=make_app), ["tokenguard"])
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            for name, value in ({"TOKENGUARD_SIGNING_KEY": KEY, "TOKENGUARD_SCOPES": SCOPES} | settings).items():
                patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
            done = CliRunner().invoke(tree, [*words, *arguments], input=stdin)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    yield run
    for store in opened:
        store.close()


@pytest.fixture
def ready(run: Run) -> Run:
    assert run("init").returncode == 0
    assert run("client", "add", "billing", "--scopes", "users:manage").returncode == 0
    return run


def refused(done: subprocess.CompletedProcess[str], message: str, status: int = 1) -> None:
    """One clear line on standard error, nothing on standard output."""
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def table(done: subprocess.CompletedProcess[str]) -> Any:
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_from_nothing_to_a_token_and_its_end(run: Run, tmp_path: Path) -> None:
    done = run("init")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "Schema version 1 is set up.\n")
    assert run("init").stderr == "The tables are up to date (schema version 1).\n"
    assert (tmp_path / "tokenguard.db").exists()
    done = run("client", "add", "billing", "--scopes", "users:manage")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Client billing has the id" in done.stderr
    issued = run("issue", "billing", "--scopes", "users:read", "--name", "nightly", "--expires-in", "90d")
    text = issued.stdout.strip()
    token_id = text.split("_")[1]
    assert issued.stdout == text + "\n"
    assert issued.stderr.startswith(f"Token {token_id} expires at 20")
    assert text not in issued.stderr

    (listed,) = table(run("list", "--json"))
    assert (listed["id"], listed["client"], listed["state"], listed["name"]) == (
        token_id,
        "billing",
        "active",
        "nightly",
    )
    shown = table(run("show", token_id, "--json"))
    assert shown == listed | {"effective_scopes": ["users:read"]}
    assert table(run("inspect", "--json", stdin=f"  {text}\n")) == shown

    run("client", "disable", "billing")
    assert table(run("inspect", "--json", stdin=text))["state"] == "client disabled"
    run("client", "enable", "billing")
    done = run("revoke", token_id)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"Token {token_id} is revoked since" in done.stderr
    assert run("revoke", token_id).stderr == done.stderr
    assert table(run("inspect", "--json", stdin=text))["state"] == "revoked"
    events = [json.loads(line) for line in run("events", "--json").stdout.splitlines()]
    assert [event["kind"] for event in events] == [
        "client.registered", "token.issued", "client.disabled", "client.enabled", "token.revoked",
    ]  # fmt: skip
    assert all(event["actor"].startswith("cli:") for event in events)
    everything = run("list").stdout + run("events").stdout + run("show", token_id).stdout + run("client", "list").stdout
    assert text[-75:] not in everything
    assert token_id in everything


def test_a_person_sees_tables_with_nothing_cut_short(ready: Run) -> None:
    ready("client", "add", "[red]a name in brackets[/red]", "--scopes", " ".join(["users:read", "users:manage"]))
    token_id = ready("issue", "billing", "--scopes", "users:read").stdout.split("_")[1]
    for command in (["list"], ["show", token_id], ["events"]):
        assert token_id in ready(*command).stdout
    clients = ready("client", "list").stdout
    assert "[red]a name in brackets[/red]" in clients
    assert "users:manage users:read" in clients
    assert "\x1b" not in clients


def test_clients_are_changed_by_name_or_id(ready: Run) -> None:
    (client,) = table(ready("client", "list", "--json"))
    assert ready("client", "set-scopes", client["id"], "users:read").returncode == 0
    assert table(ready("client", "show", "billing", "--json"))["scopes"] == ["users:read"]
    done = ready("client", "set-scopes", "billing", "")
    assert done.stderr == "The tokens of client billing may now have: nothing.\n"
    assert "none" in ready("client", "show", "billing").stdout


def test_tokens_of_one_client(ready: Run) -> None:
    ready("client", "add", "other", "--scopes", "users:read")
    ready("issue", "other", "--scopes", "users:read")
    ready("issue", "billing", "--scopes", "users:read")
    assert [token["client"] for token in table(ready("list", "--client", "other", "--json"))] == ["other"]
    assert len(table(ready("list", "--json"))) == 2
    assert table(ready("client", "show", "other", "--json"))["active_tokens"] == 1


@pytest.mark.parametrize(
    ("command", "message", "status"),
    [
        ("issue nobody --scopes users:read", "no client has the id or name 'nobody'", 1),
        ("client show nobody", "no client has the id or name 'nobody'", 1),
        ("list --client nobody", "no client has the id or name 'nobody'", 1),
        ("show nowhere", "no token has the id 'nowhere'", 1),
        ("revoke nowhere nothing", "no token has the id 'nowhere', 'nothing'", 1),
        ("client add billing --scopes users:read", "there is already a client 'billing'", 1),
        ("client add other --scopes users:write", "this service has no scope 'users:write'; it has users:read", 1),
        ("issue billing --scopes=", "a token without scopes could do nothing", 1),
        ('client add other --scopes users:"read"', "is not a scope", 2),
        ("client add  --scopes users:read", "a client needs a name", 2),
        ("issue billing --scopes users:read --expires-in 90", "'90' is not a duration: write a number and a unit", 2),
        ("issue billing --scopes users:read --expires-in 0d", "a duration lies between", 2),
    ],
)
def test_what_is_refused_is_one_clear_line(ready: Run, command: str, message: str, status: int) -> None:
    before = ready("events", "--json").stdout
    refused(ready(*command.split(" ")), message, status)
    assert ready("events", "--json").stdout == before


@pytest.mark.parametrize(
    "command", ["", "nonsense", "issue", "issue billing", "list --nonsense", "events --limit 0", "revoke"]
)
def test_wrong_usage_exits_with_2(run: Run, command: str) -> None:
    done = run(*command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"TOKENGUARD_SIGNING_KEY": None}, "TOKENGUARD_SIGNING_KEY: the signing key is missing"),
        (
            {"TOKENGUARD_SIGNING_KEY": "hunter2"},
            "TOKENGUARD_SIGNING_KEY: the signing key has 7 bytes and needs at least 32",
        ),
        (
            {"TOKENGUARD_OLD_SIGNING_KEYS": f"{'k' * 32} hunter2"},
            "TOKENGUARD_OLD_SIGNING_KEYS: the old signing key has 7",
        ),
        (
            {"TOKENGUARD_DATABASE_URL": "mysql://h/hunter2"},
            "tokenguard keeps its tables in SQLite",
        ),
        ({"TOKENGUARD_DATABASE_URL": "hunter2"}, "the database URL cannot be read"),
        ({"TOKENGUARD_DATABASE_URL": "sqlite:///nowhere.db"}, 'nowhere.db: run "tokenguard init"'),
        ({"TOKENGUARD_DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"}, "Connection refused"),
        ({"TOKENGUARD_PREFIX": "No"}, "TOKENGUARD_PREFIX"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(ready: Run, environ: dict[str, str | None], message: str) -> None:
    done = ready("issue", "billing", "--scopes", "users:read", **environ)
    refused(done, message)
    assert "hunter2" not in done.stderr


def test_genkey_prints_a_good_key(run: Run) -> None:
    keys = [run("genkey").stdout for _ in range(2)]
    assert keys[0] != keys[1]
    SigningKeys(keys[0].strip())


def test_the_installed_command(tmp_path: Path) -> None:
    """In processes of their own, as people run it; managing needs no key, and a URL is named by its option."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TOKENGUARD_")}

    def tokenguard(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tokenguard", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environ | settings, text=True, capture_output=True)

    for arguments in (["init"], ["client", "add", "x", "--scopes", "a"], ["list"], ["events"]):
        assert tokenguard(*arguments).returncode == 0
    assert (tmp_path / "tokenguard.db").exists()
    refused(tokenguard("issue", "x", "--scopes", "a"), "TOKENGUARD_SIGNING_KEY: the signing key is missing")
    refused(tokenguard("list", TOKENGUARD_DATABASE_URL="nonsense"), "TOKENGUARD_DATABASE_URL: the database URL cannot")


@pytest.mark.parametrize("text", ["", "x", "\x00", "ü" * 100, "tg_" + "A" * 16 + "_" + "B" * 75, "x" * 100_000])
def test_inspect_refuses_what_is_no_token(ready: Run, text: str) -> None:
    refused(ready("inspect", stdin=text), "this text is no valid token")


def test_inspect_tells_a_token_that_is_not_in_this_database(ready: Run) -> None:
    from tokenguard import TokenFormat

    unknown = TokenFormat(SigningKeys(KEY)).mint()
    refused(ready("inspect", stdin=unknown.text.reveal()), f"no token has the id '{unknown.id}'")
    dropped = ready("issue", "billing", "--scopes", "users:read").stdout
    refused(ready("inspect", stdin=dropped, TOKENGUARD_SIGNING_KEY=OTHER_KEY), "signed by a dropped key")
    old = ready(
        "inspect",
        stdin=dropped,
        TOKENGUARD_SIGNING_KEY=OTHER_KEY,
        TOKENGUARD_OLD_SIGNING_KEYS=KEY.replace(" ", "\u2009"),
    )
    assert old.returncode == 1


@pytest.mark.parametrize(
    "command", ["show", "revoke", "client show", "issue --scopes users:read", "inspect", "list --client"]
)
def test_a_text_given_where_something_else_is_asked_for_is_not_repeated(ready: Run, command: str) -> None:
    text = ready("issue", "billing", "--scopes", "users:read").stdout.strip()
    done = ready(*command.split(), text)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert text[-75:] not in done.stderr
    assert text.split("_")[1] in done.stderr


@pytest.mark.parametrize("command", ["{}", "client {}", "--{}", "list --{}", "show {}x", "client add {} --scopes a"])
def test_no_part_of_a_text_is_repeated_wherever_it_was_put(ready: Run, command: str) -> None:
    text = ready("issue", "billing", "--scopes", "users:read").stdout.strip()
    for given in (text, text[:-1], text[6:]):
        done = ready(*command.format(given).split())
        assert done.returncode in (1, 2)
        assert text[30:60] not in done.stdout + done.stderr
    assert text[30:60] not in ready("events", "--json").stdout


@pytest.mark.parametrize("command", ["show", "revoke", "client show", "client disable"])
def test_bytes_that_are_no_text_are_unknown(ready: Run, command: str) -> None:
    refused(ready(*command.split(), "\udcff"), "no ")


def test_a_token_whose_text_could_not_be_shown_does_not_stay_alive(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TOKENGUARD_")}

    def bash(script: str) -> subprocess.CompletedProcess[str]:
        command = f'tokenguard() {{ {sys.executable} -m tokenguard "$@"; }}; {script}'
        environ["TOKENGUARD_SIGNING_KEY"] = KEY
        return subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environ, text=True, capture_output=True)

    assert bash("tokenguard init && tokenguard client add x --scopes a").returncode == 0
    for nowhere in (">&-", ">/dev/full"):
        done = bash(f"tokenguard issue x --scopes a {nowhere}")
        assert done.returncode == 1
        assert "the text could not be written" in done.stderr
        assert "Traceback" not in done.stderr
    assert [token["state"] for token in json.loads(bash("tokenguard list --json").stdout)] == ["revoked", "revoked"]
    for odd in ("inspect <&-", "inspect <<< $'\\xff'", "list >/dev/full", "client list --json >/dev/full"):
        done = bash(f"tokenguard {odd}")
        assert done.returncode == 1, odd
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
    assert bash("tokenguard client list --json >&-").returncode == 0


def test_the_actor_is_whom_the_system_knows(ready: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "mallory")
    ready("client", "disable", "billing")
    assert "mallory" not in ready("events", "--json").stdout


def test_help_says_what_there_is(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in ("genkey", "init", "client", "issue", "list", "show", "revoke", "inspect", "events"):
        assert f"  {command} " in done.stdout
    commands = run("client", "--help").stdout
    for command in ("add", "list", "show", "disable", "enable", "set-scopes"):
        assert f"  {command} " in commands
