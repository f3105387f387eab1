"""Members of the JSON values that servers of all makers read and write (storage contract, 2.2 to 2.4).

Shared by the stores that such servers may look into. Writing is exact; reading takes what every
generation left, and raises UnreadableError for what is none of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from mx.core.source import (
    EMPTY_MAP,
    ArtifactSource,
    NixlMetadata,
    SourceEntry,
    SourceIdentity,
    SourceStatus,
    TensorSource,
    TransferEngineSession,
    WorkerRecord,
)
from mx.core.tensors import TensorDescriptor

_IDENTITY = tuple(field.name for field in fields(SourceIdentity))
_NUMBERS = frozenset(name for name in _IDENTITY if name.endswith("_size")) | {
    "mx_source_type",
    "backend_framework",
}


class UnreadableError(Exception):
    """A value of somebody else that has none of the known forms; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class WorkerSummary:
    """The part of a record that heartbeats rewrite. ``source_load`` None: unknown, and not written."""

    worker_rank: int
    status: int
    updated_at_ms: int
    accelerator: str = ""
    topology: Mapping[str, str] = field(default_factory=lambda: EMPTY_MAP)
    source_load: float | None = None


def dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def parse_object(text: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise UnreadableError("it is no JSON") from None
    if not isinstance(found, dict):
        raise UnreadableError("it is no JSON object")
    return found


def dump_identity(identity: SourceIdentity) -> bytes:
    members = {name: getattr(identity, name) for name in _IDENTITY}
    return dump(members | {"extra_parameters": dict(identity.extra_parameters)})


def parse_identity(text: bytes) -> SourceIdentity:
    found = parse_object(text)
    members: dict[str, Any] = {}
    for name in _IDENTITY:
        if found.get(name) is None:
            continue
        if name == "extra_parameters":
            members[name] = _string_map(found, name)
        else:
            members[name] = _integer(found, name) if name in _NUMBERS else _text(found, name)
    if not members.get("model_name"):
        raise UnreadableError("it has no model_name")
    return SourceIdentity(**members)


def summary_of(entry: SourceEntry) -> WorkerSummary:
    worker = entry.worker
    return WorkerSummary(
        worker.worker_rank,
        int(worker.status),
        worker.updated_at_ms,
        worker.accelerator,
        worker.topology,
        entry.source_load,
    )


def dump_summary(summary: WorkerSummary) -> bytes:
    members: dict[str, object] = {
        "worker_rank": summary.worker_rank,
        "status": int(summary.status),
        "updated_at": summary.updated_at_ms,
        "accelerator": summary.accelerator,
    }
    if summary.topology:
        members["topology"] = dict(summary.topology)
    if summary.source_load is not None:
        members["source_load"] = summary.source_load
    return dump(members)


def parse_summary(text: bytes) -> WorkerSummary:
    """From a summary, a live status or a whole record: they share these members."""
    found = parse_object(text)
    return WorkerSummary(
        _integer(found, "worker_rank"),
        _integer(found, "status", default=SourceStatus.UNKNOWN),
        _integer(found, "updated_at", default=0),
        _text(found, "accelerator"),
        _string_map(found, "topology"),
        _load(found.get("source_load")),
    )


def dump_record(worker: WorkerRecord) -> bytes:
    """What changes comes first: a record that is written anew differs in its first bytes."""
    backend, blob, session = _backend_members(worker.backend_metadata)
    tensors = worker.payload.tensors if isinstance(worker.payload, TensorSource) else ()
    artifact = worker.payload if isinstance(worker.payload, ArtifactSource) else None
    members: dict[str, object] = {
        "worker_rank": worker.worker_rank,
        "status": int(worker.status),
        "updated_at": worker.updated_at_ms,
        "agent_name": worker.agent_name,
        "backend_type": backend,
        "nixl_metadata": list(blob),
        "transfer_engine_session_id": session,
        "tensors": dump_tensors(tensors),
        "metadata_endpoint": worker.metadata_endpoint,
        "worker_grpc_endpoint": worker.worker_grpc_endpoint,
        "accelerator": worker.accelerator,
        "artifact_source": None if artifact is None else _artifact_members(artifact),
    }
    if worker.topology:
        members["topology"] = dict(worker.topology)
    return dump(members)


def parse_record(text: bytes) -> WorkerRecord:
    found = parse_object(text)
    summary = parse_summary(text)
    artifact = found.get("artifact_source")
    return WorkerRecord(
        worker_rank=summary.worker_rank,
        status=summary.status,
        backend_metadata=_parse_backend(found),
        payload=TensorSource(parse_tensors(found.get("tensors") or ()))
        if artifact is None
        else _parse_artifact(artifact),
        updated_at_ms=summary.updated_at_ms,
        metadata_endpoint=_text(found, "metadata_endpoint"),
        agent_name=_text(found, "agent_name"),
        worker_grpc_endpoint=_text(found, "worker_grpc_endpoint"),
        accelerator=summary.accelerator,
        topology=summary.topology,
    )


def dump_tensors(tensors: Sequence[TensorDescriptor]) -> list[dict[str, object]]:
    """Addresses and sizes as text: many readers of JSON lose bits of numbers above 2^53."""
    return [
        {
            "name": tensor.name,
            "addr": str(tensor.addr),
            "size": str(tensor.size),
            "device_id": tensor.device_id,
            "dtype": tensor.dtype,
        }
        for tensor in tensors
    ]


def parse_tensors(found: object) -> tuple[TensorDescriptor, ...]:
    if not isinstance(found, list | tuple):
        raise UnreadableError("its tensors are no list")
    return tuple(
        TensorDescriptor(
            _text(one, "name"),
            _integer(one, "addr"),
            _integer(one, "size"),
            _integer(one, "device_id", default=0),
            _text(one, "dtype"),
        )
        for one in map(_mapping, found)
    )


def _backend_members(
    backend: NixlMetadata | TransferEngineSession | None,
) -> tuple[str, bytes, str | None]:
    match backend:
        case NixlMetadata(blob):
            return "nixl", blob, None
        case TransferEngineSession(session_id):
            return "transfer_engine", b"", session_id
        case None:
            return "none", b"", None


def _parse_backend(found: Mapping[str, Any]) -> NixlMetadata | TransferEngineSession | None:
    session = _text(found, "transfer_engine_session_id")
    try:
        blob = bytes(found.get("nixl_metadata") or ())
    except (TypeError, ValueError):
        raise UnreadableError("its nixl_metadata is no list of bytes") from None
    match found.get("backend_type"):
        case "nixl":
            return NixlMetadata(blob)
        case "transfer_engine":
            return TransferEngineSession(session)
        case None if session:
            return TransferEngineSession(session)
        case None if blob:
            return NixlMetadata(blob)
        case _:
            return None


def _artifact_members(artifact: ArtifactSource) -> dict[str, object]:
    return {
        "artifact_id": artifact.artifact_id,
        "total_size": str(artifact.total_size_bytes),
        "file_count": artifact.file_count,
        "chunk_count": artifact.chunk_count,
        "node_rank": artifact.node_rank,
    }


def _parse_artifact(value: object) -> ArtifactSource:
    found = _mapping(value)
    return ArtifactSource(
        _text(found, "artifact_id"),
        total_size_bytes=_integer(found, "total_size", default=0),
        file_count=_integer(found, "file_count", default=0),
        chunk_count=_integer(found, "chunk_count", default=0),
        node_rank=_integer(found, "node_rank", default=0),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableError("one of its parts is no JSON object")
    return value


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or not _storable(value):
        raise UnreadableError(f"its {name} is no text")
    return value


def _storable(text: str) -> bool:
    """Whether it can be written again: JSON may bring half a surrogate pair."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _integer(found: Mapping[str, Any], name: str, *, default: int | None = None) -> int:
    """A number, or decimal text of at most 20 digits: what 64 bits hold."""
    value = found.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 63) <= value < 1 << 64:
        raise UnreadableError(f"its {name} is no whole number of 64 bits")
    return value


def _load(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        load = float(value)
    except OverflowError:
        return None
    return load if math.isfinite(load) else None


def _string_map(found: Mapping[str, Any], member: str) -> Mapping[str, str]:
    value = found.get(member)
    if not value:
        return EMPTY_MAP
    if not isinstance(value, dict) or not all(
        isinstance(text, str) and _storable(name) and _storable(text) for name, text in value.items()
    ):
        raise UnreadableError(f"its {member} is no object of texts")
    return MappingProxyType(value)
