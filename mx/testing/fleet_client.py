"""A client that tells what a test gives it, and answers questions with samples; nothing can be changed.

For faces: a fleet in any state, without a server. Beside it stands ``EmbeddedClient``, over real services.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

from mx.client.replay import ReplayClient
from mx.core.cache_view import EntryDetail, ShownFile
from mx.core.eviction import EvictionPlan, KeepLimits, Shrink
from mx.core.feed import FeedPosition, FeedUpdate
from mx.core.fleet import apply
from mx.core.model import EntryKey
from mx.core.server_state import BackendState, RawRecord, SettingRow
from mx.core.source import SourceEntry, WorkerKey
from mx.errors import MxError
from mx.testing import fleet_samples as some


class FleetClient(ReplayClient):
    """Tells ``updates``, then ``error`` if there is one, else it stays open. ``push`` tells more."""

    def __init__(self, updates: Iterable[FeedUpdate] = (), *, error: MxError | None = None) -> None:
        super().__init__(Path("no file"))
        self._told = list(updates)
        self._error = error
        self._more: asyncio.Queue[FeedUpdate] = asyncio.Queue()

    def push(self, update: FeedUpdate) -> None:
        self._more.put_nowait(update)

    async def watch(self, *, resume: FeedPosition | None = None) -> AsyncGenerator[FeedUpdate, None]:
        for update in self._told:
            self._fleet = apply(self._fleet, update)
            yield update
        if self._error is not None:
            raise self._error
        while True:
            update = await self._more.get()
            self._fleet = apply(self._fleet, update)
            yield update

    async def plan_eviction(self, goal: KeepLimits | Shrink = KeepLimits()) -> EvictionPlan:
        if not self._fleet.entries:
            return EvictionPlan((), (), 0, 0, True)
        return some.eviction_plan()

    async def list_settings(self) -> tuple[SettingRow, ...]:
        return some.settings()

    async def backend_states(self) -> tuple[BackendState, ...]:
        return some.backends()

    async def show_model(self, key: EntryKey) -> EntryDetail:
        entry = self._fleet.entries[key]
        files = tuple(
            ShownFile(path, size, digest, xxh3="", block="", users=1)
            for path, size, digest in (
                ("config.json", 1_187, ""),
                ("model-00001-of-00002.safetensors", 9_976_570_304, "sha256:4f2e6a0b8c1d"),
                ("model-00002-of-00002.safetensors", 6_000_000_000, "sha256:91c3d7e55ab0"),
            )
        )
        return EntryDetail(listed=entry, root=f"/var/lib/mx/cache/{key.name}/{key.commit[:12]}", files=files)

    async def get_source(self, source_id: str, worker_id: str) -> SourceEntry | None:
        return None

    async def raw_source(self, key: WorkerKey) -> RawRecord:
        return some.raw_record(f"mx:source:{key.source_id}:{key.worker_id}")

    async def raw_model(self, key: EntryKey) -> RawRecord:
        return some.raw_record(f"mx:model:{key.name}")
