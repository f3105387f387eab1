"""Plans: pure, gapless, nearly equal, and equal for everyone who holds the same manifest."""

from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mx.core.plan import MIN_SEGMENT_BYTES, RegionMap, cut, join, merge_regions
from mx.core.tensors import Region

SIZES = st.lists(
    st.one_of(st.just(0), st.integers(1, 64), st.integers(1, 3 * MIN_SEGMENT_BYTES)), max_size=60
)


@given(sizes=SIZES, segment=st.integers(MIN_SEGMENT_BYTES, 4 * MIN_SEGMENT_BYTES), data=st.data())
def test_every_wanted_byte_is_in_exactly_one_piece(
    sizes: list[int], segment: int, data: st.DataObject
) -> None:
    skip = frozenset(data.draw(st.sets(st.integers(0, len(sizes) - 1)))) if sizes else frozenset()
    plan = cut(sizes, segment_bytes=segment, skip=skip)
    covered = [0] * len(sizes)
    for piece in range(len(plan.tensor)):
        tensor = plan.tensor[piece]
        assert plan.offset[piece] == covered[tensor], "pieces of a tensor follow each other without gap"
        assert plan.length[piece] > 0
        covered[tensor] += plan.length[piece]
    assert covered == [0 if i in skip else size for i, size in enumerate(sizes)]
    assert plan.bounds[0] == 0
    assert plan.bounds[-1] == len(plan.tensor)
    for index in range(plan.segments):
        pieces = plan.pieces(index)
        assert len(pieces) > 0, "no segment is empty"
        assert plan.sizes[index] == sum(plan.length[p] for p in pieces)


@given(sizes=SIZES, segment=st.integers(MIN_SEGMENT_BYTES, 4 * MIN_SEGMENT_BYTES))
def test_segments_are_nearly_equal(sizes: list[int], segment: int) -> None:
    plan = cut(sizes, segment_bytes=segment)
    if plan.segments > 1:
        ideal = sum(sizes) / -(-sum(sizes) // segment)
        assert max(plan.sizes) <= ideal + 2 * 4096
        assert plan.segments <= -(-sum(sizes) // segment)


def test_a_tensor_larger_than_a_segment_is_cut_on_page_boundaries() -> None:
    plan = cut([10 * MIN_SEGMENT_BYTES + 5], segment_bytes=MIN_SEGMENT_BYTES)
    assert plan.segments == 11
    assert all(offset % 4096 == 0 for offset in plan.offset)


def test_too_small_a_segment_is_refused() -> None:
    with pytest.raises(ValueError, match="below"):
        cut([1], segment_bytes=10)


def layout(sizes: list[int], gaps: list[int], base: int) -> list[int]:
    addrs, at = [], base
    for size, gap in zip(sizes, gaps, strict=True):
        at += gap
        addrs.append(at)
        at += size
    return addrs


@settings(max_examples=200)
@given(data=st.data())
def test_joined_ranges_copy_the_same_bytes_and_stay_inside_regions(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 40_000), min_size=1, max_size=30))
    gap = st.sampled_from([0, 0, 0, 64, 9000])
    gaps = st.lists(gap, min_size=len(sizes), max_size=len(sizes))
    local = layout(sizes, data.draw(gaps), 1 << 20)
    remote = layout(sizes, data.draw(gaps), 1 << 30)
    slice_bytes = data.draw(st.sampled_from([0, 8192, 65536]))
    local_regions = merge_regions(zip(local, sizes, strict=True), device=0, slice_bytes=slice_bytes)
    remote_regions = merge_regions(zip(remote, sizes, strict=True), device=0, slice_bytes=slice_bytes)
    per_tensor = data.draw(st.booleans())
    plan = cut(sizes, segment_bytes=MIN_SEGMENT_BYTES)
    copied: dict[int, int] = {}
    for segment in range(plan.segments):
        extents = join(
            plan,
            segment,
            local_addrs=local,
            remote_addrs=remote,
            local_regions=RegionMap(local_regions),
            remote_regions=None if per_tensor else RegionMap(remote_regions),
            local_device=0,
            remote_device=0,
        )
        assert extents.total_bytes == plan.sizes[segment]
        for mine, theirs, length in zip(extents.local_addr, extents.remote_addr, extents.length, strict=True):
            assert inside(mine, length, local_regions)
            if per_tensor:
                index = bisect_right(remote, theirs) - 1
                assert theirs + length <= remote[index] + sizes[index], (
                    "never across tensors of a published peer"
                )
            else:
                assert inside(theirs, length, remote_regions)
            copied[mine] = theirs
            copied[mine + length - 1] = theirs + length - 1
    for tensor, size in enumerate(sizes):
        if local[tensor] in copied:
            assert copied[local[tensor]] == remote[tensor]
        assert copied.get(local[tensor] + size - 1, remote[tensor] + size - 1) == remote[tensor] + size - 1


def inside(addr: int, length: int, regions: tuple[Region, ...]) -> bool:
    return any(r.addr <= addr and addr + length <= r.addr + r.size for r in regions)


def test_neighbouring_tensors_become_one_range() -> None:
    sizes = [4096] * 1000
    addrs = [i * 4096 for i in range(1000)]
    regions = RegionMap([Region(0, 4096 * 1000, 0)])
    plan = cut(sizes, segment_bytes=1 << 20)
    for segment in range(plan.segments):
        extents = join(
            plan,
            segment,
            local_addrs=addrs,
            remote_addrs=addrs,
            local_regions=regions,
            remote_regions=regions,
            local_device=0,
            remote_device=0,
        )
        assert len(extents.length) == 1


def test_regions_merge_by_page_and_never_cover_a_foreign_page() -> None:
    assert merge_regions([(20_000, 1), (100, 50), (5000, 10), (7, 0)], device=0) == (
        Region(0, 8192, 0),
        Region(16_384, 4096, 0),
    )
    assert merge_regions([], device=3) == ()
    assert merge_regions([(0, 40_960)], device=0, slice_bytes=16_384) == (
        Region(0, 16_384, 0),
        Region(16_384, 16_384, 0),
        Region(32_768, 8192, 0),
    )
