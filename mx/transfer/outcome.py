"""What goes into a pull and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mx.core.tensors import TensorDescriptor
from mx.core.transfer import TransferReport


@dataclass(frozen=True, slots=True)
class LocalTensors:
    """Tensors of this process. ``keepalive`` owns the memory for as long as it is registered."""

    descriptors: tuple[TensorDescriptor, ...]
    keepalive: object

    def without_empty(self) -> LocalTensors:
        """Only tensors that have bytes: NIXL knows no range for an empty one, and nothing is to be moved.

        A published target fails on a manifest that lists one, so mx never does.
        """
        if all(tensor.size for tensor in self.descriptors):
            return self
        return LocalTensors(tuple(t for t in self.descriptors if t.size), self.keepalive)

    @property
    def total_bytes(self) -> int:
        return sum(tensor.size for tensor in self.descriptors)


@dataclass(frozen=True, slots=True)
class Loaded:
    report: TransferReport


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing was tried and nothing was touched."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """``mutated``: bytes of the target may have changed, rebuild before anything else loads it."""

    reason: str
    mutated: bool
    blame: Literal["source", "local"]


Outcome = Loaded | Skipped | Failed
