"""``mx.ports.SourceStore`` over SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import NoReturn

from mx.core.source import (
    PeerRecord,
    SourceEntry,
    SourceFilter,
    SourceStatus,
    SourceSummary,
    WorkerKey,
)
from mx.store.sqlite.database import Database
from mx.store.sqlite.rows import (
    RECORD_COLUMNS,
    SUMMARY_COLUMNS,
    decode_entry,
    decode_summary,
    encode_peer,
    encode_record,
    encode_summary,
    step_to_column,
)

_SCAN_PAGE = 500  # rows fetched or decoded at once: some 300 kB, 4 ms

_KEY = "source_id = ? AND worker_id = ? AND worker_rank = ?"
_IS_KEY = ("source_id", "worker_id", "worker_rank")
_IS_PEER = tuple(name for name in SUMMARY_COLUMNS if name.startswith("peer_"))


def _upsert(table: str, columns: tuple[str, ...], conflict: str, assignments: str) -> str:
    marks = ", ".join("?" * len(columns))
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) "  # noqa: S608  # our own names
        f"ON CONFLICT ({conflict}) DO UPDATE SET {assignments}"
    )


_PUBLISH_WORKER = (
    _upsert(
        "mx_worker",
        SUMMARY_COLUMNS,
        ", ".join(_IS_KEY),
        ", ".join(
            # All four are NULL or none: without a new peer record the announced one stays.
            f"{name} = ifnull(excluded.{name}, {name})" if name in _IS_PEER else f"{name} = excluded.{name}"
            for name in SUMMARY_COLUMNS
            if name not in _IS_KEY
        ),
    )
    + " RETURNING id"
)
_PUBLISH_RECORD = _upsert(
    "mx_record",
    ("id", *RECORD_COLUMNS),
    "id",
    ", ".join(f"{name} = excluded.{name}" for name in RECORD_COLUMNS),
)
_SUMMARY = f"SELECT {', '.join(SUMMARY_COLUMNS)} FROM mx_worker"  # noqa: S608
_GET = (
    f"SELECT {', '.join(SUMMARY_COLUMNS + RECORD_COLUMNS)} FROM mx_worker JOIN mx_record USING (id) "  # noqa: S608
    "WHERE source_id = ? AND worker_id = ? ORDER BY worker_rank LIMIT 1"
)
_COUNT = "SELECT status, COUNT(*) FROM mx_worker GROUP BY status"
_SCAN = f"SELECT id, {', '.join(SUMMARY_COLUMNS)} FROM mx_worker WHERE id > ? ORDER BY id LIMIT {_SCAN_PAGE}"  # noqa: S608
_ANNOUNCE = f"UPDATE mx_worker SET {', '.join(f'{name} = ?' for name in _IS_PEER)} WHERE {_KEY}"  # noqa: S608
# The usual heartbeat repeats the status: not naming the column spares three index updates.
_HEARTBEAT = (
    f"UPDATE mx_worker SET updated_at_ms = ?, source_load = ? WHERE {_KEY} "  # noqa: S608
    "AND status = ? AND updated_at_ms <= ?"
)
_SET_STATUS = (
    f"UPDATE mx_worker SET status = ?, updated_at_ms = ?, source_load = ? WHERE {_KEY} "  # noqa: S608
    "AND updated_at_ms <= ?"
)
_EXISTS = f"SELECT 1 FROM mx_worker WHERE {_KEY}"  # noqa: S608
_MARK_STALE = f"UPDATE mx_worker SET status = ?, updated_at_ms = ? WHERE {_KEY} AND updated_at_ms = ?"  # noqa: S608
_REMOVE = f"DELETE FROM mx_worker WHERE {_KEY} AND updated_at_ms = ifnull(?, updated_at_ms) RETURNING id"  # noqa: S608


class SqliteSourceStore:
    """Sources in one file. Several processes may have it open."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, path: Path, *, busy_timeout_s: float = 5.0) -> SqliteSourceStore:
        """See ``Database.open`` for what it raises."""
        return cls(await Database.open(path, busy_timeout_s=busy_timeout_s))

    async def publish(self, entry: SourceEntry) -> None:
        summary = encode_summary(entry)
        record = encode_record(entry)

        def run(connection: sqlite3.Connection) -> None:
            (row_id,) = connection.execute(_PUBLISH_WORKER, summary).fetchall()[0]
            connection.execute(_PUBLISH_RECORD, (row_id, *record))

        await self._database.write(run)

    async def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        values = (*encode_peer(peer), *_columns(key))
        return await self._database.write(
            lambda connection: connection.execute(_ANNOUNCE, values).rowcount == 1
        )

    async def update_status(
        self, key: WorkerKey, *, status: int, source_load: float | None, now_ms: int
    ) -> bool:
        where = _columns(key)

        def run(connection: sqlite3.Connection) -> bool:
            same = (now_ms, source_load, *where, int(status), now_ms)
            if connection.execute(_HEARTBEAT, same).rowcount == 1:
                return True
            other = (int(status), now_ms, source_load, *where, now_ms)
            if connection.execute(_SET_STATUS, other).rowcount == 1:
                return True
            return connection.execute(_EXISTS, where).fetchone() is not None

        return await self._database.write(run)

    async def list_sources(
        self, query: SourceFilter, *, fresh_after_ms: int | None
    ) -> tuple[SourceSummary, ...]:
        sql, values = list_statement(query, fresh_after_ms=fresh_after_ms)
        rows = await self._database.read(sql, values)
        summaries: list[SourceSummary] = []
        for begin in range(0, len(rows), _SCAN_PAGE):
            if begin:
                await asyncio.sleep(0)  # a listing of everybody must not hold up a heartbeat
            summaries.extend(map(decode_summary, rows[begin : begin + _SCAN_PAGE]))
        return tuple(summaries)

    async def get(self, source_id: str, worker_id: str) -> SourceEntry | None:
        rows = await self._database.read(_GET, (source_id, worker_id))
        return decode_entry(rows[0]) if rows else None

    async def scan(self) -> AsyncIterator[SourceSummary]:
        last = 0
        while rows := await self._database.read(_SCAN, (last,)):
            for row in rows:
                yield decode_summary(row[1:])
            last = rows[-1][0]

    async def count_by_status(self) -> Mapping[int, int]:
        return dict(await self._database.read(_COUNT, ()))

    async def mark_stale(self, key: WorkerKey, *, observed_ms: int, now_ms: int) -> bool:
        values = (int(SourceStatus.STALE), now_ms, *_columns(key), observed_ms)
        return await self._database.write(
            lambda connection: connection.execute(_MARK_STALE, values).rowcount == 1
        )

    async def remove(self, key: WorkerKey, *, observed_ms: int | None = None) -> bool:
        values = (*_columns(key), observed_ms)

        def run(connection: sqlite3.Connection) -> bool:
            removed = connection.execute(_REMOVE, values).fetchall()
            connection.executemany("DELETE FROM mx_record WHERE id = ?", removed)
            return bool(removed)

        return await self._database.write(run)

    async def watch(self, tell: Callable[[WorkerKey | None], None]) -> NoReturn:
        await self._database.watch(tell)

    async def check(self) -> None:
        await self._database.check()

    async def close(self) -> None:
        await self._database.close()


def list_statement(query: SourceFilter, *, fresh_after_ms: int | None) -> tuple[str, list[object]]:
    """SQL and values of a listing; apart, so that its query plan can be looked at."""
    where: list[str] = []
    values: list[object] = []

    def add(condition: str, value: object) -> None:
        where.append(condition)
        values.append(value)

    if query.source_id is not None:
        add("source_id = ?", query.source_id)
    if query.status is not None:
        add("status = ?", int(query.status))
    if query.model_name is not None:
        add("model_name = ?", query.model_name)
    if query.worker_rank is not None:
        add("worker_rank = ?", query.worker_rank)
    if query.min_training_step is not None:
        add("training_step >= ?", step_to_column(query.min_training_step))
    if query.min_updated_at_ms is not None:
        add("updated_at_ms >= ?", query.min_updated_at_ms)
    if fresh_after_ms is not None:
        add(f"(status <> {int(SourceStatus.READY)} OR updated_at_ms >= ?)", max(fresh_after_ms, 1))
    sql = _SUMMARY + (f" WHERE {' AND '.join(where)}" if where else "")
    sql += " ORDER BY updated_at_ms DESC, source_id, worker_id, worker_rank"
    if query.limit > 0:
        sql += " LIMIT ?"
        values.append(query.limit)
    return sql, values


def _columns(key: WorkerKey) -> tuple[str, str, int]:
    return key.source_id, key.worker_id, key.worker_rank
