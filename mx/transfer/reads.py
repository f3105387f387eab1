"""Reads in flight: posted, polled, stopped, and cut off when nothing else ends them.

For the one thread that runs a pull. What became of a read is told as events of the swarm.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mx.core.swarm import Event, ReadFailed, ReadFinished, ReadStopped, SourceLeft
from mx.core.tensors import Extents
from mx.errors import MxError
from mx.ports import ReadState, TransferBackend
from mx.transfer.book import Share

log = logging.getLogger(__name__)

POLL_S = 0.0002
# How long stopped reads may take to end by themselves before they are cut off.
SEVER_S = 0.5
# How long a read that can't be ended is waited for before its memory is put aside for good.
QUARANTINE_S = 5.0


@dataclass(slots=True)
class _InFlight:
    segment: int
    source: str
    handle: object
    stopping_s: float = 0.0  # since when it is to end; 0 while it is wanted


class Reads:
    """The reads of one pull. ``on_done`` gets (segment, source) of each whose bytes are there."""

    def __init__(
        self, backend: TransferBackend, *, stall_s: float, on_done: Callable[[int, str], None]
    ) -> None:
        self._backend = backend
        self._stall_s = stall_s
        self._on_done = on_done
        self._in_flight: list[_InFlight] = []
        self._severable = True
        self.first_s = 0.0
        self.last_s = 0.0

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def began(self) -> bool:
        """Bytes of the target were or may have been written."""
        return self.first_s > 0

    def post(
        self, segment: int, source: str, share: Share, extents: Extents, *, meanwhile: Callable[[], None]
    ) -> list[Event]:
        """Start one read; may block until it is done.

        ``meanwhile`` sets other threads to work, once nothing but posting is left to do: started any
        earlier they would compete with this thread for the interpreter while nothing is being read.
        """
        try:
            handle = self._backend.prepare(share.session.agent_name, extents)
        except MxError as error:
            meanwhile()
            return [ReadFailed(segment, source, error.message)]
        meanwhile()
        now = time.monotonic()
        self.first_s = self.first_s or now
        share.read_begins(now)
        read = _InFlight(segment, source, handle)
        self._in_flight.append(read)
        try:
            self._backend.post(handle)
        except MxError as error:
            if self._backend.release(handle):
                self._in_flight.remove(read)
                share.read_ends(time.monotonic())
                return [ReadFailed(segment, source, error.message)]
            # The hardware may still write, so its end is waited for: ``poll`` says how it was.
        return []

    def poll(self, shares: Mapping[str, Share]) -> list[Event]:
        """What became of reads since the last look."""
        events = []
        for read in list(self._in_flight):
            event = self._look(read)
            if event is not None:
                self._in_flight.remove(read)
                shares[read.source].read_ends(time.monotonic())
                events.append(event)
        return events

    def _look(self, read: _InFlight) -> Event | None:
        """What became of a read; None while it is under way."""
        try:
            done = self._backend.poll(read.handle) is ReadState.DONE
        except MxError as error:
            # An errored request may still be held by the hardware until it can be released.
            if not self._backend.release(read.handle):
                read.stopping_s = read.stopping_s or time.monotonic()
                return None
            if read.stopping_s:
                return ReadStopped(read.segment, read.source)
            return ReadFailed(read.segment, read.source, error.message)
        if not done:
            if read.stopping_s and self._backend.release(read.handle):
                return ReadStopped(read.segment, read.source)
            return None
        self._backend.release(read.handle)
        self.last_s = time.monotonic()
        self._on_done(read.segment, read.source)
        return ReadFinished(read.segment, read.source, self.last_s)

    def stop(self, segment: int, source: str) -> list[Event]:
        """End one read; the answer comes from ``poll``, or at once when it is over already."""
        for read in self._in_flight:
            if read.segment == segment and read.source == source:
                read.stopping_s = time.monotonic()
                return []
        return [ReadStopped(segment, source)]

    # --- reads that don't end -------------------------------------------------------------------------
    def sever_stuck(self, shares: Mapping[str, Share]) -> list[Event]:
        """Cut off reads that were stopped and don't end, once nothing else is being read.

        Before that a source may come back and end them, and reads of others would be lost. With
        nobody else to read from there is nothing to gain from being quick.
        """
        if not self._in_flight or not all(read.stopping_s for read in self._in_flight):
            return []
        stuck = {read.source for read in self._in_flight}
        others = any(not share.dropped for name, share in shares.items() if name not in stuck)
        patience_s = SEVER_S if others else self._stall_s
        if time.monotonic() - max(read.stopping_s for read in self._in_flight) <= patience_s:
            return []
        return self._sever(shares)

    @property
    def wedged(self) -> bool:
        """Reads that can't be ended are all that is left, and have been for long."""
        if not self._in_flight or self._severable or not all(read.stopping_s for read in self._in_flight):
            return False
        return time.monotonic() - max(read.stopping_s for read in self._in_flight) > QUARANTINE_S

    def end_all(self, shares: Mapping[str, Share]) -> bool:
        """End what is in flight; False when the hardware may still write after a while."""
        began = time.monotonic()
        for read in self._in_flight:
            read.stopping_s = read.stopping_s or began
        while self._in_flight:
            self.poll(shares)
            now = time.monotonic()
            if self._in_flight and now - began > SEVER_S:
                self._sever(shares)
            if self._in_flight and now - began > QUARANTINE_S:
                return False
            time.sleep(POLL_S)
        return True

    def _sever(self, shares: Mapping[str, Share]) -> list[Event]:
        """Everything in flight is over when this answers events, and its sources have left."""
        if not self._severable:
            return []
        stuck = {read.source: shares[read.source].session.agent_name for read in self._in_flight}
        try:
            self._backend.sever(stuck.values())
        except MxError as error:
            self._severable = False
            log.warning("reads can't be ended", extra={"fields": {"reason": error.message}})
            return []
        events: list[Event] = [
            SourceLeft(source, "its reads made no progress and were cut off") for source in stuck
        ]
        now = time.monotonic()
        for read in self._in_flight:
            shares[read.source].read_ends(now)
            events.append(ReadStopped(read.segment, read.source))
        self._in_flight.clear()
        return events
