"""The tensors of a torch model as descriptors, and a digest that a device computes by itself.

The only file of this package that imports torch. Names, order and duplicates follow the
published rules (wire contract, section 12): source and target match by name alone, so two
workers must list equal models equally. Nothing here changes the model: what the published
rules call adopting is only listing here.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

import torch

from mx.core.tensors import TensorDescriptor
from mx.errors import InternalError, PreconditionError

HIDDEN_PREFIX: Final = "_mx_"
_STORAGE_SUFFIX: Final = ".__storage"
_MAX_DEPTH: Final = 20
_SHOWN: Final = 3
# What torch itself keeps in a module's dictionary.
_MODULE_INTERNALS: Final = frozenset(vars(torch.nn.Module()))


@dataclass(frozen=True, slots=True)
class NamedTensor:
    """One listed tensor. ``tensor`` is contiguous and detached, and keeps its memory alive.

    ``is_buffer`` tells the buffers (and what is listed like one) from the parameters.
    """

    name: str
    tensor: torch.Tensor
    is_buffer: bool

    @property
    def size_bytes(self) -> int:
        return int(self.tensor.nbytes)

    def descriptor(self) -> TensorDescriptor:
        """Address and size of this tensor; host memory is listed as device 0."""
        device = self.tensor.device
        return TensorDescriptor(
            name=self.name,
            addr=self.tensor.data_ptr(),
            size=self.size_bytes,
            device_id=device.index or 0,
            dtype=str(self.tensor.dtype),
        )


def list_tensors(model: torch.nn.Module, *, device_type: str) -> tuple[NamedTensor, ...]:
    """Every tensor of ``model`` that lies on ``device_type`` ("cuda", "cpu", …), in wire order.

    Parameters, then buffers, plain tensor attributes of modules, and tensors hidden in lists,
    tuples, dicts and objects that modules hold. Tied tensors are listed once, a non-contiguous
    tensor as its whole storage, an empty one with size 0.
    """
    listing = _Listing(device_type)
    for name, parameter in model.named_parameters():
        listing.add(name, parameter, is_buffer=False)
    found = _buffers(model, listing)
    for name, tensor in found:
        listing.add(name, tensor, is_buffer=True)
    return tuple(listing.tensors)


def descriptors(tensors: Sequence[NamedTensor]) -> tuple[TensorDescriptor, ...]:
    """Descriptors in the order of ``tensors``."""
    return tuple(tensor.descriptor() for tensor in tensors)


def check_coverage(model: torch.nn.Module, tensors: Sequence[NamedTensor], *, device_type: str) -> None:
    """Refuse a listing that leaves out bytes of a parameter or buffer of ``model``.

    Raises PreconditionError naming the first tensors that lie elsewhere (offloaded to the host,
    or not allocated yet): a target filled from such a listing would be wrong in silence.
    """
    listed = _merged(_range(item.tensor) for item in tensors)
    elsewhere: list[str] = []
    for name, tensor in _owned(model):
        if tensor.numel() == 0:
            continue
        if tensor.is_meta or tensor.device.type != device_type:
            elsewhere.append(f"{name} on {tensor.device}")
        elif not _covered(_range(tensor), listed):
            elsewhere.append(f"{name}, which shares memory with a shorter tensor")
    if elsewhere:
        shown = ", ".join(elsewhere[:_SHOWN])
        raise PreconditionError(
            f"{len(elsewhere)} tensors can't be transferred from {device_type} memory: {shown}",
            remedy="mx transfers models that lie wholly in the memory of one device",
        )


def _owned(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _range(tensor: torch.Tensor) -> tuple[int, int]:
    """First address and the one after the last; the whole storage when it isn't contiguous."""
    if tensor.is_contiguous():
        start = tensor.data_ptr()
        return start, start + tensor.numel() * tensor.element_size()
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end > start:
            merged.append((start, end))
    return merged


def _covered(wanted: tuple[int, int], merged: list[tuple[int, int]]) -> bool:
    index = bisect_right(merged, (wanted[0], 1 << 65)) - 1
    return index >= 0 and merged[index][0] <= wanted[0] and wanted[1] <= merged[index][1]


class _Listing:
    """Grows the list by the rules for contiguity, duplicates and empty tensors."""

    def __init__(self, device_type: str) -> None:
        self.device_type = device_type
        self.tensors: list[NamedTensor] = []
        self.pointers: set[int] = set()

    def add(self, name: str, tensor: torch.Tensor, *, is_buffer: bool) -> None:
        tensor = tensor.detach()
        if tensor.is_meta or tensor.device.type != self.device_type:
            return
        if tensor.numel() == 0:
            self.tensors.append(NamedTensor(name, tensor, is_buffer))
            return
        if not tensor.is_contiguous():
            name += _STORAGE_SUFFIX
            tensor = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
        pointer = tensor.data_ptr()
        if pointer not in self.pointers:
            self.pointers.add(pointer)
            self.tensors.append(NamedTensor(name, tensor, is_buffer))


def _buffers(model: torch.nn.Module, listing: _Listing) -> list[tuple[str, torch.Tensor]]:
    """Buffers of each module, then its plain tensor attributes, then what is hidden in the rest."""
    known = {tensor.data_ptr() for _, tensor in _owned(model) if not tensor.is_meta and tensor.numel()}
    plain: dict[int, list[tuple[str, torch.Tensor]]] = {}
    for module in model.modules():
        rows = [(name, value) for name, value in vars(module).items() if isinstance(value, torch.Tensor)]
        plain[id(module)] = rows
        known.update(value.data_ptr() for _, value in rows if not value.is_meta and value.numel())
    visited: set[int] = set()  # shared: modules hold the same config objects, which are walked once
    hidden = {
        id(module): _hidden_of(
            module, known, taken={name for name, _ in plain[id(module)]}, visited=visited, listing=listing
        )
        for module in model.modules()
    }
    found: list[tuple[str, torch.Tensor]] = []
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        dot = f"{prefix}." if prefix else ""
        own = [(name, tensor) for name, tensor in module._buffers.items() if tensor is not None]
        for name, tensor in (*own, *plain[id(module)], *hidden[id(module)]):
            if id(tensor) not in seen:  # a tensor object shared by modules counts once, as buffers do
                seen.add(id(tensor))
                found.append((dot + name, tensor))
    return found


def _hidden_of(
    module: torch.nn.Module, known: set[int], *, taken: set[str], visited: set[int], listing: _Listing
) -> list[tuple[str, torch.Tensor]]:
    taken |= {*module._parameters, *module._buffers, *module._modules}
    rows: list[tuple[str, torch.Tensor]] = []
    for attribute, value in vars(module).items():
        if attribute in _MODULE_INTERNALS or isinstance(value, torch.Tensor | torch.nn.Module):
            continue
        for path, tensor in _walk(value, (), visited):
            if tensor.is_meta or tensor.device.type != listing.device_type or tensor.numel() == 0:
                continue
            if tensor.data_ptr() in known:
                continue
            known.add(tensor.data_ptr())
            name = _hidden_name(attribute, path, taken)
            taken.add(name)
            rows.append((name, tensor))
    return rows


def _hidden_name(attribute: str, path: tuple[str, ...], taken: set[str]) -> str:
    text = "_".join((attribute, *path, "t"))
    base = HIDDEN_PREFIX + text.replace(".", "__dot__").replace("[", "").replace("]", "")
    name, count = base, 0
    while name in taken:
        name, count = f"{base}_{count}", count + 1
    return name


def _walk(
    value: object, path: tuple[str, ...], visited: set[int]
) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
    """Tensors below ``value`` with their path; modules, classes and imported modules are left alone."""
    if isinstance(value, torch.Tensor):
        yield path, value
        return
    if len(path) > _MAX_DEPTH or id(value) in visited:
        return
    children = _children(value)
    if not children:
        return
    visited.add(id(value))
    for key, child in children:
        yield from _walk(child, (*path, key), visited)


def _children(value: object) -> list[tuple[str, object]]:
    if isinstance(value, str | bytes | int | float | type | torch.nn.Module | ModuleType):
        return []
    if isinstance(value, Mapping):
        return [(str(key), child) for key, child in list(value.items())]
    if isinstance(value, list | tuple):
        return [(str(index), child) for index, child in enumerate(value)]
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        return [(key, child) for key, child in list(attributes.items()) if not str(key).startswith("__")]
    return []


# --- digest on the device -------------------------------------------------------------------

SUM64P: Final = "sum64p"
TILE_WORDS: Final = 16384
_MASK: Final = (1 << 64) - 1
_COLUMN_SEED: Final = 0x6D78_636F_6C75_6D6E
_TILE_SEED: Final = 0x6D78_7469_6C65_7331
_LENGTH_SEED: Final = 0x6D78_6C65_6E67_7468


def positional_sum64(data: torch.Tensor) -> int:
    """Digest of the bytes of a contiguous tensor, computed where the tensor lies.

    Definition. The bytes, zero-padded to whole 64-bit little-endian words w[0], w[1], …, give

        D = mix(LENGTH + n) + Σ_i  c[i // 16384] · a[i % 16384] · w[i]   modulo 2^64

    with n the length in bytes, a[j] = mix(COLUMN + j) | 1, c[t] = mix(TILE + t) | 1, and mix the
    SplitMix64 output function. ``positional_sum64_host`` computes the same from host bytes.

    Strength. All multipliers are odd, so a change inside one word is always found. Words that
    are exchanged, shifted or replaced are missed with a chance of about 2^-(64 - z), z the
    trailing zero bits that the differences have in common. It finds faults; it does not
    resist an adversary. Cost: one read of the data plus a scratch of 128 KiB per tile on devices
    without integer matrix products; on a CPU about a third of the speed of a plain sum.
    """
    if not data.is_contiguous():
        raise InternalError("a digest needs a contiguous tensor")
    flat = data.detach().reshape(-1).view(torch.uint8)
    length = flat.numel()
    words, tail = divmod(length, 8)
    total = _mix(_LENGTH_SEED + length)
    if words:
        body = flat[: words * 8]
        if body.data_ptr() % 8 or body.storage_offset() % 8:
            body = body.clone()  # torch views 64-bit words at multiples of 8 only
        total += _sum_words(body.view(torch.int64))
    if tail:
        last = int.from_bytes(bytes(flat[words * 8 :].tolist()), "little")
        total += _tile(words // TILE_WORDS) * _column(words % TILE_WORDS) * last
    return total & _MASK


def positional_sum64_host(data: bytes | bytearray | memoryview) -> int:
    """The same digest from host bytes, in plain Python: the reference that tests compare with."""
    view = memoryview(data).cast("B")
    total = _mix(_LENGTH_SEED + len(view))
    for index in range((len(view) + 7) // 8):
        word = int.from_bytes(view[index * 8 : index * 8 + 8], "little")
        total += _tile(index // TILE_WORDS) * _column(index % TILE_WORDS) * word
    return total & _MASK


def bytes_at(addr: int, size: int, *, device_type: str, device_id: int = 0) -> torch.Tensor:
    """A uint8 tensor over ``size`` bytes at ``addr``; the memory must outlive it."""
    if size == 0:
        return torch.empty(0, dtype=torch.uint8)
    if device_type == "cpu":
        return torch.frombuffer((ctypes.c_uint8 * size).from_address(addr), dtype=torch.uint8)
    view = _DeviceBytes(addr, size)
    return torch.as_tensor(view, device=torch.device(device_type, device_id))


def device_digester(*, device_type: str, device_id: int) -> Callable[[Sequence[tuple[int, int]]], int]:
    """Digest of kind ``sum64p`` over (address, bytes) ranges of that device, read as one stream.

    Where a range ends makes no difference: a target may hold in two pieces what a source holds
    in one. Several ranges are gathered on the device first, at most one segment.
    """

    def digest(ranges: Sequence[tuple[int, int]]) -> int:
        parts = [bytes_at(addr, size, device_type=device_type, device_id=device_id) for addr, size in ranges]
        return positional_sum64(parts[0] if len(parts) == 1 else torch.cat(parts))

    return digest


class _DeviceBytes:
    """Carries an address into torch by the array interface that CUDA libraries share."""

    def __init__(self, addr: int, size: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (addr, False),
            "version": 3,
        }


def _sum_words(words: torch.Tensor) -> int:
    tiles, rest = divmod(words.numel(), TILE_WORDS)
    device = words.device
    columns = _columns(str(device))
    total = 0
    if tiles:
        rows = words[: tiles * TILE_WORDS].view(tiles, TILE_WORDS)
        sums = torch.mv(rows, columns) if device.type == "cpu" else _row_products(rows, columns)
        total = int((sums * _tiles(tiles).to(device)).sum())
    if rest:
        product = (words[tiles * TILE_WORDS :] * columns[:rest]).sum()
        total += int(product) * _tile(tiles)
    return total


def _row_products(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """rows · columns for 64-bit integers, which devices lack as a matrix product: tile by tile."""
    step = max(1, (1 << 22) // TILE_WORDS)
    sums = torch.empty(rows.shape[0], dtype=torch.int64, device=rows.device)
    scratch = torch.empty((min(step, rows.shape[0]), TILE_WORDS), dtype=torch.int64, device=rows.device)
    for first in range(0, rows.shape[0], step):
        block = rows[first : first + step]
        product = torch.mul(block, columns, out=scratch[: block.shape[0]])
        torch.sum(product, dim=1, out=sums[first : first + step])
    return sums


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


@lru_cache(maxsize=TILE_WORDS)
def _column(index: int) -> int:
    return _mix(_COLUMN_SEED + index) | 1


def _tile(index: int) -> int:
    return _mix(_TILE_SEED + index) | 1


@lru_cache(maxsize=64)
def _columns(device: str) -> torch.Tensor:
    return torch.tensor([_signed(_column(j)) for j in range(TILE_WORDS)], dtype=torch.int64, device=device)


@lru_cache(maxsize=64)
def _tiles(count: int) -> torch.Tensor:
    return torch.tensor([_signed(_tile(t)) for t in range(count)], dtype=torch.int64)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def same_bytes(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two contiguous tensors hold equal bytes (NaN equals NaN here)."""
    a: Any = left.detach().reshape(-1).view(torch.uint8)
    b: Any = right.detach().reshape(-1).view(torch.uint8)
    return a.numel() == b.numel() and bool(torch.equal(a, b))
