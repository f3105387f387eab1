"""A store that can be made unreachable, for everything that has to live through an outage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import NoReturn

from mx.core.source import PeerRecord, SourceEntry, SourceFilter, SourceSummary, WorkerKey
from mx.errors import UnavailableError
from mx.ports import SourceStore


class OutageStore:
    """``mx.ports.SourceStore`` in front of another one. While ``down``, every call is refused.

    ``refused`` counts the calls that failed, so that a test can wait until somebody tried.
    """

    def __init__(self, store: SourceStore) -> None:
        self._store = store
        self.down = False
        self.refused = 0

    async def publish(self, entry: SourceEntry) -> None:
        self._require_up()
        await self._store.publish(entry)

    async def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        self._require_up()
        return await self._store.announce(key, peer)

    async def update_status(
        self, key: WorkerKey, *, status: int, source_load: float | None, now_ms: int
    ) -> bool:
        self._require_up()
        return await self._store.update_status(key, status=status, source_load=source_load, now_ms=now_ms)

    async def list_sources(
        self, query: SourceFilter, *, fresh_after_ms: int | None
    ) -> tuple[SourceSummary, ...]:
        self._require_up()
        return await self._store.list_sources(query, fresh_after_ms=fresh_after_ms)

    async def get(self, source_id: str, worker_id: str) -> SourceEntry | None:
        self._require_up()
        return await self._store.get(source_id, worker_id)

    async def scan(self) -> AsyncIterator[SourceSummary]:
        self._require_up()
        async for row in self._store.scan():
            yield row
            self._require_up()

    async def count_by_status(self) -> Mapping[int, int]:
        self._require_up()
        return await self._store.count_by_status()

    async def mark_stale(self, key: WorkerKey, *, observed_ms: int, now_ms: int) -> bool:
        self._require_up()
        return await self._store.mark_stale(key, observed_ms=observed_ms, now_ms=now_ms)

    async def remove(self, key: WorkerKey, *, observed_ms: int | None = None) -> bool:
        self._require_up()
        return await self._store.remove(key, observed_ms=observed_ms)

    async def watch(self, tell: Callable[[WorkerKey | None], None]) -> NoReturn:
        await self._store.watch(tell)

    async def check(self) -> None:
        self._require_up()
        await self._store.check()

    async def close(self) -> None:
        await self._store.close()

    def _require_up(self) -> None:
        if self.down:
            self.refused += 1
            raise UnavailableError("the store is down", remedy="wait until it is back")
