"""The columns in which a manifest travels between mx workers (``mx.peer.v1.OpenTransferReply``).

Addresses and sizes are little-endian u64 arrays in manifest order, names one text joined with
newlines, dtypes an index into a short list: 20,000 tensors cost one allocation per column.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mx.core.tensors import TensorDescriptor
from mx.errors import InvalidArgumentError

# ``dtype_index`` holds one byte per tensor.
_MAX_DTYPES = 256


@dataclass(frozen=True, slots=True)
class ManifestColumns:
    """Fields 11 to 15 of the reply; each holds one item per tensor, except ``dtypes``."""

    addrs: bytes
    sizes: bytes
    names: str
    dtypes: tuple[str, ...]
    dtype_index: bytes


def pack_u64(values: Iterable[int]) -> bytes:
    """Little-endian u64s; InvalidArgumentError for a value that is none."""
    try:
        column = array("Q", values)
    except (OverflowError, TypeError) as error:
        raise InvalidArgumentError(f"an unsigned 64-bit column can't hold these values: {error}") from error
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def unpack_u64(data: bytes) -> array[int]:
    """The values of ``pack_u64``; InvalidArgumentError when the length is no multiple of 8."""
    if len(data) % 8:
        raise InvalidArgumentError(f"a column of unsigned 64-bit values has {len(data)} bytes")
    column = array("Q")
    column.frombytes(data)
    if sys.byteorder == "big":
        column.byteswap()
    return column


def pack_manifest(tensors: Sequence[TensorDescriptor]) -> ManifestColumns:
    """InvalidArgumentError when a name holds a newline or there are more than 256 dtypes."""
    index: dict[str, int] = {}
    for tensor in tensors:
        index.setdefault(tensor.dtype, len(index))
        if "\n" in tensor.name:
            raise InvalidArgumentError(f"tensor name {tensor.name!r} holds a newline")
    if len(index) > _MAX_DTYPES:
        raise InvalidArgumentError(f"a manifest of {len(index)} dtypes; at most {_MAX_DTYPES} fit")
    return ManifestColumns(
        addrs=pack_u64(tensor.addr for tensor in tensors),
        sizes=pack_u64(tensor.size for tensor in tensors),
        names="\n".join(tensor.name for tensor in tensors),
        dtypes=tuple(index),
        dtype_index=bytes(index[tensor.dtype] for tensor in tensors),
    )


def unpack_manifest(columns: ManifestColumns, *, device_id: int) -> tuple[TensorDescriptor, ...]:
    """InvalidArgumentError when the columns don't agree with each other."""
    addrs, sizes = unpack_u64(columns.addrs), unpack_u64(columns.sizes)
    count = len(addrs)
    names = columns.names.split("\n") if count else []
    if not count == len(sizes) == len(names) == len(columns.dtype_index):
        raise InvalidArgumentError(
            f"manifest columns disagree: {count} addresses, {len(sizes)} sizes, {len(names)} names, "
            f"{len(columns.dtype_index)} dtypes"
        )
    if count and max(columns.dtype_index) >= len(columns.dtypes):
        raise InvalidArgumentError(
            f"a manifest names dtype {max(columns.dtype_index)} of {len(columns.dtypes)}"
        )
    dtypes = columns.dtypes
    return tuple(
        TensorDescriptor(name=name, addr=addr, size=size, device_id=device_id, dtype=dtypes[dtype])
        for name, addr, size, dtype in zip(names, addrs, sizes, columns.dtype_index, strict=True)
    )
