"""What a pull is told about a read whose start failed: nothing, while its bytes may still come."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import contextmanager

from mx.core.source import SourceStatus, SourceSummary
from mx.core.swarm import ReadFailed, ReadFinished
from mx.core.tensors import HOST_DEVICE, Extents
from mx.errors import UnavailableError
from mx.testing.transfer_contract import SIZE, Buffer, buffer, extents, region
from mx.transfer.book import Share
from mx.transfer.memory import MemoryBackend, MemoryFabric, PendingRead
from mx.transfer.reads import Reads
from mx.transfer.remote import RemoteManifest
from mx.transfer.session import Candidate, Session


class Breaking(MemoryBackend):
    """Its posts fail once the hardware has the read. ``held``: the read can't be freed then."""

    held = False

    def post(self, handle: object) -> None:
        super().post(handle)
        raise UnavailableError("the connection broke while it was posted")

    def release(self, handle: object) -> bool:
        return not self.held and super().release(handle)


class Trial:
    """One source, one target, and the reads of a pull."""

    def __init__(self, target: MemoryBackend, source: MemoryBackend) -> None:
        self.theirs, self.mine = buffer(b"abc"), buffer(b"-")
        source.register([region(self.theirs)])
        target.register([region(self.mine)])
        row = SourceSummary("5a5f555570065064", "aaaa0001", 0, "org/model", SourceStatus.READY, 1)
        session = Session(
            Candidate(row),
            agent_name=target.connect(source.local_metadata()),
            manifest=RemoteManifest(array("Q"), (), "", None, HOST_DEVICE),
            digest_kind="",
            channel=None,
        )
        self.share = Share("aaaa0001", session)
        self.done: list[tuple[int, str]] = []
        self.order: list[str] = []
        self.reads = Reads(target, stall_s=1, on_done=lambda *which: self.done.append(which))

    def post(self, what: Extents | None = None) -> list[object]:
        whole = extents([(self.mine, 0, self.theirs, 0, SIZE)])
        return list(
            self.reads.post(
                7, "aaaa0001", self.share, what or whole, meanwhile=lambda: self.order.append("meanwhile")
            )
        )

    def poll(self) -> list[object]:
        return list(self.reads.poll({"aaaa0001": self.share}))


@contextmanager
def trial(target: type[MemoryBackend]) -> Iterator[tuple[Trial, MemoryBackend, MemoryFabric]]:
    fabric = MemoryFabric()
    backend = target("target", fabric)
    yield Trial(backend, MemoryBackend("source", fabric)), backend, fabric


def test_other_threads_are_set_to_work_just_before_the_read_is_posted() -> None:
    with trial(MemoryBackend) as (pull, _, fabric):

        def posted(_: PendingRead) -> None:
            pull.order.append("posted")

        fabric.fault = posted
        assert pull.post() == []
        assert pull.order == ["meanwhile", "posted"]
        (event,) = pull.poll()
        assert isinstance(event, ReadFinished)
        assert pull.mine.raw == pull.theirs.raw
        assert pull.share.reading == 0


def test_a_read_that_is_refused_before_it_begins_has_written_nothing() -> None:
    foreign: Buffer = buffer(b"x")
    with trial(MemoryBackend) as (pull, _, _):
        (event,) = pull.post(extents([(foreign, 0, pull.theirs, 0, SIZE)]))
        assert isinstance(event, ReadFailed)
        assert "not registered here" in event.reason
        assert not pull.reads.began
        assert pull.order == ["meanwhile"], "the pull goes on with what else there is"


def test_a_failed_start_that_can_be_freed_is_a_failed_read() -> None:
    with trial(Breaking) as (pull, _, _):
        (event,) = pull.post()
        assert isinstance(event, ReadFailed)
        assert "broke while it was posted" in event.reason
        assert pull.reads.began, "bytes may have been written before it broke"
        assert len(pull.reads) == 0
        assert pull.share.reading == 0


def test_a_failed_start_that_can_not_be_freed_is_in_flight_until_it_ends() -> None:
    with trial(Breaking) as (pull, target, fabric):

        def slow(read: PendingRead) -> None:
            read.hold = True
            held.append(read)

        held: list[PendingRead] = []
        fabric.fault = slow
        target.held = True  # type: ignore[attr-defined]
        assert pull.post() == []
        assert pull.poll() == [], "its bytes may still come"
        assert len(pull.reads) == 1
        assert pull.share.reading == 1
        held[0].hold = False
        target.held = False  # type: ignore[attr-defined]
        (event,) = pull.poll()
        assert isinstance(event, ReadFinished)
        assert pull.done == [(7, "aaaa0001")], "and are judged like any others"
