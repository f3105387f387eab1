"""A feed and an inspection over the services of a test; the feed begins with its first watch."""

from __future__ import annotations

from mx.ports import Clock, EntryCache, EventStore, ModelStore, SourceStore
from mx.services.eviction import EvictionService
from mx.services.feed import FeedRules
from mx.services.feed_service import FeedService
from mx.services.inspection import Inspection
from mx.services.models import ModelsService
from mx.services.transfers import TransfersService
from mx.store.memory import MemorySourceStore
from mx.store.memory_events import MemoryEventStore
from mx.store.memory_models import MemoryModelStore
from mx.store.memory_view import MemoryView


def live_feed(
    sources: SourceStore,
    *,
    models_store: ModelStore,
    models: ModelsService,
    eviction: EvictionService,
    transfers: TransfersService,
    cache: EntryCache,
    clock: Clock,
    events: EventStore | None = None,
    name: str = "bench",
    always: bool = False,
    rules: FeedRules = FeedRules(),  # a frozen value
) -> FeedService:
    """Enter it before anybody watches."""
    return FeedService(
        sources=sources,
        models_store=models_store,
        models=models,
        eviction=eviction,
        transfers=transfers,
        cache=cache,
        events=events or MemoryEventStore(),
        clock=clock,
        name=name,
        owner="bench",
        always=always,
        rules=rules,
    )


def no_inspection() -> Inspection:
    """Of stores in memory in which nothing is."""
    view = MemoryView(MemorySourceStore(), MemoryModelStore())
    return Inspection(view, view)
