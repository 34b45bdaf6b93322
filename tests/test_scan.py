"""Finding leaked tokens: what is found, what is not, and what a pipeline is told."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from django.core.management import CommandError, call_command
from django.test import override_settings
from flask import Flask
from flask.cli import FlaskGroup

from tokenguard import Client, MemoryStore, SigningKeys, StoreError, StoreUnavailable, TokenFormat, UnknownToken
from tokenguard.cli import command_tree
from tokenguard.cli.base import actor
from tokenguard.cli.leaks import _opened
from tokenguard.clock import now
from tokenguard.config import Options
from tokenguard.django import get_issuer
from tokenguard.flask import TokenGuard
from tokenguard.scan import Found, files_in, find_tokens
from tokenguard.secret import Secret
from tokenguard.signing import Tagger
from tokenguard.store import EventFilter, EventKind, State

from .conftest import KEY, OTHER_KEY, django_alias, mistyped
from .django_tables import migrate

TOKENS = TokenFormat(SigningKeys(KEY))
NO_LIVE_TOKEN = "No live token with the prefix tg found; {} have ended or are unknown.\n"


def found(content: bytes, **more: Any) -> list[Found]:
    return list(find_tokens(io.BytesIO(content), TOKENS, **more))


# What is found


def test_a_token_is_found_wherever_it_stands() -> None:
    minted = TOKENS.mint()
    text = minted.text.reveal()
    for line, content in [
        (1, text),
        (1, f'{{"Authorization": "SSWS{text}"}}'),
        (3, f"\n\r\nexport KEY={text}xyz"),
        (2, f"\n\0\1\2\xff{text}\0"),
        (1, f"xtg_{text}_tg_"),
        (1, f"tg_{'A' * 16}_{'B' * 73}{text}"),
    ]:
        signed = [each for each in found(content.encode("latin-1")) if each.signed]
        assert signed == [(line, (minted.id, minted.digest), True)]
    for encoding in ("utf-16", "utf-16-be", "utf-8-sig"):
        assert found(f"one\ntwo {text}".encode(encoding)) == [(2, (minted.id, minted.digest), True)]


def test_what_only_looks_like_a_token_is_no_alarm() -> None:
    text = TOKENS.mint().text.reveal()
    others = [
        TokenFormat(SigningKeys(OTHER_KEY)).mint().text.reveal(),
        TokenFormat(SigningKeys(KEY), "other").mint().text.reveal(),
        mistyped(text),
        text[:-1],
        text.upper(),
        f"tg_{'0' * 16}_{'x' * 75}",
    ]
    # Their texts alone do not show whether these are tokens: the store can tell.
    assert [(line, signed) for line, _, signed in found("\n".join(others).encode())] == [
        (line, False) for line in (1, 3, 6)
    ]


@pytest.mark.parametrize("chunk", [1, 7, 94, 95, 96, 200, 1000])
def test_nothing_is_lost_or_found_twice_between_two_chunks(chunk: int) -> None:
    minted = [TOKENS.mint() for _ in range(12)]
    lines = [
        f"{'.' * (17 * index)}{token.text.reveal()}{token.text.reveal()[:40]}" for index, token in enumerate(minted)
    ]
    expected = [(line, (token.id, token.digest), True) for line, token in enumerate(minted, 1)]
    assert found("\n".join(lines).encode(), chunk=chunk) == expected


def test_memory_is_bounded_whatever_the_size() -> None:
    class OneLine(io.RawIOBase):
        """Many chunks full of beginnings of tokens, without the end of a line."""

        left = 64

        def read(self, size: int = -1) -> bytes:
            assert size > 0, "all of it at once"
            self.left -= 1
            return b"tg_" * (size // 3) if self.left >= 0 else b""

    chunk = 1 << 16
    tracemalloc.start()
    try:
        assert list(find_tokens(OneLine(), TOKENS, chunk=chunk)) == []  # type: ignore[arg-type]
        assert tracemalloc.get_traced_memory()[1] < 8 * chunk
    finally:
        tracemalloc.stop()


# The command


class Service:
    """A command line with tokens in each state, and a folder to leave them in."""

    def __init__(self, run: Callable[..., subprocess.CompletedProcess[str]], issuer: Any, folder: Path) -> None:
        self.run = run
        self.issuer = issuer
        self.folder = folder
        self.client: Client = issuer.register("billing", "a", actor="tests")
        self.texts: list[str] = []

    def issue(self, **more: Any) -> tuple[str, str]:
        token, text = self.issuer.issue("billing", "a", actor="tests", **more)
        self.texts.append(text.reveal())
        return token.id, text.reveal()

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def scan(self, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = self.run("scan", *map(str, arguments), stdin=stdin)
        for text in self.texts:
            assert text[20:44] not in done.stdout + done.stderr
            assert text[-24:] not in done.stdout + done.stderr
        return done

    def state(self, token_id: str) -> State:
        record = self.issuer.store.find(token_id)
        return record.state(now())  # type: ignore[no-any-return]


def bare(folder: Path) -> Iterator[Service]:
    store, options = MemoryStore(), Options(signing_keys=SigningKeys(KEY))
    yield Service(runner(command_tree(lambda: (options, store))), options.issuer(store), folder)


def flask(folder: Path) -> Iterator[Service]:
    app = Flask("app")
    app.config |= {"TOKENGUARD_SIGNING_KEY": KEY, "TOKENGUARD_DATABASE_URL": "memory://"}
    TokenGuard(app)
    tree = FlaskGroup(create_app=lambda: app)
    yield Service(runner(tree, "tokenguard"), app.extensions["tokenguard"].issuer, folder)


def runner(tree: Any, *words: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = CliRunner().invoke(tree, [*words, *arguments], input=stdin)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture(params=[bare, flask])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    yield from request.param(tmp_path / "tree")


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Service]:
    yield from bare(tmp_path / "tree")


def test_a_live_token_is_named_by_its_place_its_id_and_its_client(service: Service) -> None:
    token_id, text = service.issue(name="nightly report")
    path = service.write("src/app.py", f"import os\nKEY = '{text}'\n")
    done = service.scan(service.folder)
    assert done.stdout == f"{path}:2: token {token_id} (nightly report) of client billing: active\n"
    assert (done.returncode, done.stderr) == (1, "Error: live tokens found: 1, revoke them with --revoke\n")
    assert service.state(token_id) is State.ACTIVE


def test_json_has_a_line_for_each_place(one: Service) -> None:
    token_id, text = one.issue()
    place = one.write("a", f"{text} {text}\n")
    done = one.scan("--json", place)
    assert done.returncode == 1
    expected = {
        "path": str(place),
        "line": 1,
        "token_id": token_id,
        "state": "active",
        "client_id": one.client.id,
        "client": "billing",
        "name": "",
        "key_configured": True,
        "revoked": False,
    }
    assert [json.loads(line) for line in done.stdout.splitlines()] == [expected] * 2


def test_each_state_is_told_and_only_what_can_work_is_an_alarm(one: Service) -> None:
    revoked_id, revoked = one.issue()
    one.issuer.revoke(revoked_id, actor="tests")
    one.issuer.clock = lambda: now() - 10**12
    _, expired = one.issue(expires_in=60)
    one.issuer.clock = now
    unknown = TOKENS.mint().text.reveal()
    token_id, active = one.issue()
    # The same id with another secret: signed, but not the token on record.
    signed = f"tg_{token_id}_{'0' * 32}"
    another = signed + Tagger(Secret(KEY)).tag(signed.encode()).decode()
    one.texts += [unknown, another]
    lines = [revoked, expired, unknown, another, active]

    done = one.scan("--json", "-", stdin="\n".join(lines))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["state"] for each in found] == ["revoked", "expired", "unknown", "unknown", "active"]
    assert {each["path"] for each in found} == {"<stdin>"}
    assert (done.returncode, done.stderr) == (1, "Error: live tokens found: 1, revoke them with --revoke\n")
    dead = one.scan("-", stdin="\n".join(lines[:4]))
    assert (dead.returncode, dead.stderr) == (0, NO_LIVE_TOKEN.format(4))
    assert dead.stdout.endswith(f"<stdin>:4: token {token_id}: unknown\n")
    # The token works again as soon as its client is enabled.
    one.issuer.disable("billing", actor="tests")
    assert one.scan("-", stdin=active).returncode == 1
    assert one.scan("--revoke", "-", stdin=active).stdout.endswith(": client disabled, revoked now\n")
    assert one.state(token_id) is State.REVOKED


def test_a_token_on_record_is_found_without_the_key_that_signed_it(tmp_path: Path) -> None:
    store = MemoryStore()
    with_its_key = Options(signing_keys=SigningKeys(OTHER_KEY)).issuer(store)
    tree = command_tree(lambda: (Options(signing_keys=SigningKeys(KEY)), store))
    service = Service(runner(tree), with_its_key, tmp_path)
    token_id, text = service.issue()
    strange = TokenFormat(SigningKeys(OTHER_KEY)).mint().text.reveal()
    service.texts.append(strange)
    done = service.scan("-", stdin=f"{text}\n{strange}\n{strange}\n{text}")
    said = f"token {token_id} of client billing: active, signed by a key that is not configured here"
    assert done.stdout == f"<stdin>:1: {said}\n<stdin>:4: {said}\n"
    assert done.returncode == 1
    assert done.stderr.startswith("Neither signed by a configured key nor on record: 2. ")
    assert service.scan("--revoke", "-", stdin=text).returncode == 1
    assert service.state(token_id) is State.REVOKED
    clean = service.scan("-", stdin=strange)
    assert clean.returncode == 0
    assert "check that TOKENGUARD_SIGNING_KEY" in clean.stderr


def test_live_tokens_are_revoked_with_who_and_why(service: Service) -> None:
    first, text = service.issue()
    ended, old = service.issue()
    service.issuer.revoke(ended, actor="tests")
    second, other = service.issue()
    path = service.write("b.log", f"\n\n{text}\n{old}\n{text}\n{other}")
    done = service.scan("--revoke", path)
    assert (done.returncode, done.stderr) == (1, "Error: live tokens found: 2, now revoked\n")
    assert f"{path}:3: token {first} of client billing: active, revoked now\n" in done.stdout
    assert f"{path}:4: token {ended} of client billing: revoked\n" in done.stdout
    assert {service.state(token_id) for token_id in (first, ended, second)} == {State.REVOKED}
    for token_id, line in ((first, 3), (second, 6)):
        (event,) = service.issuer.store.events(9, EventFilter(token_id=token_id, kind=EventKind.TOKEN_REVOKED))
        assert event.actor == actor()
        assert event.data["reason"] == [None, f"leaked: found in {path}:{line}"]
    again = service.scan("--revoke", path)
    assert (again.returncode, again.stderr) == (0, NO_LIVE_TOKEN.format(3))


def test_a_token_whose_row_is_damaged_protects_no_other(one: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, text), (second, other) = one.issue(), one.issue()
    path = one.write("b.log", f"{text} {text}\n{other}")
    find = one.issuer.store.find

    def damaged(token_id: str) -> Any:
        if token_id == first:
            raise StoreError("a row of tokenguard_token is damaged")
        return find(token_id)

    monkeypatch.setattr(one.issuer.store, "find", damaged)
    done = one.scan("--revoke", path)
    assert (done.returncode, done.stdout) == (1, f"{path}:2: token {second} of client billing: active, revoked now\n")
    said = f"Cannot look up token {first}, found in {path}:1: a row of tokenguard_token is damaged\n"
    assert done.stderr == said * 2 + "Error: live tokens found: 1, now revoked; could not be read: 2\n"


@pytest.mark.parametrize("error", [StoreUnavailable("the database cannot be written"), UnknownToken(["it is gone"])])
def test_what_cannot_be_revoked_is_named_all_the_same(
    one: Service, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    (first, text), (second, other) = one.issue(), one.issue()
    path = one.write("b.log", f"{text}\n{other}\n{text}")
    begin, times = one.issuer.store.transaction, iter(range(9))

    def fails_once() -> Any:
        if next(times) == 0:
            raise error
        return begin()

    monkeypatch.setattr(one.issuer.store, "transaction", fails_once)
    done = one.scan("--revoke", path)
    assert done.stdout == (
        f"{path}:1: token {first} of client billing: active\n"
        f"{path}:2: token {second} of client billing: active, revoked now\n"
        f"{path}:3: token {first} of client billing: active\n"
    )
    assert done.stderr == (
        f"Cannot revoke token {first}: {error}\nError: live tokens found: 2, 1 of them could not be revoked\n"
    )
    assert (done.returncode, one.state(first), one.state(second)) == (1, State.ACTIVE, State.REVOKED)


def test_directories_are_read_to_the_bottom_but_for_gits_own(one: Service) -> None:
    token_id, text = one.issue()
    for name in ("z/y/x/.env", ".hidden", "a.bin", ".git/config", "z/.git/config", ".github/ci.yml"):
        one.write(name, b"\0\xff" + text.encode())
    (one.folder / "link").symlink_to(one.folder / "a.bin")
    (one.folder / "loop").symlink_to(one.folder)
    os.mkfifo(one.folder / "pipe")
    lines = [line.partition(":1: ")[0] for line in one.scan(one.folder).stdout.splitlines()]
    assert lines == [str(one.folder / name) for name in (".hidden", "a.bin", ".github/ci.yml", "z/y/x/.env")]
    assert one.scan(one.folder / ".git").stdout.count(token_id) == 1
    assert one.scan(one.folder / "link", one.folder / "a.bin").stdout.count(token_id) == 2


def test_directories_may_lie_as_deep_as_they_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    depth = 1100
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    Path("file").touch()
    os.chdir(tmp_path)
    complaints: list[OSError] = []
    try:
        found = list(files_in(".", complaints.append))
    finally:
        subprocess.run(["rm", "-r", "d"], check=True)  # pytest cannot remove it on a Python whose rmtree is recursive
    assert found == [os.path.join(".", *["d"] * depth, "file")]
    assert not complaints


@pytest.mark.parametrize("names_it", [True, False], ids=["opening", "reading"])
def test_what_cannot_be_read_is_no_clean_bill(one: Service, monkeypatch: pytest.MonkeyPatch, names_it: bool) -> None:
    one.write("fine", "nothing")
    locked = one.write("locked", "x")
    real = open

    def refuse(name: Any, *arguments: Any, **more: Any) -> Any:
        if name == str(locked):  # not by permissions, as root may read everything
            raise PermissionError(13, "Permission denied", *([name] if names_it else []))
        return real(name, *arguments, **more)

    monkeypatch.setattr("builtins.open", refuse)
    done = one.scan(one.folder, locked)
    assert done.returncode == 1
    assert done.stderr == f"Cannot read {locked}: Permission denied\n" * 2 + "Error: could not be read: 2\n"


@pytest.mark.parametrize("when_named", [True, False], ids=["what it is", "what is in it"])
def test_a_directory_that_cannot_be_read_is_no_clean_bill(
    one: Service, monkeypatch: pytest.MonkeyPatch, when_named: bool
) -> None:
    token_id, text = one.issue()
    locked = one.write("locked/file", "nothing").parent
    one.write("next/file", text)
    real = os.scandir

    def fail(*, follow_symlinks: bool = False) -> Any:
        raise OSError(5, "Input/output error", str(locked))

    def refuse(path: str) -> Any:
        if path == str(locked):
            fail()
        unknown = SimpleNamespace(name="locked", is_file=fail)
        with real(path) as entries:
            return nullcontext([unknown if when_named and each.name == "locked" else each for each in entries])

    monkeypatch.setattr("os.scandir", refuse)
    done = one.scan(one.folder)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Cannot read {locked}: Input/output error\nError: live tokens found: 1, ")
    assert done.stderr.endswith("; could not be read: 1\n")
    assert done.stdout.count(token_id) == 1  # the search goes on


def test_a_pipe_that_is_named_is_read(one: Service) -> None:
    """As a shell makes one for ``scan <(git log -p)``."""
    token_id, text = one.issue()
    end, begin = os.pipe()
    os.write(begin, text.encode())
    os.close(begin)
    assert one.scan(f"/dev/fd/{end}").stdout.count(token_id) == 1
    os.close(end)


def test_a_stream_that_does_not_end_is_searched_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    minted = TOKENS.mint()
    waiting = [minted.text.reveal().encode()]

    class Stream(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            assert waiting, "it waits for more"
            line = waiting.pop()
            buffer[: len(line)] = line
            return len(line)

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Stream())))
    with _opened("-") as file:
        assert next(find_tokens(file, TOKENS)).read.id == minted.id


def test_a_stream_that_has_nothing_to_read_yet_is_no_clean_bill() -> None:
    """As a parent process may leave it; there was more to come."""
    minted, (end, begin) = TOKENS.mint(), os.pipe()
    os.set_blocking(end, False)
    os.write(begin, minted.text.reveal().encode())
    with open(begin, "wb", buffering=0), open(end, "rb", buffering=0) as stream:
        searched = find_tokens(stream, TOKENS)
        assert next(searched).read.id == minted.id
        with pytest.raises(BlockingIOError) as refused:
            next(searched)
        assert refused.value.strerror  # which the command shows


def test_names_of_files_are_shown_safely(one: Service) -> None:
    token_id, text = one.issue()
    for name in (b"\xff\x1b[31m.txt", f"{text}.txt".encode()):
        one.folder.mkdir(exist_ok=True)
        Path(os.fsdecode(os.fsencode(one.folder) + b"/" + name)).write_text(text)
    done = one.scan("--revoke", one.folder)
    assert "\x1b" not in done.stdout
    assert r"\udcff\x1b[31m.txt:1: " in done.stdout
    assert f"tg_{token_id}_(not shown).txt:1: " in done.stdout
    assert one.state(token_id) is State.REVOKED


@pytest.mark.parametrize("name", ["/".join(["d-" * 50] * 4), f"{'A' * 16}_{'b' * 75}", "\u202e \n", " "])
def test_no_name_of_a_file_keeps_a_token_alive(one: Service, name: str) -> None:
    token_id, text = one.issue()
    one.write(name, text)
    assert one.scan("--revoke", one.folder).stdout.endswith("active, revoked now\n")
    (event,) = one.issuer.store.events(1)
    assert event.token_id == token_id
    assert event.data["reason"][1].startswith("leaked: found in ")
    assert event.data["reason"][1].endswith(":1")


def test_a_token_that_is_given_in_place_of_a_path_is_not_shown(one: Service) -> None:
    assert one.scan().returncode == 2
    done = one.scan(one.issue()[1])
    assert (done.returncode, "(not shown)" in done.stderr) == (2, True)


def test_where_the_store_is_away_the_scan_ends(one: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*arguments: Any, **more: Any) -> Any:
        raise StoreUnavailable("the database cannot be used: connection refused")

    monkeypatch.setattr(one.issuer.store, "find", away)
    done = one.scan("-", stdin=one.issue()[1])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: the database cannot be used: connection refused\n"


@pytest.mark.parametrize("command", ["scan -", "inspect"])
def test_without_a_signing_key_nobody_is_offered_one_that_finds_nothing(command: str) -> None:
    bare = command_tree(lambda: (Options.read({}), MemoryStore()))
    done = CliRunner().invoke(bare, command.split(), input="x")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "TOKENGUARD_SIGNING_KEY is required: set it to the service's key" in done.stderr
    assert "fresh" not in done.stderr


def test_from_djangos_management_command(sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        django_alias(sqlite_url) as alias,
        override_settings(TOKENGUARD={"SIGNING_KEY": KEY, "USING": alias}),
    ):
        migrate(alias)
        get_issuer().register("billing", "a", actor="tests")
        token, text = get_issuer().issue("billing", "a", actor="tests")
        (tmp_path / "x").write_text(text.reveal())
        with pytest.raises(CommandError, match="live tokens found: 1, now revoked") as refused:
            call_command("tokenguard", "scan", "--revoke", str(tmp_path))
        assert refused.value.returncode == 1
        assert f"token {token.id} of client billing: active, revoked now" in capsys.readouterr().out
        record = get_issuer().store.find(token.id)
        assert record is not None
        assert record.token.revoked_at is not None
