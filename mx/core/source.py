"""Sources: who holds which weights, and what must match before anyone may read them.

Enum numbers, the canonical JSON of an identity and its 16-digit id are the published
wire (section 2, 3 and 10 of the wire contract); numbers that we do not know are carried
as plain ``int`` and never dropped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

from mx.core.tensors import TensorDescriptor

EMPTY_MAP: Mapping[str, str] = MappingProxyType({})


class SourceStatus(IntEnum):
    UNKNOWN = 0
    INITIALIZING = 1
    READY = 2
    STALE = 3


class SourceType(IntEnum):
    WEIGHTS = 0
    LORA = 1
    CUDA_GRAPH = 2
    TORCH_COMPILE_CACHE = 3
    TRITON_CACHE = 4
    DEEP_GEMM_CACHE = 5
    TILELANG_CACHE = 6
    CUTE_DSL_CACHE = 7
    FLASHINFER_CACHE = 8
    TVM_FFI_CACHE = 9


class BackendFramework(IntEnum):
    UNKNOWN = 0
    VLLM = 1
    SGLANG = 2
    TRT_LLM = 3


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """Everything that must be equal for two workers to hold the same bytes.

    ``mx_source_type`` and ``backend_framework`` are numbers: a peer may send one that this
    version has no name for.
    """

    model_name: str
    mx_version: str = ""
    mx_source_type: int = SourceType.WEIGHTS
    backend_framework: int = BackendFramework.UNKNOWN
    tensor_parallel_size: int = 0
    pipeline_parallel_size: int = 0
    expert_parallel_size: int = 0
    dtype: str = ""
    quantization: str = ""
    extra_parameters: Mapping[str, str] = field(default_factory=lambda: EMPTY_MAP)
    revision: str = ""
    backend_framework_version: str = ""
    torch_version: str = ""
    cuda_version: str = ""
    triton_version: str = ""
    gpu_arch: str = ""
    compile_config_digest: str = ""


_ALWAYS = ("dtype", "model_name", "mx_version", "quantization", "revision")
_WHEN_SET = (
    "backend_framework_version",
    "compile_config_digest",
    "cuda_version",
    "gpu_arch",
    "torch_version",
    "triton_version",
)


def canonical_identity(identity: SourceIdentity) -> str:
    """The JSON text whose digest is the source id (wire contract, section 10)."""
    extra: dict[str, str] = {}
    # Byte order of the original key decides which of two equal lower-cased keys wins: the first.
    for key, value in sorted(identity.extra_parameters.items(), key=lambda item: item[0].encode()):
        extra.setdefault(key.lower(), value.lower())
    fields: dict[str, object] = {
        "backend_framework": int(identity.backend_framework),
        "expert_parallel_size": identity.expert_parallel_size,
        "extra_parameters": extra,
        "mx_source_type": int(identity.mx_source_type),
        "pipeline_parallel_size": identity.pipeline_parallel_size,
        "tensor_parallel_size": identity.tensor_parallel_size,
    }
    for name in _ALWAYS:
        fields[name] = getattr(identity, name).lower()
    for name in _WHEN_SET:
        value = getattr(identity, name)
        if value:
            fields[name] = value.lower()
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def source_id(identity: SourceIdentity) -> str:
    """First 16 hex digits of SHA-256 over the canonical identity; non-ASCII is hashed raw."""
    return hashlib.sha256(canonical_identity(identity).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class NixlMetadata:
    """A NIXL agent blob, as ``get_agent_metadata`` gave it. Opaque to the server."""

    blob: bytes


@dataclass(frozen=True, slots=True)
class TransferEngineSession:
    """Session of the other published data plane; carried, never used by mx."""

    session_id: str


@dataclass(frozen=True, slots=True)
class TensorSource:
    """Payload of a weights source. ``tensors`` is empty when the worker serves its own manifest."""

    tensors: tuple[TensorDescriptor, ...] = ()


@dataclass(frozen=True, slots=True)
class ArtifactSource:
    """Payload of a source of files (JIT caches)."""

    artifact_id: str
    total_size_bytes: int = 0
    file_count: int = 0
    chunk_count: int = 0
    node_rank: int = 0


@dataclass(frozen=True, slots=True)
class PodReference:
    """The pod that published; feeds ownership on Kubernetes and nothing else."""

    name: str = ""
    uid: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """What mx workers tell other mx workers, beside the published record.

    endpoint        host:port of the worker's own gRPC server; mx runs it in both metadata modes
    generation      changes with every process start, so that a reused endpoint is noticed
    host_id         equal for processes on one host; a nearer source is preferred
    layout_digest   digest of names, sizes and dtypes in manifest order; equal digests cut equal segments
    """

    endpoint: str
    generation: str
    host_id: str = ""
    layout_digest: str = ""


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """One rank of one worker, as published. Times are the server's, Unix milliseconds."""

    worker_rank: int
    status: int = SourceStatus.UNKNOWN
    backend_metadata: NixlMetadata | TransferEngineSession | None = None
    payload: TensorSource | ArtifactSource | None = None
    updated_at_ms: int = 0
    metadata_endpoint: str = ""
    agent_name: str = ""
    worker_grpc_endpoint: str = ""
    accelerator: str = ""
    topology: Mapping[str, str] = field(default_factory=lambda: EMPTY_MAP)


@dataclass(frozen=True, slots=True)
class WorkerKey:
    """Address of one record: a worker id may hold several ranks of one source."""

    source_id: str
    worker_id: str
    worker_rank: int

    def __str__(self) -> str:
        return f"{self.source_id}/{self.worker_id}/rank {self.worker_rank}"


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """A full record: what GetMetadata answers, and what the stores keep."""

    source_id: str
    worker_id: str
    identity: SourceIdentity
    worker: WorkerRecord
    source_load: float | None = None  # None: unknown. 0.0 means idle and is never invented.
    peer: PeerRecord | None = None
    pod: PodReference = PodReference()

    @property
    def key(self) -> WorkerKey:
        return WorkerKey(self.source_id, self.worker_id, self.worker.worker_rank)


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """A record without its blob and descriptors: what listings answer."""

    source_id: str
    worker_id: str
    worker_rank: int
    model_name: str
    status: int
    updated_at_ms: int
    accelerator: str = ""
    training_step: int | None = None
    layout_signature: str | None = None
    topology: Mapping[str, str] = field(default_factory=lambda: EMPTY_MAP)
    source_load: float | None = None
    worker_grpc_endpoint: str = ""
    peer: PeerRecord | None = None

    @property
    def key(self) -> WorkerKey:
        return WorkerKey(self.source_id, self.worker_id, self.worker_rank)


@dataclass(frozen=True, slots=True)
class SourceFilter:
    """All conditions that are set must hold. ``limit`` 0 means all."""

    source_id: str | None = None
    status: int | None = None
    model_name: str | None = None
    worker_rank: int | None = None
    min_training_step: int | None = None
    min_updated_at_ms: int | None = None
    limit: int = 0


def training_step(identity: SourceIdentity) -> int | None:
    """Extra parameter ``training_step``, else ``version``, as an unsigned 64-bit decimal."""
    for key in ("training_step", "version"):
        text = identity.extra_parameters.get(key)
        # int() refuses thousands of digits with a ValueError; 20 hold 64 bits.
        if text is None or not (text.isascii() and text.isdigit()) or len(text.lstrip("0")) > 20:
            continue
        step = int(text.lstrip("0") or "0")
        if step < 1 << 64:
            return step
    return None


def layout_signature(identity: SourceIdentity) -> str | None:
    """Extra parameter ``layout_signature`` if it is not empty."""
    return identity.extra_parameters.get("layout_signature") or None


def summarise(entry: SourceEntry) -> SourceSummary:
    """The listing row of a record."""
    worker = entry.worker
    return SourceSummary(
        source_id=entry.source_id,
        worker_id=entry.worker_id,
        worker_rank=worker.worker_rank,
        model_name=entry.identity.model_name,
        status=worker.status,
        updated_at_ms=worker.updated_at_ms,
        accelerator=worker.accelerator,
        training_step=training_step(entry.identity),
        layout_signature=layout_signature(entry.identity),
        topology=worker.topology,
        source_load=entry.source_load,
        worker_grpc_endpoint=worker.worker_grpc_endpoint,
        peer=entry.peer,
    )


def matches(row: SourceSummary, query: SourceFilter, *, fresh_after_ms: int | None) -> bool:
    """Whether a row satisfies a filter; with ``fresh_after_ms`` an older READY row does not."""
    if query.source_id is not None and row.source_id != query.source_id:
        return False
    if query.status is not None and row.status != query.status:
        return False
    if query.model_name is not None and row.model_name != query.model_name:
        return False
    if query.worker_rank is not None and row.worker_rank != query.worker_rank:
        return False
    if query.min_training_step is not None and (
        row.training_step is None or row.training_step < query.min_training_step
    ):
        return False
    if query.min_updated_at_ms is not None and row.updated_at_ms < query.min_updated_at_ms:
        return False
    # Only READY promises that somebody is there to answer, so only READY can be out of date.
    return (
        fresh_after_ms is None
        or row.status != SourceStatus.READY
        or row.updated_at_ms >= max(fresh_after_ms, 1)
    )


def newest_first(rows: Iterable[SourceSummary], *, limit: int) -> tuple[SourceSummary, ...]:
    """In the order of a listing; equal times come in key order, so that every store lists them alike."""
    ordered = sorted(
        rows, key=lambda row: (-row.updated_at_ms, row.source_id, row.worker_id, row.worker_rank)
    )
    return tuple(ordered[:limit] if limit > 0 else ordered)
