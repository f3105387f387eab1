"""The client over services in this process: for tests and for faces that bring their own server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from mx import __version__
from mx.client.base import ApiReply, ServerHealth, ServerStatus
from mx.core.cache_view import CacheListing, CacheStats, EntryDetail, Removed
from mx.core.cached import CachedFile
from mx.core.eviction import EvictionPlan, EvictionRun, EvictionStep, KeepLimits, Shrink
from mx.core.feed import Event, EventKind, FeedPosition, FeedUpdate
from mx.core.model import EntryKey, ModelRef, Pin, ProviderName, is_weight_file
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
    source_id,
)
from mx.core.transfer import TransferReport
from mx.core.verification import OnFault, VerifyStep
from mx.errors import MxError
from mx.services.listing import cache_stats, list_cache, show_entry
from mx.services.removal import plan_removals
from mx.services.verify import Verification
from mx.wiring import Services

_LISTEN = "embedded"


class EmbeddedClient:
    """``mx.client.base.Client`` without a network. Answers what a server with these services would.

    The services stay their opener's: ``close`` leaves them open.
    """

    def __init__(self, services: Services, *, settings_file: str = "") -> None:
        self._services = services
        self._settings_file = settings_file
        self._started_at_ms = services.clock.now_ms()
        self._started_s = services.clock.monotonic_s()

    async def health(self) -> ServerHealth:
        uptime_s = int(self._services.clock.monotonic_s() - self._started_s)
        ok, _ = await self._check_store()
        return ServerHealth(
            version=__version__, status="ok" if ok else "store unreachable", uptime_s=uptime_s
        )

    async def send(self, action: str, *, payload: bytes | None = None) -> ApiReply:
        if action == "ping":
            return ApiReply(success=True, data=json.dumps({"message": "pong"}).encode(), error=None)
        return ApiReply(success=False, data=None, error=f"unknown action: {action}")

    async def status(self) -> ServerStatus:
        ok, latency_ms = await self._check_store()
        return ServerStatus(
            version=__version__,
            started_at_ms=self._started_at_ms,
            ready=ok,
            draining=False,
            store_backend=self._services.store_backend,
            store_ok=ok,
            store_latency_ms=latency_ms,
            sources_by_status=await self._services.sources.counts() if ok else {},
            listen=_LISTEN,
            settings_file=self._settings_file,
        )

    async def publish(
        self,
        identity: SourceIdentity,
        worker: WorkerRecord,
        *,
        worker_id: str,
        pod: PodReference = PodReference(),  # a frozen value
    ) -> str:
        return await self._services.sources.publish(identity, worker, worker_id=worker_id, pod=pod)

    async def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        return await self._services.sources.announce(key, peer)

    async def update_status(self, key: WorkerKey, status: int, *, source_load: float | None = None) -> bool:
        return await self._services.sources.update_status(key, status, source_load)

    async def list_sources(
        self, query: SourceFilter, *, identity: SourceIdentity | None = None
    ) -> tuple[SourceSummary, ...]:
        # An identity without a model name restricts nothing (wire contract, section 7).
        if identity is not None and identity.model_name:
            query = replace(query, source_id=source_id(identity))
        return await self._services.sources.list_sources(query)

    async def find_peers(self, identity: SourceIdentity, *, worker_rank: int) -> tuple[SourceSummary, ...]:
        return await self._services.sources.find_peers(source_id(identity), worker_rank)

    async def get_source(self, source_id: str, worker_id: str) -> SourceEntry | None:
        return await self._services.sources.get(source_id, worker_id)

    async def withdraw(self, key: WorkerKey) -> bool:
        return await self._services.sources.withdraw(key)

    async def report_transfer(self, report: TransferReport) -> None:
        self._services.transfers.record(report)

    async def list_transfers(self, *, limit: int = 100) -> tuple[TransferReport, ...]:
        return self._services.transfers.recent(limit)

    def ensure(
        self, ref: ModelRef, *, weights: bool = True, force: bool = False
    ) -> AsyncGenerator[EnsureUpdate, None]:
        return self._services.models.ensure(ref, weights=weights, force=force)

    async def list_files(self, ref: ModelRef, *, weights: bool = True) -> tuple[CachedFile, ...]:
        # Without weights a full entry answers too, less its weights.
        entry = await self._services.models.find(ref, weights=True if weights else None)
        kept = (file for file in entry.files if weights or not is_weight_file(file.path))
        return tuple(CachedFile(file.path, file.size_bytes) for file in kept)

    async def delete_model(self, provider: ProviderName, name: str) -> str:
        report = await self._services.models.forget(provider, name)
        return f"{len(report.records)} records of {name} dropped; files stay"

    async def list_models(
        self, *, provider: ProviderName | None = None, name: str | None = None
    ) -> CacheListing:
        of = self._services
        return await list_cache(of.models, of.eviction, of.cache, of.clock, provider=provider, name=name)

    async def remove_model(
        self, provider: ProviderName, name: str, *, commit: str | None = None, force: bool = False
    ) -> Removed:
        report = await self._services.models.delete(provider, name, commit=commit, force=force)
        return Removed(report.records, report.bytes_freed)

    async def pin_model(self, key: EntryKey, pin: Pin | None) -> None:
        await self._services.models.pin(key, pin)

    async def plan_eviction(self, goal: KeepLimits | Shrink = KeepLimits()) -> EvictionPlan:
        return await self._services.eviction.plan(goal)

    async def run_eviction(
        self, plan: EvictionPlan, *, told: Callable[[EvictionStep], None] | None = None
    ) -> EvictionRun:
        return await self._services.eviction.execute(plan, told=told or (lambda _: None))

    async def show_model(self, key: EntryKey) -> EntryDetail:
        of = self._services
        return await show_entry(of.models, of.cache, of.clock, key)

    async def plan_removal(
        self,
        *,
        provider: ProviderName | None = None,
        name: str | None = None,
        commit: str | None = None,
        force: bool = False,
    ) -> EvictionPlan:
        of = self._services
        return await plan_removals(
            of.models_store, of.cache, of.clock, provider=provider, name=name, commit=commit, force=force
        )

    def verify_models(
        self, keys: Sequence[EntryKey] | None = None, *, on_fault: OnFault = OnFault.REPORT
    ) -> AsyncGenerator[VerifyStep, None]:
        of = self._services
        run = Verification(of.models, of.models_store, of.cache, of.clock, on_fault=on_fault)
        return run.run(keys)

    async def cache_stats(self, *, runs: int = 5) -> CacheStats:
        of = self._services
        return await cache_stats(of.models, of.eviction, of.cache, of.clock, runs=runs)

    async def watch(self, *, resume: FeedPosition | None = None) -> AsyncGenerator[FeedUpdate, None]:
        feed = self._services.feed
        feed.tell_status(await self.status())
        keeping = asyncio.create_task(
            feed.keep_status(self.status, changed=asyncio.Event().wait), name="status for the feed"
        )
        try:
            async with aclosing(feed.watch(resume=resume)) as updates:
                async for update in updates:
                    yield update
        finally:
            keeping.cancel()

    async def list_events(
        self, *, limit: int = 100, kinds: Sequence[EventKind] = (), subject: str = ""
    ) -> tuple[Event, ...]:
        return await self._services.feed.list_events(limit=limit, kinds=kinds, subject=subject)

    async def backend_states(self) -> tuple[BackendState, ...]:
        return await self._services.inspection.states()

    async def raw_source(self, key: WorkerKey) -> RawRecord:
        return await self._services.inspection.raw_source(key)

    async def raw_model(self, key: EntryKey) -> RawRecord:
        return await self._services.inspection.raw_model(key)

    async def mark_stale(self, key: WorkerKey) -> bool:
        return await self._services.sources.mark_stale(key)

    async def reap_sources(self, *, dry_run: bool = False) -> Reaped:
        return await self._services.sources.reap_once(dry_run=dry_run)

    async def list_settings(self) -> tuple[SettingRow, ...]:
        return self._services.setting_rows

    async def close(self) -> None:
        return None

    async def _check_store(self) -> tuple[bool, float]:
        """Whether the store answers, and in how many milliseconds."""
        begin_s = self._services.clock.monotonic_s()
        try:
            await self._services.store.check()
            ok = True
        except MxError:
            ok = False
        return ok, (self._services.clock.monotonic_s() - begin_s) * 1000
