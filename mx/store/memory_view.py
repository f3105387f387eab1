"""``mx.ports.StoreView`` over the stores of this process."""

from __future__ import annotations

from mx.core.model import EntryKey
from mx.core.server_state import BackendState, RawRecord
from mx.core.source import WorkerKey
from mx.store.described import Facts, described
from mx.store.memory import MemorySourceStore
from mx.store.memory_models import MemoryModelStore
from mx.store.raw_text import raw_yaml


class MemoryView:
    def __init__(self, sources: MemorySourceStore, models: MemoryModelStore) -> None:
        self._sources = sources
        self._models = models

    async def describe(self) -> BackendState:
        return await described("memory", "this process", self._sources.check, self._facts)

    async def raw_source(self, key: WorkerKey) -> RawRecord | None:
        entry = await self._sources.record(key)
        if entry is None:
            return None
        return RawRecord("memory", f"dictionary entry {key}", raw_yaml(entry))

    async def raw_model(self, key: EntryKey) -> RawRecord | None:
        record = await self._models.get(key)
        if record is None:
            return None
        return RawRecord("memory", f"dictionary entry {key}", raw_yaml(record))

    async def _facts(self) -> Facts:
        sources = sum((await self._sources.count_by_status()).values())
        models = len(await self._models.list_models())
        return ("workers", str(sources)), ("models", str(models)), ("kept", "until this process ends")
