"""URLs that identify a service or an issuer, and how an error shows any URL."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from .errors import ConfigurationError

# Clients compare identifiers as text, and parsers of URLs rewrite what is not in its plainest form, so only that form
# is accepted. The URL also stands between quotes in a challenge, and in Flask's and Django's routes.
_PLAIN_URL = re.compile(
    r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:/(?!\.{1,2}(?:/|$))[\w.~!$&'()*+,;=:@-]+)*/?", re.ASCII
)


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
