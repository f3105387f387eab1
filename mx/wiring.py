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
from mx.ports import Clock, SourceStore
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
    clock: Clock


@asynccontextmanager
async def open_services(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Services]:
    """Open the store that settings name and run the reaper while the body runs.

    Raises SettingsError for a backend this version does not have, and what the store's ``open``
    raises. The body's own exception leaves as it is, not wrapped in a group.
    """
    clock = clock or SystemClock()
    store = await _open_store(settings)
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
                    clock=clock,
                )
            except Exception as error:  # noqa: BLE001  # raised again below, outside the group
                failure = error
            finally:
                reaper.cancel()
    finally:
        await store.close()
    if failure is not None:
        raise failure


async def _open_store(settings: Settings) -> SourceStore:
    match settings.metadata.backend:
        case "memory":
            from mx.store.memory import MemorySourceStore

            return MemorySourceStore()
        case "sqlite":
            from mx.store.sqlite import SqliteSourceStore

            return await SqliteSourceStore.open(Path(settings.database.path))
        case other:
            origin = settings.origins.get("metadata.backend")
            raise SettingsError(
                (
                    f"metadata.backend = {other}{f' ({origin})' if origin else ''} is not available in "
                    f"this version of mx; available: {', '.join(AVAILABLE_BACKENDS)}",
                ),
                remedy="set MX_METADATA_BACKEND=sqlite, or leave it unset",
            )
