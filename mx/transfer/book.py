"""What a pull knows: its target, its plan, what each source gave, and how it ended."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from dataclasses import dataclass, field

from mx.core.plan import Plan, cut
from mx.core.swarm import Done, Event, Limits, Swarm
from mx.core.tensors import Mismatch, Region, TensorDescriptor, match
from mx.core.transfer import SourceShare
from mx.transfer.session import Session


@dataclass(frozen=True, slots=True)
class Target:
    """The memory to fill. ``layout`` is the digest of the descriptors; ``device`` HOST_DEVICE or ordinal."""

    descriptors: tuple[TensorDescriptor, ...]
    regions: tuple[Region, ...]
    layout: str
    device: int


@dataclass(frozen=True, slots=True)
class Joined:
    """Arrival: a connected source."""

    session: Session


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Arrival: the source no longer keeps its memory for us."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Arrival: no further source will come."""


@dataclass(frozen=True, slots=True)
class Broken:
    """Arrival: an error of this process that no source is to blame for."""

    reason: str


Arrival = Joined | LeaseLost | Exhausted | Broken
Inbox = queue.SimpleQueue[Arrival | Event]


@dataclass(slots=True)
class Share:
    """What one source gave. ``judged``: every segment of it was compared with a digest."""

    name: str
    session: Session
    bytes: int = 0
    segments: int = 0
    judged: bool = True
    dropped: str = ""
    reading: int = 0
    reading_since_s: float = 0.0
    busy_s: float = 0.0

    def read_begins(self, now_s: float) -> None:
        if not self.reading:
            self.reading_since_s = now_s
        self.reading += 1

    def read_ends(self, now_s: float) -> None:
        self.reading -= 1
        if not self.reading:
            self.busy_s += now_s - self.reading_since_s

    def summary(self, now_s: float = 0.0) -> SourceShare:
        """``now_s`` while it may still be reading."""
        busy_s = self.busy_s + (max(0.0, now_s - self.reading_since_s) if self.reading and now_s else 0.0)
        return SourceShare(
            worker_id=self.session.name,
            endpoint=self.session.candidate.endpoint,
            bytes=self.bytes,
            gbit_s=self.bytes * 8 / busy_s / 1e9 if busy_s > 0 else 0.0,
            segments=self.segments,
            verified=self.judged and self.segments > 0,
            dropped=self.dropped,
        )


@dataclass(slots=True)
class Times:
    """Monotonic moments of a pull."""

    plan_s: float = 0.0
    first_read: float = 0.0
    last_read: float = 0.0
    verified: float = 0.0
    digests: list[float] = field(default_factory=list)  # seconds each; append is atomic


@dataclass(frozen=True, slots=True)
class Progress:
    """A pull under way. ``read_s`` since the first read, 0 before it."""

    bytes_done: int
    bytes_total: int
    plan_s: float
    read_s: float
    segments: int
    rereads: int
    shares: tuple[SourceShare, ...]


@dataclass(slots=True)
class Book:
    """The plan of this pull and its sources by name.

    addrs  of local tensors, by manifest index; 0 where a tensor is not wanted
    skip   manifest indices that are not wanted
    """

    plan: Plan
    addrs: list[int]
    skip: frozenset[int]
    layout: str
    swarm: Swarm
    shares: dict[str, Share] = field(default_factory=dict)
    giver: dict[int, str] = field(default_factory=dict)
    computed: dict[int, int] = field(default_factory=dict)  # digests of what lies in our memory
    bytes_done: int = 0

    @classmethod
    def open(
        cls, target: Target, session: Session, *, segment_bytes: int, start: int, limits: Limits
    ) -> Book | Mismatch:
        """Plan against a source; why it doesn't fit. ``start`` rotates the order of segments."""
        local, tensors = target.descriptors, session.manifest.tensors
        if tensors is None:
            if len(session.manifest.addrs) != len(local):
                return Mismatch(
                    reason=f"lists {len(session.manifest.addrs)} addresses for {len(local)} tensors"
                )
            order: Sequence[int] = range(len(local))
            sizes = [tensor.size for tensor in local]
        else:
            matched = match(local, tensors)
            if isinstance(matched, Mismatch):
                return matched
            order = matched
            sizes = [tensor.size for tensor in tensors]
        skip = frozenset(i for i, index in enumerate(order) if index < 0)
        plan = cut(sizes, segment_bytes=segment_bytes, skip=skip)
        return cls(
            plan=plan,
            addrs=[local[index].addr if index >= 0 else 0 for index in order],
            skip=skip,
            layout=session.manifest.layout_digest,
            swarm=Swarm(plan.sizes, start=start % max(plan.segments, 1), limits=limits),
        )

    def refusal(self, session: Session) -> str:
        """Why a further source can't take part; "" when it can."""
        if session.manifest.layout_digest != self.layout:
            return "holds other tensors, or in another order, than the source this pull began with"
        if len(session.manifest.addrs) != len(self.addrs):
            return f"lists {len(session.manifest.addrs)} addresses for {len(self.addrs)} tensors"
        if session.name in self.shares and not self.shares[session.name].dropped:
            return "is a source of this pull already"
        return ""

    def add(self, session: Session) -> str:
        """The name under which a source takes part: a worker that came back counts as another one."""
        name = session.name
        while name in self.shares:
            name += "'"
        self.shares[name] = Share(name, session)
        return name

    def credit(self, segment: int, source: str, *, judged: bool) -> None:
        """A segment is verified, or taken as it is where nothing can judge it."""
        share, size = self.shares[source], self.plan.sizes[segment]
        share.segments += 1
        share.bytes += size
        share.judged = share.judged and judged
        self.giver[segment] = source
        self.bytes_done += size

    def discredit(self, source: str) -> None:
        """What the source gave is to be read again."""
        self.bytes_done -= self.shares[source].bytes
        self.shares[source].bytes = self.shares[source].segments = 0
        self.giver = {segment: giver for segment, giver in self.giver.items() if giver != source}

    def progress(self, plan_s: float, first_read_s: float, now_s: float) -> Progress:
        """How far a pull is, for people: microseconds, a few times a second. Moments are monotonic."""
        return Progress(
            bytes_done=self.bytes_done,
            bytes_total=self.plan.total_bytes,
            plan_s=plan_s,
            read_s=now_s - first_read_s if first_read_s else 0.0,
            segments=self.plan.segments,
            rereads=self.swarm.rereads,
            shares=tuple(share.summary(now_s) for share in self.shares.values()),
        )

    # --- agreement of sources -----------------------------------------------------------------------
    def reference(self) -> Share | None:
        """The source whose digests the whole model must match: the first to join that can give any."""
        known = [share for share in self.shares.values() if share.session.verifiable]
        return next((share for share in known if not share.dropped), None)

    def disagreement(self, *, timeout_s: float) -> tuple[str, str] | None:
        """(source, reason) of the first one that gave other bytes than the reference holds.

        Two sources of one identity and layout may still hold different weights: a branch that moved,
        an adapter that was merged. Each is right about itself, so that segments which match the
        digests of whoever gave them do not make one model. Bytes that all match one source do.
        Waits for digests of the reference; raises UnavailableError when they don't come.
        """
        reference = self.reference()
        if reference is None:
            return None
        for segment, giver in sorted(self.giver.items()):
            if giver == reference.name:
                continue
            if reference.session.digest(segment, timeout_s=timeout_s) != self.computed[segment]:
                return giver, f"holds other bytes than {reference.name} in segment {segment}"
        return None


@dataclass(frozen=True, slots=True)
class FetchResult:
    """How a pull ended. ``complete`` False: ``reason`` says why and names the first missing segment.

    mutated      bytes of the target were or may have been written
    unsafe       a read could not be ended: the target's memory must stay allocated and unused
    local_fault  an error of this process ended it, no source's
    plan_s, read_s, verify_s  wall seconds; ``verify_s`` is what verification added after the last read
    verify_cpu_s seconds spent on digests, most of them during reads
    """

    complete: bool
    verified: bool
    mutated: bool
    unsafe: bool
    local_fault: bool
    reason: str
    bytes_done: int
    segments: int
    rereads: int
    plan_s: float
    read_s: float
    verify_s: float
    verify_cpu_s: float
    shares: tuple[SourceShare, ...]
    refused: tuple[str, ...]


def conclude(
    book: Book | None,
    times: Times,
    *,
    reason: str,
    refused: Sequence[str],
    mutated: bool,
    unsafe: bool,
    local_fault: bool,
) -> FetchResult:
    """The result of a pull whose reads are over."""
    complete = book is not None and isinstance(book.swarm.over, Done)
    shares = tuple(share.summary() for share in book.shares.values()) if book else ()
    return FetchResult(
        complete=complete,
        verified=complete and all(share.verified for share in shares if share.segments),
        mutated=mutated,
        unsafe=unsafe,
        local_fault=local_fault,
        reason=reason,
        bytes_done=book.bytes_done if book else 0,
        segments=book.plan.segments if book else 0,
        rereads=book.swarm.rereads if book else 0,
        plan_s=times.plan_s,
        read_s=max(times.last_read - times.first_read, 0.0),
        verify_s=max(times.verified - times.last_read, 0.0) if complete and times.last_read else 0.0,
        verify_cpu_s=sum(times.digests),
        shares=shares,
        refused=tuple(refused),
    )
