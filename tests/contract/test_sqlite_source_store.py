"""The SQLite store under the contract of all source stores, and against the memory store."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mx.store.sqlite import SqliteSourceStore
from mx.testing.store_contract import SourceStoreContract
from mx.testing.store_life import stateful_test


class TestSqliteSourceStore(SourceStoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[SqliteSourceStore]:
        store = await SqliteSourceStore.open(tmp_path / "models.db")
        yield store
        await store.close()

    @pytest.fixture
    async def beside(self, store: SqliteSourceStore, tmp_path: Path) -> AsyncIterator[SqliteSourceStore]:
        beside = await SqliteSourceStore.open(tmp_path / "models.db")
        yield beside
        await beside.close()


@asynccontextmanager
async def _opened() -> AsyncIterator[SqliteSourceStore]:
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteSourceStore.open(Path(folder) / "models.db")
        try:
            yield store
        finally:
            await store.close()


TestSqliteLikeMemory = stateful_test(_opened)
