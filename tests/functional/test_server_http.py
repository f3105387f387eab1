"""The HTTP listener of a real server: what it answers, to whom, and what it bears."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
from model_server import FILES, WEIGHTS, ModelServer, model_server

from mx.core.model import ProviderName
from mx.errors import ConflictError, SettingsError
from mx.server.app import HttpPlace
from mx.server.http import HttpRules
from mx.testing.fake_hub import FakeHub
from mx.wire.v1 import admin

NAME = "org/model"
HF = ProviderName.HUGGING_FACE
LARGE = os.urandom(24 << 20)  # more than the buffers of a connection hold
PATHS = sorted(FILES)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.add(NAME, FILES)
        hub.add("org/large", {"config.json": b"{}", "model.safetensors": LARGE})
        yield hub


@pytest.fixture
async def mx(tmp_path: Path, hub: FakeHub) -> AsyncIterator[ModelServer]:
    async with model_server(tmp_path, hub, http=HttpPlace(0)) as server:
        yield server


class Reader:
    """What a reader does: open, then ask by number."""

    def __init__(self, mx: ModelServer) -> None:
        assert mx.server.http is not None
        self.mx = mx
        self.base = f"http://{mx.server.http.listen}"
        self.admin = admin.AdminServiceAsyncStub(mx.channel)
        self.http = aiohttp.ClientSession()

    async def open(self, name: str = NAME, **fields: Any) -> admin.OpenModelFilesResponse:
        async for update in self.admin.EnsureModel(
            admin.EnsureModelRequest(provider="hugging-face", name=name)
        ):
            last = update
        assert last.status == "downloaded", last.message
        return await self.admin.OpenModelFiles(admin.OpenModelFilesRequest(key=last.key, **fields))

    async def get(
        self, path: str, ticket: str = "", *, method: str = "GET", **headers: str
    ) -> tuple[int, Any, bytes]:
        if ticket:
            headers["Authorization"] = f"Bearer {ticket}"
        async with self.http.request(method, f"{self.base}{path}", headers=headers) as answer:
            return answer.status, answer.headers, await answer.read()


@pytest.fixture
async def reader(mx: ModelServer) -> AsyncIterator[Reader]:
    reader = Reader(mx)
    yield reader
    await reader.http.close()


@asynccontextmanager
async def reader_of(folder: Path, hub: FakeHub, rules: HttpRules) -> AsyncIterator[Reader]:
    async with model_server(folder, hub, http=HttpPlace(0, rules=rules)) as server:
        reader = Reader(server)
        yield reader
        await reader.http.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def raw(reader: Reader, number: int, ticket: str, *, buffer_bytes: int = 4096) -> socket.socket:
    """A connection that has asked for a whole file and reads nothing by itself."""
    assert reader.mx.server.http is not None
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", reader.mx.server.http.port))
    head = f"GET /files/{number} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ticket}\r\n\r\n"
    await loop.sock_sendall(connection, head.encode())
    return connection


def cut_short(connection: socket.socket) -> int:
    """Read to the end that the server makes; how many bytes came."""
    connection.settimeout(20)
    count = 0
    try:
        while data := connection.recv(1 << 20):
            count += len(data)
    except ConnectionResetError:
        pass
    return count


async def test_metrics_are_what_the_server_counts(reader: Reader) -> None:
    status, headers, body = await reader.get("/metrics")
    assert status == 200
    assert b"mx_build_info{" in body
    assert headers["Content-Type"] == reader.mx.server.metrics.exposition()[1]
    assert headers["Server"] == "mx"


async def test_health_and_readiness(reader: Reader) -> None:
    assert (await reader.get("/healthz"))[0] == 200
    assert (await reader.get("/readyz"))[0] == 200
    reader.mx.server.readiness.drain()
    assert (await reader.get("/healthz"))[0] == 200
    status, _, body = await reader.get("/readyz")
    assert (status, body) == (503, b"draining\n")


async def test_every_file_comes_whole(reader: Reader) -> None:
    opened = await reader.open()
    assert [file.path for file in opened.files] == PATHS
    for number, file in enumerate(opened.files):
        status, headers, body = await reader.get(f"/files/{number}", opened.ticket)
        assert (status, body) == (200, FILES[file.path])
        assert headers["ETag"] == f'"{file.xxh3}"'


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1000-199999", 1000, 200_000),
        ("bytes=2000000-", 2_000_000, len(WEIGHTS)),
        ("bytes=-10", len(WEIGHTS) - 10, len(WEIGHTS)),
        (f"bytes=5-{len(WEIGHTS) + 5}", 5, len(WEIGHTS)),
    ],
)
async def test_ranges(reader: Reader, asked: str, begin: int, end: int) -> None:
    opened = await reader.open()
    number = PATHS.index("model.safetensors")
    status, headers, body = await reader.get(f"/files/{number}", opened.ticket, Range=asked)
    assert (status, body) == (206, WEIGHTS[begin:end])
    assert headers["Content-Range"] == f"bytes {begin}-{end - 1}/{len(WEIGHTS)}"


@pytest.mark.parametrize(
    "asked", [f"bytes={len(WEIGHTS)}-", "bytes=9-3", "bytes=a-b", "bytes=1-2,5-6", "octets=0-1", "bytes=--1"]
)
async def test_ranges_that_are_none(reader: Reader, asked: str) -> None:
    opened = await reader.open()
    number = PATHS.index("model.safetensors")
    status, headers, _ = await reader.get(f"/files/{number}", opened.ticket, Range=asked)
    assert status == 416
    assert headers["Content-Range"] == f"bytes */{len(WEIGHTS)}"


async def test_head_tells_without_sending(reader: Reader) -> None:
    opened = await reader.open()
    number = PATHS.index("model.safetensors")
    status, headers, body = await reader.get(f"/files/{number}", opened.ticket, method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(WEIGHTS)), b"")


async def test_nothing_without_a_ticket(reader: Reader) -> None:
    opened = await reader.open()
    for header in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {opened.ticket}"}):
        status, headers, body = await reader.get("/files/0", **header)
        assert status == 401
        assert headers["WWW-Authenticate"] == "Bearer"
        assert opened.ticket.encode() not in body
    await reader.admin.CloseModelFiles(admin.CloseModelFilesRequest(ticket=opened.ticket))
    assert (await reader.get("/files/0", opened.ticket))[0] == 401


async def test_a_ticket_is_for_its_entry_only(reader: Reader) -> None:
    large, small = await reader.open("org/large"), await reader.open()
    assert len(large.files) == 2
    assert (await reader.get("/files/4", small.ticket))[0] == 200
    for path in ("/files/2", "/files/4", "/files/99999999999999999999"):
        assert (await reader.get(path, large.ticket))[0] == 404


@pytest.mark.parametrize(
    "path", ["/", "/files/", "/files/-1", "/files/a", "/files/0/../1x", "/metricsx", "/files/0%2f"]
)
async def test_other_paths_are_nothing(reader: Reader, path: str) -> None:
    opened = await reader.open()
    assert (await reader.get(path, opened.ticket))[0] == 404


async def test_other_methods_and_bodies_are_refused(reader: Reader) -> None:
    opened = await reader.open()
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert (await reader.get("/files/0", opened.ticket, method=method))[0] == 405


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x00" * 4000,
        b"GET /files/0 HTTP/1.1\r\n" + b"A: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET " + b"/x" * 50_000 + b" HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /files/0 HTTP/9.9\r\nContent-Length: -5\r\n\r\n",
    ],
)
async def test_rubbish_ends_its_own_connection_only(reader: Reader, rubbish: bytes) -> None:
    assert reader.mx.server.http is not None
    _, writer = streams = await asyncio.open_connection("127.0.0.1", reader.mx.server.http.port)
    writer.write(rubbish)
    async with asyncio.timeout(20):
        await streams[0].read()
    writer.close()
    assert (await reader.get("/healthz"))[0] == 200


async def test_a_link_out_of_the_cache_is_not_followed(reader: Reader, tmp_path: Path) -> None:
    opened = await reader.open()
    number = PATHS.index("tokenizer.json")
    secret = tmp_path / "secret"
    secret.write_bytes(FILES["tokenizer.json"])
    (view,) = reader.mx.cache.glob("models--org--model/snapshots/*/tokenizer.json")
    view.unlink()
    view.symlink_to(secret)
    status, _, body = await reader.get(f"/files/{number}", opened.ticket)
    assert (status, b"link that leaves" in body) == (404, True)


async def test_a_file_of_another_size_is_told(reader: Reader) -> None:
    opened = await reader.open()
    number = PATHS.index("model.safetensors")
    (view,) = reader.mx.cache.glob("models--org--model/snapshots/*/model.safetensors")
    os.truncate(view, 100)
    status, headers, body = await reader.get(f"/files/{number}", opened.ticket)
    assert (status, headers["mx-error-code"]) == (500, "integrity")
    assert b"has 100 bytes" in body


async def test_the_entry_stays_while_its_ticket_lives(reader: Reader) -> None:
    opened = await reader.open(holder="worker-7")
    models = reader.mx.services.models
    with pytest.raises(ConflictError, match="worker-7"):
        await models.delete(HF, NAME)
    await reader.admin.CloseModelFiles(admin.CloseModelFilesRequest(ticket=opened.ticket))
    async with asyncio.timeout(10):
        while True:
            try:
                await models.delete(HF, NAME)
                break
            except ConflictError:
                await asyncio.sleep(0.01)


async def test_a_file_that_is_written_to_is_cut(reader: Reader) -> None:
    opened = await reader.open("org/large")
    connection = await raw(reader, 1, opened.ticket)
    counts = reader.mx.server.http.counts  # type: ignore[union-attr]
    await until(lambda: counts.in_flight == 1)
    (view,) = reader.mx.cache.glob("models--org--large/snapshots/*/model.safetensors")
    with view.open("r+b") as file:
        file.write(b"x")
    assert await asyncio.to_thread(cut_short, connection) < len(LARGE)
    connection.close()
    assert counts.cut == 1


async def test_a_reader_that_takes_nothing_is_cut(tmp_path: Path, hub: FakeHub) -> None:
    async with reader_of(tmp_path, hub, HttpRules(silence_s=0.2)) as reader:
        opened = await reader.open("org/large")
        connection = await raw(reader, 1, opened.ticket)
        counts = reader.mx.server.http.counts  # type: ignore[union-attr]
        await until(lambda: counts.cut == 1)
        await until(lambda: counts.in_flight == 0)
        connection.close()


async def test_a_reader_that_vanishes_frees_its_thread(reader: Reader) -> None:
    opened = await reader.open("org/large")
    connections = [await raw(reader, 1, opened.ticket) for _ in range(5)]
    counts = reader.mx.server.http.counts  # type: ignore[union-attr]
    await until(lambda: counts.in_flight == 5)
    for connection in connections:
        connection.close()
    await until(lambda: counts.in_flight == 0)
    assert (await reader.get("/files/1", opened.ticket))[2] == LARGE


async def test_closing_a_ticket_cuts_what_is_read_by_it(reader: Reader) -> None:
    opened = await reader.open("org/large")
    connection = await raw(reader, 1, opened.ticket)
    counts = reader.mx.server.http.counts  # type: ignore[union-attr]
    await until(lambda: counts.in_flight == 1)
    await reader.admin.CloseModelFiles(admin.CloseModelFilesRequest(ticket=opened.ticket))
    assert await asyncio.to_thread(cut_short, connection) < len(LARGE)
    connection.close()


async def test_slow_readers_leave_turns_to_others_in_time(tmp_path: Path, hub: FakeHub) -> None:
    async with reader_of(tmp_path, hub, HttpRules(transfers=2, turn_s=0.1)) as reader:
        opened = await reader.open("org/large")
        slow = [await raw(reader, 1, opened.ticket) for _ in range(2)]
        counts = reader.mx.server.http.counts  # type: ignore[union-attr]
        await until(lambda: counts.in_flight == 2)
        status, headers, _ = await reader.get("/files/0", opened.ticket)
        assert (status, headers["mx-error-code"], headers["Retry-After"]) == (503, "exhausted", "1")
        slow.pop().close()
        await until(lambda: counts.in_flight == 1)
        assert (await reader.get("/files/0", opened.ticket))[0] == 200
        slow.pop().close()


async def test_a_request_waits_for_its_turn(tmp_path: Path, hub: FakeHub) -> None:
    async with reader_of(tmp_path, hub, HttpRules(transfers=1, turn_s=30)) as reader:
        opened = await reader.open("org/large")
        slow = await raw(reader, 1, opened.ticket)
        counts = reader.mx.server.http.counts  # type: ignore[union-attr]
        await until(lambda: counts.in_flight == 1)
        waiting = asyncio.create_task(reader.get("/files/0", opened.ticket))
        await asyncio.to_thread(cut_short_after_all, slow)
        assert (await waiting)[0] == 200
        slow.close()


def cut_short_after_all(connection: socket.socket) -> None:
    connection.settimeout(20)
    left = len(LARGE)
    while left > 0:
        left -= len(connection.recv(1 << 20))


async def test_connections_are_limited(tmp_path: Path, hub: FakeHub) -> None:
    async with reader_of(tmp_path, hub, HttpRules(connections=3)) as reader:
        assert reader.mx.server.http is not None
        port = reader.mx.server.http.port
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        async with asyncio.timeout(20):
            stream, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionResetError):
                assert await stream.read() == b""
            writer.close()
        for _, one in idle:
            one.close()


async def test_idle_connections_are_closed(tmp_path: Path, hub: FakeHub) -> None:
    async with reader_of(tmp_path, hub, HttpRules(idle_s=0.1)) as reader:
        assert reader.mx.server.http is not None
        stream, writer = await asyncio.open_connection("127.0.0.1", reader.mx.server.http.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost:")  # and never more
        async with asyncio.timeout(20):
            await stream.read()
        writer.close()


async def test_a_drain_waits_for_what_is_read_and_lets_nothing_new_in(reader: Reader) -> None:
    opened = await reader.open("org/large")
    connection = await raw(reader, 1, opened.ticket)
    counts = reader.mx.server.http.counts  # type: ignore[union-attr]
    await until(lambda: counts.in_flight == 1)
    drained = asyncio.create_task(reader.mx.server.drain(20))
    await until(lambda: reader.mx.server.readiness.draining)
    status, headers, _ = await reader.get("/files/0", opened.ticket)
    assert (status, headers["mx-error-code"]) == (503, "unavailable")
    assert not drained.done()
    await asyncio.to_thread(cut_short_after_all, connection)
    assert await drained
    connection.close()


async def test_a_drain_that_runs_out_cuts(tmp_path: Path, hub: FakeHub) -> None:
    async with reader_of(tmp_path, hub, HttpRules()) as reader:
        opened = await reader.open("org/large")
        connection = await raw(reader, 1, opened.ticket)
        counts = reader.mx.server.http.counts  # type: ignore[union-attr]
        await until(lambda: counts.in_flight == 1)
        assert not await reader.mx.server.drain(0.05)
    assert await asyncio.to_thread(cut_short, connection) < len(LARGE)
    connection.close()


async def test_a_port_in_use_ends_a_start_that_asked_for_it(tmp_path: Path, hub: FakeHub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match="another process already does") as caught:
            async with model_server(tmp_path, hub, http=HttpPlace(port)):
                pass
        assert "--metrics-port" in str(caught.value)
        assert "MODEL_EXPRESS_SERVER_METRICS_PORT" in str(caught.value)
        async with model_server(tmp_path, hub, http=HttpPlace(port, required=False)) as server:
            assert server.server.http is None
            stub = admin.AdminServiceAsyncStub(server.channel)
            async for update in stub.EnsureModel(
                admin.EnsureModelRequest(provider="hugging-face", name=NAME)
            ):
                last = update
            opened = await stub.OpenModelFiles(admin.OpenModelFilesRequest(key=last.key))
            assert opened.http_port == 0
            assert opened.ticket, "the entry is protected all the same"


async def test_files_of_what_is_not_there_can_t_be_opened(reader: Reader) -> None:
    key = admin.EntryKey(provider="hugging-face", name="org/none", commit="f" * 40, weights=True)
    for wrong, code in (
        (key, grpc.StatusCode.NOT_FOUND),
        (admin.EntryKey(provider="nobody"), grpc.StatusCode.INVALID_ARGUMENT),
        (
            admin.EntryKey(provider="hugging-face", name="../x", commit="f" * 40),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            admin.EntryKey(provider="hugging-face", name="a/b", commit="../../etc"),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reader.admin.OpenModelFiles(admin.OpenModelFilesRequest(key=wrong))
        assert caught.value.code() is code
