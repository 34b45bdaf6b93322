"""API tokens for WSGI services: which application is calling, and what may it do?"""

from __future__ import annotations

from .errors import (
    AuthError,
    ConfigurationError,
    InsufficientScope,
    InvalidRequest,
    InvalidToken,
    InvalidValue,
    IssuanceError,
    MissingToken,
    SchemaError,
    StoreError,
    StoreUnavailable,
    TemporarilyUnavailable,
    TokenGuardError,
    UnknownClient,
    UnknownToken,
)
from .guard import Guard
from .http import AuthScheme
from .identity import Identity
from .issuer import Issued, Issuer
from .scopes import Requirement, ScopeCatalog, Scopes
from .store import Event, EventKind, MemoryStore, Store
from .tokens import Client, Secret, SigningKeys, Token, TokenFormat
from .wsgi import RequestGuard, TokenGuardMiddleware

__version__ = "0.1.0"

__all__ = [
    "AuthError",
    "AuthScheme",
    "Client",
    "ConfigurationError",
    "Event",
    "EventKind",
    "Guard",
    "Identity",
    "InsufficientScope",
    "InvalidRequest",
    "InvalidToken",
    "InvalidValue",
    "IssuanceError",
    "Issued",
    "Issuer",
    "MemoryStore",
    "MissingToken",
    "RequestGuard",
    "Requirement",
    "SchemaError",
    "ScopeCatalog",
    "Scopes",
    "Secret",
    "SigningKeys",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "TemporarilyUnavailable",
    "Token",
    "TokenFormat",
    "TokenGuardError",
    "TokenGuardMiddleware",
    "UnknownClient",
    "UnknownToken",
]
