"""Whole pulls between engines of one process: real worker services, real planning, memory backend."""

from __future__ import annotations

import contextlib
import ctypes
import random
import socket
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from mx.config import load_settings
from mx.core.source import PeerRecord, SourceIdentity, SourceStatus, WorkerRecord
from mx.core.tensors import HOST_DEVICE, Extents, TensorDescriptor
from mx.core.transfer import STAGES, Strategy, TransferState
from mx.errors import MxError
from mx.testing.clock import FakeClock
from mx.testing.registry import InProcessRegistry
from mx.transfer.engine import TransferEngine
from mx.transfer.memory import MemoryBackend, MemoryFabric, PendingRead
from mx.transfer.outcome import Failed, Loaded, LocalTensors, Skipped

IDENTITY = SourceIdentity(model_name="org/model", mx_version="test", dtype="bfloat16")
SIZES = [300_000, 64, 0, 1_000_000, 128, 70_000, 500_000]
SEGMENT = 64 * 1024


def tensors(
    fill: bytes | None, sizes: list[int] = SIZES
) -> tuple[LocalTensors, list[ctypes.Array[ctypes.c_char]]]:
    buffers = [ctypes.create_string_buffer(max(size, 1)) for size in sizes]
    draw = random.Random(5)
    for buffer, size in zip(buffers, sizes, strict=True):
        ctypes.memmove(buffer, draw.randbytes(size) if fill is None else fill * size, size)
    rows = tuple(
        TensorDescriptor(f"t{i}", ctypes.addressof(b), s, 0, "torch.bfloat16")
        for i, (b, s) in enumerate(zip(buffers, sizes, strict=True))
    )
    return LocalTensors(rows, buffers), buffers


def content(buffers: list[ctypes.Array[ctypes.c_char]]) -> list[bytes]:
    return [bytes(buffer) for buffer in buffers]


def until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.005)


@dataclass
class Fleet:
    """Engines on one fabric and one registry."""

    fabric: MemoryFabric = field(default_factory=MemoryFabric)
    registry: InProcessRegistry = field(default_factory=lambda: InProcessRegistry(FakeClock()))
    engines: list[TransferEngine] = field(default_factory=list)

    def engine(self, *, connected: bool = True, **flags: object) -> TransferEngine:
        defaults: dict[str, object] = {
            "worker.host": "127.0.0.1",
            "transfer.segment_bytes": SEGMENT,
            "transfer.stall_timeout_s": 1,
            "worker.heartbeat_interval_s": 1,
        }
        settings = load_settings(flags=defaults | flags, environ={}, scope="worker")
        engine = TransferEngine(
            settings,
            client=self.registry if connected else None,
            identity=IDENTITY,
            worker_rank=0,
            backend=lambda name: MemoryBackend(name, self.fabric, listen_port=1),
        )
        self.engines.append(engine)
        return engine

    def source(self, local: LocalTensors | None = None, **flags: object) -> TransferEngine:
        engine = self.engine(**flags)
        engine.publish(local or tensors(None)[0])
        assert engine.wait_published(10)
        return engine


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    yield fleet
    fleet.fabric.fault = None
    for engine in fleet.engines:
        engine.close(timeout_s=1)


def test_a_pull_fills_every_tensor_and_says_what_it_did(fleet: Fleet) -> None:
    original, expected = tensors(None)
    source = fleet.source(original)
    target = fleet.engine()
    local, got = tensors(b"\0")
    outcome = target.pull(local)
    assert isinstance(outcome, Loaded)
    assert content(got) == content(expected)
    report = outcome.report
    assert report.verified
    assert report.strategy is Strategy.PEER
    assert report.bytes_done == sum(SIZES)
    assert [share.worker_id for share in report.sources] == [source.worker_id]
    assert tuple(report.stages_s) == STAGES
    until(lambda: [row.state for row in fleet.registry.transfers.recent(1)] == [TransferState.DONE])
    assert source.bytes_served == sum(SIZES)


def test_a_pulled_replica_serves_the_next_one(fleet: Fleet) -> None:
    first = fleet.source()
    second = fleet.engine()
    local, expected = tensors(b"\0")
    assert isinstance(second.pull(local), Loaded)
    second.publish(local)
    assert second.wait_published(10)
    first.close()
    third = fleet.engine()
    last, got = tensors(b"\0")
    outcome = third.pull(last)
    assert isinstance(outcome, Loaded)
    assert [share.worker_id for share in outcome.report.sources] == [second.worker_id]
    assert content(got) == content(expected)


def test_prefetched_sources_are_used(fleet: Fleet) -> None:
    fleet.source()
    target = fleet.engine()
    target.prefetch()
    local, _ = tensors(b"\0")
    assert isinstance(target.pull(local), Loaded)


def test_two_sources_share_the_work(fleet: Fleet) -> None:
    fleet.source()
    fleet.source()
    local, got = tensors(b"\0")
    # Both must be there before the first read is done for the split to be certain.
    joined = threading.Event()
    seen: set[str] = set()

    def slow(read: PendingRead) -> None:
        seen.add(read.agent_name)
        if len(seen) == 2:
            joined.set()
        read.hold = not joined.is_set()
        if read.hold:
            threading.Thread(target=lambda: (joined.wait(10), setattr(read, "hold", False))).start()

    fleet.fabric.fault = slow
    outcome = fleet.engine().pull(local)
    assert isinstance(outcome, Loaded)
    assert all(share.bytes > 0 for share in outcome.report.sources)
    assert len(outcome.report.sources) == 2
    assert content(got) == content(tensors(None)[1])


def test_a_source_that_dies_mid_pull_is_replaced_by_the_second(fleet: Fleet) -> None:
    fleet.source()
    fleet.source()
    posted: list[str] = []

    def kill(read: PendingRead) -> None:
        posted.append(read.agent_name)
        if len(posted) == 10:
            fleet.fabric.agents.pop(read.agent_name)

    fleet.fabric.fault = kill
    local, got = tensors(b"\0")
    outcome = fleet.engine().pull(local)
    assert isinstance(outcome, Loaded)
    assert content(got) == content(tensors(None)[1])
    dropped = [share for share in outcome.report.sources if share.dropped]
    assert len(dropped) == 1
    assert "went away" in dropped[0].dropped
    assert outcome.report.bytes_done == sum(SIZES), "verified segments are kept, none is counted twice"


def test_a_source_that_dies_with_no_second_fails_and_names_what_is_missing(fleet: Fleet) -> None:
    fleet.source()
    count = 0

    def kill(read: PendingRead) -> None:
        nonlocal count
        count += 1
        if count == 5:
            fleet.fabric.agents.pop(read.agent_name)

    fleet.fabric.fault = kill
    outcome = fleet.engine().pull(tensors(b"\0")[0])
    assert isinstance(outcome, Failed)
    assert outcome.mutated
    assert outcome.blame == "source"
    assert "segments missing" in outcome.reason
    assert "went away" in outcome.reason


def changed(change: Callable[[TensorDescriptor], TensorDescriptor | None]) -> LocalTensors:
    local, _ = tensors(None)
    rows = [change(row) if row.name == "t3" else row for row in local.descriptors]
    return LocalTensors(tuple(row for row in rows if row is not None), local.keepalive)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda row: None, "1 local tensors the source lacks: t3"),
        (lambda row: replace(row, size=row.size - 64), "1 tensors differ: t3 (1000000 B"),
        (lambda row: replace(row, dtype="torch.float16"), "1000000 B torch.float16 there"),
    ],
    ids=["missing", "size", "dtype"],
)
def test_a_manifest_that_does_not_fit_is_refused_before_a_byte_moves(
    fleet: Fleet, change: Callable[[TensorDescriptor], TensorDescriptor | None], words: str
) -> None:
    fleet.source(changed(change))
    local, got = tensors(b"\7")
    outcome = fleet.engine().pull(local)
    assert isinstance(outcome, Failed)
    assert words in outcome.reason
    assert not outcome.mutated
    assert content(got) == content(tensors(b"\7")[1])


def test_a_source_with_more_tensors_than_wanted_is_fine(fleet: Fleet) -> None:
    fleet.source()
    local, got = tensors(b"\0")
    wanted = LocalTensors(
        tuple(row for row in local.descriptors if row.name not in ("t0", "t5")), local.keepalive
    )
    outcome = fleet.engine().pull(wanted)
    assert isinstance(outcome, Loaded)
    assert outcome.report.verified
    expected = content(tensors(None)[1])
    assert [c for i, c in enumerate(content(got)) if i not in (0, 5)] == [
        c for i, c in enumerate(expected) if i not in (0, 5)
    ]
    assert content(got)[0] == bytes(SIZES[0])


def flip(buffers: list[ctypes.Array[ctypes.c_char]]) -> None:
    buffers[3][777_777] = bytes([buffers[3][777_777][0] ^ 1])


def published_with_digests(fleet: Fleet) -> list[ctypes.Array[ctypes.c_char]]:
    """A source whose digests are known; its memory."""
    local, memory = tensors(None)
    source = fleet.source(local)
    warm = fleet.engine()
    assert isinstance(warm.pull(tensors(b"\0")[0]), Loaded), "the first pull waits for every digest"
    assert source.bytes_served
    return memory


def test_one_flipped_byte_in_the_only_source_is_found_and_fails_the_pull(fleet: Fleet) -> None:
    flip(published_with_digests(fleet))
    outcome = fleet.engine().pull(tensors(b"\0")[0])
    assert isinstance(outcome, Failed)
    assert "does not match its digest" in outcome.reason
    assert outcome.mutated


def test_one_flipped_byte_is_read_again_from_another_source(fleet: Fleet) -> None:
    flip(published_with_digests(fleet))
    published_with_digests(fleet)
    local, got = tensors(b"\0")
    for _ in range(5):  # the flipped segment is not always read from the flipped source
        outcome = fleet.engine().pull(local)
        assert isinstance(outcome, Loaded)
        assert outcome.report.verified
        assert content(got) == content(tensors(None)[1])


def test_a_stalled_read_is_taken_elsewhere(fleet: Fleet) -> None:
    fleet.source()
    fleet.source()
    held: list[str] = []

    def stall(read: PendingRead) -> None:
        if not held or read.agent_name == held[0]:
            held.append(read.agent_name)
            read.hold = True

    fleet.fabric.fault = stall
    local, got = tensors(b"\0")
    outcome = fleet.engine().pull(local)
    assert isinstance(outcome, Loaded)
    assert content(got) == content(tensors(None)[1])
    stalled, other = sorted(outcome.report.sources, key=lambda share: share.bytes)
    assert (stalled.bytes, other.bytes) == (0, sum(SIZES))
    assert outcome.report.seconds >= 1, "one stall time was waited"


def test_memory_that_a_lost_read_may_still_write_to_is_kept_aside(fleet: Fleet) -> None:
    fleet.source()

    def wedge(read: PendingRead) -> None:
        read.hold = read.stuck = True

    fleet.fabric.fault = wedge
    outcome = fleet.engine().pull(tensors(b"\0")[0], deadline_s=3)
    assert isinstance(outcome, Failed)
    assert outcome.mutated
    assert "kept aside" in outcome.reason


def test_without_a_server_or_a_peer_nothing_is_touched_and_the_reason_is_said(fleet: Fleet) -> None:
    local, got = tensors(b"\7")
    outcome = fleet.engine(connected=False).pull(local)
    assert outcome == Skipped("no mx server is configured")
    outcome = fleet.engine().pull(local)
    assert outcome == Skipped("no peer holds rank 0 of org/model")
    fleet.registry.down = True
    outcome = fleet.engine().pull(local)
    assert isinstance(outcome, Skipped)
    assert "it is down" in outcome.reason
    assert content(got) == content(tensors(b"\7")[1])


def test_a_dead_source_that_is_still_listed_costs_nothing_but_a_reason(fleet: Fleet) -> None:
    fleet.registry.publish(IDENTITY, WorkerRecord(worker_rank=0), worker_id="dead")
    key = fleet.registry.list_sources()[0].key
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    fleet.registry.announce(key, PeerRecord(f"127.0.0.1:{port}", "generation"))
    fleet.registry.update_status(key, SourceStatus.READY)
    outcome = fleet.engine().pull(tensors(b"\0")[0])
    assert isinstance(outcome, Skipped)
    assert "dead: can't reach" in outcome.reason


def test_a_lost_record_is_published_again(fleet: Fleet) -> None:
    source = fleet.source()
    fleet.registry.forget()
    until(lambda: [row.worker_id for row in fleet.registry.list_sources()] == [source.worker_id])
    assert isinstance(fleet.engine().pull(tensors(b"\0")[0]), Loaded)


def test_publishing_survives_a_server_that_is_away(fleet: Fleet) -> None:
    fleet.registry.down = True
    engine = fleet.engine()
    engine.publish(tensors(None)[0])
    assert not engine.wait_published(0.3)
    fleet.registry.down = False
    assert engine.wait_published(10)


def test_closing_withdraws_and_waits_for_readers(fleet: Fleet) -> None:
    source = fleet.source()
    started, go = threading.Event(), threading.Event()

    def wait(read: PendingRead) -> None:
        started.set()
        read.hold = not go.is_set()
        if read.hold:
            threading.Thread(target=lambda: (go.wait(10), setattr(read, "hold", False))).start()

    fleet.fabric.fault = wait
    local, got = tensors(b"\0")
    outcomes: list[object] = []
    reader = threading.Thread(target=lambda: outcomes.append(fleet.engine().pull(local)))
    reader.start()
    assert started.wait(10)
    closer = threading.Thread(target=lambda: source.close(timeout_s=20))
    closer.start()
    until(lambda: fleet.registry.list_sources() == ())
    assert closer.is_alive(), "the memory is not freed under a reader"
    go.set()
    reader.join(20)
    closer.join(20)
    assert isinstance(outcomes[0], Loaded)
    assert content(got) == content(tensors(None)[1])


def test_a_published_peer_is_one_source_without_verification(fleet: Fleet) -> None:
    """Only the published calls are used when a record has no mx part."""
    source = fleet.source(**{"worker.p2p_metadata": True})
    row = fleet.registry.list_sources()[0]
    entry = fleet.registry.get_source(row.source_id, row.worker_id)
    assert entry is not None
    fleet.registry.forget()
    published = replace(entry.worker, status=2)
    fleet.registry.publish(IDENTITY, published, worker_id=source.worker_id)
    fleet.registry.update_status(row.key, 2)
    local, got = tensors(b"\0")
    outcome = fleet.engine().pull(local)
    assert isinstance(outcome, Loaded)
    assert not outcome.report.verified
    assert content(got) == content(tensors(None)[1])


def test_a_published_peer_in_central_mode_is_read_from_its_record(fleet: Fleet) -> None:
    source = fleet.source()
    row = fleet.registry.list_sources()[0]
    entry = fleet.registry.get_source(row.source_id, row.worker_id)
    assert entry is not None
    assert entry.worker.worker_grpc_endpoint == "", "mode 0 leaves it empty"
    fleet.registry.forget()
    fleet.registry.publish(IDENTITY, entry.worker, worker_id=source.worker_id)
    fleet.registry.update_status(row.key, 2)
    local, got = tensors(b"\0")
    outcome = fleet.engine().pull(local)
    assert isinstance(outcome, Loaded)
    assert not outcome.report.verified
    assert content(got) == content(tensors(None)[1])


def blocking(seconds: float) -> Callable[[PendingRead], None]:
    """Reads as over shared memory: posting one returns when the bytes are there."""
    return lambda _: threading.Event().wait(seconds) and None


def test_between_reads_that_block_everything_else_gets_its_turn(fleet: Fleet) -> None:
    """Leases, stalls and progress are looked at while a long pull runs, not when it is over."""
    fleet.source()
    heard: list[int] = []
    heard_before_read: list[int] = []
    block = blocking(0.05)

    def read(pending: PendingRead) -> None:
        heard_before_read.append(len(heard))
        block(pending)

    fleet.fabric.fault = read
    outcome = fleet.engine().pull(tensors(b"\0")[0], on_progress=lambda done, _: heard.append(done))
    assert isinstance(outcome, Loaded)
    assert heard_before_read[-1] >= 3, "progress is said four times a second"
    assert 0 < heard[2] < sum(SIZES), "verdicts are taken in while reads go on"


def test_a_deadline_ends_a_pull_whose_reads_block(fleet: Fleet) -> None:
    fleet.source()
    posted: list[PendingRead] = []
    block = blocking(0.05)

    def read(pending: PendingRead) -> None:
        posted.append(pending)
        block(pending)

    fleet.fabric.fault = read
    outcome = fleet.engine().pull(tensors(b"\0")[0], deadline_s=0.3)
    assert isinstance(outcome, Failed)
    assert outcome.mutated
    assert "not complete after 0.3 s" in outcome.reason
    assert len(posted) <= 0.3 / 0.05 + 4, "at most a window of reads is begun after the deadline"


def both_at_work(fleet: Fleet) -> None:
    """Let no read finish before two agents have one each."""
    both, seen = threading.Event(), set()

    def hold(read: PendingRead) -> None:
        seen.add(read.agent_name)
        if len(seen) == 2:
            both.set()
        read.hold = not both.is_set()
        if read.hold:
            threading.Thread(target=lambda: (both.wait(10), setattr(read, "hold", False))).start()

    fleet.fabric.fault = hold


def test_two_sources_that_hold_other_bytes_are_never_mixed(fleet: Fleet) -> None:
    """Same identity, same layout, each right about itself: a branch that moved in between."""
    for fill in (b"A", b"B"):
        fleet.source(tensors(fill)[0])
    both_at_work(fleet)
    local, got = tensors(b"\0")
    outcome = fleet.engine().pull(local)
    assert isinstance(outcome, Loaded)
    assert {bytes(set(buffer.raw[:size])) for buffer, size in zip(got, SIZES, strict=True) if size} in (
        {b"A"},
        {b"B"},
    )
    dropped = [share for share in outcome.report.sources if share.dropped]
    assert len(dropped) == 1
    assert "holds other bytes than" in dropped[0].dropped
    assert dropped[0].bytes == 0
    assert outcome.report.bytes_done == sum(SIZES)
    assert outcome.report.verified


def test_bytes_of_a_published_peer_are_judged_by_the_digests_of_an_mx_peer(fleet: Fleet) -> None:
    honest = fleet.source()
    entry = fleet.registry.get_source(fleet.registry.list_sources()[0].source_id, honest.worker_id)
    assert entry is not None
    other = fleet.source(tensors(b"x")[0])
    published = fleet.registry.get_source(entry.source_id, other.worker_id)
    assert published is not None
    fleet.registry.withdraw(published.key)
    fleet.registry.publish(IDENTITY, published.worker, worker_id=other.worker_id)
    fleet.registry.update_status(published.key, SourceStatus.READY)
    both_at_work(fleet)
    local, got = tensors(b"\0")
    outcome = fleet.engine(**{"worker.heartbeat_interval_s": 600}).pull(local)
    assert isinstance(outcome, Loaded)
    assert content(got) == content(tensors(None)[1])
    assert outcome.report.verified


def test_a_worker_that_serves_does_not_pull_over_its_own_tensors(fleet: Fleet) -> None:
    local, memory = tensors(None)
    source = fleet.source(local)
    fleet.source(tensors(b"x")[0])
    outcome = source.pull(local)
    assert isinstance(outcome, Failed)
    assert (outcome.mutated, outcome.blame) == (False, "local")
    assert "serves its tensors" in outcome.reason
    assert content(memory) == content(tensors(None)[1])


def test_publishing_again_replaces_what_was_published(fleet: Fleet) -> None:
    source = fleet.source()
    source.publish(tensors(b"n")[0])
    assert source.wait_published(10)
    assert [row.worker_id for row in fleet.registry.list_sources()] == [source.worker_id]
    local, got = tensors(b"\0")
    assert isinstance(fleet.engine().pull(local), Loaded)
    assert content(got) == content(tensors(b"n")[1])


def connections(fleet: Fleet, of: TransferEngine) -> list[str]:
    """The agents that the engine's agent could read from."""
    (mine,) = (agent for name, agent in fleet.fabric.agents.items() if of.worker_id in name)
    nothing = Extents(array("Q"), array("Q"), array("Q"), HOST_DEVICE, HOST_DEVICE)
    found = []
    fleet.fabric.fault = None
    for name in fleet.fabric.agents:
        with contextlib.suppress(MxError):
            mine.prepare(name, nothing)
            found.append(name)
    return found


def test_connections_end_with_the_pull(fleet: Fleet) -> None:
    fleet.source()
    target = fleet.engine()
    assert isinstance(target.pull(tensors(b"\0")[0]), Loaded)
    assert connections(fleet, target) == []


def test_a_connection_outlives_a_pull_whose_reads_can_not_be_ended(fleet: Fleet) -> None:
    """The agent still works on them: only its end may take the connection away."""
    source = fleet.source()

    def wedge(read: PendingRead) -> None:
        read.hold = read.stuck = True

    fleet.fabric.fault = wedge
    target = fleet.engine()
    assert isinstance(target.pull(tensors(b"\0")[0], deadline_s=1), Failed)
    assert [name for name in connections(fleet, target) if source.worker_id in name]


def test_memory_kept_aside_is_neither_filled_nor_freed_again(fleet: Fleet) -> None:
    fleet.source()

    def wedge(read: PendingRead) -> None:
        read.hold = read.stuck = True

    fleet.fabric.fault = wedge
    target, (local, _) = fleet.engine(), tensors(b"\0")
    first = target.pull(local, deadline_s=1)
    assert isinstance(first, Failed)
    assert "kept aside" in first.reason
    fleet.fabric.fault = None
    again = target.pull(local)
    assert isinstance(again, Failed)
    assert (again.mutated, again.blame) == (False, "local")
    assert isinstance(target.pull(tensors(b"\0")[0]), Loaded), "memory built anew is fine"


def test_a_digest_that_cannot_be_computed_fails_at_once_and_blames_nobody_else(fleet: Fleet) -> None:
    fleet.source()

    def broken(ranges: object) -> int:
        raise RuntimeError("out of device memory")

    settings = load_settings(flags={"worker.host": "127.0.0.1"}, environ={}, scope="worker")
    target = TransferEngine(
        settings,
        client=fleet.registry,
        identity=IDENTITY,
        worker_rank=0,
        backend=lambda name: MemoryBackend(name, fleet.fabric, listen_port=1),
        digester=("xxh3-64", broken),
    )
    fleet.engines.append(target)
    started = time.monotonic()
    outcome = target.pull(tensors(b"\0")[0])
    assert isinstance(outcome, Failed)
    assert (outcome.mutated, outcome.blame) == (True, "local")
    assert "out of device memory" in outcome.reason
    assert time.monotonic() - started < 10


def test_digests_of_another_kind_are_refused_before_a_byte_moves(fleet: Fleet) -> None:
    fleet.source()
    settings = load_settings(flags={"worker.host": "127.0.0.1"}, environ={}, scope="worker")
    target = TransferEngine(
        settings,
        client=fleet.registry,
        identity=IDENTITY,
        worker_rank=0,
        backend=lambda name: MemoryBackend(name, fleet.fabric, listen_port=1),
        digester=("sum64p", lambda ranges: 0),
    )
    fleet.engines.append(target)
    local, got = tensors(b"\7")
    outcome = target.pull(local)
    assert isinstance(outcome, Failed)
    assert not outcome.mutated
    assert "has digests of kind xxh3-64, and this worker computes sum64p" in outcome.reason
    assert content(got) == content(tensors(b"\7")[1])
