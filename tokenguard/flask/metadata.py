"""The metadata of the service as a protected resource (RFC 9728): the rule and its view."""

from __future__ import annotations

from flask import Flask, Response, abort, request

from ..endpoints import to_response
from ..http import AuthScheme


def add_metadata(app: Flask, scheme: AuthScheme) -> None:
    """Add the rule for the metadata, if the service is a protected resource."""
    if scheme.resource is None:
        return

    def metadata() -> Response:
        if (answer := scheme.metadata(request.environ)) is None:
            abort(404)  # the application is mounted below the host's root, where no client looks for this
        return to_response(answer, Response)

    app.add_url_rule(
        scheme.resource.metadata_path,
        "tokenguard_metadata",
        metadata,
        methods=["GET", "OPTIONS"],
        provide_automatic_options=False,
        host=scheme.resource.host if app.url_map.host_matching else None,
    )
