"""Safetensors on disk: read headers with care, load into fresh memory, compare, make one to try with.

The format is eight bytes of length, a JSON header with dtype, shape and offsets, then the bytes
(huggingface/safetensors, format description). No torch: a demo replica starts in half a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mx.core.tensors import TensorDescriptor
from mx.errors import InvalidArgumentError, NotFoundError

# The format's own reader refuses longer headers.
MAX_HEADER_BYTES = 100_000_000
ALIGN = 64
CHUNK_BYTES = 16 << 20
_TORCH = {
    "BF16": "torch.bfloat16",
    "F16": "torch.float16",
    "F32": "torch.float32",
    "F64": "torch.float64",
    "I8": "torch.int8",
    "I16": "torch.int16",
    "I32": "torch.int32",
    "I64": "torch.int64",
    "U8": "torch.uint8",
    "BOOL": "torch.bool",
    "F8_E4M3": "torch.float8_e4m3fn",
    "F8_E5M2": "torch.float8_e5m2",
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file: ``offset`` from the start of the file, ``size`` in bytes."""

    name: str
    dtype: str
    file: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Tensors in one anonymous mapping, in the order of the checkpoint."""

    mapping: mmap.mmap
    tensors: tuple[TensorDescriptor, ...]


def read_headers(directory: Path) -> tuple[StoredTensor, ...]:
    """Every tensor of every ``*.safetensors`` file, by file and offset.

    Raises NotFoundError when there is none, InvalidArgumentError for a file that is no checkpoint.
    """
    try:
        files = sorted(directory.glob("*.safetensors"))
    except OSError as error:
        raise NotFoundError(f"{directory} can't be read: {error.strerror}") from error
    if not files:
        raise NotFoundError(
            f"{directory} holds no *.safetensors file", remedy="name a directory with a checkpoint"
        )
    tensors = [tensor for file in files for tensor in _header(file)]
    names = {tensor.name for tensor in tensors}
    if len(names) != len(tensors):
        raise InvalidArgumentError(f"{directory} holds a tensor name twice")
    return tuple(tensors)


def _header(file: Path) -> list[StoredTensor]:
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            total = file.stat().st_size
            if not 2 <= length <= min(MAX_HEADER_BYTES, total - 8):
                raise InvalidArgumentError(f"{file} is no safetensors file: its header has {length} bytes")
            content = json.loads(stream.read(length))
    except OSError as error:
        raise NotFoundError(f"{file} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidArgumentError(f"{file} is no safetensors file: {error}") from error
    if not isinstance(content, dict):
        raise InvalidArgumentError(f"{file} is no safetensors file: its header is no object")
    rows = [
        _tensor(file, name, row, 8 + length, total) for name, row in content.items() if name != "__metadata__"
    ]
    return sorted(rows, key=lambda row: row.offset)


def _tensor(file: Path, name: str, row: object, base: int, total: int) -> StoredTensor:
    match row:
        case {"dtype": str(dtype), "data_offsets": [int(start), int(end)]} if (
            0 <= start <= end <= total - base
        ):
            return StoredTensor(name, _TORCH.get(dtype, dtype), file, base + start, end - start)
    raise InvalidArgumentError(f"{file}: tensor {name!r} has no valid dtype and offsets")


def allocate(stored: tuple[StoredTensor, ...]) -> Memory:
    """Fresh memory for all tensors, each on a cache line as an allocator would place it."""
    at, places = 0, []
    for tensor in stored:
        places.append(at)
        at += -(-tensor.size // ALIGN) * ALIGN
    mapping = mmap.mmap(-1, max(at, mmap.PAGESIZE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    base = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    tensors = tuple(
        TensorDescriptor(tensor.name, base + place, tensor.size, 0, tensor.dtype)
        for tensor, place in zip(stored, places, strict=True)
    )
    return Memory(mapping, tensors)


def load(stored: tuple[StoredTensor, ...], memory: Memory, on_bytes: Callable[[int], None]) -> None:
    """Read every tensor into its place; ``on_bytes`` gets the bytes read so far."""
    done = 0
    with _files() as open_file:
        for tensor, place in zip(stored, memory.tensors, strict=True):
            at = 0
            while at < tensor.size:
                view = (ctypes.c_char * min(CHUNK_BYTES, tensor.size - at)).from_address(place.addr + at)
                got = os.preadv(open_file(tensor.file), [view], tensor.offset + at)
                if got == 0:
                    raise InvalidArgumentError(f"{tensor.file} ends inside tensor {tensor.name}")
                at += got
                done += got
                on_bytes(done)


def differing(stored: tuple[StoredTensor, ...], memory: Memory) -> list[str]:
    """Names of tensors whose bytes in memory are not those in the file."""
    compare = ctypes.CDLL(None).memcmp
    compare.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)
    different = []
    with _files() as open_file:
        for tensor, place in zip(stored, memory.tensors, strict=True):
            for at in range(0, tensor.size, CHUNK_BYTES):
                want = min(CHUNK_BYTES, tensor.size - at)
                block = os.pread(open_file(tensor.file), want, tensor.offset + at)
                if len(block) != want or compare(place.addr + at, block, want) != 0:
                    different.append(tensor.name)
                    break
    return different


@contextlib.contextmanager
def _files() -> Iterator[Callable[[Path], int]]:
    handles: dict[Path, int] = {}

    def open_file(path: Path) -> int:
        if path not in handles:
            handles[path] = os.open(path, os.O_RDONLY)
        return handles[path]

    try:
        yield open_file
    finally:
        for handle in handles.values():
            os.close(handle)


# --- a checkpoint to try with -------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama-like model, in elements."""

    hidden: int
    inner: int
    key_value: int

    @property
    def layer(self) -> list[tuple[str, tuple[int, ...]]]:
        return [
            ("input_layernorm.weight", (self.hidden,)),
            ("self_attn.q_proj.weight", (self.hidden, self.hidden)),
            ("self_attn.k_proj.weight", (self.key_value, self.hidden)),
            ("self_attn.v_proj.weight", (self.key_value, self.hidden)),
            ("self_attn.o_proj.weight", (self.hidden, self.hidden)),
            ("post_attention_layernorm.weight", (self.hidden,)),
            ("mlp.gate_proj.weight", (self.inner, self.hidden)),
            ("mlp.up_proj.weight", (self.inner, self.hidden)),
            ("mlp.down_proj.weight", (self.hidden, self.inner)),
        ]


# From the largest down: the first with room for eight layers and a vocabulary is taken.
SHAPES = (
    Shape(4096, 14336, 1024),
    Shape(2048, 5632, 512),
    Shape(1024, 2816, 256),
    Shape(256, 704, 64),
    Shape(64, 176, 16),
)
MIN_CHECKPOINT_BYTES = 1 << 20
_ELEMENT_BYTES = 2  # bfloat16
MIN_LAYERS = 8


def make(directory: Path, size_bytes: int) -> Path:
    """Write a Llama-shaped checkpoint of about ``size_bytes`` (within one row of the vocabulary).

    Raises InvalidArgumentError below MIN_CHECKPOINT_BYTES.
    """
    if size_bytes < MIN_CHECKPOINT_BYTES:
        raise InvalidArgumentError(f"a checkpoint of {size_bytes} bytes is too small; the least is 1MiB")
    tensors = _layout(size_bytes)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in tensors:
        size = _size(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    block = os.urandom(1 << 20)
    with (directory / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for number, position in enumerate(range(0, at, len(block))):
            # Every MiB differs from every other, so that a swap of any two would be seen.
            stream.write((number.to_bytes(8, "little") + block[8:])[: at - position])
    return directory


def _size(shape: tuple[int, ...]) -> int:
    size = _ELEMENT_BYTES
    for extent in shape:
        size *= extent
    return size


def _layout(size_bytes: int) -> list[tuple[str, tuple[int, ...]]]:
    for shape in SHAPES:
        per_layer = sum(_size(extents) for _, extents in shape.layer)
        if MIN_LAYERS * per_layer <= size_bytes * 0.9 or shape is SHAPES[-1]:
            break
    layers = max(1, int(size_bytes * 0.9) // per_layer)
    rows = max(1, (size_bytes - layers * per_layer) // _size((2, shape.hidden)))
    return [
        ("model.embed_tokens.weight", (rows, shape.hidden)),
        *((f"model.layers.{i}.{name}", extents) for i in range(layers) for name, extents in shape.layer),
        ("model.norm.weight", (shape.hidden,)),
        ("lm_head.weight", (rows, shape.hidden)),
    ]
