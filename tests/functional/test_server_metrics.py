"""Metrics of a real server: what calls and downloads leave behind, and that a scrape waits for nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import httpx2
import pytest
from model_server import FILES, ModelServer, model_server
from prometheus_client.parser import text_string_to_metric_families
from running import Running, running

from mx.client.grpc import GrpcClient
from mx.config import load_settings
from mx.core.cached import CacheUsage
from mx.core.eviction import Shrink
from mx.core.model import ProviderName
from mx.server.app import HttpPlace, RunningServer, serve
from mx.server.metrics import ServerMetrics
from mx.testing.fake_hub import FakeHub
from mx.testing.faults import Fault
from mx.testing.folder_cache import FolderCache
from mx.testing.samples import entry
from mx.wire.v1 import admin, model, p2p

HF = ProviderName.HUGGING_FACE
TOTAL = sum(map(len, FILES.values()))
DEADLINE_S = 60.0


class Figures:
    """The newest exposition of a server."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics

    def __call__(self, name: str, **labels: str) -> float | None:
        families = text_string_to_metric_families(self._metrics.exposition()[0].decode())
        for family in families:
            for one in family.samples:
                if one.name == name and one.labels == labels:
                    return one.value
        return None

    async def until(self, condition: Callable[[Figures], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition(self):
                await asyncio.sleep(0.02)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        yield hub


@pytest.fixture
async def mx(tmp_path: Path, hub: FakeHub) -> AsyncIterator[ModelServer]:
    flags = {
        "cache.eviction.policy.grace_time": "0s",
        "cache.max_size_bytes": "1GiB",
        "server.metrics_scheme": "blue",
    }
    async with model_server(tmp_path, hub, **flags) as server:
        yield server


async def ensure(mx: ModelServer, name: str, revision: str | None = None) -> int:
    ask = model.ModelDownloadRequest(model_name=name, provider=0, revision=revision)
    last = [update async for update in mx.stub.EnsureModelDownloaded(ask)][-1]
    return int(last.status)


async def test_a_download_a_hit_a_wait_and_a_failure(mx: ModelServer, hub: FakeHub) -> None:
    hub.add("org/model", FILES)
    figures = Figures(mx.server.metrics)
    gate = threading.Event()
    hub.fail(Fault("storage:", gate=gate))
    callers = [asyncio.create_task(ensure(mx, "org/model")) for _ in range(3)]
    await figures.until(lambda now: now("mx_downloads_in_progress", provider="hugging-face") == 1)
    await figures.until(
        lambda now: now("mx_cache_requests_total", provider="hugging-face", result="wait") == 2
    )
    gate.set()
    assert await asyncio.gather(*callers) == [model.DOWNLOADED] * 3
    assert await ensure(mx, "org/model") == model.DOWNLOADED
    of = {"provider": "hugging-face"}
    assert figures("mx_cache_requests_total", result="miss", **of) == 1
    assert figures("mx_cache_requests_total", result="hit", **of) == 1
    assert figures("mx_downloads_started_total", resumed="false", **of) == 1
    assert figures("mx_downloads_completed_total", **of) == 1
    assert figures("mx_downloads_in_progress", **of) == 0
    assert figures("mx_download_bytes_total", **of) == TOTAL
    assert figures("mx_download_duration_seconds_count", result="completed", **of) == 1
    assert figures("mx_claims_total", result="won") == 1
    hub.add("org/other", {"config.json": b"{}"})
    hub.fail(Fault("/org/other/resolve", status=403, times=None))
    assert await ensure(mx, "org/other") == model.ERROR
    assert await ensure(mx, "org/other") == model.ERROR
    assert figures("mx_downloads_failed_total", reason="permission_denied", **of) == 1
    assert figures("mx_cache_requests_total", result="refused", **of) == 1
    assert figures(
        "mx_rpc_requests_total",
        service="model_express.model.ModelService",
        method="EnsureModelDownloaded",
        code="OK",
    ) == 6  # fmt: skip


async def test_served_evicted_removed_and_what_is_left(mx: ModelServer, hub: FakeHub) -> None:
    for name in ("org/a", "org/b", "org/c"):
        hub.add(name, {**FILES, "config.json": name.encode() * 9})
        assert await ensure(mx, name) == model.DOWNLOADED
    figures = Figures(mx.server.metrics)
    sent = 0
    async for chunk in mx.stub.StreamModelFiles(model.ModelFilesRequest(model_name="org/a", provider=0)):
        sent += len(chunk.data)
    assert figures("mx_served_bytes_total", way="grpc") == sent > 0
    client = GrpcClient(mx.address)
    gone = await client.remove_model(HF, "org/a")
    assert figures("mx_removed_entries_total") == 1
    assert figures("mx_cache_freed_bytes_total", by="removal") == gone.bytes_freed > 0
    plan = await client.plan_eviction(Shrink(to_bytes=int(gone.bytes_freed * 1.5)))
    run = await client.run_eviction(plan)
    await client.close()
    assert figures("mx_evicted_entries_total", trigger="command") == 1
    assert figures("mx_cache_freed_bytes_total", by="eviction") == run.bytes_freed > 0
    await mx.server.metrics.read(mx.services)
    assert figures("mx_cache_entries", status="downloaded") == 1
    assert figures("mx_cache_entries", status="error") == 0
    assert figures("mx_cache_used_bytes") == mx.services.cache.usage().used_bytes
    assert figures("mx_cache_limit_bytes") == 1 << 30
    assert figures("mx_cache_limit_models") is None
    assert 0 < (figures("mx_cache_disk_free_bytes") or 0) < (figures("mx_cache_disk_size_bytes") or 0)
    assert figures("mx_reconcile_runs_total") == 1  # the one at the start


async def test_files_that_vanish_are_drift(mx: ModelServer, hub: FakeHub) -> None:
    commit = hub.add("org/model", FILES)
    assert await ensure(mx, "org/model") == model.DOWNLOADED
    (mx.cache / "models--org--model" / "snapshots" / commit / "config.json").unlink()
    await mx.services.models.reconcile()
    assert Figures(mx.server.metrics)("mx_reconcile_drift_total", kind="without_files") == 1


async def test_sources_store_and_calls_by_code() -> None:
    async with running() as mx:
        figures = Figures(mx.server.metrics)
        await publish(mx)
        await mx.server.metrics.read(mx.services)
        assert figures("mx_sources", status="ready") == 1
        assert figures("mx_sources", status="stale") == 0
        assert figures("mx_store_up", backend="memory") == 1
        assert figures("mx_ready") == 1
        mx.store.down = True
        with pytest.raises(grpc.RpcError):
            await mx.p2p.ListSources(p2p.ListSourcesRequest())
        of = {"service": "model_express.p2p.P2pService", "method": "ListSources"}
        assert figures("mx_rpc_requests_total", code="UNAVAILABLE", **of) == 1
        assert figures("mx_rpc_duration_seconds_count", **of) == 1
        await figures.until(lambda now: now("mx_store_up", backend="memory") == 0)
        await mx.server.metrics.read(mx.services)
        assert figures("mx_sources", status="ready") is None, "an old value looks like a new one"
        assert figures("mx_cache_used_bytes") is not None


async def publish(mx: Running) -> None:
    record = entry("w0")
    client = GrpcClient(mx.server.listen)
    await client.publish(record.identity, record.worker, worker_id="w0")
    await client.close()


class SlowCache(FolderCache):
    """Takes as long as a gate is closed, as a disk that does not answer."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = threading.Event()
        self.asked = 0

    def usage(self) -> CacheUsage:
        self.asked += 1
        self.gate.wait(DEADLINE_S)
        return super().usage()


async def test_a_scrape_waits_for_no_disk(tmp_path: Path) -> None:
    async with running() as mx:
        cache = SlowCache(tmp_path)
        services = replace(mx.services, cache=cache)
        metrics = ServerMetrics(read_every_s=0.01, read_limit_s=0.2)
        reader = asyncio.create_task(metrics.keep_reading(services))
        figures = Figures(metrics)
        try:
            await figures.until(lambda _: cache.asked > 0)
            begin_s = time.monotonic()
            assert figures("mx_cache_used_bytes") is None
            assert time.monotonic() - begin_s < 5
            for _ in range(3):
                await metrics.read(services)
            assert cache.asked == 1, "a disk that hangs costs one thread, not one a scrape"
            # The rest comes although one part hangs, and the hanging part comes when it no longer does.
            await figures.until(lambda now: now("mx_sources", status="ready") == 0)
            cache.gate.set()
            await figures.until(lambda now: now("mx_cache_used_bytes") is not None)
            assert (figures("mx_values_age_seconds", of="cache") or 0) < DEADLINE_S
        finally:
            cache.gate.set()
            reader.cancel()
            await asyncio.wait({reader})


async def test_nobody_scrapes_and_nothing_is_read_again(tmp_path: Path) -> None:
    async with running() as mx:
        cache = SlowCache(tmp_path)
        cache.gate.set()
        services = replace(mx.services, cache=cache)
        metrics = ServerMetrics(read_every_s=0.0)
        reader = asyncio.create_task(metrics.keep_reading(services))
        async with asyncio.timeout(DEADLINE_S):
            while not cache.asked:
                await asyncio.sleep(0.01)
        for _ in range(50):  # it would have been read many times by now
            await asyncio.sleep(0.001)
        assert cache.asked == 1
        metrics.exposition()
        async with asyncio.timeout(DEADLINE_S):
            while cache.asked < 2:
                await asyncio.sleep(0.01)
        reader.cancel()
        await asyncio.wait({reader})


async def test_settings_reach_the_metrics_of_a_server(tmp_path: Path) -> None:
    """Through the process's own edge, which makes them; what HTTP answers is another test's."""
    settings = load_settings(
        flags={"metadata.backend": "memory", "server.host": "127.0.0.1", "server.metrics_scheme": "blue"},
        environ={}, cwd=tmp_path, scope="server",
    )  # fmt: skip
    started: list[RunningServer] = []
    serving = asyncio.create_task(serve(settings, port=0, on_ready=started.append))
    async with asyncio.timeout(DEADLINE_S):
        while not started:
            await asyncio.sleep(0.01)
    body = started[0].metrics.exposition()[0].decode()
    assert 'scheme="blue"' in body
    async with grpc.aio.insecure_channel(started[0].listen) as channel:
        await admin.AdminServiceAsyncStub(channel).ListModels(admin.ListModelsRequest())
    assert 'method="ListModels"' in started[0].metrics.exposition()[0].decode()
    serving.cancel()
    await asyncio.wait({serving})


async def test_http_answers_with_the_same_figures() -> None:
    async with running(http=HttpPlace(0)) as mx:
        web = mx.server.http
        assert web is not None
        async with httpx2.AsyncClient() as http:
            answer = await http.get(f"http://127.0.0.1:{web.port}/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        names = {family.name for family in text_string_to_metric_families(answer.text)}
        assert {"mx_build_info", "mx_uptime_seconds", "mx_http_transfers", "mx_cache_requests"} <= names
