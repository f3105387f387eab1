"""The weights identity of a vLLM worker: everything that must be equal for equal bytes.

Pure: facts in, SourceIdentity out. What the facts are is read in ``internals``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mx.core.source import BackendFramework, SourceIdentity, SourceType

# Stands for the rules by which tensors are listed, packed and named. Raise it when they change;
# releases of mx that keep the rules keep sharing weights.
LISTING_RULES = "mx-1"


class WeightsForm(StrEnum):
    """In which state weights are transferred.

    LOADED     as the checkpoint loader left them; the target post-processes them itself.
    PROCESSED  as the kernels use them; the target post-processes an empty model first.
    """

    LOADED = "loaded"
    PROCESSED = "processed"


@dataclass(frozen=True, slots=True)
class Axis:
    """One way in which a replica is cut: this worker's index and the number of parts."""

    rank: int
    size: int


ONE = Axis(0, 1)


def shard_index(data: Axis, pipeline: Axis, context: Axis, tensor: Axis) -> int:
    """Global rank within one replica, tensor parallelism innermost, as vLLM numbers its workers.

    ``data`` is ONE without expert parallelism: copies of a dense model hold equal shards.
    """
    index = 0
    for axis in (data, pipeline, context, tensor):
        index = index * axis.size + axis.rank
    return index


@dataclass(frozen=True, slots=True)
class WeightsFacts:
    """What vLLM knows about the weights of one worker.

    ``revision`` is a commit or the operator's label. ``checkpoint`` is the digest of a local folder
    without one. ``layout`` holds further facts that change shapes or bytes, by name.
    """

    model_name: str
    revision: str
    checkpoint: str
    form: WeightsForm
    tensor_parallel_size: int
    pipeline_parallel_size: int
    expert_parallel_size: int
    dtype: str
    quantization: str
    platform: str
    vllm_version: str
    torch_version: str
    cuda_version: str
    gpu_arch: str
    layout: Mapping[str, object]


def weights_identity(facts: WeightsFacts) -> SourceIdentity:
    """Identity whose source id is equal for two workers exactly when every fact is.

    In the LOADED form the device makes no difference to the bytes, so its architecture and driver
    are left out and unlike machines share weights.
    """
    extra = {
        "mx.form": facts.form.value,
        "mx.platform": facts.platform,
        "mx.layout": layout_digest(facts.layout),
    }
    if facts.checkpoint:
        extra["mx.checkpoint"] = facts.checkpoint
    processed = facts.form is WeightsForm.PROCESSED
    return SourceIdentity(
        model_name=facts.model_name,
        mx_version=LISTING_RULES,
        mx_source_type=SourceType.WEIGHTS,
        backend_framework=BackendFramework.VLLM,
        tensor_parallel_size=facts.tensor_parallel_size,
        pipeline_parallel_size=facts.pipeline_parallel_size,
        expert_parallel_size=facts.expert_parallel_size,
        dtype=facts.dtype.removeprefix("torch."),
        quantization=facts.quantization,
        extra_parameters=extra,
        revision=facts.revision,
        backend_framework_version=facts.vllm_version,
        torch_version=facts.torch_version,
        cuda_version=facts.cuda_version if processed else "",
        gpu_arch=facts.gpu_arch if processed else "",
    )


def layout_digest(layout: Mapping[str, object]) -> str:
    """16 hex digits over the facts as sorted JSON; what JSON lacks counts by its text."""
    text = json.dumps(layout, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
