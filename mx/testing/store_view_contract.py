"""What every ``mx.ports.StoreView`` must do, as a test class to inherit from.

class TestMyView(StoreViewContract):
    @pytest.fixture
    async def stores(self): ...   # Stores, empty; closed afterwards
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml

from mx.core.model import Pin
from mx.core.source import NixlMetadata, WorkerKey
from mx.ports import ModelStore, SourceStore, StoreView, Won
from mx.testing.samples import FULL_WORKER, entry, model_key

NOW = 1_700_000_000_000
BLOB = bytes(range(256)) * 64
TOKEN = "hf_" + "a" * 34


@dataclass(frozen=True, slots=True)
class Stores:
    """A view and what it looks at."""

    sources: SourceStore
    models: ModelStore
    view: StoreView


class StoreViewContract:
    """Inherit, and provide the fixture ``stores``."""

    @pytest.fixture
    async def stores(self) -> Any:
        raise NotImplementedError("a contract suite needs stores to look at")

    async def test_it_describes_a_store_that_answers(self, stores: Stores) -> None:
        state = await stores.view.describe()
        assert state.ok
        assert state.error == ""
        assert state.backend
        assert state.address
        assert state.latency_ms > 0
        facts = dict(state.facts)
        assert len(facts) == len(state.facts)
        await stores.sources.publish(entry())
        assert dict((await stores.view.describe()).facts) != facts

    async def test_a_source_is_shown_as_it_lies_there(self, stores: Stores) -> None:
        worker = replace(FULL_WORKER, backend_metadata=NixlMetadata(BLOB))
        one = replace(entry(), worker=worker)
        await stores.sources.publish(one)
        found = await stores.view.raw_source(one.key)
        assert found is not None
        assert found.place
        shown = yaml.safe_load(found.text)
        assert isinstance(shown, dict)
        assert one.identity.model_name in found.text
        # A blob is shortened, whatever the backend made of it.
        assert "bytes, sha256" in found.text or "items, beginning with" in found.text
        assert len(found.text) < 20_000
        other_rank = replace(one.key, worker_rank=one.key.worker_rank + 1)
        for missing in (other_rank, WorkerKey("f" * 16, one.worker_id, 0), WorkerKey("{", "}", 0)):
            assert await stores.view.raw_source(missing) is None

    async def test_a_model_is_shown_as_it_lies_there(self, stores: Stores) -> None:
        key = model_key()
        assert await stores.view.raw_model(key) is None
        won = await stores.models.claim(key, owner="server-a", lease_s=3600, now_ms=NOW)
        assert isinstance(won, Won)
        assert await stores.models.pin(key, Pin(None, f"with {TOKEN} in it"))
        found = await stores.view.raw_model(key)
        assert found is not None
        assert found.place
        assert isinstance(yaml.safe_load(found.text), dict)
        assert "server-a" in found.text
        assert TOKEN not in found.text
        assert "managedFields" not in found.text

    async def test_an_outage_is_an_answer(self, stores: Stores) -> None:
        await stores.sources.close()
        await stores.models.close()
        state = await stores.view.describe()
        assert not state.ok
        assert state.error
        assert state.facts == ()
