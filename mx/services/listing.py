"""The cache for people: records beside what their entries occupy."""

from __future__ import annotations

from mx.core.cache_view import CacheListing, listing_of
from mx.core.model import ProviderName, canonical_name
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
