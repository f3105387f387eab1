"""``model_express.p2p`` messages ⇄ ``core`` values, both ways.

Presence is kept: an unset ``source_load`` is None and never 0.0. Enum numbers without a name
are carried as they are. The deprecated ``tensors`` of a worker count only when ``source_payload``
is unset. Encoding raises InvalidArgumentError when a value doesn't fit its field; decoding a
parsed message never fails, parsing bytes raises InvalidArgumentError.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from mx.core.source import (
    EMPTY_MAP,
    ArtifactSource,
    NixlMetadata,
    PodReference,
    SourceEntry,
    SourceFilter,
    SourceIdentity,
    SourceStatus,
    SourceSummary,
    TensorSource,
    TransferEngineSession,
    WorkerKey,
    WorkerRecord,
    source_id,
)
from mx.core.tensors import TensorDescriptor
from mx.errors import InvalidArgumentError
from mx.wire.v1 import p2p

M = TypeVar("M", bound=Message)


def build(kind: type[M], /, **fields: Any) -> M:
    """A message of these fields; InvalidArgumentError when one has no place on the wire."""
    try:
        return kind(**fields)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgumentError(f"{kind.DESCRIPTOR.name} can't carry these values: {error}") from error


def parse(kind: type[M], data: bytes) -> M:
    """A message from bytes; InvalidArgumentError when they aren't one."""
    try:
        return kind.FromString(data)
    except (DecodeError, ValueError) as error:
        raise InvalidArgumentError(f"{len(data)} bytes are not a {kind.DESCRIPTOR.name}: {error}") from error


def frozen_map(items: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(items)) if items else EMPTY_MAP


def known_load(value: float) -> float | None:
    """A load as stored: one that is no number is unknown."""
    return value if math.isfinite(value) else None


# ---- identity, tensors, worker ---------------------------------------------------------------

_IDENTITY_SCALARS = (
    "mx_version",
    "mx_source_type",
    "model_name",
    "backend_framework",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "expert_parallel_size",
    "dtype",
    "quantization",
    "revision",
    "backend_framework_version",
    "torch_version",
    "cuda_version",
    "triton_version",
    "gpu_arch",
    "compile_config_digest",
)


def encode_identity(identity: SourceIdentity) -> p2p.SourceIdentity:
    scalars = {name: getattr(identity, name) for name in _IDENTITY_SCALARS}
    return build(p2p.SourceIdentity, extra_parameters=dict(identity.extra_parameters), **scalars)


def decode_identity(message: p2p.SourceIdentity) -> SourceIdentity:
    scalars = {name: getattr(message, name) for name in _IDENTITY_SCALARS}
    return SourceIdentity(extra_parameters=frozen_map(message.extra_parameters), **scalars)


def encode_tensor(tensor: TensorDescriptor) -> p2p.TensorDescriptor:
    return build(
        p2p.TensorDescriptor,
        name=tensor.name,
        addr=tensor.addr,
        size=tensor.size,
        device_id=tensor.device_id,
        dtype=tensor.dtype,
    )


def decode_tensor(message: p2p.TensorDescriptor) -> TensorDescriptor:
    return TensorDescriptor(
        name=message.name,
        addr=message.addr,
        size=message.size,
        device_id=message.device_id,
        dtype=message.dtype,
    )


def encode_worker(worker: WorkerRecord) -> p2p.WorkerMetadata:
    fields: dict[str, Any] = {}
    match worker.backend_metadata:
        case NixlMetadata(blob=blob):
            fields["nixl_metadata"] = blob
        case TransferEngineSession(session_id=session_id):
            fields["transfer_engine_session_id"] = session_id
        case None:
            pass
    match worker.payload:
        case TensorSource(tensors=tensors):
            fields["tensor_source"] = build(p2p.TensorSourceMetadata, tensors=map(encode_tensor, tensors))
        case ArtifactSource() as artifact:
            fields["artifact_source"] = _encode_artifact(artifact)
        case None:
            pass
    return build(
        p2p.WorkerMetadata,
        worker_rank=worker.worker_rank,
        status=worker.status,
        updated_at=worker.updated_at_ms,
        metadata_endpoint=worker.metadata_endpoint,
        agent_name=worker.agent_name,
        worker_grpc_endpoint=worker.worker_grpc_endpoint,
        accelerator=worker.accelerator,
        topology=dict(worker.topology),
        **fields,
    )


def decode_worker(message: p2p.WorkerMetadata) -> WorkerRecord:
    backend: NixlMetadata | TransferEngineSession | None = None
    match message.WhichOneof("backend_metadata"):
        case "nixl_metadata":
            backend = NixlMetadata(message.nixl_metadata)
        case "transfer_engine_session_id":
            backend = TransferEngineSession(message.transfer_engine_session_id)
        case None:
            pass
    payload: TensorSource | ArtifactSource | None = None
    match message.WhichOneof("source_payload"):
        case "tensor_source":
            payload = TensorSource(tuple(map(decode_tensor, message.tensor_source.tensors)))
        case "artifact_source":
            payload = _decode_artifact(message.artifact_source)
        case None if message.tensors:
            payload = TensorSource(tuple(map(decode_tensor, message.tensors)))
        case None:
            pass
    return WorkerRecord(
        worker_rank=message.worker_rank,
        status=message.status,
        backend_metadata=backend,
        payload=payload,
        updated_at_ms=message.updated_at,
        metadata_endpoint=message.metadata_endpoint,
        agent_name=message.agent_name,
        worker_grpc_endpoint=message.worker_grpc_endpoint,
        accelerator=message.accelerator,
        topology=frozen_map(message.topology),
    )


def _encode_artifact(artifact: ArtifactSource) -> p2p.ArtifactSourceMetadata:
    return build(
        p2p.ArtifactSourceMetadata,
        artifact_id=artifact.artifact_id,
        total_size=artifact.total_size_bytes,
        file_count=artifact.file_count,
        chunk_count=artifact.chunk_count,
        node_rank=artifact.node_rank,
    )


def _decode_artifact(message: p2p.ArtifactSourceMetadata) -> ArtifactSource:
    return ArtifactSource(
        artifact_id=message.artifact_id,
        total_size_bytes=message.total_size,
        file_count=message.file_count,
        chunk_count=message.chunk_count,
        node_rank=message.node_rank,
    )


# ---- PublishMetadata -------------------------------------------------------------------------


def encode_publish(
    identity: SourceIdentity, worker: WorkerRecord, *, worker_id: str, pod: PodReference
) -> p2p.PublishMetadataRequest:
    return build(
        p2p.PublishMetadataRequest,
        identity=encode_identity(identity),
        worker=encode_worker(worker),
        worker_id=worker_id,
        pod_name=pod.name,
        pod_uid=pod.uid,
        pod_namespace=pod.namespace,
    )


def decode_publish(
    message: p2p.PublishMetadataRequest,
) -> tuple[SourceIdentity | None, WorkerRecord | None, str, PodReference]:
    """Identity, worker, worker id and pod; what the sender left out is None."""
    return (
        decode_identity(message.identity) if message.HasField("identity") else None,
        decode_worker(message.worker) if message.HasField("worker") else None,
        message.worker_id,
        PodReference(name=message.pod_name, uid=message.pod_uid, namespace=message.pod_namespace),
    )


# ---- ListSources -----------------------------------------------------------------------------


def encode_filter(query: SourceFilter, *, identity: SourceIdentity | None = None) -> p2p.ListSourcesRequest:
    """The published request; it has no place for ``query.source_id``, only for an identity."""
    return build(
        p2p.ListSourcesRequest,
        identity=None if identity is None else encode_identity(identity),
        status_filter=query.status,
        model_name_filter=query.model_name,
        worker_rank_filter=query.worker_rank,
        min_training_step=query.min_training_step,
        min_updated_at=query.min_updated_at_ms,
        limit=query.limit or None,
    )


def decode_filter(message: p2p.ListSourcesRequest) -> SourceFilter:
    """An absent identity, or one without a model name, doesn't filter."""
    wanted: str | None = None
    if message.HasField("identity") and message.identity.model_name:
        wanted = source_id(decode_identity(message.identity))
    return SourceFilter(
        source_id=wanted,
        status=message.status_filter if message.HasField("status_filter") else None,
        model_name=message.model_name_filter if message.HasField("model_name_filter") else None,
        worker_rank=message.worker_rank_filter if message.HasField("worker_rank_filter") else None,
        min_training_step=message.min_training_step if message.HasField("min_training_step") else None,
        min_updated_at_ms=message.min_updated_at if message.HasField("min_updated_at") else None,
        limit=message.limit,
    )


def encode_instance(row: SourceSummary) -> p2p.SourceInstanceRef:
    return build(
        p2p.SourceInstanceRef,
        mx_source_id=row.source_id,
        worker_id=row.worker_id,
        model_name=row.model_name,
        worker_rank=row.worker_rank,
        accelerator=row.accelerator,
        updated_at=row.updated_at_ms,
        training_step=row.training_step,
        layout_signature=row.layout_signature,
        topology=dict(row.topology),
        source_load=row.source_load,
    )


def decode_instance(message: p2p.SourceInstanceRef, *, status: int = SourceStatus.UNKNOWN) -> SourceSummary:
    """A row; its status isn't on the wire, so the caller gives the one it asked for."""
    return SourceSummary(
        source_id=message.mx_source_id,
        worker_id=message.worker_id,
        worker_rank=message.worker_rank,
        model_name=message.model_name,
        status=status,
        updated_at_ms=message.updated_at,
        accelerator=message.accelerator,
        training_step=message.training_step if message.HasField("training_step") else None,
        layout_signature=message.layout_signature if message.HasField("layout_signature") else None,
        topology=frozen_map(message.topology),
        source_load=known_load(message.source_load) if message.HasField("source_load") else None,
    )


# ---- GetMetadata -----------------------------------------------------------------------------


def encode_entry(entry: SourceEntry, *, legacy_tensors: bool = False) -> p2p.GetMetadataResponse:
    """A found record. Whatever isn't an artifact is a tensor source, also with no tensors at all.

    ``legacy_tensors`` fills the deprecated field too, for clients older than the oneof.
    """
    worker = encode_worker(entry.worker)
    if worker.WhichOneof("source_payload") is None:
        worker.tensor_source.SetInParent()
    if legacy_tensors:
        worker.tensors.extend(worker.tensor_source.tensors)
    return build(
        p2p.GetMetadataResponse,
        found=True,
        worker=worker,
        mx_source_id=entry.source_id,
        worker_id=entry.worker_id,
        identity=encode_identity(entry.identity),
    )


def decode_entry(message: p2p.GetMetadataResponse) -> SourceEntry | None:
    """None when it wasn't found; a server that leaves the identity out gives an empty one."""
    if not message.found:
        return None
    return SourceEntry(
        source_id=message.mx_source_id,
        worker_id=message.worker_id,
        identity=decode_identity(message.identity),
        worker=decode_worker(message.worker),
    )


# ---- UpdateStatus ----------------------------------------------------------------------------


def encode_status(key: WorkerKey, status: int, *, source_load: float | None) -> p2p.UpdateStatusRequest:
    return build(
        p2p.UpdateStatusRequest,
        mx_source_id=key.source_id,
        worker_id=key.worker_id,
        worker_rank=key.worker_rank,
        status=status,
        source_load=source_load,
    )


def decode_status(message: p2p.UpdateStatusRequest) -> tuple[WorkerKey, int, float | None]:
    """Key, status number and load of one heartbeat."""
    load = known_load(message.source_load) if message.HasField("source_load") else None
    return WorkerKey(message.mx_source_id, message.worker_id, message.worker_rank), message.status, load
