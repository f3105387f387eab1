"""``mx.ports.StoreView`` over SQLite: rows with their columns, and the file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from mx.core.model import EntryKey
from mx.core.server_state import BackendState, RawRecord
from mx.core.source import WorkerKey
from mx.core.units import format_size
from mx.store.described import Facts, described
from mx.store.raw_text import raw_yaml
from mx.store.sqlite.database import Database
from mx.store.sqlite.model_rows import KEY_COLUMNS, encode_key

_WORKER = "source_id = ? AND worker_id = ? AND worker_rank = ?"
_MODEL = " AND ".join(f"{name} = ?" for name in KEY_COLUMNS)
_COUNTED = (
    ("workers", "mx_worker"),
    ("models", "mx_model"),
    ("leases", "mx_model_lease"),
    ("events", "mx_event"),
)


class SqliteView:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def describe(self) -> BackendState:
        return await described("sqlite", str(self._database.path), self._database.check, self._facts)

    async def raw_source(self, key: WorkerKey) -> RawRecord | None:
        found = await self._row("mx_worker", _WORKER, (key.source_id, key.worker_id, key.worker_rank))
        if found is None:
            return None
        record = await self._row("mx_record", "id = ?", (found["id"],))
        return self._raw("mx_worker", found | {"mx_record": record})

    async def raw_model(self, key: EntryKey) -> RawRecord | None:
        found = await self._row("mx_model", _MODEL, encode_key(key))
        if found is None:
            return None
        leases = await self._database.read(
            "SELECT lease_id, holder, expires_at_ms FROM mx_model_lease WHERE model_id = ?", (found["id"],)
        )
        named = [dict(zip(("lease_id", "holder", "expires_at_ms"), row, strict=True)) for row in leases]
        return self._raw("mx_model", found | {"mx_model_lease": named})

    def _raw(self, table: str, row: dict[str, object]) -> RawRecord:
        return RawRecord("sqlite", f"{self._database.path}: {table}, row {row['id']}", raw_yaml(row))

    async def _row(self, table: str, where: str, values: Sequence[object]) -> dict[str, object] | None:
        columns = [
            name for (name,) in await self._database.read("SELECT name FROM pragma_table_info(?)", (table,))
        ]
        rows = await self._database.read(f"SELECT {', '.join(columns)} FROM {table} WHERE {where}", values)  # noqa: S608  # names of ours
        return dict(zip(columns, rows[0], strict=True)) if rows else None

    async def _facts(self) -> Facts:
        read = self._database.read
        ((mode,),) = await read("PRAGMA journal_mode")
        ((version,),) = await read("SELECT max(version) FROM mx_schema")
        counts = [
            (what, str((await read(f"SELECT count(*) FROM {table}"))[0][0]))  # noqa: S608  # names of ours
            for what, table in _COUNTED
        ]
        sizes = await asyncio.to_thread(_sizes, self._database.path)
        return (
            *sizes,
            ("schema", str(version)),
            ("journal mode", str(mode)),
            *counts,
            ("SQLite", sqlite3.sqlite_version),
        )


def _sizes(path: Path) -> Facts:
    files = (("file", path), ("write-ahead log", path.with_name(path.name + "-wal")))
    return tuple((what, format_size(file.stat().st_size)) for what, file in files if file.exists())
