"""``mx.admin.v1`` messages ⇄ ``core`` values, both ways; the rules of ``codec`` hold here too."""

from __future__ import annotations

import math
from types import MappingProxyType

from mx.core.source import (
    PeerRecord,
    PodReference,
    SourceEntry,
    SourceFilter,
    SourceIdentity,
    SourceSummary,
    WorkerKey,
    source_id,
)
from mx.core.transfer import SourceShare, Strategy, TransferReport, TransferState
from mx.errors import InvalidArgumentError
from mx.wire.codec import (
    build,
    decode_identity,
    decode_worker,
    encode_identity,
    encode_worker,
    frozen_map,
    known_load,
)
from mx.wire.v1 import admin

_STRATEGIES = {
    Strategy.PEER: admin.STRATEGY_PEER,
    Strategy.DISK: admin.STRATEGY_DISK,
    Strategy.SERVER: admin.STRATEGY_SERVER,
}
_STATES = {
    TransferState.RUNNING: admin.TRANSFER_STATE_RUNNING,
    TransferState.DONE: admin.TRANSFER_STATE_DONE,
    TransferState.FAILED: admin.TRANSFER_STATE_FAILED,
}
_STRATEGY_BY_NUMBER = {number: strategy for strategy, number in _STRATEGIES.items()}
_STATE_BY_NUMBER = {number: state for state, number in _STATES.items()}


# ---- keys, peers, rows -----------------------------------------------------------------------


def encode_key(key: WorkerKey) -> admin.WorkerKey:
    return build(
        admin.WorkerKey, source_id=key.source_id, worker_id=key.worker_id, worker_rank=key.worker_rank
    )


def decode_key(message: admin.WorkerKey) -> WorkerKey:
    return WorkerKey(message.source_id, message.worker_id, message.worker_rank)


def encode_peer(peer: PeerRecord) -> admin.PeerRecord:
    return build(
        admin.PeerRecord,
        endpoint=peer.endpoint,
        generation=peer.generation,
        host_id=peer.host_id,
        layout_digest=peer.layout_digest,
    )


def decode_peer(message: admin.PeerRecord) -> PeerRecord:
    return PeerRecord(
        endpoint=message.endpoint,
        generation=message.generation,
        host_id=message.host_id,
        layout_digest=message.layout_digest,
    )


def encode_row(row: SourceSummary) -> admin.SourceRow:
    return build(
        admin.SourceRow,
        key=encode_key(row.key),
        model_name=row.model_name,
        status=row.status,
        updated_at_ms=row.updated_at_ms,
        accelerator=row.accelerator,
        training_step=row.training_step,
        layout_signature=row.layout_signature,
        topology=dict(row.topology),
        source_load=row.source_load,
        worker_grpc_endpoint=row.worker_grpc_endpoint,
        peer=None if row.peer is None else encode_peer(row.peer),
    )


def decode_row(message: admin.SourceRow) -> SourceSummary:
    return SourceSummary(
        source_id=message.key.source_id,
        worker_id=message.key.worker_id,
        worker_rank=message.key.worker_rank,
        model_name=message.model_name,
        status=message.status,
        updated_at_ms=message.updated_at_ms,
        accelerator=message.accelerator,
        training_step=message.training_step if message.HasField("training_step") else None,
        layout_signature=message.layout_signature if message.HasField("layout_signature") else None,
        topology=frozen_map(message.topology),
        source_load=known_load(message.source_load) if message.HasField("source_load") else None,
        worker_grpc_endpoint=message.worker_grpc_endpoint,
        peer=decode_peer(message.peer) if message.HasField("peer") else None,
    )


def encode_row_filter(
    query: SourceFilter, *, identity: SourceIdentity | None = None
) -> admin.ListSourceRowsRequest:
    return build(
        admin.ListSourceRowsRequest,
        source_id=query.source_id,
        identity=None if identity is None else encode_identity(identity),
        status=query.status,
        model_name=query.model_name,
        worker_rank=query.worker_rank,
        min_training_step=query.min_training_step,
        min_updated_at_ms=query.min_updated_at_ms,
        limit=query.limit,
    )


def decode_row_filter(message: admin.ListSourceRowsRequest) -> SourceFilter:
    """An identity with a model name decides over ``source_id``."""
    wanted = message.source_id if message.HasField("source_id") else None
    if message.HasField("identity") and message.identity.model_name:
        wanted = source_id(decode_identity(message.identity))
    return SourceFilter(
        source_id=wanted,
        status=message.status if message.HasField("status") else None,
        model_name=message.model_name if message.HasField("model_name") else None,
        worker_rank=message.worker_rank if message.HasField("worker_rank") else None,
        min_training_step=message.min_training_step if message.HasField("min_training_step") else None,
        min_updated_at_ms=message.min_updated_at_ms if message.HasField("min_updated_at_ms") else None,
        limit=message.limit,
    )


def encode_full_entry(entry: SourceEntry) -> admin.SourceEntry:
    return build(
        admin.SourceEntry,
        source_id=entry.source_id,
        worker_id=entry.worker_id,
        identity=encode_identity(entry.identity),
        worker=encode_worker(entry.worker),
        source_load=entry.source_load,
        peer=None if entry.peer is None else encode_peer(entry.peer),
        pod=build(admin.PodReference, name=entry.pod.name, uid=entry.pod.uid, namespace=entry.pod.namespace),
    )


def decode_full_entry(message: admin.SourceEntry) -> SourceEntry:
    return SourceEntry(
        source_id=message.source_id,
        worker_id=message.worker_id,
        identity=decode_identity(message.identity),
        worker=decode_worker(message.worker),
        source_load=known_load(message.source_load) if message.HasField("source_load") else None,
        peer=decode_peer(message.peer) if message.HasField("peer") else None,
        pod=PodReference(name=message.pod.name, uid=message.pod.uid, namespace=message.pod.namespace),
    )


# ---- transfers -------------------------------------------------------------------------------


def encode_report(report: TransferReport) -> admin.TransferReport:
    return build(
        admin.TransferReport,
        transfer_id=report.transfer_id,
        model_name=report.model_name,
        source_id=report.source_id,
        worker_id=report.worker_id,
        worker_rank=report.worker_rank,
        strategy=_STRATEGIES[report.strategy],
        state=_STATES[report.state],
        bytes_total=report.bytes_total,
        bytes_done=report.bytes_done,
        verified=report.verified,
        started_at_ms=report.started_at_ms,
        seconds=report.seconds,
        stages=[build(admin.Stage, name=name, seconds=s) for name, s in report.stages_s.items()],
        sources=[_encode_share(share) for share in report.sources],
        segments=report.segments,
        segments_reread=report.segments_reread,
        tensors=report.tensors,
        verify_cpu_s=report.verify_cpu_s,
        reason=report.reason,
    )


def decode_report(message: admin.TransferReport) -> TransferReport:
    """Raises InvalidArgumentError on a strategy, state or duration that means nothing here."""
    strategy = _STRATEGY_BY_NUMBER.get(message.strategy)
    state = _STATE_BY_NUMBER.get(message.state)
    if not message.transfer_id:
        raise InvalidArgumentError("a transfer report has no transfer_id")
    if strategy is None or state is None:
        raise InvalidArgumentError(
            f"transfer report {message.transfer_id}: strategy number {message.strategy} with state number "
            f"{message.state} is not known to this version of mx",
            remedy="run the same version of mx on workers, server and command line",
        )
    return TransferReport(
        transfer_id=message.transfer_id,
        model_name=message.model_name,
        source_id=message.source_id,
        worker_id=message.worker_id,
        worker_rank=message.worker_rank,
        strategy=strategy,
        state=state,
        bytes_total=message.bytes_total,
        bytes_done=message.bytes_done,
        verified=message.verified,
        started_at_ms=message.started_at_ms,
        seconds=_quantity(message, "seconds", message.seconds),
        stages_s=MappingProxyType(
            {stage.name: _quantity(message, f"stage {stage.name}", stage.seconds) for stage in message.stages}
        ),
        sources=tuple(_decode_share(message, share) for share in message.sources),
        segments=message.segments,
        segments_reread=message.segments_reread,
        tensors=message.tensors,
        verify_cpu_s=_quantity(message, "verify_cpu_s", message.verify_cpu_s),
        reason=message.reason,
    )


def _encode_share(share: SourceShare) -> admin.SourceShare:
    return build(
        admin.SourceShare,
        worker_id=share.worker_id,
        endpoint=share.endpoint,
        bytes=share.bytes,
        gbit_s=share.gbit_s,
        segments=share.segments,
        verified=share.verified,
        dropped=share.dropped,
    )


def _decode_share(report: admin.TransferReport, share: admin.SourceShare) -> SourceShare:
    return SourceShare(
        worker_id=share.worker_id,
        endpoint=share.endpoint,
        bytes=share.bytes,
        gbit_s=_quantity(report, "gbit_s", share.gbit_s),
        segments=share.segments,
        verified=share.verified,
        dropped=share.dropped,
    )


def _quantity(report: admin.TransferReport, name: str, value: float) -> float:
    if not math.isfinite(value) or value < 0:
        raise InvalidArgumentError(f"transfer report {report.transfer_id}: {name} is {value}")
    return value
