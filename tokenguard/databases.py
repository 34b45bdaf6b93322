"""What is specific to SQLite and PostgreSQL: time limits, how to ask for the time, and what their errors mean.

For every store on a database, whatever library it is built on.
"""

from __future__ import annotations

from . import schema
from .errors import SchemaError, StoreBusy, StoreError, StoreUnavailable

#: Seconds after which a request's query is given up.
READ_TIMEOUT = 2
#: Seconds after which an attempt to connect is given up.
CONNECT_TIMEOUT = 2
#: Seconds that a writer waits for another before it gives up.
LOCK_TIMEOUT = 5
#: Seconds after which any other statement is given up; changes of the schema have no limit.
STATEMENT_TIMEOUT = 10
#: Seconds by which a server's own timeout error may be late before the server is taken to hang.
GRACE = 0.5
#: How long to wait for a lock while recording a use; only another's very first use of the same token is waited for.
USE_LOCK_TIMEOUT = "100ms"
#: Seconds to wait there for SQLite's only lock. Longer than most writers hold it: what is given up makes a warning.
USE_LOCK_TIMEOUT_SQLITE = 1
#: PostgreSQL's advisory lock for changing the schema. Any number that nobody else takes will do: "tokengrd" in ASCII.
ADVISORY_LOCK = int.from_bytes(b"tokengrd")
#: The supported databases, and how to ask each for its own time in epoch microseconds.
CLOCKS = {
    "postgresql": "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    "sqlite": "SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
}
#: How to ask each for the names of the indexes that statements may use.
INDEX_NAMES = {
    # One with such a name in another schema is of no use, and neither is one that could not be built.
    "postgresql": "SELECT relname FROM pg_class JOIN pg_index ON indexrelid = oid "
    "WHERE indisvalid AND pg_table_is_visible(indrelid)",
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'index'",
}
#: Write no use, but fail for a user who may not write any.
NO_USES = (
    """
    INSERT INTO tokenguard_use SELECT * FROM tokenguard_use WHERE 1 = 0
        ON CONFLICT (token_id) DO UPDATE SET address = excluded.address
    """,
    """
    INSERT INTO tokenguard_use_day SELECT * FROM tokenguard_use_day WHERE 1 = 0
        ON CONFLICT (token_id, day) DO UPDATE SET requests = excluded.requests
    """,
)
#: PostgreSQL's SQLSTATEs for a statement that took too long, and for a write in a session that may not write.
TOO_SLOW = "57014"
READ_ONLY = "25006"
#: SQLSTATEs after which a session is of no more use: its server stops, or a new session may be able to write.
OUTLIVED = ("57P01", "57P02", READ_ONLY)

# Both drivers' wordings and PostgreSQL's SQLSTATEs are stable.
_MISSING = ("no such table", "no such column", "42P01", "42703")
_LOCKED = ("database is locked", "55P03")
_CONFLICT = ("40001", "40P01")
_SQLITE_READ_ONLY = "readonly database"
_READ_ONLY = (_SQLITE_READ_ONLY, READ_ONLY)
_FULL = ("disk is full", "53100")
_SQLITE_NO_FILE = "unable to open database file"


def as_store_error(error: BaseException, set_up: str) -> StoreError:
    """Convert a driver's error into one that says what to do; ``set_up`` is the command that creates the tables."""
    said = str(error).strip().partition("\n")[0]
    symptoms = f"{getattr(error, 'sqlstate', None)} {said}"
    if any(sign in symptoms for sign in _MISSING):
        return SchemaError(f"the tokenguard tables are missing or outdated ({said}): run {set_up}")
    if any(sign in symptoms for sign in _LOCKED):
        return StoreBusy("another writer held the database for too long: nothing was done, try again")
    if TOO_SLOW in symptoms:
        return StoreUnavailable(f"the database did not answer in time ({said})")
    if any(sign in symptoms for sign in _CONFLICT):
        return StoreBusy(f"another writer came first ({said}): nothing was done, try again")
    if any(sign in symptoms for sign in _READ_ONLY):
        # SQLite needs these further files even to read. Another user may have made them.
        place = "the database"
        if _SQLITE_READ_ONLY in said:
            place += ", its directory, or the file -wal or -shm beside it,"
        return StoreUnavailable(f"{place} is not writable ({said}): nothing was done")
    if any(sign in symptoms for sign in _FULL):
        return StoreUnavailable(f"there is no space left for the database ({said}): nothing was done")
    if _SQLITE_NO_FILE in said:
        said += (
            " (it must be a file, in a directory that this user may write to, like the files -wal and -shm beside it)"
        )
    return StoreUnavailable(f"the database cannot be used: {said}")


def check_version(version: int, set_up: str) -> None:
    """Raise SchemaError for a database that is newer or older than this code, or whose version is not a number."""
    if not isinstance(version, int):
        raise SchemaError("the row of tokenguard_revision is damaged: restore the database from a backup")
    if version > schema.latest():
        raise SchemaError(
            f"the database has schema version {version}, newer than this tokenguard supports ({schema.latest()}): "
            "upgrade tokenguard"
        )
    if version < schema.latest():
        raise SchemaError(
            f"the database has schema version {version}, but this tokenguard needs {schema.latest()}: run {set_up}"
        )


def askable(text: str) -> bool:
    """Whether a database can be queried for this id or name; unprintable text is neither."""
    return text.isprintable()
