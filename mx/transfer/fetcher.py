"""Carries out a pull: executes the commands of ``core/swarm`` on a backend and verifies what came.

One thread, the caller's, posts and polls reads (a read over shared memory blocks until it is
done, with the interpreter lock free). Digests are computed by a few threads beside it, so
verifying one segment overlaps the read of the next; another prepares the ranges of segments to come.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from mx.core.plan import Plan, RegionMap, cut, join
from mx.core.swarm import (
    Command,
    DigestDiffers,
    DigestMatched,
    DigestUnknown,
    Done,
    Drop,
    Event,
    GiveUp,
    Limits,
    NoMoreSources,
    Read,
    ReadFailed,
    ReadFinished,
    ReadStopped,
    SourceJoined,
    SourceLeft,
    Stop,
    Swarm,
    Tick,
)
from mx.core.tensors import HOST_DEVICE, Extents, Mismatch, Region, TensorDescriptor, match
from mx.core.transfer import SourceShare
from mx.errors import MxError
from mx.ports import ReadState, TransferBackend
from mx.transfer.digests import Digester, segment_ranges
from mx.transfer.host import prefault
from mx.transfer.session import Session

log = logging.getLogger(__name__)

# Between looks at reads in flight; a read over RDMA or TCP takes milliseconds.
POLL_S = 0.0002
IDLE_S = 0.05
TICK_S = 0.25
# How long stopped reads may take to end by themselves before they are cut off.
SEVER_S = 0.5
# How long a read that can't be ended is waited for before its memory is put aside for good.
QUARANTINE_S = 5.0


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
class Exhausted:
    """Arrival: no further source will come."""


Arrival = Joined | Exhausted
Inbox = queue.SimpleQueue[Arrival | Event]


@dataclass(slots=True)
class _Share:
    session: Session
    bytes: int = 0
    segments: int = 0
    busy_s: float = 0.0
    dropped: str = ""


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


@dataclass(slots=True)
class _InFlight:
    segment: int
    source: str
    handle: object
    started_s: float
    stopping_s: float = 0.0  # since when it is to end; 0 while it is wanted

    @property
    def stopping(self) -> bool:
        return self.stopping_s > 0


@dataclass(slots=True)
class _Times:
    plan_s: float = 0.0
    first_read: float = 0.0
    last_read: float = 0.0
    verified: float = 0.0
    digests: list[float] = field(default_factory=list)  # seconds each; append is atomic


@dataclass(slots=True)
class _Book:
    """The plan of this pull and what each source gave."""

    plan: Plan
    addrs: list[int]  # of local tensors, by manifest index; 0 where not wanted
    skip: frozenset[int]
    layout: str
    swarm: Swarm
    shares: dict[str, _Share] = field(default_factory=dict)
    extents: dict[tuple[str, int], Future[Extents]] = field(default_factory=dict)
    reference: dict[int, tuple[int, str]] = field(default_factory=dict)
    bytes_done: int = 0


class Fetcher:
    """One pull into one target."""

    def __init__(
        self,
        backend: TransferBackend,
        target: Target,
        *,
        segment_bytes: int,
        limits: Limits,
        digester: Digester | None,
        digest_threads: int = 0,
        start: int = 0,
        inbox: Inbox | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
        severable: bool = True,
    ) -> None:
        """``digester`` None turns verification off; ``start`` rotates the order of segments.

        ``inbox`` brings sources from any thread. ``on_progress`` gets (bytes verified, bytes in
        all) a few times a second; ``on_lost`` the name of each source that is refused or dropped.
        ``severable`` False: the agent is needed as it is, reads that don't end are waited for.
        """
        self._backend = backend
        self._target = target
        self._segment_bytes = segment_bytes
        self._limits = limits
        self._digester = digester
        self._start = start
        self._on_progress = on_progress
        self._on_lost = on_lost or (lambda _: None)
        self._severable = severable
        self._inbox: Inbox = inbox or queue.SimpleQueue()
        self._events: deque[Event] = deque()
        self._in_flight: list[_InFlight] = []
        self._times = _Times()
        self._refused: list[str] = []
        self._mutated = False
        self._book: _Book | None = None
        self._local_regions = RegionMap(target.regions)
        threads = digest_threads or max(1, min(4, (os.cpu_count() or 2) - 1))
        self._verifiers = ThreadPoolExecutor(threads, thread_name_prefix="mx-verify")
        self._preparer = ThreadPoolExecutor(1, thread_name_prefix="mx-prepare")

    def run(self, *, deadline_s: float) -> FetchResult:
        """Pull until every segment is verified, no source is left, or the deadline is over."""
        end = time.monotonic() + deadline_s
        reason, local_fault = "", False
        try:
            while True:
                over = self._book.swarm.over if self._book else None
                if isinstance(over, Done):
                    break
                if isinstance(over, GiveUp):
                    reason = _give_up_text(over)
                    break
                if not self._turn():
                    reason = "; ".join(self._refused) or "no source could be reached"
                    break
                if time.monotonic() > end:
                    reason = f"not complete after {deadline_s:g} s"
                    break
        except MxError as error:
            reason, local_fault = error.message, True
        finally:
            unsafe = not self._stop_all()
            for share in self._book.shares.values() if self._book else ():
                share.session.abandon("the pull is over")
            self._verifiers.shutdown(wait=True, cancel_futures=True)
            self._preparer.shutdown(wait=True, cancel_futures=True)
        return self._result(reason, unsafe=unsafe, local_fault=local_fault)

    # --- one turn of the loop -----------------------------------------------------------------
    def _turn(self) -> bool:
        """Do what can be done now, else wait a little. False when no source is left to plan with."""
        self._drain_inbox(wait_s=0.0)
        self._poll_reads()
        self._run_events()
        if self._book is None:
            if self._exhausted:
                return False
        elif self._book.swarm.over is not None:
            return True  # nothing more will come: waiting for it would be the last 50 ms of every pull
        now = time.monotonic()
        if now >= self._tick_at:
            self._tick_at = now + TICK_S
            self._tick()
        self._sever_stuck(now)
        if not self._events:
            self._drain_inbox(wait_s=POLL_S if self._in_flight else IDLE_S)
        return True

    _exhausted = False
    _tick_at = 0.0

    def _drain_inbox(self, *, wait_s: float) -> None:
        while True:
            try:
                item = self._inbox.get(timeout=wait_s) if wait_s else self._inbox.get_nowait()
            except queue.Empty:
                return
            wait_s = 0.0
            match item:
                case Joined(session):
                    self._join(session)
                case Exhausted():
                    self._exhausted = True
                    self._events.append(NoMoreSources())
                case _:
                    self._events.append(item)

    def _run_events(self) -> None:
        """Handle what is there now. What a read that blocked left behind waits for the next turn:
        otherwise one chain of reads would keep deadline, leases, verdicts and new sources waiting."""
        for _ in range(len(self._events)):
            if self._book is None:
                return
            event, book = self._events.popleft(), self._book
            before = book.swarm.verified
            commands = book.swarm.handle(event, time.monotonic())
            if isinstance(event, DigestMatched) and book.swarm.verified > before:
                share, size = book.shares[event.source], book.plan.sizes[event.segment]
                share.segments += 1
                share.bytes += size
                book.bytes_done += size
            for command in commands:
                self._execute(command)

    def _tick(self) -> None:
        self._events.append(Tick())
        if self._book is None:
            return
        for name, share in self._book.shares.items():
            if not share.dropped:
                try:
                    share.session.keep_lease()
                except MxError as error:
                    self._events.append(SourceLeft(name, error.message))
        if self._on_progress is not None:
            self._on_progress(self._book.bytes_done, self._book.plan.total_bytes)

    # --- sources --------------------------------------------------------------------------------
    def _join(self, session: Session) -> None:
        problem = self._bind(session) if self._book is None else self._same_layout(self._book, session)
        if problem or self._book is None:
            self._refused.append(f"{session.name}: {problem}")
            session.close(failed=True, reason=problem)
            self._on_lost(session.name)
            return
        book = self._book
        book.shares[session.name] = _Share(session)
        for segment in range(book.plan.segments):
            key = session.name, (segment + self._start) % book.plan.segments
            book.extents[key] = self._preparer.submit(self._join_ranges, book, session, key[1])
        if self._digester is not None and session.verifiable:
            session.follow_digests(
                segment_bytes=self._segment_bytes, skip=book.skip, tensors=len(session.manifest.addrs)
            )
        self._events.append(SourceJoined(session.name, session.candidate.distance))
        if self._exhausted:
            self._events.append(NoMoreSources())

    def _bind(self, session: Session) -> str:
        """Plan against the first source that fits; the reason when it doesn't."""
        started = time.monotonic()
        local, tensors = self._target.descriptors, session.manifest.tensors
        if tensors is None:
            if len(session.manifest.addrs) != len(local):
                return f"lists {len(session.manifest.addrs)} addresses for {len(local)} tensors"
            order: Sequence[int] = range(len(local))
            sizes = [tensor.size for tensor in local]
        else:
            matched = match(local, tensors)
            if isinstance(matched, Mismatch):
                return str(matched)
            order = matched
            sizes = [tensor.size for tensor in tensors]
        skip = frozenset(i for i, index in enumerate(order) if index < 0)
        plan = cut(sizes, segment_bytes=self._segment_bytes, skip=skip)
        start = self._start % plan.segments if plan.segments else 0
        self._start = start
        self._book = _Book(
            plan=plan,
            addrs=[local[index].addr if index >= 0 else 0 for index in order],
            skip=skip,
            layout=session.manifest.layout_digest,
            swarm=Swarm(plan.sizes, start=start, limits=self._limits),
        )
        self._times.plan_s = time.monotonic() - started
        return ""

    @staticmethod
    def _same_layout(book: _Book, session: Session) -> str:
        if session.manifest.layout_digest != book.layout:
            return "holds other tensors, or in another order, than the source this pull began with"
        if session.name in book.shares:
            return "is a source of this pull already"
        return ""

    def _join_ranges(self, book: _Book, session: Session, segment: int) -> Extents:
        """Ranges of a segment; fresh host pages are made present while earlier segments are read."""
        extents = join(
            book.plan,
            segment,
            local_addrs=book.addrs,
            remote_addrs=session.manifest.addrs,
            local_regions=self._local_regions,
            remote_regions=session.manifest.regions,
            local_device=self._target.device,
            remote_device=session.manifest.device,
        )
        if self._target.device == HOST_DEVICE:
            prefault(extents.local_addr, extents.length)
        return extents

    # --- commands -------------------------------------------------------------------------------
    def _execute(self, command: Command) -> None:
        match command:
            case Read(segment, source):
                self._post(segment, source)
            case Stop(segment, source):
                for read in self._in_flight:
                    if read.segment == segment and read.source == source:
                        read.stopping_s = time.monotonic()
                        break
                else:
                    self._events.append(ReadStopped(segment))
            case Drop(source, reason):
                assert self._book is not None
                share = self._book.shares[source]
                share.dropped = reason
                share.session.abandon(reason)
                log.warning("source dropped", extra={"fields": {"source": source, "reason": reason}})
                self._on_lost(source)
            case Done() | GiveUp():
                self._times.verified = time.monotonic()

    def _post(self, segment: int, source: str) -> None:
        assert self._book is not None
        session = self._book.shares[source].session
        extents = self._book.extents.pop((source, segment), None)
        ranges = extents.result() if extents else self._join_ranges(self._book, session, segment)
        now = time.monotonic()
        self._times.first_read = self._times.first_read or now
        self._mutated = True
        try:
            handle = self._backend.start_read(session.agent_name, ranges)
        except MxError as error:
            self._events.append(ReadFailed(segment, source, error.message))
            return
        self._in_flight.append(_InFlight(segment, source, handle, now))
        self._poll_reads()

    def _poll_reads(self) -> None:
        for read in list(self._in_flight):
            event = self._look(read)
            if event is not None:
                self._in_flight.remove(read)
                self._events.append(event)

    def _look(self, read: _InFlight) -> Event | None:
        """What became of a read; None while it is under way."""
        try:
            done = self._backend.poll(read.handle) is ReadState.DONE
        except MxError as error:
            # An errored request may still be held by the hardware until it can be released.
            if not self._backend.release(read.handle):
                read.stopping_s = read.stopping_s or time.monotonic()
                return None
            return (
                ReadStopped(read.segment)
                if read.stopping
                else ReadFailed(read.segment, read.source, error.message)
            )
        if not done:
            return ReadStopped(read.segment) if read.stopping and self._backend.release(read.handle) else None
        self._backend.release(read.handle)
        return self._read_done(read)

    def _read_done(self, read: _InFlight) -> Event:
        assert self._book is not None
        now = self._times.last_read = time.monotonic()
        share = self._book.shares[read.source]
        share.busy_s += now - read.started_s
        if not share.dropped:
            self._verifiers.submit(self._judge, self._book, read.segment, share.session)
        return ReadFinished(read.segment, read.source)

    # --- verification, in the verifier threads ---------------------------------------------------
    def _judge(self, book: _Book, segment: int, session: Session) -> None:
        try:
            self._inbox.put(self._verdict(book, segment, session))
        except MxError as error:
            self._inbox.put(DigestUnknown(segment, session.name, error.message))

    def _verdict(self, book: _Book, segment: int, session: Session) -> Event:
        if self._digester is not None and session.verifiable:
            started = time.monotonic()
            mine = self._digester(segment_ranges(book.plan, segment, book.addrs))
            self._times.digests.append(time.monotonic() - started)
            expected = session.digest(segment, timeout_s=self._limits.stall_s)
            first, other = book.reference.setdefault(segment, (expected, session.name))
            if first != expected:
                return DigestUnknown(
                    segment, session.name, f"announces other bytes for segment {segment} than {other}"
                )
            if mine != expected:
                return DigestDiffers(segment, session.name)
        return DigestMatched(segment, session.name)

    # --- the end ----------------------------------------------------------------------------------
    def _stop_all(self) -> bool:
        """End what is in flight; False when the hardware may still write after a while."""
        began = time.monotonic()
        for read in self._in_flight:
            read.stopping_s = read.stopping_s or began
        while self._in_flight:
            self._poll_reads()
            now = time.monotonic()
            if now - began > SEVER_S and self._sever():
                break
            if now - began > QUARANTINE_S:
                return False
            time.sleep(POLL_S)
        return True

    def _sever_stuck(self, now: float) -> None:
        """Cut off reads that were stopped and don't end, once nothing else is being read.

        Before that a source may come back and end them, and reads of others would be lost.
        """
        if not self._in_flight or self._events or not all(read.stopping for read in self._in_flight):
            return
        assert self._book is not None
        stuck = {read.source for read in self._in_flight}
        others = any(not share.dropped for name, share in self._book.shares.items() if name not in stuck)
        # With nobody else to read from there is nothing to gain from being quick.
        patience_s = SEVER_S if others else self._limits.stall_s
        if now - max(read.stopping_s for read in self._in_flight) > patience_s:
            self._sever()

    def _sever(self) -> bool:
        """Everything in flight is over when this is True, and its sources have left."""
        if not self._severable:
            return False
        assert self._book is not None
        stuck = {read.source: self._book.shares[read.source].session.agent_name for read in self._in_flight}
        try:
            self._backend.sever(stuck.values())
        except MxError as error:
            self._severable = False
            log.warning("reads can't be ended", extra={"fields": {"reason": error.message}})
            return False
        for source in stuck:
            reason = f"no progress for {self._limits.stall_s:g} s; its reads were cut off"
            self._events.append(SourceLeft(source, reason))
        self._events.extend(ReadStopped(read.segment) for read in self._in_flight)
        self._in_flight.clear()
        return True

    def _result(self, reason: str, *, unsafe: bool, local_fault: bool) -> FetchResult:
        book, times = self._book, self._times
        complete = book is not None and isinstance(book.swarm.over, Done)
        shares = (
            tuple(_share(share, self._digester is not None) for share in book.shares.values()) if book else ()
        )
        return FetchResult(
            complete=complete,
            verified=complete and all(share.verified for share in shares if share.segments),
            mutated=self._mutated,
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
            refused=tuple(self._refused),
        )

    def close_sessions(self, *, reason: str = "") -> None:
        """Return every lease with what was read under it, all at once: dead sources cost one wait."""

        def close(share: _Share) -> None:
            share.session.close(
                failed=bool(share.dropped), reason=share.dropped or reason, bytes_read=share.bytes
            )

        shares = list(self._book.shares.values()) if self._book else []
        if shares:
            with ThreadPoolExecutor(len(shares), thread_name_prefix="mx-close") as pool:
                list(pool.map(close, shares))


def _share(share: _Share, verify: bool) -> SourceShare:
    return SourceShare(
        worker_id=share.session.name,
        endpoint=share.session.candidate.endpoint,
        bytes=share.bytes,
        gbit_s=share.bytes * 8 / share.busy_s / 1e9 if share.busy_s else 0.0,
        segments=share.segments,
        verified=verify and share.session.verifiable,
        dropped=share.dropped,
    )


def _give_up_text(over: GiveUp) -> str:
    return f"{len(over.missing)} segments missing, the first is {over.missing[0]}; {over.reason}"
