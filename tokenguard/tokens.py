"""Clients, tokens, and the token's text: mint, read, digest.

The text is ``<prefix>_<id>_<secret><tag>``, all of it ``[A-Za-z0-9_]``, of a fixed length for a service::

    tg_0123456789ABCDEF_0123456789abcdefghijklmnopqrstuv<43 characters of tag>

The tag is an HMAC over everything before it, so a forged text is told without asking the store. The secret is
random, so the signing key alone makes no token. Of the text only a SHA-256 digest is kept: with 190 bits of
randomness in it, a slow password hash would add cost and nothing else.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import NamedTuple, NoReturn

from itsdangerous import Signer
from itsdangerous.signer import HMACAlgorithm

from .conditions import UNCONDITIONAL, Conditions
from .errors import TOKEN_SHAPED, ConfigurationError, InvalidToken, InvalidValue
from .frames import forget
from .scopes import Scopes

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH = 16
SECRET_LENGTH = 32
TAG_LENGTH = 43  # 62**43 > 2**256: a SHA-256 always fits
#: What almost everybody writes before a token in the Authorization header.
SCHEME = "Bearer "
MIN_KEY_BYTES = 32
MAX_NAME_LENGTH = 100
_TOKEN = re.compile(rf"[a-z0-9]{{1,16}}_(?P<id>[0-9A-Za-z]{{{ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH + TAG_LENGTH}}}")

# One salt per kind and version of what is signed: a signature made for one can never serve as another.
_TOKEN_SALT = b"tokenguard.api-token.v1"
_FINGERPRINT_SALT = b"tokenguard.key-fingerprint.v1"
_DEVELOPMENT_SALT = b"tokenguard.development-key.v1"
_HMAC_SHA256 = HMACAlgorithm(sha256)
_DIGITS = bytes.maketrans(BASE62.encode(), bytes(range(len(BASE62))))
# How a text of up to 64 digits, one in each byte, becomes a number: every digit is joined with its neighbour, all at
# once, then every pair with its neighbour, and so on. For each step the bits from one to the next, those of the lower
# ones, and by how much less a higher one counts than it does where it stands.
_JOINTS = [
    (
        8 << step,
        sum(((1 << (8 << step)) - 1) << (place * (16 << step)) for place in range(32 >> step)),
        (1 << (8 << step)) - 62 ** (1 << step),
    )
    for step in range(6)
]


class Secret:
    """Text that must not be seen by accident: only :meth:`reveal` gives it.

    Its repr, str and format show the public id of a token, as ``<token 0123456789ABCDEF, not shown>``, and of any other
    text a label. It is not pickled or copied.
    """

    __slots__ = ("_label", "_text")

    def __init__(self, text: str, label: str = "secret") -> None:
        """``label`` says what it is, where the text has not the shape of a token."""
        self._text = text
        self._label = label

    @property
    def label(self) -> str:
        """What may be shown: the kind of text and, of a token, its public id. Whether it is a good one is not known."""
        # Found out when somebody looks: each request makes one of these, and hardly any is ever shown.
        shaped = _TOKEN.fullmatch(self._text)
        return f"token {shaped['id']}" if shaped else self._label

    def reveal(self) -> str:
        """The text itself. Hand it on at once; do not keep it in a variable, log it or store it."""
        return self._text

    def __repr__(self) -> str:
        return f"<{self.label}, not shown>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a secret is not pickled or copied: {self}")

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"a secret is not pickled or copied: {self}")


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


class SigningKeys:
    """The key that signs new tokens, and older ones that still verify.

    Each is a text of at least 32 bytes in UTF-8; raises ConfigurationError otherwise. Named rather than a list,
    because people disagree about which end of a list is the newest.
    """

    def __init__(self, current: str, *, old: Sequence[str] = ()) -> None:
        if isinstance(old, str):
            raise ConfigurationError("old signing keys are a list of texts, not one text")
        try:
            self.current = _check_key(current, "signing key")
            self.old = tuple(_check_key(key, "old signing key") for key in old)
        except BaseException as error:
            forget(error)
            del current, old
            raise

    def __repr__(self) -> str:
        return "<SigningKeys, not shown>"


def generate_key() -> str:
    """A new signing key: 262 random bits, in groups so short that none is taken for a token's secret."""
    return "-".join(_random_base62(11) for _ in range(4))


def derive_development_key(secret_key: str | bytes) -> str:
    """A signing key from a framework's SECRET_KEY, however short: for debug and testing, never for production."""
    if not isinstance(secret_key, (str, bytes)):
        raise ConfigurationError(f"a SECRET_KEY is text or bytes, not {type(secret_key).__name__}")
    return _derive(secret_key, _DEVELOPMENT_SALT).hex()


def _check_key(key: str, kind: str) -> Secret:
    if isinstance(key, str) and (wrong := _wrong_with(key)) is None:
        return Secret(key, kind)
    # The key is never quoted: this message ends up in logs and on screens.
    if kind == "signing key":
        advice = f'run "tokenguard genkey", or take this fresh one: {generate_key()}'
    else:
        advice = "write one that was the signing key before, or leave it out"
    raise ConfigurationError(f"the {kind} {wrong if isinstance(key, str) else 'is not text'}; {advice}")


def _wrong_with(key: str) -> str | None:
    if not key:
        return "is missing"
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "is not valid text"
    return None if length >= MIN_KEY_BYTES else f"has {length} bytes and needs at least {MIN_KEY_BYTES}"


class Tagger:
    """Makes the tags of one signing key. The key is derived once, and shown nowhere.

    The signature is the one of itsdangerous' HMACAlgorithm: HMAC with SHA-256 (RFC 2104 section 2).
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: Secret) -> None:
        # Both hashes of an HMAC begin with a block that depends on the key alone: so far they are worked out once, and
        # each signature goes on with copies. Those of the hmac module take twice as long, which is what forgeries cost.
        block = _derive(key.reveal(), _TOKEN_SALT).ljust(sha256().block_size, b"\0")
        self._inner, self._outer = (sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))

    def tag(self, signed: str) -> str:
        """The signature of ``signed`` as 43 characters of base62."""
        number, digits = int.from_bytes(self._sign(signed)), []
        for _ in range(TAG_LENGTH):
            number, digit = divmod(number, len(BASE62))
            digits.append(BASE62[digit])
        return "".join(reversed(digits))

    def fits(self, signed: str, tag: str) -> bool:
        """Whether that is the tag of ``signed``; it consists of 43 characters of base62."""
        # Every number has but one text of this length, so comparing the numbers is comparing the texts, in half the
        # time: this is what each forgery costs.
        number = int.from_bytes(tag.encode("ascii").translate(_DIGITS))
        for distance, lower, less in _JOINTS:
            number -= (number >> distance & lower) * less
        return hmac.compare_digest(number.to_bytes(TAG_LENGTH), self._sign(signed).rjust(TAG_LENGTH, b"\0"))

    def _sign(self, signed: str) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(signed.encode("ascii"))
        outer.update(inner.digest())
        return outer.digest()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a signing key is not pickled or copied")


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
        if not isinstance(prefix, str) or not re.fullmatch(r"[a-z0-9]{1,16}", prefix, re.ASCII):
            raise ConfigurationError(f"the prefix is 1 to 16 lower-case letters and digits, not {prefix!r}")
        self.prefix = prefix
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
        """Under what a text that may be a token of this service is remembered; nothing if it is none by its length."""
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
        signed = f"{self.prefix}_{token_id}_{_random_base62(SECRET_LENGTH)}"
        text = signed + self._taggers[0].tag(signed)
        return Minted(token_id, Secret(text), digest(text), self.key_fingerprint)

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
        signed, tag = text[:-TAG_LENGTH], text[-TAG_LENGTH:]
        for tagger in self._taggers:
            if tagger.fits(signed, tag):
                return Read(match[1], digest(text))
        return InvalidToken("signature does not match: forged, or signed by a dropped key", token_id=match[1])


def digest(text: str) -> str:
    """What the store keeps of a token's text: its SHA-256 in hexadecimal."""
    return sha256(text.encode("ascii")).hexdigest()


def fingerprint(key: Secret) -> str:
    """16 hexadecimal characters that tell one signing key from another and reveal nothing of either."""
    return _HMAC_SHA256.get_signature(_derive(key.reveal(), _FINGERPRINT_SALT), b"").hex()[:16]


def random_id() -> str:
    """16 characters of base62: 95 random bits."""
    return _random_base62(ID_LENGTH)


def check_label(kind: str, text: str, *, max_length: int = MAX_NAME_LENGTH) -> str:
    """``text`` itself if it can be shown on one line of a terminal; else raises InvalidValue naming ``kind``."""
    if not isinstance(text, str) or not text.isprintable() or text != text.strip():
        raise InvalidValue(f"{kind} is printable text without space around it, not {text!r}")
    if TOKEN_SHAPED.search(text):
        raise InvalidValue(f"{kind} cannot be the text of a token: that is kept nowhere")
    if len(text) > max_length:
        raise InvalidValue(f"{kind} has at most {max_length} characters; this one has {len(text)}")
    return text


def _derive(key: str | bytes, salt: bytes) -> bytes:
    return Signer(key, salt=salt, key_derivation="hmac", digest_method=sha256).derive_key()


def _random_base62(length: int) -> str:
    return "".join(secrets.choice(BASE62) for _ in range(length))
