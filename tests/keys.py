"""The keys that tests sign with."""

from __future__ import annotations

KEY = "a signing key that only the tests know, 1"
OTHER_KEY = "a signing key that only the tests know, 2"
