"""A pull returns when its last segment is verified, not an idle wait later."""

from __future__ import annotations

import ctypes
import queue
from array import array

from mx.core.source import SourceStatus, SourceSummary
from mx.core.swarm import Event, Limits
from mx.core.tensors import HOST_DEVICE, TensorDescriptor, layout_digest
from mx.testing.transfer_contract import Buffer, buffer, region
from mx.transfer.book import Arrival, Exhausted, Joined, Target
from mx.transfer.fetcher import Fetcher
from mx.transfer.memory import MemoryBackend, MemoryFabric
from mx.transfer.remote import RemoteManifest
from mx.transfer.session import Candidate, Session

SEGMENT = 64 * 1024


class Watched(queue.SimpleQueue[Arrival | Event]):
    """An inbox that notes what each look at it gave: an item, or a wait for nothing."""

    def __init__(self) -> None:
        self.looks: list[str] = []

    def get(self, block: bool = True, timeout: float | None = None) -> Arrival | Event:
        try:
            item = super().get(block, timeout)
        except queue.Empty:
            if block:
                self.looks.append("waited")
            raise
        self.looks.append("item")
        return item

    def get_nowait(self) -> Arrival | Event:
        return self.get(block=False)


def descriptor(of: Buffer) -> TensorDescriptor:
    return TensorDescriptor("w", ctypes.addressof(of), len(of), 0, "torch.uint8")


def test_nothing_is_waited_for_after_the_last_segment() -> None:
    fabric = MemoryFabric()
    source, target = MemoryBackend("source", fabric), MemoryBackend("target", fabric)
    theirs, mine = buffer(b"abc", 4 * SEGMENT), buffer(b"-", 4 * SEGMENT)
    source.register([region(theirs)])
    target.register([region(mine)])
    tensors = (descriptor(theirs),)
    row = SourceSummary("5a5f555570065064", "aaaa0001", 0, "org/model", SourceStatus.READY, 1)
    session = Session(
        Candidate(row),
        agent_name=target.connect(source.local_metadata()),
        manifest=RemoteManifest(
            array("Q", [tensors[0].addr]), tensors, layout_digest(tensors), None, HOST_DEVICE
        ),
        digest_kind="",
        channel=None,
    )
    inbox = Watched()
    inbox.put(Joined(session))
    inbox.put(Exhausted())
    fetcher = Fetcher(
        target,
        Target((descriptor(mine),), (region(mine),), layout_digest(tensors), HOST_DEVICE),
        segment_bytes=SEGMENT,
        limits=Limits(),
        digest=None,
        inbox=inbox,
    )
    result = fetcher.run(deadline_s=30)
    assert result.complete
    assert mine.raw == theirs.raw
    assert inbox.looks[-1] == "item", inbox.looks
