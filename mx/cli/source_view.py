"""Sources as JSON documents and as text. Pure: values in, documents or lines out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from mx.cli.output import Output
from mx.core.source import (
    ArtifactSource,
    BackendFramework,
    NixlMetadata,
    PeerRecord,
    SourceEntry,
    SourceIdentity,
    SourceStatus,
    SourceSummary,
    SourceType,
    TensorSource,
    TransferEngineSession,
    WorkerKey,
    WorkerRecord,
)
from mx.core.units import format_age, format_size

# A row and the seconds since its last heartbeat.
Row = tuple[SourceSummary, float]


@dataclass(frozen=True, slots=True)
class SourceDetail:
    """Everything about one source; a row without an entry vanished while it was read."""

    rows: tuple[Row, ...]
    entries: Mapping[WorkerKey, SourceEntry]

    @property
    def identity(self) -> SourceIdentity | None:
        return next((entry.identity for entry in self.entries.values()), None)


def status_name(status: int) -> str:
    """``ready``, or the number of a status that this version has no name for."""
    try:
        return SourceStatus(status).name.lower()
    except ValueError:
        return f"status {status}"


def status_style(status: int) -> str:
    return {SourceStatus.READY: "green", SourceStatus.STALE: "red", SourceStatus.INITIALIZING: "yellow"}.get(
        SourceStatus(status) if status in tuple(SourceStatus) else SourceStatus.UNKNOWN, ""
    )


def endpoint_of(row: SourceSummary) -> str:
    """Where the worker answers: mx's own record first, else the published one."""
    return row.peer.endpoint if row.peer else row.worker_grpc_endpoint


def row_document(row: SourceSummary, age_s: float) -> dict[str, object]:
    """Every member of a listing row, and its age."""
    return {
        "source_id": row.source_id,
        "worker_id": row.worker_id,
        "worker_rank": row.worker_rank,
        "model_name": row.model_name,
        "status": status_name(row.status),
        "updated_at_ms": row.updated_at_ms,
        "age_s": round(age_s, 3),
        "accelerator": row.accelerator,
        "training_step": row.training_step,
        "layout_signature": row.layout_signature,
        "topology": dict(row.topology),
        "source_load": row.source_load,
        "worker_grpc_endpoint": row.worker_grpc_endpoint,
        "peer": _peer_document(row.peer),
    }


def _peer_document(peer: PeerRecord | None) -> dict[str, object] | None:
    return asdict(peer) if peer is not None else None


def identity_document(identity: SourceIdentity) -> dict[str, object]:
    document: dict[str, object] = {
        name: getattr(identity, name)
        for name in SourceIdentity.__dataclass_fields__
        if name != "extra_parameters"
    }
    document["mx_source_type"] = _enum_name(SourceType, identity.mx_source_type)
    document["backend_framework"] = _enum_name(BackendFramework, identity.backend_framework)
    document["extra_parameters"] = dict(identity.extra_parameters)
    return document


def _enum_name(kind: type[SourceType] | type[BackendFramework], value: int) -> str:
    try:
        return kind(value).name.lower()
    except ValueError:
        return str(value)


def detail_document(detail: SourceDetail) -> dict[str, object]:
    """The whole source as JSON; blobs as their size, tensors as count and bytes."""
    first = detail.rows[0][0]
    identity = detail.identity
    workers = []
    for row, age_s in detail.rows:
        document = row_document(row, age_s)
        entry = detail.entries.get(row.key)
        document["record"] = _worker_document(entry.worker) if entry else None
        document["pod"] = asdict(entry.pod) if entry else None
        if entry is not None and entry.peer is not None:
            document["peer"] = _peer_document(entry.peer)
        workers.append(document)
    return {
        "source_id": first.source_id,
        "model_name": first.model_name,
        "identity": identity_document(identity) if identity else None,
        "workers": workers,
    }


def _worker_document(worker: WorkerRecord) -> dict[str, object]:
    document: dict[str, object] = {
        "metadata_endpoint": worker.metadata_endpoint,
        "agent_name": worker.agent_name,
        "nixl_metadata_bytes": None,
        "transfer_engine_session": None,
        "tensors": None,
        "artifact": None,
    }
    match worker.backend_metadata:
        case NixlMetadata(blob):
            document["nixl_metadata_bytes"] = len(blob)
        case TransferEngineSession(session_id):
            document["transfer_engine_session"] = session_id
    match worker.payload:
        case TensorSource(tensors):
            document["tensors"] = {"count": len(tensors), "bytes": sum(tensor.size for tensor in tensors)}
        case ArtifactSource() as artifact:
            document["artifact"] = asdict(artifact)
    return document


def describe(out: Output, detail: SourceDetail) -> None:
    """The source for a person: what it is, then each worker."""
    first = detail.rows[0][0]
    out.line(f"source {first.source_id}  {first.model_name}")
    if detail.identity is not None:
        out.fields(_identity_pairs(detail.identity), indent=2)
    for row, age_s in detail.rows:
        out.line()
        out.line(f"worker {row.worker_id}  rank {row.worker_rank}  {status_name(row.status)}")
        out.fields(_worker_pairs(row, age_s, detail), indent=2)


def _identity_pairs(identity: SourceIdentity) -> list[tuple[str, str]]:
    sizes = (identity.tensor_parallel_size, identity.pipeline_parallel_size, identity.expert_parallel_size)
    versions = ("mx_version", "backend_framework_version", "torch_version", "cuda_version", "triton_version")
    return [
        ("type", _enum_name(SourceType, identity.mx_source_type)),
        ("revision", identity.revision),
        ("engine", _enum_name(BackendFramework, identity.backend_framework)),
        ("parallel", "tensor {}, pipeline {}, expert {}".format(*sizes)),
        ("dtype", identity.dtype),
        ("quantization", identity.quantization),
        ("gpu arch", identity.gpu_arch),
        *((name.replace("_", " "), getattr(identity, name)) for name in versions),
        ("compile config", identity.compile_config_digest),
        *((f"extra {key}", value) for key, value in sorted(identity.extra_parameters.items())),
    ]


def _worker_pairs(row: SourceSummary, age_s: float, detail: SourceDetail) -> list[tuple[str, str]]:
    entry = detail.entries.get(row.key)
    pairs = [
        ("heartbeat", f"{format_age(age_s)} ago"),
        ("load", "" if row.source_load is None else f"{row.source_load:.2f}"),
        ("accelerator", row.accelerator),
        ("topology", ", ".join(f"{key}={value}" for key, value in row.topology.items())),
        ("training step", "" if row.training_step is None else str(row.training_step)),
        ("grpc endpoint", row.worker_grpc_endpoint),
    ]
    peer = entry.peer if entry is not None and entry.peer is not None else row.peer
    if entry is None:
        # The wire addresses a full record by source and worker; of several ranks it gives one.
        another = any(key.worker_id == row.worker_id for key in detail.entries)
        pairs.append(("record", "not given for this rank" if another else "gone while it was read"))
    else:
        pairs += _record_pairs(entry)
    if peer is not None:
        pairs += [
            ("mx endpoint", peer.endpoint),
            ("generation", peer.generation),
            ("host", peer.host_id),
            ("layout", peer.layout_digest),
        ]
    return pairs


def _record_pairs(entry: SourceEntry) -> list[tuple[str, str]]:
    worker, pod = entry.worker, entry.pod
    pairs = [("metadata endpoint", worker.metadata_endpoint), ("nixl agent", worker.agent_name)]
    match worker.backend_metadata:
        case NixlMetadata(blob):
            pairs.append(("nixl metadata", format_size(len(blob))))
        case TransferEngineSession(session_id):
            pairs.append(("transfer engine", session_id))
    match worker.payload:
        case TensorSource(tensors) if tensors:
            pairs.append(
                ("tensors", f"{len(tensors)}, {format_size(sum(tensor.size for tensor in tensors))}")
            )
        case TensorSource():
            pairs.append(("tensors", "served by the worker itself"))
        case ArtifactSource() as artifact:
            pairs.append(
                (
                    "artifact",
                    f"{artifact.artifact_id}, {artifact.file_count} files, "
                    f"{format_size(artifact.total_size_bytes)}",
                )
            )
    if pod.name:
        pairs.append(("pod", f"{pod.namespace}/{pod.name}" if pod.namespace else pod.name))
    return pairs
