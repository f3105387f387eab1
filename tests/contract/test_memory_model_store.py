"""The memory store under the contract of all model stores."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mx.errors import UnavailableError
from mx.store.memory_models import MemoryModelStore
from mx.testing.model_store_contract import ModelStoreContract, claim, win
from mx.testing.outage_models import OutageModelStore
from mx.testing.samples import model_key


class TestMemoryModelStore(ModelStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[MemoryModelStore]:
        store = MemoryModelStore()
        yield store
        await store.close()


class TestOutageModelStoreWhileUp(ModelStoreContract):
    """The fake is held to the contract as well, as long as it is not told to fail."""

    @pytest.fixture
    async def store(self) -> AsyncIterator[OutageModelStore]:
        store = OutageModelStore(MemoryModelStore())
        yield store
        await store.close()

    async def test_while_down_every_call_is_refused_and_counted(self, store: OutageModelStore) -> None:
        await win(store)
        store.down = True
        for call in (claim(store), store.get(model_key()), store.check()):
            with pytest.raises(UnavailableError, match="down"):
                await call
        store.down = False
        assert store.refused == 3
        assert await store.get(model_key()) is not None
