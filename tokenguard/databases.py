"""What SQLite and PostgreSQL are asked in words of their own, and what their complaints mean.

For every store on a database, whatever library it stands on.
"""

from __future__ import annotations

from . import schema
from .errors import SchemaError, StoreBusy, StoreError, StoreUnavailable

#: Seconds in which a request's question to the database is answered, or given up.
READ_TIMEOUT = 2
#: Seconds in which a connection is made, or given up.
CONNECT_TIMEOUT = 2
#: Seconds that a writer waits for another before it gives up.
LOCK_TIMEOUT = 5
#: Seconds in which any other statement is done, or given up; what changes the schema takes the time that it takes.
STATEMENT_TIMEOUT = 10
#: Seconds by which a server's own refusal may come late, before it is taken to hang.
GRACE = 0.5
#: What only another's very first use of the same token is waited for.
USE_LOCK_TIMEOUT = "100ms"
#: PostgreSQL's advisory lock for changing the schema. Any number will do that nobody else takes: "tokengrd" in ASCII.
ADVISORY_LOCK = int.from_bytes(b"tokengrd")
#: The databases there are, and how each tells its own time in epoch microseconds.
CLOCKS = {
    "postgresql": "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    "sqlite": "SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
}
#: PostgreSQL's SQLSTATEs: of a statement that took too long, and what is told to a session that may not write.
TOO_SLOW = "57014"
READ_ONLY = "25006"
#: What a session is told that is of no more use: its server stops, or a new session may be one that can write.
OUTLIVED = ("57P01", "57P02", READ_ONLY)

# Both drivers' wordings and PostgreSQL's SQLSTATEs are stable.
_MISSING = ("no such table", "no such column", "42P01", "42703")
_LOCKED = ("database is locked", "55P03")
_CONFLICT = ("40001", "40P01")
_SQLITE_READ_ONLY = "readonly database"
_READ_ONLY = (_SQLITE_READ_ONLY, READ_ONLY)
_FULL = ("disk is full", "53100")


def complaint(error: BaseException, set_up: str) -> StoreError:
    """A driver's error in words of what to do; ``set_up`` is the command that makes the tables."""
    said = str(error).strip().partition("\n")[0]
    symptoms = f"{getattr(error, 'sqlstate', None)} {said}"
    if any(sign in symptoms for sign in _MISSING):
        return SchemaError(f"the tokenguard tables are missing or outdated ({said}): run {set_up}")
    if any(sign in symptoms for sign in _LOCKED):
        return StoreBusy("another writer held the database for too long: this was not done, try again")
    if TOO_SLOW in symptoms:
        return StoreUnavailable(f"the database did not answer in time ({said})")
    if any(sign in symptoms for sign in _CONFLICT):
        return StoreBusy(f"another writer came first ({said}): this was not done, try again")
    if any(sign in symptoms for sign in _READ_ONLY):
        # SQLite needs files beside its own, even to read.
        place = "the database, or the directory that it is in," if _SQLITE_READ_ONLY in said else "the database"
        return StoreUnavailable(f"{place} cannot be written ({said}): this was not done")
    if any(sign in symptoms for sign in _FULL):
        return StoreUnavailable(f"there is no room left for the database ({said}): this was not done")
    return StoreUnavailable(f"the database cannot be used: {said}")


def check_version(version: int, set_up: str) -> None:
    """Raises SchemaError for a database that is newer or older than this code, or whose version is no number."""
    if not isinstance(version, int):
        raise SchemaError("the row of tokenguard_revision is damaged: restore the database from a backup")
    if version > schema.latest():
        raise SchemaError(
            f"the database is of schema version {version}, newer than this tokenguard knows ({schema.latest()}): "
            "upgrade tokenguard"
        )
    if version < schema.latest():
        raise SchemaError(
            f"the database is of schema version {version}, and this tokenguard needs {schema.latest()}: run {set_up}"
        )


def askable(text: str) -> bool:
    """Whether a database can be asked for this id or name; what is not printable is neither."""
    return text.isprintable()
