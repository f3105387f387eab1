"""A removal that takes long: nobody downloads into it, and nobody waits for ever for a disk that hangs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mx.core.eviction import EvictionPolicy, Shrink
from mx.core.model import Claim, EntryKey, EntryStatus, ListedFile, Listing, ModelRecord, ProviderName
from mx.errors import DeadlineError
from mx.providers.cache import open_cache
from mx.server.cache_admin import CacheCalls
from mx.services.eviction import EvictionService
from mx.services.jobs import JobRules
from mx.services.models import ModelsRules, ModelsService
from mx.services.removal import remove_entry
from mx.services.sources import SourcesService
from mx.services.touches import TouchBatch
from mx.services.transfers import TransfersService
from mx.store.memory import MemorySourceStore
from mx.store.memory_models import MemoryModelStore
from mx.testing.folder_cache import FolderCache
from mx.testing.live_feed import live_feed, no_inspection
from mx.testing.outage_models import OutageModelStore
from mx.testing.scripted_provider import FixedProviders
from mx.wire import models_admin_codec
from mx.wire.v1 import admin
from mx.wiring import Services, SystemClock

DEADLINE_S = 60.0
KEY = EntryKey(ProviderName.HUGGING_FACE, "org/model", "c" * 40)


class SlowCache(FolderCache):
    """Its removals go on in ``steps``, as files do on a slow disk, and wait at ``gate`` before the last."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = threading.Event()
        self.gate.set()
        self.steps = 0
        self.step_s = 0.0
        self.begun = threading.Event()

    def remove(self, key: EntryKey, *, moved: Callable[[], None] | None = None) -> int:
        self.begun.set()
        for _ in range(self.steps):
            time.sleep(self.step_s)
            if moved is not None:
                moved()
        self.gate.wait(DEADLINE_S)
        return super().remove(key, moved=moved)


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = SystemClock()
        self.cache = SlowCache(folder)
        self.store = OutageModelStore(MemoryModelStore())
        touches = TouchBatch(self.store, self.clock)
        self.eviction = EvictionService(
            self.store, self.cache, self.clock, policy=EvictionPolicy(), owner="a", touches=touches
        )
        models = ModelsService(
            self.store,
            self.cache,
            self.clock,
            providers=FixedProviders(),
            eviction=self.eviction,
            touches=touches,
            owner="a",
            rules=ModelsRules(job=JobRules(poll_s=0.02)),
        )
        sources = MemorySourceStore()
        transfers = TransfersService(self.clock)
        self.services = Services(
            sources=SourcesService(sources, self.clock, heartbeat_timeout_s=90, gc_timeout_s=3600),
            transfers=transfers,
            store=sources,
            store_backend="memory",
            models_store=self.store,
            models=models,
            eviction=self.eviction,
            cache=self.cache,
            clock=self.clock,
            feed=live_feed(
                sources,
                models_store=self.store,
                models=models,
                eviction=self.eviction,
                transfers=transfers,
                cache=self.cache,
                clock=self.clock,
            ),
            inspection=no_inspection(),
        )

    async def add(self, key: EntryKey = KEY) -> ModelRecord:
        staging = self.cache.begin(Listing(key, (ListedFile("model.safetensors", 1000),)))
        file = staging.missing[0].file
        staging.path_for(file).write_bytes(bytes(1000))
        staging.accept(file)
        staging.publish(revision=None, fence=lambda: True)
        now_ms = self.clock.now_ms()
        await self.store.put(ModelRecord(key, EntryStatus.DOWNLOADED, now_ms, now_ms, bytes_on_disk=1000))
        found = await self.store.get(key)
        assert found is not None
        return found

    async def claim(self) -> Claim | None:
        found = await self.store.get(KEY)
        return None if found is None else found.claim


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    async with world.services.models:
        yield world
        world.cache.gate.set()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_the_claim_of_a_long_removal_is_kept(world: World) -> None:
    record = await world.add()
    world.cache.gate.clear()
    lease_s = 1.0
    claim = await world.store.mark_evicting(
        KEY, observed=record, now_ms=world.clock.now_ms(), owner="a", lease_s=lease_s
    )
    assert claim is not None
    removing = asyncio.create_task(
        remove_entry(world.store, world.cache, world.clock, KEY, claim, lease_s=lease_s)
    )
    seen: set[int] = {claim.expires_at_ms}
    async with asyncio.timeout(DEADLINE_S):
        while len(seen) < 5:
            now = await world.claim()
            assert now is not None
            assert now.token == claim.token
            seen.add(now.expires_at_ms)
            await asyncio.sleep(0.01)
    assert max(seen) > claim.expires_at_ms + 1000, "it would have expired by then"
    world.cache.gate.set()
    assert await removing == 1000
    assert await world.store.get(KEY) is None


async def test_an_outage_of_the_store_does_not_end_a_removal(world: World) -> None:
    record = await world.add()
    world.cache.gate.clear()
    claim = await world.store.mark_evicting(KEY, observed=record, now_ms=world.clock.now_ms(), owner="a")
    assert claim is not None
    removing = asyncio.create_task(
        remove_entry(world.store, world.cache, world.clock, KEY, claim, lease_s=0.05)
    )
    world.store.down = True
    refused = world.store.refused
    await until(lambda: world.store.refused > refused + 2)
    world.store.down = False
    world.cache.gate.set()
    assert await removing == 1000
    assert await world.store.get(KEY) is None


def remove_request() -> admin.RemoveModelRequest:
    return admin.RemoveModelRequest(provider=KEY.provider.value, name=KEY.name)


async def test_a_slow_removal_that_moves_is_never_given_up(world: World) -> None:
    await world.add()
    calls = CacheCalls(world.services, silence_s=0.02, standstill_s=1.0)
    world.cache.steps, world.cache.step_s = 30, 0.1  # three times as long as a standstill
    updates = [update async for update in calls.RemoveModel(remove_request(), None)]  # type: ignore[arg-type]
    assert updates[-1].done
    assert updates[-1].bytes_freed == 1000
    assert len(updates) > 10, "the caller heard that it goes on"


async def test_a_disk_that_hangs_is_told_and_the_rest_is_finished_later(world: World) -> None:
    await world.add()
    world.cache.gate.clear()
    calls = CacheCalls(world.services, silence_s=0.05, standstill_s=0.3)
    with pytest.raises(DeadlineError, match=r"nothing moved for 0\.3 s") as caught:
        async for _ in calls.RemoveModel(remove_request(), None):  # type: ignore[arg-type]
            pass
    assert "disk" in caught.value.remedy
    assert await world.claim() is not None, "nobody may download into what is half removed"
    world.cache.gate.set()
    await until(lambda: not calls._left)
    found = await world.store.get(KEY)
    assert found is None or found.status is EntryStatus.EVICTING
    assert world.cache.entry(KEY) is None


async def test_an_eviction_from_a_disk_that_hangs_leaves_its_record(world: World) -> None:
    await world.add()
    plan = await world.eviction.plan(Shrink())
    assert [victim.key for victim in plan.victims] == [KEY]
    world.cache.gate.clear()
    calls = CacheCalls(world.services, silence_s=0.05, standstill_s=0.3)
    request = admin.RunEvictionRequest(plan=models_admin_codec.encode_plan(plan))
    with pytest.raises(DeadlineError, match="evicting"):
        async for _ in calls.RunEviction(request, None):  # type: ignore[arg-type]
            pass
    world.cache.gate.set()
    await until(lambda: not calls._left)
    (run,) = await world.eviction.runs()
    assert run.failed, "it says what was not done"


async def test_every_step_on_a_real_disk_is_a_sign_of_life(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)
    key = EntryKey(ProviderName.NGC, "acme/models/tiny/1", "")
    files = tuple(ListedFile(f"{number}.bin", 10) for number in range(20))
    staging = cache.begin(Listing(key, files))
    for one in staging.missing:
        staging.path_for(one.file).write_bytes(bytes(10))
        staging.accept(one.file)
    staging.publish(revision=None, fence=lambda: True)
    moved: list[None] = []
    assert cache.remove(key, moved=lambda: moved.append(None)) > 0
    assert len(moved) > len(files)
