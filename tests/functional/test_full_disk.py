"""A server whose cache lies on a small file system: the disk never fills by surprise."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from model_server import ModelServer, model_server

from mx.client.grpc import GrpcClient
from mx.core.model import EntryStatus, ModelRef, Pin, ProviderName
from mx.core.progress import EnsureUpdate
from mx.errors import ErrorCode
from mx.testing.fake_hub import FakeHub
from mx.testing.faults import Fault
from mx.testing.provider_contract import mounted_tmpfs

MIB = 1 << 20
DISK_BYTES = 24 * MIB
KEEP_FREE_BYTES = 4 * MIB
MODEL_BYTES = 5 * MIB


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        for name in "abcdefgh":
            hub.add(f"org/{name}", {"config.json": b"{}", "model.safetensors": os.urandom(MODEL_BYTES)})
        hub.add("org/large", {"config.json": b"{}", "model.safetensors": os.urandom(3 * DISK_BYTES // 4)})
        yield hub


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted_tmpfs(tmp_path / "small", size_bytes=DISK_BYTES)


@pytest.fixture
async def mx(disk: Path, hub: FakeHub) -> AsyncIterator[ModelServer]:
    flags = {
        "cache.eviction.policy.grace_time": "0s",
        "cache.eviction.policy.min_free_space_bytes": KEEP_FREE_BYTES,
        "cache.eviction.policy.low_water": 1.0,
    }
    async with model_server(disk, hub, **flags) as server:
        yield server


@pytest.fixture
async def client(mx: ModelServer) -> AsyncIterator[GrpcClient]:
    client = GrpcClient(mx.address)
    yield client
    await client.close()


def free_bytes(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


async def ensure(client: GrpcClient, name: str) -> EnsureUpdate:
    ref = ModelRef(ProviderName.HUGGING_FACE, f"org/{name}")
    return [update async for update in client.ensure(ref, force=True)][-1]


async def names(client: GrpcClient) -> set[str]:
    listing = await client.list_models()
    return {
        entry.key.name.removeprefix("org/")
        for entry in listing.entries
        if entry.status is EntryStatus.DOWNLOADED
    }


async def test_room_is_made_in_lru_order_and_what_is_held_stays(
    mx: ModelServer, client: GrpcClient, disk: Path
) -> None:
    for name in "abc":
        assert (await ensure(client, name)).status is EntryStatus.DOWNLOADED
        assert free_bytes(disk) >= KEEP_FREE_BYTES
    (key,) = [one.key for one in (await client.list_models()).entries if one.key.name == "org/a"]
    await client.pin_model(key, Pin(reason="kept"))
    for name in "defgh":
        assert (await ensure(client, name)).status is EntryStatus.DOWNLOADED, name
        assert free_bytes(disk) >= KEEP_FREE_BYTES
        assert "a" in await names(client)
    assert await names(client) == {"a", "g", "h"}, "the oldest went, one at a time"
    runs = (await client.cache_stats(runs=10)).runs
    assert [[victim.key.name for victim in run.plan.victims] for run in reversed(runs)] == [
        [f"org/{name}"] for name in "bcdef"
    ]
    assert {run.trigger for run in runs} == {"room"}
    async with mx.services.models.reading(ModelRef(ProviderName.HUGGING_FACE, "org/g"), holder="r"):
        refused = await ensure(client, "large")
    assert (refused.status, refused.code) == (EntryStatus.ERROR, ErrorCode.EXHAUSTED)
    assert "min_free_space_bytes is 4.00 MiB" in refused.message
    assert await names(client) == {"a", "g", "h"}, "nothing went for a download that can't fit"


async def test_what_cannot_fit_is_refused_before_the_first_byte(
    client: GrpcClient, hub: FakeHub, disk: Path
) -> None:
    assert (await ensure(client, "large")).status is EntryStatus.DOWNLOADED
    (key,) = [one.key for one in (await client.list_models()).entries]
    await client.pin_model(key, Pin())
    asked = len(hub.asked("storage:"))
    refused = await ensure(client, "a")
    assert (refused.status, refused.code) == (EntryStatus.ERROR, ErrorCode.EXHAUSTED)
    assert "5.00 MiB" in refused.message
    assert len(hub.asked("storage:")) == asked
    assert await names(client) == {"large"}


async def test_a_disk_that_others_fill_during_a_download(
    client: GrpcClient, hub: FakeHub, disk: Path
) -> None:
    gate = threading.Event()
    hub.fail(Fault("storage:", cut_after=MIB, gate=gate))
    updates = client.ensure(ModelRef(ProviderName.HUGGING_FACE, "org/large"))
    while hub.bytes_served < MIB:
        await anext(updates)
    theirs = disk / "theirs"
    with theirs.open("wb") as file:
        file.write(bytes(free_bytes(disk) - 2 * MIB))
    gate.set()
    last = [update async for update in updates][-1]
    assert (last.status, last.code) == (EntryStatus.ERROR, ErrorCode.EXHAUSTED), last
    assert "does not fit" in last.message or "No space left" in last.message, last
    assert await names(client) == set()
    assert not list((disk / "cache").rglob("snapshots/*")), "nothing half is seen"
    theirs.unlink()
    served = hub.bytes_served
    assert (await ensure(client, "large")).status is EntryStatus.DOWNLOADED
    assert hub.bytes_served - served < 3 * DISK_BYTES // 4, "it went on from what was there"
    assert await names(client) == {"large"}


async def test_a_disk_that_others_fill_is_relieved_by_the_next_look(
    mx: ModelServer, client: GrpcClient, disk: Path
) -> None:
    for name in "abc":
        assert (await ensure(client, name)).status is EntryStatus.DOWNLOADED
    with (disk / "theirs").open("wb") as file:
        file.write(bytes(free_bytes(disk) - KEEP_FREE_BYTES // 2))
    run = await mx.services.eviction.evict(trigger="interval")
    assert [victim.key.name for victim in run.plan.victims] == ["org/a"]
    assert free_bytes(disk) >= KEEP_FREE_BYTES
    assert "min_free_space_bytes" in run.plan.victims[0].reason
