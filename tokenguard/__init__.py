"""API tokens for WSGI services: which application is calling, and what may it do?"""

from __future__ import annotations

from .cache import TokenCache
from .conditions import Conditions
from .errors import (
    AuthError,
    ConfigurationError,
    Conflict,
    InsufficientScope,
    InvalidRequest,
    InvalidToken,
    InvalidValue,
    IssuanceError,
    MissingToken,
    NetworkNotAllowed,
    PolicyViolation,
    RateLimited,
    SchemaError,
    StoreBusy,
    StoreError,
    StoreUnavailable,
    TemporarilyUnavailable,
    TokenGuardError,
    UnknownClient,
    UnknownToken,
)
from .events import Event, EventKind
from .guard import Guard
from .hooks import Hooks
from .http import AuthScheme
from .identity import Identity
from .issuer import Issued, Issuer
from .memory import MemoryStore
from .policy import Policy
from .request import RequestGuard
from .resource import ProtectedResource
from .scopes import Requirement, ScopeCatalog, Scopes
from .secret import Secret
from .signing import SigningKeys
from .store import Store
from .tokens import Client, Token, TokenFormat, Use
from .usage import UsageLog
from .verified import Verified
from .wsgi import TokenGuardMiddleware

__version__ = "0.1.0"

__all__ = [
    "AuthError",
    "AuthScheme",
    "Client",
    "Conditions",
    "ConfigurationError",
    "Conflict",
    "Event",
    "EventKind",
    "Guard",
    "Hooks",
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
    "NetworkNotAllowed",
    "Policy",
    "PolicyViolation",
    "ProtectedResource",
    "RateLimited",
    "RequestGuard",
    "Requirement",
    "SchemaError",
    "ScopeCatalog",
    "Scopes",
    "Secret",
    "SigningKeys",
    "Store",
    "StoreBusy",
    "StoreError",
    "StoreUnavailable",
    "TemporarilyUnavailable",
    "Token",
    "TokenCache",
    "TokenFormat",
    "TokenGuardError",
    "TokenGuardMiddleware",
    "UnknownClient",
    "UnknownToken",
    "UsageLog",
    "Use",
    "Verified",
]
