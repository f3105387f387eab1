"""Round trips of every message that has a core value, and bytes that are no message."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx.core.source import (
    ArtifactSource,
    NixlMetadata,
    PeerRecord,
    PodReference,
    SourceEntry,
    SourceFilter,
    SourceIdentity,
    SourceSummary,
    TensorSource,
    TransferEngineSession,
    WorkerKey,
    WorkerRecord,
    source_id,
)
from mx.core.tensors import TensorDescriptor
from mx.core.transfer import STAGES, SourceShare, Strategy, TransferReport, TransferState
from mx.errors import InvalidArgumentError
from mx.wire import admin_codec, codec
from mx.wire.manifest import ManifestColumns, pack_manifest, pack_u64, unpack_manifest, unpack_u64
from mx.wire.v1 import admin, p2p, peer

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)
# Enum fields are 32-bit and open: numbers without a name travel too.
ENUM = st.integers(-(2**31), 2**31 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MAP = st.dictionaries(TEXT, TEXT, max_size=3)
SECONDS = st.floats(0, 1e9)
LOAD = st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False)

TENSORS = st.lists(
    st.builds(TensorDescriptor, name=TEXT, addr=U64, size=U64, device_id=U32, dtype=TEXT), max_size=3
)
IDENTITIES = st.builds(
    SourceIdentity,
    model_name=TEXT,
    mx_version=TEXT,
    mx_source_type=ENUM,
    backend_framework=ENUM,
    tensor_parallel_size=U32,
    pipeline_parallel_size=U32,
    expert_parallel_size=U32,
    dtype=TEXT,
    quantization=TEXT,
    extra_parameters=MAP,
    revision=TEXT,
    backend_framework_version=TEXT,
    torch_version=TEXT,
    cuda_version=TEXT,
    triton_version=TEXT,
    gpu_arch=TEXT,
    compile_config_digest=TEXT,
)
WORKERS = st.builds(
    WorkerRecord,
    worker_rank=U32,
    status=ENUM,
    backend_metadata=st.none()
    | st.builds(NixlMetadata, st.binary(max_size=20))
    | st.builds(TransferEngineSession, TEXT),
    payload=st.none()
    | st.builds(TensorSource, TENSORS.map(tuple))
    | st.builds(
        ArtifactSource,
        artifact_id=TEXT,
        total_size_bytes=U64,
        file_count=U32,
        chunk_count=U32,
        node_rank=U32,
    ),
    updated_at_ms=I64,
    metadata_endpoint=TEXT,
    agent_name=TEXT,
    worker_grpc_endpoint=TEXT,
    accelerator=TEXT,
    topology=MAP,
)
PODS = st.builds(PodReference, name=TEXT, uid=TEXT, namespace=TEXT)
PEERS = st.builds(PeerRecord, endpoint=TEXT, generation=TEXT, host_id=TEXT, layout_digest=TEXT)
KEYS = st.builds(WorkerKey, TEXT, TEXT, U32)
ROWS = st.builds(
    SourceSummary,
    source_id=TEXT,
    worker_id=TEXT,
    worker_rank=U32,
    model_name=TEXT,
    status=ENUM,
    updated_at_ms=I64,
    accelerator=TEXT,
    training_step=st.none() | U64,
    layout_signature=st.none() | TEXT,
    topology=MAP,
    source_load=LOAD,
)
FULL_ROWS = st.builds(
    SourceSummary,
    source_id=TEXT,
    worker_id=TEXT,
    worker_rank=U32,
    model_name=TEXT,
    status=ENUM,
    updated_at_ms=I64,
    source_load=LOAD,
    worker_grpc_endpoint=TEXT,
    peer=st.none() | PEERS,
)
FILTERS = st.builds(
    SourceFilter,
    status=st.none() | ENUM,
    model_name=st.none() | TEXT,
    worker_rank=st.none() | U32,
    min_training_step=st.none() | U64,
    min_updated_at_ms=st.none() | I64,
    limit=U32,
)
REPORTS = st.builds(
    TransferReport,
    transfer_id=TEXT.filter(bool),
    model_name=TEXT,
    source_id=TEXT,
    worker_id=TEXT,
    worker_rank=U32,
    strategy=st.sampled_from(Strategy),
    state=st.sampled_from(TransferState),
    bytes_total=U64,
    bytes_done=U64,
    verified=st.booleans(),
    started_at_ms=I64,
    seconds=SECONDS,
    stages_s=st.dictionaries(st.sampled_from(STAGES), SECONDS),
    sources=st.lists(
        st.builds(
            SourceShare,
            worker_id=TEXT,
            endpoint=TEXT,
            bytes=U64,
            gbit_s=SECONDS,
            segments=U64,
            verified=st.booleans(),
            dropped=TEXT,
        ),
        max_size=2,
    ).map(tuple),
    segments=U64,
    segments_reread=U64,
    tensors=U64,
    verify_cpu_s=SECONDS,
    reason=TEXT,
)


@given(IDENTITIES)
def test_identity_round_trip_keeps_its_id(identity: SourceIdentity) -> None:
    wire = codec.encode_identity(identity).SerializeToString()
    back = codec.decode_identity(codec.parse(p2p.SourceIdentity, wire))
    assert back == identity
    assert source_id(back) == source_id(identity)


@given(IDENTITIES, WORKERS, TEXT, PODS)
def test_publish_round_trip(
    identity: SourceIdentity, worker: WorkerRecord, name: str, pod: PodReference
) -> None:
    wire = codec.encode_publish(identity, worker, worker_id=name, pod=pod).SerializeToString()
    assert codec.decode_publish(codec.parse(p2p.PublishMetadataRequest, wire)) == (
        identity,
        worker,
        name,
        pod,
    )


@given(FILTERS, st.none() | IDENTITIES)
def test_filter_round_trip(query: SourceFilter, identity: SourceIdentity | None) -> None:
    wire = codec.encode_filter(query, identity=identity).SerializeToString()
    back = codec.decode_filter(codec.parse(p2p.ListSourcesRequest, wire))
    named = identity is not None and identity.model_name
    assert back.source_id == (source_id(identity) if named and identity else None)
    for field in ("status", "model_name", "worker_rank", "min_training_step", "min_updated_at_ms", "limit"):
        assert getattr(back, field) == getattr(query, field), field


@given(FILTERS, st.none() | TEXT)
def test_row_filter_round_trip(query: SourceFilter, wanted: str | None) -> None:
    query = replace(query, source_id=wanted)
    wire = admin_codec.encode_row_filter(query).SerializeToString()
    assert admin_codec.decode_row_filter(codec.parse(admin.ListSourceRowsRequest, wire)) == query


@given(ROWS)
def test_instance_round_trip(row: SourceSummary) -> None:
    wire = codec.encode_instance(row).SerializeToString()
    assert codec.decode_instance(codec.parse(p2p.SourceInstanceRef, wire), status=row.status) == row


@given(ROWS | FULL_ROWS)
def test_row_round_trip(row: SourceSummary) -> None:
    wire = admin_codec.encode_row(row).SerializeToString()
    assert admin_codec.decode_row(codec.parse(admin.SourceRow, wire)) == row


@given(st.builds(SourceEntry, TEXT, TEXT, IDENTITIES, WORKERS, LOAD, st.none() | PEERS, PODS))
def test_full_entry_round_trip(entry: SourceEntry) -> None:
    wire = admin_codec.encode_full_entry(entry).SerializeToString()
    assert admin_codec.decode_full_entry(codec.parse(admin.SourceEntry, wire)) == entry


@given(st.builds(SourceEntry, TEXT, TEXT, IDENTITIES, WORKERS), st.booleans())
def test_published_entry_round_trip(entry: SourceEntry, legacy: bool) -> None:
    message = codec.encode_entry(entry, legacy_tensors=legacy)
    back = codec.decode_entry(codec.parse(p2p.GetMetadataResponse, message.SerializeToString()))
    assert back is not None
    assert (back.source_id, back.worker_id, back.identity) == (
        entry.source_id,
        entry.worker_id,
        entry.identity,
    )
    # What was published without a payload reads as a tensor source with no tensors.
    assert back.worker.payload == (entry.worker.payload or TensorSource())
    assert list(message.worker.tensors) == (list(message.worker.tensor_source.tensors) if legacy else [])


@given(KEYS, ENUM, LOAD)
def test_heartbeat_round_trip(key: WorkerKey, status: int, load: float | None) -> None:
    wire = codec.encode_status(key, status, source_load=load).SerializeToString()
    assert codec.decode_status(codec.parse(p2p.UpdateStatusRequest, wire)) == (key, status, load)


@given(KEYS, PEERS)
def test_key_and_peer_round_trip(key: WorkerKey, record: PeerRecord) -> None:
    assert admin_codec.decode_key(admin_codec.encode_key(key)) == key
    assert admin_codec.decode_peer(admin_codec.encode_peer(record)) == record


@given(REPORTS)
def test_report_round_trip(report: TransferReport) -> None:
    wire = admin_codec.encode_report(report).SerializeToString()
    assert admin_codec.decode_report(codec.parse(admin.TransferReport, wire)) == report


@given(
    st.lists(
        st.builds(
            TensorDescriptor,
            name=TEXT.filter(lambda t: "\n" not in t),
            addr=U64,
            size=U64,
            device_id=st.just(3),
            dtype=TEXT,
        ),
        max_size=6,
    )
)
def test_manifest_round_trip(tensors: list[TensorDescriptor]) -> None:
    assert unpack_manifest(pack_manifest(tensors), device_id=3) == tuple(tensors)


@given(st.lists(U64, max_size=5))
def test_u64_columns_are_little_endian(values: list[int]) -> None:
    assert pack_u64(values) == struct.pack(f"<{len(values)}Q", *values)
    assert list(unpack_u64(pack_u64(values))) == values


@given(st.binary(max_size=200))
def test_random_bytes_are_a_message_or_a_clear_error(data: bytes) -> None:
    attempts: tuple[tuple[Any, Callable[[Any], object]], ...] = (
        (p2p.PublishMetadataRequest, codec.decode_publish),
        (p2p.ListSourcesRequest, codec.decode_filter),
        (p2p.SourceInstanceRef, codec.decode_instance),
        (p2p.GetMetadataResponse, codec.decode_entry),
        (p2p.UpdateStatusRequest, codec.decode_status),
        (admin.SourceRow, admin_codec.decode_row),
        (admin.ListSourceRowsRequest, admin_codec.decode_row_filter),
        (admin.SourceEntry, admin_codec.decode_full_entry),
        (admin.TransferReport, admin_codec.decode_report),
        (peer.OpenTransferReply, _open),
    )
    for kind, decode in attempts:
        with contextlib.suppress(InvalidArgumentError):
            decode(codec.parse(kind, data))


def _open(reply: peer.OpenTransferReply) -> object:
    columns = ManifestColumns(reply.addrs, reply.sizes, reply.names, tuple(reply.dtypes), reply.dtype_index)
    return unpack_manifest(columns, device_id=reply.device_id)


@pytest.mark.parametrize(
    "columns",
    [
        ManifestColumns(b"\0" * 7, b"", "", (), b""),
        ManifestColumns(b"\0" * 8, b"", "a", ("x",), b"\0"),
        ManifestColumns(b"\0" * 8, b"\0" * 8, "a\nb", ("x",), b"\0"),
        ManifestColumns(b"\0" * 8, b"\0" * 8, "a", ("x",), b"\1"),
        ManifestColumns(b"\0" * 8, b"\0" * 8, "a", ("x",), b""),
        ManifestColumns(b"", b"", "", (), b"\0"),
    ],
)
def test_columns_that_disagree_are_refused(columns: ManifestColumns) -> None:
    with pytest.raises(InvalidArgumentError):
        unpack_manifest(columns, device_id=0)


def test_what_has_no_place_on_the_wire_is_refused() -> None:
    tensor = TensorDescriptor("a\nb", 0, 0, 0, "x")
    with pytest.raises(InvalidArgumentError, match="newline"):
        pack_manifest([tensor])
    with pytest.raises(InvalidArgumentError, match="257 dtypes"):
        pack_manifest([TensorDescriptor(str(i), 0, 0, 0, str(i)) for i in range(257)])
    with pytest.raises(InvalidArgumentError, match="WorkerMetadata"):
        codec.encode_worker(WorkerRecord(-1))
    with pytest.raises(InvalidArgumentError, match="TensorDescriptor"):
        codec.encode_tensor(TensorDescriptor("a", 1 << 64, 0, 0, "x"))
    with pytest.raises(InvalidArgumentError, match="SourceIdentity"):
        codec.encode_identity(SourceIdentity("lone surrogate \ud800"))
    with pytest.raises(InvalidArgumentError):
        pack_u64([-1])


def test_deprecated_tensors_count_only_without_a_payload() -> None:
    tensor = p2p.TensorDescriptor(name="a", addr=1, size=2, dtype="torch.uint8")
    old = codec.decode_worker(p2p.WorkerMetadata(tensors=[tensor]))
    assert old.payload == TensorSource((TensorDescriptor("a", 1, 2, 0, "torch.uint8"),))
    empty = codec.decode_worker(
        p2p.WorkerMetadata(tensors=[tensor], tensor_source=p2p.TensorSourceMetadata())
    )
    assert empty.payload == TensorSource()
    artifact = p2p.ArtifactSourceMetadata(artifact_id="x")
    other = codec.decode_worker(p2p.WorkerMetadata(tensors=[tensor], artifact_source=artifact))
    assert other.payload == ArtifactSource("x")


def test_presence_is_kept() -> None:
    idle = codec.decode_status(p2p.UpdateStatusRequest(source_load=0.0))
    assert idle[2] == 0.0
    assert codec.decode_status(p2p.UpdateStatusRequest())[2] is None
    assert codec.decode_status(p2p.UpdateStatusRequest(source_load=math.nan))[2] is None
    empty_blob = codec.decode_worker(p2p.WorkerMetadata(nixl_metadata=b""))
    assert empty_blob.backend_metadata == NixlMetadata(b"")
    assert codec.decode_publish(p2p.PublishMetadataRequest()) == (None, None, "", PodReference())
    assert codec.decode_filter(p2p.ListSourcesRequest(status_filter=0)).status == 0
    assert codec.decode_filter(p2p.ListSourcesRequest(worker_rank_filter=0)).worker_rank == 0
    assert (
        codec.decode_filter(p2p.ListSourcesRequest(identity=p2p.SourceIdentity(dtype="x"))).source_id is None
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("field", ["seconds", "verify_cpu_s"])
def test_durations_that_are_none_are_refused(field: str, value: float) -> None:
    message = admin.TransferReport(transfer_id="t", strategy=1, state=1)
    setattr(message, field, value)
    with pytest.raises(InvalidArgumentError, match=field):
        admin_codec.decode_report(message)


def test_unknown_strategies_are_refused_by_name() -> None:
    with pytest.raises(InvalidArgumentError, match="t1: strategy number 99"):
        admin_codec.decode_report(admin.TransferReport(transfer_id="t1", strategy=99, state=1))
    with pytest.raises(InvalidArgumentError, match="no transfer_id"):
        admin_codec.decode_report(admin.TransferReport())
