"""Opening the stores that settings name; with ``wiring`` the only module that names their adapters.

A store's module is imported when it is chosen, so that nobody pays for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mx.logs import event_log
from mx.ports import Clock, Duties, EventStore, ModelStore, SourceStore, StoreView

if TYPE_CHECKING:
    from mx.config import Settings

log = event_log(__name__)


def models_backend(settings: Settings) -> str:
    chosen = settings.database.backend
    return settings.metadata.backend if chosen == "auto" else chosen


@dataclass(frozen=True, slots=True, eq=False)
class Backend:
    """What one kind of store offers, opened. ``clock``: the store's own, where it has one.

    ``events`` None: it is no place for a history. ``upkeep`` runs until cancelled, beside the services.
    """

    sources: SourceStore
    models: ModelStore
    duties: Duties
    events: EventStore | None
    view: StoreView
    clock: Clock | None = None
    upkeep: Callable[[], Coroutine[None, None, NoReturn]] | None = None


async def open_backends(settings: Settings, clock: Clock) -> tuple[Backend, Backend]:
    """For sources and for models; the same one where both lie in one store. ``clock``: the machine's."""
    sources = settings.metadata.backend
    models = models_backend(settings)
    of_sources = await _open_backend(settings, sources, clock)
    if models == sources:
        return of_sources, of_sources
    try:
        return of_sources, await _open_backend(settings, models, clock)
    except BaseException:
        await close_backends(of_sources)
        raise


async def _open_backend(settings: Settings, name: str, clock: Clock) -> Backend:
    match name:
        case "memory":
            from mx.store.memory import MemorySourceStore
            from mx.store.memory_duties import MemoryDuties
            from mx.store.memory_models import MemoryModelStore
            from mx.store.memory_view import MemoryView

            sources, models = MemorySourceStore(), MemoryModelStore()
            return Backend(sources, models, MemoryDuties(), None, MemoryView(sources, models))
        case "kubernetes":
            return await _open_kubernetes(settings, clock)
        case "redis":
            from mx.store.redis import open_redis

            redis = await open_redis(settings.redis, status_ttl_s=settings.sources.status_ttl_s)
            return Backend(
                redis.sources,
                redis.models,
                redis.duties,
                redis.events,
                redis.view,
                clock=redis.clock,
                upkeep=redis.run_upkeep,
            )
        case _:
            from mx.store import sqlite

            database = await sqlite.Database.open(Path(settings.database.path))
            return Backend(
                sqlite.SqliteSourceStore(database),
                sqlite.SqliteModelStore(database),
                sqlite.SqliteDuties(database),
                sqlite.SqliteEventStore(database),
                sqlite.SqliteView(database),
            )


async def _open_kubernetes(settings: Settings, clock: Clock) -> Backend:
    """Three parts over one connection; they tell the time of the API server."""
    from mx.store.kubernetes import (
        Cluster,
        KubernetesDuties,
        KubernetesModelStore,
        KubernetesSourceStore,
        KubernetesView,
    )

    wanted = settings.kubernetes
    cluster = await Cluster.connect(namespace=wanted.namespace, clock=clock, kubeconfig=wanted.kubeconfig)
    async with AsyncExitStack() as opened:
        sources = await KubernetesSourceStore.open(cluster)
        opened.push_async_callback(sources.close)
        models = await KubernetesModelStore.open(cluster)
        opened.push_async_callback(models.close)
        duties = await KubernetesDuties.open(cluster)
        opened.pop_all()
    log.info("store in Kubernetes", server=cluster.api.server, namespace=wanted.namespace)
    # Every event would be a write to etcd, and its history is no bigger than a few hundred of them.
    view = KubernetesView(cluster, sources, models)
    return Backend(sources, models, duties, None, view, clock=cluster.api.clock)


def events_of(*backends: Backend) -> EventStore:
    """The history in the first store that keeps one; else it ends with this process."""
    from mx.store.memory_events import MemoryEventStore

    return next((one.events for one in backends if one.events is not None), MemoryEventStore())


async def close_backends(*backends: Backend) -> None:
    """All of it, whatever fails."""
    async with AsyncExitStack() as stack:
        for backend in backends:
            for part in (backend.sources, backend.models, backend.duties, backend.events):
                if part is not None:
                    stack.push_async_callback(part.close)
