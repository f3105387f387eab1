"""From settings to services: the right store, a running reaper, errors as they were."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mx.client.base import Client
from mx.client.embedded import EmbeddedClient
from mx.config import Settings, load_settings
from mx.core.source import SourceFilter, SourceIdentity, SourceStatus, WorkerKey, source_id
from mx.core.transfer import Strategy, TransferReport, TransferState
from mx.errors import ConflictError, UnavailableError
from mx.testing.clock import FakeClock
from mx.testing.outage import OutageStore
from mx.testing.samples import FULL_WORKER, IDENTITY, PEER, model_key
from mx.wiring import Services, SystemClock, open_services

READY = SourceStatus.READY
ROOT = Path(__file__).parents[2]


def load(tmp_path: Path, backend: str, **flags: object) -> Settings:
    return load_settings(
        flags={"metadata.backend": backend, "database.path": str(tmp_path / "models.db"), **flags},
        environ={},
        cwd=tmp_path,
        scope="server",
    )


@pytest.mark.parametrize("backend", ["sqlite", "memory"])
async def test_the_chosen_store_works_and_the_file_appears_only_for_sqlite(
    tmp_path: Path, backend: str
) -> None:
    async with open_services(load(tmp_path, backend)) as services:
        assert services.store_backend == backend
        await services.sources.publish(IDENTITY, FULL_WORKER, worker_id="w0")
        assert len(await services.sources.list_sources(SourceFilter(status=READY))) == 1
    assert (tmp_path / "models.db").exists() == (backend == "sqlite")
    with pytest.raises(UnavailableError):
        await services.store.check()


async def test_sources_outlive_a_restart_on_sqlite(tmp_path: Path) -> None:
    for expected in (0, 1):
        async with open_services(load(tmp_path, "sqlite")) as services:
            assert len(await services.sources.list_sources(SourceFilter())) == expected
            await services.sources.publish(IDENTITY, FULL_WORKER, worker_id="w0")


@pytest.mark.parametrize(
    ("sources", "models", "kept"),
    [("sqlite", "auto", True), ("memory", "sqlite", True), ("memory", "auto", False)],
)
async def test_events_outlive_a_restart_where_a_store_keeps_them(
    tmp_path: Path, sources: str, models: str, kept: bool
) -> None:
    settings = load(tmp_path, sources, **{"database.backend": models})
    async with open_services(settings) as services:
        services.feed.tell_started("1.2.3")
        assert len(await services.feed.list_events(limit=10)) == 1
    async with open_services(settings) as services:
        assert len(await services.feed.list_events(limit=10)) == kept


@pytest.mark.parametrize(
    ("sources", "models", "kept"),
    [
        ("sqlite", "auto", True),
        ("sqlite", "sqlite", True),
        ("memory", "auto", False),
        ("memory", "sqlite", True),
    ],
)
async def test_models_lie_where_the_sources_do_unless_the_settings_say_sqlite(
    tmp_path: Path, sources: str, models: str, kept: bool
) -> None:
    settings = load(tmp_path, sources, **{"database.backend": models})
    key = model_key()
    async with open_services(settings) as services:
        await services.models_store.claim(key, owner="a", lease_s=30, now_ms=0)
        await services.models_store.check()
    with pytest.raises(UnavailableError):
        await services.models_store.check()
    assert (tmp_path / "models.db").exists() == kept
    async with open_services(settings) as services:
        assert (await services.models_store.get(key) is not None) == kept


async def test_a_database_that_cannot_be_opened_is_one_clear_error(tmp_path: Path) -> None:
    settings = load(tmp_path, "sqlite", **{"database.path": str(tmp_path / "absent" / "models.db")})
    with pytest.raises(UnavailableError, match="there is no folder"):
        async with open_services(settings):
            pass


async def test_the_reaper_runs_by_the_settings_while_the_services_are_open(tmp_path: Path) -> None:
    clock = FakeClock()
    settings = load(tmp_path, "sqlite", **{"sources.heartbeat_timeout_s": 7})
    async with open_services(settings, clock=clock) as services:
        await services.sources.publish(IDENTITY, FULL_WORKER, worker_id="silent")
        clock.advance(5)
        await services.sources.publish(IDENTITY, FULL_WORKER, worker_id="alive")
    clock.advance(3)
    async with open_services(settings, clock=clock) as services, asyncio.timeout(10):
        while (await services.sources.counts())["stale"] == 0:
            await asyncio.sleep(0)
        (row,) = await services.sources.list_sources(SourceFilter(status=SourceStatus.STALE))
        assert row.worker_id == "silent"
        assert "source reaper" in [task.get_name() for task in asyncio.all_tasks()]
    assert "source reaper" not in [task.get_name() for task in asyncio.all_tasks()]


async def test_the_bodys_error_is_not_wrapped(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="mine"):
        async with open_services(load(tmp_path, "memory")) as services:
            raise ConflictError("mine")
    with pytest.raises(UnavailableError):
        await services.store.check()


async def test_cancelling_the_body_closes_the_store(tmp_path: Path) -> None:
    opened: asyncio.Future[Services] = asyncio.get_running_loop().create_future()

    async def serve() -> None:
        async with open_services(load(tmp_path, "sqlite")) as services:
            opened.set_result(services)
            await asyncio.Event().wait()

    task = asyncio.ensure_future(serve())
    services = await opened
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(UnavailableError):
        await services.store.check()


def test_the_machines_clock_does_not_go_back() -> None:
    clock = SystemClock()
    times = [clock.now_ms() for _ in range(1000)]
    assert times == sorted(times)
    assert times[0] > 1_600_000_000_000


def test_wiring_loads_no_adapter_before_it_is_chosen() -> None:
    script = "import sys, mx.client.embedded; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert {"aiosqlite", "sqlite3", "grpc", "torch", "dynaconf"}.isdisjoint(done.stdout.split())


# the embedded client


async def test_the_embedded_client_answers_like_a_server(tmp_path: Path) -> None:
    clock = FakeClock()
    async with open_services(load(tmp_path, "memory"), clock=clock) as services:
        embedded = EmbeddedClient(services, settings_file="model-express.yaml")
        client: Client = embedded
        worker = replace(FULL_WORKER, status=SourceStatus.UNKNOWN)
        assert await client.publish(IDENTITY, worker, worker_id="w0") == source_id(IDENTITY)
        key = WorkerKey(source_id(IDENTITY), "w0", 0)
        assert await client.find_peers(IDENTITY, worker_rank=0) == ()
        assert await client.announce(key, PEER)
        assert await client.update_status(key, READY, source_load=0.5)
        (row,) = await client.find_peers(IDENTITY, worker_rank=0)
        assert (row.worker_id, row.peer, row.source_load) == ("w0", PEER, 0.5)
        assert await client.list_sources(SourceFilter(), identity=IDENTITY) == (row,)
        other = replace(IDENTITY, dtype="float16")
        assert await client.list_sources(SourceFilter(), identity=other) == ()
        assert await client.list_sources(SourceFilter(), identity=SourceIdentity("")) == (row,)
        found = await client.get_source(key.source_id, "w0")
        assert found is not None
        assert found.worker.payload == FULL_WORKER.payload

        clock.advance(5)
        health = await client.health()
        assert (health.status, health.uptime_s) == ("ok", 5)
        status = await client.status()
        assert status.ready
        assert status.sources_by_status["ready"] == 1
        assert (status.store_backend, status.settings_file) == ("memory", "model-express.yaml")

        assert await client.withdraw(key)
        assert await client.get_source(key.source_id, "w0") is None
        await client.close()


async def test_the_embedded_client_pings_and_refuses_other_actions(tmp_path: Path) -> None:
    async with open_services(load(tmp_path, "memory")) as services:
        client = EmbeddedClient(services)
        reply = await client.send("ping", payload=b"ignored")
        assert (reply.success, reply.data, reply.error) == (True, b'{"message": "pong"}', None)
        reply = await client.send("reboot")
        assert (reply.success, reply.data) == (False, None)
        assert "reboot" in (reply.error or "")


async def test_the_embedded_client_tells_of_an_outage(tmp_path: Path) -> None:
    async with open_services(load(tmp_path, "memory")) as services:
        store = OutageStore(services.store)
        client = EmbeddedClient(replace(services, store=store))
        store.down = True
        assert (await client.health()).status != "ok"
        status = await client.status()
        assert (status.ready, status.store_ok) == (False, False)


async def test_the_embedded_client_passes_transfers_on(tmp_path: Path) -> None:
    report = TransferReport(
        transfer_id="t0",
        model_name="org/m",
        source_id="0" * 16,
        worker_id="w0",
        worker_rank=0,
        strategy=Strategy.DISK,
        state=TransferState.DONE,
        bytes_total=1,
        bytes_done=1,
        verified=True,
        started_at_ms=1,
        seconds=1.0,
    )
    async with open_services(load(tmp_path, "memory")) as services:
        client = EmbeddedClient(services)
        await client.report_transfer(report)
        assert await client.list_transfers(limit=5) == (report,)
