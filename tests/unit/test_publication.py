"""A source that leaves: nobody new begins to read, who reads may finish, a slow server holds up neither."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from mx.config import load_settings
from mx.core.source import SourceIdentity, WorkerKey
from mx.core.tensors import HOST_DEVICE, TensorDescriptor
from mx.testing.clock import FakeClock
from mx.testing.registry import InProcessRegistry
from mx.testing.transfer_contract import buffer, region
from mx.transfer.digests import XXH3, host_digest
from mx.transfer.memory import MemoryBackend, MemoryFabric
from mx.transfer.outcome import LocalTensors
from mx.transfer.publication import Publication, Worker
from mx.wire.v1 import peer

SIZE = 64 * 1024
WORKER = Worker(
    identity=SourceIdentity(model_name="org/model", mx_version="test"),
    worker_id="aaaa0001",
    rank=0,
    generation="generation-0",
    device=HOST_DEVICE,
    accelerator="cpu",
)


class Registry(InProcessRegistry):
    """A server whose withdrawals take as long as a test wants."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.asked = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def withdraw(self, key: WorkerKey) -> bool:
        self.asked.set()
        assert self.go.wait(20)
        return super().withdraw(key)


class Source:
    def __init__(self) -> None:
        self.registry = Registry()
        memory = buffer(b"abc", SIZE)
        backend = MemoryBackend("source", MemoryFabric())
        backend.register([region(memory)])
        settings = load_settings(
            flags={"worker.host": "127.0.0.1", "worker.heartbeat_interval_s": 1}, environ={}, scope="worker"
        )
        row = TensorDescriptor("w", ctypes.addressof(memory), SIZE, 0, "torch.uint8")
        self.publication = Publication(
            settings,
            WORKER,
            backend=backend,
            local=LocalTensors((row,), memory),
            regions=[region(memory)],
            digest=(XXH3, host_digest),
            registry=self.registry,
        )
        assert self.publication.wait_published(10)
        listed = self.registry.list_sources()[0].peer
        assert listed is not None
        self.channel = grpc.insecure_channel(listed.endpoint)
        self.peer = peer.PeerServiceStub(self.channel)

    def open(self) -> str:
        request = peer.OpenTransferRequest(source_id=WORKER.key.source_id)
        lease: str = self.peer.OpenTransfer(request, timeout=10).lease_id
        return lease

    def finish(self, lease: str) -> None:
        request = peer.CloseTransferRequest(source_id=WORKER.key.source_id, lease_id=lease)
        self.peer.CloseTransfer(request, timeout=10)

    def closing(self, timeout_s: float) -> threading.Thread:
        thread = threading.Thread(target=self.publication.close, kwargs={"timeout_s": timeout_s})
        thread.start()
        return thread


def until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.005)


@pytest.fixture
def source() -> Iterator[Source]:
    source = Source()
    yield source
    source.registry.go.set()
    source.channel.close()
    source.publication.close(timeout_s=1)


def test_nobody_begins_to_read_while_the_server_takes_its_time(source: Source) -> None:
    source.registry.go.clear()
    closing = source.closing(10)
    assert source.registry.asked.wait(10)
    until(lambda: bool(source.peer.GetState(peer.GetStateRequest(), timeout=10).draining))
    assert source.registry.list_sources(), "it is listed still"
    with pytest.raises(grpc.RpcError) as refused:
        source.open()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    source.registry.go.set()
    closing.join(10)
    assert source.registry.list_sources() == ()


def test_readers_have_all_of_the_time_whatever_the_server_takes(source: Source) -> None:
    lease = source.open()
    source.registry.go.clear()
    closing = source.closing(3)
    assert source.registry.asked.wait(10)
    closing.join(2)
    assert closing.is_alive(), "the reader is waited for"
    source.finish(lease)
    source.registry.go.set()
    closing.join(10)
    assert not closing.is_alive()
    assert source.registry.list_sources() == ()


def test_closing_ends_in_time_with_a_server_and_a_reader_that_do_not(source: Source) -> None:
    source.open()
    source.registry.go.clear()
    began = time.monotonic()
    source.publication.close(timeout_s=1)
    assert 0.9 < time.monotonic() - began < 4
    source.registry.go.set()
    until(lambda: source.registry.list_sources() == ())


def test_the_record_goes_first_and_then_the_readers_are_waited_for(source: Source) -> None:
    lease = source.open()
    closing = source.closing(20)
    until(lambda: source.registry.list_sources() == ())
    assert closing.is_alive()
    source.finish(lease)
    closing.join(10)
    assert not closing.is_alive()


def test_a_heartbeat_tells_how_many_read(source: Source) -> None:
    assert source.registry.list_sources()[0].source_load is None
    lease = source.open()
    until(lambda: (source.registry.list_sources()[0].source_load or 0) > 0.5)
    source.finish(lease)
    until(lambda: source.registry.list_sources()[0].source_load is None)
