"""The memory store under the contract of all model stores."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mx.store.memory_models import MemoryModelStore
from mx.testing.model_store_contract import ModelStoreContract


class TestMemoryModelStore(ModelStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[MemoryModelStore]:
        store = MemoryModelStore()
        yield store
        await store.close()
