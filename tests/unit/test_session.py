"""What a target accepts of a source, and that nothing of it stays open: real gRPC on loopback."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import grpc
import pytest

from mx.core.source import (
    NixlMetadata,
    PeerRecord,
    SourceEntry,
    SourceIdentity,
    SourceStatus,
    SourceSummary,
    TensorSource,
    WorkerRecord,
)
from mx.core.tensors import HOST_DEVICE, TensorDescriptor, layout_digest
from mx.errors import InvalidArgumentError, MxError, PreconditionError
from mx.testing.transfer_contract import buffer, extents, read, region
from mx.transfer.digests import XXH3, host_digest
from mx.transfer.memory import MemoryBackend, MemoryFabric
from mx.transfer.opening import open_session
from mx.transfer.peer import PeerService, WorkerService
from mx.transfer.served import Offer, ServedSource
from mx.transfer.session import Candidate, Session
from mx.wire.manifest import pack_u64
from mx.wire.runtime import service_handler
from mx.wire.v1 import p2p, peer

SIZE = 64 * 1024
SOURCE_ID = "5a5f555570065064"
WORKER_ID = "aaaa0001"
TOP = 1 << 64

OpenChange = Callable[[peer.OpenTransferReply], object]
ManifestChange = Callable[[p2p.GetTensorManifestResponse], object]


class ChangedPeer(PeerService):
    """mx's calls, with a reply that a test has changed on its way."""

    change: OpenChange = staticmethod(lambda reply: None)

    def OpenTransfer(
        self, request: peer.OpenTransferRequest, context: grpc.ServicerContext
    ) -> peer.OpenTransferReply:
        reply = super().OpenTransfer(request, context)
        self.change(reply)
        return reply


class ChangedWorker(WorkerService):
    """The published calls, with a changed manifest, and releases that take their time."""

    change: ManifestChange = staticmethod(lambda reply: None)
    thawed: threading.Event | None = None

    def PrepareTensorRead(
        self, request: p2p.PrepareTensorReadRequest, context: grpc.ServicerContext
    ) -> p2p.PrepareTensorReadResponse:
        reply = super().PrepareTensorRead(request, context)
        self.change(reply.manifest)
        return reply

    def ReleaseTensorRead(
        self, request: p2p.ReleaseTensorReadRequest, context: grpc.ServicerContext
    ) -> p2p.ReleaseTensorReadResponse:
        if self.thawed is not None:
            self.thawed.wait(20)
        return super().ReleaseTensorRead(request, context)


@dataclass
class World:
    """One source with one tensor, and a target's backend."""

    fabric: MemoryFabric = field(default_factory=MemoryFabric)

    def __post_init__(self) -> None:
        self.theirs, self.mine = buffer(b"abc", SIZE), buffer(b"-", SIZE)
        self.source, self.target = MemoryBackend("source", self.fabric), MemoryBackend("target", self.fabric)
        self.source.register([region(self.theirs)])
        self.target.register([region(self.mine)])
        self.tensor = TensorDescriptor("w", ctypes.addressof(self.theirs), SIZE, 0, "torch.uint8")
        self.layout = layout_digest([self.tensor])
        offer = Offer(
            source_id=SOURCE_ID,
            worker_id=WORKER_ID,
            worker_rank=0,
            generation="generation-0",
            tensors=(self.tensor,),
            regions=(region(self.theirs),),
            agent_name="source",
            agent_metadata=self.source.local_metadata(),
            metadata_endpoint="127.0.0.1:5555",
            accelerator="cpu",
            digest_kind=XXH3,
        )
        self.served = ServedSource(offer, digester=host_digest, segment_bytes=SIZE, transfer_timeout_s=300)
        self.peer, self.worker = ChangedPeer(lambda: self.served), ChangedWorker(lambda: self.served)
        self.server = grpc.server(ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers(
            (
                service_handler(peer.DESCRIPTOR, "PeerService", self.peer),
                service_handler(p2p.DESCRIPTOR, "WorkerService", self.worker),
            )
        )
        self.endpoint = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()
        record = PeerRecord(self.endpoint, "generation-0")
        self.row = SourceSummary(
            SOURCE_ID, WORKER_ID, 0, "org/model", SourceStatus.READY, 1, accelerator="cpu", peer=record
        )
        self.record = WorkerRecord(
            worker_rank=0, backend_metadata=NixlMetadata(self.source.local_metadata()), accelerator="cpu"
        )

    def open(self, *, layout: str | None = None) -> Session:
        """As an mx peer."""
        return self._open(Candidate(self.row), self.layout if layout is None else layout)

    def open_published(self, *, rank: int = 0) -> Session:
        """By the published calls of its worker."""
        self.record = replace(self.record, worker_grpc_endpoint=self.endpoint)
        return self.open_central(rank=rank)

    def open_central(self, *tensors: TensorDescriptor, rank: int = 0) -> Session:
        """By what its record holds."""
        if tensors:
            self.record = replace(self.record, payload=TensorSource(tensors))
        row = replace(self.row, peer=None, worker_grpc_endpoint=self.endpoint, worker_rank=rank)
        return self._open(Candidate(row), self.layout)

    def _open(self, candidate: Candidate, layout: str) -> Session:
        entry = SourceEntry(SOURCE_ID, WORKER_ID, SourceIdentity("org/model"), self.record)
        return open_session(
            candidate,
            backend=self.target,
            layout=layout,
            target_id="target",
            segment_bytes=SIZE,
            record=lambda row: entry,
            deadline_s=5,
        )

    def read(self) -> None:
        read(self.target, "source", extents([(self.mine, 0, self.theirs, 0, SIZE)]))

    def untouched(self) -> bool:
        """No lease is held and no agent is connected."""
        with pytest.raises(MxError, match="not connected"):
            self.read()
        return self.served.active_leases == 0

    def close(self) -> None:
        if self.worker.thawed is not None:
            self.worker.thawed.set()
        self.server.stop(grace=0).wait()
        self.served.close()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


# --- an mx peer ------------------------------------------------------------------------------------
def test_a_session_holds_a_lease_and_an_agent_until_it_is_closed(world: World) -> None:
    session = world.open()
    assert world.served.active_leases == 1
    world.read()
    assert world.mine.raw == world.theirs.raw
    session.close()
    assert world.untouched()
    session.close()


def test_the_layout_is_sent_when_it_is_not_the_same(world: World) -> None:
    for layout in ("", "0" * 32):
        session = world.open(layout=layout)
        assert session.manifest.tensors is not None
        assert [tensor.name for tensor in session.manifest.tensors] == ["w"]
        session.close()
    session = world.open()
    assert session.manifest.tensors is None
    session.close()


def test_an_agent_may_be_kept_for_a_read_that_could_not_be_ended(world: World) -> None:
    world.open().close(keep_agent=True)
    assert world.served.active_leases == 0
    world.read()


def test_closing_takes_the_agent_from_nobody_else(world: World) -> None:
    """One that came too late for its pull is closed while the next pull reads from the same worker."""
    late, now = world.open(), world.open()
    late.close()
    late.close()
    world.read()
    now.close()
    assert world.untouched()


def test_a_source_that_is_gone_can_be_closed(world: World) -> None:
    session = world.open()
    world.server.stop(grace=0).wait()
    session.close()
    with pytest.raises(MxError, match="not connected"):
        world.read()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda reply: setattr(reply, "generation", "generation-1"), "has restarted"),
        (lambda reply: setattr(reply, "worker_rank", 1), "is rank 1, not 0"),
        (lambda reply: setattr(reply, "layout_digest", "0" * 32), "another layout"),
        (lambda reply: setattr(reply, "addrs", b"\0" * 7), "7 bytes"),
        (lambda reply: setattr(reply, "addrs", pack_u64([TOP - 1])), "can't lie"),
        (lambda reply: setattr(reply, "regions", pack_u64([1])), "pairs"),
        (lambda reply: setattr(reply, "regions", pack_u64([TOP - 1, 2])), "region"),
        (lambda reply: setattr(reply, "regions", pack_u64([4096, 0])), "region"),
        (lambda reply: setattr(reply, "agent_metadata", b"rubbish"), "metadata"),
    ],
    ids=["generation", "rank", "layout", "odd", "address", "half a pair", "beyond", "empty", "agent"],
)
def test_a_reply_that_can_not_be_right_is_refused(world: World, change: OpenChange, words: str) -> None:
    world.peer.change = change
    with pytest.raises(MxError, match=words):
        world.open()
    assert world.untouched(), "the lease goes back at once: a source that leaves would wait for it"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda reply: setattr(reply, "same_layout", True), "another layout"),
        (lambda reply: setattr(reply, "layout_digest", "0" * 32), "layout digest"),
        (lambda reply: setattr(reply, "addrs", pack_u64([4096, 8192])), "2 addresses"),
        (lambda reply: setattr(reply, "sizes", b""), "0 sizes"),
        (lambda reply: setattr(reply, "names", "a\nb"), "2 names"),
        (lambda reply: setattr(reply, "dtype_index", b"\7"), "dtype 7 of 1"),
        (lambda reply: setattr(reply, "addrs", pack_u64([TOP - 1])), "tensor w"),
    ],
    ids=["same", "digest", "addresses", "sizes", "names", "dtypes", "beyond"],
)
def test_a_manifest_that_can_not_be_right_is_refused(world: World, change: OpenChange, words: str) -> None:
    world.peer.change = change
    with pytest.raises(InvalidArgumentError, match=words) as refused:
        world.open(layout="")
    assert WORKER_ID in refused.value.message
    assert world.untouched()


# --- a published peer ---------------------------------------------------------------------------------
def test_a_published_worker_is_leased_and_returned(world: World) -> None:
    session = world.open_published()
    assert world.served.active_leases == 1
    world.read()
    session.close()
    assert world.untouched()


def test_a_published_record_is_connected_and_forgotten(world: World) -> None:
    session = world.open_central(world.tensor)
    world.read()
    session.close()
    assert world.untouched()


def test_a_record_of_another_rank_is_refused(world: World) -> None:
    """Asked for a worker, a server answers with its lowest rank."""
    with pytest.raises(PreconditionError, match="rank 0, not 1"):
        world.open_central(world.tensor, rank=1)
    with pytest.raises(PreconditionError, match="rank 0, not 1"):
        world.open_published(rank=1)
    assert world.untouched()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda reply: setattr(reply, "worker_rank", 1), "is rank 1, not 0"),
        (lambda reply: setattr(reply, "mx_source_id", "other"), "serves source other"),
        (lambda reply: setattr(reply, "worker_id", "aaaa0002"), "belongs to aaaa0002"),
        (lambda reply: setattr(reply.tensors[0], "addr", TOP - 1), "tensor w"),
    ],
    ids=["rank", "source", "worker", "beyond"],
)
def test_a_published_manifest_of_another_worker_is_refused(
    world: World, change: ManifestChange, words: str
) -> None:
    world.worker.change = change
    with pytest.raises(MxError, match=words):
        world.open_published()
    assert world.untouched()


def test_tensors_on_several_devices_are_refused(world: World) -> None:
    """A pull reads from one device; the others' addresses would be taken for its own."""
    second = replace(world.tensor, name="second", device_id=1)
    world.record = replace(world.record, accelerator="cuda")
    with pytest.raises(PreconditionError, match="second is on device 1, w on 0"):
        world.open_central(world.tensor, second)
    assert world.untouched()
    world.record = replace(world.record, accelerator="cpu")
    session = world.open_central(world.tensor, second)
    assert session.manifest.device == HOST_DEVICE, "host memory is one device, whatever is said of it"
    session.close()


def test_a_published_worker_that_freezes_does_not_hold_up_the_end(world: World) -> None:
    session = world.open_published()
    world.worker.thawed = threading.Event()
    began = time.monotonic()
    session.close()
    assert time.monotonic() - began < 3
    with pytest.raises(MxError, match="not connected"):
        world.read()
