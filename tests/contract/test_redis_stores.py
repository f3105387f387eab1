"""Redis under the contracts of all stores, and against the memory stores: real servers each time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from redis_sites import Site, cluster, plain, with_tls

from mx.core.source import TensorSource
from mx.store.redis import (
    Link,
    RedisDuties,
    RedisEventStore,
    RedisModelStore,
    RedisSourceStore,
    RedisView,
    open_link,
)
from mx.testing.duties_contract import DutiesContract
from mx.testing.event_store_contract import EventStoreContract
from mx.testing.model_store_contract import ModelStoreContract
from mx.testing.model_store_life import stateful_test as model_life
from mx.testing.samples import FULL_WORKER, PEER, entry
from mx.testing.store_contract import SourceStoreContract
from mx.testing.store_life import stateful_test as source_life
from mx.testing.store_view_contract import Stores, StoreViewContract

TTL_S = 3600


@pytest.fixture(scope="module", params=["valkey", "redis with TLS", "cluster"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    match request.param:
        case "valkey":
            opened = plain()
        case "redis with TLS":
            opened = with_tls(tmp_path_factory.mktemp("tls"))
        case _:
            opened = cluster()
    with opened as site:
        yield site


@pytest.fixture
async def link(site: Site) -> AsyncIterator[Link]:
    site.empty()
    link = await open_link(site.settings)
    yield link
    await link.close()


@pytest.fixture
async def other_link(site: Site, link: Link) -> AsyncIterator[Link]:
    other = await open_link(site.settings)
    yield other
    await other.close()


class TestRedisSourceStore(SourceStoreContract):
    @pytest.fixture
    async def store(self, link: Link) -> RedisSourceStore:
        return RedisSourceStore(link, ttl_s=TTL_S)

    @pytest.fixture
    async def beside(self, store: RedisSourceStore, other_link: Link) -> RedisSourceStore:
        return RedisSourceStore(other_link, ttl_s=TTL_S)

    async def test_worker_ids_with_braces_have_no_copies_and_come_back_all_the_same(
        self, store: RedisSourceStore, beside: RedisSourceStore
    ) -> None:
        """Braces in a key say where in a cluster it lies, so no other key can be put beside it."""
        for worker_id in ("{", "}{", "{a}b", "a{b}"):
            for payload in (None, TensorSource(), FULL_WORKER.payload):
                one = entry(worker_id, peer=PEER)
                one = replace(one, worker=replace(one.worker, payload=payload))
                await store.publish(one)
                assert await beside.get(one.source_id, worker_id) == one
            beat = {"status": 2, "source_load": None, "now_ms": 2_000}
            assert await beside.update_status(one.key, **beat)
            assert await beside.remove(one.key, observed_ms=2_000)


class TestRedisModelStore(ModelStoreContract):
    @pytest.fixture
    async def store(self, link: Link) -> RedisModelStore:
        return RedisModelStore(link)

    @pytest.fixture
    async def beside(self, store: RedisModelStore, other_link: Link) -> RedisModelStore:
        return RedisModelStore(other_link)


class TestRedisDuties(DutiesContract):
    @pytest.fixture
    async def duties(self, link: Link) -> RedisDuties:
        return RedisDuties(link)

    @pytest.fixture
    async def beside(self, duties: RedisDuties, other_link: Link) -> RedisDuties:
        return RedisDuties(other_link)


class TestRedisEvents(EventStoreContract):
    @pytest.fixture
    async def events(self, link: Link) -> RedisEventStore:
        return RedisEventStore(link)

    @pytest.fixture
    async def beside(self, events: RedisEventStore, other_link: Link) -> RedisEventStore:
        return RedisEventStore(other_link)


class TestRedisView(StoreViewContract):
    @pytest.fixture
    async def stores(self, link: Link) -> Stores:
        return Stores(RedisSourceStore(link, ttl_s=TTL_S), RedisModelStore(link), RedisView(link))


_lives: list[Site] = []  # one server for all lives: unittest knows no fixtures


@pytest.fixture(scope="module", autouse=True)
def _site_of_lives() -> Iterator[None]:
    with plain() as site:
        _lives.append(site)
        yield
        _lives.clear()


@asynccontextmanager
async def _link() -> AsyncIterator[Link]:
    _lives[0].empty()
    link = await open_link(_lives[0].settings)
    try:
        yield link
    finally:
        await link.close()


@asynccontextmanager
async def _sources() -> AsyncIterator[RedisSourceStore]:
    async with _link() as link:
        yield RedisSourceStore(link, ttl_s=TTL_S)


@asynccontextmanager
async def _models() -> AsyncIterator[RedisModelStore]:
    async with _link() as link:
        yield RedisModelStore(link)


TestRedisSourcesLikeMemory = source_life(_sources, examples=25)
TestRedisModelsLikeMemory = model_life(_models, examples=25)
