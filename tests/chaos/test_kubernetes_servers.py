"""Three mx servers on one Kubernetes API server, and what happens when one of them dies.

Starting three takes its time: the tests share them, in this order, and each leaves fewer.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from processes import Server, Site, until
from test_chaos_server import READY, workers

from mx.client.sync import SyncClient
from mx.core.model import EntryStatus, ModelRef, ProviderName
from mx.core.progress import EnsureUpdate
from mx.errors import UnavailableError
from mx.testing.api_server import ApiServer
from mx.testing.fake_hub import FakeHub
from mx.testing.faults import Fault

MIB = 1 << 20
FILES = {"config.json": b"{}", "model.safetensors": random.Random(1).randbytes(8 * MIB)}
TOTAL = sum(map(len, FILES.values()))


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def servers(
    api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory, hub: FakeHub
) -> Iterator[list[Server]]:
    """Three of them, with one cache directory, as the ordinary replicas of a Deployment are."""
    tmp_path = tmp_path_factory.mktemp("servers")
    namespace = api_server.new_namespace()
    env = {
        "MX_METADATA_BACKEND": "kubernetes",
        "MX_METADATA_NAMESPACE": namespace,
        "KUBECONFIG": str(api_server.kubeconfig(tmp_path / "kubeconfig")),
        "HF_ENDPOINT": hub.endpoint,
        "MODEL_EXPRESS_CACHE_DIRECTORY": str(tmp_path / "cache"),
    }
    started: list[Server] = []
    try:
        for number in range(3):
            home = tmp_path / f"server-{number}"
            home.mkdir()
            started.append(Server(home, heartbeat_timeout_s=6, reaper_interval_s=2, env=env))
            started[-1].start()
        yield started
    finally:
        for server in started:
            server.close()


def last_update(server: Server, name: str) -> EnsureUpdate:
    with SyncClient(server.address, timeout_s=120) as client:
        *_, last = client.ensure(ModelRef(ProviderName.HUGGING_FACE, name))
    return last


def test_sixty_four_ensures_of_three_servers_fetch_once(servers: list[Server], hub: FakeHub) -> None:
    gate = threading.Event()
    hub.add("org/wanted", FILES)
    hub.fail(Fault("storage:", times=None, gate=gate))
    with ThreadPoolExecutor(64) as pool:
        asked = [pool.submit(last_update, servers[number % 3], "org/wanted") for number in range(64)]
        until(lambda: hub.asked("storage:"), "the download has begun")
        gate.set()
        ends = [one.result(120) for one in asked]
    assert {end.status for end in ends} == {EntryStatus.DOWNLOADED}, {end.message for end in ends}
    assert len(hub.asked("storage:")) == 1
    assert TOTAL <= hub.bytes_served < 1.01 * TOTAL


def test_an_owner_that_is_killed_is_followed_by_another(servers: list[Server], hub: FakeHub) -> None:
    hub.mend()
    gate = threading.Event()
    hub.add("org/lost", {"model.safetensors": random.Random(2).randbytes(8 * MIB)})
    hub.fail(Fault("storage:", cut_after=4 * MIB, gate=gate))
    before = hub.bytes_served
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(last_update, servers[0], "org/lost")
        until(lambda: hub.bytes_served >= before + 4 * MIB, "half of it has come")
        others = [pool.submit(last_update, server, "org/lost") for server in servers[1:]]
        until(lambda: servers[1].client.list_models(name="org/lost").entries, "the others know of the claim")
        began = time.monotonic()
        servers[0].kill()
        ends = [one.result(180) for one in others]
        took_s = time.monotonic() - began
        with pytest.raises(UnavailableError):
            first.result(30)
    gate.set()
    assert {end.status for end in ends} == {EntryStatus.DOWNLOADED}, {end.message for end in ends}
    assert took_s < 90, "a lease of 30 s, seen unchanged, and a download"
    assert hub.bytes_served - before < 2.1 * 8 * MIB


def test_a_pull_does_not_notice_that_servers_die(servers: list[Server], tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.home.mkdir()
    try:
        site.use(servers[1])
        flags = {"transfer.segment_bytes": MIB}
        source, target = workers(site, "source", "target", flags=flags, count=True)
        target.tell("pull", hold_at=0.3)
        target.hear("holding")
        servers[1].kill()
        target.tell("go")
        outcome = target.hear("outcome")
        assert (outcome["kind"], outcome["verified"]) == ("Loaded", True), outcome
        assert target.wrong_words() == 0
        assert servers[2].sources(status=READY), "the record is there for those who ask the third"
        # Whoever is left does the reaping: the worker's own server is dead, so nothing is heard of it.
        until(lambda: not servers[2].sources(status=READY), "the silent worker is stale")
        assert source.process.poll() is None
    finally:
        site.close()
