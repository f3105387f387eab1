"""Values to test with: plain ones by hand, arbitrary ones by hypothesis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from mx.core.eviction import EvictionPlan, EvictionRun, Survivor, Victim
from mx.core.model import EntryKey, EntryStatus, ModelRecord, Pin, ProviderName, ReadLease
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


any_worker_id = texts.filter(bool)


@st.composite
def entries(draw: st.DrawFn, worker_ids: st.SearchStrategy[str] = any_worker_id) -> SourceEntry:
    identity = draw(identities)
    return SourceEntry(
        source_id=source_id(identity),
        worker_id=draw(worker_ids),
        identity=identity,
        worker=draw(workers),
        source_load=draw(loads),
        peer=draw(st.none() | peers),
        pod=draw(pods),
    )


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def model_key(
    name: str = "org/Model-7B",
    *,
    provider: ProviderName = ProviderName.HUGGING_FACE,
    commit: str = COMMIT,
    weights: bool = True,
) -> EntryKey:
    return EntryKey(provider, name, commit, weights)


def model_record(
    key: EntryKey | None = None,
    *,
    status: EntryStatus = EntryStatus.DOWNLOADED,
    created_at_ms: int = 1_000,
    last_used_at_ms: int = 1_000,
    **changes: Any,
) -> ModelRecord:
    """A record that nobody holds; ``changes`` are further members of ModelRecord."""
    return ModelRecord(key or model_key(), status, created_at_ms, last_used_at_ms, **changes)


def eviction_run(run_id: str = "run-1", *, started_at_ms: int = 1_000, victims: int = 1) -> EvictionRun:
    """A run with so many victims, as many survivors and one failure."""
    gone = tuple(Victim(model_key(f"org/old-{n}"), n, "unused for 9 days") for n in range(victims))
    kept = tuple(Survivor(model_key(f"org/new-{n}", weights=False), n, "pinned") for n in range(victims))
    plan = EvictionPlan(victims=gone, survivors=kept, bytes_freed=1 << 50, target_bytes=1 << 51, met=False)
    failed = ((model_key("org/stuck", provider=ProviderName.S3, commit=""), "permission denied: naïve\n名"),)
    return EvictionRun(run_id, started_at_ms, "interval", plan, 1 << 49, started_at_ms + 5, failed)


_counts = st.integers(0, (1 << 63) - 1)
_commits = st.just("") | st.text("0123456789abcdef", min_size=40, max_size=40)
model_keys = st.builds(
    EntryKey,
    provider=st.sampled_from(ProviderName),
    name=texts.filter(bool),
    commit=_commits,
    weights=st.booleans(),
)
read_leases = st.builds(ReadLease, lease_id=texts, holder=texts, expires_at_ms=_counts)
model_records = st.builds(
    ModelRecord,
    key=model_keys,
    status=st.sampled_from([EntryStatus.DOWNLOADED, EntryStatus.DOWNLOADING, EntryStatus.ERROR]),
    created_at_ms=_counts,
    last_used_at_ms=_counts,
    message=texts,
    bytes_total=_counts,
    bytes_done=_counts,
    files=_counts,
    bytes_on_disk=_counts,
    attempts=_counts,
    retry_at_ms=_counts,
    pin=st.none() | st.builds(Pin, until_ms=st.none() | _counts, reason=texts),
    # Stores answer them ordered by id.
    leases=st.lists(read_leases, max_size=3, unique_by=lambda lease: lease.lease_id).map(
        lambda found: tuple(sorted(found, key=lambda lease: lease.lease_id))
    ),
    requested_revision=texts,
)
