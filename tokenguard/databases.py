"""What SQLite and PostgreSQL are asked in words of their own, and what their complaints mean.

For every store on a database, whatever library it stands on.
"""

from __future__ import annotations

from . import schema
from .errors import SchemaError, StoreError, StoreUnavailable

#: Seconds that a writer waits for another, and a thread for a connection, before it gives up.
LOCK_TIMEOUT = 5
#: What only another's very first use of the same token is waited for.
USE_LOCK_TIMEOUT = "100ms"
#: PostgreSQL's advisory lock for changing the schema. Any number will do that nobody else takes: "tokengrd" in ASCII.
ADVISORY_LOCK = int.from_bytes(b"tokengrd")
#: The databases there are, and how each tells its own time in epoch microseconds.
CLOCKS = {
    "postgresql": "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    "sqlite": "SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
}

# Both drivers' wordings and PostgreSQL's SQLSTATEs are stable.
_MISSING = ("no such table", "no such column", "42P01", "42703")
_LOCKED = ("database is locked", "55P03")
_TOO_SLOW = ("57014",)
_CONFLICT = ("40001", "40P01")
_READ_ONLY = ("readonly database", "25006")


def complaint(error: BaseException, set_up: str) -> StoreError:
    """A driver's error in words of what to do; ``set_up`` is the command that makes the tables."""
    said = str(error).strip().partition("\n")[0]
    symptoms = f"{getattr(error, 'sqlstate', None)} {said}"
    if any(sign in symptoms for sign in _MISSING):
        return SchemaError(f'the tokenguard tables are missing or outdated ({said}): run "{set_up}"')
    if any(sign in symptoms for sign in _LOCKED):
        return StoreUnavailable(
            f"another writer held the database for {LOCK_TIMEOUT} s: nothing was changed, try again"
        )
    if any(sign in symptoms for sign in _TOO_SLOW):
        return StoreUnavailable(f"the database did not answer within {LOCK_TIMEOUT} s")
    if any(sign in symptoms for sign in _CONFLICT):
        return StoreUnavailable(f"another writer came first ({said}): nothing was changed, try again")
    if any(sign in symptoms for sign in _READ_ONLY):
        return StoreUnavailable(f"the database cannot be written ({said}): nothing was changed")
    return StoreUnavailable(f"the database cannot be used: {said}")


def check_version(version: int, set_up: str) -> None:
    """Raises SchemaError for a database that is newer or older than this code."""
    if version > schema.latest():
        raise SchemaError(
            f"the database is of schema version {version}, newer than this tokenguard knows ({schema.latest()}): "
            "upgrade tokenguard"
        )
    if version < schema.latest():
        raise SchemaError(
            f'the database is of schema version {version}, and this tokenguard needs {schema.latest()}: run "{set_up}"'
        )


def askable(text: str) -> bool:
    """Whether a database can be asked for this id or name; what is not printable is neither."""
    return text.isprintable()
