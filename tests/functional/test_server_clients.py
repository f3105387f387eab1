"""Both clients against a real mx server, against one that has published services only, and against none."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import grpc.aio
import pytest
from running import Running, running

from mx import __version__
from mx.client.base import Client
from mx.client.grpc import GrpcClient
from mx.client.sync import SyncClient
from mx.core.source import (
    PodReference,
    SourceFilter,
    SourceIdentity,
    SourceStatus,
    TensorSource,
    WorkerKey,
    source_id,
)
from mx.core.transfer import SourceShare, Strategy, TransferReport, TransferState
from mx.errors import (
    DeadlineError,
    ErrorCode,
    InvalidArgumentError,
    MxError,
    PreconditionError,
    UnavailableError,
)
from mx.server.sources import P2pService
from mx.testing.samples import FULL_WORKER, IDENTITY, PEER
from mx.wire.v1 import p2p

READY = SourceStatus.READY
KEY = WorkerKey(source_id(IDENTITY), "w", 0)
REPORT = TransferReport(
    transfer_id="t1",
    model_name="m",
    source_id="s",
    worker_id="w",
    worker_rank=1,
    strategy=Strategy.PEER,
    state=TransferState.DONE,
    bytes_total=100,
    bytes_done=100,
    verified=True,
    started_at_ms=5,
    seconds=1.5,
    stages_s={"discover": 0.25, "read": 1.0},
    sources=(SourceShare("w2", "h:1", 100, 0.8, 3, verified=True, dropped="slow"),),
    segments=3,
    segments_reread=1,
    tensors=2,
    verify_cpu_s=0.125,
    reason="",
)


class InThread:
    """A SyncClient awaited: each call in a thread, so that one test speaks to both clients."""

    def __init__(self, client: SyncClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(method, *args, **kwargs)

        return call


KINDS = ("async", "sync")


def connect(kind: str, target: str, **options: Any) -> Client:
    if kind == "async":
        return GrpcClient(target, **options)
    return cast("Client", InThread(SyncClient(target, **options)))


@asynccontextmanager
async def connected(kind: str, target: str, **options: Any) -> AsyncIterator[Client]:
    client = connect(kind, target, **options)
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def mx() -> AsyncIterator[Running]:
    async with running() as server:
        yield server


@pytest.fixture(params=KINDS)
async def client(request: pytest.FixtureRequest, mx: Running) -> AsyncIterator[Client]:
    async with connected(request.param, f"http://{mx.server.listen}/") as client:
        yield client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_both_clients_have_the_methods_of_the_protocol() -> None:
    names = {name for name in vars(Client) if not name.startswith("_")}
    for kind in (GrpcClient, SyncClient):
        for name in names:
            wanted = list(inspect.signature(getattr(Client, name)).parameters.values())
            assert list(inspect.signature(getattr(kind, name)).parameters.values()) == wanted, name


# ---- against mx ------------------------------------------------------------------------------


async def test_health_and_status(client: Client, mx: Running) -> None:
    health = await client.health()
    assert (health.version, health.status) == (__version__, "ok")
    status = await client.status()
    assert (status.version, status.ready, status.draining, status.store_backend) == (
        __version__,
        True,
        False,
        "memory",
    )
    assert status.listen == mx.server.listen
    assert status.sources_by_status["ready"] == 0
    assert 0 < status.started_at_ms <= mx.clock.now_ms()


async def test_send(client: Client) -> None:
    reply = await client.send("ping", payload=b"{}")
    assert (reply.success, reply.data, reply.error) == (True, b'{"message": "pong"}', None)
    reply = await client.send("reboot")
    assert (reply.success, reply.data) == (False, None)
    assert "reboot" in (reply.error or "")


async def test_a_source_from_publish_to_withdraw(client: Client, mx: Running) -> None:
    pod = PodReference("p", "u", "n")
    assert not await client.update_status(KEY, READY)
    assert not await client.announce(KEY, PEER)
    assert await client.get_source(KEY.source_id, "w") is None
    assert await client.publish(IDENTITY, FULL_WORKER, worker_id="w", pod=pod) == KEY.source_id
    assert await client.announce(KEY, PEER)
    assert await client.update_status(KEY, READY, source_load=0.0)
    (row,) = await client.find_peers(IDENTITY, worker_rank=0)
    assert (row.key, row.status, row.source_load, row.peer) == (KEY, READY, 0.0, PEER)
    assert await client.find_peers(IDENTITY, worker_rank=1) == ()
    assert await client.find_peers(replace(IDENTITY, revision="x"), worker_rank=0) == ()
    assert await client.list_sources(SourceFilter()) == (row,)
    assert await client.list_sources(SourceFilter(source_id=KEY.source_id, status=READY)) == (row,)
    assert await client.list_sources(SourceFilter(source_id="other")) == ()
    assert await client.list_sources(SourceFilter(), identity=replace(IDENTITY, dtype="x")) == ()
    entry = await client.get_source(KEY.source_id, "w")
    assert entry is not None
    assert entry.worker == replace(FULL_WORKER, updated_at_ms=mx.clock.now_ms(), status=READY)
    assert (entry.identity, entry.peer, entry.pod, entry.source_load) == (IDENTITY, PEER, pod, 0.0)
    assert await client.withdraw(KEY)
    assert not await client.withdraw(KEY)
    assert await client.list_sources(SourceFilter()) == ()


async def test_expired_sources_are_no_peers_but_are_listed(client: Client, mx: Running) -> None:
    await client.publish(IDENTITY, FULL_WORKER, worker_id="w")
    mx.clock.advance(91)
    assert await client.find_peers(IDENTITY, worker_rank=0) == ()
    assert len(await client.list_sources(SourceFilter())) == 1


async def test_transfers(client: Client) -> None:
    assert await client.list_transfers() == ()
    await client.report_transfer(replace(REPORT, state=TransferState.RUNNING, bytes_done=1))
    await client.report_transfer(REPORT)
    await client.report_transfer(replace(REPORT, transfer_id="t2"))
    assert await client.list_transfers() == (replace(REPORT, transfer_id="t2"), REPORT)
    assert await client.list_transfers(limit=1) == (replace(REPORT, transfer_id="t2"),)


async def test_refusals_keep_the_servers_words(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="model_name is empty"):
        await client.publish(SourceIdentity(""), FULL_WORKER, worker_id="w")
    with pytest.raises(InvalidArgumentError, match="worker_id is empty"):
        await client.announce(replace(KEY, worker_id=""), PEER)
    with pytest.raises(InvalidArgumentError, match="needs an identity"):
        await client.find_peers(SourceIdentity(""), worker_rank=0)
    with pytest.raises(InvalidArgumentError, match="WorkerMetadata"):
        await client.publish(IDENTITY, replace(FULL_WORKER, worker_rank=-1), worker_id="w")


async def test_an_outage_is_unavailable_with_the_servers_remedy(client: Client, mx: Running) -> None:
    mx.store.down = True
    with pytest.raises(UnavailableError) as caught:
        await client.list_sources(SourceFilter())
    assert caught.value.message == "the store is down"
    assert caught.value.remedy == "wait until it is back"
    assert mx.store.refused >= 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_short_outage_is_ridden_out(kind: str, mx: Running) -> None:
    mx.store.down = True
    refused = mx.store.refused
    async with connected(kind, mx.server.listen, max_retries=50, retry_delay_s=0.01) as client:
        call = asyncio.ensure_future(_list(client))
        async with asyncio.timeout(10):
            while mx.store.refused < refused + 2:
                await asyncio.sleep(0.005)
        mx.store.down = False
        assert await call == ()


async def _list(client: Client) -> tuple[Any, ...]:
    return await client.list_sources(SourceFilter())


@pytest.mark.parametrize("kind", KINDS)
async def test_the_token_is_sent(kind: str) -> None:
    seen: list[dict[str, Any]] = []

    class Recorder(P2pService):
        async def ListSources(
            self, request: p2p.ListSourcesRequest, context: Any, /
        ) -> p2p.ListSourcesResponse:
            seen.append(dict(context.invocation_metadata()))
            return await super().ListSources(request, context)

    async with running() as mx, _published(Recorder(mx.services.sources)) as target:
        tokens = iter(["first", None])
        async with connected(kind, target, token=lambda: next(tokens, None)) as client:
            await client.list_sources(SourceFilter(status=READY))  # the first goes to a call that isn't there
            await client.list_sources(SourceFilter(status=READY))
        async with connected(kind, target, token=lambda: "second") as client:
            await client.list_sources(SourceFilter(status=READY))
    assert [metadata.get("authorization") for metadata in seen] == [None, None, "Bearer second"]


async def test_many_threads_share_one_client(mx: Running) -> None:
    with SyncClient(mx.server.listen) as client, ThreadPoolExecutor(16) as pool:

        def one(index: int) -> bool:
            worker = f"w{index}"
            source = client.publish(IDENTITY, replace(FULL_WORKER, payload=TensorSource()), worker_id=worker)
            return client.update_status(WorkerKey(source, worker, 0), READY, source_load=index / 100)

        loop = asyncio.get_running_loop()
        assert all(await asyncio.gather(*(loop.run_in_executor(pool, one, index) for index in range(100))))
        rows = await loop.run_in_executor(pool, lambda: client.find_peers(IDENTITY, worker_rank=0))
    assert {row.worker_id: row.source_load for row in rows} == {
        f"w{index}": pytest.approx(index / 100) for index in range(100)
    }


# ---- against a published server --------------------------------------------------------------


@asynccontextmanager
async def _published(service: P2pService) -> AsyncIterator[str]:
    """A server with the published P2P service and nothing of mx's own."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([p2p.P2pService_handler(service)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_published_server_gets_published_calls(kind: str) -> None:
    async with (
        running() as mx,
        _published(P2pService(mx.services.sources)) as target,
        connected(kind, target) as client,
    ):
        other = replace(IDENTITY, model_name="other")
        assert await client.publish(IDENTITY, FULL_WORKER, worker_id="w") == KEY.source_id
        mx.clock.advance(1)
        await client.publish(other, replace(FULL_WORKER, status=SourceStatus.STALE), worker_id="x")
        mx.clock.advance(1)
        await client.publish(other, replace(FULL_WORKER, status=0, worker_rank=3), worker_id="y")
        (row,) = await client.find_peers(IDENTITY, worker_rank=0)
        assert (row.key, row.status, row.peer) == (KEY, READY, None)
        rows = await client.list_sources(SourceFilter())
        assert [(r.worker_id, r.status) for r in rows] == [("y", 0), ("x", SourceStatus.STALE), ("w", READY)]
        rows = await client.list_sources(SourceFilter(source_id=KEY.source_id, limit=1))
        assert [r.worker_id for r in rows] == ["w"]
        rows = await client.list_sources(SourceFilter(worker_rank=3), identity=other)
        assert [r.worker_id for r in rows] == ["y"]
        entry = await client.get_source(KEY.source_id, "w")
        assert entry is not None
        assert entry.worker.payload == FULL_WORKER.payload
        assert await client.get_source(KEY.source_id, "nobody") is None
        assert await client.withdraw(KEY)  # STALE: there is no way to remove
        assert [r.status for r in await client.list_sources(SourceFilter(source_id=KEY.source_id))] == [
            SourceStatus.STALE
        ]
        await client.report_transfer(REPORT)
        for call in (client.announce(KEY, PEER), client.status(), client.list_transfers(), client.health()):
            with pytest.raises(PreconditionError, match="does not offer") as caught:
                await call
            assert target in caught.value.message


# ---- against nobody --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_there_is_unavailable_at_once(kind: str) -> None:
    port = free_port()
    async with connected(kind, f"127.0.0.1:{port}", max_retries=0) as client, asyncio.timeout(5):
        with pytest.raises(UnavailableError) as caught:
            await client.health()
    assert caught.value.message.startswith(f"can't reach 127.0.0.1:{port}: Connection refused")
    assert caught.value.remedy
    assert caught.value.code is ErrorCode.UNAVAILABLE


@pytest.mark.parametrize("kind", KINDS)
async def test_a_name_that_is_none_is_unavailable(kind: str) -> None:
    async with connected(kind, "no-such-name.invalid:1", max_retries=0, timeout_s=10) as client:
        with pytest.raises(UnavailableError, match=r"can't reach no-such-name\.invalid:1"):
            await client.health()


@pytest.mark.parametrize("kind", KINDS)
async def test_silence_is_a_deadline(kind: str) -> None:
    """Somebody accepts the connection and never says a word."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        async with connected(kind, target, timeout_s=0.3) as client, asyncio.timeout(5):
            with pytest.raises((DeadlineError, UnavailableError)) as caught:
                await client.health()
    assert target in caught.value.message


@pytest.mark.parametrize("kind", KINDS)
async def test_something_else_that_listens_is_a_clear_error(kind: str) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, connected(kind, target, timeout_s=3, max_retries=0) as client:
        with pytest.raises(MxError) as caught:
            await client.health()
    assert target in caught.value.message


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_comes_later_is_found(kind: str) -> None:
    async with running() as first:
        listen = first.server.listen
        async with connected(kind, listen, max_retries=100, retry_delay_s=0.05, timeout_s=20) as client:
            await client.health()
            await first.server.drain(0)
            call = asyncio.ensure_future(_health(client))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(call), 0.5)
            server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            from mx.server.probes import HealthService
            from mx.wire.v1 import health

            handler = health.HealthService_handler(HealthService(_ready(first), version="9"))
            server.add_generic_rpc_handlers([handler])
            server.add_insecure_port(listen)
            await server.start()
            assert (await call).version == "9"
            await server.stop(None)


def _ready(mx: Running) -> Any:
    from mx.server.readiness import Readiness

    return Readiness(mx.store)


async def _health(client: Client) -> Any:
    return await client.health()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_closed_client_says_so(kind: str, mx: Running) -> None:
    client = connect(kind, mx.server.listen)
    await client.health()
    await client.close()
    await client.close()
    with pytest.raises(UnavailableError, match="was closed"):
        await client.health()


async def test_close_ends_calls_that_wait_in_other_threads() -> None:
    client = SyncClient(f"127.0.0.1:{free_port()}", max_retries=100, retry_delay_s=5, timeout_s=600)
    ended: list[Exception] = []
    started = threading.Event()

    def wait() -> None:
        started.set()
        try:
            client.health()
        except UnavailableError as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    started.wait(5)
    await asyncio.to_thread(client.close)
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()
    assert "was closed" in str(ended[0])
