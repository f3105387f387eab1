"""Rules of sources: validation, time, freshness, reaping, outages."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mx.core.server_state import Reaped
from mx.core.source import (
    PeerRecord,
    PodReference,
    SourceFilter,
    SourceIdentity,
    SourceStatus,
    SourceSummary,
    WorkerKey,
    WorkerRecord,
    source_id,
)
from mx.errors import InvalidArgumentError, UnavailableError
from mx.services.sources import SourcesService
from mx.store.memory import MemorySourceStore
from mx.testing.clock import FakeClock
from mx.testing.outage import OutageStore
from mx.testing.samples import FULL_WORKER, IDENTITY, PEER

READY, STALE, INITIALIZING, UNKNOWN = (
    SourceStatus.READY,
    SourceStatus.STALE,
    SourceStatus.INITIALIZING,
    SourceStatus.UNKNOWN,
)
HEARTBEAT_TIMEOUT_S, GC_TIMEOUT_S = 90, 3600
KEY = WorkerKey(source_id(IDENTITY), "w0", 0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> OutageStore:
    return OutageStore(MemorySourceStore())


@pytest.fixture
def service(store: OutageStore, clock: FakeClock) -> SourcesService:
    return SourcesService(store, clock, heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S, gc_timeout_s=GC_TIMEOUT_S)


async def publish(
    service: SourcesService, worker_id: str = "w0", *, rank: int = 0, status: int = READY
) -> WorkerKey:
    worker = replace(FULL_WORKER, worker_rank=rank, status=status, updated_at_ms=0)
    return WorkerKey(await service.publish(IDENTITY, worker, worker_id=worker_id), worker_id, rank)


async def only(store: OutageStore) -> SourceSummary:
    (row,) = [row async for row in store.scan()]
    return row


async def ready(service: SourcesService, **conditions: Any) -> list[str]:
    return [row.worker_id for row in await service.list_sources(SourceFilter(status=READY, **conditions))]


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until it holds; at most ten seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


# publish


async def test_publish_answers_the_source_id_and_stamps_the_servers_time(
    service: SourcesService, clock: FakeClock
) -> None:
    pod = PodReference("p", "u", "n")
    worker = replace(FULL_WORKER, updated_at_ms=0)
    assert await service.publish(IDENTITY, worker, worker_id="w0", pod=pod) == source_id(IDENTITY)
    found = await service.get(source_id(IDENTITY), "w0")
    assert found is not None
    assert found.worker == replace(worker, updated_at_ms=clock.now_ms())
    assert (found.identity, found.pod, found.source_load) == (IDENTITY, pod, None)


async def test_problems_are_found_in_the_order_of_the_contract(service: SourcesService) -> None:
    nameless = SourceIdentity(model_name="")
    cases: list[tuple[SourceIdentity | None, WorkerRecord | None, str, str]] = [
        (None, None, "", "identity is missing"),
        (nameless, None, "", "identity.model_name is empty"),
        (IDENTITY, None, "", "worker_id is empty"),
        (IDENTITY, None, "w0", "worker is missing"),
    ]
    for identity, worker, worker_id, message in cases:
        with pytest.raises(InvalidArgumentError) as caught:
            await service.publish(identity, worker, worker_id=worker_id)
        assert caught.value.message == message


# heartbeats


async def test_a_heartbeat_of_an_unknown_worker_is_false(service: SourcesService) -> None:
    assert not await service.update_status(KEY, READY)
    key = await publish(service)
    assert not await service.update_status(replace(key, worker_rank=1), READY)
    assert not await service.update_status(replace(key, worker_id="w1"), READY)
    assert not await service.update_status(replace(key, source_id="0" * 16), READY)
    assert await service.update_status(key, UNKNOWN)


@pytest.mark.parametrize("status", [-1, 4, 1 << 31])
async def test_a_number_that_is_no_status_is_refused(service: SourcesService, status: int) -> None:
    key = await publish(service)
    with pytest.raises(InvalidArgumentError, match=f"status {status} is not one of 0 \\(UNKNOWN\\), 1"):
        await service.update_status(key, status)


@pytest.mark.parametrize("key", [replace(KEY, source_id=""), replace(KEY, worker_id="")])
async def test_empty_ids_are_refused(service: SourcesService, key: WorkerKey) -> None:
    for call in (service.update_status(key, READY), service.announce(key, PEER), service.withdraw(key)):
        with pytest.raises(InvalidArgumentError, match="id is empty"):
            await call
    assert await service.get(key.source_id, key.worker_id) is None


@pytest.mark.parametrize(
    ("sent", "kept"), [(0.0, 0.0), (0.75, 0.75), (None, None), (math.nan, None), (math.inf, None)]
)
async def test_an_unknown_load_is_never_a_number(
    service: SourcesService, store: OutageStore, sent: float | None, kept: float | None
) -> None:
    key = await publish(service)
    await service.update_status(key, READY, 0.5)
    await service.update_status(key, READY, sent)
    assert (await only(store)).source_load == kept


async def test_a_peer_without_endpoint_is_refused(service: SourcesService) -> None:
    key = await publish(service)
    with pytest.raises(InvalidArgumentError, match=r"peer\.endpoint is empty"):
        await service.announce(key, PeerRecord(endpoint="", generation="g"))
    assert await service.announce(key, PEER)
    assert not await service.announce(replace(key, worker_id="other"), PEER)


# listings


async def test_ready_is_hidden_after_the_timeout_and_back_with_a_heartbeat(
    service: SourcesService, clock: FakeClock
) -> None:
    key = await publish(service)
    clock.advance(HEARTBEAT_TIMEOUT_S)
    assert await ready(service) == ["w0"]
    clock.advance(0.001)
    assert await ready(service) == []
    assert await service.find_peers(key.source_id, 0) == ()
    assert len(await service.list_sources(SourceFilter())) == 1
    assert await service.update_status(key, READY)
    assert await ready(service) == ["w0"]


async def test_the_limit_counts_fresh_rows_only(service: SourcesService, clock: FakeClock) -> None:
    await publish(service, "old")
    clock.advance(60)
    await publish(service, "new")
    clock.advance(60)
    assert await ready(service, limit=1) == ["new"]
    assert await ready(service, limit=2) == ["new"]


async def test_a_status_number_without_meaning_filters_nothing(
    service: SourcesService, clock: FakeClock
) -> None:
    await publish(service, "a")
    await publish(service, "b", status=INITIALIZING)
    clock.advance(1000)
    for number in (-1, 4, 99):
        assert len(await service.list_sources(SourceFilter(status=number))) == 2
        assert len(await service.list_sources(SourceFilter(status=number, worker_rank=3))) == 0


async def test_find_peers_wants_the_rank_ready_and_fresh(service: SourcesService) -> None:
    key = await publish(service, "a")
    await service.announce(key, PEER)
    await publish(service, "published-client")
    await publish(service, "other-rank", rank=1)
    await publish(service, "loading", status=INITIALIZING)
    rows = await service.find_peers(key.source_id, 0)
    assert {row.worker_id: row.peer for row in rows} == {"a": PEER, "published-client": None}
    assert await service.find_peers("0" * 16, 0) == ()


async def test_counts_name_every_status(service: SourcesService) -> None:
    assert await service.counts() == {"unknown": 0, "initializing": 0, "ready": 0, "stale": 0}
    for number, status in enumerate((READY, READY, UNKNOWN, 17)):
        await publish(service, f"w{number}", status=status)
    assert await service.counts() == {"unknown": 1, "initializing": 0, "ready": 2, "stale": 0, "17": 1}


async def test_withdraw_removes_at_once(service: SourcesService) -> None:
    key = await publish(service)
    assert await service.withdraw(key)
    assert not await service.withdraw(key)
    assert await service.get(key.source_id, "w0") is None


# the reaper


@pytest.mark.parametrize("status", [READY, INITIALIZING, UNKNOWN, 17])
async def test_silence_makes_stale_then_removes(
    service: SourcesService, store: OutageStore, clock: FakeClock, status: int
) -> None:
    key = await publish(service, status=status)
    clock.advance(HEARTBEAT_TIMEOUT_S)
    assert await service.reap_once() == Reaped(seen=1)
    clock.advance(1)
    assert await service.reap_once() == Reaped(seen=1, marked=(key,))
    row = await only(store)
    assert (row.status, row.updated_at_ms) == (STALE, clock.now_ms())
    clock.advance(GC_TIMEOUT_S)
    assert await service.reap_once() == Reaped(seen=1)
    clock.advance(1)
    assert await service.reap_once() == Reaped(seen=1, removed=(key,))
    assert await service.reap_once() == Reaped(seen=0)


async def test_a_stale_worker_comes_back_and_starts_anew(
    service: SourcesService, store: OutageStore, clock: FakeClock
) -> None:
    key = await publish(service)
    clock.advance(HEARTBEAT_TIMEOUT_S + 1)
    await service.reap_once()
    clock.advance(GC_TIMEOUT_S - 1)
    assert await service.update_status(key, READY)
    assert await ready(service) == ["w0"]
    clock.advance(HEARTBEAT_TIMEOUT_S)
    assert await service.reap_once() == Reaped(seen=1)


async def test_a_worker_that_called_itself_stale_is_removed_in_time(
    service: SourcesService, clock: FakeClock
) -> None:
    key = await publish(service)
    await service.update_status(key, STALE)
    clock.advance(GC_TIMEOUT_S + 1)
    assert (await service.reap_once()).removed == (key,)


class HeartbeatDuringScan(OutageStore):
    """Between what the reaper saw and what it does, the worker speaks."""

    def __init__(self, store: MemorySourceStore, now_ms: Callable[[], int]) -> None:
        super().__init__(store)
        self._now_ms = now_ms

    async def mark_stale(self, key: WorkerKey, *, observed_ms: int, now_ms: int) -> bool:
        await self.update_status(key, status=READY, source_load=None, now_ms=self._now_ms())
        return await super().mark_stale(key, observed_ms=observed_ms, now_ms=now_ms)

    async def remove(self, key: WorkerKey, *, observed_ms: int | None = None) -> bool:
        await self.update_status(key, status=READY, source_load=None, now_ms=self._now_ms())
        return await super().remove(key, observed_ms=observed_ms)


async def test_a_heartbeat_in_between_wins(clock: FakeClock) -> None:
    store = HeartbeatDuringScan(MemorySourceStore(), clock.now_ms)
    service = SourcesService(store, clock, heartbeat_timeout_s=90, gc_timeout_s=3600)
    key = await publish(service)
    clock.advance(91)
    assert await service.reap_once() == Reaped(seen=1)
    assert (await only(store)).status == READY
    await service.update_status(key, STALE)
    clock.advance(3601)
    assert await service.reap_once() == Reaped(seen=1)
    assert (await only(store)).status == READY


async def test_a_clock_set_back_harms_nobody(service: SourcesService, clock: FakeClock) -> None:
    await publish(service)
    clock.set_back(7200)
    assert await service.reap_once() == Reaped(seen=1)
    assert await ready(service) == ["w0"]


async def test_an_outage_is_unavailable_never_unknown(service: SourcesService, store: OutageStore) -> None:
    key = await publish(service)
    store.down = True
    calls = (
        publish(service),
        service.update_status(key, READY),
        service.announce(key, PEER),
        service.list_sources(SourceFilter()),
        service.find_peers(key.source_id, 0),
        service.get(key.source_id, "w0"),
        service.withdraw(key),
        service.counts(),
        service.reap_once(),
    )
    for call in calls:
        with pytest.raises(UnavailableError):
            await call


async def test_the_reaper_scans_at_start_and_outlives_an_outage(
    service: SourcesService, store: OutageStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    key = await publish(service)
    clock.advance(HEARTBEAT_TIMEOUT_S + 1)
    store.down = True
    reaper = asyncio.ensure_future(service.run_reaper(0.001))
    await until(lambda: store.refused > 2)
    assert caplog.records[0].getMessage() == "reaper pass failed"
    store.down = False
    await until(lambda: any(record.getMessage() == "source went stale" for record in caplog.records))
    fields = caplog.records[-1].__dict__["fields"]
    assert fields == {"source_id": key.source_id, "worker_id": "w0", "worker_rank": 0}
    reaper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reaper


async def test_the_first_scan_does_not_wait_for_the_interval(
    service: SourcesService, store: OutageStore, clock: FakeClock
) -> None:
    await publish(service)
    clock.advance(HEARTBEAT_TIMEOUT_S + 1)
    reaper = asyncio.ensure_future(service.run_reaper(3600))
    async with asyncio.timeout(10):
        while (await only(store)).status != STALE:
            await asyncio.sleep(0)
    reaper.cancel()
