"""Last use of entries, written to the store in batches: a hit costs no write of its own."""

from __future__ import annotations

from mx.core.model import EntryKey
from mx.ports import Clock, ModelStore

# Uses this close together count as one time, so that a flush costs ten writes per second at most.
_GRAIN_MS = 100


class TouchBatch:
    """Uses since the last flush, each with its time. A plan of eviction must flush first."""

    def __init__(self, store: ModelStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._used_ms: dict[EntryKey, int] = {}

    def add(self, key: EntryKey) -> None:
        self._used_ms[key] = self._clock.now_ms()

    async def flush(self) -> None:
        """Write them; what the store did not take is kept for the next time (UnavailableError)."""
        grains: dict[int, list[EntryKey]] = {}
        for key, used_ms in self._used_ms.items():
            grains.setdefault(used_ms // _GRAIN_MS, []).append(key)
        for _, keys in sorted(grains.items()):
            written = {key: self._used_ms[key] for key in keys if key in self._used_ms}
            if not written:
                continue
            await self._store.touch(tuple(written), now_ms=max(written.values()))
            for key, used_ms in written.items():
                if self._used_ms.get(key) == used_ms:  # not used again meanwhile
                    del self._used_ms[key]
