"""The command line, as a person and as a program meets it: standard output, standard error, exit status."""

from __future__ import annotations

import io
import json
import math
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup

from tokenguard import Issuer, MemoryStore, SigningKeys, Store, StoreUnavailable, TokenFormat, __version__
from tokenguard.cli import audit, command_tree, tokens
from tokenguard.cli.arguments import moment
from tokenguard.cli.output import EVENT_COLUMNS, print_fields, print_json, print_list, print_rows
from tokenguard.clock import DAY, isoformat, now
from tokenguard.config import Options, from_environ
from tokenguard.errors import StoreError
from tokenguard.flask import TokenGuard
from tokenguard.secret import Secret
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.store import FEED_LIMIT, Event, EventFilter, Feed, NewUse

from .conftest import KEY, OTHER_KEY, StoppedClock, World, works

SCOPES = '{"users:read": "Read", "users:manage": {"description": "Change", "implies": ["users:read"]}}'
Run = Callable[..., subprocess.CompletedProcess[str]]
#: Flask's own commands and all installed ones, looked for only once, as that takes longer than running one.
FLASK = FlaskGroup()


@pytest.fixture(params=["tokenguard", "flask"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs commands of the tree, on its own or below Flask's, in an empty folder."""
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
        tree, words = (command_tree(load), []) if bare else (FLASK, ["tokenguard"])
        with monkeypatch.context() as patch:
            patch.setattr(FLASK, "create_app", make_app)
            patch.chdir(tmp_path)
            for name, value in ({"TOKENGUARD_SIGNING_KEY": KEY, "TOKENGUARD_SCOPES": SCOPES} | settings).items():
                patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
            done = CliRunner().invoke(tree, [*words, *arguments], input=stdin)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    yield run
    for store in opened:
        store.close()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one client, to be copied."""
    path = tmp_path_factory.mktemp("prepared") / "tokenguard.db"
    with closing(SQLAlchemyStore(f"sqlite:///{path}")) as store:
        store.upgrade()
        Issuer(store, TokenFormat(SigningKeys(KEY))).register("billing", "users:manage", actor="tests")
    return path


@pytest.fixture
def ready(run: Run, prepared: Path, tmp_path: Path) -> Run:
    shutil.copy(prepared, tmp_path)
    return run


def refused(done: subprocess.CompletedProcess[str], message: str, status: int = 1) -> None:
    """Assert that there is one clear line on standard error, and nothing on standard output."""
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def table(done: subprocess.CompletedProcess[str]) -> Any:
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_from_nothing_to_a_token_and_its_end(run: Run, tmp_path: Path) -> None:
    done = run("init")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "Schema version 3 is set up.\n")
    assert run("init").stderr == "The tables are up to date (schema version 3).\n"
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
    assert shown.items() >= listed.items()
    assert (shown["effective_scopes"], shown["unused_scopes"], shown["key"]) == (["users:read"],) * 2 + ("current",)
    assert table(run("inspect", "--json", stdin=f"  {text}\n")) == shown

    run("client", "disable", "billing")
    assert table(run("inspect", "--json", stdin=text))["state"] == "client disabled"
    run("client", "enable", "billing")
    done = run("revoke", token_id)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"Token {token_id} was revoked at" in done.stderr
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


IDS = {"client_id": "C" * 16, "token_id": "T" * 16}


def in_terminal(
    monkeypatch: pytest.MonkeyPatch, width: int, row: dict[str, Any], columns: dict[str, str] = EVENT_COLUMNS
) -> list[str]:
    """The lines that a terminal of this width shows for two such rows, by default events."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal := Terminal())
        patch.setenv("COLUMNS", str(width))
        patch.setenv("TERM", "xterm")
        print_rows([row, row], columns)
    return click.unstyle(terminal.getvalue()).splitlines()


def test_json_holds_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "a\x7f\x1b\u202e"}, indent=None)
    assert capsys.readouterr().out == '{"name": "a\\u007f\\u001b\\u202e"}\n'


def test_where_there_are_no_scopes_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"scopes": []})
    assert capsys.readouterr().out.split() == ["scopes", "none"]


def test_ids_are_whole_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    event = dict.fromkeys(EVENT_COLUMNS, "some words " * 9) | {"number": 7, "at": "now", "kind": "token.issued"} | IDS
    lines = in_terminal(monkeypatch, 100, event)
    assert [line.split().count("No.") for line in lines].count(1) == 1
    assert all(sum(whole in line for line in lines) == 2 for whole in IDS.values())
    assert max(map(len, lines)) == 100


@pytest.mark.parametrize("width", [36, 40])
def test_times_are_whole_in_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    client = {"scopes": ["users:read", "users:manage"], "created_at": "2026-01-31T12:00:00Z"}
    lines = in_terminal(monkeypatch, width, client, {"scopes": "Scopes", "created_at": "Created"})
    assert sum(client["created_at"] in line for line in lines) == 2


@pytest.mark.parametrize("width", [40, 80])
def test_where_a_terminal_is_too_narrow_for_a_table_each_row_is_shown_by_itself(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    event = {"number": 7, "at": "2026-01-31T12:00:00Z", "kind": "client.registered", "actor": "cli:alice", "data": {}}
    lines = in_terminal(monkeypatch, width, event | IDS)
    facts = [line.split() for line in lines if line.strip()]
    ids = [["Client", IDS["client_id"]], ["Token", IDS["token_id"]]]
    start = [["No.", "7"], ["At", event["at"]], ["Event", event["kind"]]]
    assert facts == [*start, *ids, ["By", event["actor"]], ["Changed"]] * 2
    assert max(map(len, lines)) <= width


def test_a_row_is_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"name": "many scopes", "scopes": ["some.scope"] * 40}], {"name": "Name", "scopes": "Scopes"})
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "some.scope" in line)
    assert line.split() == ["many", "scopes", *["some.scope"] * 40]


@pytest.mark.parametrize(
    ("charset", "shown"),
    [("latin-1", "é \\u65e5 \\U0001f511"), ("ascii", "\\xe9 \\u65e5 \\U0001f511"), ("utf-8", "é 日 🔑")],
)
def test_what_the_locale_has_no_characters_for_is_escaped(
    world: World, tmp_path: Path, charset: str, shown: str
) -> None:
    """So one name keeps nobody from seeing, or revoking, what is listed after it."""
    name = "é 日 🔑"
    leaked = [world.issue(client=world.client(each).id) for each in (name, "billing")]
    world.issuer.set_scopes(name, "users:read", actor="tests")
    leak = tmp_path / "leak"
    leak.write_text("\n".join(issued.text.reveal() for issued in leaked))
    options = Options.read({"SIGNING_KEY": KEY, "SCOPES": SCOPES})
    tree = command_tree(lambda: (options, world.store))

    def run(*arguments: str) -> str:
        done = CliRunner(charset=charset).invoke(tree, arguments)
        assert "cannot" not in done.stderr
        return done.stdout_bytes.decode(charset)

    assert f"of client {shown}: active, revoked now\n" in run("scan", str(leak), "--revoke")
    assert all(record.token.revoked_at for record in world.store.records())
    for command in ("list", "client list", f"show {leaked[0].token.id}", "events"):
        assert shown in run(*command.split())
    assert {row["client"] for row in json.loads(run("list", "--json"))} == {name, "billing"}
    assert [json.loads(line)["client"] for line in run("scan", str(leak), "--json").splitlines()] == [name, "billing"]


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


def test_tokens_in_one_state(ready: Run) -> None:
    ids = [ready("issue", "billing", "--scopes", "users:read").stdout.split("_")[1] for _ in range(3)]
    ready("revoke", ids[1])
    assert [token["id"] for token in table(ready("list", "--state", "active", "--json"))] == [ids[0], ids[2]]
    assert [token["id"] for token in table(ready("list", "--state", "revoked", "--json"))] == [ids[1]]
    ready("client", "disable", "billing")
    disabled = ready("list", "--client", "billing", "--state", "client disabled", "--json")
    assert [token["id"] for token in table(disabled)] == [ids[0], ids[2]]
    wrong = ready("list", "--state", "disabled")
    assert (wrong.returncode, "'client disabled'" in wrong.stderr) == (2, True)


def test_no_command_that_shows_something_reads_all_tokens_at_once(
    ready: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may have very many."""
    monkeypatch.setattr("tokenguard.store.PAGE", 2)
    monkeypatch.setattr(SQLAlchemyStore, "records", None)
    ids = [ready("issue", "billing", "--scopes", "users:read").stdout.split("_")[1] for _ in range(5)]
    ready("revoke", ids[0])
    for place, token_id in enumerate(ids[1:4]):
        use(tmp_path, token_id, now() - place * DAY)
    last = table(ready("show", ids[1], "--json"))["last_used_at"]
    shown = table(ready("client", "show", "billing", "--json"))
    assert (shown["active_tokens"], shown["last_used_at"]) == (4, last)
    assert [token["id"] for token in table(ready("list", "--json"))] == ids


@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_a_long_list_is_printed_as_it_is_read(
    count: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tokenguard.cli.output.ROWS", 2)
    rows = [{"id": f"row{number}", "scopes": ["a", "b"][:number]} for number in range(count)]
    print_list(rows, {"id": "ID"}, as_json=True)
    assert capsys.readouterr().out == json.dumps(rows, indent=2) + "\n"
    print_list(rows, {"id": "ID"}, as_json=False)
    printed = capsys.readouterr().out.split()
    assert (printed.count("ID"), [text for text in printed if "row" in text]) == (
        max(1, math.ceil(count / 2)),
        [row["id"] for row in rows],
    )

    def broken() -> Iterator[dict[str, object]]:
        yield from rows
        raise StoreError("away")

    for as_json in (True, False):
        with pytest.raises(StoreError):
            print_list(broken(), {"id": "ID"}, as_json=as_json)
        assert capsys.readouterr().out.count("row") == (count if as_json else count - count % 2)


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
        ("issue billing --scopes=", "a token must have at least one scope", 1),
        ('client add other --scopes users:"read"', "is not a scope", 2),
        ("client add  --scopes users:read", "the name of a client is required", 2),
        ("issue billing --scopes users:read --expires-in 90", "'90' is not a duration: write a number and a unit", 2),
        ("issue billing --scopes users:read --expires-in 0d", "a duration must be between", 2),
        ("issue billing --scopes users:read --idle 60s", "is recorded; this is 1m", 2),
        ("issue billing --scopes users:read --idle soon", "'soon' is not a duration", 2),
        ("issue billing --scopes users:read --network 10.0.0.1/8", "'10.0.0.1/8' is not a network", 2),
        ("issue billing --scopes users:read --rate 0/minute", "a rate must be between 1 and", 2),
        ("client add other --scopes users:read --rate 5/week", "'5/week' is not a rate: write it as 100/minute", 2),
        ("client set-conditions billing --deny-network x", "'x' is not a network", 2),
        ("client set-conditions nobody", "no client has the id or name 'nobody'", 1),
        ("client add other --scopes users:read --issuer https://idp.example --client-id a\t", "printable text", 2),
        ("rotate nowhere", "no token has the id 'nowhere'", 1),
        ("rotate nowhere --overlap 24", "'24' is not a duration", 2),
        ("events --kind token.eaten", "unknown kind of event 'token.eaten'; the kinds are client.registered,", 2),
        ("events --since yesterday", "'yesterday' is not a time: write 2026-01-31, 2026-01-31T12:00:00Z, or 24h", 2),
        ("events --since 2026-02-30", "'2026-02-30' is not a time", 2),
        ("events --client nobody", "no client has the id or name 'nobody'", 1),
        ("prune --older-than 90", "'90' is not a duration", 2),
        ("prune --older-than 23h", "the age must be at least 1 day; this is 23h", 2),
    ],
)
def test_what_is_refused_is_one_clear_line(ready: Run, command: str, message: str, status: int) -> None:
    before = ready("events", "--json").stdout
    refused(ready(*command.split(" ")), message, status)
    assert ready("events", "--json").stdout == before


@pytest.mark.parametrize(
    "command",
    [
        "",
        "nonsense",
        "issue",
        "issue billing",
        "list --nonsense",
        "events --limit 0",
        f"events --after {2**63}",
        "revoke",
    ],
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
            "tokenguard supports SQLite and PostgreSQL, not",
        ),
        ({"TOKENGUARD_DATABASE_URL": "hunter2"}, "the database URL is invalid"),
        ({"TOKENGUARD_DATABASE_URL": "sqlite:///nowhere.db"}, 'nowhere.db: run "tokenguard init"'),
        ({"TOKENGUARD_DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"}, "Connection refused"),
        ({"TOKENGUARD_PREFIX": "No"}, "TOKENGUARD_PREFIX"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(ready: Run, environ: dict[str, str | None], message: str) -> None:
    done = ready("issue", "billing", "--scopes", "users:read", **environ)
    refused(done, message)
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("list --client {}", "--client"),
        ("events --client {}", "--client"),
        ("events --token {}", "--token"),
        ("client add other --scopes users:read --issuer {} --client-id {}", "--issuer"),
        ("client add other --scopes users:read --issuer https://idp.example --client-id {}", "--client-id"),
        ("revoke x --issuer {} --client-id {}", "--issuer"),
    ],
)
@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_value_is_not_taken_for_an_option_that_is_not_there(
    ready: Run, command: str, option: str, empty: str
) -> None:
    """As with a script's unset variable: everything would be listed, and nothing limited."""
    done = ready(*[empty if word == "{}" else word for word in command.split()])
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Invalid value for '{option}': must not be empty" in done.stderr
    assert len(table(ready("client", "list", "--json"))) == 1


def test_a_pattern_needs_nothing_but_the_prefix(tmp_path: Path) -> None:
    wrong = {"TOKENGUARD_DATABASE_URL": "mysql://x", "TOKENGUARD_SIGNING_KEY": "short", "TOKENGUARD_PREFIX": "acme"}
    command = [sys.executable, "-m", "tokenguard", "pattern"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | wrong, text=True, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\bacme_[0-9A-Za-z]{16}_[0-9A-Za-z]{75}\\b\n", "")


@pytest.mark.parametrize("rule", [[], ["--for", "gitleaks"]])
def test_there_is_no_pattern_for_a_prefix_that_no_token_can_have(tmp_path: Path, rule: list[str]) -> None:
    """A scanner with such a pattern would find nothing, as if all were well."""
    command = [sys.executable, "-m", "tokenguard", "pattern", *rule]
    environ = os.environ | {"TOKENGUARD_PREFIX": "ACME"}
    done = subprocess.run(command, cwd=tmp_path, env=environ, text=True, capture_output=True)
    refused(done, "TOKENGUARD_PREFIX: the prefix must be 1 to 16 lower-case letters and digits, not 'ACME'")


def test_genkey_prints_a_good_key(run: Run) -> None:
    keys = [run("genkey").stdout for _ in range(2)]
    assert keys[0] != keys[1]
    SigningKeys(keys[0].strip())


@pytest.mark.usefixtures("children_not_measured", "without_environment")
def test_the_installed_command(tmp_path: Path) -> None:
    """In processes of its own, as people run it. Managing needs no key, and an error in the URL names its option."""

    def tokenguard(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tokenguard", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=os.environ | settings, text=True, capture_output=True)

    for arguments in (["init"], ["client", "add", "x", "--scopes", "a"], ["list"], ["events"]):
        assert tokenguard(*arguments).returncode == 0
    assert (tmp_path / "tokenguard.db").exists()
    refused(tokenguard("issue", "x", "--scopes", "a"), "TOKENGUARD_SIGNING_KEY: the signing key is missing")
    refused(
        tokenguard("list", TOKENGUARD_DATABASE_URL="nonsense"), "TOKENGUARD_DATABASE_URL: the database URL is invalid"
    )


@pytest.mark.parametrize("text", ["x", "\x00", "ü" * 100, "tg_" + "A" * 16 + "_" + "B" * 75, "x" * 100_000])
def test_inspect_refuses_what_is_no_token(ready: Run, text: str) -> None:
    refused(ready("inspect", stdin=text), "this is not a valid token")


def test_inspect_says_how_a_text_came_to_be_no_token(ready: Run) -> None:
    text = ready("issue", "billing", "--scopes", "users:read").stdout.strip()
    token_id, not_ours = text.split("_")[1], "this is not a valid token: not a token of this service"
    for given, why in [
        (text[:60], "; it has 60 characters instead of 95"),
        (text + "A", "; it has 96 characters instead of 95"),
        (f"acme_{text[3:]}", "; it begins with acme_, and tokens of this service with tg_"),
        (f'"{text}"', "; it has a character that no token has, such as a quote or a space"),
        (f"Bearer {text}", "; it has a character that no token has, such as a quote or a space"),
        (text[3:], ""),
        (text.replace("_", "-"), ""),
    ]:
        done = ready("inspect", stdin=given)
        assert (done.returncode, done.stderr) == (1, f"Error: {not_ours}{why}\n")
    forged = "this is not a valid token: signature does not match: forged, or signed by a dropped key; token "
    refused(ready("inspect", stdin=text, TOKENGUARD_SIGNING_KEY=OTHER_KEY), f"{forged}{token_id} is on record here")
    other = TokenFormat(SigningKeys(OTHER_KEY)).mint()
    refused(ready("inspect", stdin=other.text.reveal()), f"{forged}{other.id} is not on record here")


def test_inspect_says_where_it_reads_the_text(ready: Run) -> None:
    refused(ready("inspect", stdin=" \n"), "standard input is empty")


def test_inspect_tells_a_token_that_is_not_in_this_database(ready: Run) -> None:
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
    ("command", "message"),
    [
        ("revoke {} --issuer https://idp", "--issuer and --client-id go together"),
        ("revoke {} --client-id tool", "--issuer and --client-id go together"),
        ("revoke {} --expires-in 1d", "--expires-in requires --issuer"),
        ("client add tool --scopes users:read --issuer https://idp", "--issuer and --client-id go together"),
        ("client add tool --scopes users:read --client-id tool", "--issuer and --client-id go together"),
    ],
)
def test_half_of_what_names_another_issuers_client_does_nothing(ready: Run, command: str, message: str) -> None:
    token_id = ready("issue", "billing", "--scopes", "users:read").stdout.split("_")[1]
    events = ready("events", "--json").stdout
    done = ready(*command.format(token_id).split())
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert ready("events", "--json").stdout == events


def test_inspect_tells_a_text_that_is_signed_and_not_the_one_on_record(ready: Run, tmp_path: Path) -> None:
    text = ready("issue", "billing", "--scopes", "users:read").stdout.strip()
    token_id, other = text.split("_")[1], TokenFormat(SigningKeys(KEY)).mint()
    with closing(sqlite3.connect(tmp_path / "tokenguard.db")) as database, database:
        database.execute("UPDATE tokenguard_token SET digest = ?", (other.digest,))
    done = ready("inspect", stdin=text)
    refused(done, f"this text has a valid signature, but is not the one on record for token {token_id}")


@pytest.mark.parametrize(
    "command",
    ["show", "revoke", "rotate", "client show", "issue --scopes users:read", "inspect", "list --client"],
)
def test_a_text_given_where_something_else_is_asked_for_is_not_repeated(ready: Run, command: str) -> None:
    text = ready("issue", "billing", "--scopes", "users:read").stdout.strip()
    done = ready(*command.split(), text)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert text[-75:] not in done.stderr
    assert text.split("_")[1] in done.stderr


@pytest.mark.parametrize("command", ["show", "revoke", "rotate", "events --token"])
def test_who_gives_a_text_for_an_id_is_told_where_the_id_is(ready: Run, command: str) -> None:
    text = ready("issue", "billing", "--scopes", "users:read").stdout.strip()
    refused(ready(*command.split(), text), "the id is the part between the two underscores")
    assert "underscores" not in ready(*command.split(), "nosuchtoken").stderr


def test_scopes_with_commas_between_them_are_one_scope_and_told_so(ready: Run) -> None:
    done = ready("client", "add", "x", "--scopes", "a,b", TOKENGUARD_SCOPES="{}")
    assert "Note: 'a,b' is a single scope; separate several with spaces." in done.stderr


def test_a_command_on_memory_says_that_nothing_comes_of_it(tmp_path: Path) -> None:
    environ = os.environ | {"TOKENGUARD_DATABASE_URL": "memory://"}
    command = [sys.executable, "-m", "tokenguard", "list"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, text=True, capture_output=True)
    assert "Note: memory:// is lost when this command ends" in done.stderr


def test_who_names_no_catalogue_is_told_that_no_scope_implies_another(world: World) -> None:
    world.issuer.register("manager", "users:manage", actor="tests")
    bare = command_tree(lambda: (Options.read({"SIGNING_KEY": KEY}), world.store))
    done = CliRunner().invoke(bare, ["issue", "manager", "--scopes", "users:read"])
    assert "may not have 'users:read'; it may have 'users:manage', and without a catalogue no scope" in done.stderr


@pytest.mark.parametrize("command", ["{}", "client {}", "--{}", "list --{}", "show {}x", "client add {} --scopes a"])
def test_no_part_of_a_text_is_repeated_wherever_it_was_put(ready: Run, command: str) -> None:
    text = ready("issue", "billing", "--scopes", "users:read").stdout.strip()
    for given in (text, text[:-1], text[6:]):
        done = ready(*command.format(given).split())
        assert done.returncode in (1, 2)
        assert text[30:60] not in done.stdout + done.stderr
    assert text[30:60] not in ready("events", "--json").stdout


@pytest.mark.parametrize("command", ["show", "revoke", "client show", "client disable", "events --token"])
def test_bytes_that_are_no_text_are_unknown(ready: Run, command: str) -> None:
    refused(ready(*command.split(), "\udcff"), "no ")


@pytest.mark.usefixtures("without_environment")
def test_a_token_whose_text_could_not_be_shown_does_not_stay_alive(tmp_path: Path) -> None:
    def bash(script: str) -> subprocess.CompletedProcess[str]:
        command = f'tokenguard() {{ {shlex.quote(sys.executable)} -m tokenguard "$@"; }}; {script}'
        environ = os.environ | {"TOKENGUARD_SIGNING_KEY": KEY}
        return subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environ, text=True, capture_output=True)

    assert bash("tokenguard init && tokenguard client add x --scopes a").returncode == 0
    for nowhere in (">&-", ">/dev/full"):
        done = bash(f"tokenguard issue x --scopes a {nowhere}")
        assert done.returncode == 1
        assert "the text could not be written" in done.stderr
        assert "Traceback" not in done.stderr
    assert [token["state"] for token in json.loads(bash("tokenguard list --json").stdout)] == ["revoked", "revoked"]
    rotated = bash("tokenguard issue x --scopes a").stdout.split("_")[1]
    done = bash(f"tokenguard rotate {rotated} >&-")
    assert "there is no standard output to write the successor's text to: nothing was changed" in done.stderr
    done = bash(f"tokenguard rotate {rotated} --overlap 1h >/dev/full")
    assert done.returncode == 1
    assert f" has been revoked; token {rotated} stays rotated and ends at 20" in done.stderr
    states = [token["state"] for token in json.loads(bash("tokenguard list --json").stdout)]
    assert states == ["revoked", "revoked", "active", "revoked"]
    for odd in ("inspect <&-", "inspect <<< $'\\xff'", "list >/dev/full", "client list --json >/dev/full"):
        done = bash(f"tokenguard {odd}")
        assert done.returncode == 1, odd
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
    done = bash("tokenguard genkey >&-")
    assert (done.returncode, done.stderr) == (1, "Error: there is no standard output to write the key to\n")
    for unseen in ("client list --json", "client list", "events", f"show {rotated}"):
        done = bash(f"tokenguard {unseen} >&-")
        assert (done.returncode, done.stderr) == (0, ""), unseen


def test_a_token_that_could_not_be_revoked_again_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token_id = world.issue().token.id

    def fail(*args: Any, **kwargs: Any) -> None:
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(Issuer, "revoke", fail)
    monkeypatch.setattr(tokens, "_show_text", lambda text: Path("/nowhere/at all").write_text("no"))
    options = Options.read({"SIGNING_KEY": KEY, "SCOPES": SCOPES})
    done = CliRunner().invoke(command_tree(lambda: (options, world.store)), ["rotate", token_id])
    successor = next(record.token.id for record in world.store.records() if record.token.id != token_id)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"token {successor} could not be revoked (the database is away), so revoke it; " in done.stderr
    assert f"token {token_id} stays rotated and ends at" in done.stderr


@pytest.mark.parametrize("command", ["issue billing --scopes users:read", "rotate {} --overlap 0"])
def test_ctrl_c_before_the_text_is_written_leaves_no_token_alive(
    world: World, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when nobody reads from the pipe that the text is written to."""
    first = world.issue().token.id

    def interrupted(text: Secret) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tokens, "_show_text", interrupted)
    options = Options.read({"SIGNING_KEY": KEY, "SCOPES": SCOPES})
    done = CliRunner().invoke(command_tree(lambda: (options, world.store)), command.format(first).split())
    (unseen,) = [record.token for record in world.store.records() if record.token.id != first]
    assert (done.exit_code, done.stdout) == (1, "")
    assert unseen.revoked_at is not None
    assert f"could not be written (interrupted): token {unseen.id} has been revoked" in done.stderr
    assert (f"token {first} stays rotated and ends at" in done.stderr) == command.startswith("rotate")


def test_the_actor_is_whom_the_system_knows(ready: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "mallory")
    ready("client", "disable", "billing")
    assert "mallory" not in ready("events", "--json").stdout


def test_help_says_what_there_is(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in (
        "genkey", "init", "client", "issue", "list", "show", "rotate", "revoke", "inspect", "events", "prune", "doctor",
    ):  # fmt: skip
        assert f"  {command} " in done.stdout
    commands = run("client", "--help").stdout
    for command in ("add", "list", "show", "disable", "enable", "set-scopes", "set-conditions"):
        assert f"  {command} " in commands
    assert "...\n" not in (done.stdout + commands).replace("[ARGS]...\n", "")  # nothing is cut short
    assert "--limit N " in run("events", "--help").stdout
    for words in ((), ("client",), ("client", "add"), ("events",)):
        assert run(*words, "-h").stdout == run(*words, "--help").stdout


def test_the_version_is_told() -> None:
    done = subprocess.run([sys.executable, "-m", "tokenguard", "--version"], text=True, capture_output=True)
    assert done.stdout == f"tokenguard, version {__version__}\n"


def use(tmp_path: Path, token_id: str, at: int, **days: int) -> None:
    """Record a use as a service does; ``days`` are counts by how many days ago."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path / 'tokenguard.db'}")
    requests = {at // DAY - int(ago.removeprefix("ago_")): count for ago, count in days.items()}
    store.record_uses([NewUse(token_id, at, "10.0.0.7", frozenset({"users:read"}), requests)])
    store.close()


def test_who_revoked_a_token_is_shown(ready: Run) -> None:
    token_id = ready("issue", "billing", "--scopes", "users:read").stdout.split("_")[1]
    assert "revoked by" not in ready("show", token_id).stdout
    ready("revoke", token_id, "--reason", "it leaked")
    shown = table(ready("show", token_id, "--json"))
    event = table(ready("events", "--token", token_id, "--kind", "token.revoked", "--json"))
    assert (shown["revoked_by"], shown["revocation_reason"]) == (event["actor"], "it leaked")
    assert "revoked by" in ready("show", token_id).stdout
    other = ready("issue", "billing", "--scopes", "users:read").stdout.split("_")[1]
    ready("revoke", other)
    assert table(ready("show", other, "--json"))["revocation_reason"] is None


def test_rotation_and_whether_the_old_token_is_still_used(ready: Run, tmp_path: Path) -> None:
    old = ready("issue", "billing", "--scopes", "users:read", "--idle", "30d", "--rate", "9/hour").stdout.split("_")[1]
    assert table(ready("show", old, "--json"))["used_since_rotation"] is None
    use(tmp_path, old, now())
    done = ready("rotate", old)
    text = done.stdout.strip()
    new = text.split("_")[1]
    assert (done.returncode, done.stdout) == (0, text + "\n")
    assert done.stderr.startswith(f"Token {old} is rotated and ends at 20")
    assert f"Its successor {new} does not expire." in done.stderr
    assert text not in done.stderr

    shown = table(ready("show", old, "--json"))
    assert (shown["state"], shown["successor_id"], shown["used_since_rotation"]) == ("active", new, False)
    assert shown["overlap_ends_at"] > shown["rotated_at"] >= shown["last_used_at"]
    assert f"no, last at {shown['last_used_at']}" in ready("show", old).stdout
    at = now()
    use(tmp_path, old, at)
    assert table(ready("show", old, "--json"))["used_since_rotation"] is True
    assert f"yes, last at {isoformat(at)}" in ready("show", old).stdout

    successor = table(ready("show", new, "--json"))
    assert (successor["replaces"], successor["idle_timeout"]) == (old, "30d")
    assert successor["conditions"] == {"rate": "9/hour"}
    assert old in ready("show", new).stdout
    assert "still used" not in ready("show", new).stdout
    refused(ready("rotate", old), f"token {old} is already rotated: its successor is {new}")


def test_a_rotation_at_once_and_one_that_cannot_be(ready: Run) -> None:
    old = ready("issue", "billing", "--scopes", "users:read", "--expires-in", "12h").stdout.split("_")[1]
    refused(ready("rotate", old), "before the overlap would end: shorten it")
    refused(ready("rotate", old, TOKENGUARD_SIGNING_KEY=None), "TOKENGUARD_SIGNING_KEY")
    assert ready("rotate", old, "--overlap", "0").returncode == 0
    assert [token["state"] for token in table(ready("list", "--json"))] == ["rotated", "active"]
    shown = ready("show", old).stdout
    assert "no, never" in shown
    assert all(fact in shown for fact in ("rotated at", "overlap ends at", "successor id"))
    issued = ready("show", ready("issue", "billing", "--scopes", "users:read").stdout.split("_")[1]).stdout
    assert not any(fact in issued for fact in ("rotated", "overlap", "successor", "replaces"))
    refused(ready("rotate", old, "--overlap", "0"), "is already rotated")


def test_the_time_of_a_rotation_is_known_without_its_event(ready: Run, tmp_path: Path) -> None:
    old = ready("issue", "billing", "--scopes", "users:read").stdout.split("_")[1]
    ready("rotate", old)
    before = table(ready("show", old, "--json"))
    store = SQLAlchemyStore(f"sqlite:///{tmp_path / 'tokenguard.db'}")
    with store.transaction() as tx:
        assert tx.delete_events(now(), 1000) == 3
    store.close()
    assert table(ready("show", old, "--json")) == before


def test_what_is_known_of_a_tokens_use(ready: Run, tmp_path: Path) -> None:
    token_id = ready("issue", "billing", "--scopes", "users:manage", "--idle", "36h").stdout.split("_")[1]
    fresh = table(ready("show", token_id, "--json"))
    assert (fresh["last_used_at"], fresh["last_address"], fresh["requests_by_day"]) == (None, None, {})
    assert fresh["unused_scopes"] == ["users:read", "users:manage"]
    at = now()
    use(tmp_path, token_id, at, ago_0=5, ago_29=2, ago_30=7)
    shown = table(ready("show", token_id, "--json"))
    assert (shown["last_used_at"], shown["last_address"]) == (isoformat(at), "10.0.0.7")
    assert list(shown["requests_by_day"].values()) == [2, 5]
    assert list(shown["requests_by_day"])[1] == isoformat(at)[:10]
    assert shown["unused_scopes"] == ["users:manage"]
    assert (shown["idle_timeout"], shown["idle_ends_at"]) == ("36h", isoformat(at + DAY * 3 // 2 + 60_000_000))
    (listed,) = table(ready("list", "--json"))
    assert listed["last_used_at"] == isoformat(at)
    assert isoformat(at) in ready("list").stdout
    assert f"{isoformat(at)[:10]}: 5" in ready("show", token_id).stdout


def test_an_idle_tokens_end_is_shown_as_it_was_recorded(world: World) -> None:
    issued = world.issue(idle_timeout=3600)
    world.clock.move(2 * 3600)
    assert not works(world, issued)
    tree = command_tree(lambda: (Options(), world.store))
    shown = json.loads(CliRunner().invoke(tree, ["show", issued.token.id, "--json"]).stdout)
    assert (shown["state"], shown["idle_ends_at"]) == ("idle", isoformat(world.clock()))
    made = CliRunner().invoke(tree, ["events", "--json", "--kind", "token.issued"]).stdout
    assert json.loads(made)["data"]["idle_timeout"] == [None, "1h"]


def test_the_time_of_a_rotation_is_that_of_this_token_and_of_nothing_later(world: World) -> None:
    client = world.client()
    first, second = (world.issue(client=client.id).token.id for _ in range(2))
    world.rotate(first)
    rotated_at = world.clock()
    world.clock.move(1)
    world.rotate(second)
    world.issuer.revoke(first, actor="tests")
    done = CliRunner().invoke(command_tree(lambda: (Options(), world.store)), ["show", first, "--json"])
    assert json.loads(done.stdout)["rotated_at"] == isoformat(rotated_at)


def test_which_key_signed_a_token(ready: Run) -> None:
    token_id = ready("issue", "billing", "--scopes", "users:read").stdout.split("_")[1]
    assert table(ready("show", token_id, "--json"))["key"] == "current"
    assert table(ready("show", token_id, "--json", TOKENGUARD_SIGNING_KEY=OTHER_KEY))["key"] == "dropped"
    key = KEY.replace(" ", "-")
    token_id = ready("issue", "billing", "--scopes", "users:read", TOKENGUARD_SIGNING_KEY=key).stdout.split("_")[1]
    assert table(ready("show", token_id, "--json", TOKENGUARD_OLD_SIGNING_KEYS=key))["key"] == "old"


def test_without_a_key_a_tokens_key_is_unknown(world: World) -> None:
    token_id = world.issue().token.id
    done = CliRunner().invoke(command_tree(lambda: (Options(), world.store)), ["show", token_id, "--json"])
    assert json.loads(done.stdout)["key"] == "unknown"


def test_conditions_are_set_whole_and_told(ready: Run) -> None:
    networks = ["--network", "10.0.0.0/8", "--network", "2001:db8::/32", "--deny-network", "10.1.0.0/16"]
    given = [*networks, "--rate", "5/day"]
    words = "only from 10.0.0.0/8, 2001:db8::/32; not from 10.1.0.0/16; at most 5/day"
    conditions = {"allow": ["10.0.0.0/8", "2001:db8::/32"], "deny": ["10.1.0.0/16"], "rate": "5/day"}
    assert words in ready("client", "add", "other", "--scopes", "users:read", *given).stderr
    assert table(ready("client", "show", "other", "--json"))["conditions"] == conditions
    assert words in ready("client", "show", "other").stdout
    done = ready("client", "set-conditions", "other", "--rate", "7/minute")
    assert (done.stdout, done.stderr) == ("", "Conditions for all tokens of client other together: at most 7/minute.\n")
    done = ready("client", "set-conditions", "other")
    assert done.stderr == "Conditions for all tokens of client other together: none.\n"
    assert table(ready("client", "show", "other", "--json"))["conditions"] == {}
    token_id = ready("issue", "other", "--scopes", "users:read", *given).stdout.split("_")[1]
    assert table(ready("show", token_id, "--json"))["conditions"] == conditions
    for shown in (ready("show", token_id), ready("events", "--token", token_id)):
        assert words in shown.stdout
    assert "at most 7/minute → none" in ready("events", "--kind", "client.conditions_changed").stdout


def lines(done: subprocess.CompletedProcess[str]) -> list[Any]:
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-31", "2026-01-31T00:00:00Z"),
        ("2026-01-31T12:00:00", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00Z"),
        ("90s", "2030-03-17T17:45:10Z"),
        ("24h", "2030-03-16T17:46:40Z"),
        ("2w", "2030-03-03T17:46:40Z"),
    ],
)
def test_a_time_is_one_of_the_calendar_or_so_long_ago(
    text: str, time: str, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenguard.cli.arguments.now", clock)
    assert isoformat(moment(text)) == time


def test_events_are_chosen(ready: Run) -> None:
    token_id = ready("issue", "billing", "--scopes", "users:read").stdout.split("_")[1]
    ready("client", "add", "other", "--scopes", "users:read")
    ready("issue", "other", "--scopes", "users:read")

    def numbers(*options: str) -> list[int]:
        return [event["number"] for event in lines(ready("events", "--json", *options))]

    assert numbers() == [1, 2, 3, 4]
    assert numbers("--client", "other") == [3, 4]
    assert numbers("--token", token_id) == [2]
    assert numbers("--kind", "token.issued") == [2, 4]
    assert numbers("--kind", "token.issued", "--limit", "1") == [4]
    assert numbers("--client", "billing", "--kind", "token.issued", "--since", "1h") == [2]
    for since in ("2020-01-31", "2020-01-31T12:00:00Z", "2020-01-31T12:00:00+02:00", "24h"):
        assert numbers("--since", since) == [1, 2, 3, 4]
    assert numbers("--since", isoformat(now() + DAY)) == numbers("--since", isoformat(now() + DAY)[:10]) == []
    assert numbers("--token", "nowhere") == []


def test_events_are_followed_until_ctrl_c(ready: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter([["disable", "billing"], ["enable", "billing"]])

    def wait() -> None:
        try:
            ready("client", *next(steps))
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(audit, "_wait", wait)
    events = lines(ready("events", "--json", "--follow"))
    assert [event["kind"] for event in events] == ["client.registered", "client.disabled", "client.enabled"]
    steps = iter([["disable", "billing"], ["enable", "billing"]])
    done = ready("events", "--follow", "--kind", "client.enabled", "--limit", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == ["3", "5"]
    assert "enabled no → yes" in done.stdout
    fresh = command_tree(lambda: (Options.read({}), MemoryStore()))  # where nothing has happened yet
    assert CliRunner().invoke(fresh, ["events", "--follow"], catch_exceptions=False).exit_code == 0


class _Enough(Exception):
    pass


def followed(store: Store, which: EventFilter, *steps: Callable[[], object]) -> list[Event]:
    """The events that a follower sees while the steps are taken one after the other."""
    waiting, seen = iter(steps), []

    def wait() -> None:
        step = next(waiting, None)
        if step is None:
            raise _Enough
        step()

    with suppress(_Enough):
        for event in audit.new_events(store, which, wait):
            seen.append(event)
    return seen


def test_following_misses_nothing_and_repeats_nothing(world: World) -> None:
    def toggle(times: int) -> None:
        for _ in range(times):
            world.issuer.disable("billing", actor="tests")
            world.issuer.enable("billing", actor="tests")

    world.client()
    seen = followed(world.store, EventFilter(after=1), lambda: toggle(1), lambda: None, lambda: toggle(FEED_LIMIT))
    assert [event.number for event in seen] == list(range(2, 2 * FEED_LIMIT + 4))
    only = EventFilter(kind="client.enabled", after=2 * FEED_LIMIT)
    assert [event.number for event in followed(world.store, only)] == [2 * FEED_LIMIT + 1, 2 * FEED_LIMIT + 3]


def test_following_goes_on_after_an_outage_and_tells_of_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    class Away(MemoryStore):
        away = False

        def feed(self, since: int) -> Feed:
            if self.away:
                raise StoreUnavailable("the database cannot be used: connection refused")
            return super().feed(since)

    store = Away()
    world = World(store)
    world.client()
    store.away = True

    def go(away: bool) -> None:
        store.away = away

    def change() -> None:
        world.issuer.disable("billing", actor="tests")
        go(away=False)

    steps = [int, change, lambda: go(away=True), lambda: go(away=False)]
    assert [event.number for event in followed(store, EventFilter(after=0), *steps)] == [1, 2]
    warning = "Warning: the database cannot be used: connection refused. Events continue once it is available again."
    assert capsys.readouterr().err.splitlines() == [warning] * 2


def test_events_are_listed_and_followed_from_a_number_on(ready: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        ready("client", "disable", "billing")
        ready("client", "enable", "billing")

    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "_wait", stop)
    for more in ([], ["--follow"]):
        events = lines(ready("events", "--json", "--after", "4", *more))
        assert [event["number"] for event in events] == [5, 6, 7]
    for after, told in ((4, False), (3, True)):
        done = ready("events", "--json", "--after", str(after), "--limit", "3")
        assert [json.loads(line)["number"] for line in done.stdout.splitlines()] == [5, 6, 7]
        assert (f"of the events after number {after}, these are the newest 3" in done.stderr) is told
    # Those in between are not what was asked for.
    assert ready("events", "--kind", "client.enabled", "--after", "3", "--limit", "2").stderr == ""
    # More events came after that number than a list with this limit shows.
    assert len(lines(ready("events", "--json", "--follow", "--after", "0", "--limit", "1"))) == 7
    assert ready("events", "--after", "-1").returncode == 2


def test_following_goes_on_after_a_backup_was_restored(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(MemoryStore())
    world.client()
    seen = followed(world.store, EventFilter(after=50), lambda: world.issuer.disable("billing", actor="tests"))
    assert [event.number for event in seen] == [2]
    assert capsys.readouterr().err.startswith("Warning: the newest event is 1 and not 50, as after a restore.")


@pytest.mark.parametrize(("after", "told"), [(0, False), (1, True), (3, False)])
def test_following_tells_of_events_that_were_pruned(after: int, told: bool, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(MemoryStore())
    for name in "abcd":
        world.client(name)
    with world.store.transaction() as tx:
        tx.delete_events(world.clock() + 1, 2)
    assert [event.number for event in followed(world.store, EventFilter(after=after))] == [*range(max(3, after + 1), 5)]
    warning = "Warning: event 1 is followed by event 3. Those in between were pruned.\n"
    assert capsys.readouterr().err == (warning if told else "")
