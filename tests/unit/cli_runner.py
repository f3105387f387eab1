"""Run a command line in this process, against services in this process."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass
from typing import Any

from mx.cli.app import run
from mx.cli.options import Invocation
from mx.cli.output import Output
from mx.client.base import Client
from mx.client.embedded import EmbeddedClient
from mx.config import Settings
from mx.core.source import SourceEntry
from mx.services.sources import SourcesService
from mx.services.transfers import TransfersService
from mx.store.memory import MemorySourceStore
from mx.testing.clock import FakeClock
from mx.testing.live_feed import live_feed, no_inspection
from mx.testing.model_services import model_bench
from mx.wiring import Services


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run left behind; ``settings`` are those that a client was opened with."""

    code: int
    out: str
    err: str
    settings: Settings | None

    @property
    def json(self) -> Any:
        """The one document on stdout. Raises when there is none or more than one."""
        return json.loads(self.out)


class Bench:
    """A fake clock, a memory store and a client over them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        store = MemorySourceStore()
        bench = model_bench(self.clock)
        transfers = TransfersService(self.clock)
        self.services = Services(
            sources=SourcesService(store, self.clock, heartbeat_timeout_s=90, gc_timeout_s=3600),
            transfers=transfers,
            store=store,
            store_backend="memory",
            models_store=bench.store,
            models=bench.models,
            eviction=bench.eviction,
            cache=bench.cache,
            clock=self.clock,
            feed=live_feed(
                store,
                models_store=bench.store,
                models=bench.models,
                eviction=bench.eviction,
                transfers=transfers,
                cache=bench.cache,
                clock=self.clock,
            ),
            inspection=no_inspection(),
        )
        self.client: Client = EmbeddedClient(self.services)

    def publish(self, entry: SourceEntry) -> str:
        """Publish the record as a worker does; the source id."""

        async def steps() -> str:
            client = self.client
            found = await client.publish(
                entry.identity, entry.worker, worker_id=entry.worker_id, pod=entry.pod
            )
            await client.update_status(entry.key, entry.worker.status, source_load=entry.source_load)
            if entry.peer is not None:
                await client.announce(entry.key, entry.peer)
            return found

        return asyncio.run(steps())

    def mx(self, *args: str) -> Ran:
        """Run ``mx ARGS``."""
        stdout, stderr = io.StringIO(), io.StringIO()
        seen: list[Settings] = []

        def connect(settings: Settings) -> Client:
            seen.append(settings)
            return self.client

        invocation = Invocation(
            connect=connect,
            start_logs=lambda settings, stream: None,
            now=lambda: self.clock.now_ms() / 1000,
            out=Output(stdout=stdout, stderr=stderr),
        )
        code = run(args, invocation=invocation)
        return Ran(code, stdout.getvalue(), stderr.getvalue(), seen[-1] if seen else None)
