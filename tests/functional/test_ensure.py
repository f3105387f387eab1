"""Ensure with everything real but the hub: processes, SQLite, the cache on disk, HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mx.config import load_settings
from mx.core.eviction import Shrink
from mx.core.model import EntryStatus, ModelRef, ProviderName
from mx.errors import UnavailableError
from mx.testing.fake_hub import FakeHub
from mx.testing.faults import Fault
from mx.testing.redis_servers import running_redis, valkey_program
from mx.wiring import open_services

NAME = "org/Model-7B"
MIB = 1 << 20
FILES = {
    "config.json": b'{"model_type": "none"}',
    "model-00001.safetensors": random.Random(1).randbytes(44 * MIB),
    "model-00002.safetensors": random.Random(2).randbytes(2 * MIB),
    "nested/extra.json": b"{}",
}
TOTAL = sum(map(len, FILES.values()))
WORKER = Path(__file__).with_name("ensure_worker.py")
ROOT = Path(__file__).parents[2]


class Worker:
    """A process of ``ensure_worker``. ``lines`` grows as it speaks."""

    def __init__(
        self, folder: Path, hub: FakeHub, records: str, *, times: int, lease_s: float = 10.0
    ) -> None:
        self.lines: list[dict[str, Any]] = []
        words = [WORKER, folder, hub.endpoint, NAME, times, lease_s, *([records] if records else [])]
        self.process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def told(self, event: str) -> list[dict[str, Any]]:
        return [line for line in tuple(self.lines) if line["event"] == event]

    def finish(self) -> None:
        assert self.process.stderr is not None
        stderr = self.process.stderr.read()
        assert self.process.wait(60) == 0, stderr
        self._reader.join(10)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.add(NAME, FILES)
        yield hub


@pytest.fixture(params=["sqlite", "redis"])
def start(request: pytest.FixtureRequest, tmp_path: Path, hub: FakeHub) -> Iterator[Callable[..., Worker]]:
    """Processes that share a cache and its records, in a file or in Redis."""
    workers: list[Worker] = []
    with ExitStack() as stack:
        records = ""
        if request.param == "redis":
            records = stack.enter_context(running_redis(valkey_program())).url

        def make(**options: Any) -> Worker:
            workers.append(Worker(tmp_path, hub, records, **options))
            return workers[-1]

        yield make
        for worker in workers:
            worker.end()


def until(condition: Callable[[], bool], *, deadline_s: float = 60) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.02)


def files_below(root: str) -> dict[str, str]:
    return {
        path: hashlib.sha256((Path(root) / path).read_bytes()).hexdigest()
        for path in FILES
        if (Path(root) / path).exists()
    }


DIGESTS = {path: hashlib.sha256(data).hexdigest() for path, data in FILES.items()}


def test_sixty_four_ensures_of_eight_processes_fetch_once(hub: FakeHub, start: Callable[..., Worker]) -> None:
    gate = threading.Event()
    hub.fail(Fault("storage:", times=None, gate=gate))
    workers = [start(times=8) for _ in range(8)]
    until(lambda: all(worker.told("asked") for worker in workers))
    gate.set()
    for worker in workers:
        worker.finish()
    ends = [end for worker in workers for end in worker.told("end")]
    assert [end["status"] for end in ends] == ["downloaded"] * 64, ends
    assert len(hub.asked("storage:")) == 2, "each weight file was asked for once"
    assert TOTAL <= hub.bytes_served < 1.01 * TOTAL
    assert files_below(workers[0].told("entry")[0]["root"]) == DIGESTS


def test_an_owner_killed_half_way_is_taken_over_once_and_resumed(
    hub: FakeHub, start: Callable[..., Worker]
) -> None:
    gate = threading.Event()
    large = DIGESTS["model-00001.safetensors"]
    hub.fail(Fault(f"storage:/objects/{large}", cut_after=22 * MIB, gate=gate))
    owner = start(times=4, lease_s=3.0)
    until(lambda: hub.bytes_served >= 24 * MIB)
    followers = [start(times=4, lease_s=3.0) for _ in range(2)]
    until(lambda: all(worker.told("asked") for worker in followers))
    os.kill(owner.process.pid, signal.SIGKILL)
    owner.process.wait(10)
    for worker in followers:
        worker.finish()
    gate.set()
    ends = [end for worker in followers for end in worker.told("end")]
    assert [end["status"] for end in ends] == ["downloaded"] * 8, ends
    assert hub.bytes_served < 1.1 * TOTAL, f"{hub.bytes_served / TOTAL:.2f} times the bytes"
    assert files_below(followers[0].told("entry")[0]["root"]) == DIGESTS


async def test_opened_services_download_evict_and_reconcile(tmp_path: Path, hub: FakeHub) -> None:
    settings = load_settings(
        environ={
            "HF_ENDPOINT": hub.endpoint,
            "MODEL_EXPRESS_CACHE_DIRECTORY": str(tmp_path / "cache"),
            "MODEL_EXPRESS_CACHE__EVICTION__POLICY__GRACE_TIME": "0s",
        },
        cwd=tmp_path,
        scope="server",
    )
    ref = ModelRef(ProviderName.HUGGING_FACE, NAME)
    async with open_services(settings) as services:
        updates = [update async for update in services.models.ensure(ref)]
        assert updates[-1].status is EntryStatus.DOWNLOADED, updates[-1]
        (record,) = await services.models.records()
        assert record.bytes_on_disk >= TOTAL
        assert (await services.models.reconcile()).drift == 0
        async with services.models.reading(ref, holder="test"):
            kept = await services.eviction.plan(Shrink())
            assert kept.victims == ()
    hub.fail(Fault("hub:", times=None, status=503))
    async with open_services(settings) as services:
        again = [update async for update in services.models.ensure(ref)]
        assert [u.status for u in again][-1] is EntryStatus.DOWNLOADED, "from the cache, without the hub"
        run = await services.eviction.evict(Shrink())
        assert run.failed == ()
        assert run.bytes_freed == run.plan.bytes_freed >= TOTAL
        assert await services.models.records() == ()
        assert not list((tmp_path / "cache").rglob("*.safetensors"))


async def test_a_cache_directory_that_cannot_be_used_leaves_the_rest_working(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    settings = load_settings(
        environ={"MODEL_EXPRESS_CACHE_DIRECTORY": str(tmp_path / "cache")}, cwd=tmp_path, scope="server"
    )
    async with open_services(settings) as services:
        assert await services.sources.counts()
        with pytest.raises(UnavailableError, match="no folder"):
            await services.models.find(ModelRef(ProviderName.HUGGING_FACE, NAME))
