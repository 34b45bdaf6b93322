"""What views are annotated with."""

from __future__ import annotations

from django.http import HttpRequest

from ..identity import Identity


class GuardedRequest(HttpRequest):
    """The request of a guarded view, whose ``identity`` says who is calling: for annotations only.

    At run time a request is of whatever class the server makes it, and ``identity`` is an attribute that it is given.
    So nothing is an instance of this class, and nothing needs to be.
    """

    identity: Identity
