"""The memory store under the contract of all source stores."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mx.store.memory import MemorySourceStore
from mx.testing.outage import OutageStore
from mx.testing.store_contract import SourceStoreContract


class TestMemorySourceStore(SourceStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[MemorySourceStore]:
        store = MemorySourceStore()
        yield store
        await store.close()


class TestOutageStoreWhileUp(SourceStoreContract):
    """The fake is held to the contract as well, as long as it is not told to fail."""

    @pytest.fixture
    async def store(self) -> AsyncIterator[OutageStore]:
        store = OutageStore(MemorySourceStore())
        yield store
        await store.close()
