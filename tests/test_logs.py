"""The filter that takes tokens out of what other code logs."""

from __future__ import annotations

import base64
import io
import logging
import logging.config
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.datastructures import Headers

from tokenguard import SigningKeys, TokenFormat
from tokenguard.logs import RedactTokens, redact_tokens

from .conftest import KEY

MINTED = TokenFormat(SigningKeys(KEY), "acme").mint()
TEXT = MINTED.text.reveal()
SHOWN = f"acme_{MINTED.id}_(not shown)"
FORMAT = "%(message)s|%(detail)s"


@pytest.fixture
def logged() -> Iterator[Logged]:
    yield (logged := Logged())
    logged.logger.handlers.clear()


class Logged:
    """A logger whose only handler is configured as projects do it: by a dictionary."""

    def __init__(self) -> None:
        self.out = io.StringIO()
        self.seen: list[logging.LogRecord] = []
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "filters": {"redact": {"()": "tokenguard.logs.RedactTokens"}},
                "handlers": {
                    "out": {
                        "class": "logging.StreamHandler",
                        "stream": self.out,
                        "filters": ["redact"],
                    }
                },
                "loggers": {"app": {"handlers": ["out"], "level": "DEBUG", "propagate": False}},
            }
        )
        self.logger = logging.getLogger("app")
        self.logger.handlers[0].setFormatter(logging.Formatter(FORMAT, defaults={"detail": ""}))
        self.logger.addHandler(self)  # type: ignore[arg-type]

    level = 0

    def handle(self, record: logging.LogRecord) -> None:
        self.seen.append(record)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (f"token {TEXT}", ()),
        ("token %s", (TEXT,)),
        ("token %r", (TEXT.encode(),)),
        ("token %(it)s", ({"it": TEXT},)),
        ("headers %s", (Headers({"Authorization": f"Bearer {TEXT}"}),)),
        ("nested %s", ({"a": [(TEXT, {TEXT})]},)),
        ("GET %s", (f"/x?token={TEXT}&y=1",)),
        ("cut %.60s", (TEXT,)),
        (f"cut {TEXT[:-40]}", ()),
        (f"SSWS{TEXT},{TEXT}.", ()),
        (ValueError(f"token {TEXT}"), ()),
    ],
    ids=range(11),
)
def test_no_message_shows_a_token(logged: Logged, message: Any, arguments: tuple[Any, ...]) -> None:
    logged.logger.info(message, *arguments)
    assert SHOWN in logged.out.getvalue()
    for shown in (logged.out.getvalue(), repr(vars(logged.seen[0]))):
        assert TEXT[22:46] not in shown
        assert TEXT[-24:] not in shown


def test_a_message_that_is_a_dictionary_stays_one(logged: Logged) -> None:
    # Structlog's formatter fails on any other, and the line would be lost.
    logged.logger.info({"event": TEXT, "headers": Headers({"X-API-Key": TEXT}), "count": 1})
    (record,) = logged.seen
    assert record.msg == {"event": SHOWN, "headers": f"Headers([('X-API-Key', '{SHOWN}')])", "count": 1}


class Growing(dict[str, Any]):
    """While it is iterated over, adds an item to the dictionary that contains it."""

    def __init__(self, around: dict[str, Any]) -> None:
        super().__init__(it=TEXT)
        self.around = around

    def items(self) -> Any:
        self.around[f"new {len(self.around)}"] = 1
        return super().items()


def test_what_others_change_meanwhile_is_no_error(logged: Logged) -> None:
    shared: dict[str, Any] = {"first": TEXT}
    shared["growing"] = Growing(shared)
    logged.logger.info("x", extra={"detail": shared})
    assert SHOWN in logged.out.getvalue()
    assert TEXT[-75:] not in logged.out.getvalue()


def test_tracebacks_and_stacks_show_none(logged: Logged) -> None:
    try:
        raise ValueError(TEXT)
    except ValueError:
        logged.logger.exception("it failed", stack_info=True)
    assert f"ValueError: {SHOWN}" in logged.out.getvalue()
    logged.logger.handlers[0].filters[0].filter(record := logging.makeLogRecord({"stack_info": f"x {TEXT}"}))  # type: ignore[union-attr]
    assert record.stack_info == f"x {SHOWN}"


def test_what_a_line_is_given_besides_shows_none(logged: Logged) -> None:
    endless: dict[str, Any] = {"it": TEXT}
    endless["list"] = [endless]
    more = OrderedDict({TEXT: (TEXT, 1), (TEXT,): TEXT.encode()})
    given = {"detail": TEXT, "more": more, "endless": endless, "number": 5, "nothing": None}
    logged.logger.info("x", extra=given)
    assert logged.out.getvalue() == f"x|{SHOWN}\n"
    (record,) = logged.seen
    assert vars(record)["more"] == {SHOWN: (SHOWN, 1), (SHOWN,): SHOWN.encode()}
    assert (vars(record)["number"], vars(record)["nothing"]) == (5, None)
    assert TEXT[-75:] not in repr(vars(record))
    assert SHOWN in repr(vars(record)["endless"])


def test_a_call_that_is_wrong_is_reported_without_a_token(logged: Logged, capsys: pytest.CaptureFixture[str]) -> None:
    headers = Headers({"X-API-Key": TEXT})
    # Not through the logger, because pytest adds a handler to it that raises.
    logged.logger.handlers[0].handle(logging.makeLogRecord({"msg": "two %s %s", "args": (headers,)}))
    reported = capsys.readouterr().err
    assert "not enough arguments" in reported
    assert re.search(r"^Arguments: .*Headers\(", reported, re.MULTILINE)
    assert TEXT[22:46] not in reported


def test_arguments_with_ways_of_their_own_are_shown_as_they_would_be(logged: Logged) -> None:
    class Atoms(dict[str, str]):  # like gunicorn's atoms of a request
        def __missing__(self, key: str) -> str:
            return "-"

    logged.logger.warning("%(r)s %({x-forwarded-for}i)s", Atoms(r=f"GET /?token={TEXT}"))
    assert f"GET /?token={TEXT[:22]}(not shown) -" in logged.out.getvalue()


def test_a_mapping_that_does_not_fit_is_reported_without_a_token(
    logged: Logged, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = Headers({"Authorization": f"Bearer {TEXT}"})
    record = logging.makeLogRecord({"msg": "two %(missing)s", "args": {"headers": headers}})
    logged.logger.handlers[0].handle(record)
    reported = capsys.readouterr().err
    assert re.search(r"^Arguments: .*Headers\(", reported, re.MULTILINE)
    assert TEXT[22:46] not in reported


@pytest.mark.parametrize("cut", [0, 40])
def test_of_tokens_with_nothing_between_them_no_secret_is_shown(cut: int) -> None:
    shown = redact_tokens(f"sent {TEXT[: len(TEXT) - cut]}{TEXT}{TEXT} and more")
    assert shown == f"sent {SHOWN} and more"


def test_whatever_has_no_token_is_left_as_it_is(logged: Logged) -> None:
    nested = {"a": [1, "b"]}
    digest = "0123456789abcdef" * 4
    logged.logger.warning("of %s, %s and id %s", nested, digest, MINTED.id, extra={"detail": nested})
    (record,) = logged.seen
    assert (record.msg, record.args) == ("of %s, %s and id %s", (nested, digest, MINTED.id))
    assert vars(record)["detail"] is nested
    for text in (f"{MINTED.id}_x", f"tg_{MINTED.id}_{'x' * 23}", f"tg_{MINTED.id[1:]}_{'x' * 75}"):
        assert redact_tokens(text) == text


def test_an_error_whose_message_has_no_token_keeps_its_own_formatting() -> None:
    try:
        raise ValueError("nothing secret")
    except ValueError as error:
        record = logging.makeLogRecord({"exc_info": (ValueError, error, error.__traceback__)})
    assert RedactTokens().filter(record)
    assert record.exc_text is None


@pytest.mark.parametrize("cut", [0, 20, 60])
def test_a_jwt_of_another_issuer_is_not_shown(cut: int) -> None:
    text = f"{'eyJhbGciOiJSUzI1NiIsImtpZCI6Im9uZSJ9'}.{'eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIn0'}.{'c2lnbmF0dXJl' * 5}"
    line = redact_tokens(f"sent Bearer {text[: len(text) - cut]}")
    assert line == "sent Bearer (JWT not shown)"
    assert redact_tokens("eyJ9 is no token, nor is a.b.c") == "eyJ9 is no token, nor is a.b.c"


@pytest.mark.parametrize(
    "header", ['{"alg":"RS256"}', '{ "alg": "RS256"}', '{\n "alg": "RS256"}', '{\r\n\t"alg": "RS256"}']
)
def test_a_jwt_may_be_written_with_space_in_its_objects(header: str) -> None:
    one, other = (
        base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode() for text in (header, header.replace("alg", "iss"))
    )
    assert redact_tokens(f"sent {one}.{other}.c2lnbmF0dXJl") == "sent (JWT not shown)"
