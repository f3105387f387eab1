"""Keeps loaded tensors as they were while an engine post-processes the model.

A source serves the weights as they were loaded; the engine then packs, rescales or replaces
them. Replaced tensors live on because the listing holds them. What is written in place is
copied just before the first write, so that no reader ever gets bytes of both kinds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mx.transfer.torch_tensors import NamedTensor, positional_sum64

_PRIVATE_BUFFER_BYTES = 1 << 20
_WHOLE_BYTES = 1 << 20
_BLOCK_BYTES = 4096
_BLOCKS = 16


class WriteGuard(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
    """A context that copies a guarded tensor before an operation writes into its memory.

    ``tensors()`` afterwards gives the listing with copies in place of what was written.
    """

    def __init__(self, tensors: Sequence[NamedTensor]) -> None:
        super().__init__()
        self._tensors = list(tensors)
        self._fingerprints = [fingerprint(item.tensor) for item in self._tensors]
        rows = [
            (item.tensor.data_ptr(), index) for index, item in enumerate(self._tensors) if item.size_bytes
        ]
        self._rows = sorted(rows)
        self._starts = [start for start, _ in self._rows]
        self.copied: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            for tensor in value if isinstance(value, list | tuple) else (value,):
                if isinstance(tensor, torch.Tensor):
                    self._before_write(tensor)
        return func(*args, **kwargs)

    def tensors(self) -> tuple[NamedTensor, ...]:
        """The guarded tensors with their original bytes."""
        return tuple(self._tensors)

    def changed(self) -> list[str]:
        """Names whose bytes changed although no operation that torch knows of wrote them."""
        return [
            item.name
            for item, before in zip(self._tensors, self._fingerprints, strict=True)
            if fingerprint(item.tensor) != before
        ]

    def _before_write(self, target: torch.Tensor) -> None:
        if target.is_meta or target.numel() == 0:
            return
        storage = target.untyped_storage()
        start, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
        first = bisect_right(self._starts, start - 1)
        for address, index in self._rows[first:]:
            if address >= end:
                return
            item = self._tensors[index]
            if item.tensor.data_ptr() == address and item.name not in self.copied:
                self.copied.add(item.name)
                self._tensors[index] = NamedTensor(item.name, item.tensor.clone(), item.is_buffer)


def fingerprint(tensor: torch.Tensor) -> int:
    """Digest of a small tensor, or of 16 blocks spread over a large one: cheap, for detection only."""
    flat = tensor.detach().reshape(-1).view(torch.uint8)
    size = flat.numel()
    if size <= _WHOLE_BYTES:
        return positional_sum64(flat)
    step = (size - _BLOCK_BYTES) // (_BLOCKS - 1)
    return positional_sum64(torch.cat([flat[i * step : i * step + _BLOCK_BYTES] for i in range(_BLOCKS)]))


def own_small_buffers(tensors: Sequence[NamedTensor]) -> tuple[NamedTensor, ...]:
    """``tensors`` with buffers up to 1 MiB replaced by copies.

    Engines update small buffers while they serve (KV-cache scales); a source never shares those.
    """
    return tuple(
        NamedTensor(item.name, item.tensor.clone(), item.is_buffer)
        if item.is_buffer and 0 < item.size_bytes <= _PRIVATE_BUFFER_BYTES
        else item
        for item in tensors
    )
