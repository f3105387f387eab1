"""Tables of the embedded store, and how a file gets from one version to the next.

Summaries (``mx_worker``) lie apart from blobs, descriptors and identities (``mx_record``), so
that listings, heartbeats and the reaper touch small rows only.

``mx_worker_by_source`` answers "READY workers of this source [and rank]". It leaves
``updated_at_ms`` out on purpose: a heartbeat that changes nothing but the time then rewrites one
row and no index.

``mx_model`` holds the models, one row per entry, and ``mx_model_lease`` who reads them.
``mx_fence`` counts claims over all entries and is never set back, so that no deleted record's token
comes again. ``mx_eviction`` holds the runs of eviction, their plans packed. ``mx_event`` holds what
happened, in words.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from mx.errors import PreconditionError
from mx.store.sqlite.older import import_models

_V1 = (
    """
    CREATE TABLE mx_worker (
        id                   INTEGER PRIMARY KEY,
        source_id            TEXT    NOT NULL,
        worker_id            TEXT    NOT NULL,
        worker_rank          INTEGER NOT NULL,
        model_name           TEXT    NOT NULL,
        status               INTEGER NOT NULL,
        updated_at_ms        INTEGER NOT NULL,
        accelerator          TEXT    NOT NULL,
        training_step        INTEGER,           -- unsigned 64 bits, stored minus 2^63
        layout_signature     TEXT,
        topology             TEXT    NOT NULL,  -- JSON object, '' when empty
        source_load          REAL,              -- NULL: unknown
        worker_grpc_endpoint TEXT    NOT NULL,
        peer_endpoint        TEXT,              -- NULL: nothing announced
        peer_generation      TEXT,
        peer_host_id         TEXT,
        peer_layout_digest   TEXT,
        UNIQUE (source_id, worker_id, worker_rank)
    )
    """,
    "CREATE INDEX mx_worker_by_source ON mx_worker (source_id, status, worker_rank)",
    "CREATE INDEX mx_worker_by_model ON mx_worker (model_name, status)",
    "CREATE INDEX mx_worker_by_status ON mx_worker (status)",
    """
    CREATE TABLE mx_record (
        id                INTEGER PRIMARY KEY REFERENCES mx_worker (id),
        identity          TEXT NOT NULL,  -- JSON object, in the case it was published in
        backend           TEXT NOT NULL,  -- nixl, transfer_engine, none
        backend_data      BLOB NOT NULL,
        payload           TEXT,           -- JSON object with member tensors or artifact
        metadata_endpoint TEXT NOT NULL,
        agent_name        TEXT NOT NULL,
        pod               TEXT NOT NULL   -- JSON object, '' when empty
    )
    """,
)

Step = str | Callable[[sqlite3.Connection], None]

_V2: tuple[Step, ...] = (
    """
    CREATE TABLE mx_model (
        id                  INTEGER PRIMARY KEY,
        provider            TEXT    NOT NULL,
        name                TEXT    NOT NULL,
        commit_id           TEXT    NOT NULL,  -- '' where the provider has none, or unknown
        weights             INTEGER NOT NULL,  -- 0: everything but weight files
        status              TEXT    NOT NULL,
        created_at_ms       INTEGER NOT NULL,
        last_used_at_ms     INTEGER NOT NULL,
        message             TEXT    NOT NULL,
        claim_owner         TEXT,              -- NULL: nobody is at work
        claim_token         INTEGER,
        claim_expires_at_ms INTEGER,
        bytes_total         INTEGER NOT NULL,
        bytes_done          INTEGER NOT NULL,
        files               INTEGER NOT NULL,
        bytes_on_disk       INTEGER NOT NULL,
        attempts            INTEGER NOT NULL,
        retry_at_ms         INTEGER NOT NULL,
        pinned              INTEGER NOT NULL,
        pin_until_ms        INTEGER,           -- NULL: for ever
        pin_reason          TEXT    NOT NULL,
        requested_revision  TEXT    NOT NULL,
        UNIQUE (provider, name, commit_id, weights)
    )
    """,
    "CREATE INDEX mx_model_by_name ON mx_model (name)",
    """
    CREATE TABLE mx_model_lease (
        model_id      INTEGER NOT NULL REFERENCES mx_model (id),
        lease_id      TEXT    NOT NULL,
        holder        TEXT    NOT NULL,
        expires_at_ms INTEGER NOT NULL,
        PRIMARY KEY (model_id, lease_id)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE mx_fence (last INTEGER NOT NULL)",
    "INSERT INTO mx_fence VALUES (0)",
    """
    CREATE TABLE mx_eviction (
        id            INTEGER PRIMARY KEY,
        run_id        TEXT    NOT NULL UNIQUE,
        started_at_ms INTEGER NOT NULL,
        run           BLOB    NOT NULL          -- zlib over JSON
    )
    """,
    import_models,
)

_V3: tuple[Step, ...] = (
    """
    CREATE TABLE mx_duty (
        duty          TEXT    PRIMARY KEY,
        owner         TEXT    NOT NULL,
        expires_at_ms INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
)

_V4: tuple[Step, ...] = (
    """
    CREATE TABLE mx_event (
        id        INTEGER PRIMARY KEY AUTOINCREMENT,  -- a cursor: no number comes twice
        at_ms     INTEGER NOT NULL,
        kind      TEXT    NOT NULL,
        subject   TEXT    NOT NULL,
        happening TEXT    NOT NULL,  -- equal for the same thing told by several servers
        event     TEXT    NOT NULL   -- JSON object
    )
    """,
    "CREATE INDEX mx_event_by_happening ON mx_event (happening, at_ms)",
)

# Position is the version: append, never edit what was released.
MIGRATIONS: tuple[tuple[Step, ...], ...] = (_V1, _V2, _V3, _V4)
LATEST = len(MIGRATIONS)

# The smallest change that reaches the disk: SQLite does not write a value that is there already.
PROBE = "UPDATE mx_schema SET probe = (probe + 1) % 1000000"


def migrate(connection: sqlite3.Connection, *, path: str) -> None:
    """Bring the file to LATEST in one transaction, which writes even when nothing is to do: only that
    shows at start that the file can be written.

    Raises PreconditionError when the file was written by a newer version, and the sqlite3 error
    otherwise; both leave the file as it was.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = schema_version(connection)
        if version > LATEST:
            raise PreconditionError(
                f"database {path} has schema version {version}; this mx knows versions up to {LATEST}",
                remedy="start the newer mx that wrote it, or set database.path to another file",
            )
        if version < LATEST:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS mx_schema (version INTEGER NOT NULL, probe INTEGER NOT NULL)"
            )
            for steps in MIGRATIONS[version:]:
                for step in steps:
                    if isinstance(step, str):
                        connection.execute(step)
                    else:
                        step(connection)
            connection.execute("DELETE FROM mx_schema")
            connection.execute("INSERT INTO mx_schema (version, probe) VALUES (0, 0)")
        connection.execute("UPDATE mx_schema SET version = ?", (LATEST,))
        connection.execute(PROBE)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def schema_version(connection: sqlite3.Connection) -> int:
    """Version of mx's tables in the file; 0 when there are none yet."""
    found = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'mx_schema'"
    ).fetchone()
    if found is None:
        return 0
    row = connection.execute("SELECT max(CAST(version AS INTEGER)) FROM mx_schema").fetchone()
    return int(row[0] or 0)


def small_tables(connection: sqlite3.Connection) -> list[str]:
    """Those of mx's tables without blobs that are in the file: what can be checked at every start."""
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('mx_worker', 'mx_model')"
    )
    return [name for (name,) in rows]
