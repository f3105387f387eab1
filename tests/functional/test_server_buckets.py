"""Models of buckets through a whole server: the published wire, the command line, changes noticed."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from model_server import FILES, ModelServer, model_server

from mx.cli.app import run
from mx.cli.options import Invocation
from mx.cli.output import Output
from mx.core.model import ProviderName
from mx.testing.bucket_stores import BUCKET, S3Store, Store, opened
from mx.testing.fake_hub import FakeHub
from mx.wire.v1 import model

NUMBERS = {ProviderName.S3: model.S3, ProviderName.GCS: model.GCS}


@pytest.fixture(scope="module", params=["s3", "gcs"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened(request.param, tmp_path_factory.mktemp(request.param)) as store:
        yield store


@pytest.fixture
async def mx(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModelServer]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3Store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3Store.secret_key)
    with FakeHub() as hub:
        flags = {f"providers.{store.kind.value}.endpoint": store.endpoint}
        async with model_server(tmp_path, hub, **flags) as server:
            yield server


async def ensure(mx: ModelServer, store: Store, name: str) -> model.ModelStatusUpdate:
    request = model.ModelDownloadRequest(model_name=name, provider=NUMBERS[store.kind])
    async with asyncio.timeout(60):
        return [update async for update in mx.stub.EnsureModelDownloaded(request)][-1]


async def streamed(mx: ModelServer, store: Store, name: str) -> dict[str, bytes]:
    request = model.ModelFilesRequest(model_name=name, provider=NUMBERS[store.kind])
    found: dict[str, bytes] = {}
    async for chunk in mx.stub.StreamModelFiles(request):
        assert not chunk.HasField("commit_hash")
        found[chunk.relative_path] = found.get(chunk.relative_path, b"") + chunk.data
    return found


async def cli(mx: ModelServer, *args: str) -> tuple[int, str]:
    stdout = io.StringIO()
    out = Output(stdout=stdout, stderr=io.StringIO())
    invocation = Invocation(start_logs=lambda _settings, _stream: None, out=out)
    code = await asyncio.to_thread(run, [*args, "--endpoint", mx.address], invocation=invocation)
    return code, stdout.getvalue()


async def test_the_published_calls(mx: ModelServer, store: Store) -> None:
    ref = store.put(FILES)
    done = await ensure(mx, store, f"{ref.name}/")
    assert (done.status, done.model_name, done.provider) == (
        model.DOWNLOADED,
        ref.name,
        NUMBERS[store.kind],
    ), done.message
    assert not done.HasField("resolved_revision")
    listed = await mx.stub.ListModelFiles(
        model.ModelFilesRequest(model_name=ref.name, provider=NUMBERS[store.kind])
    )
    assert {file.relative_path: file.size for file in listed.files} == {p: len(d) for p, d in FILES.items()}
    assert await streamed(mx, store, ref.name) == FILES
    folder = mx.cache / store.kind.value / BUCKET / ref.name.partition(f"{BUCKET}/")[2]
    assert (folder / "config.json").read_bytes() == FILES["config.json"]


async def test_a_change_is_noticed_by_the_next_one_who_asks(mx: ModelServer, store: Store) -> None:
    ref = store.put(FILES)
    await ensure(mx, store, ref.name)
    new = FILES | {"config.json": b'{"model_type": "grown"}', "more.json": b"[]"}
    store.put({path: new[path] for path in ("config.json", "more.json")}, folder=folder_of(ref.name))
    assert await streamed(mx, store, ref.name) == FILES, "reading asks nobody"
    assert (await ensure(mx, store, ref.name)).message == "downloaded"
    assert await streamed(mx, store, ref.name) == new
    assert (await ensure(mx, store, ref.name)).message == "already in the cache"


async def test_the_command_line(mx: ModelServer, store: Store) -> None:
    ref = store.put(FILES)
    server_only = ("--strategy", "server-only", "-f", "json")
    code, out = await cli(mx, "model", "download", ref.name, *server_only)
    told = json.loads(out)
    assert (code, told["success"], told["provider"]) == (0, True, store.kind.value)
    assert (told["files"], told["bytes"]) == (len(FILES), sum(map(len, FILES.values())))
    assert told["resolved_revision"] is None
    code, out = await cli(mx, "model", "download", f"{ref.name}-missing", *server_only)
    assert (code, json.loads(out)["success"]) == (3, False)
    code, _ = await cli(mx, "model", "download", ref.name, "--revision", "main")
    assert code == 1


async def test_the_command_line_without_a_server(
    mx: ModelServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.endpoint)
    monkeypatch.setenv("MODEL_EXPRESS_CACHE_DIRECTORY", str(tmp_path / "mine"))
    ref = store.put(FILES)
    code, out = await cli(mx, "model", "download", ref.name, "--strategy", "direct", "-f", "json")
    assert code == 0, out
    folder = tmp_path / "mine" / store.kind.value / BUCKET / folder_of(ref.name)
    assert json.loads(out)["path"] == str(folder)
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    code, _ = await cli(mx, "model", "download", f"{ref.name}-missing", "--strategy", "direct")
    assert code == 3


async def test_refusals_of_the_store_reach_the_caller(mx: ModelServer, store: Store) -> None:
    scheme = "s3" if store.kind is ProviderName.S3 else "gs"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ensure(mx, store, f"{scheme}://no-bucket-of-ours/model")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "no such bucket" in (caught.value.details() or "")
    for name in (f"{scheme}://evil.com#/m", f"{scheme}://a@b/m", f"{scheme}://{BUCKET}/../m"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ensure(mx, store, name)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def folder_of(name: str) -> str:
    return name.partition(f"{BUCKET}/")[2]
