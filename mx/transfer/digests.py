"""Digests of segments: what they are, and a table that computes them once and in order.

Kinds, named in every manifest:

    xxh3-64   XXH3 with 64 bits over the bytes of the segment in stream order. Host memory.
    sum64p    positional 64-bit sum, computed by the device that holds the tensors
              (``torch_tensors``); the host can compute the same.

Both find a flipped, swapped, shifted, torn or stale byte with a probability of 1 - 2**-64 for
accidents. Neither is meant against an attacker who can write into a source's memory.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from array import array
from collections.abc import Callable, Sequence

import xxhash

from mx.core.plan import Plan
from mx.errors import UnavailableError

log = logging.getLogger(__name__)

XXH3 = "xxh3-64"

# Digest of a list of (address, bytes) ranges, read in order.
Digester = Callable[[Sequence[tuple[int, int]]], int]


def host_digest(ranges: Sequence[tuple[int, int]]) -> int:
    """XXH3-64 over host memory. The interpreter lock is free while bytes are read."""
    if len(ranges) == 1:
        addr, size = ranges[0]
        return xxhash.xxh3_64_intdigest((ctypes.c_char * size).from_address(addr))
    # One view over all of it: making one for each range costs more than hashing a small tensor.
    base = min((addr for addr, _ in ranges), default=0)
    span = max((addr + size for addr, size in ranges), default=0) - base
    view = memoryview((ctypes.c_char * span).from_address(base)).cast("B")
    state = xxhash.xxh3_64()
    for addr, size in ranges:
        state.update(view[addr - base : addr - base + size])
    return state.intdigest()


def segment_ranges(plan: Plan, segment: int, addrs: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of one segment in stream order, neighbours joined: the digest doesn't see the joints."""
    ranges: list[tuple[int, int]] = []
    start = end = 0
    for piece in plan.pieces(segment):
        addr = addrs[plan.tensor[piece]] + plan.offset[piece]
        if addr != end:
            if end:
                ranges.append((start, end - start))
            start = addr
        end = addr + plan.length[piece]
    if end:
        ranges.append((start, end - start))
    return ranges


class DigestTable:
    """Digests of one plan over one memory, computed by one thread in segment order.

    A reader that comes early waits for its segment only. A digester that fails ends the table:
    ``error`` says why. ``close`` ends the thread before the memory may change.
    """

    def __init__(self, plan: Plan, addrs: Sequence[int], digester: Digester) -> None:
        self._plan = plan
        self._addrs = addrs
        self._digester = digester
        self._digests = array("Q")
        self._changed = threading.Condition()
        self._closed = False
        self.error = ""
        self._thread = threading.Thread(target=self._compute, name="mx-digests", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _compute(self) -> None:
        try:
            for segment in range(self._plan.segments):
                if self._closed:
                    return
                digest = self._digester(segment_ranges(self._plan, segment, self._addrs))
                with self._changed:
                    self._digests.append(digest)
                    self._changed.notify_all()
        except Exception as error:
            # Whatever a device's library raises: readers must learn of it, not wait for a dead thread.
            log.exception("digests of this source ended", extra={"fields": {"known": len(self._digests)}})
            with self._changed:
                self.error = f"digests can't be computed: {str(error) or type(error).__name__}"
                self._changed.notify_all()

    def wait_from(self, first: int, *, timeout_s: float) -> array[int]:
        """Digests known from segment ``first`` on; waits for the first of them.

        Empty when there is nothing more to come, the time is over, or the table was closed. Raises
        UnavailableError when none of them will be known because the digester failed.
        """

        def settled() -> bool:
            return self._closed or bool(self.error) or len(self._digests) > first

        with self._changed:
            self._changed.wait_for(settled, timeout=timeout_s)
            if self._closed:
                return array("Q")
            if self.error and len(self._digests) <= first:
                raise UnavailableError(self.error)
            return self._digests[first:]

    @property
    def segments(self) -> int:
        return self._plan.segments

    @property
    def complete(self) -> bool:
        return len(self._digests) == self._plan.segments

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
