"""A process that ensures one model several times: ``FOLDER ENDPOINT NAME TIMES LEASE_S [REDIS_URL]``.

Records lie in a file of the folder, or in Redis. Prints a JSON line when every caller has had its first
update, one per end, and one with the entry.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from mx.config import load_settings
from mx.core.eviction import EvictionPolicy
from mx.core.model import ModelRef, ProviderName
from mx.ports import Clock, ModelStore
from mx.providers.cache import open_cache
from mx.providers.registry import open_providers
from mx.services.downloads import DownloadRules
from mx.services.eviction import EvictionService
from mx.services.jobs import JobRules
from mx.services.models import ModelsRules, ModelsService
from mx.services.touches import TouchBatch
from mx.store.redis import RedisModelStore, open_link
from mx.store.sqlite import SqliteModelStore
from mx.wiring import SystemClock


def say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def open_store(folder: Path, redis_url: str) -> tuple[ModelStore, Clock]:
    if not redis_url:
        return await SqliteModelStore.open(folder / "models.db"), SystemClock()
    flags = {"redis.url": redis_url}
    link = await open_link(load_settings(flags=flags, environ={}, cwd=folder, scope="server").redis)
    return RedisModelStore(link), link.clock


async def run(
    folder: Path, endpoint: str, name: str, times: int, lease_s: float, redis_url: str = ""
) -> None:
    settings = load_settings(environ={"HF_ENDPOINT": endpoint}, cwd=folder, scope="server")
    store, clock = await open_store(folder, redis_url)
    cache = open_cache(folder / "cache")
    providers = open_providers(settings)
    owner = f"worker-{os.getpid()}"
    touches = TouchBatch(store, clock)
    download = DownloadRules(lease_s=lease_s, heartbeat_s=lease_s / 4, report_s=0.05)
    models = ModelsService(
        store,
        cache,
        clock,
        providers=providers,
        eviction=EvictionService(store, cache, clock, policy=EvictionPolicy(), owner=owner, touches=touches),
        touches=touches,
        owner=owner,
        rules=replace(ModelsRules(job=JobRules(download=download, poll_s=0.1)), resolve_timeout_s=20),
    )
    ref = ModelRef(ProviderName.HUGGING_FACE, name)
    started = 0

    async def ask() -> None:
        nonlocal started
        first = True
        async for update in models.ensure(ref):
            if first:
                first = False
                started += 1
                if started == times:
                    say(event="asked")
            if update.is_last:
                say(event="end", status=update.status.value, message=update.message)

    async with models:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(times):
                tasks.create_task(ask())
        entry = await models.find(ref)
        say(event="entry", root=str(entry.root), files=[file.path for file in entry.files])
    await providers.close()
    await store.close()


if __name__ == "__main__":
    path, endpoint, name, times, lease_s, *redis_url = sys.argv[1:]
    asyncio.run(run(Path(path), endpoint, name, int(times), float(lease_s), *redis_url))
