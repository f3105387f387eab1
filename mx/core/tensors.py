"""Tensors by name: descriptors, manifests, and whether a target can be filled from a source."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Release 0.3.0 sent synthetic regions under this dtype; they can't be matched and are refused.
REGION_DTYPE = "contiguous_region"
# Device of host memory in regions and extents; devices count from 0.
HOST_DEVICE = -1


@dataclass(frozen=True, slots=True)
class TensorDescriptor:
    """Where one tensor lies: ``addr`` is absolute in its process, ``size`` is in bytes."""

    name: str
    addr: int
    size: int
    device_id: int
    dtype: str


@dataclass(frozen=True, slots=True)
class Region:
    """A range of memory to register, page-aligned where it is host memory."""

    addr: int
    size: int
    device_id: int


@dataclass(frozen=True, slots=True)
class Extents:
    """Ranges of one read: element i of each array belongs together. All are ``array('Q')``."""

    local_addr: array[int]
    remote_addr: array[int]
    length: array[int]
    local_device: int
    remote_device: int

    @property
    def total_bytes(self) -> int:
        return sum(self.length)


def layout_digest(tensors: Iterable[TensorDescriptor]) -> str:
    """32 hex digits over names, sizes and dtypes in order; equal digests cut equal segments."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update("\n".join(f"{t.name}\t{t.size}\t{t.dtype}" for t in tensors).encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a target can't be filled. Each tuple holds the first few names, ``*_count`` all of them."""

    missing_on_source: tuple[str, ...] = ()
    missing_count: int = 0
    different: tuple[str, ...] = ()
    different_count: int = 0
    extra_on_source: tuple[str, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        parts = []
        if self.missing_count:
            parts.append(
                _first(f"{self.missing_count} local tensors the source lacks", self.missing_on_source)
            )
        if self.different_count:
            parts.append(_first(f"{self.different_count} tensors differ", self.different))
        if self.extra_on_source:
            parts.append(_first("the source also has", self.extra_on_source))
        return "; ".join(parts)


def _first(label: str, names: Sequence[str]) -> str:
    return f"{label}: {', '.join(names)}"


_SHOWN = 3


def match(
    local: Sequence[TensorDescriptor], remote: Sequence[TensorDescriptor]
) -> tuple[int, ...] | Mismatch:
    """Index into ``local`` for each remote tensor, in the source's order; -1 where it is not wanted.

    Every local tensor that has bytes must be covered by one remote tensor of equal name, size and
    dtype, and there must be at least one: zero matches is never success. An empty one may be
    missing, since published manifests of mx leave it out.
    """
    if not local:
        return Mismatch(reason="the target has no tensors to fill")
    by_name = {tensor.name: index for index, tensor in enumerate(local)}
    if len(by_name) != len(local):
        return Mismatch(reason="the target lists a tensor name twice")
    order: list[int] = []
    different: list[str] = []
    extra: list[str] = []
    seen: set[str] = set()
    for tensor in remote:
        index = by_name.get(tensor.name, -1)
        if tensor.dtype == REGION_DTYPE:
            return Mismatch(reason=f"the source sent a region instead of tensors: {tensor.name}")
        if tensor.name in seen:
            return Mismatch(reason=f"the source lists tensor {tensor.name} twice")
        seen.add(tensor.name)
        order.append(index)
        if index < 0:
            extra.append(tensor.name)
            continue
        mine = local[index]
        if mine.size != tensor.size or mine.dtype != tensor.dtype:
            different.append(
                f"{tensor.name} ({mine.size} B {mine.dtype} here, {tensor.size} B {tensor.dtype} there)"
            )
    missing = [tensor.name for tensor in local if tensor.size and tensor.name not in seen]
    if not missing and not different and all(index < 0 for index in order):
        return Mismatch(reason="the source has none of the target's tensors")
    if missing or different:
        return Mismatch(
            missing_on_source=tuple(missing[:_SHOWN]),
            missing_count=len(missing),
            different=tuple(different[:_SHOWN]),
            different_count=len(different),
            extra_on_source=tuple(extra[:_SHOWN]),
        )
    return tuple(order)
