"""Tokens that others issue and this service accepts: what the guard needs from a source of them."""

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


class ForeignToken(NamedTuple):
    """A token of another issuer that was found to be good. Times are epoch microseconds."""

    #: The issuer's identifier, a URL: by nothing else can its clients be limited here, and its tokens be revoked.
    issuer: str
    #: The issuer's own ids; the store knows client and token by the ``local`` ids.
    client_id: str
    token_id: str
    #: The scopes of this service that it stands for; empty if there are none.
    scopes: Scopes
    issued_at: int
    #: When it ends, or has to be verified again. It is cached until then; from then until ``refused_at`` it is still
    #: accepted, but for one request at a time.
    expires_at: int
    refused_at: int
    subject: str | None = None
    claims: Claims = Claims()
    #: When it ends whatever its issuer says later; None if the issuer may still move its end.
    ends_for_good_at: int | None = None

    @property
    def whose(self) -> dict[str, str]:
        """The ids and issuer for an AuthError about this token."""
        return {"token_id": self.token_id, "client_id": self.client_id, "issuer": self.issuer}

    @property
    def local_client_id(self) -> str:
        """The id by which the store may know the client."""
        return local_client_id(self.issuer, self.client_id)

    @property
    def local_token_id(self) -> str:
        """The id by which the store may know that the token is revoked here."""
        return local_token_id(self.issuer, self.token_id)


class Source(Protocol):
    """Recognises and verifies tokens of other issuers. Threads share it."""

    def takes(self, text: str) -> bool:
        """Whether the text is of this kind, judging by its shape alone. Asks nobody, and costs next to nothing."""

    def verify(self, credential: Secret, at: int, catalog: ScopeCatalog) -> ForeignToken:
        """Verify a text of this kind at ``at`` (epoch microseconds); the token's scopes are among those of ``catalog``.

        Raises InvalidToken, or TemporarilyUnavailable if that cannot be decided. No frame in the error's traceback may
        hold the text.
        """

    def check(self, catalog: ScopeCatalog) -> None:
        """Raise ConfigurationError if it could grant a scope that ``catalog`` does not have."""


def source_of(text: str, sources: Iterable[Source], own: str) -> Source | None:
    """Return the source that takes the text by its shape; None if it begins with ``own``, as our own tokens do.

    Our own tokens are shown to nobody else, even if they are mistyped or cut short.
    """
    if not text.startswith(own):
        for source in sources:
            if source.takes(text):
                return source
    return None


def read_hidden(
    read: Callable[[str, int, ScopeCatalog], ForeignToken], credential: Secret, at: int, catalog: ScopeCatalog
) -> ForeignToken:
    """Return ``read(text, at, catalog)``; no frame in the traceback of its error holds the text."""
    try:
        return read(credential.reveal(), at, catalog)
    except AuthError as error:
        refusal = error.with_traceback(None)  # a traceback keeps its frames, and they hold the text
    refusal.__context__ = None
    raise refusal


@lru_cache(maxsize=1024)
def local_client_id(issuer: str, client_id: str) -> str:
    """Return the store's id for the client that ``issuer`` calls ``client_id``.

    The issuer's own id is not used: it could equal that of another client, whose tokens would then count as its own.
    """
    return derived_id("client", issuer, client_id)


def local_token_id(issuer: str, token_id: str) -> str:
    """Return the store's id for a token of ``issuer``, by its ``jti``."""
    return derived_id("token", issuer, token_id)


def derived_id(*names: str) -> str:
    """Return an id that nobody can make out of other names, with the length and characters of the random ids."""
    # The result of ascii() shows where each name ends, and is the same in every version of Python.
    letters = b2a_base64(sha256(ascii(names).encode()).digest()).translate(None, b"+/=\n")
    return letters[:ID_LENGTH].decode()
