"""Tokens managed over HTTP, in the shape of Okta's API: one implementation, which each framework calls.

``routes.py`` lists the calls, ``api.py`` has what each does, ``grants.py`` what a caller may hand on, ``call.py`` a
request, ``bodies.py`` what callers send, and ``shape.py`` how a token is shown.
"""

from __future__ import annotations

from .api import Management
from .call import Call
from .routes import PREFIX, ROUTES, Rights, Route

__all__ = ["PREFIX", "ROUTES", "Call", "Management", "Rights", "Route"]
