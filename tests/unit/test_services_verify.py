"""Verifying entries: what is found, what is kept from readers, what comes again, and leaving early."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from mx.core.cached import FaultKind, FileFault, VerifyReport
from mx.core.eviction import EvictionPolicy
from mx.core.model import EntryKey, EntryStatus, ModelRef, Pin, ProviderName
from mx.core.verification import EntryVerified, OnFault, Outcome, VerifyProgress, VerifyStep
from mx.errors import NotFoundError, UnavailableError
from mx.providers.cache import DiskCache, open_cache
from mx.providers.cache.tree import Site
from mx.services.eviction import EvictionService
from mx.services.jobs import JobRules
from mx.services.models import ModelsRules, ModelsService
from mx.services.touches import TouchBatch
from mx.services.verify import Verification
from mx.store.memory_models import MemoryModelStore
from mx.testing.scripted_provider import FixedProviders, ScriptedProvider
from mx.wiring import SystemClock

COMMIT, OTHER = "a" * 40, "b" * 40
KEY = EntryKey(ProviderName.HUGGING_FACE, "org/model", COMMIT)
META = replace(KEY, weights=False)
FILES = {
    "config.json": b'{"a": 1}',
    "model.safetensors": bytes(range(256)) * 4096,
    "nested/part.safetensors": b"weights" * 1000,
}
DEADLINE_S = 60.0


class World:
    def __init__(self, root: Path) -> None:
        self.clock = SystemClock()
        self.store = MemoryModelStore()
        self.cache = open_cache(root)
        self.provider = ScriptedProvider(FILES)
        touches = TouchBatch(self.store, self.clock)
        self.eviction = EvictionService(
            self.store, self.cache, self.clock, policy=EvictionPolicy(), owner="a", touches=touches
        )
        self.models = ModelsService(
            self.store,
            self.cache,
            self.clock,
            providers=FixedProviders(self.provider),
            eviction=self.eviction,
            touches=touches,
            owner="a",
            rules=ModelsRules(job=JobRules(poll_s=0.02)),
        )

    async def download(self, commit: str = COMMIT, *, weights: bool = True) -> Path:
        ref = ModelRef(ProviderName.HUGGING_FACE, "org/model", commit)
        updates = [update async for update in self.models.ensure(ref, weights=weights)]
        assert updates[-1].status is EntryStatus.DOWNLOADED, updates[-1]
        entry = self.cache.entry(replace(KEY, commit=commit, weights=weights))
        assert entry is not None
        return entry.root

    async def verify(
        self,
        *keys: EntryKey,
        on_fault: OnFault = OnFault.REPORT,
        cache: DiskCache | None = None,
        seen: Callable[[VerifyStep], None] = lambda _: None,
    ) -> dict[EntryKey, EntryVerified]:
        run = Verification(
            self.models, self.store, cache or self.cache, self.clock, on_fault=on_fault, report_s=0.01
        )
        done: dict[EntryKey, EntryVerified] = {}
        async with aclosing(run.run(keys or None)) as steps:
            async for step in steps:
                seen(step)
                if isinstance(step, EntryVerified):
                    done[step.key] = step
        return done

    async def status(self, key: EntryKey = KEY) -> EntryStatus | None:
        record = await self.store.get(key)
        return None if record is None else record.status


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "cache")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(world.models)
        yield world


def flip(path: Path) -> None:
    target = path.resolve()
    found = target.stat()
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


async def test_sound_entries_are_said_to_be_and_do_not_count_as_used(world: World) -> None:
    await world.download()
    await world.models.records()  # what was used is written
    before = await world.store.get(KEY)
    steps: list[VerifyStep] = []
    done = await world.verify(seen=steps.append)
    assert (done[KEY].outcome, done[KEY].files) == (Outcome.SOUND, len(FILES))
    progress = [step for step in steps if isinstance(step, VerifyProgress)]
    assert progress
    assert all(step.bytes_total == sum(map(len, FILES.values())) for step in progress)
    await world.models.records()
    assert await world.store.get(KEY) == before


async def test_damage_is_reported_quarantined_or_repaired_as_asked(world: World) -> None:
    root = await world.download()
    flip(root / "config.json")
    found = await world.verify(KEY)
    assert (found[KEY].outcome, [fault.path for fault in found[KEY].faults]) == (
        Outcome.DAMAGED,
        ["config.json"],
    )
    assert world.cache.entry(KEY) is not None, "a report changes nothing"
    assert await world.status() is EntryStatus.DOWNLOADED
    found = await world.verify(KEY, on_fault=OnFault.QUARANTINE)
    assert found[KEY].outcome is Outcome.QUARANTINED
    assert world.cache.entry(KEY) is None
    record = await world.store.get(KEY)
    assert record is not None
    assert (record.status, "config.json" in record.message) == (EntryStatus.ERROR, True)
    # Found again, although it was condemned before, and mended.
    found = await world.verify(on_fault=OnFault.REPAIR)
    assert found[KEY].outcome is Outcome.REPAIRED, found
    assert (root / "config.json").read_bytes() == FILES["config.json"]
    assert await world.status() is EntryStatus.DOWNLOADED
    assert (await world.verify())[KEY].outcome is Outcome.SOUND


async def test_everybody_who_used_the_bytes_is_withdrawn_and_comes_back(world: World) -> None:
    root = await world.download()
    await world.download(OTHER)
    meta = replace(META, commit=OTHER)
    await world.models.delete(KEY.provider, KEY.name, commit=OTHER)
    await world.download(OTHER, weights=False)
    await world.download(OTHER)
    flip(root / "config.json")
    done = await world.verify(KEY, on_fault=OnFault.REPAIR)
    others = {replace(KEY, commit=OTHER), meta}
    assert (done[KEY].outcome, set(done[KEY].withdrawn)) == (Outcome.REPAIRED, others), done[KEY]
    again = await world.verify()
    assert {key: one.outcome for key, one in again.items()} == dict.fromkeys({KEY, *others}, Outcome.SOUND)


async def test_files_that_others_brought_back_do_not_make_a_withdrawn_entry_sound(world: World) -> None:
    root = await world.download()
    await world.download(OTHER)
    other = replace(KEY, commit=OTHER)
    flip(root / "config.json")
    await world.verify(KEY, on_fault=OnFault.QUARANTINE)
    await world.download(OTHER)
    assert world.cache.entry(KEY) is None
    done = await world.verify(KEY, other)
    assert (done[KEY].outcome, done[other].outcome) == (Outcome.DAMAGED, Outcome.SOUND)
    assert "withdrawn" in done[KEY].detail
    assert (await world.verify(on_fault=OnFault.REPAIR))[KEY].outcome is Outcome.REPAIRED
    assert world.cache.entry(KEY) is not None


async def test_a_lost_name_costs_no_bytes(world: World) -> None:
    root = await world.download()
    (root / "model.safetensors").unlink()
    blob_bytes = sum(path.stat().st_size for path in (root.parent.parent / "blobs").iterdir())
    found = await world.verify(on_fault=OnFault.QUARANTINE)
    assert [fault.kind for fault in found[KEY].faults] == [FaultKind.LINK]
    assert sum(path.stat().st_size for path in (root.parent.parent / "blobs").iterdir()) == blob_bytes
    assert (await world.verify(on_fault=OnFault.REPAIR))[KEY].outcome is Outcome.REPAIRED
    assert (root / "model.safetensors").read_bytes() == FILES["model.safetensors"]


async def test_what_cannot_come_again_says_why_and_keeps_its_pin(world: World) -> None:
    root = await world.download()
    await world.models.pin(KEY, Pin(reason="demo"))
    flip(root / "config.json")
    world.provider.failures = [UnavailableError("the hub is away")] * 3
    done = await world.verify(on_fault=OnFault.REPAIR)
    assert (done[KEY].outcome, "the hub is away" in done[KEY].detail) == (Outcome.QUARANTINED, True)
    record = await world.store.get(KEY)
    assert record is not None
    assert record.pin == Pin(reason="demo")
    world.provider.failures = []
    assert (await world.verify(on_fault=OnFault.REPAIR))[KEY].outcome is Outcome.REPAIRED


async def test_an_entry_that_is_removed_meanwhile_is_no_damage(world: World) -> None:
    await world.download()

    class Removed(DiskCache):
        def verify(self, key: EntryKey, *, progress: Callable[[int], None] | None = None) -> VerifyReport:
            self.remove(key)
            return VerifyReport(key, 1, 0, (FileFault("config.json", FaultKind.MISSING, "it is gone"),))

    cache = Removed(Site(world.cache.root, world.clock.now_ms))
    done = await world.verify(on_fault=OnFault.REPAIR, cache=cache)
    assert done[KEY].outcome is Outcome.GONE


async def test_who_leaves_early_stops_the_reading(world: World) -> None:
    await world.download()
    begun, ended = threading.Event(), threading.Event()

    class Endless(DiskCache):
        def verify(self, key: EntryKey, *, progress: Callable[[int], None] | None = None) -> VerifyReport:
            assert progress is not None
            try:
                while not ended.wait(0.001):
                    begun.set()
                    progress(1)
            finally:
                ended.set()
            return VerifyReport(key, 0, 0)

    run = Verification(
        world.models,
        world.store,
        Endless(Site(world.cache.root, world.clock.now_ms)),
        world.clock,
        on_fault=OnFault.REPORT,
        report_s=0.01,
    )
    steps = run.run()
    async with asyncio.timeout(DEADLINE_S):
        assert isinstance(await anext(steps), VerifyProgress)
        while not begun.is_set():
            await anext(steps)
        await steps.aclose()
    assert ended.is_set()


async def test_what_is_not_there_is_said_before_anything_is_read(world: World) -> None:
    await world.download()
    with pytest.raises(NotFoundError, match="org/nothing"):
        await world.verify(KEY, replace(KEY, name="org/nothing"))
