"""The keys that sign tokens, and what is made with them: tags, and fingerprints that tell one key from another."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from hashlib import sha256
from typing import NoReturn

from itsdangerous import Signer
from itsdangerous.signer import HMACAlgorithm

from .base62 import random_text
from .errors import ConfigurationError, counted
from .frames import clear_frames
from .secret import Secret

TAG_LENGTH = 43  # of a SHA-256 in base64, without padding
MIN_KEY_BYTES = 32

# One salt per kind and version of what is signed: a signature made for one can never serve as another.
_TOKEN_SALT = b"tokenguard.api-token.v1"
_FINGERPRINT_SALT = b"tokenguard.key-fingerprint.v1"
_DEVELOPMENT_SALT = b"tokenguard.development-key.v1"
_HMAC_SHA256 = HMACAlgorithm(sha256)
#: Replaces the two base64 characters that are not letters or digits: at least 213 of the 256 bits are left.
_LETTERS_AND_DIGITS = bytes.maketrans(b"+/", b"01")
#: What is wrong with a key that was read from a file without stripping it.
_SPACED = "has white space around it, such as the end of a line"
#: What is wrong with one from a file whose reader, unlike a shell, takes quotation marks for a part of the value.
_QUOTED = "has a quotation mark at an end"


class SigningKeys:
    """The key that signs new tokens, and older ones that still verify.

    Each is a text of at least 32 bytes in UTF-8; raises ConfigurationError otherwise. The current key is a separate
    argument, because people disagree about which end of a list is the newest.
    """

    def __init__(self, current: str, *, old: Sequence[str] = ()) -> None:
        if isinstance(old, str):
            raise ConfigurationError("old signing keys must be a list of strings, not one string")
        try:
            self.current = _check_key(current, "signing key")
            self.old = tuple(_check_key(key, "old signing key") for key in old)
        except BaseException as error:
            clear_frames(error)
            del current, old
            raise

    def __repr__(self) -> str:
        return "<SigningKeys, not shown>"


def generate_key() -> str:
    """Return a new signing key: 262 random bits, in groups too short to be taken for a token's secret."""
    return "-".join(random_text(11) for _ in range(4))


def derive_development_key(secret_key: str | bytes) -> str:
    """Derive a signing key from a framework's SECRET_KEY, however short: for debug and testing, not for production."""
    if not isinstance(secret_key, (str, bytes)):
        raise ConfigurationError(f"SECRET_KEY must be a string or bytes, not {type(secret_key).__name__}")
    return _derive(secret_key, _DEVELOPMENT_SALT).hex()


def _check_key(key: str, kind: str) -> Secret:
    wrong = _wrong_with(key) if isinstance(key, str) else "is not a string"
    if wrong is None:
        return Secret(key, kind)
    # The key is never quoted: this message ends up in logs and on screens.
    if wrong == _SPACED:
        advice = "remove the white space"
    elif wrong == _QUOTED:
        advice = "remove it"
    elif kind == "signing key":
        # In another terminal, say: with a fresh key, all tokens of a service that has one already would be refused.
        first = "" if key else "set the one that the service has already; for a new service, "
        advice = f'{first}run "tokenguard genkey", or take this fresh one: {generate_key()}'
    else:
        advice = "write one that was the signing key before, or leave it out"
    raise ConfigurationError(f"the {kind} {wrong}; {advice}")


def _wrong_with(key: str) -> str | None:
    if not key:
        return "is missing"
    if key != key.strip():
        return _SPACED
    if key != key.strip("'\""):
        return _QUOTED  # where a shell reads the same file, the key is another one
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return None if length >= MIN_KEY_BYTES else f"has {counted(length, 'byte')} and needs at least {MIN_KEY_BYTES}"


class Tagger:
    """Makes the tags of one signing key. The key is derived once, and shown nowhere.

    A tag is itsdangerous' signature, HMAC with SHA-256 (RFC 2104 section 2) in base64 (RFC 4648 section 4), with two
    characters replaced.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: Secret) -> None:
        # Both hashes of an HMAC begin with a block that depends on the key alone: that part is computed once, and each
        # signature continues copies of it. The hmac module takes twice as long, which is what a forgery would cost.
        block = _derive(key.reveal(), _TOKEN_SALT).ljust(sha256().block_size, b"\0")
        self._inner, self._outer = (sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))

    def tag(self, signed: bytes) -> bytes:
        """Return the signature of ``signed`` as 43 letters and digits."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(signed)
        outer.update(inner.digest())
        return b2a_base64(outer.digest())[:TAG_LENGTH].translate(_LETTERS_AND_DIGITS)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a signing key cannot be pickled or copied")


def fingerprint(key: Secret) -> str:
    """Return 16 hexadecimal characters that tell one signing key from another and reveal nothing of either."""
    return _HMAC_SHA256.get_signature(_derive(key.reveal(), _FINGERPRINT_SALT), b"").hex()[:16]


def _derive(key: str | bytes, salt: bytes) -> bytes:
    return Signer(key, salt=salt, key_derivation="hmac", digest_method=sha256).derive_key()
