"""``mx.ports.StoreView`` over Kubernetes: objects as kubectl shows them, and how many there are."""

from __future__ import annotations

from mx.core.model import EntryKey
from mx.core.server_state import BackendState, RawRecord
from mx.core.source import WorkerKey
from mx.store.described import Facts, described
from mx.store.kubernetes.cluster import Cluster
from mx.store.kubernetes.models import KubernetesModelStore
from mx.store.kubernetes.names import MODELS, SOURCES, Kind, is_worker_id, source_name
from mx.store.kubernetes.source_objects import ranks_of
from mx.store.kubernetes.sources import KubernetesSourceStore
from mx.store.raw_text import raw_yaml


class KubernetesView:
    def __init__(
        self, cluster: Cluster, sources: KubernetesSourceStore, models: KubernetesModelStore
    ) -> None:
        self._api = cluster.api
        self._sources = sources
        self._models = models

    async def describe(self) -> BackendState:
        address = f"{self._api.server}, namespace {self._api.namespace}"
        return await described("kubernetes", address, self._sources.check, self._facts)

    async def raw_source(self, key: WorkerKey) -> RawRecord | None:
        if not is_worker_id(key.worker_id):
            return None
        found = await self._api.read(SOURCES, source_name(key.source_id, key.worker_id))
        if found is None or key.worker_rank not in ranks_of(found):
            return None
        return self._raw(SOURCES, found)

    async def raw_model(self, key: EntryKey) -> RawRecord | None:
        name = await self._models.object_name(key)
        found = None if name is None else await self._api.read(MODELS, name)
        return None if found is None else self._raw(MODELS, found)

    def _raw(self, kind: Kind, found: dict[str, object]) -> RawRecord:
        metadata = found.get("metadata")
        if isinstance(metadata, dict):
            found = {**found, "metadata": {k: v for k, v in metadata.items() if k != "managedFields"}}
            name = metadata.get("name", "")
        else:
            name = ""
        return RawRecord("kubernetes", f"{self._api.namespace}: {kind.plural}/{name}", raw_yaml(found))

    async def _facts(self) -> Facts:
        workers = sum((await self._sources.count_by_status()).values())
        models = len(await self._models.list_models())
        return (
            ("workers", str(workers)),
            (MODELS.plural, str(models)),
        )
