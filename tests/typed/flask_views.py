from __future__ import annotations

from typing import Any, assert_type

from flask import Flask

from tokenguard import Identity
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
