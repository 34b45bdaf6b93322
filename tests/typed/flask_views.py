from __future__ import annotations

from typing import Any, assert_type

from flask import Flask

from tokenguard import AuthError, Identity
from tokenguard.flask import Refused, TokenGuard, current_identity, get_identity, require_scopes, require_token

app = Flask(__name__)
guard = TokenGuard(app)


@app.get("/users")
@require_scopes("users:read")
def users() -> dict[str, Any]:
    return {"caller": current_identity.client_name}


@app.get("/me")
@require_token
async def me() -> dict[str, Any]:
    assert_type(get_identity(), Identity | None)
    return {"scopes": str(current_identity.scopes)}


@app.errorhandler(Refused)
def worded(error: Refused) -> tuple[dict[str, Any], int]:
    return {"message": error.error.detail}, error.code


def count(error: AuthError, **further: Any) -> None: ...


guard.hooks.refused.append(count)
guard.hooks.refused.append(lambda error, environ: f"{error.reason} {environ['PATH_INFO']}")
guard.hooks.issued.append(lambda token, client: f"{token.id} {client.name}")
guard.hooks.authenticated.append(count)  # type: ignore[arg-type]  # it is given no error
