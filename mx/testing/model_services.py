"""Services of models over a memory store, a folder and a scripted provider, for tests of faces."""

from __future__ import annotations

import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from mx.core.eviction import EvictionPolicy
from mx.ports import Clock
from mx.services.eviction import EvictionService
from mx.services.jobs import JobRules
from mx.services.models import ModelsRules, ModelsService
from mx.services.touches import TouchBatch
from mx.store.memory_models import MemoryModelStore
from mx.testing.folder_cache import FolderCache
from mx.testing.scripted_provider import FixedProviders, ScriptedProvider


@dataclass(frozen=True, slots=True)
class ModelBench:
    """Enter ``models`` before asking it for anything that runs beside the caller."""

    store: MemoryModelStore
    cache: FolderCache
    provider: ScriptedProvider
    eviction: EvictionService
    models: ModelsService


def model_bench(
    clock: Clock,
    *,
    folder: Path | None = None,
    cache: FolderCache | None = None,
    provider: ScriptedProvider | None = None,
    policy: EvictionPolicy = EvictionPolicy(),  # a frozen value
    rules: ModelsRules | None = None,
) -> ModelBench:
    """Nothing is written to ``folder`` before the first download."""
    store = MemoryModelStore()
    cache = cache or FolderCache(folder or Path(tempfile.gettempdir()) / f"mx-bench-{uuid.uuid4().hex}")
    provider = provider or ScriptedProvider({"config.json": b"{}", "model.safetensors": bytes(1 << 16)})
    touches = TouchBatch(store, clock)
    eviction = EvictionService(store, cache, clock, policy=policy, owner="bench", touches=touches)
    models = ModelsService(
        store,
        cache,
        clock,
        providers=FixedProviders(provider),
        eviction=eviction,
        touches=touches,
        owner="bench",
        rules=rules or ModelsRules(job=JobRules(poll_s=0.02)),
    )
    return ModelBench(store, cache, provider, eviction, models)
