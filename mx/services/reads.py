"""Read leases: an entry is not evicted while somebody serves or loads it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

from mx.core.cached import CachedEntry
from mx.core.model import EntryKey, ReadLease
from mx.errors import MxError, NotFoundError, UnavailableError
from mx.logs import event_log
from mx.ports import Clock, EntryCache, ModelStore
from mx.services.removal import adopted
from mx.services.threads import in_thread

log = event_log(__name__)


class ReadLeases:
    """Takes, renews and gives back leases; one that is lost expires by itself after ``lease_s``."""

    def __init__(self, store: ModelStore, cache: EntryCache, clock: Clock, *, lease_s: float) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._lease_s = lease_s

    @asynccontextmanager
    async def hold(self, entry: CachedEntry, *, holder: str, tasks: asyncio.TaskGroup) -> AsyncIterator[None]:
        """Protect the entry while the body runs; NotFoundError when it is being or was removed."""
        lease_id = uuid.uuid4().hex
        key = entry.key
        if not await self._take(key, lease_id, holder):
            # A deleted record leaves its files: such an entry is read all the same.
            await self._store.put(adopted(entry, now_ms=self._clock.now_ms()))
            if not await self._take(key, lease_id, holder):
                raise NotFoundError(f"{key} is being removed from the cache", remedy="ask again in a moment")
        renewal = tasks.create_task(self._renew(key, lease_id, holder), name=f"read lease of {key}")
        try:
            if await in_thread(self._cache.entry, key) is None:
                raise NotFoundError(f"{key} was removed from the cache", remedy="ask again in a moment")
            yield
        finally:
            renewal.cancel()
            with contextlib.suppress(UnavailableError):  # it expires by itself
                await self._store.unlease(key, lease_id)

    async def _take(self, key: EntryKey, lease_id: str, holder: str) -> bool:
        now_ms = self._clock.now_ms()
        lease = ReadLease(lease_id, holder, now_ms + round(self._lease_s * 1000))
        return await self._store.lease(key, lease, now_ms=now_ms)

    async def _renew(self, key: EntryKey, lease_id: str, holder: str) -> NoReturn:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                await self._take(key, lease_id, holder)
            except MxError as error:
                log.warn("read lease not renewed", model=str(key), error=str(error))  # noqa: G010  # an EventLog
