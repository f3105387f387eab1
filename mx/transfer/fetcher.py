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
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from mx.core.plan import RegionMap, join
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
    SourceJoined,
    SourceLeft,
    SourceTainted,
    Stop,
    Tick,
)
from mx.core.tensors import HOST_DEVICE, Extents, Mismatch
from mx.errors import MxError
from mx.ports import TransferBackend
from mx.transfer.book import (
    Book,
    Broken,
    Exhausted,
    FetchResult,
    Inbox,
    Joined,
    LeaseLost,
    Progress,
    Target,
    Times,
    conclude,
)
from mx.transfer.digests import Digester, segment_ranges
from mx.transfer.host import prefault
from mx.transfer.reads import POLL_S, Reads
from mx.transfer.session import Session

log = logging.getLogger(__name__)

IDLE_S = 0.05
TICK_S = 0.25
# Segments whose ranges are prepared ahead of their read.
AHEAD = 2


class Fetcher:
    """One pull into one target."""

    def __init__(
        self,
        backend: TransferBackend,
        target: Target,
        *,
        segment_bytes: int,
        limits: Limits,
        digest: tuple[str, Digester] | None,
        digest_threads: int = 0,
        start: int = 0,
        inbox: Inbox,
        on_progress: Callable[[Progress], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        """``digest`` is (kind, function); None turns verification off. ``start`` rotates the order.

        ``inbox`` brings sources from any thread. ``on_progress`` hears how far it is a few times a
        second; ``on_lost`` the name of each source that is refused or dropped.
        """
        self._target = target
        self._segment_bytes = segment_bytes
        self._limits = limits
        self._digest = digest
        self._start = start
        self._inbox = inbox
        self._on_progress = on_progress
        self._on_lost = on_lost or (lambda _: None)
        self._reads = Reads(backend, stall_s=limits.stall_s, on_done=self._read_done)
        self._events: deque[Event] = deque()
        self._unjudged: deque[tuple[int, str]] = deque()
        self._extents: dict[tuple[str, int], Future[Extents]] = {}
        self._held: DigestMatched | None = None  # the last verdict, while sources are compared
        self._times = Times()
        self._refused: list[str] = []
        self._book: Book | None = None
        self._exhausted = False
        self._broken = ""
        self._tick_at = 0.0
        self._local_regions = RegionMap(target.regions)
        threads = digest_threads or max(1, min(4, (os.cpu_count() or 2) - 1))
        self._verifiers = ThreadPoolExecutor(threads, thread_name_prefix="mx-verify")
        self._preparer = ThreadPoolExecutor(1, thread_name_prefix="mx-prepare")

    def run(self, *, deadline_s: float) -> FetchResult:
        """Pull until every segment is verified, no source is left, or the deadline is over.

        Never raises: an error of this process is a result too, since what is in flight must be ended.
        """
        end = time.monotonic() + deadline_s
        reason = ""
        try:
            while not self._done:
                reason = self._turn()
                if reason:
                    break
                if time.monotonic() > end and not self._done:
                    reason = f"not complete after {deadline_s:g} s"
                    break
        except Exception as error:  # whatever it is, reads in flight have to be ended
            log.error("pull broken", exc_info=error)
            self._broken = reason = str(error) or type(error).__name__
        shares = self._book.shares if self._book else {}
        unsafe = not self._reads.end_all(shares)
        for share in shares.values():
            share.session.abandon("the pull is over")
        self._verifiers.shutdown(wait=True, cancel_futures=True)
        self._preparer.shutdown(wait=True, cancel_futures=True)
        self._times.first_read, self._times.last_read = self._reads.first_s, self._reads.last_s
        return conclude(
            self._book,
            self._times,
            reason=reason,
            refused=self._refused,
            mutated=self._reads.began,
            unsafe=unsafe,
            local_fault=bool(self._broken),
        )

    @property
    def _done(self) -> bool:
        return self._book is not None and isinstance(self._book.swarm.over, Done)

    # --- one turn of the loop -----------------------------------------------------------------
    def _turn(self) -> str:
        """Do what can be done now, else wait a little. Why the pull failed, or "" to go on."""
        self._drain_inbox(wait_s=0.0)
        book = self._book
        if self._broken:
            return self._broken
        if book is None:
            if self._exhausted:
                return "; ".join(self._refused) or "no source could be reached"
            self._drain_inbox(wait_s=IDLE_S)
            return ""
        self._events.extend(self._reads.poll(book.shares))
        self._run_events(book)
        if isinstance(book.swarm.over, GiveUp):
            return _give_up_text(book.swarm.over)
        if self._done:
            return ""  # nothing more will come: waiting for it would be the last 50 ms of every pull
        if self._reads.wedged:
            return "a read can't be ended"
        self._tick(book)
        if not self._events:
            self._judge_waiting()
            self._drain_inbox(wait_s=POLL_S if len(self._reads) else IDLE_S)
        return ""

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
                case LeaseLost(source, reason):
                    self._lose_lease(source, reason)
                case Exhausted():
                    self._exhausted = True
                    self._events.append(NoMoreSources())
                case Broken(reason):
                    self._broken = reason
                case _:
                    self._events.append(item)

    def _run_events(self, book: Book) -> None:
        """Handle what is there now. What a read that blocked left behind waits for the next turn:
        otherwise one chain of reads would keep deadline, verdicts and new sources waiting."""
        for _ in range(len(self._events)):
            event = self._events.popleft()
            if isinstance(event, DigestMatched) and self._is_last(book, event):
                self._held = event
                self._verifiers.submit(self._compare, book)
                continue
            if isinstance(event, SourceTainted):
                book.discredit(event.source)
            before = book.swarm.verified
            commands = book.swarm.handle(event, time.monotonic())
            if isinstance(event, DigestMatched) and book.swarm.verified > before:
                book.credit(event.segment, event.source, judged=self._judged(book, event.source))
            for command in commands:
                self._execute(book, command)

    def _tick(self, book: Book) -> None:
        now = time.monotonic()
        if now < self._tick_at:
            return
        self._tick_at = now + TICK_S
        self._events.append(Tick())
        self._events.extend(self._reads.sever_stuck(book.shares))
        if self._on_progress is not None:
            self._on_progress(book.progress(self._times.plan_s, self._reads.first_s, now))

    # --- sources --------------------------------------------------------------------------------
    def _join(self, session: Session) -> None:
        problem = self._admit(session)
        if problem or self._book is None:
            self._refused.append(f"{session.name}: {problem}")
            session.close(failed=True, reason=problem)
            self._on_lost(session.name)
            return
        book = self._book
        name = book.add(session)
        if self._digest is not None and session.verifiable:
            session.follow_digests(
                segment_bytes=self._segment_bytes, skip=book.skip, tensors=len(session.manifest.addrs)
            )
        self._prepare_ahead(book, name)
        self._events.append(SourceJoined(name, session.candidate.distance))
        if self._exhausted:
            self._events.append(NoMoreSources())

    def _admit(self, session: Session) -> str:
        """Why a source can't take part; the first that can decides the plan."""
        if self._digest is not None and session.verifiable and session.digest_kind != self._digest[0]:
            return f"has digests of kind {session.digest_kind}, and this worker computes {self._digest[0]}"
        if self._book is not None:
            return self._book.refusal(session)
        started = time.monotonic()
        opened = Book.open(
            self._target, session, segment_bytes=self._segment_bytes, start=self._start, limits=self._limits
        )
        self._times.plan_s = time.monotonic() - started
        if isinstance(opened, Mismatch):
            return str(opened)
        self._book = opened
        return ""

    def _lose_lease(self, source: str, reason: str) -> None:
        """Without a lease the source may have changed its memory; only a digest can tell."""
        for share in self._book.shares.values() if self._book else ():
            if share.session.name == source and not share.dropped and self._book:
                judged = self._judged(self._book, share.name)
                event = SourceLeft(share.name, reason) if judged else SourceTainted(share.name, reason)
                self._events.append(event)

    # --- commands -------------------------------------------------------------------------------
    def _execute(self, book: Book, command: Command) -> None:
        match command:
            case Read(segment, source):
                extents = self._ranges(book, source, segment)
                others = partial(self._work_meanwhile, book, source)
                self._events.extend(
                    self._reads.post(segment, source, book.shares[source], extents, meanwhile=others)
                )
                self._events.extend(self._reads.poll(book.shares))
            case Stop(segment, source):
                self._events.extend(self._reads.stop(segment, source))
            case Drop(source, reason):
                share = book.shares[source]
                share.dropped = reason
                share.session.abandon(reason)
                log.warning("source dropped", extra={"fields": {"source": source, "reason": reason}})
                self._on_lost(share.session.name)
            case Done() | GiveUp():
                self._times.verified = time.monotonic()

    def _work_meanwhile(self, book: Book, source: str) -> None:
        """What the other threads do while a read from this source goes on."""
        self._judge_waiting()
        self._prepare_ahead(book, source)

    def _prepare_ahead(self, book: Book, source: str) -> None:
        for segment in book.swarm.upcoming(AHEAD):
            if (source, segment) not in self._extents:
                self._extents[source, segment] = self._preparer.submit(self._prepare, book, source, segment)

    def _ranges(self, book: Book, source: str, segment: int) -> Extents:
        """Prepared ranges, or made here when the preparer has not come to them."""
        prepared = self._extents.pop((source, segment), None)
        for key in [key for key in self._extents if key[1] == segment]:
            self._extents.pop(key).cancel()  # another source reads it now
        if prepared is None or prepared.cancel():
            return self._prepare(book, source, segment)
        return prepared.result()

    def _prepare(self, book: Book, source: str, segment: int) -> Extents:
        """Ranges of a segment; fresh host pages are made present while earlier segments are read."""
        manifest = book.shares[source].session.manifest
        extents = join(
            book.plan,
            segment,
            local_addrs=book.addrs,
            remote_addrs=manifest.addrs,
            local_regions=self._local_regions,
            remote_regions=manifest.regions,
            local_device=self._target.device,
            remote_device=manifest.device,
        )
        if self._target.device == HOST_DEVICE:
            prefault(extents.local_addr, extents.length)
        return extents

    # --- verification, in the verifier threads ---------------------------------------------------
    def _read_done(self, segment: int, source: str) -> None:
        self._unjudged.append((segment, source))

    def _judge_waiting(self) -> None:
        """Hand what was read to the verifiers; later than at once, so that the next read comes first."""
        while self._book is not None and self._unjudged:
            segment, source = self._unjudged.popleft()
            if not self._book.shares[source].dropped:
                self._verifiers.submit(self._judge, self._book, segment, source)

    def _judge(self, book: Book, segment: int, source: str) -> None:
        try:
            self._inbox.put(self._verdict(book, segment, source))
        except MxError as error:
            self._inbox.put(DigestUnknown(segment, source, error.message))
        except Exception as error:  # the edge of a thread: else the pull waits for ever
            log.error("digest not computed", exc_info=error)
            self._inbox.put(Broken(f"a digest could not be computed: {error}"))

    def _verdict(self, book: Book, segment: int, source: str) -> Event:
        if self._digest is None:
            return DigestMatched(segment, source)
        started = time.monotonic()
        mine = self._digest[1](segment_ranges(book.plan, segment, book.addrs))
        self._times.digests.append(time.monotonic() - started)
        book.computed[segment] = mine
        session, reference = book.shares[source].session, book.reference()
        if session.verifiable and session.digest(segment, timeout_s=self._limits.stall_s) != mine:
            return DigestDiffers(segment, source)
        if reference is not None and reference.name != source:
            expected = reference.session.known_digest(segment)
            if expected is not None and expected != mine:
                return SourceTainted(source, f"holds other bytes than {reference.name} in segment {segment}")
        return DigestMatched(segment, source)

    def _judged(self, book: Book, source: str) -> bool:
        """True when a digest stands behind what this source gives, its own or another source's."""
        if self._digest is None:
            return False
        return book.shares[source].session.verifiable or book.reference() is not None

    def _is_last(self, book: Book, event: DigestMatched) -> bool:
        """The verdict that would end the pull, with bytes of several sources: they must agree first."""
        if self._digest is None or self._held is event or book.swarm.verified + 1 < book.plan.segments:
            return False
        return len({*book.giver.values(), event.source}) > 1

    def _compare(self, book: Book) -> None:
        """Compare all givers with the reference, then let the last verdict through.

        A reference that can't answer is dropped, and the verdict comes as a new one: it is compared
        with the next reference.
        """
        held = self._held
        assert held is not None
        try:
            book.giver.setdefault(held.segment, held.source)
            found = book.disagreement(timeout_s=self._limits.stall_s)
            if found is not None:
                self._inbox.put(SourceTainted(*found))
        except MxError as error:
            reference = book.reference()
            if reference is not None:
                self._inbox.put(SourceLeft(reference.name, error.message))
                held = replace(held)
        self._inbox.put(held)

    def close_sessions(self, *, reason: str = "", keep_agents: bool = False) -> None:
        """Return every lease with what was read under it, all at once: dead sources cost one wait.

        ``keep_agents``: a read may still be under way, so connections stay until the agent ends.
        """
        shares = list(self._book.shares.values()) if self._book else []
        if not shares:
            return
        with ThreadPoolExecutor(len(shares), thread_name_prefix="mx-close") as pool:
            for share in shares:
                failed, why = bool(share.dropped), share.dropped or reason
                pool.submit(
                    share.session.close,
                    failed=failed,
                    reason=why,
                    bytes_read=share.bytes,
                    keep_agent=keep_agents,
                )


def _give_up_text(over: GiveUp) -> str:
    return f"{len(over.missing)} segments missing, the first is {over.missing[0]}; {over.reason}"
