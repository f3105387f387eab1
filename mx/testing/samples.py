"""Values to test with: plain ones by hand, arbitrary ones by hypothesis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from mx.core.source import (
    ArtifactSource,
    NixlMetadata,
    PeerRecord,
    PodReference,
    SourceEntry,
    SourceIdentity,
    SourceStatus,
    TensorSource,
    TransferEngineSession,
    WorkerRecord,
    source_id,
)
from mx.core.tensors import TensorDescriptor

IDENTITY = SourceIdentity(model_name="org/Model-7B", mx_version="0.7.0", dtype="bfloat16")
PEER = PeerRecord(endpoint="10.0.0.7:6555", generation="g1", host_id="host-7", layout_digest="d" * 32)

FULL_WORKER = WorkerRecord(
    worker_rank=0,
    status=SourceStatus.READY,
    backend_metadata=NixlMetadata(b"\x00nixl\xff"),
    payload=TensorSource(
        (
            TensorDescriptor("model.embed", (1 << 64) - 1, 1 << 63, 0, "torch.bfloat16"),
            TensorDescriptor("naïve\n名", 0, 0, (1 << 32) - 1, ""),
        )
    ),
    updated_at_ms=1_000,
    metadata_endpoint="10.0.0.7:5555",
    agent_name="agent-7",
    worker_grpc_endpoint="10.0.0.7:6555",
    accelerator="cuda",
    topology={"node": "n1", "rack": "r1"},
)


def entry(
    worker_id: str = "w0",
    *,
    rank: int = 0,
    status: int = SourceStatus.READY,
    updated_at_ms: int = 1_000,
    identity: SourceIdentity = IDENTITY,
    **changes: Any,
) -> SourceEntry:
    """A full record; ``changes`` replace members of SourceEntry."""
    worker = replace(FULL_WORKER, worker_rank=rank, status=status, updated_at_ms=updated_at_ms)
    return replace(SourceEntry(source_id(identity), worker_id, identity, worker), **changes)


# Any text protobuf can carry, so no lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_maps = st.dictionaries(texts, texts, max_size=3)
_u32 = st.integers(0, (1 << 32) - 1)
_u64 = st.integers(0, (1 << 64) - 1)

identities = st.builds(
    SourceIdentity,
    model_name=texts.filter(bool),
    mx_version=texts,
    mx_source_type=st.integers(-1, 40),
    backend_framework=st.integers(-1, 9),
    tensor_parallel_size=_u32,
    dtype=texts,
    revision=texts,
    gpu_arch=texts,
    extra_parameters=_maps
    | st.fixed_dictionaries({"training_step": _u64.map(str), "layout_signature": texts}),
)
tensors = st.builds(
    TensorDescriptor, name=texts, addr=_u64, size=_u64, device_id=_u32, dtype=st.just("torch.bfloat16")
)
payloads = (
    st.none()
    | st.lists(tensors, max_size=3).map(tuple).map(TensorSource)
    | st.builds(
        ArtifactSource,
        artifact_id=texts,
        total_size_bytes=_u64,
        file_count=_u32,
        chunk_count=_u32,
        node_rank=_u32,
    )
)
backends = (
    st.none() | st.binary(max_size=20).map(NixlMetadata) | st.builds(TransferEngineSession, session_id=texts)
)
loads = st.none() | st.floats(0, 100, allow_nan=False)
peers = st.builds(
    PeerRecord, endpoint=texts.filter(bool), generation=texts, host_id=texts, layout_digest=texts
)
pods = st.builds(PodReference, name=texts, uid=texts, namespace=texts)
workers = st.builds(
    WorkerRecord,
    worker_rank=_u32,
    status=st.integers(-1, 9),
    backend_metadata=backends,
    payload=payloads,
    updated_at_ms=st.integers(-(1 << 63), (1 << 63) - 1),
    metadata_endpoint=texts,
    agent_name=texts,
    worker_grpc_endpoint=texts,
    accelerator=texts,
    topology=_maps,
)


@st.composite
def entries(draw: st.DrawFn) -> SourceEntry:
    identity = draw(identities)
    return SourceEntry(
        source_id=source_id(identity),
        worker_id=draw(texts.filter(bool)),
        identity=identity,
        worker=draw(workers),
        source_load=draw(loads),
        peer=draw(st.none() | peers),
        pod=draw(pods),
    )
