"""One store, cache and provider, and as many services on them as a test wants processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from mx.core.eviction import EvictionPolicy
from mx.core.model import EntryKey, EntryStatus, ModelRecord, ModelRef, ProviderName
from mx.core.progress import EnsureUpdate
from mx.services.downloads import DownloadRules
from mx.services.eviction import EvictionService
from mx.services.jobs import JobRules
from mx.services.models import ModelsRules, ModelsService
from mx.services.touches import TouchBatch
from mx.store.memory_models import MemoryModelStore
from mx.testing.folder_cache import FolderCache
from mx.testing.outage_models import OutageModelStore
from mx.testing.scripted_provider import FixedProviders, ScriptedProvider
from mx.wiring import SystemClock

HF = ProviderName.HUGGING_FACE
COMMIT = "a" * 40
REF = ModelRef(HF, "org/model")
KEY = EntryKey(HF, "org/model", COMMIT)
META = replace(KEY, weights=False)
PIECE = 1 << 12
FILES = {
    "config.json": b"{}",
    "empty.txt": b"",
    "model.safetensors": bytes(range(256)) * 256,
    "nested/part.safetensors": b"weights" * 1000,
}
TOTAL = sum(map(len, FILES.values()))
DOWNLOADING, DOWNLOADED, ERROR = EntryStatus.DOWNLOADING, EntryStatus.DOWNLOADED, EntryStatus.ERROR

RULES = ModelsRules(
    job=JobRules(
        download=DownloadRules(lease_s=0.5, heartbeat_s=0.05, report_s=0.01, parallel_files=2),
        poll_s=0.02,
        first_backoff_s=30.0,
        longest_backoff_s=100.0,
    ),
    resolve_timeout_s=0.2,
    read_lease_s=0.3,
    flush_s=0.02,
)


class World:
    """See the head of this module."""

    def __init__(
        self, folder: Path, stack: AsyncExitStack, *, provider: ScriptedProvider | None = None
    ) -> None:
        self.clock = SystemClock()
        self.store = OutageModelStore(MemoryModelStore())
        self.cache = FolderCache(folder)
        self.provider = provider or ScriptedProvider(FILES, piece_bytes=PIECE)
        self.policy = EvictionPolicy()
        self._stack = stack

    def make(self, owner: str = "a", rules: ModelsRules = RULES) -> ModelsService:
        touches = TouchBatch(self.store, self.clock)
        eviction = EvictionService(
            self.store, self.cache, self.clock, policy=self.policy, owner=owner, touches=touches
        )
        return ModelsService(
            self.store,
            self.cache,
            self.clock,
            providers=FixedProviders(self.provider),
            eviction=eviction,
            touches=touches,
            owner=owner,
            rules=rules,
        )

    async def start(self, owner: str = "a", rules: ModelsRules = RULES) -> ModelsService:
        return await self._stack.enter_async_context(self.make(owner, rules))

    async def record(self, key: EntryKey = KEY) -> ModelRecord:
        found = await self.store.get(key)
        assert found is not None
        return found

    def hold(self, after_bytes: int = 0) -> None:
        """Keep fetches waiting once a file has so many bytes, until ``go``."""
        self.provider.gate_after_bytes = after_bytes
        self.provider.gate.clear()

    def go(self) -> None:
        self.provider.gate.set()

    @property
    def fetches(self) -> list[str]:
        return [call for call in self.provider.calls if call.startswith("fetch")]


async def ensure(
    service: ModelsService, ref: ModelRef = REF, *, weights: bool = True, force: bool = False
) -> list[EnsureUpdate]:
    async with asyncio.timeout(20):
        return [update async for update in service.ensure(ref, weights=weights, force=force)]


async def outcome(service: ModelsService, ref: ModelRef = REF, **options: bool) -> EnsureUpdate:
    return (await ensure(service, ref, **options))[-1]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
