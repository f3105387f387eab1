"""One Redis that is cut off, slow, silent, restarted, flushed, a replica, full; and what callers learn of it.

Every call ends within its deadline with an answer that is true, or with UnavailableError; when the fault
is over the next call works.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from mx.config import load_settings
from mx.core.model import EntryStatus
from mx.core.source import SourceFilter, SourceStatus
from mx.core.transitions import Held, Won
from mx.errors import MxError, UnavailableError
from mx.store.redis import Link, RedisModelStore, RedisSourceStore, open_link
from mx.testing.redis_servers import RedisServer, running_redis, valkey_program
from mx.testing.samples import PEER, entry, model_key, model_record
from mx.testing.tcp_proxy import TcpProxy
from mx.testing.watching import Told

READY = int(SourceStatus.READY)
TIMEOUT_S = 2.0
# A busy machine notices a deadline late.
MARGIN_S = 10.0
KEY = model_key()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running_redis(valkey_program()) as server:
        yield server


@pytest.fixture
def raw(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[TcpProxy]:
    with TcpProxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def link(proxy: TcpProxy) -> AsyncIterator[Link]:
    flags = {"redis.url": f"redis://127.0.0.1:{proxy.port}", "redis.timeout_s": TIMEOUT_S}
    link = await open_link(load_settings(flags=flags, environ={}, scope="server").redis)
    yield link
    proxy.heal()
    await link.close()


@pytest.fixture
def sources(link: Link) -> RedisSourceStore:
    return RedisSourceStore(link, ttl_s=600)


@pytest.fixture
def models(link: Link) -> RedisModelStore:
    return RedisModelStore(link)


async def is_unavailable(sources: RedisSourceStore, models: RedisModelStore, *, words: str = "") -> None:
    """Writes and the readiness probe are refused, in time."""
    begin = time.monotonic()
    answers = await asyncio.gather(
        sources.update_status(entry().key, status=READY, source_load=None, now_ms=90_000),
        sources.publish(entry("new")),
        models.claim(model_key("org/new"), owner="a", lease_s=30, now_ms=1_000),
        sources.check(),
        return_exceptions=True,
    )
    for answer in answers:
        assert isinstance(answer, UnavailableError), answer
        assert words in str(answer)
        assert answer.remedy
    assert time.monotonic() - begin < TIMEOUT_S + MARGIN_S


async def works_again(sources: RedisSourceStore, models: RedisModelStore) -> None:
    """Within a moment: a connection or two may still have to be found broken."""
    async with asyncio.timeout(30):
        while True:
            try:
                await sources.check()
                break
            except UnavailableError:
                await asyncio.sleep(0.05)
    await sources.publish(entry(peer=PEER, updated_at_ms=10_000))
    assert await sources.update_status(entry().key, status=READY, source_load=None, now_ms=11_000)
    assert await sources.get(entry().source_id, "w0") is not None
    assert isinstance(await models.claim(KEY, owner="a", lease_s=30, now_ms=1), Won | Held)


async def test_cut_again_and_again_nobody_is_told_anything_false(
    proxy: TcpProxy, sources: RedisSourceStore, models: RedisModelStore
) -> None:
    """Claims, ends and heartbeats run while every connection is cut every few milliseconds."""
    draw = random.Random(7)
    over = asyncio.Event()
    unavailable = 0
    won: list[int] = []

    async def cut() -> None:
        while not over.is_set():
            await asyncio.sleep(draw.uniform(0.005, 0.05))
            await asyncio.to_thread(proxy.cut)

    async def claimant(number: int) -> None:
        nonlocal unavailable
        for _ in range(25):
            try:
                answer = await models.claim(KEY, owner=f"o{number}", lease_s=30, now_ms=1_000)
                if not isinstance(answer, Won):
                    await asyncio.sleep(0.002)
                    continue
                won.append(answer.claim.token)
                record = await models.get(KEY)
                assert record is not None
                assert record.claim == answer.claim, "who won has it"
                assert await models.release(KEY, answer.claim, now_ms=1_000) in (True, False)
            except UnavailableError:
                unavailable += 1

    async def worker(number: int) -> None:
        nonlocal unavailable
        one = entry(f"w{number}")
        for beat in range(25):
            try:
                known = await sources.update_status(
                    one.key, status=READY, source_load=None, now_ms=1_000 + beat
                )
                if not known:
                    await sources.publish(one)
            except UnavailableError:
                unavailable += 1

    cutting = asyncio.create_task(cut())
    async with asyncio.TaskGroup() as tasks:
        for number in range(6):
            tasks.create_task(claimant(number))
            tasks.create_task(worker(number))
    over.set()
    await cutting
    assert len(won) == len(set(won)), "no token is given twice"
    assert proxy.accepted > 5
    await works_again(sources, models)
    assert sum((await sources.count_by_status()).values()) == len([row async for row in sources.scan()])


async def test_an_answer_that_is_lost_is_asked_for_again(proxy: TcpProxy, models: RedisModelStore) -> None:
    """What was asked has happened: the claim is ours, once, wherever in the answers the cut falls."""
    for after in range(0, 240, 7):
        key = model_key(f"org/m{after}")
        proxy.cut_answers_after(after)
        answer = await models.claim(key, owner="a", lease_s=30, now_ms=1_000)
        proxy.heal()
        assert isinstance(answer, Won), f"cut after {after} bytes: {answer}"
        record = await models.get(key)
        assert record == answer.record
        proxy.cut_answers_after(after)
        ended = await models.finish(
            key,
            answer.claim,
            status=EntryStatus.DOWNLOADED,
            message="",
            bytes_on_disk=1,
            files=1,
            retry_at_ms=0,
            now_ms=2_000,
        )
        proxy.heal()
        assert ended, f"cut after {after} bytes"


async def test_slow_is_slow_and_too_slow_is_unavailable(
    proxy: TcpProxy, sources: RedisSourceStore, models: RedisModelStore
) -> None:
    await works_again(sources, models)
    proxy.delay_s = 0.1
    assert await sources.update_status(entry().key, status=READY, source_load=None, now_ms=12_000)
    proxy.delay_s = 3 * TIMEOUT_S
    await is_unavailable(sources, models)
    proxy.heal()
    await works_again(sources, models)


async def test_a_silent_host_is_noticed_by_every_call_and_by_watches(
    proxy: TcpProxy, sources: RedisSourceStore, models: RedisModelStore
) -> None:
    await works_again(sources, models)
    told: Told[object] = Told()
    watch = asyncio.create_task(_watch(sources, told))
    await told.of(None)
    proxy.hush()
    told.keys.clear()
    await is_unavailable(sources, models, words="did not answer within 2 s")
    proxy.heal()
    await told.of(None)  # the watch stands again: anything may have happened
    await works_again(sources, models)
    await told.after(sources.remove(entry().key), entry().key)
    watch.cancel()


async def _watch(sources: RedisSourceStore, told: Told[object]) -> None:
    await sources.watch(told.tell)


async def test_refused_then_back(proxy: TcpProxy, sources: RedisSourceStore, models: RedisModelStore) -> None:
    proxy.refuse()
    await is_unavailable(sources, models, words="can't be reached")
    proxy.heal()
    await works_again(sources, models)


async def test_a_paused_redis_answers_when_it_wakes_up(
    server: RedisServer, sources: RedisSourceStore, models: RedisModelStore
) -> None:
    server.pause()
    try:
        await is_unavailable(sources, models, words="did not answer")
    finally:
        server.resume()
    await works_again(sources, models)


async def test_restarted_empty_it_knows_no_scripts_and_no_workers(
    server: RedisServer, sources: RedisSourceStore, models: RedisModelStore
) -> None:
    await works_again(sources, models)
    server.kill()
    await is_unavailable(sources, models)
    server.start()
    async with asyncio.timeout(30):
        while True:
            try:
                known = await sources.update_status(
                    entry().key, status=READY, source_load=None, now_ms=12_000
                )
                break
            except UnavailableError:
                await asyncio.sleep(0.05)
    assert not known, "so that the worker publishes itself anew"
    await works_again(sources, models)


async def test_scripts_are_sent_again_to_a_redis_that_forgot_them(
    raw: redis.Redis, sources: RedisSourceStore, models: RedisModelStore
) -> None:
    await works_again(sources, models)
    raw.script_flush()
    await works_again(sources, models)


@pytest.mark.parametrize("fault", ["flush", "restart"])
async def test_a_download_outlives_the_loss_of_its_record(
    server: RedisServer, raw: redis.Redis, models: RedisModelStore, fault: str
) -> None:
    won = await models.claim(KEY, owner="a", lease_s=30, now_ms=1_000, requested_revision="main")
    assert isinstance(won, Won)
    numbers = {"bytes_done": 5, "bytes_total": 9, "files": 2}
    if fault == "flush":
        raw.flushall()
    else:
        server.kill()
        server.start()
    async with asyncio.timeout(30):
        while True:
            try:
                renewed = await models.refresh(KEY, won.claim, lease_s=30, now_ms=2_000, **numbers)
                break
            except UnavailableError:
                await asyncio.sleep(0.05)
    assert renewed is not None
    record = await models.get(KEY)
    assert record is not None
    assert (record.claim, record.bytes_done, record.requested_revision) == (renewed, 5, "main")
    assert isinstance(await models.claim(KEY, owner="b", lease_s=30, now_ms=3_000), Held)
    raw = server.client()
    raw.flushall()
    raw.close()
    end = {"message": "", "bytes_on_disk": 9, "files": 2, "retry_at_ms": 0, "now_ms": 4_000}
    assert await models.finish(KEY, renewed, status=EntryStatus.DOWNLOADED, **end)
    assert [one.status for one in await models.list_models()] == [EntryStatus.DOWNLOADED]
    assert not await models.finish(KEY, renewed, status=EntryStatus.DOWNLOADED, **end)


async def test_a_download_that_was_deleted_is_not_written_again(
    raw: redis.Redis, models: RedisModelStore
) -> None:
    won = await models.claim(KEY, owner="a", lease_s=30, now_ms=1_000)
    assert isinstance(won, Won)
    assert await models.delete(KEY)
    numbers = {"bytes_done": 5, "bytes_total": 9, "files": 2}
    assert await models.refresh(KEY, won.claim, lease_s=30, now_ms=2_000, **numbers) is None
    assert await models.get(KEY) is None
    # Nor one that somebody else has won since Redis lost it.
    won = await models.claim(KEY, owner="a", lease_s=30, now_ms=1_000)
    assert isinstance(won, Won)
    raw.flushall()
    assert isinstance(await models.claim(KEY, owner="b", lease_s=30, now_ms=1_000), Won)
    assert await models.refresh(KEY, won.claim, lease_s=30, now_ms=2_000, **numbers) is None


async def test_a_removal_whose_record_was_lost_is_not_made_a_download(
    raw: redis.Redis, models: RedisModelStore
) -> None:
    await models.put(model_record())
    observed = await models.get(KEY)
    assert observed is not None
    held = await models.mark_evicting(KEY, observed=observed, now_ms=2_000)
    assert held is not None
    raw.flushall()
    numbers = {"bytes_done": 0, "bytes_total": 0, "files": 0}
    assert await models.refresh(KEY, held, lease_s=30, now_ms=3_000, **numbers) is None
    assert await models.get(KEY) is None


async def test_a_primary_that_became_a_replica_refuses_writes_and_answers_reads(
    raw: redis.Redis, sources: RedisSourceStore, models: RedisModelStore
) -> None:
    await works_again(sources, models)
    with running_redis(valkey_program()) as other:
        raw.replicaof("127.0.0.1", other.port)
        await is_unavailable(sources, models, words="read-only replica")
        raw.replicaof("NO", "ONE")
    await works_again(sources, models)


async def test_a_full_redis_refuses_writes_and_answers_reads(
    raw: redis.Redis, sources: RedisSourceStore, models: RedisModelStore
) -> None:
    await works_again(sources, models)
    raw.config_set("maxmemory-policy", "noeviction")
    raw.config_set("maxmemory", "1")
    await is_unavailable(sources, models, words="out of memory")
    assert await sources.get(entry().source_id, "w0") is not None
    assert len([row async for row in sources.scan()]) == 1
    assert await sources.remove(entry().key), "what makes room is not refused"
    raw.config_set("maxmemory", "0")
    await works_again(sources, models)


async def test_a_redis_that_evicts_anything_loses_no_worker_for_longer_than_a_heartbeat(
    raw: redis.Redis, sources: RedisSourceStore
) -> None:
    """maxmemory-policy allkeys-random, the worst an operator can choose."""
    many = [entry(f"w{number}") for number in range(50)]
    for one in many:
        await sources.publish(one)
    draw = random.Random(3)
    for round_ in range(1, 6):
        for key in raw.keys("*"):
            if draw.random() < 0.3:
                raw.delete(key)
        for one in many:
            beat = {"status": READY, "source_load": None, "now_ms": 1_000 + round_}
            if not await sources.update_status(one.key, **beat):
                await sources.publish(one)
        query = SourceFilter(source_id=many[0].source_id)
        rows = await sources.list_sources(query, fresh_after_ms=None)
        assert {row.worker_id for row in rows} == {one.worker_id for one in many}


async def test_errors_never_show_the_password(proxy: TcpProxy) -> None:
    url = f"redis://mx:geheim@127.0.0.1:{proxy.port}"
    flags = {"redis.url": url, "redis.timeout_s": TIMEOUT_S}
    settings = load_settings(flags=flags, environ={}, scope="server").redis
    for fault in (proxy.refuse, proxy.hush):
        fault()
        with pytest.raises(MxError) as caught:
            await open_link(settings)
        proxy.heal()
        assert "geheim" not in str(caught.value)
        assert f"redis://127.0.0.1:{proxy.port}" in str(caught.value)
