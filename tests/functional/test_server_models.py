"""ModelService by raw calls, as published clients send them (wire contract, section 6)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from model_server import FILES, WEIGHTS, ModelServer, model_server

from mx.core.model import EntryKey, EntryStatus, ModelRef, ProviderName
from mx.core.progress import EnsureUpdate
from mx.server.models import MAX_CHUNK_BYTES, never_silent
from mx.testing.fake_hub import FakeHub
from mx.testing.faults import Fault
from mx.wire.v1 import model

NAME = "org/model"
HF = ProviderName.HUGGING_FACE
DOWNLOADING, DOWNLOADED, ERROR = model.DOWNLOADING, model.DOWNLOADED, model.ERROR
METADATA = {path: data for path, data in FILES.items() if not path.endswith(".safetensors")}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        yield hub


@pytest.fixture
async def mx(tmp_path: Path, hub: FakeHub) -> AsyncIterator[ModelServer]:
    async with model_server(tmp_path, hub) as server:
        yield server


async def ensure(mx: ModelServer, name: str = NAME, **fields: Any) -> list[model.ModelStatusUpdate]:
    async with asyncio.timeout(30):
        call = mx.stub.EnsureModelDownloaded(model.ModelDownloadRequest(model_name=name, **fields))
        return [update async for update in call]


async def stream(mx: ModelServer, name: str = NAME, **fields: Any) -> list[model.FileChunk]:
    async with asyncio.timeout(30):
        call = mx.stub.StreamModelFiles(model.ModelFilesRequest(model_name=name, **fields))
        return [chunk async for chunk in call]


async def files(mx: ModelServer, name: str = NAME, **fields: Any) -> model.ModelFileList:
    return await mx.stub.ListModelFiles(model.ModelFilesRequest(model_name=name, **fields))


async def refusal(answer: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    return caught.value.code()


async def rest(call: Any, into: list[Any]) -> None:
    while (message := await call.read()) is not grpc.aio.EOF:
        into.append(message)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def checked(chunks: list[model.FileChunk], *, at_most: int) -> dict[str, bytes]:
    """The files of a stream that keeps every rule of section 6.3."""
    found: dict[str, bytearray] = {}
    for index, chunk in enumerate(chunks):
        path, is_end = chunk.relative_path, index == len(chunks) - 1
        begins = index == 0 or chunks[index - 1].is_last_chunk
        assert begins == (path not in found), "each file once, its chunks together"
        content = found.setdefault(path, bytearray())
        assert chunk.offset == len(content)
        assert (1 if chunk.total_size else 0) <= len(chunk.data) <= at_most
        content += chunk.data
        assert chunk.is_last_chunk == (len(content) == chunk.total_size)
        assert chunk.is_last_file == is_end
        assert chunk.HasField("commit_hash") == (index == 0)
    return {path: bytes(content) for path, content in found.items()}


class TestEnsure:
    async def test_a_download_ends_with_one_terminal_update_that_names_the_commit(
        self, mx: ModelServer, hub: FakeHub
    ) -> None:
        commit = hub.add(NAME, FILES)
        updates = await ensure(mx)
        assert [u.status for u in updates] == [DOWNLOADING] * (len(updates) - 1) + [DOWNLOADED]
        assert {(u.model_name, u.provider, u.resolved_revision) for u in updates} == {
            (NAME, model.HUGGING_FACE, commit)
        }
        asked = len(hub.requests)
        *_, again = await ensure(mx, revision=commit.upper())
        assert (again.status, again.resolved_revision) == (DOWNLOADED, commit)
        assert len(hub.requests) == asked, "a commit that is here needs no provider"

    async def test_metadata_does_not_satisfy_a_later_request_for_weights(
        self, mx: ModelServer, hub: FakeHub
    ) -> None:
        hub.add(NAME, FILES)
        assert (await ensure(mx, ignore_weights=True))[-1].status == DOWNLOADED
        assert not hub.asked("safetensors")
        assert await refusal(files(mx)) is grpc.StatusCode.NOT_FOUND
        assert (await ensure(mx))[-1].status == DOWNLOADED
        assert {f.relative_path for f in (await files(mx)).files} == set(FILES)

    async def test_a_failure_is_in_band_with_its_reason(self, mx: ModelServer, hub: FakeHub) -> None:
        commit = hub.add(NAME, FILES, gated=True)
        *_, last = await ensure(mx)
        assert (last.status, last.resolved_revision) == (ERROR, commit)
        assert "gated" in last.message or "restricted" in last.message, last.message

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"provider": 9}, grpc.StatusCode.INVALID_ARGUMENT),
            ({"name": "a/b/c"}, grpc.StatusCode.INVALID_ARGUMENT),
            ({"name": ""}, grpc.StatusCode.INVALID_ARGUMENT),
            ({"name": "../etc"}, grpc.StatusCode.INVALID_ARGUMENT),
            ({"revision": ""}, grpc.StatusCode.INVALID_ARGUMENT),
            ({"revision": "/etc"}, grpc.StatusCode.INVALID_ARGUMENT),
            ({"revision": "a/../b"}, grpc.StatusCode.INVALID_ARGUMENT),
            ({"revision": "a\\b"}, grpc.StatusCode.INVALID_ARGUMENT),
            (
                {"name": "s3://b/m", "provider": model.S3, "revision": "x"},
                grpc.StatusCode.INVALID_ARGUMENT,
            ),
            ({"revision": "nowhere"}, grpc.StatusCode.NOT_FOUND),
            ({"revision": "f" * 40}, grpc.StatusCode.NOT_FOUND),
        ],
    )
    async def test_what_is_wrong_beforehand_is_an_rpc_error(
        self, mx: ModelServer, hub: FakeHub, fields: dict[str, Any], code: grpc.StatusCode
    ) -> None:
        hub.add(NAME, FILES)
        assert await refusal(ensure(mx, **fields)) is code

    async def test_an_unreachable_provider_is_unavailable_and_a_cached_model_outlives_it(
        self, mx: ModelServer, hub: FakeHub
    ) -> None:
        commit = hub.add(NAME, FILES)
        await ensure(mx)
        hub.fail(Fault("hub:/api", times=None, status=404, headers={"X-Error-Code": "RepoNotFound"}))
        assert await refusal(ensure(mx, "org/other")) is grpc.StatusCode.NOT_FOUND
        assert (await ensure(mx, revision=commit))[-1].status == DOWNLOADED

    async def test_headers_come_before_the_revision_is_resolved(self, mx: ModelServer, hub: FakeHub) -> None:
        hub.add(NAME, FILES)
        gate = threading.Event()
        hub.fail(Fault("hub:/api", gate=gate))
        call = mx.stub.EnsureModelDownloaded(model.ModelDownloadRequest(model_name=NAME))
        async with asyncio.timeout(10):
            await call.initial_metadata()
            assert not gate.is_set()
            gate.set()
            assert [u async for u in call][-1].status == DOWNLOADED

    async def test_a_caller_that_leaves_ends_its_wait_and_not_the_download(
        self, mx: ModelServer, hub: FakeHub
    ) -> None:
        hub.add(NAME, FILES)
        gate = threading.Event()
        hub.fail(Fault("storage:", gate=gate))
        call = mx.stub.EnsureModelDownloaded(model.ModelDownloadRequest(model_name=NAME))
        async with asyncio.timeout(10):
            await call.read()
        call.cancel()
        await until(lambda: mx.server.traffic.in_flight == 0)
        gate.set()
        assert (await ensure(mx))[-1].status == DOWNLOADED
        assert len(hub.asked("storage:")) == 2, "each weight file once"

    async def test_many_callers_cost_one_download(self, mx: ModelServer, hub: FakeHub) -> None:
        hub.add(NAME, FILES)
        ends = await asyncio.gather(*(ensure(mx) for _ in range(16)))
        assert {updates[-1].status for updates in ends} == {DOWNLOADED}
        assert len(hub.asked("storage:")) == 2

    async def test_a_silent_download_is_told_again_and_ends_once(self) -> None:
        key = EntryKey(HF, NAME, "a" * 40)
        go = asyncio.Event()
        closed = False

        async def slow() -> AsyncGenerator[EnsureUpdate, None]:
            nonlocal closed
            try:
                yield EnsureUpdate(key, EntryStatus.DOWNLOADING, "begun")
                await go.wait()
                yield EnsureUpdate(key, EntryStatus.DOWNLOADED, "done")
            finally:
                closed = True

        told = []
        async with asyncio.timeout(10):
            async for update in never_silent(slow(), within_s=0.01):
                told.append(update.message)
                if len(told) == 4:
                    go.set()
        assert told[:4] == ["begun"] * 4
        assert told.count("done") == 1
        assert told[-1] == "done"
        assert closed


class TestStream:
    @pytest.mark.parametrize("chunk_size", [0, 1000, 32768, 1 << 20, 3 << 20, (1 << 32) - 1])
    async def test_every_rule_of_the_stream_holds(
        self, mx: ModelServer, hub: FakeHub, chunk_size: int
    ) -> None:
        commit = hub.add(NAME, FILES)
        await ensure(mx)
        chunks = await stream(mx, chunk_size=chunk_size)
        assert checked(chunks, at_most=min(chunk_size or 32768, MAX_CHUNK_BYTES)) == FILES
        assert chunks[0].commit_hash == commit
        listing = await files(mx)
        assert [(f.relative_path, f.size) for f in listing.files] == [
            (path, len(data)) for path, data in sorted(FILES.items())
        ]
        assert (listing.model_name, listing.total_size) == (NAME, sum(map(len, FILES.values())))
        sizes = {chunk.relative_path: chunk.total_size for chunk in chunks}
        assert sizes == {f.relative_path: f.size for f in listing.files}

    async def test_the_largest_chunk_fits_a_client_with_default_limits(
        self, mx: ModelServer, hub: FakeHub
    ) -> None:
        content = os.urandom(2 * MAX_CHUNK_BYTES + 1)
        path = "/".join(["d" * 250] * 8) + "/model.safetensors"
        hub.add(NAME, {path: content, "config.json": b"{}"})
        await ensure(mx)
        chunks = await stream(mx, chunk_size=(1 << 32) - 1)
        assert checked(chunks, at_most=MAX_CHUNK_BYTES) == {path: content, "config.json": b"{}"}
        assert max(chunk.ByteSize() for chunk in chunks) < 4 * 1024 * 1024

    async def test_selectors_and_weight_modes_choose_files(self, mx: ModelServer, hub: FakeHub) -> None:
        hub.add(NAME, FILES)
        await ensure(mx, ignore_weights=True)

        def of(*paths: str) -> model.ModelFileSelector:
            return model.ModelFileSelector(paths=paths)

        async def got(**fields: Any) -> dict[str, bytes]:
            return checked(await stream(mx, **fields), at_most=32768)

        # The published client asks for metadata by path and without ignore_weights.
        wanted = of("tokenizer.json", "config.json", "config.json")
        assert await got(file_selector=wanted) == {p: FILES[p] for p in wanted.paths}
        assert await got(ignore_weights=True) == METADATA
        missing = grpc.StatusCode.NOT_FOUND
        assert await refusal(stream(mx)) is missing
        assert await refusal(stream(mx, file_selector=of("model.safetensors"))) is missing
        await ensure(mx)
        assert await got(file_selector=of("model.safetensors")) == {"model.safetensors": WEIGHTS}
        assert await got(ignore_weights=True) == METADATA
        assert await refusal(stream(mx, file_selector=of())) is missing
        for path in ("nope", "../../../etc/passwd", "/etc/passwd", "config.json/", ".mx/complete"):
            assert await refusal(stream(mx, file_selector=of("config.json", path))) is missing
            assert await refusal(files(mx, file_selector=of("config.json", path))) is missing
        assert not (await files(mx, file_selector=of())).files
        both = {"file_selector": of("model.safetensors"), "ignore_weights": True}
        assert not (await files(mx, **both)).files
        assert await refusal(stream(mx, **both)) is missing

    async def test_the_network_is_never_asked_for_files(self, mx: ModelServer, hub: FakeHub) -> None:
        commit = hub.add(NAME, FILES)
        missing = grpc.StatusCode.NOT_FOUND
        assert await refusal(stream(mx)) is missing
        await ensure(mx, revision="main")
        hub.add(NAME, {**FILES, "config.json": b"newer"})
        asked = len(hub.requests)
        for revision in (None, "main", commit, commit.upper()):
            listing = await files(mx, revision=revision)
            assert listing.total_size == sum(map(len, FILES.values()))
        assert await refusal(files(mx, revision="f" * 40)) is missing
        assert await refusal(files(mx, revision="dev")) is missing
        assert await refusal(files(mx, provider=7)) is grpc.StatusCode.INVALID_ARGUMENT
        assert await refusal(stream(mx, "no/such/name")) is grpc.StatusCode.INVALID_ARGUMENT
        assert len(hub.requests) == asked

    async def test_a_file_that_shrinks_under_way_is_an_error_and_never_short(
        self, mx: ModelServer, hub: FakeHub
    ) -> None:
        big = os.urandom(40 << 20)
        hub.add(NAME, {"model.safetensors": big})
        await ensure(mx)
        entry = await mx.services.models.find(ModelRef(HF, NAME))
        call = mx.stub.StreamModelFiles(model.ModelFilesRequest(model_name=NAME, chunk_size=1 << 20))
        async with asyncio.timeout(30):
            chunks = [await call.read()]
            path = (entry.root / "model.safetensors").resolve()
            path.chmod(0o600)
            os.truncate(path, len(big) - 1)
            assert await refusal(rest(call, chunks)) is grpc.StatusCode.INTERNAL
        assert not any(chunk.is_last_chunk for chunk in chunks)

    async def test_a_file_rewritten_under_way_never_completes(self, mx: ModelServer, hub: FakeHub) -> None:
        big = os.urandom(40 << 20)
        hub.add(NAME, {"model.safetensors": big})
        await ensure(mx)
        entry = await mx.services.models.find(ModelRef(HF, NAME))
        call = mx.stub.StreamModelFiles(model.ModelFilesRequest(model_name=NAME, chunk_size=1 << 20))
        async with asyncio.timeout(30):
            chunks = [await call.read()]
            path = (entry.root / "model.safetensors").resolve()
            path.chmod(0o600)
            with path.open("r+b") as out:
                out.seek(-1, os.SEEK_END)
                out.write(b"x")
            assert await refusal(rest(call, chunks)) is grpc.StatusCode.INTERNAL
        assert not any(chunk.is_last_chunk for chunk in chunks)

    async def test_a_client_that_goes_gives_back_its_lease_and_its_descriptor(
        self, mx: ModelServer, hub: FakeHub
    ) -> None:
        commit = hub.add(NAME, {"model.safetensors": os.urandom(40 << 20)})
        await ensure(mx)
        key = EntryKey(HF, NAME, commit)
        call = mx.stub.StreamModelFiles(model.ModelFilesRequest(model_name=NAME))
        async with asyncio.timeout(30):
            await call.read()
        record = await mx.services.models_store.get(key)
        assert record is not None
        assert len(record.leases) == 1
        held = [link for link in _descriptors() if link.startswith(str(mx.cache))]
        assert len(held) == 1
        call.cancel()
        await until(lambda: mx.server.traffic.in_flight == 0)
        await until(lambda: not [link for link in _descriptors() if link.startswith(str(mx.cache))])
        record = await mx.services.models_store.get(key)
        assert record is not None
        assert not record.leases


def _descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # the one of the listing itself
            continue
    return found


class TestDelete:
    async def test_records_go_and_files_stay(self, mx: ModelServer, hub: FakeHub) -> None:
        hub.add(NAME, FILES)
        await ensure(mx)
        await ensure(mx, ignore_weights=True)
        for _ in range(2):
            reply = await mx.stub.DeleteModel(model.DeleteModelRequest(model_name=NAME))
            assert reply.success
            assert reply.message
        assert await mx.services.models.records() == ()
        assert checked(await stream(mx), at_most=32768) == FILES
        wrong = mx.stub.DeleteModel(model.DeleteModelRequest(model_name=NAME, provider=9))
        assert await refusal(wrong) is grpc.StatusCode.INVALID_ARGUMENT

    async def test_waiters_are_told_and_nothing_starts_again(self, mx: ModelServer, hub: FakeHub) -> None:
        hub.add(NAME, FILES)
        gate = threading.Event()
        hub.fail(Fault("storage:", times=None, gate=gate))
        call = mx.stub.EnsureModelDownloaded(model.ModelDownloadRequest(model_name=NAME))
        async with asyncio.timeout(20):
            await call.read()
            await until(lambda: bool(hub.asked("storage:")))
            await mx.stub.DeleteModel(model.DeleteModelRequest(model_name=NAME))
            gate.set()
            updates: list[model.ModelStatusUpdate] = []
            await rest(call, updates)
        last = updates[-1]
        assert last.status == ERROR
        assert "deleted" in last.message
        assert await mx.services.models.records() == ()


async def test_the_service_has_a_health_name(mx: ModelServer) -> None:
    stub = health_pb2_grpc.HealthStub(mx.channel)
    reply = await stub.Check(health_pb2.HealthCheckRequest(service="model_express.model.ModelService"))
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_server_without_a_usable_cache_says_so(tmp_path: Path, hub: FakeHub) -> None:
    (tmp_path / "cache").write_text("no folder")
    hub.add(NAME, FILES)
    async with model_server(tmp_path, hub) as mx:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await files(mx)
    assert "is no folder" in (caught.value.details() or "")
