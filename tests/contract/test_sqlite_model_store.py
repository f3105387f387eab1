"""The SQLite store under the contract of all model stores, and against the memory store."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mx.store.sqlite import SqliteModelStore
from mx.testing.model_store_contract import ModelStoreContract
from mx.testing.model_store_life import stateful_test


class TestSqliteModelStore(ModelStoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[SqliteModelStore]:
        store = await SqliteModelStore.open(tmp_path / "models.db")
        yield store
        await store.close()

    @pytest.fixture
    async def beside(self, store: SqliteModelStore, tmp_path: Path) -> AsyncIterator[SqliteModelStore]:
        beside = await SqliteModelStore.open(tmp_path / "models.db")
        yield beside
        await beside.close()


@asynccontextmanager
async def _opened() -> AsyncIterator[SqliteModelStore]:
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteModelStore.open(Path(folder) / "models.db")
        try:
            yield store
        finally:
            await store.close()


TestSqliteLikeMemory = stateful_test(_opened)
