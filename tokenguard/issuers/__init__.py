"""The issuers, of any kind, whose tokens a service accepts: read from its options, and made into sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ..errors import ConfigurationError
from ..scopes import ScopeCatalog
from ..sources import Source
from .jwt import JWTSource, TrustedIssuer
from .opaque import IntrospectedIssuer, IntrospectionSource

AnyIssuer: TypeAlias = TrustedIssuer | IntrospectedIssuer


def read_issuer(members: Mapping[str, Any], catalog: ScopeCatalog, own_prefix: str) -> AnyIssuer:
    """Read an issuer from a mapping: one that is asked about its tokens if that says where, else one that signs JWTs.

    ``own_prefix`` is that of the service's own tokens, about which no issuer is asked. Raises ConfigurationError.
    """
    if "introspection_url" not in members:
        return TrustedIssuer.read(members, catalog)
    asked = IntrospectedIssuer.read(members, catalog)
    if any(prefix.startswith(f"{own_prefix}_") for prefix in asked.prefixes):
        raise ConfigurationError(
            f"strings that begin with {own_prefix}_ are the service's own tokens, so {asked.issuer} is never queried "
            "about them: set another PREFIX"
        )
    return asked


def sources_of(issuers: Sequence[AnyIssuer]) -> list[Source]:
    """Return the sources that verify their tokens. Raises ConfigurationError."""
    signing = [issuer for issuer in issuers if isinstance(issuer, TrustedIssuer)]
    asked = [issuer for issuer in issuers if not isinstance(issuer, TrustedIssuer)]
    # JWTs first: where any issuer signs JWTs, none is sent to an introspection endpoint.
    sources: list[Source] = [JWTSource(signing)] if signing else []
    return [*sources, IntrospectionSource(asked)] if asked else sources
