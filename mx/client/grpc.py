"""``Client`` over a gRPC connection, with asyncio."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING
from uuid import uuid4

import grpc
import grpc.aio

from mx.client import feed_operations, model_operations, operations
from mx.client.address import grpc_target
from mx.client.base import ApiReply, ServerHealth, ServerStatus
from mx.client.connection import (
    MAX_RETRIES,
    RETRY_DELAY_S,
    TIMEOUT_S,
    Connection,
    ended_early,
    failed,
)
from mx.client.operations import Call, NotOfferedError
from mx.client.retry import Attempts, usual
from mx.core.cache_view import CacheListing, CacheStats, EntryDetail, Removed
from mx.core.cached import CachedFile
from mx.core.eviction import EvictionPlan, EvictionRun, EvictionStep, KeepLimits, Shrink
from mx.core.feed import Event, EventKind, FeedPosition, FeedUpdate
from mx.core.model import EntryKey, ModelRef, Pin, ProviderName
from mx.core.progress import EnsureUpdate
from mx.core.server_state import BackendState, RawRecord, Reaped, SettingRow
from mx.core.source import (
    PeerRecord,
    PodReference,
    SourceEntry,
    SourceFilter,
    SourceIdentity,
    SourceSummary,
    WorkerKey,
    WorkerRecord,
)
from mx.core.transfer import TransferReport
from mx.core.verification import OnFault, VerifyStep
from mx.errors import MxError, UnavailableError
from mx.wire import cache_codec

if TYPE_CHECKING:
    from mx.client.sync import SyncClient


class GrpcClient:
    """``mx.client.base.Client``; connects with its first call, bound to that call's event loop.

    ``timeout_s`` bounds a call with all its retries (a publish: each of its three attempts).
    ``token`` gives the bearer token to send, or None; ``role`` WORKER says that a worker calls, for its
    own load and its own record. ``jitter`` (0 to 1) spreads the attempts of a watch.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        timeout_s: float = TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
        retry_delay_s: float = RETRY_DELAY_S,
        token: Callable[[], str | None] | None = None,
        role: str = "",
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._target = grpc_target(endpoint)
        self._timeout_s = timeout_s
        self._max_retries, self._retry_delay_s = max_retries, retry_delay_s
        self._token, self._role = token, role
        self._jitter = jitter
        self._link = Connection(
            self._target,
            timeout_s=timeout_s,
            rule=usual(max_retries, retry_delay_s),
            token=token,
            role=role,
        )

    @property
    def target(self) -> str:
        """host:port that calls go to."""
        return self._target

    def blocking(self) -> SyncClient:
        """A blocking client of the same server, over a connection of its own; close it."""
        from mx.client.sync import SyncClient  # it takes from here what both share

        return SyncClient(
            self._target,
            timeout_s=self._timeout_s,
            max_retries=self._max_retries,
            retry_delay_s=self._retry_delay_s,
            token=self._token,
            role=self._role,
        )

    async def health(self) -> ServerHealth:
        return await self._link.run(operations.get_health())

    async def send(self, action: str, *, payload: bytes | None = None) -> ApiReply:
        return await self._link.run(operations.send(action, payload, uuid4().hex))

    async def status(self) -> ServerStatus:
        return await self._link.run(operations.get_status())

    async def publish(
        self,
        identity: SourceIdentity,
        worker: WorkerRecord,
        *,
        worker_id: str,
        pod: PodReference = PodReference(),
    ) -> str:
        return await self._link.run(operations.publish(identity, worker, worker_id=worker_id, pod=pod))

    async def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        return await self._link.run(operations.announce(key, peer))

    async def update_status(self, key: WorkerKey, status: int, *, source_load: float | None = None) -> bool:
        return await self._link.run(operations.update_status(key, status, source_load=source_load))

    async def list_sources(
        self, query: SourceFilter, *, identity: SourceIdentity | None = None
    ) -> tuple[SourceSummary, ...]:
        return await self._link.run(operations.list_sources(query, identity))

    async def find_peers(self, identity: SourceIdentity, *, worker_rank: int) -> tuple[SourceSummary, ...]:
        return await self._link.run(operations.find_peers(identity, worker_rank))

    async def get_source(self, source_id: str, worker_id: str) -> SourceEntry | None:
        return await self._link.run(operations.get_source(source_id, worker_id))

    async def withdraw(self, key: WorkerKey) -> bool:
        return await self._link.run(operations.withdraw(key))

    async def report_transfer(self, report: TransferReport) -> None:
        await self._link.run(operations.report_transfer(report))

    async def list_transfers(self, *, limit: int = 100) -> tuple[TransferReport, ...]:
        return await self._link.run(operations.list_transfers(limit))

    async def ensure(
        self, ref: ModelRef, *, weights: bool = True, force: bool = False
    ) -> AsyncGenerator[EnsureUpdate, None]:
        call = model_operations.ensure(ref, weights=weights, force=force)
        attempts = Attempts(self._link.rule, timeout_s=math.inf, begin_s=time.monotonic())
        while True:
            try:
                async for message in self._link.open(call):
                    update = model_operations.read_update(message, weights=weights)
                    attempts = Attempts(self._link.rule, timeout_s=math.inf, begin_s=time.monotonic())
                    yield update
                    if update.is_last:
                        return
                failure: MxError = ended_early(ref, self._target)
            except grpc.RpcError as error:
                failure = failed(error, call, self._target)
            except grpc.aio.UsageError:
                failure = UnavailableError(f"the connection to {self._target} was closed")
            if isinstance(failure, NotOfferedError) and call.service == operations.ADMIN:
                call = published_ensure(ref, weights=weights, refused=failure)
                continue
            pause_s = attempts.pause_s(failure, time.monotonic())
            if pause_s is None or self._link.closed:
                raise failure
            await asyncio.sleep(pause_s)

    async def list_files(self, ref: ModelRef, *, weights: bool = True) -> tuple[CachedFile, ...]:
        return await self._link.run(model_operations.list_files(ref, weights=weights))

    async def delete_model(self, provider: ProviderName, name: str) -> str:
        return await self._link.run(model_operations.delete_model(provider, name))

    async def list_models(
        self, *, provider: ProviderName | None = None, name: str | None = None
    ) -> CacheListing:
        return await self._link.run(model_operations.list_models(provider, name))

    async def show_model(self, key: EntryKey) -> EntryDetail:
        return await self._link.run(model_operations.show_model(key))

    async def remove_model(
        self, provider: ProviderName, name: str, *, commit: str | None = None, force: bool = False
    ) -> Removed:
        call = model_operations.remove_model(provider, name, commit=commit, force=force)
        async with aclosing(self._link.follow(call)) as updates:
            async for update in updates:
                if (removed := model_operations.read_removal(update)) is not None:
                    return removed
        raise ended_early(name, self._target)

    async def plan_removal(
        self,
        *,
        provider: ProviderName | None = None,
        name: str | None = None,
        commit: str | None = None,
        force: bool = False,
    ) -> EvictionPlan:
        return await self._link.run(model_operations.plan_removal(provider, name, commit=commit, force=force))

    async def pin_model(self, key: EntryKey, pin: Pin | None) -> None:
        await self._link.run(model_operations.pin_model(key, pin))

    async def plan_eviction(self, goal: KeepLimits | Shrink = KeepLimits()) -> EvictionPlan:
        return await self._link.run(model_operations.plan_eviction(goal))

    async def run_eviction(
        self, plan: EvictionPlan, *, told: Callable[[EvictionStep], None] | None = None
    ) -> EvictionRun:
        async with aclosing(self._link.follow(model_operations.run_eviction(plan))) as updates:
            async for update in updates:
                if (run := model_operations.read_run(update, told)) is not None:
                    return run
        raise ended_early("the eviction", self._target)

    async def verify_models(
        self, keys: Sequence[EntryKey] | None = None, *, on_fault: OnFault = OnFault.REPORT
    ) -> AsyncGenerator[VerifyStep, None]:
        async with aclosing(self._link.follow(model_operations.verify_models(keys, on_fault))) as updates:
            async for update in updates:
                yield cache_codec.decode_verify_step(update)

    async def cache_stats(self, *, runs: int = 5) -> CacheStats:
        return await self._link.run(model_operations.cache_stats(runs))

    async def watch(self, *, resume: FeedPosition | None = None) -> AsyncGenerator[FeedUpdate, None]:
        watching = feed_operations.Watching(resume, jitter=self._jitter)
        while True:
            failure: MxError = ended_early("the fleet", self._target)
            try:
                stream = self._link.follow(watching.call(), silence_s=feed_operations.SILENCE_S)
                async with aclosing(stream) as messages:
                    async for message in messages:
                        if (update := watching.take(message)) is not None:
                            yield update
            except MxError as error:
                failure = error
            if self._link.closed:
                raise failure
            lost = watching.lost(failure)
            yield lost
            await asyncio.sleep(lost.retry_in_s)

    async def list_events(
        self, *, limit: int = 100, kinds: Sequence[EventKind] = (), subject: str = ""
    ) -> tuple[Event, ...]:
        return await self._link.run(feed_operations.list_events(limit, kinds, subject))

    async def backend_states(self) -> tuple[BackendState, ...]:
        return await self._link.run(feed_operations.backend_states())

    async def raw_source(self, key: WorkerKey) -> RawRecord:
        return await self._link.run(feed_operations.raw_source(key))

    async def raw_model(self, key: EntryKey) -> RawRecord:
        return await self._link.run(feed_operations.raw_model(key))

    async def mark_stale(self, key: WorkerKey) -> bool:
        return await self._link.run(feed_operations.mark_stale(key))

    async def reap_sources(self, *, dry_run: bool = False) -> Reaped:
        return await self._link.run(feed_operations.reap_sources(dry_run=dry_run))

    async def list_settings(self) -> tuple[SettingRow, ...]:
        return await self._link.run(feed_operations.list_settings())

    async def close(self) -> None:
        await self._link.close()


def published_ensure(ref: ModelRef, *, weights: bool, refused: NotOfferedError) -> Call:
    """The published call in the place of mx's own, where it can say the same."""
    if ref.provider is ProviderName.LOCAL:
        raise refused
    return model_operations.ensure_published(ref, weights=weights)
