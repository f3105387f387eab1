"""ModelMetadata objects from sources, and back (storage contract, section 4.1).

``status.worker`` is the lowest rank of a worker, as older readers know it; ``status.mx`` holds what mx
knows beside it; further ranks lie in ``status.ranks``, each with the same two parts. A part ``mx`` is
void when another server published since: its ``publishedAt`` is not that of the object then.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, Final

from mx.core.source import (
    ArtifactSource,
    NixlMetadata,
    PeerRecord,
    PodReference,
    SourceEntry,
    SourceIdentity,
    SourceStatus,
    SourceSummary,
    SourceType,
    TensorSource,
    TransferEngineSession,
    WorkerRecord,
    layout_signature,
    training_step,
)
from mx.core.tensors import TensorDescriptor
from mx.store.kubernetes.api import Object, Patch
from mx.store.kubernetes.names import (
    API_VERSION,
    SOURCE_LABEL,
    SOURCES,
    WORKER_LABEL,
    from_date,
    is_date,
    source_name,
    to_date,
)

_STATUS: Final = {status: status.name.capitalize() for status in SourceStatus}
_STATUS_NUMBER: Final = {name: int(status) for status, name in _STATUS.items()}
_IDENTITY_FIELDS: Final = tuple(field.name for field in fields(SourceIdentity))
_INT64: Final = (1 << 63) - 1


def status_name(status: int) -> str:
    """The published word; numbers without one are kept beside it."""
    return _STATUS.get(SourceStatus(status), "Unknown") if status in _STATUS_NUMBER.values() else "Unknown"


def source_type_name(number: int) -> str:
    return SourceType(number).name.lower() if number in SourceType._value2member_map_ else "unknown"


# --- the object around the ranks --------------------------------------------------------------------
def source_object(entry: SourceEntry, *, namespace: str) -> Object:
    """Metadata and spec: all but the status, which has a request of its own."""
    pod = entry.pod
    metadata: Object = {
        "name": source_name(entry.source_id, entry.worker_id),
        "labels": {SOURCE_LABEL: entry.source_id, WORKER_LABEL: entry.worker_id},
    }
    if pod.name and pod.uid and pod.namespace == namespace:
        metadata["ownerReferences"] = [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": pod.name,
                "uid": pod.uid,
                "controller": False,
                "blockOwnerDeletion": False,
            }
        ]
    identity = {name: getattr(entry.identity, name) for name in _IDENTITY_FIELDS}
    identity["extra_parameters"] = dict(entry.identity.extra_parameters)
    spec: Object = {
        "modelName": entry.identity.model_name,
        "sourceType": source_type_name(entry.identity.mx_source_type),
        "identity": identity,
    }
    return {"apiVersion": API_VERSION, "kind": SOURCES.kind, "metadata": metadata, "spec": spec}


def decode_identity(spec: Object) -> SourceIdentity:
    """Objects of older servers have none: then only the model and the type are known."""
    found = spec.get("identity")
    if not isinstance(found, dict):
        kind = str(spec.get("sourceType", "")).upper()
        number = SourceType[kind] if kind in SourceType.__members__ else SourceType.WEIGHTS
        return SourceIdentity(model_name=str(spec.get("modelName", "")), mx_source_type=number)
    known = {name: found[name] for name in _IDENTITY_FIELDS if name in found}
    known.setdefault("model_name", str(spec.get("modelName", "")))
    known["extra_parameters"] = _frozen(found.get("extra_parameters"))
    return SourceIdentity(**known)


# --- one rank ---------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Spilled:
    """Where the large parts of a rank lie: names of ConfigMaps in order, and the digest of what they hold."""

    names: tuple[str, ...] = ()
    digest: str = ""


def encode_rank(entry: SourceEntry, *, published_at: str, tensors: Spilled, blob: Spilled) -> Object:
    worker = entry.worker
    backend, fields_of_backend = _encode_backend(worker.backend_metadata, spilled=bool(blob.names))
    published: Object = {
        "workerRank": worker.worker_rank,
        "backendType": backend,
        **fields_of_backend,
        "tensorCount": len(worker.payload.tensors) if isinstance(worker.payload, TensorSource) else 0,
        "metadataEndpoint": worker.metadata_endpoint,
        "agentName": worker.agent_name,
        "workerGrpcEndpoint": worker.worker_grpc_endpoint,
        "accelerator": worker.accelerator,
        "topology": dict(worker.topology),
    }
    ours: Object = {"publishedAt": published_at, "payload": "none"}
    if entry.pod != PodReference():
        ours["pod"] = asdict(entry.pod)
    match worker.payload:
        case TensorSource():
            ours["payload"] = "tensors"
            if tensors.names:
                published["tensorConfigMap"] = tensors.names[0]
                ours |= {"tensorConfigMaps": list(tensors.names), "tensorsDigest": tensors.digest}
        case ArtifactSource() as artifact:
            ours["payload"] = "artifact"
            published["artifactSource"] = {
                "artifactId": artifact.artifact_id,
                "totalSize": min(artifact.total_size_bytes, _INT64),
                "fileCount": artifact.file_count,
                "chunkCount": artifact.chunk_count,
                "nodeRank": artifact.node_rank,
            }
            ours["totalSize"] = str(artifact.total_size_bytes)
        case None:
            pass
    if blob.names:
        ours |= {"blobConfigMaps": list(blob.names), "blobDigest": blob.digest}
    if entry.peer is not None:
        ours["peer"] = encode_peer(entry.peer)
    stamp = encode_stamp(worker.status, entry.source_load, worker.updated_at_ms)
    return {"worker": published | stamp.worker, "mx": ours | stamp.mx}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a heartbeat changes: members of the published part and of ours; None removes one."""

    worker: Object
    mx: Object


def encode_stamp(status: int, source_load: float | None, unix_ms: int) -> Stamp:
    worker: Object = {"status": status_name(status), "updatedAt": to_date(unix_ms)}
    if source_load is not None:
        worker["sourceLoad"] = source_load
    mx: Object = {}
    if _STATUS_NUMBER[worker["status"]] != status:
        mx["statusNumber"] = int(status)
    if not is_date(unix_ms):
        mx["updatedAtMs"] = unix_ms
    return Stamp(worker, mx)


_STAMP_MEMBERS: Final = frozenset({"statusNumber", "updatedAtMs"})


def decode_updated_ms(rank: Object) -> int:
    """Time of the last heartbeat; the exact number counts as long as it says what the date says."""
    date = rank["worker"].get("updatedAt")
    exact = rank.get("mx", {}).get("updatedAtMs")
    if isinstance(exact, int) and to_date(exact) == date:
        return exact
    return from_date(date)


def decode_status(rank: Object) -> int:
    name = rank["worker"].get("status", "Unknown")
    number = rank.get("mx", {}).get("statusNumber")
    return number if name == "Unknown" and isinstance(number, int) else _STATUS_NUMBER.get(name, 0)


def encode_peer(peer: PeerRecord) -> Object:
    return {
        "endpoint": peer.endpoint,
        "generation": peer.generation,
        "hostId": peer.host_id,
        "layoutDigest": peer.layout_digest,
    }


def _decode_peer(found: Any) -> PeerRecord | None:
    if not isinstance(found, dict) or not found.get("endpoint"):
        return None
    return PeerRecord(
        str(found["endpoint"]),
        str(found.get("generation", "")),
        str(found.get("hostId", "")),
        str(found.get("layoutDigest", "")),
    )


def decode_load(rank: Object) -> float | None:
    load = rank["worker"].get("sourceLoad")
    return float(load) if isinstance(load, (int, float)) else None


# --- all ranks of an object ---------------------------------------------------------------------------
def ranks_of(found: Object) -> dict[int, Object]:
    """Parts ``worker`` and ``mx`` by rank; empty for an object that was begun and not published."""
    status = found.get("status") or {}
    at = status.get("publishedAt")
    ranks: dict[int, Object] = {}
    for part in (status, *(status.get("ranks") or {}).values()):
        worker = part.get("worker")
        if isinstance(worker, dict) and isinstance(worker.get("workerRank"), int):
            mx = part.get("mx") or {}
            current = mx.get("publishedAt") == at or part is not status
            ranks[worker["workerRank"]] = {"worker": worker, "mx": mx if current else {}}
    return dict(sorted(ranks.items()))


def place_of(found: Object, rank: int) -> str:
    """Where in the object a rank lies, as the beginning of a path in a patch."""
    worker = (found.get("status") or {}).get("worker") or {}
    return "/status" if worker.get("workerRank") == rank else f"/status/ranks/{rank}"


def status_of(ranks: Mapping[int, Object], *, previous: Object, generation: int, now: str) -> Object:
    """The whole status; what others keep in it stays."""
    kept = {key: value for key, value in previous.items() if key not in ("worker", "mx", "ranks")}
    lowest, *others = sorted(ranks)
    status = kept | {
        "worker": ranks[lowest]["worker"],
        "mx": ranks[lowest]["mx"],
        "conditions": conditions(previous.get("conditions"), ranks[lowest]["worker"], now=now),
        "observedGeneration": generation,
        "publishedAt": ranks[lowest]["mx"].get("publishedAt") or previous.get("publishedAt") or now,
    }
    if others:
        status["ranks"] = {str(rank): ranks[rank] for rank in others}
    return status


_CONDITION_STATUS: Final = {"Ready": "True", "Unknown": "Unknown"}


def conditions(previous: Any, worker: Object, *, now: str) -> list[Object]:
    """The condition Ready; its time changes with its status only."""
    name = worker["status"]
    status = _CONDITION_STATUS.get(name, "False")
    known: Sequence[Object] = previous if isinstance(previous, list) else ()
    same = [one for one in known if one.get("type") == "Ready" and one.get("status") == status]
    ready = {
        "type": "Ready",
        "status": status,
        "reason": f"Worker{name}",
        "message": f"rank {worker['workerRank']} is {name.lower()}",
        "lastTransitionTime": same[0].get("lastTransitionTime", now) if same else now,
    }
    return [*(one for one in known if one.get("type") != "Ready"), ready]


# --- rows and entries ---------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class RankRow:
    """One rank without its large parts, and what a patch of it must know. Times are the cluster's."""

    summary: SourceSummary
    place: str
    updated_at: str  # as it is written
    published_at: str
    config_maps: tuple[str, ...]
    has_mx: bool
    mx_stamp: frozenset[str]  # members of a stamp that are there
    conditions: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class SourceValue:
    """What a mirror keeps of an object: no blob, no descriptors."""

    source_id: str
    worker_id: str
    rows: tuple[RankRow, ...]  # by rank
    created: str

    def row(self, rank: int) -> RankRow | None:
        return next((row for row in self.rows if row.summary.worker_rank == rank), None)


def decode_source(found: Object) -> SourceValue:
    """Rows of an object; none, and empty ids, for one that is not laid out as a worker."""
    try:
        return _decode_source(found)
    except (AttributeError, KeyError, TypeError, ValueError):  # somebody's own making
        return SourceValue("", "", (), "")


def _decode_source(found: Object) -> SourceValue:
    metadata = found["metadata"]
    labels = metadata.get("labels") or {}
    source_id, worker_id = labels.get(SOURCE_LABEL, ""), labels.get(WORKER_LABEL, "")
    created = metadata.get("creationTimestamp") or ""
    if source_name(source_id, worker_id) != metadata["name"]:
        return SourceValue("", "", (), created)
    identity = decode_identity(found.get("spec") or {})
    held = tuple((found.get("status") or {}).get("conditions") or ())
    rows: list[RankRow] = []
    for rank, part in ranks_of(found).items():
        worker = part["worker"]
        summary = SourceSummary(
            source_id=source_id,
            worker_id=worker_id,
            worker_rank=rank,
            model_name=identity.model_name,
            status=decode_status(part),
            updated_at_ms=decode_updated_ms(part),
            accelerator=worker.get("accelerator", ""),
            training_step=training_step(identity),
            layout_signature=layout_signature(identity),
            topology=_frozen(worker.get("topology")),
            source_load=decode_load(part),
            worker_grpc_endpoint=worker.get("workerGrpcEndpoint", ""),
            peer=_decode_peer(part["mx"].get("peer")),
        )
        rows.append(
            RankRow(
                summary,
                place=place_of(found, rank),
                updated_at=worker.get("updatedAt", ""),
                published_at=(found.get("status") or {}).get("publishedAt", ""),
                config_maps=(*spilled_tensors(part).names, *spilled_blob(part).names),
                has_mx=bool(part["mx"]),
                mx_stamp=frozenset(part["mx"].keys() & _STAMP_MEMBERS),
                conditions=held,
            )
        )
    return SourceValue(source_id, worker_id, tuple(rows), created)


def stamp_patch(row: RankRow, stamp: Stamp) -> Patch:
    """A heartbeat as a patch: status and time, and only what else differs."""
    patch: Patch = [
        {"op": "add", "path": f"{row.place}/worker/{member}", "value": value}
        for member, value in stamp.worker.items()
    ]
    if "sourceLoad" not in stamp.worker and row.summary.source_load is not None:
        patch.append({"op": "remove", "path": f"{row.place}/worker/sourceLoad"})
    if row.has_mx:
        patch += [
            {"op": "add", "path": f"{row.place}/mx/{member}", "value": value}
            for member, value in stamp.mx.items()
        ]
        gone = sorted(row.mx_stamp - stamp.mx.keys())
        patch += [{"op": "remove", "path": f"{row.place}/mx/{member}"} for member in gone]
    if row.place == "/status" and status_name(row.summary.status) != stamp.worker["status"]:
        worker = stamp.worker | {"workerRank": row.summary.worker_rank}
        value = conditions(list(row.conditions), worker, now=stamp.worker["updatedAt"])
        patch.append({"op": "add", "path": "/status/conditions", "value": value})
    return patch


def decode_entry(
    found: Object, rank: int, *, tensors: tuple[TensorDescriptor, ...], blob: bytes | None
) -> SourceEntry:
    """The full record of one rank. ``blob`` is given where it did not fit the object."""
    value = decode_source(found)
    part = ranks_of(found)[rank]
    worker, spec = part["worker"], found.get("spec") or {}
    pod = part["mx"].get("pod") or {}
    return SourceEntry(
        source_id=value.source_id,
        worker_id=value.worker_id,
        identity=decode_identity(spec),
        worker=WorkerRecord(
            worker_rank=rank,
            status=decode_status(part),
            backend_metadata=_decode_backend(worker, blob),
            payload=_decode_payload(part, tensors),
            updated_at_ms=decode_updated_ms(part),
            metadata_endpoint=worker.get("metadataEndpoint", ""),
            agent_name=worker.get("agentName", ""),
            worker_grpc_endpoint=worker.get("workerGrpcEndpoint", ""),
            accelerator=worker.get("accelerator", ""),
            topology=_frozen(worker.get("topology")),
        ),
        source_load=decode_load(part),
        peer=_decode_peer(part["mx"].get("peer")),
        pod=PodReference(pod.get("name", ""), pod.get("uid", ""), pod.get("namespace", "")),
    )


def spilled_tensors(part: Object) -> Spilled:
    """Older servers name one ConfigMap, and no digest."""
    names = part["mx"].get("tensorConfigMaps")
    if isinstance(names, list):
        return Spilled(tuple(names), part["mx"].get("tensorsDigest", ""))
    name = part["worker"].get("tensorConfigMap")
    return Spilled((name,)) if name else Spilled()


def spilled_blob(part: Object) -> Spilled:
    names = part["mx"].get("blobConfigMaps") or ()
    return Spilled(tuple(names), part["mx"].get("blobDigest", ""))


def _encode_backend(
    backend: NixlMetadata | TransferEngineSession | None, *, spilled: bool
) -> tuple[str, Object]:
    match backend:
        case NixlMetadata(blob):
            return "nixl", {"nixlMetadata": "" if spilled else base64.b64encode(blob).decode()}
        case TransferEngineSession(session):
            return "transfer_engine", {"transferEngineSessionId": session}
        case None:
            return "none", {}


def _decode_backend(worker: Object, spilled: bytes | None) -> NixlMetadata | TransferEngineSession | None:
    """By type; without one, by what is there (storage contract, section 2.2)."""
    session = worker.get("transferEngineSessionId") or ""
    blob = base64.b64decode(worker.get("nixlMetadata") or "") if spilled is None else spilled
    match worker.get("backendType"):
        case "nixl":
            return NixlMetadata(blob)
        case "transfer_engine":
            return TransferEngineSession(session)
        case "none":
            return None
        case _:
            return TransferEngineSession(session) if session else NixlMetadata(blob) if blob else None


def _decode_payload(
    part: Object, tensors: tuple[TensorDescriptor, ...]
) -> TensorSource | ArtifactSource | None:
    artifact = part["worker"].get("artifactSource")
    match part["mx"].get("payload"):
        case "none":
            return None
        case None | "artifact" if isinstance(artifact, dict):
            total = part["mx"].get("totalSize", artifact.get("totalSize", 0))
            return ArtifactSource(
                artifact.get("artifactId", ""),
                int(total),
                artifact.get("fileCount", 0),
                artifact.get("chunkCount", 0),
                artifact.get("nodeRank", 0),
            )
        case _:
            return TensorSource(tensors)


def _frozen(found: Any) -> Mapping[str, str]:
    return MappingProxyType(dict(found)) if isinstance(found, dict) and found else MappingProxyType({})
