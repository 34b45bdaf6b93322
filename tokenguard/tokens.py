"""Clients, tokens, and the token's text: mint, read, digest.

The text is ``<prefix>_<id>_<secret><tag>``, all of it ``[A-Za-z0-9_]``, of a fixed length for a service::

    tg_0123456789ABCDEF_0123456789abcdefghijklmnopqrstuv<43 characters of tag>

The tag is an HMAC over everything before it, so a forged text is told without asking the store. The secret is
random, so the signing key alone makes no token. Of the text only a SHA-256 digest is kept: with 190 bits of
randomness in it, a slow password hash would add cost and nothing else.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from hmac import compare_digest
from typing import NamedTuple

from .base62 import random_text
from .conditions import UNCONDITIONAL, Conditions
from .errors import TOKEN_SHAPED, ConfigurationError, InvalidToken, InvalidValue
from .scopes import Scopes
from .secret import Secret
from .signing import TAG_LENGTH, SigningKeys, Tagger, fingerprint

ID_LENGTH = 16
SECRET_LENGTH = 32
#: What almost everybody writes before a token in the Authorization header.
SCHEME = "Bearer "
MAX_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Client:
    """An application that may hold tokens (OAuth's ``client_id``). Times are epoch microseconds."""

    id: str
    name: str
    #: The ceiling: what its tokens may ever do.
    scopes: Scopes
    enabled: bool
    created_at: int
    #: For all its tokens together.
    conditions: Conditions = UNCONDITIONAL


@dataclass(frozen=True, slots=True)
class Token:
    """One credential of a client, without its text. Times are epoch microseconds, None for never."""

    id: str
    client_id: str
    #: What the operator calls it; may be empty.
    name: str
    scopes: Scopes
    digest: str = field(repr=False)
    #: Of the key that signed it here; both are empty for one of another issuer, which is here only if it is revoked.
    key_fingerprint: str
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    conditions: Conditions = UNCONDITIONAL
    #: Microseconds without a use after which it ends for good.
    idle_timeout: int | None = None
    #: When it was found to have been idle for too long.
    idle_ended_at: int | None = None
    #: The token that replaces it, and until when both work.
    successor_id: str | None = None
    overlap_ends_at: int | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """What is known of a token's use, to the minute: when last, from where, and which scopes it was asked for."""

    token_id: str
    last_used_at: int
    address: str
    scopes: Scopes


class Minted(NamedTuple):
    """A new token's parts: ``text`` is for the client, the rest for the store."""

    id: str
    text: Secret
    digest: str
    key_fingerprint: str


class Read(NamedTuple):
    """What a correctly signed text says."""

    id: str
    digest: str

    @classmethod
    def of(cls, token: Token) -> Read:
        """What its own text says."""
        return cls(token.id, token.digest)


class TokenFormat:
    """Mints and reads the texts of one service: its prefix and its signing keys."""

    def __init__(self, keys: SigningKeys, prefix: str = "tg") -> None:
        """Raises ConfigurationError for a prefix that is not 1 to 16 lower-case letters and digits."""
        self.prefix = check_prefix(prefix)
        #: What every text of the service begins with, and none of another issuer.
        self.beginning = f"{prefix}_"
        #: Of every token's text.
        self.length = len(prefix) + ID_LENGTH + SECRET_LENGTH + TAG_LENGTH + 2
        #: What :meth:`key` begins with.
        self.salted = blake2b(salt=secrets.token_bytes(blake2b.SALT_SIZE), digest_size=32)
        #: Of what :meth:`key` digests.
        self.length_sent = len(SCHEME) + self.length
        self._pattern = re.compile(
            f"{prefix}_([0-9A-Za-z]{{{ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH + TAG_LENGTH}}}", re.ASCII
        )
        # Derived once: a request only pays for the signature itself.
        self._taggers = tuple(Tagger(key) for key in (keys.current, *keys.old))
        self.key_fingerprint = fingerprint(keys.current)
        self.key_fingerprints = frozenset(fingerprint(key) for key in (keys.current, *keys.old))

    def key(self, text: str) -> bytes:
        """The key under which a text is remembered; empty where its length says that it is no token of this service."""
        if len(text) != self.length or not text.isascii():
            return b""  # what is too long is not even looked at
        return self.key_of_any(text)

    def key_of_any(self, text: str) -> bytes:
        """The same of any ASCII text, as one of another issuer."""
        # Another digest than the store's: it takes less time, and is of no use to any other process. And of the whole
        # header as most send it, which need not be taken apart for that.
        salted = self.salted.copy()
        salted.update(f"{SCHEME}{text}".encode())
        return salted.digest()

    def mint(self) -> Minted:
        """A new token's text, signed with the current key."""
        token_id = random_id()
        signed = f"{self.prefix}_{token_id}_{random_text(SECRET_LENGTH)}".encode()
        text = signed + self._taggers[0].tag(signed)
        return Minted(token_id, Secret(text.decode()), digest(text), self.key_fingerprint)

    def read(self, credential: Secret) -> Read:
        """The id and digest of a text that one of the keys has signed; raises InvalidToken. Asks no store.

        There is exactly one text for a token: what the pattern lets through is compared whole, so no variant of a
        text can slip past a revocation or a limit.
        """
        read = self.examine(credential.reveal())
        if isinstance(read, Read):
            return read
        raise read or InvalidToken("not a token of this service")

    def examine(self, text: str) -> Read | InvalidToken | None:
        """The same of a bare text, without raising; None for one that has not even the shape of a token."""
        # Returns its error rather than raising it: a traceback keeps the frames it passed, and this one holds the text.
        match = self._pattern.fullmatch(text)
        if match is None:
            return None
        sent = text.encode()
        signed, tag = sent[:-TAG_LENGTH], sent[-TAG_LENGTH:]
        for tagger in self._taggers:
            if compare_digest(tagger.tag(signed), tag):
                return Read(match[1], digest(sent))
        return InvalidToken("signature does not match: forged, or signed by a dropped key", token_id=match[1])


def check_prefix(prefix: str) -> str:
    """``prefix`` itself, if a token's text may begin with it; else raises ConfigurationError."""
    if not isinstance(prefix, str) or not re.fullmatch(r"[a-z0-9]{1,16}", prefix, re.ASCII):
        raise ConfigurationError(f"the prefix is 1 to 16 lower-case letters and digits, not {prefix!r}")
    return prefix


def digest(text: bytes) -> str:
    """What the store keeps of a token's text: its SHA-256 in hexadecimal."""
    return sha256(text).hexdigest()


def random_id() -> str:
    """16 characters of base62: 95 random bits."""
    return random_text(ID_LENGTH)


def check_label(kind: str, text: str, *, max_length: int = MAX_NAME_LENGTH) -> str:
    """``text`` itself if it can be shown on one line of a terminal; else raises InvalidValue naming ``kind``."""
    if not isinstance(text, str) or not text.isprintable() or text != text.strip():
        raise InvalidValue(f"{kind} is printable text without space around it, not {text!r}")
    if TOKEN_SHAPED.search(text):
        raise InvalidValue(f"{kind} cannot be the text of a token: that is kept nowhere")
    if len(text) > max_length:
        raise InvalidValue(f"{kind} has at most {max_length} characters; this one has {len(text)}")
    return text
