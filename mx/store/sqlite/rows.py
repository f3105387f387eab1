"""Columns of ``mx_worker`` and ``mx_record`` from core values, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from mx.core.source import (
    EMPTY_MAP,
    ArtifactSource,
    NixlMetadata,
    PeerRecord,
    PodReference,
    SourceEntry,
    SourceIdentity,
    SourceSummary,
    TensorSource,
    TransferEngineSession,
    WorkerRecord,
    summarise,
)
from mx.core.tensors import TensorDescriptor

Row = tuple[Any, ...]

SUMMARY_COLUMNS = (
    "source_id",
    "worker_id",
    "worker_rank",
    "model_name",
    "status",
    "updated_at_ms",
    "accelerator",
    "training_step",
    "layout_signature",
    "topology",
    "source_load",
    "worker_grpc_endpoint",
    "peer_endpoint",
    "peer_generation",
    "peer_host_id",
    "peer_layout_digest",
)
RECORD_COLUMNS = (
    "identity",
    "backend",
    "backend_data",
    "payload",
    "metadata_endpoint",
    "agent_name",
    "pod",
)

_SIGNED_OFFSET = 1 << 63
_IDENTITY_FIELDS = tuple(field.name for field in fields(SourceIdentity))


def step_to_column(step: int | None) -> int | None:
    """SQLite's integers are signed: shifting keeps the order of unsigned ones."""
    return None if step is None else step - _SIGNED_OFFSET


def encode_summary(entry: SourceEntry) -> Row:
    """Values in the order of SUMMARY_COLUMNS."""
    row = summarise(entry)
    return (
        row.source_id,
        row.worker_id,
        row.worker_rank,
        row.model_name,
        int(row.status),
        row.updated_at_ms,
        row.accelerator,
        step_to_column(row.training_step),
        row.layout_signature,
        _encode_map(row.topology),
        row.source_load,
        row.worker_grpc_endpoint,
        *encode_peer(row.peer),
    )


def encode_peer(peer: PeerRecord | None) -> Row:
    if peer is None:
        return (None, None, None, None)
    return (peer.endpoint, peer.generation, peer.host_id, peer.layout_digest)


def decode_summary(row: Row) -> SourceSummary:
    """From values in the order of SUMMARY_COLUMNS."""
    step = row[7]
    return SourceSummary(
        source_id=row[0],
        worker_id=row[1],
        worker_rank=row[2],
        model_name=row[3],
        status=row[4],
        updated_at_ms=row[5],
        accelerator=row[6],
        training_step=None if step is None else step + _SIGNED_OFFSET,
        layout_signature=row[8],
        topology=_decode_map(row[9]),
        source_load=row[10],
        worker_grpc_endpoint=row[11],
        peer=None if row[12] is None else PeerRecord(row[12], row[13], row[14], row[15]),
    )


def encode_record(entry: SourceEntry) -> Row:
    """Values in the order of RECORD_COLUMNS."""
    worker = entry.worker
    backend, data = _encode_backend(worker.backend_metadata)
    return (
        _encode_identity(entry.identity),
        backend,
        data,
        _encode_payload(worker.payload),
        worker.metadata_endpoint,
        worker.agent_name,
        _encode_pod(entry.pod),
    )


def decode_entry(row: Row) -> SourceEntry:
    """From values in the order of SUMMARY_COLUMNS, then RECORD_COLUMNS."""
    summary = decode_summary(row)
    identity, backend, data, payload, metadata_endpoint, agent_name, pod = row[len(SUMMARY_COLUMNS) :]
    return SourceEntry(
        source_id=summary.source_id,
        worker_id=summary.worker_id,
        identity=_decode_identity(identity),
        worker=WorkerRecord(
            worker_rank=summary.worker_rank,
            status=summary.status,
            backend_metadata=_decode_backend(backend, data),
            payload=_decode_payload(payload),
            updated_at_ms=summary.updated_at_ms,
            metadata_endpoint=metadata_endpoint,
            agent_name=agent_name,
            worker_grpc_endpoint=summary.worker_grpc_endpoint,
            accelerator=summary.accelerator,
            topology=summary.topology,
        ),
        source_load=summary.source_load,
        peer=summary.peer,
        pod=PodReference(**json.loads(pod)) if pod else PodReference(),
    )


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _encode_map(value: Mapping[str, str]) -> str:
    return _dump(dict(value)) if value else ""


def _decode_map(text: str) -> Mapping[str, str]:
    return MappingProxyType(json.loads(text)) if text else EMPTY_MAP


def _encode_identity(identity: SourceIdentity) -> str:
    members = {name: getattr(identity, name) for name in _IDENTITY_FIELDS}
    members["extra_parameters"] = dict(identity.extra_parameters)
    return _dump(members)


def _decode_identity(text: str) -> SourceIdentity:
    members = json.loads(text)
    members["extra_parameters"] = MappingProxyType(members["extra_parameters"])
    return SourceIdentity(**members)


def _encode_pod(pod: PodReference) -> str:
    if pod == PodReference():
        return ""
    return _dump({"name": pod.name, "uid": pod.uid, "namespace": pod.namespace})


def _encode_backend(backend: NixlMetadata | TransferEngineSession | None) -> tuple[str, bytes]:
    match backend:
        case NixlMetadata(blob):
            return "nixl", blob
        case TransferEngineSession(session_id):
            return "transfer_engine", session_id.encode()
        case None:
            return "none", b""


def _decode_backend(kind: str, data: bytes) -> NixlMetadata | TransferEngineSession | None:
    match kind:
        case "nixl":
            return NixlMetadata(data)
        case "transfer_engine":
            return TransferEngineSession(data.decode())
        case _:
            return None


def _encode_payload(payload: TensorSource | ArtifactSource | None) -> str | None:
    match payload:
        case None:
            return None
        case TensorSource(tensors):
            # One array per member: a third of the size of an object per tensor.
            columns = {
                "name": [tensor.name for tensor in tensors],
                "addr": [tensor.addr for tensor in tensors],
                "size": [tensor.size for tensor in tensors],
                "device_id": [tensor.device_id for tensor in tensors],
                "dtype": [tensor.dtype for tensor in tensors],
            }
            return _dump({"tensors": columns})
        case ArtifactSource():
            members = {field.name: getattr(payload, field.name) for field in fields(ArtifactSource)}
            return _dump({"artifact": members})


def _decode_payload(text: str | None) -> TensorSource | ArtifactSource | None:
    if text is None:
        return None
    payload = json.loads(text)
    if "artifact" in payload:
        return ArtifactSource(**payload["artifact"])
    columns = payload["tensors"]
    names = ("name", "addr", "size", "device_id", "dtype")
    rows = zip(*(columns[name] for name in names), strict=True)
    return TensorSource(tuple(TensorDescriptor(*row) for row in rows))
