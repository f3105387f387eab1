"""A server's part of a pull without a server: the real services over a memory store, blocking."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from mx.core.source import (
    PeerRecord,
    PodReference,
    SourceEntry,
    SourceFilter,
    SourceIdentity,
    SourceSummary,
    WorkerKey,
    WorkerRecord,
    source_id,
)
from mx.core.transfer import TransferReport
from mx.errors import UnavailableError
from mx.ports import Clock
from mx.services.sources import SourcesService
from mx.services.transfers import TransfersService
from mx.store.memory import MemorySourceStore

T = TypeVar("T")


class InProcessRegistry:
    """What ``transfer`` asks of a server, answered by the real services in this process.

    ``down`` makes every call fail as an unreachable server does; ``forget`` loses all records
    as a flushed store does. Thread-safe, one call at a time: each has an event loop of its own, and
    the store behind them is made for one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.transfers = TransfersService(clock)
        self.down = False
        self.forget()

    def forget(self) -> None:
        self.sources = SourcesService(
            MemorySourceStore(), self._clock, heartbeat_timeout_s=90, gc_timeout_s=3600
        )

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        if self.down:
            call.close()
            raise UnavailableError("can't reach the server: it is down")
        with self._lock:
            return asyncio.run(call)

    def publish(
        self,
        identity: SourceIdentity,
        worker: WorkerRecord,
        *,
        worker_id: str,
        pod: PodReference = PodReference(),
    ) -> str:
        return self._run(self.sources.publish(identity, worker, worker_id=worker_id, pod=pod))

    def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        return self._run(self.sources.announce(key, peer))

    def update_status(self, key: WorkerKey, status: int, *, source_load: float | None = None) -> bool:
        return self._run(self.sources.update_status(key, status, source_load))

    def withdraw(self, key: WorkerKey) -> bool:
        return self._run(self.sources.withdraw(key))

    def find_peers(self, identity: SourceIdentity, *, worker_rank: int) -> tuple[SourceSummary, ...]:
        return self._run(self.sources.find_peers(source_id(identity), worker_rank))

    def get_source(self, source_id: str, worker_id: str) -> SourceEntry | None:
        return self._run(self.sources.get(source_id, worker_id))

    def list_sources(self) -> tuple[SourceSummary, ...]:
        return self._run(self.sources.list_sources(SourceFilter()))

    def report_transfer(self, report: TransferReport) -> None:
        if self.down:
            raise UnavailableError("can't reach the server: it is down")
        with self._lock:
            self.transfers.record(report)
