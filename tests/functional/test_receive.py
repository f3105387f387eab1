"""Receiving from a real server on loopback: whole, checked, resumed, by every way there is."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest
from huggingface_hub import snapshot_download
from model_server import ModelServer, model_server

from mx.client.grpc import GrpcClient
from mx.client.receive import ReceiveRules, receive, receive_blocking
from mx.client.receive.plan import SpanRules
from mx.client.sync import SyncClient
from mx.core.cached import CachedEntry
from mx.core.model import EntryStatus, ModelRef, ProviderName
from mx.core.progress import EnsureUpdate
from mx.errors import (
    CancelledError,
    ExhaustedError,
    IntegrityError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from mx.providers.cache import DiskCache, open_cache
from mx.server.app import SERVER_OPTIONS, HttpPlace
from mx.server.http import HttpRules
from mx.server.interceptors import Guard, Traffic
from mx.server.models import ModelService
from mx.server.readiness import Readiness
from mx.testing.fake_hub import FakeHub
from mx.testing.link import Link
from mx.testing.provider_contract import mounted_tmpfs
from mx.wire.v1 import model

NAME = "org/model"
REF = ModelRef(ProviderName.HUGGING_FACE, NAME)
MIB = 1 << 20
FILES: Mapping[str, bytes] = {
    "config.json": b'{"model_type": "tiny"}',
    "empty.txt": b"",
    "model-00001.safetensors": os.urandom(5 * MIB + 17),
    "model-00002.safetensors": os.urandom(2 * MIB),
    "nested/deep/tokenizer.json": b"{}" * 3000,
}
TOTAL = sum(map(len, FILES.values()))
METADATA = {path: data for path, data in FILES.items() if not path.endswith(".safetensors")}
# Small spans, so that a small model makes helpers wait for their turn; short waits.
SPANS = SpanRules(least_bytes=MIB // 8, most_bytes=MIB, helper_bytes=MIB // 4)
RULES = ReceiveRules(
    connections=4, patience_s=10, first_pause_s=0.02, pause_max_s=0.2, poll_s=0.05, report_s=0.02, spans=SPANS
)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.add(NAME, FILES)
        yield hub


@pytest.fixture
async def mx(tmp_path: Path, hub: FakeHub) -> AsyncIterator[ModelServer]:
    async with model_server(tmp_path / "server", hub, http=HttpPlace(0)) as server:
        yield server


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()


@pytest.fixture
async def client(mx: ModelServer) -> AsyncIterator[GrpcClient]:
    client = GrpcClient(mx.address)
    yield client
    await client.close()


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return open_cache(tmp_path / "worker")


def contents(entry: CachedEntry) -> dict[str, bytes]:
    return {file.path: (entry.root / file.path).read_bytes() for file in entry.files}


def sent(mx: ModelServer) -> int:
    assert mx.server.http is not None
    return mx.server.http.counts.bytes_sent


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def linked(
    mx: ModelServer, *, bytes_per_s: float = 0.0
) -> AsyncIterator[tuple[GrpcClient, Link, Link]]:
    """A client that reaches the server as 127.0.0.2, for gRPC and, on the same port as there, for HTTP."""
    assert mx.server.http is not None
    with (
        Link("127.0.0.1", mx.server.port, listen="127.0.0.2") as calls,
        Link(
            "127.0.0.1",
            mx.server.http.port,
            listen="127.0.0.2",
            listen_port=mx.server.http.port,
            bytes_per_s=bytes_per_s,
        ) as files,
    ):
        client = GrpcClient(f"127.0.0.2:{calls.port}")
        try:
            yield client, calls, files
        finally:
            await client.close()


# ---- what comes -------------------------------------------------------------------------------


@pytest.mark.parametrize("http", [True, False], ids=["http", "grpc"])
async def test_a_model_comes_whole(mx: ModelServer, client: GrpcClient, cache: DiskCache, http: bool) -> None:
    entry = await receive(client, REF, cache=cache, rules=replace(RULES, http=http))
    assert contents(entry) == FILES
    assert cache.verify(entry.key).sound
    assert cache.entry(entry.key) == entry
    assert (sent(mx) > TOTAL) == http


async def test_other_tools_read_it_offline(client: GrpcClient, cache: DiskCache) -> None:
    entry = await receive(client, REF, cache=cache, rules=RULES)
    found = await asyncio.to_thread(snapshot_download, NAME, cache_dir=str(cache.root), local_files_only=True)
    assert Path(found) == entry.root
    assert (entry.root / "config.json").is_symlink()


async def test_digests_are_those_of_the_server(mx: ModelServer, client: GrpcClient, cache: DiskCache) -> None:
    entry = await receive(client, REF, cache=cache, rules=RULES)
    theirs = await mx.services.models.find(REF)
    assert [(f.path, f.digest, f.xxh3) for f in entry.files] == [
        (f.path, f.digest, f.xxh3) for f in theirs.files
    ]


@pytest.mark.parametrize("http", [True, False], ids=["http", "grpc"])
async def test_metadata_first_and_weights_later_share_what_is_there(
    mx: ModelServer, client: GrpcClient, cache: DiskCache, http: bool
) -> None:
    rules = replace(RULES, http=http)
    first = await receive(client, REF, cache=cache, weights=False, rules=rules)
    assert contents(first) == METADATA
    config = (first.root / "config.json").stat().st_ino
    before = sent(mx)
    second = await receive(client, REF, cache=cache, rules=rules)
    assert contents(second) == FILES
    assert second.root == first.root
    assert (second.root / "config.json").stat().st_ino == config
    weights = TOTAL - sum(map(len, METADATA.values()))
    assert sent(mx) - before in ((weights, weights + 1) if http else (0,)), "and one byte to find the way"


async def test_without_weights_a_full_entry_is_enough(
    mx: ModelServer, client: GrpcClient, cache: DiskCache
) -> None:
    full = await receive(client, REF, cache=cache, rules=RULES)
    before = sent(mx)
    assert await receive(client, REF, cache=cache, weights=False, rules=RULES) == full
    assert sent(mx) == before


async def test_a_commit_that_is_here_needs_no_server(
    client: GrpcClient, cache: DiskCache, tmp_path: Path
) -> None:
    entry = await receive(client, REF, cache=cache, rules=RULES)
    nowhere = GrpcClient("127.0.0.1:9", timeout_s=0.2)
    pinned = replace(REF, revision=entry.key.commit)
    assert await receive(nowhere, pinned, cache=cache, rules=RULES) == entry
    with pytest.raises(UnavailableError):
        await receive(nowhere, REF, cache=cache, rules=RULES)
    await nowhere.close()


async def test_the_revision_that_was_asked_for_is_noted(
    hub: FakeHub, client: GrpcClient, cache: DiskCache
) -> None:
    commit = hub.add(NAME, {"config.json": b"{}"}, revision="v2")
    entry = await receive(client, replace(REF, revision="v2"), cache=cache, rules=RULES)
    assert entry.key.commit == commit
    assert cache.resolve(REF.provider, NAME, "v2") == commit
    assert cache.resolve(REF.provider, NAME, None) is None
    hub.add(NAME, {"config.json": b"{}"})  # main is the same commit now
    await receive(client, REF, cache=cache, rules=RULES)
    assert cache.resolve(REF.provider, NAME, None) == commit


async def test_how_it_goes_is_told_in_the_loop(client: GrpcClient, cache: DiskCache) -> None:
    updates: list[EnsureUpdate] = []
    threads: set[int] = set()

    def told(update: EnsureUpdate) -> None:
        updates.append(update)
        threads.add(threading.get_ident())

    await receive(client, REF, cache=cache, told=told, rules=RULES)
    assert threads == {threading.get_ident()}
    assert all(update.status is EntryStatus.DOWNLOADING for update in updates)
    server = [update for update in updates if update.message.startswith("at the server: ")]
    here = [update for update in updates if update.message.startswith("from 127.0.0.1:")]
    assert updates == server + here
    assert (here[-1].bytes_done, here[-1].bytes_total) == (TOTAL, TOTAL)
    assert here[-1].files_done == here[-1].files_total == len(FILES)


async def test_many_small_files(hub: FakeHub, client: GrpcClient, cache: DiskCache) -> None:
    files = {f"part/{n % 7}/{n}.json": b"%d" % n * n for n in range(300)}
    hub.add("org/many", files)
    for http in (True, False):
        entry = await receive(
            client,
            replace(REF, name="org/many"),
            cache=open_cache(cache.root / str(http)),
            rules=replace(RULES, http=http),
        )
        assert contents(entry) == files


async def test_a_thread_receives_too(mx: ModelServer, cache: DiskCache) -> None:
    def work() -> CachedEntry:
        with SyncClient(mx.address) as client:
            return receive_blocking(client, REF, cache=cache, rules=RULES)

    assert contents(await asyncio.to_thread(work)) == FILES


async def test_a_local_model_of_the_server(tmp_path: Path, hub: FakeHub, cache: DiskCache) -> None:
    source = tmp_path / "models" / "mine"
    source.mkdir(parents=True)
    (source / "config.json").write_bytes(b"{}")
    (source / "model.safetensors").write_bytes(FILES["model-00002.safetensors"])
    ref = ModelRef(ProviderName.LOCAL, str(source))
    roots = {"providers.local.roots": [str(tmp_path / "models")]}
    async with model_server(tmp_path / "server", hub, http=HttpPlace(0), **roots) as mx:
        client = GrpcClient(mx.address)
        entry = await receive(client, ref, cache=cache, rules=RULES)
        assert contents(entry) == {
            "config.json": b"{}",
            "model.safetensors": FILES["model-00002.safetensors"],
        }
        with pytest.raises(PreconditionError, match="HTTP"):
            await receive(client, ref, cache=open_cache(tmp_path / "x"), rules=replace(RULES, http=False))
        await client.close()


# ---- what the server can't give ---------------------------------------------------------------


async def test_what_the_server_says_about_a_model_is_raised(client: GrpcClient, cache: DiskCache) -> None:
    with pytest.raises(NotFoundError, match="org/none"):
        await receive(client, replace(REF, name="org/none"), cache=cache, rules=RULES)
    assert list(cache.root.iterdir()) == []


@asynccontextmanager
async def published(mx: ModelServer, *, commit_in_updates: bool = True) -> AsyncIterator[str]:
    """A server that has the published service only; an old one names no commit in its updates."""

    class Old(ModelService):
        async def EnsureModelDownloaded(self, request, context, /):  # type: ignore[no-untyped-def]
            async for update in super().EnsureModelDownloaded(request, context):
                if not commit_in_updates:
                    update.ClearField("resolved_revision")
                yield update

    server = grpc.aio.server(options=SERVER_OPTIONS)
    handler = model.ModelService_handler(Old(mx.services.models, mx.services.cache))
    server.add_generic_rpc_handlers([Guard(handler, Traffic(Readiness(mx.services.store)))])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@pytest.mark.parametrize("names_commit", [True, False], ids=["0.7", "0.5"])
async def test_from_a_published_server(mx: ModelServer, cache: DiskCache, names_commit: bool) -> None:
    async with published(mx, commit_in_updates=names_commit) as address:
        client = GrpcClient(address)
        first = await receive(client, REF, cache=cache, weights=False, rules=RULES)
        assert contents(first) == METADATA
        entry = await receive(client, REF, cache=cache, rules=RULES)
        assert contents(entry) == FILES
        assert entry.key.commit == (await mx.services.models.find(REF)).key.commit
        assert cache.verify(entry.key).sound
        await client.close()
    assert sent(mx) == 0


async def test_http_that_refuses_is_no_obstacle(tmp_path: Path, hub: FakeHub, cache: DiskCache) -> None:
    place = HttpPlace(0, rules=HttpRules(connections=0))
    async with model_server(tmp_path / "server", hub, http=place) as mx:
        client = GrpcClient(mx.address)
        assert contents(await receive(client, REF, cache=cache, rules=RULES)) == FILES
        assert sent(mx) == 0
        await client.close()


async def test_a_busy_server_is_waited_for(tmp_path: Path, hub: FakeHub, cache: DiskCache) -> None:
    place = HttpPlace(0, rules=HttpRules(transfers=1, turn_s=0.001))
    async with model_server(tmp_path / "server", hub, http=place) as mx:
        client = GrpcClient(mx.address)
        assert contents(await receive(client, REF, cache=cache, rules=RULES)) == FILES
        assert sent(mx) >= TOTAL
        await client.close()


async def test_bytes_that_rotted_at_the_server_are_not_let_in(
    mx: ModelServer, client: GrpcClient, cache: DiskCache
) -> None:
    async for _ in mx.services.models.ensure(REF):
        pass
    (view,) = mx.cache.glob("models--org--model/snapshots/*/model-00001.safetensors")
    with view.open("r+b") as file:
        file.seek(3 * MIB)
        byte = file.read(1)
        file.seek(3 * MIB)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(IntegrityError, match=r"model-00001\.safetensors.*twice.*verify") as caught:
        await receive(client, REF, cache=cache, rules=RULES)
    assert mx.address in caught.value.message
    assert cache.scan() == ()
    before = sent(mx)
    with view.open("r+b") as file:
        file.seek(3 * MIB)
        file.write(byte)
    assert contents(await receive(client, REF, cache=cache, rules=RULES)) == FILES
    assert sent(mx) - before < len(FILES["model-00001.safetensors"]) + MIB, "the others are there already"


async def test_a_file_that_shrank_at_the_server_is_told(
    mx: ModelServer, client: GrpcClient, cache: DiskCache
) -> None:
    async with linked(mx, bytes_per_s=20 * MIB) as (slow, _, files):
        going = asyncio.create_task(receive(slow, REF, cache=cache, rules=RULES))
        await until(lambda: files.passed > MIB // 4)
        (view,) = mx.cache.glob("models--org--model/snapshots/*/model-00001.safetensors")
        os.truncate(view, 1000)
        # The server's record says more than its disk has: it is no entry any more, and is fetched anew.
        entry = await going
    assert contents(entry) == FILES


# ---- links ------------------------------------------------------------------------------------


async def test_a_link_that_breaks_again_and_again(mx: ModelServer, cache: DiskCache) -> None:
    async with linked(mx, bytes_per_s=8 * MIB) as (client, calls, files):
        going = asyncio.create_task(receive(client, REF, cache=cache, rules=RULES))
        for part in range(1, 6):
            await until(lambda part=part: files.passed > part * MIB or going.done())
            files.cut()
            if part == 3:
                calls.cut()
        entry = await going
        assert contents(entry) == FILES
        # A cut costs what helpers had read ahead of their turn, and what was on its way.
        assert files.passed + sent(mx) < 3 * TOTAL


async def test_a_slow_link_is_borne(mx: ModelServer, cache: DiskCache) -> None:
    rules = replace(RULES, silence_s=1.5, patience_s=1.5)
    async with linked(mx, bytes_per_s=1.5 * MIB) as (client, _, files):
        entry = await receive(client, REF, cache=cache, rules=rules)
        assert contents(entry) == FILES
        assert files.passed < 1.05 * TOTAL + 10_000


async def test_a_link_that_hangs_is_left(mx: ModelServer, cache: DiskCache) -> None:
    rules = replace(RULES, silence_s=0.3)
    async with linked(mx, bytes_per_s=8 * MIB) as (client, _, files):
        going = asyncio.create_task(receive(client, REF, cache=cache, rules=rules))
        await until(lambda: files.passed > MIB)
        files.flowing.clear()
        assert contents(await going) == FILES, "by the address that the server told of itself"


async def test_no_byte_for_too_long_is_the_end_and_what_came_is_kept(
    tmp_path: Path, hub: FakeHub, cache: DiskCache
) -> None:
    rules = replace(RULES, patience_s=0.5, silence_s=0.3)
    async with (
        model_server(tmp_path / "server", hub, http=HttpPlace(0)) as mx,
        linked(mx, bytes_per_s=8 * MIB) as (client, calls, files),
    ):
        going = asyncio.create_task(receive(client, REF, cache=cache, rules=rules))
        await until(lambda: files.passed > 2 * MIB)
        calls.refusing = files.refusing = True
        calls.cut()
        await mx.server.drain(0)
        files.cut()
        with pytest.raises(UnavailableError, match=r"no byte came for 0\.5 s"):
            await going
    async with model_server(tmp_path / "server", hub, http=HttpPlace(0)) as mx:
        client = GrpcClient(mx.address)
        entry = await receive(client, REF, cache=cache, rules=RULES)
        assert contents(entry) == FILES
        assert sent(mx) < TOTAL - MIB // 2, "it went on from where it stood"
        await client.close()


@pytest.mark.parametrize("http", [True, False], ids=["http", "grpc"])
async def test_a_cancelled_caller_leaves_nothing_running_and_everything_kept(
    mx: ModelServer, cache: DiskCache, http: bool
) -> None:
    async with linked(mx, bytes_per_s=4 * MIB) as (client, calls, files):
        calls.bytes_per_s = 4 * MIB
        link = files if http else calls
        going = asyncio.create_task(receive(client, REF, cache=cache, rules=replace(RULES, http=http)))
        await until(lambda: link.passed > 2 * MIB)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        assert not [t.name for t in threading.enumerate() if t.name.startswith("mx-receive")]
        holder = cache.holder((await mx.services.models.find(REF)).key)
        assert holder is not None
        assert (holder.ended, holder.failure) == (True, None)
        link.bytes_per_s = 0
        before = link.passed
        assert contents(await receive(client, REF, cache=cache, rules=replace(RULES, http=http))) == FILES
        if http:
            assert link.passed - before < TOTAL - MIB


async def test_a_stop_ends_a_thread_that_receives(mx: ModelServer, cache: DiskCache) -> None:
    stop = threading.Event()
    async with linked(mx, bytes_per_s=MIB) as (_, calls, files):

        def work() -> CachedEntry:
            with SyncClient(f"127.0.0.2:{calls.port}") as client:
                return receive_blocking(client, REF, cache=cache, rules=RULES, stop=stop)

        going = asyncio.create_task(asyncio.to_thread(work))
        await until(lambda: files.passed > MIB // 4)
        stop.set()
        with pytest.raises(CancelledError):
            await going


# ---- disks ------------------------------------------------------------------------------------


async def test_a_model_that_can_t_fit_is_refused_before_its_first_byte(
    mx: ModelServer, client: GrpcClient, tmp_path: Path
) -> None:
    for small in mounted_tmpfs(tmp_path / "small", size_bytes=4 * MIB):
        with pytest.raises(ExhaustedError, match=r"needs 7\.01 MiB more here, and [34]\.\d+ MiB are free"):
            await receive(client, REF, cache=open_cache(small), rules=RULES)
        assert sent(mx) == 0


async def test_a_disk_that_fills_up_meanwhile(mx: ModelServer, tmp_path: Path) -> None:
    for small in mounted_tmpfs(tmp_path / "small", size_bytes=9 * MIB):
        async with linked(mx, bytes_per_s=8 * MIB) as (client, _, files):
            going = asyncio.create_task(receive(client, REF, cache=open_cache(small), rules=RULES))
            await until(lambda: files.passed > MIB)
            free = os.statvfs(small)
            (small / "other").write_bytes(bytes(free.f_bavail * free.f_frsize - MIB))
            with pytest.raises(ExhaustedError, match="free space"):
                await going
            (small / "other").unlink()
            before = files.passed
            entry = await receive(client, REF, cache=open_cache(small), rules=RULES)
            assert contents(entry) == FILES
            assert files.passed - before < TOTAL - MIB // 2


# ---- content that changes ---------------------------------------------------------------------


async def test_what_a_directory_holds_now_is_received(tmp_path: Path, hub: FakeHub, cache: DiskCache) -> None:
    """No commit says that the content is another one; the server that lost its cache has the new one."""
    source = tmp_path / "models" / "mine"
    source.mkdir(parents=True)
    ref = ModelRef(ProviderName.LOCAL, str(source))
    roots = {"providers.local.roots": [str(tmp_path / "models")]}
    for number, payload in enumerate((b"one" * MIB, b"two" * MIB)):
        (source / "new").write_bytes(payload)
        (source / "new").rename(source / "model.safetensors")
        folder = tmp_path / f"server-{number}"
        folder.mkdir()
        async with model_server(folder, hub, http=HttpPlace(0), **roots) as mx:
            client = GrpcClient(mx.address)
            for _ in range(2):
                entry = await receive(client, ref, cache=cache, rules=RULES)
                assert contents(entry) == {"model.safetensors": payload}
            assert sent(mx) <= len(payload) + 1, "the second time it is here already"
            await client.close()


async def test_what_is_replaced_while_it_is_read_is_never_mixed(
    tmp_path: Path, hub: FakeHub, cache: DiskCache
) -> None:
    """The server brings new content of a directory while the old is being received from it."""
    source = tmp_path / "models" / "mine"
    source.mkdir(parents=True)
    old, new = os.urandom(4 * MIB), os.urandom(4 * MIB)
    (source / "model.safetensors").write_bytes(old)
    ref = ModelRef(ProviderName.LOCAL, str(source))
    roots = {"providers.local.roots": [str(tmp_path / "models")]}
    async with (
        model_server(tmp_path / "server", hub, http=HttpPlace(0), **roots) as mx,
        linked(mx, bytes_per_s=4 * MIB) as (client, _, files),
    ):
        going = asyncio.create_task(receive(client, ref, cache=cache, rules=RULES))
        await until(lambda: files.passed > MIB)
        (source / "next").write_bytes(new)
        (source / "next").rename(source / "model.safetensors")
        key = (await mx.services.models.find(ref)).key
        await asyncio.to_thread(mx.services.cache.condemn, key, ["model.safetensors"])
        async for update in mx.services.models.ensure(ref, force=True):
            last = update
        assert last.status is EntryStatus.DOWNLOADED, last.message
        assert contents(await going) == {"model.safetensors": new}
