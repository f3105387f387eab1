"""Three mx servers on one Redis: clocks an hour off, killed, flushed under them; workers notice nothing.

The wall clock of the second server is an hour ahead, that of the third an hour behind, in every test.
"""

from __future__ import annotations

import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from processes import Server, Site, Worker, until

from mx.core.model import EntryStatus, ModelRef, ProviderName
from mx.core.progress import EnsureUpdate
from mx.core.source import SourceStatus, SourceSummary
from mx.errors import UnavailableError
from mx.testing.fake_hub import FakeHub
from mx.testing.faults import Fault
from mx.testing.redis_servers import RedisServer, running_redis, valkey_program

MIB = 1 << 20
HOUR_S = 3600
HEARTBEAT_TIMEOUT_S = 3  # workers of these tests say something every second
FILES = {
    "config.json": b"{}",
    "model-00001.safetensors": random.Random(1).randbytes(6 * MIB),
    "model-00002.safetensors": random.Random(2).randbytes(2 * MIB),
}
SIZES = [1 << 20] * 8 + [512] * 8
READY, STALE = SourceStatus.READY, SourceStatus.STALE


@dataclass
class Trio:
    """Shared by the tests: each has models of its own, and leaves all servers running."""

    redis: RedisServer
    hub: FakeHub
    servers: list[Server]

    def everywhere(self, condition: Callable[[Server], object], what: str) -> None:
        for server in self.servers:
            until(partial(condition, server), f"{what}, on {server.home.name}")


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    folder = tmp_path_factory.mktemp("trio")
    servers = []
    with running_redis(valkey_program()) as redis_server, FakeHub() as hub:
        for name, skew_s in (("first", 0), ("ahead", HOUR_S), ("behind", -HOUR_S)):
            home = folder / name
            home.mkdir()
            env = {
                "MX_METADATA_BACKEND": "redis",
                "REDIS_URL": redis_server.url,
                "HF_ENDPOINT": hub.endpoint,
                "MODEL_EXPRESS_CACHE_DIRECTORY": str(folder / "cache"),
            }
            server = Server(
                home, heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S, reaper_interval_s=1, skew_s=skew_s, env=env
            )
            servers.append(server)
        try:
            for server in servers:
                server.begin()
            for server in servers:
                server.wait_ready()
            yield Trio(redis_server, hub, servers)
        finally:
            for server in servers:
                server.close()


@pytest.fixture(autouse=True)
def _site(site: Site, trio: Trio) -> None:
    site.use(trio.servers[0])


def ready(server: Server, site: Site) -> dict[str, SourceSummary]:
    return server.sources(model=site.model, status=READY)


def is_cached(server: Server, name: str) -> bool:
    return name in [record.key.name for record in server.client.list_models().entries]


def worker(site: Site, name: str, server: Server, **task: Any) -> Worker:
    made = site.worker(name, sizes=SIZES, filled=name.startswith("source"), address=server.address, **task)
    made.hear("started")
    return made


def test_sixty_four_ensures_on_three_servers_fetch_once(trio: Trio) -> None:
    name = "org/sixty-four"
    trio.hub.add(name, FILES)
    gate = threading.Event()
    trio.hub.fail(Fault("storage:", times=None, gate=gate))
    waiting = threading.Semaphore(0)

    def ensure(number: int) -> EnsureUpdate:
        first = True
        for update in trio.servers[number % 3].client.ensure(ModelRef(ProviderName.HUGGING_FACE, name)):
            if first:
                first = False
                waiting.release()
            last = update
        return last

    with ThreadPoolExecutor(64) as threads:
        ends = [threads.submit(ensure, number) for number in range(64)]
        for _ in ends:
            assert waiting.acquire(timeout=60)
        gate.set()
        last = [end.result(60) for end in ends]
    assert [update.status for update in last] == [EntryStatus.DOWNLOADED] * 64, last
    assert len(trio.hub.asked("storage:")) == 2, "each weight file was asked for once"
    trio.everywhere(lambda server: is_cached(server, name), "the entry is listed")


def test_what_one_server_hears_all_know_and_no_clock_makes_it_stale(trio: Trio, site: Site) -> None:
    source = worker(site, "source", trio.servers[0]).publish()
    trio.everywhere(lambda server: "source" in ready(server, site), "the source is READY")
    begin_ms = ready(trio.servers[0], site)["source"].updated_at_ms
    # Several heartbeats, and several looks of whichever server reaps.
    trio.everywhere(
        lambda server: ready(server, site)["source"].updated_at_ms > begin_ms + 5_000, "heartbeats are seen"
    )
    assert all(ready(server, site)["source"].peer is not None for server in trio.servers)
    source.kill()
    last_ms = trio.servers[0].sources(model=site.model)["source"].updated_at_ms
    trio.everywhere(
        lambda server: server.sources(model=site.model)["source"].status == STALE, "the source is STALE"
    )
    marked_ms = trio.servers[1].sources(model=site.model)["source"].updated_at_ms
    assert last_ms + HEARTBEAT_TIMEOUT_S * 1000 <= marked_ms
    said = [server.log.read_text().count("source went stale") for server in trio.servers]
    assert sum(said) == 1, "one server reaps"


@pytest.mark.parametrize("fault", ["flushed", "restarted empty"])
def test_redis_loses_everything_and_nothing_is_lost(trio: Trio, site: Site, fault: str) -> None:
    name = f"org/{fault.split()[0]}"
    trio.hub.add(name, FILES)
    *_, last = trio.servers[0].client.ensure(ModelRef(ProviderName.HUGGING_FACE, name))
    assert last.status is EntryStatus.DOWNLOADED
    asked = len(trio.hub.asked("storage:"))
    worker(site, "source", trio.servers[0]).publish()
    target = worker(site, "target", trio.servers[1], count=True)
    target.tell("pull", hold_at=0.3)
    target.hear("holding")
    if fault == "flushed":
        with trio.redis.client() as client:
            client.flushall()
    else:
        trio.redis.kill()
        trio.redis.start()
    target.tell("go")
    assert target.hear("outcome")["kind"] == "Loaded"
    trio.everywhere(
        lambda server: [row.peer is not None for row in ready(server, site).values()] == [True],
        "the worker has published itself anew, with mx's own record",
    )
    # From the disk, by the server that looks first.
    trio.everywhere(lambda server: is_cached(server, name), "the entry is found again")
    assert len(trio.hub.asked("storage:")) == asked


def test_a_server_whose_redis_pauses_says_so_and_recovers(trio: Trio) -> None:
    first = trio.servers[0]
    trio.redis.pause()
    try:
        until(lambda: first.client.health().status != "ok", "the server is not ready")
    finally:
        trio.redis.resume()
    until(lambda: first.client.health().status == "ok", "the server is ready again")
    assert all(server.process is not None and server.process.poll() is None for server in trio.servers)


def test_an_owner_that_is_killed_is_followed_by_another(trio: Trio) -> None:
    name, size = "org/lost", 8 * MIB
    trio.hub.mend()
    trio.hub.add(name, {"model.safetensors": random.Random(3).randbytes(size)})
    gate = threading.Event()
    trio.hub.fail(Fault("storage:", cut_after=size // 2, gate=gate))
    before = trio.hub.bytes_served

    def ensure(server: Server) -> EnsureUpdate:
        *_, last = server.client.ensure(ModelRef(ProviderName.HUGGING_FACE, name))
        return last

    with ThreadPoolExecutor(3) as threads:
        owner = threads.submit(ensure, trio.servers[0])
        until(lambda: trio.hub.bytes_served >= before + size // 2, "half of it has come")
        others = [threads.submit(ensure, server) for server in trio.servers[1:]]
        until(lambda: trio.servers[1].client.list_models(name=name).entries, "the others know of the claim")
        trio.servers[0].kill()
        gate.set()  # nobody listens there any more
        with pytest.raises(UnavailableError):
            owner.result(60)
        ends = [one.result(120) for one in others]
    assert {end.status for end in ends} == {EntryStatus.DOWNLOADED}, {end.message for end in ends}
    assert trio.hub.bytes_served - before < 1.1 * size, "the next owner went on from what was there"
    trio.servers[0].begin()
    trio.everywhere(lambda server: is_cached(server, name), "the entry is listed")


def test_a_pull_outlives_every_server(trio: Trio, site: Site) -> None:
    flags = {"transfer.segment_bytes": 1 << 20}
    worker(site, "source", trio.servers[0], flags=flags).publish()
    target = worker(site, "target", trio.servers[1], flags=flags, count=True)
    target.tell("pull", hold_at=0.3)
    target.hear("holding")
    for server in trio.servers:
        server.kill()
    target.tell("go")
    outcome = target.hear("outcome")
    assert (outcome["kind"], outcome["verified"]) == ("Loaded", True), outcome
    assert target.wrong_words() == 0
    target.tell("publish", wait=False)
    for server in trio.servers:
        server.begin()
    until(
        lambda: "source" in trio.servers[2].sources(model=site.model),
        "its record outlived them all",
    )
    trio.everywhere(lambda server: set(ready(server, site)) == {"source", "target"}, "both are READY")


def test_a_wrong_password_ends_the_start_with_a_line_and_without_the_password(
    trio: Trio, tmp_path: Path
) -> None:
    with trio.redis.client() as client:
        client.execute_command("ACL", "SETUSER", "mx", "on", ">right", "~mx:*", "+@all")
    url = trio.redis.url.replace("redis://", "redis://mx:geheim@")
    server = Server(tmp_path, env={"MX_METADATA_BACKEND": "redis", "REDIS_URL": url})
    process = server.launch()
    try:
        _, stderr = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        raise
    assert process.returncode == 1
    assert "refuses the user name or password" in stderr
    assert "geheim" not in stderr + server.log.read_text()
