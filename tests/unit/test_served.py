"""What one worker gives to readers, over real gRPC on loopback: refusals, digests, leases, limits."""

from __future__ import annotations

import ctypes
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest

from mx.core.plan import MIN_SEGMENT_BYTES
from mx.core.tensors import HOST_DEVICE, TensorDescriptor
from mx.errors import ExhaustedError, InvalidArgumentError, PreconditionError, UnavailableError
from mx.testing.transfer_contract import buffer, region
from mx.transfer import peer as worker
from mx.transfer.digests import XXH3, host_digest
from mx.transfer.served import MAX_TABLES, Offer, ServedSource, bitmap, from_bitmap
from mx.wire import status
from mx.wire.v1 import p2p, peer

SEGMENT = MIN_SEGMENT_BYTES
TENSORS = 10
MEMORY = [buffer(bytes([i + 1]), SEGMENT) for i in range(TENSORS)]
OFFER = Offer(
    source_id="5a5f555570065064",
    worker_id="aaaa0001",
    worker_rank=0,
    generation="generation-0",
    tensors=tuple(
        TensorDescriptor(f"t{i}", ctypes.addressof(memory), SEGMENT, 0, "torch.uint8")
        for i, memory in enumerate(MEMORY)
    ),
    regions=tuple(region(memory) for memory in MEMORY),
    agent_name="agent",
    agent_metadata=b"blob",
    metadata_endpoint="127.0.0.1:5555",
    accelerator="cpu",
    digest_kind=XXH3,
)


def until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.005)


@dataclass
class Digesting:
    """The digester of a device: it can be held, and it can die."""

    go: threading.Event = field(default_factory=threading.Event)
    fault: str = ""
    calls: int = 0

    def __call__(self, ranges: Sequence[tuple[int, int]]) -> int:
        assert self.go.wait(20)
        self.calls += 1
        if self.fault:
            raise RuntimeError(self.fault)
        return host_digest(ranges)


class Serving:
    """A source behind its gRPC server, and a client of it."""

    def __init__(self, offer: Offer = OFFER) -> None:
        self.digesting = Digesting()
        self.digesting.go.set()
        self.served = ServedSource(
            offer, digester=self.digesting, segment_bytes=SEGMENT, transfer_timeout_s=300
        )
        self.server, port = worker.serve("127.0.0.1", 0, source=lambda: self.served)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.peer = peer.PeerServiceStub(self.channel)
        self.worker = p2p.WorkerServiceStub(self.channel)

    def stream(self, *, skip: bytes = b"", **changes: Any) -> Any:
        fields: dict[str, Any] = {
            "source_id": OFFER.source_id,
            "generation": OFFER.generation,
            "segment_bytes": SEGMENT,
            "skip": skip,
        }
        return self.peer.GetDigests(peer.DigestsRequest(**(fields | changes)), timeout=10)

    def digests(self, *, skip: bytes = b"", **changes: Any) -> int:
        """How many digests come; the MxError when it fails."""
        with translated():
            return sum(len(reply.digests) // 8 for reply in self.stream(skip=skip, **changes))

    def open(self) -> peer.OpenTransferReply:
        with translated():
            reply: peer.OpenTransferReply = self.peer.OpenTransfer(
                peer.OpenTransferRequest(source_id=OFFER.source_id, worker_id=OFFER.worker_id), timeout=10
            )
            return reply

    def close(self) -> None:
        self.digesting.go.set()
        self.channel.close()
        self.served.close()
        self.server.stop(grace=0).wait()


class translated:  # noqa: N801
    """Raises what a session would make of a failed call."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, grpc.RpcError):
            raise status.from_rpc_error(error, call="call", target="worker") from error


@pytest.fixture
def serving() -> Iterator[Serving]:
    serving = Serving()
    yield serving
    serving.close()


def skipping(tensor: int) -> bytes:
    return bitmap([tensor], TENSORS)


# --- what is to be skipped ------------------------------------------------------------------------
def test_a_bitmap_survives_the_way(serving: Serving) -> None:
    for skip in (frozenset(), frozenset({0}), frozenset({9}), frozenset(range(9))):
        assert from_bitmap(bitmap(skip, TENSORS), TENSORS) == skip
        assert serving.digests(skip=bitmap(skip, TENSORS)) == TENSORS - len(skip)


@pytest.mark.parametrize(
    "skip", [b"\0\0\0", b"\xff" * 3, b"\0\x04"], ids=["zeros too many", "bits too many", "one bit beyond"]
)
def test_a_bitmap_of_more_tensors_than_there_are_is_refused(serving: Serving, skip: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="10"):
        serving.digests(skip=skip)
    assert serving.digests() == TENSORS


def test_a_huge_bitmap_is_refused_before_it_is_expanded(serving: Serving) -> None:
    huge = b"\xff" * (8 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgumentError):
            serving.digests(skip=huge)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20, "64 million indices take gigabytes"
    finally:
        tracemalloc.stop()


# --- digests --------------------------------------------------------------------------------------
def test_a_lease_does_not_wait_for_a_cut(serving: Serving) -> None:
    """Cutting a large manifest small takes a second, in which a lease would not be renewed."""

    class Slow(frozenset[int]):
        """The cut asks for each tensor whether it is to be skipped."""

        def __contains__(self, item: object) -> bool:
            cutting.set()
            return bool(done.wait(10)) and super().__contains__(item)

    cutting, done = threading.Event(), threading.Event()
    rows = serving.served.digests(segment_bytes=SEGMENT, first=0, skip=Slow({3}))
    got: list[int] = []
    reader = threading.Thread(target=lambda: got.extend(len(digests) for _, digests, _ in rows))
    reader.start()
    assert cutting.wait(10)
    lease = serving.served.open_lease("target", 60)
    serving.served.renew_lease(lease)
    assert serving.served.active_leases == 1
    done.set()
    reader.join(10)
    assert sum(got) == TENSORS - 1


def test_a_table_that_is_waited_for_is_not_taken_away(serving: Serving) -> None:
    serving.digesting.go.clear()
    streams = [serving.stream(skip=skipping(i)) for i in range(MAX_TABLES)]
    counts: list[int] = []
    readers = [
        threading.Thread(target=lambda s=stream: counts.append(sum(len(r.digests) // 8 for r in s)))
        for stream in streams
    ]
    for reader in readers:
        reader.start()
    until(lambda: serving.served.digest_readers == MAX_TABLES)
    with pytest.raises(ExhaustedError, match="another cut"):
        serving.digests(skip=skipping(9))
    serving.digesting.go.set()
    for reader in readers:
        reader.join(10)
    assert counts == [TENSORS - 1] * MAX_TABLES
    until(lambda: serving.served.digest_readers == 0)
    assert serving.digests(skip=skipping(9)) == TENSORS - 1, "one that nobody reads is taken away"


def test_a_reader_that_hangs_up_gives_its_table_back(serving: Serving) -> None:
    serving.digesting.go.clear()
    streams = [serving.stream(skip=skipping(i)) for i in range(MAX_TABLES)]
    until(lambda: serving.served.digest_readers == MAX_TABLES)
    for stream in streams:
        stream.cancel()
    serving.digesting.go.set()
    until(lambda: serving.served.digest_readers == 0)
    assert serving.digests(skip=skipping(9)) == TENSORS - 1


def test_digests_that_can_not_be_computed_are_an_error_and_tried_again(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    serving.digesting.fault = "CUDA error: an illegal memory access was encountered"
    with pytest.raises(UnavailableError, match="illegal memory access"):
        serving.digests()
    assert "digests of this source ended" in caplog.text
    assert serving.digesting.calls == 1
    serving.digesting.fault = ""
    assert serving.digests() == TENSORS


def test_digests_that_were_known_before_the_fault_are_given(serving: Serving) -> None:
    class Dying(Digesting):
        def __call__(self, ranges: Sequence[tuple[int, int]]) -> int:
            self.fault = "device lost" if self.calls == 3 else ""
            return super().__call__(ranges)

    dying = Dying()
    dying.go.set()
    served = ServedSource(OFFER, digester=dying, segment_bytes=SEGMENT, transfer_timeout_s=300)
    known: list[int] = []

    def follow() -> None:
        for _, digests, last in served.digests(segment_bytes=SEGMENT, first=0, skip=frozenset()):
            known.extend(digests)
            assert not last

    with pytest.raises(UnavailableError, match="device lost"):
        follow()
    assert len(known) == 3
    served.close()


@pytest.mark.parametrize("segment_bytes", [0, 1, MIN_SEGMENT_BYTES - 1])
def test_a_segment_size_that_is_too_small_is_refused(serving: Serving, segment_bytes: int) -> None:
    with pytest.raises(InvalidArgumentError, match="segment size"):
        serving.digests(segment_bytes=segment_bytes)


# --- leases ---------------------------------------------------------------------------------------
def test_while_readers_are_waited_for_they_get_their_digests_and_nobody_else_a_lease(
    serving: Serving,
) -> None:
    serving.open()
    assert not serving.served.drain(deadline_s=0)
    assert serving.digests(skip=skipping(1)) == TENSORS - 1
    with pytest.raises(UnavailableError, match="withdrawing"):
        serving.open()
    serving.served.close()
    with pytest.raises(UnavailableError):
        serving.digests(skip=skipping(2))


@pytest.mark.parametrize(("said", "counted"), [(100, 100), (1 << 63, TENSORS * SEGMENT)])
def test_a_reader_can_not_claim_more_than_there_is(serving: Serving, said: int, counted: int) -> None:
    lease = serving.open().lease_id
    request = peer.CloseTransferRequest(source_id=OFFER.source_id, lease_id=lease, bytes_read=said)
    serving.peer.CloseTransfer(request, timeout=10)
    assert serving.served.bytes_served == counted


def test_the_load_is_known_while_somebody_reads(serving: Serving) -> None:
    """Nobody counts readers that take no lease, and nobody knows what else the worker does: never 0.0."""
    assert serving.served.load() is None
    leases = [serving.open().lease_id for _ in range(3)]
    loads = []
    for lease in leases:
        loads.append(serving.served.load())
        serving.served.close_lease(lease)
    assert loads == sorted(loads, key=lambda load: -(load or 0))
    assert all(load is not None and 0.5 < load < 1 for load in loads), "more than unknown, which is 0.5"
    assert serving.served.load() is None


# --- whom it serves as -------------------------------------------------------------------------------
def published(serving: Serving, call: str, **ids: str) -> Any:
    request = getattr(p2p, f"{call}Request")
    with translated():
        return getattr(serving.worker, call)(request(**ids), timeout=10)


@pytest.mark.parametrize("call", ["GetTensorManifest", "PrepareTensorRead", "ReleaseTensorRead"])
def test_a_worker_id_that_is_there_and_differs_is_refused(serving: Serving, call: str) -> None:
    """Wire contract, section 8: present and empty differs, too."""
    lease = serving.served.open_lease("target", 60)
    ids = {"mx_source_id": OFFER.source_id}
    if call == "ReleaseTensorRead":
        ids["lease_id"] = lease
    for other in ("", "aaaa0002"):
        with pytest.raises(PreconditionError, match="aaaa0001"):
            published(serving, call, worker_id=other, **ids)
    published(serving, call, **ids)


def test_mx_calls_may_leave_the_worker_out(serving: Serving) -> None:
    request = peer.OpenTransferRequest(source_id=OFFER.source_id)
    assert serving.peer.OpenTransfer(request, timeout=10).worker_id == OFFER.worker_id


# --- many at once ----------------------------------------------------------------------------------
def test_many_targets_at_once_have_the_manifest_packed_once() -> None:
    walks: list[int] = []

    class Counted(tuple[TensorDescriptor, ...]):
        """A large manifest that counts who walks through it."""

        def __iter__(self) -> Iterator[TensorDescriptor]:
            walks.append(threading.get_ident())
            threading.Event().wait(0.02)  # as long as a large one takes: time for others to come
            return super().__iter__()

    serving = Serving(replace(OFFER, tensors=Counted(OFFER.tensors * 500)))
    try:
        ids = {"mx_source_id": OFFER.source_id}

        def open_all(times: int) -> int:
            before = len(walks)
            threads = [threading.Thread(target=serving.open) for _ in range(times)]
            threads += [
                threading.Thread(target=published, args=(serving, "GetTensorManifest"), kwargs=ids)
                for _ in range(times)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
            return len(walks) - before

        first = open_all(8)
        assert first > 0
        assert open_all(8) == 0, "later ones get what was packed"
        alone = Serving(replace(OFFER, tensors=Counted(OFFER.tensors * 500)))
        before = len(walks)
        alone.open()
        published(alone, "GetTensorManifest", **ids)
        once = len(walks) - before
        alone.close()
        assert first == once, "8 at once cost as much as one"
    finally:
        serving.close()


def test_a_manifest_that_can_not_be_packed_leaves_no_lease_behind() -> None:
    bad = replace(OFFER.tensors[0], name="new\nline", device_id=HOST_DEVICE)
    serving = Serving(replace(OFFER, tensors=(bad,)))
    try:
        with pytest.raises(InvalidArgumentError):
            serving.open()
        with pytest.raises(InvalidArgumentError):
            published(serving, "PrepareTensorRead", mx_source_id=OFFER.source_id)
        assert serving.served.active_leases == 0
    finally:
        serving.close()
