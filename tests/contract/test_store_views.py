"""Views of stores in memory, in SQLite and in Kubernetes under their contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kubernetes_support import cluster, granted_namespace

from mx.store.kubernetes import KubernetesModelStore, KubernetesSourceStore, KubernetesView
from mx.store.memory import MemorySourceStore
from mx.store.memory_models import MemoryModelStore
from mx.store.memory_view import MemoryView
from mx.store.sqlite import Database, SqliteModelStore, SqliteSourceStore, SqliteView
from mx.testing.api_server import ApiServer
from mx.testing.store_view_contract import Stores, StoreViewContract


class TestMemoryView(StoreViewContract):
    @pytest.fixture
    async def stores(self) -> Stores:
        sources, models = MemorySourceStore(), MemoryModelStore()
        return Stores(sources, models, MemoryView(sources, models))


class TestSqliteView(StoreViewContract):
    @pytest.fixture
    async def stores(self, tmp_path: Path) -> AsyncIterator[Stores]:
        database = await Database.open(tmp_path / "mx.db")
        yield Stores(SqliteSourceStore(database), SqliteModelStore(database), SqliteView(database))
        await database.close()


class TestKubernetesView(StoreViewContract):
    @pytest.fixture
    async def stores(self, api_server: ApiServer) -> AsyncIterator[Stores]:
        namespace = granted_namespace(api_server)
        async with cluster(api_server, namespace, token=api_server.token) as opened:
            sources = await KubernetesSourceStore.open(opened)
            models = await KubernetesModelStore.open(opened)
            yield Stores(sources, models, KubernetesView(opened, sources, models))
            await models.close()
            await sources.close()
