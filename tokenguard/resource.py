"""The metadata of the service as a protected resource of OAuth 2.0 (RFC 9728)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from .errors import ConfigurationError
from .urls import checked_url

#: RFC 9728 section 3: it goes between the host of the resource's identifier and its path.
WELL_KNOWN = "/.well-known/oauth-protected-resource"
_PAGE = re.compile(r"https?://[!#-\[\]-~]+", re.ASCII)


class ProtectedResource:
    """Who the service is, and what its metadata document says.

    ``identifier`` is the URL by which clients know the service: https, or http on a loopback address while developing,
    with a path or without, and with neither query nor fragment (RFC 9728 section 1.2). ``scopes`` are the scopes that
    the document names, ``authorization_servers`` the issuers whose tokens the service takes, ``name`` is for people,
    and ``documentation`` is the URL of a page for developers. Empty values are left out. Raises ConfigurationError for
    a value that cannot be used.
    """

    def __init__(
        self,
        identifier: str,
        *,
        scopes: Iterable[str] = (),
        authorization_servers: Sequence[str] = (),
        name: str = "",
        documentation: str = "",
    ) -> None:
        if isinstance(authorization_servers, str):
            raise ConfigurationError(f"authorization servers must be a list of URLs: write [{authorization_servers!r}]")
        if isinstance(scopes, str):
            raise ConfigurationError(f"the scopes must be a list: write {scopes.split()!r}")
        named = list(scopes)
        # What JSON cannot say would show with the first request for the document.
        for what, given in (("the name", name), *[("each of the scopes", scope) for scope in named]):
            if not isinstance(given, str):
                raise ConfigurationError(f"{what} must be a string, not {type(given).__name__}")
        if documentation and not (isinstance(documentation, str) and _PAGE.fullmatch(documentation)):
            raise ConfigurationError(f"the documentation must be the URL of a page, not {documentation!r}")
        self.identifier = checked_url("the resource", identifier)
        parts = urlsplit(identifier)
        #: The host, with its port if it has one.
        self.host = parts.netloc
        #: The path of the metadata document, on the same host.
        self.metadata_path = WELL_KNOWN + (parts.path if parts.path != "/" else "")
        #: The URL of the metadata document.
        self.metadata_url = f"{parts.scheme}://{parts.netloc}{self.metadata_path}"
        document = {
            "resource": identifier,
            "resource_name": name,
            "resource_documentation": documentation,
            "authorization_servers": [checked_url("an authorization server", url) for url in authorization_servers],
            "scopes_supported": named,
            "bearer_methods_supported": ["header"],
        }
        #: The members of the document (RFC 9728 section 2).
        self.metadata: dict[str, Any] = {member: value for member, value in document.items() if value}
