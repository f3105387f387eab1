"""What a source says it holds, checked: a manifest that can't be right ends here and not in a read.

Addresses are the source's own and mean nothing here, so all that can be asked of them is that they
agree with each other. Whether they are registered its agent decides, for every read.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mx.core.plan import RegionMap
from mx.core.tensors import HOST_DEVICE, Region, TensorDescriptor, layout_digest
from mx.errors import InvalidArgumentError, PreconditionError
from mx.wire.manifest import ManifestColumns, unpack_manifest, unpack_u64
from mx.wire.v1 import peer

# Ranges end at or below this: beyond it arithmetic on addresses no longer fits the wire.
ADDRESS_END = 1 << 64
# No process has user memory this high; with any size of a real tensor it stays below ADDRESS_END.
USER_END = 1 << 63


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """What a source holds, in its order. ``tensors`` is None when its layout equals the target's.

    ``regions`` None: each tensor is a region of its own. ``device`` is HOST_DEVICE or an ordinal.
    """

    addrs: array[int]
    tensors: tuple[TensorDescriptor, ...] | None
    layout_digest: str
    regions: RegionMap | None
    device: int


def columns_manifest(reply: peer.OpenTransferReply, *, layout: str) -> RemoteManifest:
    """The manifest of an mx peer. ``layout`` is what the target sent, "" when it did not know its own.

    Raises InvalidArgumentError for one that contradicts itself.
    """
    device = HOST_DEVICE if reply.host_memory else reply.device_id
    addrs, tensors = unpack_u64(reply.addrs), None
    if reply.same_layout:
        if not layout or reply.layout_digest != layout:
            raise InvalidArgumentError("it takes the target's layout for its own, and names another layout")
        if addrs and max(addrs) >= USER_END:
            raise InvalidArgumentError(f"a tensor can't lie at {max(addrs):#x}")
    else:
        columns = ManifestColumns(
            addrs=reply.addrs,
            sizes=reply.sizes,
            names=reply.names,
            dtypes=tuple(reply.dtypes),
            dtype_index=reply.dtype_index,
        )
        tensors = unpack_manifest(columns, device_id=reply.device_id)
        _require_ranges(tensors)
        if layout_digest(tensors) != reply.layout_digest:
            raise InvalidArgumentError("its tensors do not have the layout digest it names")
    return RemoteManifest(addrs, tensors, reply.layout_digest, _regions(reply.regions, device), device)


def plain_manifest(tensors: Sequence[TensorDescriptor], accelerator: str) -> RemoteManifest:
    """The manifest of a published peer.

    Raises InvalidArgumentError for impossible addresses, PreconditionError for several devices: a
    read is from one, and takes addresses of the others for its own.
    """
    held = tuple(tensors)
    _require_ranges(held)
    device = HOST_DEVICE if accelerator == "cpu" or not held else held[0].device_id
    for tensor in held if device != HOST_DEVICE else ():
        if tensor.device_id != device:
            raise PreconditionError(
                f"tensor {tensor.name} is on device {tensor.device_id}, {held[0].name} on {device}; "
                "mx reads from one device of a source"
            )
    return RemoteManifest(
        array("Q", [tensor.addr for tensor in held]), held, layout_digest(held), None, device
    )


def _require_ranges(tensors: Iterable[TensorDescriptor]) -> None:
    for tensor in tensors:
        if tensor.addr + tensor.size > ADDRESS_END:
            raise InvalidArgumentError(
                f"tensor {tensor.name} can't lie at {tensor.addr:#x} with {tensor.size} bytes"
            )


def _regions(packed: bytes, device: int) -> RegionMap:
    pairs = unpack_u64(packed)
    if len(pairs) % 2:
        raise InvalidArgumentError("its regions are no pairs of address and size")
    regions = [Region(pairs[i], pairs[i + 1], device) for i in range(0, len(pairs), 2)]
    for region in regions:
        if not region.size or region.addr + region.size > ADDRESS_END:
            raise InvalidArgumentError(f"a region can't lie at {region.addr:#x} with {region.size} bytes")
    return RegionMap(regions)
