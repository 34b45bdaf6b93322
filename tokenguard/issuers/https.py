"""One request to another issuer's server, and its answer: limited in time and size, whatever that server does."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from ..errors import ConfigurationError
from ..urls import checked_url, shown_url

_QUERY = re.compile(r"[\w.~!$&'()*+,;=:@/?%-]*", re.ASCII)


class Unreachable(Exception):
    """No whole answer came. The message says why, in our own words."""


class CutShort(Unreachable):
    """The question was sent, but then the server hung up, or its answer was too long: nobody waited in vain."""


class Received(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes


def checked_endpoint(what: str, url: str, issuer: str) -> str:
    """Return ``url`` itself if ``issuer``'s server may be asked there; raises ConfigurationError otherwise."""
    bare, _, query = url.partition("?") if isinstance(url, str) else (url, "", "")
    checked_url(what, bare)
    if not _QUERY.fullmatch(query) or (url.startswith("http:") and issuer.startswith("https:")):
        raise ConfigurationError(f"{what} must be an https URL, not {shown_url(url)}")
    return url


def exchange(
    url: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    *,
    timeout: float,
    deadline: float,
    max_bytes: int,
    context: ssl.SSLContext | None = None,
) -> Received:
    """GET ``url``, or POST ``body`` there. Follows no redirect, and uses no proxy. Raises Unreachable.

    Connecting, and each part of the answer, may take ``timeout`` seconds. Everything after connecting may take
    ``deadline`` seconds, and the answer may have ``max_bytes``. ``context`` decides which certificates are good, by
    default those that Python trusts.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    connection = (HTTPSConnection if secure else HTTPConnection)(parts.netloc, timeout=timeout)
    asked = False
    try:
        HTTPConnection.connect(connection)
        if secure:
            trusting = context or ssl.create_default_context()
            connection.sock = trusting.wrap_socket(
                connection.sock, server_hostname=parts.hostname, do_handshake_on_connect=False
            )
        with _hanging_up(connection.sock, deadline):
            if isinstance(connection.sock, ssl.SSLSocket):
                connection.sock.do_handshake()
            asked = True
            target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
            connection.request("GET" if body is None else "POST", target, body, headers)
            # Closed here: until then the response keeps the connection open, and an error would keep the response.
            with closing(connection.getresponse()) as response:
                received = response.read(max_bytes + 1)
                whole = response.isclosed() or response.length in (0, None)
    except (OSError, HTTPException, ValueError) as error:
        # The original error is dropped, as its frames hold what was sent.
        kind = CutShort if asked and not isinstance(error, TimeoutError) else Unreachable
        raise kind(f"{parts.hostname}: {type(error).__name__}") from None
    finally:
        connection.close()
    if len(received) > max_bytes or not whole:
        raise CutShort(f"{parts.hostname} answers with more than {max_bytes} bytes, or breaks off")
    return Received(response.status, received)


@contextmanager
def _hanging_up(connected: socket.socket, deadline: float) -> Iterator[None]:
    """Hang up after ``deadline`` seconds, and raise TimeoutError then, whatever seems to have come until then."""
    # A socket's own timeout is for each read, and there may be very many, also during the handshake.
    late = threading.Event()
    timer = threading.Timer(deadline, _hang_up, [connected, late])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late.is_set():  # whatever the block took that for
            raise TimeoutError


def _hang_up(connected: socket.socket, late: threading.Event) -> None:
    late.set()
    # Not an encrypted socket's own method: after that, reads would return what is there without decrypting it.
    with suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
