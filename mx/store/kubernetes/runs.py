"""Runs of eviction, one ConfigMap each (more where one is too small); the newest are kept."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from mx.core.eviction import EvictionRun
from mx.errors import UnavailableError
from mx.ports import EVICTION_RUNS_KEPT
from mx.store.eviction_runs import pack_run, unpack_run
from mx.store.kubernetes import configmaps
from mx.store.kubernetes.api import Answer, Api
from mx.store.kubernetes.fence import OBJECT_LABEL
from mx.store.kubernetes.names import CONFIG_MAPS, GROUP

_RUN: Final = "eviction-run"
_PART: Final = "eviction-run-part"
_STARTED: Final = f"{GROUP}/started-at-ms"
_RUN_ID: Final = f"{GROUP}/run-id"
_PARTS: Final = f"{GROUP}/parts"


class EvictionRuns:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def record(self, run: EvictionRun) -> None:
        packed = await asyncio.to_thread(pack_run, run)
        chunks = configmaps.pack_bytes(packed)
        names = configmaps.part_names(_name(run.run_id), len(chunks))
        annotations = {
            _STARTED: str(run.started_at_ms),
            _RUN_ID: run.run_id,
            _PARTS: str(len(chunks)),
        }
        bodies = [
            configmaps.config_map(
                name,
                labels={OBJECT_LABEL: _PART if number else _RUN},
                annotations=annotations,
                binary={configmaps.BLOB_KEY: chunk},
            )
            for number, (name, chunk) in enumerate(zip(names, chunks, strict=True))
        ]
        await configmaps.write(self._api, bodies[1:])
        await configmaps.write(self._api, bodies[:1])
        for _, _, name, parts in (await self._listed())[EVICTION_RUNS_KEPT:]:
            await configmaps.delete(self._api, configmaps.part_names(name, parts))

    async def newest(self, limit: int) -> tuple[EvictionRun, ...]:
        wanted = (await self._listed())[: max(limit, 0)] if limit > 0 else []
        runs: list[EvictionRun] = []
        for _, _, name, parts in wanted:
            try:
                maps = await configmaps.read_all(self._api, configmaps.part_names(name, parts))
            except UnavailableError:  # forgotten meanwhile, since newer ones came
                if await self._api.read(CONFIG_MAPS, name) is not None:
                    raise
                continue
            packed = b"".join(configmaps.binary_of(one, configmaps.BLOB_KEY) for one in maps)
            runs.append(await asyncio.to_thread(unpack_run, packed))
        return tuple(runs)

    async def _listed(self) -> list[tuple[int, str, str, int]]:
        """Start, id, name and parts of each run, the newest first; without what they hold."""
        while True:
            found: list[tuple[int, str, str, int]] = []
            try:
                async for page in self._api.pages(
                    CONFIG_MAPS, selector=f"{OBJECT_LABEL}={_RUN}", metadata_only=True
                ):
                    for one in page["items"] or ():
                        metadata = one["metadata"]
                        notes = metadata.get("annotations") or {}
                        found.append(
                            (
                                int(notes.get(_STARTED, 0)),
                                notes.get(_RUN_ID, ""),
                                metadata["name"],
                                int(notes.get(_PARTS, 1)),
                            )
                        )
            except Answer:  # the list was changed over and over while it was read
                continue
            return sorted(found, reverse=True)


def _name(run_id: str) -> str:
    digest = hashlib.sha256(run_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"mx-eviction-{digest[:32]}"
