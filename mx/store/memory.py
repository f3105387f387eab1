"""Sources in this process: the reference for every other store, and the store of tests and demos."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import NoReturn

from mx.core.source import (
    PeerRecord,
    SourceEntry,
    SourceFilter,
    SourceStatus,
    SourceSummary,
    WorkerKey,
    summarise,
)
from mx.errors import UnavailableError
from mx.store.listing import select_rows
from mx.store.watchers import Watchers

_Rank = tuple[str, int]  # worker id, rank


class MemorySourceStore:
    """``mx.ports.SourceStore`` over dictionaries. Gone with the process."""

    def __init__(self) -> None:
        self._sources: dict[str, dict[_Rank, SourceEntry]] = {}
        self._watchers: Watchers[WorkerKey] = Watchers("the memory store is closed")
        self._closed = False

    async def publish(self, entry: SourceEntry) -> None:
        self._require_open()
        ranks = self._sources.setdefault(entry.source_id, {})
        rank = (entry.worker_id, entry.worker.worker_rank)
        before = ranks.get(rank)
        if entry.peer is None and before is not None:
            entry = replace(entry, peer=before.peer)
        ranks[rank] = entry
        self._watchers.tell(entry.key)

    async def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        entry = self._find(key)
        if entry is None:
            return False
        self._put(replace(entry, peer=peer))
        return True

    async def update_status(
        self, key: WorkerKey, *, status: int, source_load: float | None, now_ms: int
    ) -> bool:
        entry = self._find(key)
        if entry is None:
            return False
        if entry.worker.updated_at_ms <= now_ms:
            worker = replace(entry.worker, status=status, updated_at_ms=now_ms)
            self._put(
                replace(entry, worker=worker, source_load=source_load), told=entry.worker.status != status
            )
        return True

    async def list_sources(
        self, query: SourceFilter, *, fresh_after_ms: int | None
    ) -> tuple[SourceSummary, ...]:
        self._require_open()
        if query.source_id is None:
            entries = [entry for ranks in self._sources.values() for entry in ranks.values()]
        else:
            entries = list(self._sources.get(query.source_id, {}).values())
        return select_rows(map(summarise, entries), query, fresh_after_ms=fresh_after_ms)

    async def get(self, source_id: str, worker_id: str) -> SourceEntry | None:
        self._require_open()
        ranks = self._sources.get(source_id, {})
        mine = [entry for (owner, _), entry in ranks.items() if owner == worker_id]
        return min(mine, key=lambda entry: entry.worker.worker_rank, default=None)

    async def record(self, key: WorkerKey) -> SourceEntry | None:
        """The full record of one rank."""
        return self._find(key)

    async def scan(self) -> AsyncIterator[SourceSummary]:
        self._require_open()
        for source_id in tuple(self._sources):
            for entry in tuple(self._sources.get(source_id, {}).values()):
                yield summarise(entry)

    async def count_by_status(self) -> Mapping[int, int]:
        self._require_open()
        return Counter(entry.worker.status for rows in self._sources.values() for entry in rows.values())

    async def mark_stale(self, key: WorkerKey, *, observed_ms: int, now_ms: int) -> bool:
        entry = self._find(key)
        if entry is None or entry.worker.updated_at_ms != observed_ms:
            return False
        self._put(
            replace(entry, worker=replace(entry.worker, status=SourceStatus.STALE, updated_at_ms=now_ms))
        )
        return True

    async def remove(self, key: WorkerKey, *, observed_ms: int | None = None) -> bool:
        entry = self._find(key)
        if entry is None or (observed_ms is not None and entry.worker.updated_at_ms != observed_ms):
            return False
        ranks = self._sources[key.source_id]
        del ranks[(key.worker_id, key.worker_rank)]
        if not ranks:
            del self._sources[key.source_id]
        self._watchers.tell(key)
        return True

    async def watch(self, tell: Callable[[WorkerKey | None], None]) -> NoReturn:
        self._require_open()
        await self._watchers.watch(tell)

    async def check(self) -> None:
        self._require_open()

    async def close(self) -> None:
        self._closed = True
        self._watchers.close()

    def _find(self, key: WorkerKey) -> SourceEntry | None:
        self._require_open()
        return self._sources.get(key.source_id, {}).get((key.worker_id, key.worker_rank))

    def _put(self, entry: SourceEntry, *, told: bool = True) -> None:
        self._sources[entry.source_id][(entry.worker_id, entry.worker.worker_rank)] = entry
        if told:
            self._watchers.tell(entry.key)

    def _require_open(self) -> None:
        if self._closed:
            raise UnavailableError("the memory store is closed")
