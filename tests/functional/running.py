"""A real server on a free loopback port, over real services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio

from mx.ports import SourceStore
from mx.server.app import RunningServer, running_server
from mx.services.inspection import Inspection
from mx.services.sources import SourcesService
from mx.services.transfers import TransfersService
from mx.store.memory import MemorySourceStore
from mx.testing.clock import FakeClock
from mx.testing.folder_cache import FolderCache
from mx.testing.live_feed import live_feed, no_inspection
from mx.testing.model_services import model_bench
from mx.testing.outage import OutageStore
from mx.wire.v1 import p2p
from mx.wiring import Services

HEARTBEAT_TIMEOUT_S = 90.0
GC_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Running:
    """What a test needs of a server; ``store`` can be taken down, ``clock`` moves when told to."""

    server: RunningServer
    services: Services
    store: OutageStore
    clock: FakeClock
    channel: grpc.aio.Channel
    p2p: p2p.P2pServiceAsyncStub


@asynccontextmanager
async def running(
    store: SourceStore | None = None,
    *,
    host: str = "127.0.0.1",
    cache: FolderCache | None = None,
    inspection: Inspection | None = None,
    **options: Any,
) -> AsyncIterator[Running]:
    """``options`` are those of ``running_server``."""
    clock = FakeClock()
    outage = OutageStore(store or MemorySourceStore())
    bench = model_bench(clock, cache=cache)
    transfers = TransfersService(clock)
    feed = live_feed(
        outage,
        models_store=bench.store,
        models=bench.models,
        eviction=bench.eviction,
        transfers=transfers,
        cache=bench.cache,
        clock=clock,
    )
    services = Services(
        sources=SourcesService(
            outage, clock, heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S, gc_timeout_s=GC_TIMEOUT_S
        ),
        transfers=transfers,
        store=outage,
        store_backend="memory",
        models_store=bench.store,
        models=bench.models,
        eviction=bench.eviction,
        cache=bench.cache,
        clock=clock,
        feed=feed,
        inspection=no_inspection() if inspection is None else inspection,
    )
    async with (
        bench.models,
        feed,
        running_server(services, host=host, port=0, **options) as server,
        grpc.aio.insecure_channel(server.listen) as channel,
    ):
        yield Running(server, services, outage, clock, channel, p2p.P2pServiceAsyncStub(channel))
