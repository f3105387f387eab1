"""A client whose server is a recording: what was watched then is told again, and nothing can be changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from mx.client.base import ApiReply, ServerHealth, ServerStatus
from mx.client.record import Recorded, read_recording
from mx.core.cache_view import CacheListing, CacheStats, EntryDetail, Removed
from mx.core.cached import CachedFile
from mx.core.eviction import EvictionPlan, EvictionRun, EvictionStep, KeepLimits, Shrink
from mx.core.feed import Event, EventKind, FeedPosition, FeedUpdate, FleetSnapshot
from mx.core.fleet import NOTHING_TOLD, Fleet, apply
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
    matches,
    newest_first,
    source_id,
)
from mx.core.transfer import TransferReport
from mx.core.verification import OnFault, VerifyStep
from mx.errors import PreconditionError


class ReplayClient:
    """``mx.client.base.Client`` over a recording.

    ``watch`` tells it at its own pace, ``speed`` times as fast (``math.inf``: at once), once for each
    caller; at the end it stays open (``stays``) like a server where nothing happens any more. Questions
    are answered with what the latest watch told so far, or the first snapshot before any. Whatever would
    change something, and what a recording does not hold, is a PreconditionError.
    """

    def __init__(
        self,
        path: Path,
        *,
        speed: float = 1.0,
        stays: bool = True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._speed = speed
        self._stays = stays
        self._sleep = sleep
        self._now_s = now_s
        self._fleet = NOTHING_TOLD

    async def watch(self, *, resume: FeedPosition | None = None) -> AsyncGenerator[FeedUpdate, None]:
        updates = read_recording(self._path)
        began_s: float | None = None
        fleet = NOTHING_TOLD
        while (told := await asyncio.to_thread(next, updates, None)) is not None:
            began_s = self._now_s() - told.at_s / self._speed if began_s is None else began_s
            if (wait_s := began_s + told.at_s / self._speed - self._now_s()) > 0:
                await self._sleep(wait_s)
            self._fleet = fleet = apply(fleet, told.update)
            yield told.update
        if self._stays:
            await asyncio.Event().wait()

    async def health(self) -> ServerHealth:
        status = await self.status()
        fleet = await self._known()
        uptime_s = max(0, fleet.now_ms - status.started_at_ms) // 1000
        return ServerHealth(version=status.version, status="ok", uptime_s=uptime_s)

    async def status(self) -> ServerStatus:
        server = (await self._known()).server
        assert server is not None  # a snapshot has one
        return server

    async def list_sources(
        self, query: SourceFilter, *, identity: SourceIdentity | None = None
    ) -> tuple[SourceSummary, ...]:
        wanted = None if identity is None else source_id(identity)
        rows = (
            row
            for row in (await self._known()).sources.values()
            if matches(row, query, fresh_after_ms=None) and wanted in (None, row.source_id)
        )
        return newest_first(rows, limit=query.limit)

    async def list_transfers(self, *, limit: int = 100) -> tuple[TransferReport, ...]:
        return (await self._known()).transfers[: limit or None]

    async def list_models(
        self, *, provider: ProviderName | None = None, name: str | None = None
    ) -> CacheListing:
        listing = (await self._known()).listing
        entries = (
            one
            for one in listing.entries
            if provider in (None, one.key.provider) and name in (None, one.key.name)
        )
        return replace(listing, entries=tuple(entries))

    async def cache_stats(self, *, runs: int = 5) -> CacheStats:
        stats = (await self._known()).cache
        return _absent("the state of a cache") if stats is None else stats

    async def list_events(
        self, *, limit: int = 100, kinds: Sequence[EventKind] = (), subject: str = ""
    ) -> tuple[Event, ...]:
        events = (await self._known()).events
        found = [one for one in events if (not kinds or one.kind in kinds) and subject in one.subject]
        return tuple(found[-limit:] if limit > 0 else found)

    async def close(self) -> None:
        return None

    async def _known(self) -> Fleet:
        if self._fleet.server is None:
            first = await asyncio.to_thread(_first_snapshot, self._path)
            if first is None:
                raise PreconditionError(f"{self._path} ends before its first snapshot")
            self._fleet = apply(self._fleet, first.update)
        return self._fleet

    # What a recording does not hold

    async def show_model(self, key: EntryKey) -> EntryDetail:
        return _absent("files of entries")

    async def get_source(self, source_id: str, worker_id: str) -> SourceEntry | None:
        return _absent("records of sources")

    async def find_peers(self, identity: SourceIdentity, *, worker_rank: int) -> tuple[SourceSummary, ...]:
        return _absent("peers to pull from")

    async def list_files(self, ref: ModelRef, *, weights: bool = True) -> tuple[CachedFile, ...]:
        return _absent("files of entries")

    async def plan_eviction(self, goal: KeepLimits | Shrink = KeepLimits()) -> EvictionPlan:
        return _absent("a plan of eviction")

    async def plan_removal(
        self,
        *,
        provider: ProviderName | None = None,
        name: str | None = None,
        commit: str | None = None,
        force: bool = False,
    ) -> EvictionPlan:
        return _absent("a plan of removal")

    async def backend_states(self) -> tuple[BackendState, ...]:
        return _absent("the state of a store")

    async def raw_source(self, key: WorkerKey) -> RawRecord:
        return _absent("raw records")

    async def raw_model(self, key: EntryKey) -> RawRecord:
        return _absent("raw records")

    async def list_settings(self) -> tuple[SettingRow, ...]:
        return _absent("settings")

    # What would change something

    async def send(self, action: str, *, payload: bytes | None = None) -> ApiReply:
        return _refuse()

    async def publish(
        self,
        identity: SourceIdentity,
        worker: WorkerRecord,
        *,
        worker_id: str,
        pod: PodReference = PodReference(),  # a frozen value
    ) -> str:
        return _refuse()

    async def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        return _refuse()

    async def update_status(self, key: WorkerKey, status: int, *, source_load: float | None = None) -> bool:
        return _refuse()

    async def withdraw(self, key: WorkerKey) -> bool:
        return _refuse()

    async def report_transfer(self, report: TransferReport) -> None:
        _refuse()

    async def ensure(
        self, ref: ModelRef, *, weights: bool = True, force: bool = False
    ) -> AsyncGenerator[EnsureUpdate, None]:
        async for update in _refused():
            yield update

    async def delete_model(self, provider: ProviderName, name: str) -> str:
        return _refuse()

    async def remove_model(
        self, provider: ProviderName, name: str, *, commit: str | None = None, force: bool = False
    ) -> Removed:
        return _refuse()

    async def pin_model(self, key: EntryKey, pin: Pin | None) -> None:
        _refuse()

    async def run_eviction(
        self, plan: EvictionPlan, *, told: Callable[[EvictionStep], None] | None = None
    ) -> EvictionRun:
        return _refuse()

    async def verify_models(
        self, keys: Sequence[EntryKey] | None = None, *, on_fault: OnFault = OnFault.REPORT
    ) -> AsyncGenerator[VerifyStep, None]:
        async for update in _refused():
            yield update

    async def mark_stale(self, key: WorkerKey) -> bool:
        return _refuse()

    async def reap_sources(self, *, dry_run: bool = False) -> Reaped:
        return _refuse()


def _first_snapshot(path: Path) -> Recorded | None:
    return next((one for one in read_recording(path) if isinstance(one.update, FleetSnapshot)), None)


def _refuse() -> NoReturn:
    raise PreconditionError("this is a recording: nothing in it can be changed", remedy="connect to a server")


async def _refused() -> AsyncGenerator[Any, None]:
    """As a stream: refused with the first question."""
    for question in (_refuse,):
        yield question()


def _absent(what: str) -> NoReturn:
    raise PreconditionError(f"a recording does not hold {what}", remedy="connect to a server")
