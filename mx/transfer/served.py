"""What one worker offers to its peers: a manifest over registered memory, digests, leases.

No gRPC here; ``peer`` puts this on the wire. Thread-safe. Every refusal is an MxError, checked in
the order of the wire contract, section 8.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from mx.core.plan import cut
from mx.core.tensors import HOST_DEVICE, Region, TensorDescriptor, layout_digest
from mx.errors import (
    ExhaustedError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from mx.transfer.digests import Digester, DigestTable

# Lease of an mx reader, which renews it. Long enough for one that finds its sources and then builds
# its model with all cores busy: its threads may not run for a minute.
READER_LEASE_S = 600
# Tables kept for targets that ask for another cut; each costs 8 bytes a segment.
MAX_TABLES = 4


@dataclass(frozen=True, slots=True)
class Offer:
    """The constant part: who offers what. ``tensors`` are descriptors in manifest order."""

    source_id: str
    worker_id: str
    worker_rank: int
    generation: str
    tensors: tuple[TensorDescriptor, ...]
    regions: tuple[Region, ...]
    agent_name: str
    agent_metadata: bytes
    metadata_endpoint: str
    accelerator: str
    digest_kind: str
    layout_digest: str = ""

    @property
    def host_memory(self) -> bool:
        return all(region.device_id == HOST_DEVICE for region in self.regions)

    @property
    def total_bytes(self) -> int:
        return sum(tensor.size for tensor in self.tensors)


@dataclass(slots=True)
class _Lease:
    target: str
    expires_s: float


@dataclass(slots=True)
class _Table:
    """Digests of one cut, and how many readers follow them now."""

    digests: DigestTable
    readers: int = 0


@dataclass(slots=True)
class _Leases:
    """Who reads now; a reader that dies loses its lease by time."""

    live: dict[str, _Lease] = field(default_factory=dict)

    def expire(self, now_s: float) -> None:
        for lease_id in [key for key, lease in self.live.items() if lease.expires_s <= now_s]:
            del self.live[lease_id]


class ServedSource:
    """One published source of this process."""

    def __init__(
        self, offer: Offer, *, digester: Digester, segment_bytes: int, transfer_timeout_s: float
    ) -> None:
        self.offer = replace(offer, layout_digest=layout_digest(offer.tensors))
        # Wire contract, section 8.1: a published reader can't renew.
        self.published_lease_s = math.ceil(2 * max(120.0, transfer_timeout_s) + 30)
        self._digester = digester
        self._segment_bytes = segment_bytes
        self._sizes = [tensor.size for tensor in offer.tensors]
        self._addrs = [tensor.addr for tensor in offer.tensors]
        self._total_bytes = offer.total_bytes
        self._lock = threading.Condition()
        self._leases = _Leases()
        self._draining = False
        # A lock of its own: cutting a large manifest takes a second, which no lease should wait for.
        self._tables_lock = threading.Lock()
        self._tables: OrderedDict[tuple[int, frozenset[int]], _Table] = OrderedDict()
        self._closed = False
        self.bytes_served = 0
        self.failures = 0

    def start(self) -> None:
        """Begin the digests of the usual cut, so that the first reader finds them."""
        self._release(self._acquire(self._segment_bytes, frozenset()))

    # --- checks ---------------------------------------------------------------------------
    def require(self, source_id: str, worker_id: str | None = None) -> None:
        """The ids of a request are ours: InvalidArgumentError, PreconditionError.

        ``worker_id`` None was not said; an empty one was, and is not ours.
        """
        if not source_id:
            raise InvalidArgumentError("mx_source_id is empty")
        if source_id != self.offer.source_id:
            raise PreconditionError(
                f"this worker serves source {self.offer.source_id}, not {source_id}",
                remedy="list the sources again: the record is old",
            )
        if worker_id is not None and worker_id != self.offer.worker_id:
            raise PreconditionError(
                f"this is worker {self.offer.worker_id}, not {worker_id or repr(worker_id)}",
                remedy="list the sources again: the endpoint was reused",
            )

    def require_open(self) -> None:
        if self._draining:
            raise UnavailableError(
                f"worker {self.offer.worker_id} is withdrawing source {self.offer.source_id}"
            )

    # --- leases -----------------------------------------------------------------------------
    def open_lease(self, target: str, lifetime_s: float) -> str:
        with self._lock:
            self.require_open()
            now = time.monotonic()
            self._leases.expire(now)
            lease_id = secrets.token_hex(8)
            self._leases.live[lease_id] = _Lease(target, now + lifetime_s)
            return lease_id

    def renew_lease(self, lease_id: str) -> int:
        with self._lock:
            self._leases.expire(time.monotonic())
            lease = self._leases.live.get(lease_id)
            if lease is None:
                raise NotFoundError(f"lease {lease_id} is unknown or expired")
            lease.expires_s = time.monotonic() + READER_LEASE_S
            return READER_LEASE_S

    def close_lease(self, lease_id: str, *, bytes_read: int = 0, failed: bool = False) -> None:
        """End a read. NotFoundError for an unknown, expired or already released lease.

        ``bytes_read`` is what the reader says, and counts for at most all that there is.
        """
        with self._lock:
            self._leases.expire(time.monotonic())
            if self._leases.live.pop(lease_id, None) is None:
                raise NotFoundError(f"lease {lease_id} is unknown or expired")
            self.bytes_served += min(bytes_read, self._total_bytes)
            self.failures += failed
            self._lock.notify_all()

    @property
    def active_leases(self) -> int:
        with self._lock:
            self._leases.expire(time.monotonic())
            return len(self._leases.live)

    def load(self) -> float | None:
        """How busy this source is, for listings: above 0.5 and towards 1.0 with every reader.

        None, which is unknown, while no lease is held: published targets read without one, and what
        else the worker does is not known here. 0.0 would say that it is idle.
        """
        readers = self.active_leases
        return 1 - 1 / (readers + 2) if readers else None

    @property
    def draining(self) -> bool:
        return self._draining

    def drain(self, *, deadline_s: float) -> bool:
        """Refuse new readers and wait for the running ones; False when the deadline came first."""
        with self._lock:
            self._draining = True
            end = time.monotonic() + deadline_s
            while self._leases.live:
                self._leases.expire(time.monotonic())
                left = end - time.monotonic()
                if not self._leases.live:
                    break
                if left <= 0:
                    return False
                self._lock.wait(min(left, 0.5))
        return True

    def close(self) -> None:
        """End the digest threads; afterwards the memory may change."""
        with self._lock:
            self._draining = True
        with self._tables_lock:
            self._closed = True
            tables = list(self._tables.values())
            self._tables.clear()
        for table in tables:
            table.digests.close()

    # --- digests ----------------------------------------------------------------------------
    def digests(
        self, *, segment_bytes: int, first: int, skip: frozenset[int], timeout_s: float = 30.0
    ) -> Iterator[tuple[int, array[int], bool]]:
        """(first segment, digests, last) as they become known; ends early when the source closes."""
        table = self._acquire(segment_bytes, skip)
        try:
            yield from self._follow(table.digests, first, timeout_s)
        finally:
            self._release(table)

    def _follow(
        self, table: DigestTable, first: int, timeout_s: float
    ) -> Iterator[tuple[int, array[int], bool]]:
        if first > table.segments:
            raise InvalidArgumentError(f"segment {first} of {table.segments} was asked for")
        while first < table.segments:
            known = table.wait_from(first, timeout_s=timeout_s)
            if not known:
                raise UnavailableError(f"worker {self.offer.worker_id} has no digest of segment {first}")
            first += len(known)
            yield first - len(known), known, first == table.segments
        if not table.segments:
            yield 0, array("Q"), True

    @property
    def digest_readers(self) -> int:
        """Streams of digests under way."""
        with self._tables_lock:
            return sum(table.readers for table in self._tables.values())

    def _acquire(self, segment_bytes: int, skip: frozenset[int]) -> _Table:
        """The table of a cut, computed from now on if it was not there; ``_release`` it."""
        if skip and max(skip) >= len(self._sizes):
            raise InvalidArgumentError(f"tensor {max(skip)} of {len(self._sizes)} is to be skipped")
        key = (segment_bytes, skip)
        with self._tables_lock:
            if self._closed:
                raise UnavailableError(f"worker {self.offer.worker_id} no longer serves digests")
            table = self._tables.get(key)
            if table is not None and table.digests.error:
                del self._tables[key]
                table = None
            old = None
            if table is None:
                old = self._make_room()
                table = self._tables[key] = _Table(self._start_table(segment_bytes, skip))
            self._tables.move_to_end(key)
            table.readers += 1
        if old is not None:
            old.digests.close()
        return table

    def _start_table(self, segment_bytes: int, skip: frozenset[int]) -> DigestTable:
        try:
            plan = cut(self._sizes, segment_bytes=segment_bytes, skip=skip)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from error
        table = DigestTable(plan, self._addrs, self._digester)
        table.start()
        return table

    def _make_room(self) -> _Table | None:
        """Take away the table that nobody has used for longest, when there are enough."""
        if len(self._tables) < MAX_TABLES:
            return None
        for key, table in self._tables.items():
            if not table.readers:
                return self._tables.pop(key)
        raise ExhaustedError(
            f"worker {self.offer.worker_id} computes digests of {MAX_TABLES} cuts already",
            remedy="another cut can be had when one of their readers is done",
        )

    def _release(self, table: _Table) -> None:
        with self._tables_lock:
            table.readers -= 1


def bitmap(indices: Sequence[int] | frozenset[int], count: int) -> bytes:
    """Bit i of the result, least significant first, is set for each index; empty for none."""
    if not indices:
        return b""
    out = bytearray(-(-count // 8))
    for index in indices:
        out[index // 8] |= 1 << index % 8
    return bytes(out)


def from_bitmap(data: bytes, count: int) -> frozenset[int]:
    """The indices, each below ``count``; InvalidArgumentError, before anything is expanded, for more."""
    if len(data) > -(-count // 8) or (data and int.from_bytes(data, "little") >> count):
        raise InvalidArgumentError(f"a bitmap of {len(data)} bytes skips more than {count} tensors")
    return frozenset(
        8 * i + bit for i, byte in enumerate(data) if byte for bit in range(8) if byte >> bit & 1
    )
