"""From settings to opened services: the only module that names concrete adapters.

An adapter's module is imported when it is chosen, so that nobody pays for the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mx.errors import SettingsError
from mx.ports import Clock, ModelStore, SourceStore
from mx.services.sources import SourcesService
from mx.services.transfers import TransfersService

if TYPE_CHECKING:
    from mx.config import Settings

AVAILABLE_BACKENDS = ("sqlite", "memory")


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
    clock: Clock


@asynccontextmanager
async def open_services(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Services]:
    """Open the stores that settings name and run the reaper while the body runs.

    Raises SettingsError for a backend this version does not have, and what the store's ``open``
    raises. The body's own exception leaves as it is, not wrapped in a group.
    """
    clock = clock or SystemClock()
    store, models_store = await _open_stores(settings)
    failure: Exception | None = None
    try:
        sources = SourcesService(
            store,
            clock,
            heartbeat_timeout_s=settings.sources.heartbeat_timeout_s,
            gc_timeout_s=settings.sources.gc_timeout_s,
        )
        async with asyncio.TaskGroup() as tasks:
            reaper = tasks.create_task(
                sources.run_reaper(settings.sources.reaper_interval_s), name="source reaper"
            )
            try:
                yield Services(
                    sources=sources,
                    transfers=TransfersService(clock),
                    store=store,
                    store_backend=settings.metadata.backend,
                    models_store=models_store,
                    clock=clock,
                )
            except Exception as error:  # noqa: BLE001  # raised again below, outside the group
                failure = error
            finally:
                reaper.cancel()
    finally:
        try:
            await models_store.close()
        finally:
            await store.close()
    if failure is not None:
        raise failure


async def _open_stores(settings: Settings) -> tuple[SourceStore, ModelStore]:
    """Sources and models; in one SQLite file they share its connections and its transactions."""
    sources = settings.metadata.backend
    models = sources if settings.database.backend == "auto" else settings.database.backend
    _require_available(settings, "metadata.backend", sources, "MX_METADATA_BACKEND")
    _require_available(settings, "database.backend", models, "MODEL_EXPRESS_DATABASE__BACKEND")
    match sources, models:
        case "memory", "memory":
            from mx.store.memory import MemorySourceStore
            from mx.store.memory_models import MemoryModelStore

            return MemorySourceStore(), MemoryModelStore()
        case "memory", _:
            from mx.store.memory import MemorySourceStore
            from mx.store.sqlite import SqliteModelStore

            return MemorySourceStore(), await SqliteModelStore.open(Path(settings.database.path))
        case _:
            from mx.store.sqlite import Database, SqliteModelStore, SqliteSourceStore

            database = await Database.open(Path(settings.database.path))
            return SqliteSourceStore(database), SqliteModelStore(database)


def _require_available(settings: Settings, key: str, backend: str, variable: str) -> None:
    if backend in AVAILABLE_BACKENDS:
        return
    origin = settings.origins.get(key)
    raise SettingsError(
        (
            f"{key} = {backend}{f' ({origin})' if origin else ''} is not available in "
            f"this version of mx; available: {', '.join(AVAILABLE_BACKENDS)}",
        ),
        remedy=f"set {variable}=sqlite, or leave it unset",
    )
