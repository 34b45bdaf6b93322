"""Types for the annotations of views."""

from __future__ import annotations

from django.http import HttpRequest

from ..identity import Identity


class GuardedRequest(HttpRequest):
    """The request of a guarded view, whose ``identity`` is the caller's: for annotations only.

    At run time, a request has the class that the server gives it, and ``identity`` is an attribute that is set on it.
    So nothing is an instance of this class, and nothing needs to be.
    """

    identity: Identity
