"""From settings to opened services: the only module that names concrete adapters.

An adapter's module is imported when it is chosen, so that nobody pays for the others.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mx.core.eviction import EvictionPolicy
from mx.core.model import ProviderName
from mx.core.server_state import SettingRow
from mx.errors import MxError
from mx.logs import event_log
from mx.ports import Clock, Duties, EntryCache, ModelStore, Providers, SourceStore, Tally
from mx.services.downloads import DownloadRules
from mx.services.eviction import EvictionService
from mx.services.feed_service import FeedService
from mx.services.feed_tally import FeedTally
from mx.services.inspection import Inspection
from mx.services.jobs import JobRules
from mx.services.models import ModelsRules, ModelsService
from mx.services.shared_work import SharedWork
from mx.services.sources import SourcesService
from mx.services.touches import TouchBatch
from mx.services.transfers import TransfersService
from mx.wiring_stores import Backend, close_backends, events_of, models_backend, open_backends

if TYPE_CHECKING:
    from mx.config import Settings
    from mx.providers.cache import DiskCache

log = event_log(__name__)


class SystemClock:
    """The machine's clock. ``now_ms`` never goes back within a process.

    A clock set back would otherwise make stores ignore every heartbeat as older than the last.
    """

    def __init__(self) -> None:
        self._last_ms = 0

    def now_ms(self) -> int:
        self._last_ms = max(self._last_ms, time.time_ns() // 1_000_000)
        return self._last_ms

    def monotonic_s(self) -> float:
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a face needs, opened. Valid inside ``open_services`` only."""

    sources: SourcesService
    transfers: TransfersService
    store: SourceStore
    store_backend: str
    models_store: ModelStore
    models: ModelsService
    eviction: EvictionService
    cache: EntryCache
    clock: Clock
    feed: FeedService
    inspection: Inspection
    setting_rows: tuple[SettingRow, ...] = ()


@asynccontextmanager
async def open_services(
    settings: Settings, *, clock: Clock | None = None, tally: Tally | None = None
) -> AsyncIterator[Services]:
    """Open the stores, the cache and the providers that settings name, and keep them in order.

    While the body runs: the reaper, reconciliation of the cache, eviction. Raises SettingsError for a
    backend this version does not have, and what the store's ``open`` raises. A cache directory that
    can't be used is logged, and asking for models says so. The body's own exception leaves as it is,
    not wrapped in a group. ``tally`` keeps the figures of all services.
    """
    owner = owner_name(settings)
    counted = FeedTally(tally)
    of_sources, of_models = await open_backends(settings, SystemClock())
    clock = clock or of_sources.clock or of_models.clock or SystemClock()
    failure: Exception | None = None
    try:
        sources = SourcesService(
            of_sources.sources,
            clock,
            heartbeat_timeout_s=settings.sources.heartbeat_timeout_s,
            gc_timeout_s=settings.sources.gc_timeout_s,
            tally=counted,
            shared=SharedWork(of_sources.duties, clock, owner=owner),
        )
        transfers = TransfersService(clock)
        async with (
            _open_models(settings, of_models, clock, counted, owner=owner) as (models, eviction, cache),
            asyncio.TaskGroup() as tasks,
            FeedService(
                sources=of_sources.sources,
                models_store=of_models.models,
                models=models,
                eviction=eviction,
                transfers=transfers,
                cache=cache,
                events=events_of(of_sources, of_models),
                clock=clock,
                name=owner.rpartition(":")[0],
                owner=owner,
            ) as feed,
        ):
            counted.heard = feed.counted
            loops = [
                tasks.create_task(
                    sources.run_reaper(settings.sources.reaper_interval_s), name="source reaper"
                ),
                tasks.create_task(_keep_cache(settings, models, eviction), name="cache upkeep"),
            ]
            loops += [
                tasks.create_task(backend.upkeep(), name="store upkeep")
                for backend in dict.fromkeys((of_sources, of_models))
                if backend.upkeep is not None
            ]
            try:
                yield Services(
                    sources=sources,
                    transfers=transfers,
                    store=of_sources.sources,
                    store_backend=settings.metadata.backend,
                    models_store=of_models.models,
                    models=models,
                    eviction=eviction,
                    cache=cache,
                    clock=clock,
                    feed=feed,
                    inspection=Inspection(of_sources.view, of_models.view),
                    setting_rows=setting_rows_of(settings),
                )
            except Exception as error:  # noqa: BLE001  # raised again below, outside the group
                failure = error
            finally:
                for task in loops:
                    task.cancel()
    finally:
        await close_backends(of_models, of_sources)
    if failure is not None:
        raise failure


def owner_name(settings: Settings) -> str:
    """The owner of this process's claims for its whole life, in records and in messages."""
    return f"{settings.pod.name or socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


def eviction_policy(settings: Settings) -> EvictionPolicy:
    """The limits that a server's cache has."""
    wanted = settings.cache.eviction.policy
    return EvictionPolicy(
        unused_threshold_s=wanted.unused_threshold_s,
        max_models=wanted.max_models,
        max_size_bytes=settings.cache.max_size_bytes,
        min_free_space_bytes=wanted.min_free_space_bytes,
        high_water=wanted.high_water,
        low_water=wanted.low_water,
        grace_s=wanted.grace_time_s,
    )


def model_services(
    settings: Settings,
    store: ModelStore,
    cache: EntryCache,
    providers: Providers,
    clock: Clock,
    *,
    owner: str,
    policy: EvictionPolicy,
    evicts: bool,
    duties: Duties | None = None,
    tally: Tally | None = None,
) -> tuple[ModelsService, EvictionService]:
    """The services of models as settings want them; enter the first one before use.

    ``evicts``: whether anything goes that nobody asked to go.
    """
    shared = SharedWork(duties, clock, owner=owner)
    touches = TouchBatch(store, clock)
    eviction = EvictionService(
        store,
        cache,
        clock,
        policy=policy,
        owner=owner,
        touches=touches,
        enabled=evicts,
        tally=tally,
        shared=shared,
    )
    rules = ModelsRules(
        job=JobRules(download=DownloadRules(parallel_files=settings.cache.parallel_files)),
        stop_when_alone=settings.cache.stop_without_callers,
    )
    models = ModelsService(
        store,
        cache,
        clock,
        providers=providers,
        eviction=eviction,
        touches=touches,
        owner=owner,
        rules=rules,
        tally=tally,
        shared=shared,
    )
    return models, eviction


@asynccontextmanager
async def _open_models(
    settings: Settings, backend: Backend, clock: Clock, tally: Tally | None, *, owner: str
) -> AsyncIterator[tuple[ModelsService, EvictionService, EntryCache]]:
    from mx.providers.registry import open_providers

    cache = await asyncio.to_thread(_open_cache, settings, clock)
    providers = open_providers(settings)
    models, eviction = model_services(
        settings,
        backend.models,
        cache,
        providers,
        clock,
        owner=owner,
        policy=eviction_policy(settings),
        evicts=settings.cache.eviction.enabled,
        duties=backend.duties,
        tally=tally,
    )
    try:
        async with models:
            yield models, eviction, cache
    finally:
        await providers.close()


def open_client_cache(settings: Settings, provider: ProviderName) -> DiskCache:
    """The cache of this machine that a client's files of ``provider`` go to, without records.

    Raises an MxError when the directory can't be used.
    """
    from mx.providers.cache import open_cache

    root, only = client_root(settings, provider)
    return open_cache(root, now_ms=SystemClock().now_ms, only=only)


def client_root(settings: Settings, provider: ProviderName) -> tuple[Path, frozenset[str] | None]:
    """The root of that cache, and which names below it are the cache's (None: all).

    Where nobody named a root, models of NGC lie in the folder of NGC's own tools, whose parent is
    everybody's.
    """
    main = settings.client_cache_root("huggingface")
    if provider is not ProviderName.NGC:
        return main, None
    ngc = settings.client_cache_root("ngc")
    return (main, None) if ngc == main / "ngc" else (ngc.parent, frozenset({ngc.name}))


def _open_cache(settings: Settings, clock: Clock) -> EntryCache:
    from mx.providers.cache import open_cache
    from mx.providers.no_cache import NoCache
    from mx.store.whereabouts import leave_note

    root = Path(settings.cache.directory)
    backend = models_backend(settings)
    try:
        cache = open_cache(root, now_ms=clock.now_ms)
        leave_note(cache.root, backend=backend, path=settings.database.path if backend == "sqlite" else None)
        return cache
    except MxError as error:
        # Sources and transfers need no cache: a server for them alone must start all the same.
        log.error("no model cache", directory=str(root), error=str(error))
        return NoCache(root, error)


async def _keep_cache(settings: Settings, models: ModelsService, eviction: EvictionService) -> None:
    """Reconcile before the first eviction: records that were lost must be there to judge by."""
    looked = asyncio.Event()

    async def evict() -> None:
        await looked.wait()
        await eviction.run_interval(settings.cache.eviction.check_interval_s)

    async with asyncio.TaskGroup() as tasks:
        reconciling = models.run_reconcile(settings.cache.reconcile_interval_s, looked=looked.set)
        tasks.create_task(reconciling, name="reconcile")
        older = models.run_older(settings.cache.reconcile_interval_s)
        tasks.create_task(older, name="records of an older registry")
        if settings.cache.eviction.enabled:
            tasks.create_task(evict(), name="eviction")


def setting_rows_of(settings: Settings) -> tuple[SettingRow, ...]:
    """For people, secrets masked."""
    from mx.config.report import setting_rows

    return tuple(SettingRow(row.key, row.text, str(row.origin)) for row in setting_rows(settings))
