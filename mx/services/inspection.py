"""The stores behind a server, for people: as they are now, and single records as they lie there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from mx.core.model import EntryKey
from mx.core.server_state import BackendState, RawRecord
from mx.core.source import WorkerKey
from mx.errors import NotFoundError
from mx.ports import StoreView

_LOOK_S = 10.0


class Inspection:
    """``sources`` and ``models`` may be the same view."""

    def __init__(self, sources: StoreView, models: StoreView) -> None:
        self._sources = sources
        self._models = models

    async def states(self) -> tuple[BackendState, ...]:
        """An outage is an answer, and a store that hangs is one too."""
        views: Sequence[tuple[str, StoreView]] = (("sources", self._sources), ("models", self._models))
        if self._models is self._sources:
            views = (("sources and models", self._sources),)
        return tuple(await asyncio.gather(*(_state(duty, view) for duty, view in views)))

    async def raw_source(self, key: WorkerKey) -> RawRecord:
        """NotFoundError, UnavailableError."""
        if (found := await self._sources.raw_source(key)) is None:
            raise NotFoundError(f"there is no record of {key}", remedy="mx source list shows what there is")
        return found

    async def raw_model(self, key: EntryKey) -> RawRecord:
        """NotFoundError, UnavailableError."""
        if (found := await self._models.raw_model(key)) is None:
            raise NotFoundError(f"there is no record of {key}", remedy="mx cache list shows what there is")
        return found


async def _state(duty: str, view: StoreView) -> BackendState:
    try:
        async with asyncio.timeout(_LOOK_S):
            return replace(await view.describe(), duty=duty)
    except TimeoutError:
        error = f"no answer within {_LOOK_S:g} s"
        return BackendState(duty, "", "", ok=False, latency_ms=_LOOK_S * 1000, error=error)
