"""Finds weights that post-processing moved where no list of tensors can reach them.

Kernels may keep packed copies in closures, slots or C++ objects. A target that post-processed an
empty model and then filled only what is listed would compute with the copies of nothing. So the
processed form is transferred only when every module still shows its weights, and when the device
holds no more new memory than the list explains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mx.errors import PreconditionError
from mx.transfer.torch_tensors import NamedTensor

_SHOWN = 3
# What allocators round up per tensor, and what small workspaces of kernels may take.
_ROUNDING_BYTES = 512
_SLACK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Sight:
    """What is visible at one moment: listed bytes by module, and bytes allocated on the device.

    ``allocated_bytes`` is None where the platform has no such number.
    """

    module_bytes: Counter[str]
    tensors: int
    allocated_bytes: int | None

    @property
    def listed_bytes(self) -> int:
        return self.module_bytes.total()


def look(model: torch.nn.Module, tensors: Sequence[NamedTensor], *, allocated_bytes: int | None) -> Sight:
    """Sum up ``tensors`` by the module that owns them."""
    modules = {name for name, _ in model.named_modules()}
    totals: Counter[str] = Counter()
    for item in tensors:
        owner = item.name
        while owner not in modules:
            owner = owner.rpartition(".")[0]
        totals[owner] += item.size_bytes
    return Sight(totals, len(tensors), allocated_bytes)


def check_nothing_hidden(before: Sight, after: Sight) -> None:
    """Raise PreconditionError when weights seen ``before`` post-processing are out of sight ``after`` it."""
    lost = [name for name, size in before.module_bytes.items() if size and not after.module_bytes[name]]
    if lost:
        shown = ", ".join(lost[:_SHOWN])
        raise PreconditionError(
            f"post-processing moved the weights of {len(lost)} modules out of sight: {shown}",
            remedy="transfer the form before it: model_loader_extra_config form=loaded",
        )
    if before.allocated_bytes is None or after.allocated_bytes is None:
        return
    grown = after.allocated_bytes - before.allocated_bytes
    explained = after.listed_bytes - before.listed_bytes
    hidden = grown - explained - (before.tensors + after.tensors) * _ROUNDING_BYTES
    if hidden > _SLACK_BYTES:
        raise PreconditionError(
            f"post-processing keeps {hidden} bytes on the device that no listed tensor explains",
            remedy="transfer the form before it: model_loader_extra_config form=loaded",
        )
