"""``mx.ports.ModelStore`` over SQLite.

A change reads the row, asks the rule book and writes the row, all under the write lock of the
file: that is what makes it one step over several processes.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from mx.core import transitions
from mx.core.eviction import EvictionRun
from mx.core.model import Claim, EntryKey, EntryStatus, ModelRecord, Pin, ProviderName, ReadLease
from mx.core.transitions import ClaimResult, Free
from mx.ports import EVICTION_RUNS_KEPT
from mx.store.eviction_runs import pack_run, unpack_run
from mx.store.sqlite.database import Database
from mx.store.sqlite.model_rows import (
    KEY_COLUMNS,
    LEASES,
    STATE_COLUMNS,
    decode_model,
    encode_key,
    encode_state,
)

_DECODE_PAGE = 500  # rows decoded at once: some 4 ms

_COLUMNS = ", ".join((*KEY_COLUMNS, *STATE_COLUMNS))
_KEY = " AND ".join(f"{name} = ?" for name in KEY_COLUMNS)
_SELECT = f"SELECT {_COLUMNS}, {LEASES} FROM mx_model"  # noqa: S608  # our own names
_GET = f"{_SELECT} WHERE {_KEY}"
_ORDER = "ORDER BY provider, name, commit_id, weights DESC"
_WRITE = (
    f"INSERT INTO mx_model ({_COLUMNS}) VALUES ({', '.join('?' * len((*KEY_COLUMNS, *STATE_COLUMNS)))}) "  # noqa: S608
    f"ON CONFLICT ({', '.join(KEY_COLUMNS)}) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in STATE_COLUMNS)
)
_TOUCH = f"UPDATE mx_model SET last_used_at_ms = ? WHERE {_KEY} AND last_used_at_ms < ?"  # noqa: S608
_ID = f"(SELECT id FROM mx_model WHERE {_KEY})"  # noqa: S608
_UNLEASE_ALL = f"DELETE FROM mx_model_lease WHERE model_id = {_ID}"  # noqa: S608
_UNLEASE = f"{_UNLEASE_ALL} AND lease_id = ?"
_EXPIRE_LEASES = f"{_UNLEASE_ALL} AND expires_at_ms <= ?"
_LEASE = f"INSERT OR REPLACE INTO mx_model_lease VALUES ({_ID}, ?, ?, ?)"  # noqa: S608
_DELETE = f"DELETE FROM mx_model WHERE {_KEY}"  # noqa: S608
_NEXT_TOKEN = "UPDATE mx_fence SET last = last + 1 RETURNING last"  # noqa: S105
_RECORD_RUN = (
    "INSERT INTO mx_eviction (run_id, started_at_ms, run) VALUES (?, ?, ?) "
    "ON CONFLICT (run_id) DO UPDATE SET started_at_ms = excluded.started_at_ms, run = excluded.run"
)
_NEWEST_RUNS = "FROM mx_eviction ORDER BY started_at_ms DESC, run_id DESC LIMIT ?"
_FORGET_RUNS = f"DELETE FROM mx_eviction WHERE id NOT IN (SELECT id {_NEWEST_RUNS})"  # noqa: S608


class SqliteModelStore:
    """Models in one file. Several processes may have it open; one of them wins a claim."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> Database:
        return self._database

    @classmethod
    async def open(cls, path: Path, *, busy_timeout_s: float = 5.0) -> SqliteModelStore:
        """See ``Database.open`` for what it raises."""
        return cls(await Database.open(path, busy_timeout_s=busy_timeout_s))

    async def claim(
        self,
        key: EntryKey,
        *,
        owner: str,
        lease_s: float,
        now_ms: int,
        force: bool = False,
        requested_revision: str = "",
    ) -> ClaimResult:
        # Most callers meet an entry that is there: they need no write lock.
        standing = transitions.standing(await self.get(key), now_ms=now_ms, force=force)
        if standing is not Free.FREE:
            return standing

        def run(connection: sqlite3.Connection) -> ClaimResult:
            record = _find(connection, key)
            standing = transitions.standing(record, now_ms=now_ms, force=force)
            if standing is not Free.FREE:
                return standing
            claim = _new_claim(connection, owner, lease_s, now_ms)
            won = transitions.claimed(
                key, record, claim, requested_revision=requested_revision, now_ms=now_ms
            )
            _write(connection, won.record)
            return won

        return await self._database.write(run)

    async def refresh(
        self,
        key: EntryKey,
        claim: Claim,
        *,
        lease_s: float,
        now_ms: int,
        bytes_done: int,
        bytes_total: int,
        files: int,
    ) -> Claim | None:
        renewed = await self._change(
            key,
            lambda record: (
                transitions.refreshed(
                    record,
                    claim,
                    lease_s=lease_s,
                    now_ms=now_ms,
                    bytes_done=bytes_done,
                    bytes_total=bytes_total,
                    files=files,
                )
                if transitions.holds(record, claim)
                else None
            ),
        )
        return None if renewed is None else renewed.claim

    async def finish(
        self,
        key: EntryKey,
        claim: Claim,
        *,
        status: EntryStatus,
        message: str,
        bytes_on_disk: int,
        files: int,
        retry_at_ms: int,
        now_ms: int,
    ) -> bool:
        transitions.require_final(status)
        done = await self._change(
            key,
            lambda record: (
                transitions.finished(
                    record,
                    status=status,
                    message=message,
                    bytes_on_disk=bytes_on_disk,
                    files=files,
                    retry_at_ms=retry_at_ms,
                    now_ms=now_ms,
                )
                if transitions.holds(record, claim)
                else None
            ),
        )
        return done is not None

    async def release(self, key: EntryKey, claim: Claim, *, now_ms: int) -> bool:
        done = await self._change(
            key,
            lambda record: transitions.released(record) if transitions.holds(record, claim) else None,
        )
        return done is not None

    async def touch(self, keys: Sequence[EntryKey], *, now_ms: int) -> None:
        rows = [(now_ms, *encode_key(key), now_ms) for key in keys]

        def run(connection: sqlite3.Connection) -> None:
            connection.executemany(_TOUCH, rows)

        if rows:
            await self._database.write(run)

    async def get(self, key: EntryKey) -> ModelRecord | None:
        rows = await self._database.read(_GET, encode_key(key))
        return decode_model(rows[0]) if rows else None

    async def list_models(
        self, *, provider: ProviderName | None = None, name: str | None = None
    ) -> tuple[ModelRecord, ...]:
        sql, values = list_statement(provider=provider, name=name)
        rows = await self._database.read(sql, values)
        records: list[ModelRecord] = []
        for begin in range(0, len(rows), _DECODE_PAGE):
            if begin:
                await asyncio.sleep(0)  # a listing of everything must not hold up a heartbeat
            records.extend(map(decode_model, rows[begin : begin + _DECODE_PAGE]))
        return tuple(records)

    async def put(self, record: ModelRecord, *, observed: ModelRecord | None = None) -> bool:
        def run(connection: sqlite3.Connection) -> bool:
            stored = _find(connection, record.key)
            written = transitions.reconciled(stored, record, observed=observed)
            if written is None:
                return False
            _write(connection, written)
            if stored is None:
                for lease in written.leases:
                    _write_lease(connection, record.key, lease)
            return True

        return await self._database.write(run)

    async def mark_evicting(
        self,
        key: EntryKey,
        *,
        observed: ModelRecord,
        now_ms: int,
        owner: str = "eviction",
        lease_s: float = 60.0,
    ) -> Claim | None:
        def run(connection: sqlite3.Connection) -> Claim | None:
            record = _find(connection, key)
            if record is None or not transitions.may_evict(record, observed, now_ms=now_ms):
                return None
            claim = _new_claim(connection, owner, lease_s, now_ms)
            _write(connection, transitions.evicting(record, claim))
            return claim

        return await self._database.write(run)

    async def delete(
        self, key: EntryKey, *, token: int | None = None, observed: ModelRecord | None = None
    ) -> bool:
        def run(connection: sqlite3.Connection) -> bool:
            if not transitions.may_delete(_find(connection, key), token=token, observed=observed):
                return False
            connection.execute(_UNLEASE_ALL, encode_key(key))
            connection.execute(_DELETE, encode_key(key))
            return True

        return await self._database.write(run)

    async def pin(self, key: EntryKey, pin: Pin | None) -> bool:
        pinned = await self._change(
            key,
            lambda record: None if record.status is EntryStatus.EVICTING else replace(record, pin=pin),
        )
        return pinned is not None

    async def lease(self, key: EntryKey, lease: ReadLease, *, now_ms: int) -> bool:
        def run(connection: sqlite3.Connection) -> bool:
            record = _find(connection, key)
            leased = None if record is None else transitions.leased(record, lease, now_ms=now_ms)
            if leased is None:
                return False
            _write(connection, leased)
            connection.execute(_EXPIRE_LEASES, (*encode_key(key), now_ms))
            _write_lease(connection, key, lease)
            return True

        return await self._database.write(run)

    async def unlease(self, key: EntryKey, lease_id: str) -> None:
        def run(connection: sqlite3.Connection) -> None:
            connection.execute(_UNLEASE, (*encode_key(key), lease_id))

        await self._database.write(run)

    async def record_eviction(self, run: EvictionRun) -> None:
        packed = await asyncio.to_thread(pack_run, run)

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(_RECORD_RUN, (run.run_id, run.started_at_ms, packed))
            connection.execute(_FORGET_RUNS, (EVICTION_RUNS_KEPT,))

        await self._database.write(write)

    async def eviction_runs(self, *, limit: int) -> tuple[EvictionRun, ...]:
        rows = await self._database.read(f"SELECT run {_NEWEST_RUNS}", (max(limit, 0),))
        return await asyncio.to_thread(lambda: tuple(unpack_run(packed) for (packed,) in rows))

    async def watch(self, tell: Callable[[EntryKey | None], None]) -> NoReturn:
        await self._database.watch(tell)

    async def check(self) -> None:
        await self._database.check()

    async def close(self) -> None:
        await self._database.close()

    async def _change(
        self, key: EntryKey, rule: Callable[[ModelRecord], ModelRecord | None]
    ) -> ModelRecord | None:
        """Replace a record by what the rule makes of it; None when there is none or the rule refuses."""

        def run(connection: sqlite3.Connection) -> ModelRecord | None:
            record = _find(connection, key)
            changed = None if record is None else rule(record)
            if changed is not None:
                _write(connection, changed)
            return changed

        return await self._database.write(run)


def list_statement(*, provider: ProviderName | None, name: str | None) -> tuple[str, list[object]]:
    """SQL and values of a listing; apart, so that its query plan can be looked at."""
    where: list[str] = []
    values: list[object] = []
    if provider is not None:
        where.append("provider = ?")
        values.append(provider.value)
    if name is not None:
        where.append("name = ?")
        values.append(name)
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    return f"{_SELECT}{condition} {_ORDER}", values


def _find(connection: sqlite3.Connection, key: EntryKey) -> ModelRecord | None:
    row = connection.execute(_GET, encode_key(key)).fetchone()
    return None if row is None else decode_model(row)


def _write(connection: sqlite3.Connection, record: ModelRecord) -> None:
    """All of a record but its leases."""
    connection.execute(_WRITE, (*encode_key(record.key), *encode_state(record)))


def _write_lease(connection: sqlite3.Connection, key: EntryKey, lease: ReadLease) -> None:
    connection.execute(_LEASE, (*encode_key(key), lease.lease_id, lease.holder, lease.expires_at_ms))


def _new_claim(connection: sqlite3.Connection, owner: str, lease_s: float, now_ms: int) -> Claim:
    # All rows are fetched: a statement that is not run to its end would hold up the commit.
    ((token,),) = connection.execute(_NEXT_TOKEN).fetchall()
    return transitions.new_claim(owner, token=token, lease_s=lease_s, now_ms=now_ms)
