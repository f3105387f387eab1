"""Publish, heartbeat, find, withdraw and reap sources."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import NoReturn

from mx.core.counts import SourcesReaped
from mx.core.server_state import Reaped
from mx.core.source import (
    PeerRecord,
    PodReference,
    SourceEntry,
    SourceFilter,
    SourceIdentity,
    SourceStatus,
    SourceSummary,
    WorkerKey,
    WorkerRecord,
    source_id,
)
from mx.errors import InvalidArgumentError, MxError
from mx.logs import event_log
from mx.ports import Clock, NoTally, SourceStore, Tally
from mx.services.shared_work import SharedWork

log = event_log(__name__)

_STATUS_NUMBERS = frozenset(map(int, SourceStatus))


class SourcesService:
    """Sources of weights and artifacts, and the rules of their life.

    A worker that was silent for longer than ``heartbeat_timeout_s`` is left out of READY listings
    at once and marked STALE by the next pass of the reaper; STALE for longer than
    ``gc_timeout_s`` it is removed. Until then any heartbeat brings it back.

    Every method raises UnavailableError when the store can't be reached, so that an outage never
    looks like an unknown worker.
    """

    def __init__(
        self,
        store: SourceStore,
        clock: Clock,
        *,
        heartbeat_timeout_s: float,
        gc_timeout_s: float,
        tally: Tally | None = None,
        shared: SharedWork | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._tally = tally or NoTally()
        self._heartbeat_timeout_ms = round(heartbeat_timeout_s * 1000)
        self._gc_timeout_ms = round(gc_timeout_s * 1000)
        self._shared = shared or SharedWork(None, clock, owner="")

    async def publish(
        self,
        identity: SourceIdentity | None,
        worker: WorkerRecord | None,
        *,
        worker_id: str,
        pod: PodReference = PodReference(),  # a frozen value
    ) -> str:
        """Add or replace one rank of a worker; the source id.

        The time is the server's, whatever the worker sent. Raises InvalidArgumentError for the
        first thing missing, in the order of the wire contract, section 7.
        """
        if identity is None:
            _refuse("identity is missing")
        if not identity.model_name:
            _refuse("identity.model_name is empty")
        if not worker_id:
            _refuse("worker_id is empty")
        if worker is None:
            _refuse("worker is missing")
        entry = SourceEntry(
            source_id=source_id(identity),
            worker_id=worker_id,
            identity=identity,
            worker=replace(worker, updated_at_ms=self._clock.now_ms()),
            pod=pod,
        )
        await self._store.publish(entry)
        return entry.source_id

    async def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        """Attach mx's own record; False when the worker has not published."""
        _require_ids(key)
        if not peer.endpoint:
            _refuse("peer.endpoint is empty")
        return await self._store.announce(key, peer)

    async def update_status(self, key: WorkerKey, status: int, source_load: float | None = None) -> bool:
        """Heartbeat; False when the worker, source or rank is unknown.

        A load that is no finite number counts as unknown. Raises InvalidArgumentError for an
        empty id or a number that is no status.
        """
        _require_ids(key)
        if status not in _STATUS_NUMBERS:
            _refuse(f"status {status} is not one of {_status_names()}")
        if source_load is not None and not math.isfinite(source_load):
            source_load = None
        return await self._store.update_status(
            key, status=status, source_load=source_load, now_ms=self._clock.now_ms()
        )

    async def list_sources(self, query: SourceFilter) -> tuple[SourceSummary, ...]:
        """Rows that satisfy the filter, newest first; asked for READY, only those that still are.

        A status number that is no enum value filters nothing (wire contract, section 7).
        """
        if query.status is not None and query.status not in _STATUS_NUMBERS:
            query = replace(query, status=None)
        fresh_after_ms = self._fresh_after_ms() if query.status == SourceStatus.READY else None
        return await self._store.list_sources(query, fresh_after_ms=fresh_after_ms)

    async def find_peers(self, source: str, worker_rank: int) -> tuple[SourceSummary, ...]:
        """READY and fresh workers of one rank; ``peer`` is None for those that are not mx workers."""
        query = SourceFilter(source_id=source, status=SourceStatus.READY, worker_rank=worker_rank)
        return await self._store.list_sources(query, fresh_after_ms=self._fresh_after_ms())

    async def get(self, source: str, worker_id: str) -> SourceEntry | None:
        """The full record of the worker's lowest rank; None when it is unknown or an id is empty."""
        if not source or not worker_id:
            return None
        return await self._store.get(source, worker_id)

    async def withdraw(self, key: WorkerKey) -> bool:
        """Remove a record at once; False when there was none."""
        _require_ids(key)
        return await self._store.remove(key)

    async def counts(self) -> Mapping[str, int]:
        """Records by status name in lower case, every known name included; other numbers as digits."""
        found = await self._store.count_by_status()
        names = {int(status): status.name.lower() for status in SourceStatus}
        return {name: found.get(number, 0) for number, name in names.items()} | {
            str(number): count for number, count in found.items() if number not in names
        }

    async def mark_stale(self, key: WorkerKey) -> bool:
        """STALE until its next heartbeat, because a person says so; False when there is no such record."""
        _require_ids(key)
        while True:
            query = SourceFilter(source_id=key.source_id, worker_rank=key.worker_rank)
            rows = await self._store.list_sources(query, fresh_after_ms=None)
            row = next((one for one in rows if one.key == key), None)
            if row is None or row.status == SourceStatus.STALE:
                return row is not None
            # A heartbeat in between wins, and is looked at again.
            now_ms = self._clock.now_ms()
            if await self._store.mark_stale(key, observed_ms=row.updated_at_ms, now_ms=now_ms):
                return True

    async def reap_once(self, *, dry_run: bool = False) -> Reaped:
        """Mark the silent, remove the long silent. A heartbeat that arrives meanwhile wins.

        With ``dry_run`` nothing changes: what a pass would do now.
        """
        seen = 0
        marked: list[WorkerKey] = []
        removed: list[WorkerKey] = []
        async for row in self._store.scan():
            seen += 1
            now_ms = self._clock.now_ms()
            age_ms = now_ms - row.updated_at_ms
            observed_ms = row.updated_at_ms
            if row.status == SourceStatus.STALE:
                if age_ms > self._gc_timeout_ms and (
                    dry_run or await self._store.remove(row.key, observed_ms=observed_ms)
                ):
                    removed.append(row.key)
            elif age_ms > self._heartbeat_timeout_ms and (
                dry_run or await self._store.mark_stale(row.key, observed_ms=observed_ms, now_ms=now_ms)
            ):
                marked.append(row.key)
        if not dry_run:
            self._tally.add(SourcesReaped(len(marked), len(removed)))
        return Reaped(seen=seen, marked=tuple(marked), removed=tuple(removed))

    async def run_reaper(self, interval_s: float) -> NoReturn:
        """Reap now and then every ``interval_s``, until cancelled. Outlives outages of the store.

        Of several servers one does it.
        """
        turns = self._shared.turns("reap sources", every_s=interval_s)
        async with aclosing(turns):
            async for ours in turns:
                if not ours:
                    continue
                try:
                    report = await self.reap_once()
                except MxError as error:
                    log.error(
                        "reaper pass failed", error=str(error), code=error.code.value, retry_s=interval_s
                    )
                else:
                    _log_reaped(report)
        raise AssertionError("turns never end")

    def _fresh_after_ms(self) -> int:
        return self._clock.now_ms() - self._heartbeat_timeout_ms


def _log_reaped(report: Reaped) -> None:
    for event, keys in (("source went stale", report.marked), ("source removed", report.removed)):
        for key in keys:
            log.info(event, source_id=key.source_id, worker_id=key.worker_id, worker_rank=key.worker_rank)
    log.debug("reaper pass", seen=report.seen)


def _require_ids(key: WorkerKey) -> None:
    if not key.source_id:
        _refuse("mx_source_id is empty")
    if not key.worker_id:
        _refuse("worker_id is empty")


def _status_names() -> str:
    return ", ".join(f"{int(status)} ({status.name})" for status in SourceStatus)


def _refuse(message: str) -> NoReturn:
    raise InvalidArgumentError(message)
