"""The tables: the only place with their DDL, in numbered steps that SQLite and PostgreSQL both understand.

The same tables serve Flask and Django services that share a database, so nothing here depends on a library:

* times are BIGINT, UTC epoch microseconds; NULL means never;
* sets and mappings are JSON text in the form that ``rows.dump_json`` writes;
* a length of time is a BIGINT of microseconds, a day an INTEGER of days since the epoch, UTC;
* ``tokenguard_revision`` has one row: the event counter, and the version of this schema.

Code that applies a step (an Alembic revision, a Django migration) does so only if ``schema_version`` is lower, under
a lock. A released step never changes: anything new goes into a new step.
"""

from __future__ import annotations

_STEP_1 = (
    """
    CREATE TABLE tokenguard_client (
        id VARCHAR(255) NOT NULL PRIMARY KEY,
        name VARCHAR(100) NOT NULL,
        scopes TEXT NOT NULL,
        enabled BOOLEAN NOT NULL,
        created_at BIGINT NOT NULL,
        CONSTRAINT tokenguard_client_name UNIQUE (name)
    )
    """,
    """
    CREATE TABLE tokenguard_token (
        id VARCHAR(16) NOT NULL PRIMARY KEY,
        client_id VARCHAR(255) NOT NULL REFERENCES tokenguard_client (id) DEFERRABLE INITIALLY DEFERRED,
        name VARCHAR(100) NOT NULL,
        scopes TEXT NOT NULL,
        digest VARCHAR(64) NOT NULL,
        key_fingerprint VARCHAR(16) NOT NULL,
        created_at BIGINT NOT NULL,
        expires_at BIGINT,
        revoked_at BIGINT
    )
    """,
    "CREATE INDEX tokenguard_token_client ON tokenguard_token (client_id, created_at)",
    """
    CREATE TABLE tokenguard_event (
        number BIGINT NOT NULL PRIMARY KEY,
        id VARCHAR(16) NOT NULL,
        kind VARCHAR(64) NOT NULL,
        at BIGINT NOT NULL,
        actor VARCHAR(255) NOT NULL,
        client_id VARCHAR(255) NOT NULL,
        token_id VARCHAR(16),
        data TEXT NOT NULL,
        CONSTRAINT tokenguard_event_id UNIQUE (id)
    )
    """,
    "CREATE INDEX tokenguard_event_client ON tokenguard_event (client_id, number)",
    "CREATE INDEX tokenguard_event_token ON tokenguard_event (token_id, number)",
    """
    CREATE TABLE tokenguard_revision (
        id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
        revision BIGINT NOT NULL,
        schema_version INTEGER NOT NULL
    )
    """,
    "INSERT INTO tokenguard_revision (id, revision, schema_version) VALUES (1, 0, 0)",
)

# Idle expiry, rotation, conditions, and the record of a token's use. Uses have tables of their own, so that recording
# one neither changes nor locks the token's row.
_STEP_2 = (
    "ALTER TABLE tokenguard_client ADD COLUMN conditions TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE tokenguard_token ADD COLUMN conditions TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE tokenguard_token ADD COLUMN idle_timeout BIGINT",
    "ALTER TABLE tokenguard_token ADD COLUMN idle_ended_at BIGINT",
    "ALTER TABLE tokenguard_token ADD COLUMN successor_id VARCHAR(16)",
    "ALTER TABLE tokenguard_token ADD COLUMN overlap_ends_at BIGINT",
    "CREATE INDEX tokenguard_token_created ON tokenguard_token (created_at, id)",
    """
    CREATE TABLE tokenguard_use (
        token_id VARCHAR(16) NOT NULL PRIMARY KEY,
        last_used_at BIGINT NOT NULL,
        address VARCHAR(64) NOT NULL,
        scopes TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE tokenguard_use_day (
        token_id VARCHAR(16) NOT NULL,
        day INTEGER NOT NULL,
        requests BIGINT NOT NULL,
        PRIMARY KEY (token_id, day)
    )
    """,
)

# Pruning finds old days without reading all others, while every writer waits.
_STEP_3 = ("CREATE INDEX tokenguard_use_day_day ON tokenguard_use_day (day)",)

STEPS: tuple[tuple[str, ...], ...] = (_STEP_1, _STEP_2, _STEP_3)


#: The statements that create the indexes, by their names.
INDEXES = {line.split()[2]: line for step in STEPS for line in step if line.startswith("CREATE INDEX ")}


def latest() -> int:
    """The schema version that this version of tokenguard works with."""
    return len(STEPS)


def statements(step: int) -> tuple[str, ...]:
    """Return what takes a database from version ``step - 1`` to ``step``, including its new version number."""
    return (*STEPS[step - 1], f"UPDATE tokenguard_revision SET schema_version = {step:d} WHERE id = 1")  # noqa: S608
