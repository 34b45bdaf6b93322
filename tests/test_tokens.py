from __future__ import annotations

import copy
import hashlib
import json
import pickle
import re
import string

import pytest

from tokenguard import (
    AuthScheme,
    ConfigurationError,
    InvalidToken,
    InvalidValue,
    Secret,
    SigningKeys,
    TokenFormat,
    TokenGuardError,
    tokens,
)
from tokenguard.base62 import BASE62
from tokenguard.conditions import Allowance, Rate
from tokenguard.errors import (
    InsufficientScope,
    NetworkNotAllowed,
    PolicyViolation,
    RateLimited,
    StoreBusy,
    UnknownClient,
    UnknownToken,
)
from tokenguard.secret import redact
from tokenguard.signing import derive_development_key, fingerprint, generate_key
from tokenguard.tokens import check_label

from .conftest import KEY, OTHER_KEY

# The format, byte for byte: these texts must verify for ever, or an upgrade would break every token in use.
PINNED_KEY = "0123456789abcdef0123456789abcdef"
PINNED = "tg_ABCDEFGHIJKLMNOP_0123456789abcdefghijklmnopqrstuvjp9JD0ql2wuphVuUDY79uKRQ642tbbuhufu1AzkpGtE"


def test_the_texts_of_a_pinned_key_never_change(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = iter(["ABCDEFGHIJKLMNOP", "0123456789abcdefghijklmnopqrstuv"])
    monkeypatch.setattr(tokens, "random_text", lambda length: next(parts))
    minted = TokenFormat(SigningKeys(PINNED_KEY)).mint()
    assert minted.text.reveal() == PINNED
    assert minted.id == "ABCDEFGHIJKLMNOP"
    assert minted.digest == hashlib.sha256(PINNED.encode()).hexdigest()
    assert minted.key_fingerprint == "1689c31e2124e444"
    assert TokenFormat(SigningKeys(PINNED_KEY)).read(Secret(PINNED)) == (minted.id, minted.digest)


def test_the_tag_is_itsdangerous_signature_in_letters_and_digits() -> None:
    from itsdangerous import Signer

    format_ = TokenFormat(SigningKeys(PINNED_KEY))
    signer = Signer(PINNED_KEY, salt=b"tokenguard.api-token.v1", key_derivation="hmac", digest_method=hashlib.sha256)
    for text in [PINNED, *(format_.mint().text.reveal() for _ in range(50))]:  # enough for all letters and digits
        signature = signer.get_signature(text[:-43]).decode()
        assert text[-43:] == signature.replace("-", "0").replace("_", "1")


def test_no_other_tag_is_taken_for_a_texts_own() -> None:
    format_ = TokenFormat(SigningKeys(KEY))
    for _ in range(20):
        text = format_.mint().text.reveal()
        signed, tag = text[:-43], text[-43:]
        assert format_.read(Secret(text))
        others = {signed + tag[:place] + other + tag[place + 1 :] for place in range(43) for other in BASE62}
        others |= {signed + tag[1:] + tag[0], signed + "0" * 43, signed + "z" * 43}
        for other in others - {text}:
            with pytest.raises(InvalidToken, match="signature"):
                format_.read(Secret(other))


def test_a_text_has_one_shape_and_is_never_the_same() -> None:
    format_ = TokenFormat(SigningKeys(KEY), "acme1")
    texts = {format_.mint().text.reveal() for _ in range(200)}
    assert len(texts) == 200
    for text in texts:
        prefix, token_id, rest = text.split("_")
        assert (prefix, len(token_id), len(rest)) == ("acme1", 16, 32 + 43)
        assert set(token_id + rest) <= set(string.ascii_letters + string.digits)


def test_a_token_of_an_older_key_is_read_and_of_a_dropped_key_refused() -> None:
    old = TokenFormat(SigningKeys(OTHER_KEY)).mint()
    both = TokenFormat(SigningKeys(KEY, old=[generate_key(), OTHER_KEY]))
    assert both.read(old.text).id == old.id
    with pytest.raises(InvalidToken) as refused:
        TokenFormat(SigningKeys(KEY)).read(old.text)
    assert refused.value.token_id == old.id


def test_new_tokens_are_signed_by_the_current_key() -> None:
    minted = TokenFormat(SigningKeys(KEY, old=[OTHER_KEY])).mint()
    assert TokenFormat(SigningKeys(KEY)).read(minted.text).id == minted.id
    assert minted.key_fingerprint == fingerprint(Secret(KEY)) != fingerprint(Secret(OTHER_KEY))


def test_another_services_prefix_is_refused_though_the_key_is_the_same() -> None:
    staging = TokenFormat(SigningKeys(KEY), "staging").mint()
    with pytest.raises(InvalidToken, match="not a token of this service"):
        TokenFormat(SigningKeys(KEY), "live").read(staging.text)


@pytest.mark.parametrize("key", ["", "short", "x" * 31, "ü" * 15, "\ud800" * 40, None, b"x" * 40])
def test_a_key_that_is_none_is_refused_with_a_fresh_one_and_never_quoted(key: str) -> None:
    with pytest.raises(ConfigurationError, match="tokenguard genkey") as refused:
        SigningKeys(key)
    fresh = str(refused.value).split()[-1]
    SigningKeys(fresh)
    if key:
        assert str(key) not in str(refused.value)


def test_who_lacks_the_key_is_asked_for_the_old_one_before_a_fresh_one() -> None:
    with pytest.raises(ConfigurationError, match=r"missing; set the one that .* already; for a new service, run"):
        SigningKeys("")


def test_keys_are_named_and_measured_in_bytes() -> None:
    SigningKeys("ü" * 16)
    advice = "write one that was the signing key before, or leave it out$"
    for key, wrong in [
        ("x" * 31, "has 31 bytes and needs at least 32"),
        ("x", "has 1 byte and needs at least 32"),
        (5, "is not a string"),
        ("\ud800" * 40, "is not valid Unicode"),
    ]:
        with pytest.raises(ConfigurationError, match=f"^the old signing key {wrong}; {advice}"):
            SigningKeys(KEY, old=[key])
    for spaced in (f"{KEY}\n", f" {KEY}"):
        with pytest.raises(
            ConfigurationError, match=r"^the signing key has white space around it.*; remove the white space$"
        ):
            SigningKeys(spaced)
    for quoted in (f'"{KEY}"', f"'{KEY}'", f'{KEY}"'):
        with pytest.raises(ConfigurationError, match=r"^the signing key has a quotation mark at an end; remove it$"):
            SigningKeys(quoted)
    with pytest.raises(ConfigurationError, match=r"^old signing keys must be a list of strings, not one string$"):
        SigningKeys(KEY, old=OTHER_KEY)


def test_a_key_that_is_not_given_as_signing_keys_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match=r"^the signing keys must be given as SigningKeys\(…\), not str$"):
        TokenFormat(KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize("prefix", ["", "TG", "a_b", "a-b", "ü", "x" * 17, "a\n", None])
def test_a_prefix_that_would_break_the_text_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        TokenFormat(SigningKeys(KEY), prefix)


def test_a_secret_shows_itself_only_when_asked() -> None:
    minted = TokenFormat(SigningKeys(KEY)).mint()
    text = minted.text.reveal()
    sent = AuthScheme().credential({"HTTP_AUTHORIZATION": f"Bearer {text}"})
    for secret in (minted.text, sent, Secret(text, "what somebody calls it")):
        for shown in (repr(secret), str(secret), f"{secret}", f"{[secret]!r}", "%s" % secret, json.dumps(str(secret))):
            assert shown.strip('"[]') == f"<token {minted.id}, not shown>"
        with pytest.raises(TypeError, match=f"<token {minted.id}, not shown>"):
            pickle.dumps(secret)
    assert text[-75:] not in repr(minted)
    assert repr(Secret(text[1:] + "-", "credential")) == "<credential, not shown>"
    assert repr(SigningKeys(KEY, old=[OTHER_KEY]).old) == "(<old signing key, not shown>,)"
    assert repr(SigningKeys(KEY, old=[OTHER_KEY])) == "<SigningKeys, not shown>"
    assert repr(Secret("x")) == "<secret, not shown>"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"^a secret cannot be pickled or copied: <token \w+, not shown>$"):
            leak(minted.text)


def test_a_development_key_is_stretched_from_any_secret_key() -> None:
    assert derive_development_key("dev") == derive_development_key(b"dev") != derive_development_key("dev2")
    # Tokens that were minted in development stay valid when the library is upgraded.
    assert derive_development_key("dev") == "0ebb52056c5ba2bd45be8528ee030694c6a3debac4d3ce095163a12ae0e6bc45"
    SigningKeys(derive_development_key("dev"))


def test_nothing_that_holds_a_key_can_be_pickled() -> None:
    keys = SigningKeys(KEY)
    for holder in (TokenFormat(keys), keys, keys.current, tokens.Tagger(keys.current)):
        with pytest.raises(TypeError, match=r"^a (secret|signing key) cannot be pickled or copied|cannot pickle"):
            pickle.dumps(holder)
        with pytest.raises(TypeError, match=r"^a (secret|signing key) cannot be pickled or copied|cannot pickle"):
            copy.deepcopy(holder)
    with pytest.raises(TypeError, match=r"^a secret cannot be pickled or copied: <signing key, not shown>$"):
        keys.current.__getstate__()


def test_a_generated_key_is_long_and_is_not_redacted_from_the_error_that_offers_it() -> None:
    keys = {generate_key() for _ in range(50)}
    assert len(keys) == 50
    assert all(redact(key) == key and len(key) == 47 for key in keys)


@pytest.mark.parametrize("cut", [slice(None), slice(None, -1), slice(5, None), slice(20, -20), slice(30, 60)])
def test_no_error_shows_a_token_or_much_of_one(cut: slice) -> None:
    text = TokenFormat(SigningKeys(KEY)).mint().text.reveal()
    message = str(TokenGuardError(f"what is {text[cut]!r}?"))
    assert "(not shown)" in message
    assert not re.search("[0-9A-Za-z]{17}", message)


RAISED = [
    PolicyViolation("max_lifetime", "a token may live for a day", "client-1"),
    UnknownClient("nobody"),
    UnknownToken(["one", "other"]),
    InvalidValue("wrong"),
    StoreBusy("wait"),
    InvalidToken("revoked", token_id="token-1", client_id="client-1"),
    InsufficientScope(["users:read"], "users:read", token_id="token-1"),
    NetworkNotAllowed("203.0.113.7", client_id="client-1"),
    RateLimited(Allowance(Rate.parse("9/minute"), -1, 30)),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_an_error_reaches_another_process_as_it_was_raised(error: TokenGuardError) -> None:
    """One that cannot be unpickled breaks the pool of processes whose job has raised it, and other jobs with it."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def test_a_development_key_needs_a_secret_key_that_is_text() -> None:
    with pytest.raises(ConfigurationError, match="SECRET_KEY must be a string or bytes, not int"):
        derive_development_key(5)  # type: ignore[arg-type]


def test_only_what_has_the_length_of_a_token_is_remembered_under_a_key() -> None:
    format_ = TokenFormat(SigningKeys(KEY))
    text = format_.mint().text.reveal()
    assert len(format_.key(text)) == 32
    assert format_.key(text) == format_.key(text) != format_.key(format_.mint().text.reveal())
    for other in (text[1:], text + "0", "", "é" + text[1:], "\ud800" + text[1:], "é"):
        assert format_.key(other) == b""


def test_what_a_process_remembers_a_text_under_says_nothing_in_another() -> None:
    text = TokenFormat(SigningKeys(KEY)).mint().text.reveal()
    one, other = TokenFormat(SigningKeys(KEY)), TokenFormat(SigningKeys(KEY))
    assert one.key(text) != other.key(text)
    assert one.key_of_any("a.b.c") != other.key_of_any("a.b.c")


def test_the_keys_that_a_service_has_are_told_by_their_fingerprints() -> None:
    old, current = (TokenFormat(SigningKeys(key)).mint().key_fingerprint for key in (OTHER_KEY, KEY))
    assert TokenFormat(SigningKeys(KEY, old=[OTHER_KEY])).key_fingerprints == {old, current}


def test_a_label_is_short_and_never_a_token() -> None:
    assert check_label("a name", "x" * 100) == "x" * 100
    with pytest.raises(InvalidValue, match=r"^a name must have at most 100 characters; this one has 101$"):
        check_label("a name", "x" * 101)
    with pytest.raises(InvalidValue, match=r"^a name must not be the text of a token, which is stored nowhere$"):
        check_label("a name", TokenFormat(SigningKeys(KEY)).mint().text.reveal())
    with pytest.raises(InvalidToken, match=r"^not a token of this service$"):
        TokenFormat(SigningKeys(KEY)).read(Secret("x"))
