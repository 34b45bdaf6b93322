"""The metadata of the service as a protected resource of OAuth 2.0 (RFC 9728)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from .errors import ConfigurationError

#: RFC 9728 section 3: it goes between the host of the resource's identifier and its path.
WELL_KNOWN = "/.well-known/oauth-protected-resource"

# Clients compare identifiers as text, and parsers of URLs rewrite what is not in its plainest form, so only that form
# is accepted. The URL also stands between quotes in a challenge, and in Flask's and Django's routes.
_PLAIN_URL = re.compile(
    r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:/(?!\.{1,2}(?:/|$))[\w.~!$&'()*+,;=:@-]+)*/?", re.ASCII
)
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
            "scopes_supported": list(scopes),
            "bearer_methods_supported": ["header"],
        }
        #: The members of the document (RFC 9728 section 2).
        self.metadata: dict[str, Any] = {member: value for member, value in document.items() if value}


def checked_url(what: str, url: str) -> str:
    """Return ``url`` itself if it can identify a service or an issuer; raises ConfigurationError otherwise.

    ``what`` is what the error calls it.
    """
    if not isinstance(url, str) or not _PLAIN_URL.fullmatch(url) or not _has_a_port_that_exists(url):
        raise ConfigurationError(
            f"{what} must be a URL such as https://api.example.com or https://example.com/tenant1, in lower case up to "
            f"its path, without query and fragment, not {shown_url(url)}"
        )
    if url.startswith("http:") and not _is_loopback(urlsplit(url).hostname or ""):
        raise ConfigurationError(
            f"{what} must be an https URL: http is accepted only for this machine, not for {shown_url(url)}"
        )
    return url


def shown_url(url: object) -> str:
    """Return a URL as an error may quote it: what precedes the host, or is in the query, may be a credential."""
    return re.sub(r"\?[^'\"]*", "?(not shown)", re.sub("//.*@", "//(not shown)@", repr(url)))


def _has_a_port_that_exists(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
