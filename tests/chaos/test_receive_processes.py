"""Processes that receive one model into one cache directory; they and the server are killed and frozen."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from processes import DEADLINE_S, MX, environment, free_port, until

from mx.client.receive.http import Door, HttpReader
from mx.client.sync import SyncClient
from mx.core.model import EntryKey, ModelRef, ProviderName
from mx.providers.cache import open_cache
from mx.testing.fake_hub import FakeHub
from mx.testing.link import Link
from mx.wire.v1 import model as wire

RECEIVER = Path(__file__).with_name("receiver.py")
NAME = "org/model"
MIB = 1 << 20
FILES = {
    "config.json": b"{}",
    "model-00001.safetensors": os.urandom(8 * MIB),
    "model-00002.safetensors": os.urandom(4 * MIB + 5),
    "nested/tokenizer.json": b"[]" * 500,
}
TOTAL = sum(map(len, FILES.values()))
RATE = 6.0 * MIB


class Server:
    """``mx server start`` with a cache, always on the same two ports."""

    def __init__(self, home: Path, hub: FakeHub) -> None:
        self.home = home
        self.cache = home / "cache"
        self.hub = hub
        self.port, self.http_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        flags = ["--host", "127.0.0.1", "--port", str(self.port), "--metrics-port", str(self.http_port)]
        flags += ["-d", str(self.home / "models.db"), "--cache-directory", str(self.cache)]
        env = environment(
            HF_ENDPOINT=self.hub.endpoint,
            MODEL_EXPRESS_PROVIDERS_LOCAL_ROOTS=str(self.home),
            PYTHONPATH=str(Path(__file__).parents[2]),
        )
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", MX, "server", "start", *flags],
                stdout=log,
                stderr=log,
                env=env,
                cwd=self.home,
            )
        with SyncClient(f"127.0.0.1:{self.port}", timeout_s=5, max_retries=0) as client:

            def ready() -> bool:
                assert self.process is not None
                assert self.process.poll() is None, (self.home / "server.log").read_text()
                return client.status().ready

            until(ready, "the server answers")
        return self

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE_S)

    def peak_bytes(self) -> int:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


class Receiver:
    """One process of ``receiver.py``. ``lines`` grows as it speaks."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.lines: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, str(RECEIVER), json.dumps(task)],
            stdout=subprocess.PIPE,
            env=environment(PYTHONPATH=str(Path(__file__).parents[2])),
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # cut off with the process
                self.lines.append(json.loads(line))

    def told(self, beginning: str) -> bool:
        return any(line.get("message", "").startswith(beginning) for line in tuple(self.lines))

    @property
    def receives(self) -> bool:
        return self.told("from ")

    @property
    def waits(self) -> bool:
        return self.told("by another process here")

    def end(self) -> dict[str, Any]:
        assert self.process.wait(DEADLINE_S) == 0
        self._reader.join(DEADLINE_S)
        return self.lines[-1]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(DEADLINE_S)


class World:
    """A hub, a server, a slow link to it, and a machine whose processes receive through the link."""

    def __init__(self, folder: Path, hub: FakeHub, stack: contextlib.ExitStack) -> None:
        self.hub = hub
        self.cache = folder / "worker"
        (folder / "server").mkdir()
        self.server = Server(folder / "server", hub).start()
        stack.callback(self.server.kill)
        link = lambda port, rate: Link(  # noqa: E731
            "127.0.0.1", port, listen="127.0.0.2", listen_port=port, bytes_per_s=rate
        )
        stack.enter_context(link(self.server.port, 0))
        self.files = stack.enter_context(link(self.server.http_port, RATE))
        self._stack = stack

    def receiver(self, name: str = NAME, **task: Any) -> Receiver:
        receiver = Receiver(
            {"address": f"127.0.0.2:{self.server.port}", "name": name, "cache": str(self.cache), **task}
        )
        self._stack.callback(receiver.close)
        return receiver

    def require_whole(self, files: dict[str, bytes] = FILES) -> None:
        (entry,) = open_cache(self.cache).scan()
        assert {file.path: (entry.root / file.path).read_bytes() for file in entry.files} == files
        assert open_cache(self.cache).verify(entry.key).sound
        assert not list(self.cache.glob("**/.mx/stage/*")), "nothing is left of how it came"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeHub() as hub, contextlib.ExitStack() as stack:
        hub.add(NAME, FILES)
        yield World(tmp_path, hub, stack)


def wait_for(condition: Callable[[], object], what: str) -> None:
    until(condition, what, within_s=DEADLINE_S)


def test_ranks_of_one_host_fetch_once(world: World) -> None:
    ranks = [world.receiver() for _ in range(6)]
    ends = [rank.end() for rank in ranks]
    assert {end["event"] for end in ends} == {"received"}, ends
    assert len({end["root"] for end in ends}) == 1
    assert world.files.passed < 1.02 * TOTAL + 10_000
    assert sum(rank.receives for rank in ranks) == 1
    world.require_whole()


def test_metadata_and_weights_at_the_same_time(world: World) -> None:
    ranks = [world.receiver(weights=bool(n % 2)) for n in range(4)]
    ends = [rank.end() for rank in ranks]
    assert {end["event"] for end in ends} == {"received"}, ends
    assert world.files.passed < 1.02 * TOTAL + 20_000


def test_a_killed_receiver_is_followed_by_another_that_goes_on(world: World) -> None:
    ranks = [world.receiver() for _ in range(3)]
    wait_for(lambda: any(rank.receives for rank in ranks), "one of them receives")
    wait_for(lambda: world.files.passed > TOTAL // 2, "half of it came")
    first = next(rank for rank in ranks if rank.receives)
    first.process.kill()
    others = [rank for rank in ranks if rank is not first]
    assert {rank.end()["event"] for rank in others} == {"received"}
    # What is lost: spans read ahead of their turn, and what was on its way.
    assert world.files.passed < 1.4 * TOTAL
    world.require_whole()


def test_a_frozen_receiver_is_replaced_and_finds_what_the_other_did(world: World) -> None:
    rules = {"lease_s": 1.5, "beat_s": 0.2}
    first = world.receiver(rules=rules)
    wait_for(lambda: world.files.passed > TOTAL // 3, "a third of it came")
    first.process.send_signal(signal.SIGSTOP)
    second = world.receiver(rules=rules)
    assert second.end()["event"] == "received"
    assert second.waits
    first.process.send_signal(signal.SIGCONT)
    assert first.end()["event"] == "received"
    world.require_whole()


def test_a_killed_server_that_comes_back_is_gone_on_with(world: World) -> None:
    rank = world.receiver()
    wait_for(lambda: world.files.passed > TOTAL // 2, "half of it came")
    world.server.kill()
    world.server.start()
    assert rank.end()["event"] == "received"
    assert world.files.passed < 1.4 * TOTAL
    world.require_whole()


def test_a_server_that_comes_back_with_an_empty_cache_is_asked_again(world: World) -> None:
    rank = world.receiver()
    wait_for(lambda: world.files.passed > TOTAL // 2, "half of it came")
    world.server.kill()
    shutil.rmtree(world.server.cache)
    world.server.start()
    assert rank.end()["event"] == "received"
    assert world.files.passed < 1.4 * TOTAL
    world.require_whole()


def test_a_server_that_comes_back_with_other_content(world: World) -> None:
    """Nothing of the old content gets into the new."""
    source = world.server.home / "mine"
    source.mkdir()
    same, old, new = os.urandom(4 * MIB), os.urandom(6 * MIB), os.urandom(6 * MIB)
    (source / "a.safetensors").write_bytes(old)
    (source / "b.safetensors").write_bytes(same)
    rank = world.receiver(str(source), provider="local")
    wait_for(lambda: world.files.passed > 7 * MIB, "most of it came")
    world.server.kill()
    shutil.rmtree(world.server.cache)
    (source / "next").write_bytes(new)
    (source / "next").rename(source / "a.safetensors")
    world.server.start()
    end = rank.end()
    assert end["event"] == "received", end
    world.require_whole({"a.safetensors": new, "b.safetensors": same})


def test_all_hear_why_the_one_that_received_gave_up(world: World) -> None:
    rules = {"patience_s": 2.0, "silence_s": 1.0}
    ranks = [world.receiver(rules=rules) for _ in range(3)]
    wait_for(lambda: sum(r.receives or r.waits for r in ranks) == 3, "one receives, two wait")
    wait_for(lambda: world.files.passed > TOTAL // 4, "something came")
    world.server.kill()
    ends = [rank.end() for rank in ranks]
    assert {end["event"] for end in ends} == {"failed"}
    assert {end["code"] for end in ends} == {"unavailable"}
    assert len({end["message"] for end in ends}) == 1, "the same words, and nobody tried for himself"
    before = world.files.passed
    world.server.start()
    assert world.receiver().end()["event"] == "received"
    assert world.files.passed - before < TOTAL, "what came before counts"
    world.require_whole()


def test_sixteen_readers_cost_the_server_little_memory(world: World) -> None:
    world.files.bytes_per_s = 0
    assert world.receiver().end()["event"] == "received"
    (entry,) = open_cache(world.cache).scan()
    failures: list[BaseException] = []

    def read(key: EntryKey, over_http: bool) -> None:
        try:
            for _ in range(3):
                (_read_http if over_http else _read_grpc)(world.server, key)
        except BaseException as error:  # noqa: BLE001  # told below
            failures.append(error)

    for over_http in (True, False):
        threads = [threading.Thread(target=read, args=(entry.key, over_http)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert world.server.peak_bytes() < 300 * MIB


def _read_http(server: Server, key: EntryKey) -> None:
    view = memoryview(bytearray(MIB))
    with SyncClient(f"127.0.0.1:{server.port}") as client:
        opened = client.open_files(key, holder="test")
        reader = HttpReader(
            Door("127.0.0.1", opened.port), opened.ticket, connect_s=DEADLINE_S, silence_s=DEADLINE_S
        )
        for number, file in enumerate(opened.files):
            fill = reader.get(number, file, offset=0, length=file.size_bytes)
            left = file.size_bytes
            while left:
                left -= fill(view[: min(left, MIB)])
        reader.close()
        client.close_files(opened.ticket)


def _read_grpc(server: Server, key: EntryKey) -> None:
    ref = ModelRef(ProviderName.HUGGING_FACE, key.name, key.commit)
    with SyncClient(f"127.0.0.1:{server.port}") as client:
        pieces = client.stream_files(ref, paths=tuple(FILES), chunk_bytes=64 * MIB, silence_s=DEADLINE_S)
        assert sum(len(piece.data) for piece in pieces) == TOTAL


def test_chunks_are_whatever_a_published_client_can_decode(world: World) -> None:
    import grpc

    assert world.receiver().end()["event"] == "received"
    (entry,) = open_cache(world.cache).scan()
    with grpc.insecure_channel(f"127.0.0.1:{world.server.port}") as channel:  # 4 MiB at most
        asked = wire.ModelFilesRequest(model_name=NAME, revision=entry.key.commit, chunk_size=2**32 - 1)
        chunks = list(wire.ModelServiceStub(channel).StreamModelFiles(asked))
    assert sum(len(chunk.data) for chunk in chunks) == TOTAL
