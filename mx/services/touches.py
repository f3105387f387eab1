"""Last use of entries, written to the store in batches: a hit costs no write of its own."""

from __future__ import annotations

from mx.core.model import EntryKey
from mx.ports import Clock, ModelStore


class TouchBatch:
    """Uses since the last flush. A plan of eviction must flush first."""

    def __init__(self, store: ModelStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._keys: set[EntryKey] = set()

    def add(self, key: EntryKey) -> None:
        self._keys.add(key)

    async def flush(self) -> None:
        """Write them; kept for the next time when the store can't be reached (UnavailableError)."""
        keys, self._keys = self._keys, set()
        if not keys:
            return
        try:
            await self._store.touch(tuple(keys), now_ms=self._clock.now_ms())
        except BaseException:
            self._keys |= keys
            raise
