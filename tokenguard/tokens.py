"""Clients, tokens, and the token's text: mint, read, digest.

The text is ``<prefix>_<id>_<secret><tag>``, all of it ``[A-Za-z0-9_]``, of a length that is fixed for a service::

    tg_0123456789ABCDEF_0123456789abcdefghijklmnopqrstuv<43 characters of tag>

The tag is an HMAC over everything before it, so a forged text is rejected without asking the store. The secret
is random, so the signing key alone makes no token. Only a SHA-256 digest of the text is stored: with 190 bits of
randomness in the text, a slow password hash would add cost and nothing else.
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
from .errors import ConfigurationError, InvalidToken, InvalidValue
from .scopes import Scopes
from .secret import TOKEN_SHAPED, Secret
from .signing import TAG_LENGTH, SigningKeys, Tagger, fingerprint

ID_LENGTH = 16
SECRET_LENGTH = 32
#: What almost every caller sends before the token in the Authorization header.
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
    #: Apply to all its tokens together.
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
    #: Of the signing key. Empty, as is ``digest``, for another issuer's token, which is stored only if it is revoked.
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
    """A token's recorded use, to the minute: when it was last used, from where, and which scopes were needed."""

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
    """The id and digest of a correctly signed text."""

    id: str
    digest: str

    @classmethod
    def of(cls, token: Token) -> Read:
        """Return the id and digest of the token's own text."""
        return cls(token.id, token.digest)


#: Stands for a token that does not exist.
NO_TOKEN = Read("", "")


class TokenFormat:
    """Mints and reads the texts of one service's tokens, with its prefix and its signing keys."""

    def __init__(self, keys: SigningKeys, prefix: str = "tg") -> None:
        """Raises ConfigurationError for a prefix that is not 1 to 16 lower-case letters and digits, or a bare key."""
        if not isinstance(keys, SigningKeys):
            raise ConfigurationError(f"the signing keys must be given as SigningKeys(…), not {type(keys).__name__}")
        self.prefix = check_prefix(prefix)
        #: Every text of the service begins with this, and no text of another issuer does.
        self.beginning = f"{prefix}_"
        #: The length of every token's text.
        self.length = len(prefix) + ID_LENGTH + SECRET_LENGTH + TAG_LENGTH + 2
        #: The randomly salted hash that :meth:`key` copies and continues.
        self.salted = blake2b(salt=secrets.token_bytes(blake2b.SALT_SIZE), digest_size=32)
        #: The length of what :meth:`key` hashes: the scheme and the text.
        self.length_sent = len(SCHEME) + self.length
        self._pattern = re.compile(
            f"{prefix}_([0-9A-Za-z]{{{ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH + TAG_LENGTH}}}", re.ASCII
        )
        # Derived once: a request only pays for the signature itself.
        self._taggers = tuple(Tagger(key) for key in (keys.current, *keys.old))
        self.key_fingerprint = fingerprint(keys.current)
        self.key_fingerprints = frozenset(fingerprint(key) for key in (keys.current, *keys.old))

    def key(self, text: str) -> bytes:
        """Return the key under which a text is cached; empty unless it is ASCII and as long as the service's tokens."""
        if len(text) != self.length or not text.isascii():
            return b""  # a text that is too long is not even looked at
        return self.key_of_any(text)

    def key_of_any(self, text: str) -> bytes:
        """Return the key under which any ASCII text is cached, such as another issuer's token."""
        # Not the store's digest: this one takes less time, and is useless to any other process. It covers the header as
        # most callers send it, so that header can be hashed without being taken apart.
        salted = self.salted.copy()
        salted.update(f"{SCHEME}{text}".encode())
        return salted.digest()

    def mint(self) -> Minted:
        """Return a new token's parts, with a text signed by the current key."""
        token_id = random_id()
        signed = f"{self.prefix}_{token_id}_{random_text(SECRET_LENGTH)}".encode()
        text = signed + self._taggers[0].tag(signed)
        return Minted(token_id, Secret(text.decode()), digest(text), self.key_fingerprint)

    def read(self, credential: Secret) -> Read:
        """Return the id and digest of a text that one of the keys has signed; raises InvalidToken. Asks no store.

        Each token has exactly one text: whatever matches the pattern is compared as a whole, so no variant of a text
        can slip past a revocation or a limit.
        """
        read = self.examine(credential.reveal())
        if isinstance(read, Read):
            return read
        raise read or InvalidToken("not a token of this service")

    def examine(self, text: str) -> Read | InvalidToken | None:
        """As :meth:`read`, for a bare text; returns the error, or None if the text has not even a token's shape."""
        # Not raised: a traceback keeps the frames that the error passed through, and this one holds the text.
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
    """Return ``prefix`` if a token's text may begin with it; otherwise raise ConfigurationError."""
    if not isinstance(prefix, str) or not re.fullmatch(r"[a-z0-9]{1,16}", prefix, re.ASCII):
        raise ConfigurationError(f"the prefix must be 1 to 16 lower-case letters and digits, not {prefix!r}")
    return prefix


def digest(text: bytes) -> str:
    """Return the SHA-256 of a token's text in hexadecimal, which the store keeps in place of the text."""
    return sha256(text).hexdigest()


def random_id() -> str:
    """Return 16 characters of base62: 95 random bits."""
    return random_text(ID_LENGTH)


def check_label(kind: str, text: str, *, max_length: int = MAX_NAME_LENGTH) -> str:
    """Return ``text`` if it can be shown on one line of a terminal; otherwise raise InvalidValue, naming ``kind``."""
    if not isinstance(text, str) or not text.isprintable() or text != text.strip():
        raise InvalidValue(f"{kind} must be printable text without surrounding spaces, not {text!r}")
    if TOKEN_SHAPED.search(text):
        raise InvalidValue(f"{kind} must not be the text of a token, which is stored nowhere")
    if len(text) > max_length:
        raise InvalidValue(f"{kind} must have at most {max_length} characters; this one has {len(text)}")
    return text
