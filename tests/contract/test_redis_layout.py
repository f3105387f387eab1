"""What lies in Redis: readable for published servers, and what they left there readable for mx."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from published_server import IDENTITY as PUBLISHED_IDENTITY
from published_server import Generation, PublishedServer, now_text
from redis_sites import Site, plain

from mx.core.model import EntryKey, EntryStatus, Pin, ProviderName
from mx.core.source import (
    NixlMetadata,
    PodReference,
    SourceFilter,
    SourceStatus,
    TensorSource,
    WorkerKey,
)
from mx.core.tensors import TensorDescriptor
from mx.core.transitions import Held, Ready, Won, is_older
from mx.errors import UnavailableError
from mx.store.redis import (
    Link,
    RedisBackend,
    RedisDuties,
    RedisEventStore,
    RedisModelStore,
    RedisSourceStore,
    RedisView,
    open_link,
)
from mx.store.redis.left_alone import LeftAlone
from mx.testing.samples import COMMIT, PEER, entry, model_key, model_record
from mx.testing.store_contract import listed, scanned

TTL_S = 600
SID = "0123456789abcdef"
READY, STALE = int(SourceStatus.READY), int(SourceStatus.STALE)
GENERATIONS: tuple[Generation, ...] = ("0.3.0", "0.5.0", "later")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with plain() as site:
        yield site


@pytest.fixture
async def link(site: Site) -> AsyncIterator[Link]:
    site.empty()
    link = await open_link(site.settings)
    yield link
    await link.close()


@pytest.fixture
def backend(link: Link) -> RedisBackend:
    left_alone = LeftAlone()
    return RedisBackend(
        link=link,
        sources=RedisSourceStore(link, ttl_s=TTL_S, left_alone=left_alone),
        models=RedisModelStore(link, left_alone=left_alone),
        duties=RedisDuties(link),
        events=RedisEventStore(link),
        view=RedisView(link),
        left_alone=left_alone,
    )


@pytest.fixture
def sources(backend: RedisBackend) -> RedisSourceStore:
    return backend.sources


@pytest.fixture
def models(backend: RedisBackend) -> RedisModelStore:
    return backend.models


@pytest.fixture
def raw(site: Site) -> Iterator[redis.Redis]:
    with site.client() as client:
        yield client


# ---- sources: what mx writes ---------------------------------------------------------------------------


async def test_a_published_server_reads_what_mx_wrote(sources: RedisSourceStore, raw: redis.Redis) -> None:
    one = entry(peer=PEER, source_load=0.5, pod=PodReference("p", "u", "n"))
    await sources.publish(one)
    await sources.publish(entry("w1", rank=3, status=1))
    server = PublishedServer(raw)
    assert server.ranks(one.source_id) == {"w0": READY, "w1": 1}
    await sources.update_status(entry("w1", rank=3).key, status=READY, source_load=0.0, now_ms=2_000)
    assert server.ranks(one.source_id) == {"w0": READY, "w1": READY}
    source = raw.hgetall(f"mx:source:{one.source_id}")
    assert set(source) == {"__attributes__", "w0", "w1"}
    assert json.loads(source["w1"]) == {
        "worker_rank": 3,
        "status": 2,
        "updated_at": 2_000,
        "accelerator": "cuda",
        "topology": {"node": "n1", "rack": "r1"},
        "source_load": 0.0,
    }
    assert set(raw.hgetall(f"mx:source:{one.source_id}:w1")) == {"3", "status:3"}
    assert await sources.remove(entry("w1", rank=3).key)
    assert server.ranks(one.source_id) == {"w0": READY}
    await sources.remove(one.key)
    assert raw.keys("mx:source:*") == []


async def test_everything_of_ours_lies_under_prefixes_of_its_own(
    backend: RedisBackend, raw: redis.Redis
) -> None:
    await backend.sources.publish(entry(peer=PEER))
    await backend.models.put(model_record(pin=Pin()))
    await backend.models.claim(
        replace(model_key(), provider=ProviderName.LOCAL), owner="a", lease_s=1, now_ms=1
    )
    await backend.duties.take("reap", owner="a", lease_s=1, now_ms=1)
    others = [key for key in raw.keys("*") if not key.startswith("mx:idx:")]
    assert sorted(others) == [
        f"mx:model:HuggingFace:mx1:{COMMIT}:-:org/Model-7B",
        f"mx:source:{entry().source_id}",
        f"mx:source:{entry().source_id}:w0",
    ]


async def test_heartbeats_renew_the_life_of_all_keys(sources: RedisSourceStore, raw: redis.Redis) -> None:
    await sources.publish(entry(peer=PEER))
    keys = [key for key in raw.keys("*") if raw.type(key) == "hash"]
    assert len(keys) == 4
    assert all(TTL_S - 10 < raw.ttl(key) <= TTL_S for key in keys)
    for key in keys:
        raw.expire(key, 5)
    await sources.mark_stale(entry().key, observed_ms=1_000, now_ms=2_000)
    assert all(raw.ttl(key) <= 5 for key in keys), "a mark of the reaper is no sign of life"
    await sources.update_status(entry().key, status=READY, source_load=None, now_ms=3_000)
    assert all(raw.ttl(key) > TTL_S - 10 for key in keys)


async def test_keys_that_expired_are_gone_from_all_answers_after_a_sweep(
    backend: RedisBackend, raw: redis.Redis
) -> None:
    for worker_id in ("w0", "w1"):
        await backend.sources.publish(entry(worker_id))
    other = replace(entry().identity, model_name="org/Other")
    await backend.sources.publish(entry(identity=other))
    raw.delete(f"mx:source:{entry().source_id}:w1")
    raw.delete(f"mx:source:{entry(identity=other).source_id}")
    raw.delete(f"mx:source:{entry(identity=other).source_id}:w0")
    assert not await backend.sources.update_status(
        entry("w1").key, status=READY, source_load=None, now_ms=2_000
    )
    assert await backend.sweep() > 0
    assert [row.worker_id for row in await scanned(backend.sources)] == ["w0"]
    assert await backend.sweep() == 0
    await backend.sources.remove(entry().key)
    assert [key for key in raw.keys("*") if not key.endswith("probe")] == []


async def test_a_flushed_redis_is_filled_again_by_the_workers(
    sources: RedisSourceStore, raw: redis.Redis
) -> None:
    await sources.publish(entry())
    raw.flushall()
    assert not await sources.update_status(entry().key, status=READY, source_load=None, now_ms=2_000)
    assert not await sources.announce(entry().key, PEER)
    assert raw.keys("mx:source:*") == [], "a heartbeat never creates"
    await sources.publish(entry())
    assert await sources.update_status(entry().key, status=READY, source_load=None, now_ms=3_000)
    assert len(await scanned(sources)) == 1


async def test_a_source_that_lost_one_of_its_keys_is_published_anew(
    sources: RedisSourceStore, raw: redis.Redis
) -> None:
    """As a Redis that evicts keys when it is full may do it."""
    for lost in (f"mx:source:{entry().source_id}", f"mx:source:{entry().source_id}:w0"):
        await sources.publish(entry())
        raw.delete(lost)
        assert not await sources.update_status(entry().key, status=READY, source_load=None, now_ms=2_000)


# ---- sources: what it costs ----------------------------------------------------------------------------


class Meter:
    """What Redis did between two looks."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._client.config_resetstat()

    def read(self) -> tuple[dict[str, int], int, int]:
        """Calls by command, bytes that came, bytes that went."""
        stats = self._client.info("stats")
        calls = {
            name.removeprefix("cmdstat_"): found["calls"]
            for name, found in self._client.info("commandstats").items()
        }
        return calls, stats["total_net_input_bytes"], stats["total_net_output_bytes"]


async def test_a_heartbeat_is_one_small_write(sources: RedisSourceStore, raw: redis.Redis) -> None:
    many = tuple(TensorDescriptor(f"t{n}", n, n, 0, "torch.bfloat16") for n in range(2_000))
    one = entry()
    await sources.publish(
        replace(one, worker=replace(one.worker, payload=TensorSource(many), backend_metadata=None))
    )
    meter = Meter(raw)
    for number in range(100):
        assert await sources.update_status(one.key, status=READY, source_load=0.5, now_ms=2_000 + number)
    calls, came, went = meter.read()
    assert calls["evalsha"] == 100
    assert not {"hmget", "hgetall", "zadd", "publish"} & set(calls), "nothing but the status changed"
    assert came / 100 < 1_500
    assert went / 100 < 100


async def test_listing_reads_no_records_and_costs_the_same_whatever_else_is_stored(
    sources: RedisSourceStore, raw: redis.Redis
) -> None:
    many = tuple(TensorDescriptor(f"layers.{n}.weight", n, n, 0, "torch.bfloat16") for n in range(5_000))
    for number in range(4):
        one = entry(f"w{number}", peer=PEER)
        await sources.publish(replace(one, worker=replace(one.worker, payload=TensorSource(many))))
    query = SourceFilter(source_id=entry().source_id, status=READY)
    costs = []
    for elsewhere in (10, 1_000):
        others = [replace(entry().identity, model_name=f"org/{n}") for n in range(elsewhere)]
        await asyncio.gather(*(sources.publish(entry("x", identity=one)) for one in others))
        meter = Meter(raw)
        assert len(await sources.list_sources(query, fresh_after_ms=None)) == 4
        calls, _, went = meter.read()
        calls.pop("config|resetstat", None)
        costs.append((calls, went))
    (few_calls, few_bytes), (many_calls, many_bytes) = costs
    assert few_calls == many_calls
    assert few_calls["hgetall"] == 2
    assert abs(many_bytes - few_bytes) < 200, "the answer of INFO itself differs a little"
    assert few_bytes < 8_000


async def test_the_packed_copy_is_read_while_it_is_one_and_the_record_otherwise(
    sources: RedisSourceStore, raw: redis.Redis
) -> None:
    many = tuple(TensorDescriptor(f"layers.{n}.weight", n, n, 0, "torch.bfloat16") for n in range(2_000))
    one = entry()
    one = replace(one, worker=replace(one.worker, payload=TensorSource(many)))
    await sources.publish(one)
    key = f"mx:source:{one.source_id}:w0"
    record = str(raw.hget(key, "0"))
    meter = Meter(raw)
    assert await sources.get(one.source_id, "w0") == one
    assert meter.read()[2] < len(record) / 4
    # Another server publishes the same worker with another memory.
    moved = json.loads(record) | {"agent_name": "moved", "updated_at": 5}
    raw.hset(key, "0", json.dumps(moved))
    found = await sources.get(one.source_id, "w0")
    assert found is not None
    assert (found.worker.agent_name, found.worker.payload) == ("moved", TensorSource(many))
    # Our own copy is damaged.
    await sources.publish(one)
    raw.hset(f"mx:idx:packed:{{{key}}}", "0", "rubbish")
    assert await sources.get(one.source_id, "w0") == one


# ---- sources: what published servers left -------------------------------------------------------------


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_records_of_every_generation_are_read(
    backend: RedisBackend, raw: redis.Redis, generation: Generation
) -> None:
    server = PublishedServer(raw, generation)
    server.publish(SID, "w0", rank=3, status=READY, updated_at=1_000)
    (row,) = await backend.sources.list_sources(SourceFilter(source_id=SID), fresh_after_ms=None)
    accelerator = "" if generation == "0.3.0" else "cuda"
    assert (row.worker_rank, row.status, row.updated_at_ms) == (3, READY, 1_000)
    assert (row.model_name, row.accelerator, row.training_step) == ("org/Model-7B", accelerator, 7)
    found = await backend.sources.get(SID, "w0")
    assert found is not None
    assert found.identity.tensor_parallel_size == 8
    assert found.worker.backend_metadata == NixlMetadata(b"\0n\xff")
    assert found.worker.payload == TensorSource((TensorDescriptor("w", 1 << 63, 4096, 3, "torch.bfloat16"),))
    # By name and in scans once a sweep has seen it.
    assert await scanned(backend.sources) == []
    await backend.sweep()
    assert [one.key for one in await scanned(backend.sources)] == [WorkerKey(SID, "w0", 3)]
    assert await listed(backend.sources, SourceFilter(model_name="org/Model-7B")) == ["w0"]
    assert await backend.sweep() == 0


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_both_keep_one_worker_alive(
    backend: RedisBackend, raw: redis.Redis, generation: Generation
) -> None:
    """Heartbeats of a worker reach mx and a published server in turn; each sees the other's."""
    server, sources, key = PublishedServer(raw, generation), backend.sources, WorkerKey(SID, "w0", 3)
    server.publish(SID, "w0", rank=3, status=1, updated_at=0)
    for now_ms in range(1_000, 5_000, 1_000):
        if now_ms % 2_000:
            assert await sources.update_status(key, status=READY, source_load=None, now_ms=now_ms)
        else:
            server.heartbeat(SID, "w0", rank=3, updated_at=now_ms)
        (row,) = await sources.list_sources(SourceFilter(source_id=SID), fresh_after_ms=None)
        assert (row.status, row.updated_at_ms) == (READY, now_ms)
        found = await sources.get(SID, "w0")
        assert found is not None
        assert (found.worker.status, found.worker.updated_at_ms) == (READY, now_ms)
        assert not await sources.mark_stale(key, observed_ms=now_ms - 1, now_ms=9_000)
    assert await sources.mark_stale(key, observed_ms=4_000, now_ms=5_000)
    server.heartbeat(SID, "w0", rank=3, updated_at=6_000)
    assert not await sources.remove(key, observed_ms=5_000)
    assert await sources.remove(key, observed_ms=6_000)
    assert raw.keys("mx:source:*") == []


async def test_a_heartbeat_of_mx_is_what_the_last_generation_reads(
    sources: RedisSourceStore, raw: redis.Redis
) -> None:
    server = PublishedServer(raw)
    server.publish(SID, "w0", status=1)
    await sources.update_status(WorkerKey(SID, "w0", 0), status=READY, source_load=0.25, now_ms=1_000)
    assert server.ranks(SID) == {"w0": READY}
    await sources.mark_stale(WorkerKey(SID, "w0", 0), observed_ms=1_000, now_ms=2_000)
    assert server.ranks(SID) == {"w0": STALE}


async def test_changes_of_others_reach_counts_and_watches_with_the_sweep(
    backend: RedisBackend, raw: redis.Redis
) -> None:
    server = PublishedServer(raw)
    await backend.sources.publish(entry())
    text = json.dumps({"worker_rank": 0, "status": STALE, "updated_at": 9_000, "accelerator": ""})
    raw.hset(f"mx:source:{entry().source_id}:w0", "status:0", text)
    raw.hset(f"mx:source:{entry().source_id}", "w0", text)
    server.publish(SID, "x", status=READY, updated_at=1)
    told: list[WorkerKey | None] = []
    watch = asyncio.create_task(_run(backend, told))
    while not told:
        await asyncio.sleep(0.01)
    assert await backend.sweep() == 3
    assert await backend.sources.count_by_status() == {READY: 1, STALE: 1}
    async with asyncio.timeout(20):
        while not {entry().key, WorkerKey(SID, "x", 0)} <= set(told):
            await asyncio.sleep(0.01)
    watch.cancel()


async def _run(backend: RedisBackend, told: list[WorkerKey | None]) -> None:
    await backend.sources.watch(told.append)


async def test_rubbish_is_left_alone_and_said_once(
    backend: RedisBackend, raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await backend.sources.publish(entry())
    await backend.models.put(model_record())
    source = f"mx:source:{entry().source_id}"
    rubbish: dict[str, Any] = {
        "mx:source:aaaaaaaaaaaaaaaa": {"__attributes__": "no json", "w": "{}"},
        "mx:source:bbbbbbbbbbbbbbbb": {"__attributes__": json.dumps(PUBLISHED_IDENTITY), "w": "[1]"},
        "mx:model:Unknown:x": {"status": "DOWNLOADED", "provider": "Unknown"},
        "mx:model:HuggingFace:no-status": {"provider": "HuggingFace"},
        "mx:model:HuggingFace:odd": {"status": "MAYBE", "provider": "HuggingFace"},
    }
    for key, fields in rubbish.items():
        raw.hset(key, mapping=fields)
    raw.set("mx:source:cccccccccccccccc", "a string")
    raw.set("mx:model:Ngc:string", "a string")
    raw.sadd("mx:idx:models", "mx:model:Ngc:string", "mx:model:HuggingFace:odd")
    raw.hset(source, "odd", "{}")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            await backend.sweep()
            assert [row.worker_id for row in await scanned(backend.sources)] == ["w0"]
            assert [one.key for one in await backend.models.list_models()] == [model_key()]
    said = [record.getMessage() for record in caplog.records]
    assert all("left alone" in one for one in said)
    assert len(said) == 8, said
    for key, fields in rubbish.items():
        assert raw.hgetall(key) == fields
    with pytest.raises(UnavailableError, match="MAYBE"):
        await backend.models.get(EntryKey(ProviderName.HUGGING_FACE, "odd", ""))


# ---- models -------------------------------------------------------------------------------------------

KEY = model_key("google-t5/t5-small")
MAIN = f"mx:model:HuggingFace:mx1:{COMMIT}:-:google-t5/t5-small"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (KEY, MAIN),
        (replace(KEY, weights=False), f"mx:model:HuggingFace:mx1:{COMMIT}:m:google-t5/t5-small"),
        (replace(KEY, commit=""), "mx:model:HuggingFace:google-t5/t5-small"),
        (replace(KEY, commit="", weights=False), "mx:model:HuggingFace:mx1::m:google-t5/t5-small"),
        (EntryKey(ProviderName.S3, "s3://b/a:b", ""), "mx:model:S3:s3://b/a:b"),
        (EntryKey(ProviderName.GCS, "gs://b/m", ""), "mx:model:Gcs:gs://b/m"),
        (EntryKey(ProviderName.NGC, "o/models/m/1", ""), "mx:model:Ngc:o/models/m/1"),
        (EntryKey(ProviderName.HUGGING_FACE, "mx1:odd", ""), "mx:model:HuggingFace:mx1::-:mx1:odd"),
    ],
)
async def test_keys_of_models(models: RedisModelStore, raw: redis.Redis, key: EntryKey, name: str) -> None:
    assert isinstance(await models.claim(key, owner="a", lease_s=30, now_ms=1_000), Won)
    assert raw.keys("mx:model:*") == [name]
    assert [record.key for record in await models.list_models()] == [key]


async def test_fields_through_the_life_of_an_entry(models: RedisModelStore, raw: redis.Redis) -> None:
    now_ms = 1_767_225_600_123
    won = await models.claim(KEY, owner="host:1:ab", lease_s=30, now_ms=now_ms)
    assert isinstance(won, Won)
    claim_id = f"mx:{won.claim.token}:host:1:ab"
    times = {"created_at": "2026-01-01T00:00:00.123Z", "last_used_at": "2026-01-01T00:00:00.123Z"}
    assert raw.hgetall(MAIN) == {
        "status": "DOWNLOADING",
        "provider": "HuggingFace",
        "claim_id": claim_id,
        "lease_expires_at": str(now_ms + 30_000),
        **times,
    }
    failed = {"bytes_on_disk": 0, "files": 0, "retry_at_ms": now_ms + 5, "now_ms": now_ms}
    await models.finish(KEY, won.claim, status=EntryStatus.ERROR, message="no", **failed)
    assert raw.hgetall(MAIN) == {"status": "ERROR", "provider": "HuggingFace", "message": "no", **times}
    won = await models.claim(KEY, owner="b", lease_s=30, now_ms=now_ms + 5)
    assert isinstance(won, Won)
    assert "message" not in raw.hgetall(MAIN)
    await models.finish(KEY, won.claim, status=EntryStatus.DOWNLOADED, message="", **failed)
    assert raw.hget(MAIN, "status") == "DOWNLOADED"
    assert raw.ttl(MAIN) == -1
    observed = await models.get(KEY)
    assert observed is not None
    held = await models.mark_evicting(KEY, observed=observed, now_ms=now_ms + 9, lease_s=60)
    assert held is not None
    found = raw.hgetall(MAIN)
    assert (found["status"], found["lease_expires_at"]) == ("DOWNLOADING", str(now_ms + 60_009))
    assert PublishedServer(raw).claim(MAIN, "theirs") == "won", "a lease that is over is theirs to take"
    record = await models.get(KEY)
    assert record is not None
    assert record.status is EntryStatus.DOWNLOADING, "and no removal any more"


async def test_claims_of_published_servers_are_respected_and_theirs_respect_ours(
    models: RedisModelStore, raw: redis.Redis, link: Link
) -> None:
    server = PublishedServer(raw)
    assert server.claim(MAIN, "5f0c-uuid") == "won"
    now_ms = link.clock.now_ms()
    held = await models.claim(KEY, owner="a", lease_s=30, now_ms=now_ms)
    assert isinstance(held, Held)
    assert held.record.claim is not None
    assert (held.record.claim.owner, held.record.claim.token) == ("5f0c-uuid", 0)
    assert abs(held.record.claim.expires_at_ms - now_ms - 30_000) < 5_000
    assert abs(held.record.created_at_ms - now_ms) < 5_000
    won = await models.claim(KEY, owner="a", lease_s=30, now_ms=now_ms + 60_000)
    assert isinstance(won, Won)
    assert not server.finish(MAIN, "5f0c-uuid", "DOWNLOADED")
    assert server.claim(MAIN, "other") == "DOWNLOADING"
    await models.release(KEY, won.claim, now_ms=now_ms)
    assert server.claim(MAIN, "other") == "won"
    assert server.finish(MAIN, "other", "ERROR", "gated")
    record = await models.get(KEY)
    assert record is not None
    assert (record.status, record.message, record.claim) == (EntryStatus.ERROR, "gated", None)
    assert isinstance(await models.claim(KEY, owner="a", lease_s=30, now_ms=now_ms), Won)


async def test_of_both_kinds_at_once_one_wins(models: RedisModelStore, raw: redis.Redis, link: Link) -> None:
    server = PublishedServer(raw)
    for round_ in range(10):
        key = replace(KEY, name=f"org/m{round_}")
        main = f"mx:model:HuggingFace:mx1:{COMMIT}:-:org/m{round_}"
        now_ms = link.clock.now_ms()
        answers = await asyncio.gather(
            *(models.claim(key, owner=f"o{n}", lease_s=30, now_ms=now_ms) for n in range(8)),
            *(asyncio.to_thread(server.claim, main, f"theirs-{n}") for n in range(8)),
        )
        assert sum(isinstance(one, Won) or one == "won" for one in answers) == 1


async def test_what_only_mx_knows_outlives_their_changes_and_ends_with_the_entry(
    models: RedisModelStore, raw: redis.Redis
) -> None:
    await models.put(model_record(KEY, pin=Pin(reason="mine"), bytes_on_disk=7, created_at_ms=1_000))
    raw.hset(MAIN, mapping={"last_used_at": now_text(), "created_at": "1970-01-01T00:00:01+00:00"})
    record = await models.get(KEY)
    assert record is not None
    assert (record.pin, record.bytes_on_disk, record.created_at_ms) == (Pin(reason="mine"), 7, 1_000)
    assert record.last_used_at_ms > 1_700_000_000_000
    raw.delete(MAIN)
    assert await models.get(KEY) is None
    assert PublishedServer(raw).claim(MAIN, "theirs") == "won"
    record = await models.get(KEY)
    assert record is not None
    assert (record.pin, record.bytes_on_disk) == (None, 0)


async def test_tokens_grow_although_redis_lost_its_memory(
    models: RedisModelStore, raw: redis.Redis, link: Link
) -> None:
    tokens = []
    for _ in range(3):
        won = await models.claim(KEY, owner="a", lease_s=30, now_ms=link.clock.now_ms())
        assert isinstance(won, Won)
        tokens.append(won.claim.token)
        await models.delete(KEY)
        raw.flushall()
        await asyncio.sleep(0.11)
    assert tokens == sorted(set(tokens))


async def test_what_another_server_downloaded_is_verified_by_whoever_claims_it(
    models: RedisModelStore, raw: redis.Redis, link: Link
) -> None:
    server = PublishedServer(raw)
    assert server.claim(MAIN, "theirs") == "won"
    assert server.finish(MAIN, "theirs", "DOWNLOADED")
    before = raw.hgetall(MAIN)
    record = await models.get(KEY)
    assert record is not None
    assert (record.status, record.claim) == (EntryStatus.DOWNLOADING, None)
    assert is_older(record)
    assert raw.hgetall(MAIN) == before, "reading changes nothing"
    now_ms = link.clock.now_ms()
    won = await models.claim(KEY, owner="a", lease_s=30, now_ms=now_ms)
    assert isinstance(won, Won)
    end = {"message": "", "bytes_on_disk": 9, "files": 2, "retry_at_ms": 0, "now_ms": now_ms}
    assert await models.finish(KEY, won.claim, status=EntryStatus.DOWNLOADED, **end)
    assert isinstance(await models.claim(KEY, owner="b", lease_s=30, now_ms=now_ms), Ready)
    assert server.claim(MAIN, "theirs again") == "DOWNLOADED"


@pytest.mark.parametrize("status", ["DOWNLOADED", "DOWNLOADING", "ERROR"])
async def test_records_of_older_releases_are_found_under_the_bare_name(
    backend: RedisBackend, raw: redis.Redis, status: str
) -> None:
    times = {"created_at": now_text(), "last_used_at": now_text()}
    fields = {"status": status, "provider": "HuggingFace", **times}
    raw.hset("mx:model:HuggingFace:google-t5/t5-small", mapping=fields)
    await backend.sweep()
    (record,) = await backend.models.list_models(name=KEY.name)
    assert record.key == EntryKey(ProviderName.HUGGING_FACE, KEY.name, "")
    assert record.status is (EntryStatus.ERROR if status == "ERROR" else EntryStatus.DOWNLOADING)
    assert is_older(record), "reconciliation verifies its files and keeps them under their commit"
    assert await backend.models.delete(record.key, observed=record)
    assert raw.keys("mx:model:*") == []


async def test_records_without_a_provider_in_their_key_get_their_present_name(
    backend: RedisBackend, raw: redis.Redis
) -> None:
    times = {"created_at": now_text(), "last_used_at": now_text()}
    for name in ("gs://b/one", "gs://b/two"):
        raw.hset(f"mx:model:{name}", mapping={"status": "DOWNLOADED", "provider": "Gcs", **times})
    one = EntryKey(ProviderName.GCS, "gs://b/one", "")
    # By a claim at once, but only one of the same provider; by the sweep in time.
    other = EntryKey(ProviderName.S3, "gs://b/one", "")
    assert isinstance(await backend.models.claim(other, owner="a", lease_s=30, now_ms=1_000), Won)
    won = await backend.models.claim(one, owner="a", lease_s=30, now_ms=1_000)
    assert isinstance(won, Won)
    assert won.record.created_at_ms > 1_700_000_000_000, "it is the old record"
    assert raw.exists("mx:model:gs://b/one") == 0
    assert await backend.sweep() == 1
    assert {key for key in raw.keys("mx:model:*") if ":S3:" not in key} == {
        "mx:model:Gcs:gs://b/one",
        "mx:model:Gcs:gs://b/two",
    }
