"""The cache for people: records beside what their entries occupy, one of them, the whole in short."""

from __future__ import annotations

from mx.core.cache_view import (
    CacheListing,
    CacheStats,
    EntryDetail,
    detail_of,
    kinds_of,
    listing_of,
)
from mx.core.model import EntryKey, ProviderName, canonical_name
from mx.errors import NotFoundError
from mx.ports import Clock, EntryCache
from mx.services.eviction import EvictionService
from mx.services.models import ModelsService
from mx.services.threads import in_thread


async def list_cache(
    models: ModelsService,
    eviction: EvictionService,
    cache: EntryCache,
    clock: Clock,
    *,
    provider: ProviderName | None = None,
    name: str | None = None,
) -> CacheListing:
    """All entries, or those of a provider or of one model.

    InvalidArgumentError for a name that can't be one; UnavailableError.
    """
    if provider is not None and name is not None:
        name = canonical_name(provider, name)
    records = await models.records(provider=provider, name=name)
    usage = await in_thread(cache.usage)
    limit_bytes = eviction.policy.max_size_bytes
    return listing_of(records, usage=usage, max_size_bytes=limit_bytes, now_ms=clock.now_ms())


async def show_entry(models: ModelsService, cache: EntryCache, clock: Clock, key: EntryKey) -> EntryDetail:
    """One entry with its files; NotFoundError where there is no record of it."""
    records = await models.records(provider=key.provider, name=key.name)
    record = next((one for one in records if one.key == key), None)
    if record is None:
        raise NotFoundError(f"{key} is not in the cache", remedy="mx cache list shows what is")
    usage = await in_thread(cache.usage)
    entry = await in_thread(cache.entry, key)
    return detail_of(record, entry, usage=usage, now_ms=clock.now_ms())


async def cache_stats(
    models: ModelsService,
    eviction: EvictionService,
    cache: EntryCache,
    clock: Clock,
    *,
    runs: int,
) -> CacheStats:
    """The cache in a few lines, and its last ``runs`` evictions."""
    usage = await in_thread(cache.usage)
    records = await models.records()
    now_ms = clock.now_ms()
    return CacheStats(
        root=str(cache.root),
        kinds=kinds_of(records, usage=usage, now_ms=now_ms),
        used_bytes=usage.used_bytes,
        free_bytes=usage.free_bytes,
        disk_bytes=usage.disk_bytes,
        policy=eviction.policy,
        eviction_enabled=eviction.enabled,
        next_run_at_ms=eviction.next_run_at_ms,
        runs=await eviction.runs(limit=runs) if runs else (),
        now_ms=now_ms,
    )
