"""Sources found through a Service's address instead of a server: real engines over NIXL on loopback."""

from __future__ import annotations

import ctypes
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from mx.config import load_settings
from mx.core.source import SourceIdentity
from mx.core.tensors import TensorDescriptor
from mx.engines.discovery import connect
from mx.errors import SettingsError, UnavailableError
from mx.transfer.engine import TransferEngine
from mx.transfer.outcome import Failed, Loaded, LocalTensors, Skipped
from mx.transfer.service import ServiceClient, listening_port, service_endpoint

SIZE = 1 << 20
IDENTITY = SourceIdentity("org/routed", mx_version="0.7.0", tensor_parallel_size=2)
OTHER = SourceIdentity("org/other", mx_version="0.7.0", tensor_parallel_size=2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(**flags: Any) -> Any:
    defaults = {
        "worker.metadata_backend": "k8s-service",
        "worker.host": "127.0.0.1",
        "worker.metadata_port": 0,
        "worker.k8s_source_backoff_s": 0.05,
        "transfer.segment_bytes": 1 << 18,
    }
    return load_settings(flags=defaults | flags, environ={}, scope="worker")


class Memory:
    def __init__(self, *, seed: int = 0) -> None:
        self.buffer = ctypes.create_string_buffer(random.Random(seed).randbytes(SIZE) if seed else SIZE, SIZE)
        row = TensorDescriptor("w", ctypes.addressof(self.buffer), SIZE, 0, "torch.bfloat16")
        self.local = LocalTensors((row,), (self.buffer,))


@pytest.fixture
def start() -> Iterator[Callable[..., TransferEngine]]:
    with ExitStack() as ends:

        def start(rank: int, *, identity: SourceIdentity = IDENTITY, **flags: Any) -> TransferEngine:
            wanted = settings(**flags)
            engine = TransferEngine(wanted, client=connect(wanted), identity=identity, worker_rank=rank)
            ends.callback(engine.close)
            return engine

        yield start


def test_a_target_pulls_from_whoever_the_service_leads_to(start: Callable[..., TransferEngine]) -> None:
    ports = [free_port(), free_port()]
    theirs = [Memory(seed=1), Memory(seed=2)]
    for rank, (port, memory) in enumerate(zip(ports, theirs, strict=True)):
        pattern = f"127.0.0.1:{port}"
        source = start(rank, **{"worker.grpc_port": port, "worker.k8s_service_pattern": pattern})
        source.publish(memory.local)
        assert source.wait_published(20)
    for rank, port in enumerate(ports):
        mine = Memory()
        target = start(rank, **{"worker.k8s_service_pattern": f"127.0.0.1:{port}"})
        target.prefetch()
        outcome = target.pull(mine.local)
        assert isinstance(outcome, Loaded), outcome
        assert outcome.report.verified
        assert mine.buffer.raw == theirs[rank].buffer.raw


def test_another_rank_or_model_behind_the_service_is_refused_untouched(
    start: Callable[..., TransferEngine],
) -> None:
    port = free_port()
    flags = {"worker.grpc_port": port, "worker.k8s_service_pattern": f"127.0.0.1:{port}"}
    start(0, **flags).publish(Memory(seed=1).local)
    for rank, identity, why in ((1, IDENTITY, "is rank 0, not 1"), (0, OTHER, "serves source")):
        mine = Memory()
        target = start(rank, identity=identity, **{"worker.k8s_service_pattern": f"127.0.0.1:{port}"})
        outcome = target.pull(mine.local)
        assert isinstance(outcome, Failed | Skipped), outcome
        assert why in outcome.reason
        assert mine.buffer.raw == bytes(SIZE)


def test_nobody_behind_the_service_is_no_source(start: Callable[..., TransferEngine]) -> None:
    target = start(0, **{"worker.k8s_service_pattern": f"127.0.0.1:{free_port()}"})
    outcome = target.pull(Memory().local)
    assert isinstance(outcome, Skipped), outcome
    assert "no peer holds rank 0" in outcome.reason


def test_a_source_that_the_service_can_not_lead_to_says_so(start: Callable[..., TransferEngine]) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        source = start(0, **{"worker.grpc_port": port, "worker.k8s_service_pattern": f"127.0.0.1:{port}"})
        with pytest.raises(UnavailableError, match=f"port {port} of this worker is in use"):
            source.publish(Memory(seed=1).local)


def test_endpoints_follow_the_pattern() -> None:
    for pattern, base, rank, endpoint, port in (
        ("mx-sources", 0, 3, "mx-sources:6558", 6558),
        ("mx-sources", 7000, 3, "mx-sources:7003", 7003),
        ("mx-rank-{rank}:6555", 0, 3, "mx-rank-3:6555", 6555),
        ("mx-rank-{rank}.ns:700{rank}", 7000, 3, "mx-rank-3.ns:7003", 7000),
    ):
        wanted = settings(**{"worker.k8s_service_pattern": pattern, "worker.grpc_port": base})
        assert service_endpoint(wanted, rank) == endpoint
        assert listening_port(wanted, rank=rank, device=-1) == port
    for pattern in ("host:", "host:port", ":6555", "host:70000"):
        with pytest.raises(SettingsError, match="names no host and port"):
            service_endpoint(settings(**{"worker.k8s_service_pattern": pattern}), 0)


def test_a_name_with_several_addresses_is_several_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A headless Service answers with its pods."""
    port = free_port()
    real = socket.getaddrinfo

    def several(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "headless":
            return real(host, *args, **kwargs)
        return [
            entry for ip in ("127.0.0.1", "127.0.0.2", "127.0.0.3") for entry in real(ip, *args, **kwargs)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", several)
    with ExitStack() as stack:
        for ip in ("127.0.0.1", "127.0.0.3"):
            stack.enter_context(socket.create_server((ip, port)))
        client = ServiceClient(settings(**{"worker.k8s_service_pattern": f"headless:{port}"}))
        rows = client.find_peers(IDENTITY, worker_rank=1)
    assert [row.worker_grpc_endpoint for row in rows] == [f"127.0.0.1:{port}", f"127.0.0.3:{port}"]
    assert {(row.worker_id, row.worker_rank) for row in rows} == {("", 1)}
