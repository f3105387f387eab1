"""What is read, and in which pieces: a pure function of a manifest.

The bytes of a manifest, in its own order, form one stream. The stream is cut into segments of
nearly equal size; a segment is the unit that is read, verified and re-queued. Addresses play no
part in the cut, so every replica of the same manifest gets the same segments under the same ids,
and digests made by the source fit what the target reads.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mx.core.tensors import Extents, Region

# Cuts inside a tensor fall on this boundary: whole pages keep copies and registrations aligned.
CUT_ALIGN = 4096
# Below this, one more read costs more than the parallelism it buys.
MIN_SEGMENT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """Pieces of tensors in stream order; segment i owns pieces ``bounds[i]`` to ``bounds[i+1]``.

    tensor  index into the manifest, one per piece
    offset  bytes from the start of that tensor
    length  bytes
    sizes   bytes per segment
    """

    segment_bytes: int
    tensor: array[int]
    offset: array[int]
    length: array[int]
    bounds: array[int]
    sizes: array[int]

    @property
    def segments(self) -> int:
        return len(self.sizes)

    @property
    def total_bytes(self) -> int:
        return sum(self.sizes)

    def pieces(self, segment: int) -> range:
        return range(self.bounds[segment], self.bounds[segment + 1])


def cut(tensor_sizes: Sequence[int], *, segment_bytes: int, skip: frozenset[int] = frozenset()) -> Plan:
    """Cut a manifest into segments of at most about ``segment_bytes``.

    ``tensor_sizes`` are bytes in manifest order; tensors in ``skip`` and empty ones have no piece.
    Raises ValueError for a segment size below MIN_SEGMENT_BYTES.
    """
    if segment_bytes < MIN_SEGMENT_BYTES:
        raise ValueError(f"segment size {segment_bytes} is below {MIN_SEGMENT_BYTES} bytes")
    total = sum(tensor_sizes) - sum(tensor_sizes[index] for index in skip)
    count = max(1, -(-total // segment_bytes)) if total else 0
    ends = [total * (k + 1) // count for k in range(count)]
    plan = Plan(segment_bytes, array("Q"), array("Q"), array("Q"), array("Q", [0]), array("Q"))
    tensors, offsets, lengths = plan.tensor, plan.offset, plan.length
    segment_start = position = segment = 0
    end = ends[0] if ends else 0
    for index, size in enumerate(tensor_sizes):
        if not size or index in skip:
            continue
        offset = 0
        while offset < size:
            room = end - position
            left = size - offset
            take = left
            if left > room and segment < count - 1:
                # Up, never down: a segment that ends where it began would be empty.
                take = min(left, -(-(offset + room) // CUT_ALIGN) * CUT_ALIGN - offset)
            tensors.append(index)
            offsets.append(offset)
            lengths.append(take)
            offset += take
            position += take
            while position >= end and segment < count - 1:
                if position > segment_start:
                    plan.sizes.append(position - segment_start)
                    plan.bounds.append(len(tensors))
                segment_start = position
                segment += 1
                end = ends[segment]
    if position > segment_start:
        plan.sizes.append(position - segment_start)
        plan.bounds.append(len(tensors))
    return plan


class RegionMap:
    """Which registered region an address lies in. ``None`` regions: every tensor is its own region."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, regions: Sequence[Region]) -> None:
        ordered = sorted(regions, key=lambda region: region.addr)
        self._starts = [region.addr for region in ordered]
        self._ends = [region.addr + region.size for region in ordered]

    def end_of(self, addr: int) -> int:
        """End of the region that holds ``addr``; ``addr`` itself when none does."""
        index = bisect_right(self._starts, addr) - 1
        return self._ends[index] if index >= 0 and addr < self._ends[index] else addr


def join(
    plan: Plan,
    segment: int,
    *,
    local_addrs: Sequence[int],
    remote_addrs: Sequence[int],
    local_regions: RegionMap,
    remote_regions: RegionMap | None,
    local_device: int,
    remote_device: int,
) -> Extents:
    """Ranges of one segment; neighbours that lie in one region on both sides are one range.

    ``local_addrs`` and ``remote_addrs`` are tensor addresses by manifest index. Without
    ``remote_regions`` (a published peer registers each tensor by itself) nothing is joined.
    """
    local, remote, length = array("Q"), array("Q"), array("Q")
    local_end = remote_end = local_limit = remote_limit = 0
    tensor, offset, size = plan.tensor, plan.offset, plan.length
    for piece in plan.pieces(segment):
        shift = offset[piece]
        mine = local_addrs[tensor[piece]] + shift
        theirs = remote_addrs[tensor[piece]] + shift
        left = size[piece]
        while left:
            if mine == local_end and theirs == remote_end and mine < local_limit and theirs < remote_limit:
                take = min(left, local_limit - mine, remote_limit - theirs)
                length[-1] += take
            else:
                local_limit = local_regions.end_of(mine)
                remote_limit = theirs + left if remote_regions is None else remote_regions.end_of(theirs)
                # An address outside every region is passed on whole: the backend names it in its error.
                take = min(left, max(local_limit - mine, 0) or left, max(remote_limit - theirs, 0) or left)
                local.append(mine)
                remote.append(theirs)
                length.append(take)
            mine += take
            theirs += take
            left -= take
            local_end, remote_end = mine, theirs
    return Extents(local, remote, length, local_device, remote_device)


def merge_regions(
    ranges: Iterable[tuple[int, int]], *, device: int, page_bytes: int = 4096, slice_bytes: int = 0
) -> tuple[Region, ...]:
    """Page-aligned regions of one device that cover all (address, bytes) ranges.

    Touching pages merge and large regions are sliced (``slice_bytes`` 0: never). Only pages that
    hold a byte of a range are covered, so nothing else is ever pinned or served beyond the page a
    tensor shares with its neighbour.
    """
    merged: list[tuple[int, int]] = []
    start = end = -page_bytes
    for addr, size in sorted(ranges):
        if not size:
            continue
        high = addr + size
        if addr < end + page_bytes:  # its first page overlaps or touches what is there
            if high > end:
                end = -(-high // page_bytes) * page_bytes
            continue
        low = addr // page_bytes * page_bytes
        high = -(-high // page_bytes) * page_bytes
        if end >= 0:
            merged.append((start, end))
        start, end = low, high
    if end >= 0:
        merged.append((start, end))
    step = max(page_bytes, slice_bytes // page_bytes * page_bytes) if slice_bytes > 0 else 0
    return tuple(
        Region(addr, min(step, high - addr) if step else high - low, device)
        for low, high in merged
        for addr in (range(low, high, step) if step else (low,))
    )
