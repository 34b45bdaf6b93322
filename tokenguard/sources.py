"""Tokens that others issue and this service takes: what a source of them has to say to the guard."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple, Protocol

from .errors import AuthError
from .identity import Claims
from .scopes import ScopeCatalog, Scopes
from .secret import Secret
from .tokens import ID_LENGTH

#: Characters that a token may have: what a header may have at most.
MAX_LENGTH = 8192
#: And of what it may consist (RFC 9110 section 11.2), as a regular expression.
TOKEN68 = r"[A-Za-z0-9\-._~+/]+=*"


class ForeignToken(NamedTuple):
    """A token of another issuer that was found to be good. Times are epoch microseconds."""

    issuer: str
    #: As the issuer calls them; for what the store knows of them there are the ``local`` ids.
    client_id: str
    token_id: str
    #: What it stands for among the scopes of this service; empty where nothing does.
    scopes: Scopes
    issued_at: int
    #: When it ends, or has to be asked about again: it is remembered until then, and until ``refused_at`` it is taken
    #: all the same, for one request at a time.
    expires_at: int
    refused_at: int
    subject: str | None = None
    claims: Claims = Claims()
    #: When it has ended whatever its issuer says later; None where that may move its end.
    ends_for_good_at: int | None = None

    @property
    def whose(self) -> dict[str, str]:
        """What an AuthError about it says of whose it is."""
        return {"token_id": self.token_id, "client_id": self.client_id, "issuer": self.issuer}

    @property
    def local_client_id(self) -> str:
        """Under which id the store may know the client."""
        return local_client_id(self.issuer, self.client_id)

    @property
    def local_token_id(self) -> str:
        """Under which id the store may know that the token is revoked here."""
        return local_token_id(self.issuer, self.token_id)


class Source(Protocol):
    """Other issuers' tokens. Threads share it."""

    def takes(self, text: str) -> bool:
        """Whether the text is of this kind, by its shape alone: asks nobody, and costs next to nothing."""

    def verify(self, credential: Secret, at: int, catalog: ScopeCatalog) -> ForeignToken:
        """Who presents a text of this kind at ``at`` (epoch microseconds), with scopes that ``catalog`` has.

        Raises InvalidToken, or TemporarilyUnavailable where it cannot be said. No frame that the error has passed may
        hold the text.
        """

    def check(self, catalog: ScopeCatalog) -> None:
        """Raises ConfigurationError if it could grant what ``catalog`` does not have."""


def source_of(text: str, sources: Iterable[Source], own: str) -> Source | None:
    """The source of whose kind the text is, by its shape; None for what begins with ``own``, as our own tokens do.

    None of those is shown to anybody else, also if it is mistyped or cut short.
    """
    if not text.startswith(own):
        for source in sources:
            if source.takes(text):
                return source
    return None


def read_hidden(
    read: Callable[[str, int, ScopeCatalog], ForeignToken], credential: Secret, at: int, catalog: ScopeCatalog
) -> ForeignToken:
    """``read(text, at, catalog)``, so that no frame that its error has passed holds the text."""
    try:
        return read(credential.reveal(), at, catalog)
    except AuthError as error:
        refusal = error.with_traceback(None)  # that keeps the frames it passed, and they hold the text
    refusal.__context__ = None
    raise refusal


@lru_cache(maxsize=1024)
def local_client_id(issuer: str, client_id: str) -> str:
    """The id in the store of the client that ``issuer`` calls ``client_id``.

    Not what the issuer says: that could be the id of another client, and with it of its tokens.
    """
    return derived_id("client", issuer, client_id)


def local_token_id(issuer: str, token_id: str) -> str:
    """The same of a token, by its ``jti``."""
    return derived_id("token", issuer, token_id)


def derived_id(*names: str) -> str:
    """What nobody can make out of other names: as long as the ids that are random, and of the same characters."""
    # What ascii() makes of them has their bounds in it, and is the same in every version of Python.
    letters = b2a_base64(sha256(ascii(names).encode()).digest()).translate(None, b"+/=\n")
    return letters[:ID_LENGTH].decode()
