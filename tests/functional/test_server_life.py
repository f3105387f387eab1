"""A server's life: probes, outage, drain, what it refuses, and how it ends as a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from running import Running, running

from mx import __version__
from mx.client.grpc import GrpcClient
from mx.config import load_settings
from mx.core.cached import CacheUsage
from mx.core.source import SourceEntry
from mx.errors import SettingsError, UnavailableError
from mx.server.app import SERVER_OPTIONS, SERVICE_NAMES, serve
from mx.server.interceptors import Traffic
from mx.server.listen import check_address, join_address
from mx.server.probes import LIVENESS_NAME
from mx.server.readiness import Readiness
from mx.store.memory import MemorySourceStore
from mx.testing.folder_cache import FolderCache
from mx.wire.v1 import admin, api, health, p2p

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
DEADLINE_S = 20.0
PUBLISH = p2p.PublishMetadataRequest(
    identity=p2p.SourceIdentity(model_name="m"), worker=p2p.WorkerMetadata(), worker_id="w"
)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():
            await asyncio.sleep(0.01)


class GatedStore(MemorySourceStore):
    """A store whose writes wait until the gate opens; ``fail`` makes them a defect instead."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.waiting = 0
        self.fail: Exception | None = None

    async def publish(self, entry: SourceEntry) -> None:
        if self.fail is not None:
            raise self.fail
        self.waiting += 1
        await self.gate.wait()
        await super().publish(entry)


@pytest.fixture
async def mx() -> AsyncIterator[Running]:
    async with running() as server:
        yield server


# ---- probes ----------------------------------------------------------------------------------


async def test_health_for_people(mx: Running) -> None:
    reply = await health.HealthServiceAsyncStub(mx.channel).GetHealth(health.HealthRequest())
    assert (reply.version, reply.status) == (__version__, "ok")
    # Counted from the start of this process, not from the first call.
    age_s = float(Path("/proc/uptime").read_text().split()[0]) - int(
        Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    ) / os.sysconf("SC_CLK_TCK")
    assert abs(reply.uptime - age_s) < 3


async def test_standard_health_knows_every_service(mx: Running) -> None:
    stub = health_pb2_grpc.HealthStub(mx.channel)
    for name in ("", LIVENESS_NAME, *SERVICE_NAMES):
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING
    listed = await stub.List(health_pb2.HealthListRequest())
    assert set(listed.statuses) == {"", LIVENESS_NAME, *SERVICE_NAMES}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watch_on_an_unknown_service_stays_open(mx: Running) -> None:
    watch = health_pb2_grpc.HealthStub(mx.channel).Watch(health_pb2.HealthCheckRequest(service="nobody"))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    assert not watch.done()
    watch.cancel()


async def test_api_answers_ping_and_names_what_it_does_not_know(mx: Running) -> None:
    stub = api.ApiServiceAsyncStub(mx.channel)
    reply = await stub.SendRequest(api.ApiRequest(action="ping", payload=b"ignored"))
    assert reply.success
    assert json.loads(reply.data) == {"message": "pong"}
    assert not reply.HasField("error")
    for action in ("", "PING", "reboot"):
        reply = await stub.SendRequest(api.ApiRequest(id="1", action=action))
        assert not reply.success
        assert not reply.HasField("data")
        assert action in reply.error


async def test_reflection_lists_and_describes_every_service(mx: Running) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(mx.channel)
    asks = [reflection_pb2.ServerReflectionRequest(list_services="")]
    asks += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in SERVICE_NAMES]
    replies = [reply async for reply in stub.ServerReflectionInfo(iter(asks))]
    names = {service.name for service in replies[0].list_services_response.service}
    assert names == {*SERVICE_NAMES, "grpc.reflection.v1alpha.ServerReflection"}
    for name, reply in zip(SERVICE_NAMES, replies[1:], strict=True):
        assert reply.file_descriptor_response.file_descriptor_proto, name


async def test_an_outage_of_the_store_shows_everywhere_and_passes(mx: Running) -> None:
    standard = health_pb2_grpc.HealthStub(mx.channel)
    watch = standard.Watch(health_pb2.HealthCheckRequest(service=p2p.P2pService_NAME))
    assert (await watch.read()).status == SERVING
    mx.store.down = True
    # A call that meets the outage makes the server look at once.
    with pytest.raises(grpc.aio.AioRpcError):
        await mx.p2p.ListSources(p2p.ListSourcesRequest())
    async with asyncio.timeout(DEADLINE_S):
        assert (await watch.read()).status == NOT_SERVING
    reply = await health.HealthServiceAsyncStub(mx.channel).GetHealth(health.HealthRequest())
    assert reply.status == "store unreachable"
    # What restarts pods must not follow: a restart mends no store.
    alive = await standard.Check(health_pb2.HealthCheckRequest(service=LIVENESS_NAME))
    assert alive.status == SERVING
    stub = admin.AdminServiceAsyncStub(mx.channel)
    status = await stub.GetServerStatus(admin.GetServerStatusRequest())
    assert (status.ready, status.store_ok, status.draining) == (False, False, False)
    mx.store.down = False
    status = await stub.GetServerStatus(admin.GetServerStatusRequest())  # looks itself
    assert (status.ready, status.store_ok) == (True, True)
    async with asyncio.timeout(DEADLINE_S):
        assert (await watch.read()).status == SERVING
    watch.cancel()


class BrokenCheck(MemorySourceStore):
    """A store with a defect in its check."""

    async def check(self) -> None:
        raise ZeroDivisionError


async def test_a_defect_in_the_check_is_not_ready_and_no_end(caplog: pytest.LogCaptureFixture) -> None:
    async with running(BrokenCheck()) as mx:
        reply = await health.HealthServiceAsyncStub(mx.channel).GetHealth(health.HealthRequest())
        assert reply.status == "store unreachable"
        assert (await mx.p2p.PublishMetadata(PUBLISH)).success
    assert "ZeroDivisionError" in caplog.text


# ---- what every call goes through ------------------------------------------------------------


async def test_bytes_that_are_no_message_are_an_invalid_argument(mx: Running) -> None:
    for name in ("PublishMetadata", "ListSources", "GetMetadata", "UpdateStatus"):
        call = mx.channel.unary_unary(f"/{p2p.P2pService_NAME}/{name}")
        for data in (b"\xff" * 9, b"\x0a\x05ab", b"\x08"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(data)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert name in (caught.value.details() or "")


async def test_fields_of_the_future_are_accepted(mx: Running) -> None:
    """Unknown fields, as a newer peer sends them, change nothing."""
    call = mx.channel.unary_unary(f"/{p2p.P2pService_NAME}/PublishMetadata")
    reply = p2p.PublishMetadataResponse.FromString(await call(PUBLISH.SerializeToString() + b"\xfa\x07\x01x"))
    assert reply.success


async def test_unknown_methods_are_unimplemented(mx: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mx.channel.unary_unary(f"/{p2p.P2pService_NAME}/Nothing")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_defect_is_internal_with_a_request_id_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = GatedStore()
    store.fail = ZeroDivisionError("secret detail")
    async with running(store) as mx:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mx.p2p.PublishMetadata(PUBLISH, metadata=(("x-request-id", "my-id-7"),))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "my-id-7" in (caught.value.details() or "")
    assert "secret detail" not in (caught.value.details() or "")
    assert dict(caught.value.trailing_metadata() or ())["mx-request-id"] == "my-id-7"
    assert "ZeroDivisionError" in caplog.text


async def test_every_answer_has_a_request_id_and_strange_ones_are_replaced(mx: Running) -> None:
    for given, kept in (("abc-1", True), ("a b", False), ("x" * 65, False)):
        call = mx.p2p.ListSources(p2p.ListSourcesRequest(), metadata=(("x-request-id", given),))
        await call
        answer = dict(await call.trailing_metadata())["mx-request-id"]
        assert (answer == given) is kept
        assert answer


async def test_the_access_log_has_fields_and_no_payload(
    mx: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="mx"):
        await mx.p2p.PublishMetadata(PUBLISH)
        request = api.ApiRequest(action="ping", payload=b"hush-payload")
        await api.ApiServiceAsyncStub(mx.channel).SendRequest(request)
    lines = [record for record in caplog.records if record.getMessage() == "call"]
    fields: list[Any] = [record.__dict__["fields"] for record in lines]
    assert [(f["method"], f["code"]) for f in fields] == [
        ("model_express.p2p.P2pService/PublishMetadata", "OK"),
        ("model_express.api.ApiService/SendRequest", "OK"),
    ]
    assert [record.levelname for record in lines] == ["INFO", "DEBUG"]
    assert "hush-payload" not in caplog.text


def test_more_calls_than_the_limit_are_told_to_come_back() -> None:
    full = Traffic(Readiness(MemorySourceStore()), max_in_flight=1)
    full.enter()
    with pytest.raises(UnavailableError, match="already answers 1 calls"):
        full.enter()
    full.leave()
    full.enter()


async def test_a_call_without_a_deadline_is_bounded() -> None:
    async with running(GatedStore(), unary_limit_s=0.05) as mx:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mx.p2p.PublishMetadata(PUBLISH)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert caught.value.details() == "PublishMetadata took longer than 0.05 s"
        assert mx.server.traffic.in_flight == 0


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_client_that_goes_away_ends_its_call(how: str) -> None:
    store = GatedStore()
    async with running(store) as mx:
        call = mx.p2p.PublishMetadata(PUBLISH, timeout=1 if how == "deadline" else None)

        async def arrived() -> bool:
            return mx.server.traffic.in_flight == 1

        async def gone() -> bool:
            return mx.server.traffic.in_flight == 0

        task = asyncio.ensure_future(_answer(call))
        await until(arrived)
        if how == "cancel":
            call.cancel()
        await until(gone)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await task
        store.gate.set()
        assert (await mx.p2p.PublishMetadata(PUBLISH)).success


async def _answer(call: Awaitable[Any]) -> Any:
    return await call


def test_the_options_of_the_contract_are_set() -> None:
    options = dict(SERVER_OPTIONS)
    assert options["grpc.http2.min_ping_interval_without_data_ms"] <= 10_000
    assert options["grpc.keepalive_permit_without_calls"] == 1
    assert options["grpc.http2.max_ping_strikes"] == 0
    assert options["grpc.max_receive_message_length"] == options["grpc.max_send_message_length"] == 100 << 20


async def test_a_client_that_pings_every_second_is_not_cut_off(mx: Running) -> None:
    """The published client pings a silent connection; a default server answers with GOAWAY."""
    options = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with grpc.aio.insecure_channel(mx.server.listen, options=options) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await watch.read()
        assert channel.get_state() is grpc.ChannelConnectivity.READY


# ---- drain -----------------------------------------------------------------------------------


async def test_a_drain_finishes_what_runs_and_refuses_what_comes() -> None:
    store = GatedStore()
    async with running(store) as mx:
        watch = health_pb2_grpc.HealthStub(mx.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        call = asyncio.ensure_future(_publish(mx))

        async def arrived() -> bool:
            return store.waiting == 1

        await until(arrived)
        drain = asyncio.ensure_future(mx.server.drain(DEADLINE_S))
        assert (await watch.read()).status == NOT_SERVING
        # Probes are still answered; work is refused so that clients go elsewhere or come again.
        reply = await health.HealthServiceAsyncStub(mx.channel).GetHealth(health.HealthRequest())
        assert reply.status == "draining"
        status = await admin.AdminServiceAsyncStub(mx.channel).GetServerStatus(admin.GetServerStatusRequest())
        assert (status.draining, status.ready) == (True, False)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mx.p2p.ListSources(p2p.ListSourcesRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in (caught.value.details() or "")
        assert not drain.done()
        store.gate.set()
        assert (await call).success
        assert await drain is True


async def test_a_drain_gives_up_after_its_grace_time() -> None:
    store = GatedStore()
    async with running(store) as mx:
        call = asyncio.ensure_future(_publish(mx))

        async def arrived() -> bool:
            return store.waiting == 1

        await until(arrived)
        async with asyncio.timeout(DEADLINE_S):
            assert await mx.server.drain(0.05) is False
        with pytest.raises(grpc.aio.AioRpcError):
            await call


async def _publish(mx: Running) -> p2p.PublishMetadataResponse:
    return await mx.p2p.PublishMetadata(PUBLISH)


# ---- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("127.0.0.1", "127.0.0.1:1"),
        ("localhost", "localhost:1"),
        ("::1", "[::1]:1"),
        ("[::1]", "[::1]:1"),
        ("::", "[::]:1"),
        ("0.0.0.0", "0.0.0.0:1"),
        ("fe80::1%eth0", "[fe80::1%eth0]:1"),
    ],
)
def test_addresses_are_joined(host: str, text: str) -> None:
    assert join_address(host, 1) == text


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "::1", "::"])
async def test_names_and_ipv6_can_be_listened_on(host: str) -> None:
    if ":" in host and not _has_ipv6():
        pytest.skip("no IPv6 on this machine")
    async with running(host=host) as mx:
        where = "[::1]" if ":" in host else "127.0.0.1"
        async with grpc.aio.insecure_channel(f"{where}:{mx.server.port}") as channel:
            assert (await api.ApiServiceAsyncStub(channel).SendRequest(api.ApiRequest(action="ping"))).success


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def test_a_port_in_use_is_one_clear_sentence(mx: Running) -> None:
    for host in ("127.0.0.1", "0.0.0.0", "localhost"):
        with pytest.raises(SettingsError, match="another process already does") as caught:
            check_address(host, mx.server.port)
        assert str(mx.server.port) in caught.value.message
        assert "--port" in caught.value.remedy


@pytest.mark.parametrize(
    ("host", "text"),
    [("no-such-name.invalid", "no address"), ("203.0.113.7", "not an address of this machine")],
)
def test_hosts_that_are_not_here_are_named(host: str, text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        check_address(host, 0)


async def test_enforced_security_is_refused_as_long_as_there_is_none(tmp_path: Path) -> None:
    flags = {
        "security.mode": "enforce",
        "security.token_audiences": "mx",
        "security.allowed_service_accounts": "ns:sa",
        "metadata.backend": "memory",
    }
    settings = load_settings(flags=flags, environ={}, cwd=tmp_path)
    with pytest.raises(SettingsError, match="enforce is not available"):
        await serve(settings, port=0)


# ---- the process -----------------------------------------------------------------------------

_CODE = """
import asyncio, sys
from pathlib import Path
from mx.config import load_settings
from mx.errors import MxError
from mx.server.app import serve

def ready(server):
    print(server.listen, flush=True)

flags = {"database.path": sys.argv[1], "server.host": "127.0.0.1", "server.grace_s": float(sys.argv[2])}
try:
    settings = load_settings(flags=flags, environ={}, cwd=Path(sys.argv[1]).parent)
    sys.exit(asyncio.run(serve(settings, port=int(sys.argv[3]), on_ready=ready)))
except MxError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


@contextlib.asynccontextmanager
async def process(
    database: Path, *, grace_s: float = 10, port: int = 0
) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _CODE,
        str(database),
        str(grace_s),
        str(port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def _listening(child: asyncio.subprocess.Process) -> str:
    assert child.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        line = (await child.stdout.readline()).decode().strip()
    assert line, (await child.communicate())[1].decode()
    return line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_with_zero_and_records_stay(
    tmp_path: Path, number: signal.Signals
) -> None:
    database = tmp_path / "models.db"
    for turn in range(2):
        async with process(database) as child:
            async with grpc.aio.insecure_channel(await _listening(child)) as channel:
                stub = p2p.P2pServiceAsyncStub(channel)
                if turn == 0:
                    assert (await stub.PublishMetadata(PUBLISH)).success
                rows = await stub.ListSources(p2p.ListSourcesRequest())
                assert [row.worker_id for row in rows.instances] == ["w"]
            child.send_signal(number)
            async with asyncio.timeout(DEADLINE_S):
                assert await child.wait() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 1), (signal.SIGINT, 130)])
async def test_a_second_signal_forces_the_end(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """A call that can't finish: its database is locked by another process for longer than this test."""
    database = tmp_path / "models.db"
    async with (
        process(database, grace_s=600) as child,
        grpc.aio.insecure_channel(await _listening(child)) as channel,
    ):
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            call = asyncio.ensure_future(_call(p2p.P2pServiceAsyncStub(channel)))
            stub = health.HealthServiceAsyncStub(channel)
            for _ in range(20):  # behind the publish, on the same connection
                await stub.GetHealth(health.HealthRequest())
            child.send_signal(number)

            async def draining() -> bool:
                return (await stub.GetHealth(health.HealthRequest())).status == "draining"

            await until(draining)
            child.send_signal(number)
            async with asyncio.timeout(DEADLINE_S):
                assert await child.wait() == code
            with pytest.raises(grpc.aio.AioRpcError):
                await call


async def _call(stub: p2p.P2pServiceAsyncStub) -> p2p.PublishMetadataResponse:
    return await stub.PublishMetadata(PUBLISH)


async def test_two_servers_do_not_share_a_port(tmp_path: Path) -> None:
    async with process(tmp_path / "one.db") as first:
        port = int((await _listening(first)).rpartition(":")[2])
        async with process(tmp_path / "two.db", port=port) as second:
            async with asyncio.timeout(DEADLINE_S):
                _, err = await second.communicate()
    assert second.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}: another process already does" in err.decode()
    assert err.decode().count("\n") == 1


@pytest.mark.parametrize("kind", ["corrupt", "directory", "missing directory"])
async def test_a_database_that_cannot_be_used_is_one_clear_sentence(tmp_path: Path, kind: str) -> None:
    database = tmp_path / "models.db"
    if kind == "corrupt":
        database.write_bytes(b"this is not a database at all " * 500)
    elif kind == "directory":
        database.mkdir()
    else:
        (tmp_path / "file").write_text("")
        database = tmp_path / "file" / "models.db"
    async with process(database) as child, asyncio.timeout(DEADLINE_S):
        out, err = await child.communicate()
    assert child.returncode == 1
    assert out == b""
    assert str(database) in err.decode()
    assert "Traceback" not in err.decode()
    if kind == "corrupt":
        assert database.read_bytes().startswith(b"this is not")


class SlowToMeasure(FolderCache):
    """A walk over it takes longer than other calls may."""

    def usage(self) -> CacheUsage:
        time.sleep(0.5)
        return super().usage()


async def test_what_walks_over_a_whole_cache_has_longer_than_other_calls(tmp_path: Path) -> None:
    async with running(unary_limit_s=0.05, cache=SlowToMeasure(tmp_path)) as mx:
        stub = admin.AdminServiceAsyncStub(mx.channel)
        await stub.PlanEviction(admin.PlanEvictionRequest())
        with pytest.raises(grpc.RpcError) as caught:
            await stub.ListModels(admin.ListModelsRequest())
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        client = GrpcClient(mx.server.listen, timeout_s=0.05)
        assert (await client.plan_eviction()).victims == ()
        await client.close()
