# Written by protos/generate.py from mx/admin/v1/admin.proto; do not edit.

import grpc
import grpc.aio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, Protocol, overload, type_check_only
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer, RepeatedScalarFieldContainer, ScalarMap
from google.protobuf.message import Message
import mx.wire.v1.p2p

DESCRIPTOR: FileDescriptor

STRATEGY_UNSPECIFIED: Final[int]
STRATEGY_PEER: Final[int]
STRATEGY_DISK: Final[int]
STRATEGY_SERVER: Final[int]

TRANSFER_STATE_UNSPECIFIED: Final[int]
TRANSFER_STATE_RUNNING: Final[int]
TRANSFER_STATE_DONE: Final[int]
TRANSFER_STATE_FAILED: Final[int]

class GetServerStatusRequest(Message):
    def __init__(self) -> None: ...

class GetServerStatusResponse(Message):
    def __init__(
        self,
        *,
        version: str | None = ...,
        started_at_ms: int | None = ...,
        ready: bool | None = ...,
        draining: bool | None = ...,
        store_backend: str | None = ...,
        store_ok: bool | None = ...,
        store_latency_ms: float | None = ...,
        sources_by_status: Mapping[str, int] | None = ...,
        listen: str | None = ...,
        settings_file: str | None = ...,
        read_only: bool | None = ...,
    ) -> None: ...
    version: str
    started_at_ms: int
    ready: bool
    draining: bool
    store_backend: str
    store_ok: bool
    store_latency_ms: float
    @property
    def sources_by_status(self) -> ScalarMap[str, int]: ...
    listen: str
    settings_file: str
    read_only: bool

class PeerRecord(Message):
    def __init__(
        self,
        *,
        endpoint: str | None = ...,
        generation: str | None = ...,
        host_id: str | None = ...,
        layout_digest: str | None = ...,
    ) -> None: ...
    endpoint: str
    generation: str
    host_id: str
    layout_digest: str

class WorkerKey(Message):
    def __init__(
        self,
        *,
        source_id: str | None = ...,
        worker_id: str | None = ...,
        worker_rank: int | None = ...,
    ) -> None: ...
    source_id: str
    worker_id: str
    worker_rank: int

class SourceRow(Message):
    def __init__(
        self,
        *,
        key: WorkerKey | None = ...,
        model_name: str | None = ...,
        status: int | None = ...,
        updated_at_ms: int | None = ...,
        accelerator: str | None = ...,
        training_step: int | None = ...,
        layout_signature: str | None = ...,
        topology: Mapping[str, str] | None = ...,
        source_load: float | None = ...,
        worker_grpc_endpoint: str | None = ...,
        peer: PeerRecord | None = ...,
    ) -> None: ...
    @property
    def key(self) -> WorkerKey: ...
    model_name: str
    status: int
    updated_at_ms: int
    accelerator: str
    training_step: int
    layout_signature: str
    @property
    def topology(self) -> ScalarMap[str, str]: ...
    source_load: float
    worker_grpc_endpoint: str
    @property
    def peer(self) -> PeerRecord: ...
    @overload
    def HasField(self, field_name: Literal["key"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["training_step"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["layout_signature"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["source_load"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["peer"]) -> bool: ...

class AnnouncePeerRequest(Message):
    def __init__(
        self,
        *,
        key: WorkerKey | None = ...,
        peer: PeerRecord | None = ...,
    ) -> None: ...
    @property
    def key(self) -> WorkerKey: ...
    @property
    def peer(self) -> PeerRecord: ...
    @overload
    def HasField(self, field_name: Literal["key"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["peer"]) -> bool: ...

class AnnouncePeerResponse(Message):
    def __init__(
        self,
        *,
        known: bool | None = ...,
    ) -> None: ...
    known: bool

class FindPeersRequest(Message):
    def __init__(
        self,
        *,
        identity: mx.wire.v1.p2p.SourceIdentity | None = ...,
        worker_rank: int | None = ...,
    ) -> None: ...
    @property
    def identity(self) -> mx.wire.v1.p2p.SourceIdentity: ...
    worker_rank: int
    def HasField(self, field_name: Literal["identity"]) -> bool: ...

class FindPeersResponse(Message):
    def __init__(
        self,
        *,
        source_id: str | None = ...,
        rows: Iterable[SourceRow] | None = ...,
    ) -> None: ...
    source_id: str
    @property
    def rows(self) -> RepeatedCompositeFieldContainer[SourceRow]: ...

class ListSourceRowsRequest(Message):
    def __init__(
        self,
        *,
        source_id: str | None = ...,
        identity: mx.wire.v1.p2p.SourceIdentity | None = ...,
        status: int | None = ...,
        model_name: str | None = ...,
        worker_rank: int | None = ...,
        min_training_step: int | None = ...,
        min_updated_at_ms: int | None = ...,
        limit: int | None = ...,
    ) -> None: ...
    source_id: str
    @property
    def identity(self) -> mx.wire.v1.p2p.SourceIdentity: ...
    status: int
    model_name: str
    worker_rank: int
    min_training_step: int
    min_updated_at_ms: int
    limit: int
    @overload
    def HasField(self, field_name: Literal["source_id"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["identity"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["status"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["model_name"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["worker_rank"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["min_training_step"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["min_updated_at_ms"]) -> bool: ...

class ListSourceRowsResponse(Message):
    def __init__(
        self,
        *,
        rows: Iterable[SourceRow] | None = ...,
    ) -> None: ...
    @property
    def rows(self) -> RepeatedCompositeFieldContainer[SourceRow]: ...

class GetSourceRequest(Message):
    def __init__(
        self,
        *,
        source_id: str | None = ...,
        worker_id: str | None = ...,
    ) -> None: ...
    source_id: str
    worker_id: str

class GetSourceResponse(Message):
    def __init__(
        self,
        *,
        entry: SourceEntry | None = ...,
    ) -> None: ...
    @property
    def entry(self) -> SourceEntry: ...
    def HasField(self, field_name: Literal["entry"]) -> bool: ...

class SourceEntry(Message):
    def __init__(
        self,
        *,
        source_id: str | None = ...,
        worker_id: str | None = ...,
        identity: mx.wire.v1.p2p.SourceIdentity | None = ...,
        worker: mx.wire.v1.p2p.WorkerMetadata | None = ...,
        source_load: float | None = ...,
        peer: PeerRecord | None = ...,
        pod: PodReference | None = ...,
    ) -> None: ...
    source_id: str
    worker_id: str
    @property
    def identity(self) -> mx.wire.v1.p2p.SourceIdentity: ...
    @property
    def worker(self) -> mx.wire.v1.p2p.WorkerMetadata: ...
    source_load: float
    @property
    def peer(self) -> PeerRecord: ...
    @property
    def pod(self) -> PodReference: ...
    @overload
    def HasField(self, field_name: Literal["identity"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["worker"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["source_load"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["peer"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["pod"]) -> bool: ...

class PodReference(Message):
    def __init__(
        self,
        *,
        name: str | None = ...,
        uid: str | None = ...,
        namespace: str | None = ...,
    ) -> None: ...
    name: str
    uid: str
    namespace: str

class WithdrawSourceRequest(Message):
    def __init__(
        self,
        *,
        key: WorkerKey | None = ...,
    ) -> None: ...
    @property
    def key(self) -> WorkerKey: ...
    def HasField(self, field_name: Literal["key"]) -> bool: ...

class WithdrawSourceResponse(Message):
    def __init__(
        self,
        *,
        removed: bool | None = ...,
    ) -> None: ...
    removed: bool

class TransferReport(Message):
    def __init__(
        self,
        *,
        transfer_id: str | None = ...,
        model_name: str | None = ...,
        source_id: str | None = ...,
        worker_id: str | None = ...,
        worker_rank: int | None = ...,
        strategy: int | None = ...,
        state: int | None = ...,
        bytes_total: int | None = ...,
        bytes_done: int | None = ...,
        verified: bool | None = ...,
        started_at_ms: int | None = ...,
        seconds: float | None = ...,
        stages: Iterable[Stage] | None = ...,
        sources: Iterable[SourceShare] | None = ...,
        segments: int | None = ...,
        segments_reread: int | None = ...,
        tensors: int | None = ...,
        verify_cpu_s: float | None = ...,
        reason: str | None = ...,
    ) -> None: ...
    transfer_id: str
    model_name: str
    source_id: str
    worker_id: str
    worker_rank: int
    strategy: int
    state: int
    bytes_total: int
    bytes_done: int
    verified: bool
    started_at_ms: int
    seconds: float
    @property
    def stages(self) -> RepeatedCompositeFieldContainer[Stage]: ...
    @property
    def sources(self) -> RepeatedCompositeFieldContainer[SourceShare]: ...
    segments: int
    segments_reread: int
    tensors: int
    verify_cpu_s: float
    reason: str

class Stage(Message):
    def __init__(
        self,
        *,
        name: str | None = ...,
        seconds: float | None = ...,
    ) -> None: ...
    name: str
    seconds: float

class SourceShare(Message):
    def __init__(
        self,
        *,
        worker_id: str | None = ...,
        endpoint: str | None = ...,
        bytes: int | None = ...,
        gbit_s: float | None = ...,
        segments: int | None = ...,
        verified: bool | None = ...,
        dropped: str | None = ...,
    ) -> None: ...
    worker_id: str
    endpoint: str
    bytes: int
    gbit_s: float
    segments: int
    verified: bool
    dropped: str

class ReportTransferRequest(Message):
    def __init__(
        self,
        *,
        report: TransferReport | None = ...,
    ) -> None: ...
    @property
    def report(self) -> TransferReport: ...
    def HasField(self, field_name: Literal["report"]) -> bool: ...

class ReportTransferResponse(Message):
    def __init__(self) -> None: ...

class ListTransfersRequest(Message):
    def __init__(
        self,
        *,
        limit: int | None = ...,
    ) -> None: ...
    limit: int

class ListTransfersResponse(Message):
    def __init__(
        self,
        *,
        reports: Iterable[TransferReport] | None = ...,
    ) -> None: ...
    @property
    def reports(self) -> RepeatedCompositeFieldContainer[TransferReport]: ...

class EntryKey(Message):
    def __init__(
        self,
        *,
        provider: str | None = ...,
        name: str | None = ...,
        commit: str | None = ...,
        weights: bool | None = ...,
    ) -> None: ...
    provider: str
    name: str
    commit: str
    weights: bool

class EnsureModelRequest(Message):
    def __init__(
        self,
        *,
        provider: str | None = ...,
        name: str | None = ...,
        revision: str | None = ...,
        ignore_weights: bool | None = ...,
        force: bool | None = ...,
    ) -> None: ...
    provider: str
    name: str
    revision: str
    ignore_weights: bool
    force: bool
    def HasField(self, field_name: Literal["revision"]) -> bool: ...

class EnsureProgress(Message):
    def __init__(
        self,
        *,
        key: EntryKey | None = ...,
        status: str | None = ...,
        message: str | None = ...,
        bytes_done: int | None = ...,
        bytes_total: int | None = ...,
        files_done: int | None = ...,
        files_total: int | None = ...,
        rate: float | None = ...,
        eta_s: float | None = ...,
        code: str | None = ...,
    ) -> None: ...
    @property
    def key(self) -> EntryKey: ...
    status: str
    message: str
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    rate: float
    eta_s: float
    code: str
    @overload
    def HasField(self, field_name: Literal["key"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["rate"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["eta_s"]) -> bool: ...

class OpenModelFilesRequest(Message):
    def __init__(
        self,
        *,
        key: EntryKey | None = ...,
        holder: str | None = ...,
    ) -> None: ...
    @property
    def key(self) -> EntryKey: ...
    holder: str
    def HasField(self, field_name: Literal["key"]) -> bool: ...

class OpenModelFilesResponse(Message):
    def __init__(
        self,
        *,
        key: EntryKey | None = ...,
        files: Iterable[ServedFile] | None = ...,
        ticket: str | None = ...,
        life_s: float | None = ...,
        http_port: int | None = ...,
        hosts: Iterable[str] | None = ...,
    ) -> None: ...
    @property
    def key(self) -> EntryKey: ...
    @property
    def files(self) -> RepeatedCompositeFieldContainer[ServedFile]: ...
    ticket: str
    life_s: float
    http_port: int
    @property
    def hosts(self) -> RepeatedScalarFieldContainer[str]: ...
    def HasField(self, field_name: Literal["key"]) -> bool: ...

class ServedFile(Message):
    def __init__(
        self,
        *,
        path: str | None = ...,
        size: int | None = ...,
        digest: str | None = ...,
        xxh3: str | None = ...,
    ) -> None: ...
    path: str
    size: int
    digest: str
    xxh3: str

class RenewModelFilesRequest(Message):
    def __init__(
        self,
        *,
        ticket: str | None = ...,
    ) -> None: ...
    ticket: str

class RenewModelFilesResponse(Message):
    def __init__(self) -> None: ...

class CloseModelFilesRequest(Message):
    def __init__(
        self,
        *,
        ticket: str | None = ...,
    ) -> None: ...
    ticket: str

class CloseModelFilesResponse(Message):
    def __init__(self) -> None: ...

class ListModelsRequest(Message):
    def __init__(
        self,
        *,
        provider: str | None = ...,
        name: str | None = ...,
    ) -> None: ...
    provider: str
    name: str

class ListModelsResponse(Message):
    def __init__(
        self,
        *,
        entries: Iterable[ModelEntry] | None = ...,
        used_bytes: int | None = ...,
        free_bytes: int | None = ...,
        disk_bytes: int | None = ...,
        max_size_bytes: int | None = ...,
        now_ms: int | None = ...,
    ) -> None: ...
    @property
    def entries(self) -> RepeatedCompositeFieldContainer[ModelEntry]: ...
    used_bytes: int
    free_bytes: int
    disk_bytes: int
    max_size_bytes: int
    now_ms: int
    def HasField(self, field_name: Literal["max_size_bytes"]) -> bool: ...

class ModelEntry(Message):
    def __init__(
        self,
        *,
        key: EntryKey | None = ...,
        status: str | None = ...,
        created_at_ms: int | None = ...,
        last_used_at_ms: int | None = ...,
        message: str | None = ...,
        bytes_total: int | None = ...,
        bytes_done: int | None = ...,
        files: int | None = ...,
        disk_bytes: int | None = ...,
        own_bytes: int | None = ...,
        owner: str | None = ...,
        pin: Pin | None = ...,
        readers: Iterable[str] | None = ...,
        requested_revision: str | None = ...,
        retry_at_ms: int | None = ...,
    ) -> None: ...
    @property
    def key(self) -> EntryKey: ...
    status: str
    created_at_ms: int
    last_used_at_ms: int
    message: str
    bytes_total: int
    bytes_done: int
    files: int
    disk_bytes: int
    own_bytes: int
    owner: str
    @property
    def pin(self) -> Pin: ...
    @property
    def readers(self) -> RepeatedScalarFieldContainer[str]: ...
    requested_revision: str
    retry_at_ms: int
    @overload
    def HasField(self, field_name: Literal["key"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["pin"]) -> bool: ...

class Pin(Message):
    def __init__(
        self,
        *,
        until_ms: int | None = ...,
        reason: str | None = ...,
    ) -> None: ...
    until_ms: int
    reason: str
    def HasField(self, field_name: Literal["until_ms"]) -> bool: ...

class RemoveModelRequest(Message):
    def __init__(
        self,
        *,
        provider: str | None = ...,
        name: str | None = ...,
        commit: str | None = ...,
        force: bool | None = ...,
    ) -> None: ...
    provider: str
    name: str
    commit: str
    force: bool
    def HasField(self, field_name: Literal["commit"]) -> bool: ...

class RemoveModelUpdate(Message):
    def __init__(
        self,
        *,
        removed: Iterable[EntryKey] | None = ...,
        bytes_freed: int | None = ...,
        done: bool | None = ...,
    ) -> None: ...
    @property
    def removed(self) -> RepeatedCompositeFieldContainer[EntryKey]: ...
    bytes_freed: int
    done: bool

class PlanRemovalRequest(Message):
    def __init__(
        self,
        *,
        provider: str | None = ...,
        name: str | None = ...,
        commit: str | None = ...,
        force: bool | None = ...,
    ) -> None: ...
    provider: str
    name: str
    commit: str
    force: bool
    def HasField(self, field_name: Literal["commit"]) -> bool: ...

class PlanRemovalResponse(Message):
    def __init__(
        self,
        *,
        plan: EvictionPlan | None = ...,
    ) -> None: ...
    @property
    def plan(self) -> EvictionPlan: ...
    def HasField(self, field_name: Literal["plan"]) -> bool: ...

class ShowModelRequest(Message):
    def __init__(
        self,
        *,
        key: EntryKey | None = ...,
    ) -> None: ...
    @property
    def key(self) -> EntryKey: ...
    def HasField(self, field_name: Literal["key"]) -> bool: ...

class ShowModelResponse(Message):
    def __init__(
        self,
        *,
        entry: ModelEntry | None = ...,
        root: str | None = ...,
        completed_at_ms: int | None = ...,
        files: Iterable[ShownFile] | None = ...,
        shares_with: Iterable[EntryKey] | None = ...,
        owner: str | None = ...,
        claim_expires_at_ms: int | None = ...,
        claim_token: int | None = ...,
        leases: Iterable[ReadLease] | None = ...,
        attempts: int | None = ...,
    ) -> None: ...
    @property
    def entry(self) -> ModelEntry: ...
    root: str
    completed_at_ms: int
    @property
    def files(self) -> RepeatedCompositeFieldContainer[ShownFile]: ...
    @property
    def shares_with(self) -> RepeatedCompositeFieldContainer[EntryKey]: ...
    owner: str
    claim_expires_at_ms: int
    claim_token: int
    @property
    def leases(self) -> RepeatedCompositeFieldContainer[ReadLease]: ...
    attempts: int
    def HasField(self, field_name: Literal["entry"]) -> bool: ...

class ShownFile(Message):
    def __init__(
        self,
        *,
        path: str | None = ...,
        size: int | None = ...,
        digest: str | None = ...,
        xxh3: str | None = ...,
        block: str | None = ...,
        users: int | None = ...,
    ) -> None: ...
    path: str
    size: int
    digest: str
    xxh3: str
    block: str
    users: int

class ReadLease(Message):
    def __init__(
        self,
        *,
        lease_id: str | None = ...,
        holder: str | None = ...,
        expires_at_ms: int | None = ...,
    ) -> None: ...
    lease_id: str
    holder: str
    expires_at_ms: int

class PinModelRequest(Message):
    def __init__(
        self,
        *,
        key: EntryKey | None = ...,
        pin: Pin | None = ...,
    ) -> None: ...
    @property
    def key(self) -> EntryKey: ...
    @property
    def pin(self) -> Pin: ...
    @overload
    def HasField(self, field_name: Literal["key"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["pin"]) -> bool: ...

class PinModelResponse(Message):
    def __init__(self) -> None: ...

class PlanEvictionRequest(Message):
    def __init__(
        self,
        *,
        to_bytes: int | None = ...,
        unused_for_s: float | None = ...,
        keys: EntryKeys | None = ...,
    ) -> None: ...
    to_bytes: int
    unused_for_s: float
    @property
    def keys(self) -> EntryKeys: ...
    @overload
    def HasField(self, field_name: Literal["to_bytes"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["unused_for_s"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["keys"]) -> bool: ...

class EntryKeys(Message):
    def __init__(
        self,
        *,
        keys: Iterable[EntryKey] | None = ...,
    ) -> None: ...
    @property
    def keys(self) -> RepeatedCompositeFieldContainer[EntryKey]: ...

class EvictionPlan(Message):
    def __init__(
        self,
        *,
        victims: Iterable[Judged] | None = ...,
        survivors: Iterable[Judged] | None = ...,
        bytes_freed: int | None = ...,
        target_bytes: int | None = ...,
        met: bool | None = ...,
    ) -> None: ...
    @property
    def victims(self) -> RepeatedCompositeFieldContainer[Judged]: ...
    @property
    def survivors(self) -> RepeatedCompositeFieldContainer[Judged]: ...
    bytes_freed: int
    target_bytes: int
    met: bool

class Judged(Message):
    def __init__(
        self,
        *,
        key: EntryKey | None = ...,
        bytes: int | None = ...,
        reason: str | None = ...,
    ) -> None: ...
    @property
    def key(self) -> EntryKey: ...
    bytes: int
    reason: str
    def HasField(self, field_name: Literal["key"]) -> bool: ...

class PlanEvictionResponse(Message):
    def __init__(
        self,
        *,
        plan: EvictionPlan | None = ...,
    ) -> None: ...
    @property
    def plan(self) -> EvictionPlan: ...
    def HasField(self, field_name: Literal["plan"]) -> bool: ...

class RunEvictionRequest(Message):
    def __init__(
        self,
        *,
        plan: EvictionPlan | None = ...,
    ) -> None: ...
    @property
    def plan(self) -> EvictionPlan: ...
    def HasField(self, field_name: Literal["plan"]) -> bool: ...

class RunEvictionUpdate(Message):
    def __init__(
        self,
        *,
        step: EvictionStep | None = ...,
        run: EvictionRun | None = ...,
    ) -> None: ...
    @property
    def step(self) -> EvictionStep: ...
    @property
    def run(self) -> EvictionRun: ...
    @overload
    def HasField(self, field_name: Literal["step"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["run"]) -> bool: ...

class EvictionStep(Message):
    def __init__(
        self,
        *,
        key: EntryKey | None = ...,
        bytes: int | None = ...,
        stayed: str | None = ...,
        done: int | None = ...,
        total: int | None = ...,
    ) -> None: ...
    @property
    def key(self) -> EntryKey: ...
    bytes: int
    stayed: str
    done: int
    total: int
    def HasField(self, field_name: Literal["key"]) -> bool: ...

class EvictionRun(Message):
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        trigger: str | None = ...,
        plan: EvictionPlan | None = ...,
        bytes_freed: int | None = ...,
        started_at_ms: int | None = ...,
        finished_at_ms: int | None = ...,
        stayed: Iterable[Judged] | None = ...,
    ) -> None: ...
    run_id: str
    trigger: str
    @property
    def plan(self) -> EvictionPlan: ...
    bytes_freed: int
    started_at_ms: int
    finished_at_ms: int
    @property
    def stayed(self) -> RepeatedCompositeFieldContainer[Judged]: ...
    def HasField(self, field_name: Literal["plan"]) -> bool: ...

class VerifyModelsRequest(Message):
    def __init__(
        self,
        *,
        keys: EntryKeys | None = ...,
        on_fault: str | None = ...,
    ) -> None: ...
    @property
    def keys(self) -> EntryKeys: ...
    on_fault: str
    def HasField(self, field_name: Literal["keys"]) -> bool: ...

class VerifyUpdate(Message):
    def __init__(
        self,
        *,
        progress: VerifyProgress | None = ...,
        entry: EntryVerified | None = ...,
    ) -> None: ...
    @property
    def progress(self) -> VerifyProgress: ...
    @property
    def entry(self) -> EntryVerified: ...
    @overload
    def HasField(self, field_name: Literal["progress"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["entry"]) -> bool: ...

class VerifyProgress(Message):
    def __init__(
        self,
        *,
        key: EntryKey | None = ...,
        bytes_done: int | None = ...,
        bytes_total: int | None = ...,
        entries_done: int | None = ...,
        entries_total: int | None = ...,
        rate: float | None = ...,
        eta_s: float | None = ...,
        note: str | None = ...,
    ) -> None: ...
    @property
    def key(self) -> EntryKey: ...
    bytes_done: int
    bytes_total: int
    entries_done: int
    entries_total: int
    rate: float
    eta_s: float
    note: str
    @overload
    def HasField(self, field_name: Literal["key"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["rate"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["eta_s"]) -> bool: ...

class EntryVerified(Message):
    def __init__(
        self,
        *,
        key: EntryKey | None = ...,
        outcome: str | None = ...,
        files: int | None = ...,
        bytes_read: int | None = ...,
        faults: Iterable[FileFault] | None = ...,
        extras: Iterable[str] | None = ...,
        detail: str | None = ...,
        withdrawn: Iterable[EntryKey] | None = ...,
    ) -> None: ...
    @property
    def key(self) -> EntryKey: ...
    outcome: str
    files: int
    bytes_read: int
    @property
    def faults(self) -> RepeatedCompositeFieldContainer[FileFault]: ...
    @property
    def extras(self) -> RepeatedScalarFieldContainer[str]: ...
    detail: str
    @property
    def withdrawn(self) -> RepeatedCompositeFieldContainer[EntryKey]: ...
    def HasField(self, field_name: Literal["key"]) -> bool: ...

class FileFault(Message):
    def __init__(
        self,
        *,
        path: str | None = ...,
        kind: str | None = ...,
        detail: str | None = ...,
    ) -> None: ...
    path: str
    kind: str
    detail: str

class GetCacheStatsRequest(Message):
    def __init__(
        self,
        *,
        runs: int | None = ...,
    ) -> None: ...
    runs: int

class GetCacheStatsResponse(Message):
    def __init__(
        self,
        *,
        root: str | None = ...,
        kinds: Iterable[KindStats] | None = ...,
        used_bytes: int | None = ...,
        free_bytes: int | None = ...,
        disk_bytes: int | None = ...,
        limits: CacheLimits | None = ...,
        next_run_at_ms: int | None = ...,
        runs: Iterable[EvictionRun] | None = ...,
        now_ms: int | None = ...,
    ) -> None: ...
    root: str
    @property
    def kinds(self) -> RepeatedCompositeFieldContainer[KindStats]: ...
    used_bytes: int
    free_bytes: int
    disk_bytes: int
    @property
    def limits(self) -> CacheLimits: ...
    next_run_at_ms: int
    @property
    def runs(self) -> RepeatedCompositeFieldContainer[EvictionRun]: ...
    now_ms: int
    @overload
    def HasField(self, field_name: Literal["limits"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["next_run_at_ms"]) -> bool: ...

class KindStats(Message):
    def __init__(
        self,
        *,
        kind: str | None = ...,
        total: int | None = ...,
        active: int | None = ...,
        bytes: int | None = ...,
        reclaimable_bytes: int | None = ...,
    ) -> None: ...
    kind: str
    total: int
    active: int
    bytes: int
    reclaimable_bytes: int

class CacheLimits(Message):
    def __init__(
        self,
        *,
        enabled: bool | None = ...,
        max_size_bytes: int | None = ...,
        min_free_space_bytes: int | None = ...,
        max_models: int | None = ...,
        unused_threshold_s: float | None = ...,
        high_water: float | None = ...,
        low_water: float | None = ...,
        grace_s: float | None = ...,
    ) -> None: ...
    enabled: bool
    max_size_bytes: int
    min_free_space_bytes: int
    max_models: int
    unused_threshold_s: float
    high_water: float
    low_water: float
    grace_s: float
    @overload
    def HasField(self, field_name: Literal["max_size_bytes"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["min_free_space_bytes"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["max_models"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["unused_threshold_s"]) -> bool: ...

class FeedPosition(Message):
    def __init__(
        self,
        *,
        feed_id: str | None = ...,
        sequence: int | None = ...,
    ) -> None: ...
    feed_id: str
    sequence: int

class WatchRequest(Message):
    def __init__(
        self,
        *,
        resume: FeedPosition | None = ...,
    ) -> None: ...
    @property
    def resume(self) -> FeedPosition: ...
    def HasField(self, field_name: Literal["resume"]) -> bool: ...

class WatchUpdate(Message):
    def __init__(
        self,
        *,
        snapshot: FeedSnapshot | None = ...,
        changes: FeedChanges | None = ...,
        more: bool | None = ...,
    ) -> None: ...
    @property
    def snapshot(self) -> FeedSnapshot: ...
    @property
    def changes(self) -> FeedChanges: ...
    more: bool
    @overload
    def HasField(self, field_name: Literal["snapshot"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["changes"]) -> bool: ...

class FeedSnapshot(Message):
    def __init__(
        self,
        *,
        position: FeedPosition | None = ...,
        now_ms: int | None = ...,
        server: GetServerStatusResponse | None = ...,
        cache: GetCacheStatsResponse | None = ...,
        dropped: int | None = ...,
        entries: Iterable[ModelEntry] | None = ...,
        downloads: Iterable[DownloadMoved] | None = ...,
        sources: Iterable[SourceRow] | None = ...,
        transfers: Iterable[TransferReport] | None = ...,
        events: Iterable[FeedEvent] | None = ...,
    ) -> None: ...
    @property
    def position(self) -> FeedPosition: ...
    now_ms: int
    @property
    def server(self) -> GetServerStatusResponse: ...
    @property
    def cache(self) -> GetCacheStatsResponse: ...
    dropped: int
    @property
    def entries(self) -> RepeatedCompositeFieldContainer[ModelEntry]: ...
    @property
    def downloads(self) -> RepeatedCompositeFieldContainer[DownloadMoved]: ...
    @property
    def sources(self) -> RepeatedCompositeFieldContainer[SourceRow]: ...
    @property
    def transfers(self) -> RepeatedCompositeFieldContainer[TransferReport]: ...
    @property
    def events(self) -> RepeatedCompositeFieldContainer[FeedEvent]: ...
    @overload
    def HasField(self, field_name: Literal["position"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["server"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["cache"]) -> bool: ...

class FeedChanges(Message):
    def __init__(
        self,
        *,
        position: FeedPosition | None = ...,
        now_ms: int | None = ...,
        changes: Iterable[FeedChange] | None = ...,
    ) -> None: ...
    @property
    def position(self) -> FeedPosition: ...
    now_ms: int
    @property
    def changes(self) -> RepeatedCompositeFieldContainer[FeedChange]: ...
    def HasField(self, field_name: Literal["position"]) -> bool: ...

class FeedChange(Message):
    def __init__(
        self,
        *,
        entry: ModelEntry | None = ...,
        entry_gone: EntryKey | None = ...,
        download: DownloadMoved | None = ...,
        cache: GetCacheStatsResponse | None = ...,
        source: SourceRow | None = ...,
        source_gone: WorkerKey | None = ...,
        transfer: TransferReport | None = ...,
        server: GetServerStatusResponse | None = ...,
        event: FeedEvent | None = ...,
    ) -> None: ...
    @property
    def entry(self) -> ModelEntry: ...
    @property
    def entry_gone(self) -> EntryKey: ...
    @property
    def download(self) -> DownloadMoved: ...
    @property
    def cache(self) -> GetCacheStatsResponse: ...
    @property
    def source(self) -> SourceRow: ...
    @property
    def source_gone(self) -> WorkerKey: ...
    @property
    def transfer(self) -> TransferReport: ...
    @property
    def server(self) -> GetServerStatusResponse: ...
    @property
    def event(self) -> FeedEvent: ...
    @overload
    def HasField(self, field_name: Literal["entry"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["entry_gone"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["download"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["cache"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["source"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["source_gone"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["transfer"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["server"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["event"]) -> bool: ...

class DownloadMoved(Message):
    def __init__(
        self,
        *,
        key: EntryKey | None = ...,
        moving: Moving | None = ...,
    ) -> None: ...
    @property
    def key(self) -> EntryKey: ...
    @property
    def moving(self) -> Moving: ...
    @overload
    def HasField(self, field_name: Literal["key"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["moving"]) -> bool: ...

class Moving(Message):
    def __init__(
        self,
        *,
        bytes_done: int | None = ...,
        bytes_total: int | None = ...,
        files_done: int | None = ...,
        files_total: int | None = ...,
        rate: float | None = ...,
        eta_s: float | None = ...,
        waiters: int | None = ...,
    ) -> None: ...
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    rate: float
    eta_s: float
    waiters: int
    @overload
    def HasField(self, field_name: Literal["rate"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["eta_s"]) -> bool: ...

class FeedEvent(Message):
    def __init__(
        self,
        *,
        event_id: str | None = ...,
        at_ms: int | None = ...,
        kind: str | None = ...,
        level: str | None = ...,
        subject: str | None = ...,
        text: str | None = ...,
        server: str | None = ...,
        fields: Iterable[EventField] | None = ...,
    ) -> None: ...
    event_id: str
    at_ms: int
    kind: str
    level: str
    subject: str
    text: str
    server: str
    @property
    def fields(self) -> RepeatedCompositeFieldContainer[EventField]: ...

class EventField(Message):
    def __init__(
        self,
        *,
        name: str | None = ...,
        text: str | None = ...,
        number: int | None = ...,
        real: float | None = ...,
        flag: bool | None = ...,
    ) -> None: ...
    name: str
    text: str
    number: int
    real: float
    flag: bool
    @overload
    def HasField(self, field_name: Literal["text"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["number"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["real"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["flag"]) -> bool: ...

class ListEventsRequest(Message):
    def __init__(
        self,
        *,
        limit: int | None = ...,
        kinds: Iterable[str] | None = ...,
        subject: str | None = ...,
    ) -> None: ...
    limit: int
    @property
    def kinds(self) -> RepeatedScalarFieldContainer[str]: ...
    subject: str

class ListEventsResponse(Message):
    def __init__(
        self,
        *,
        events: Iterable[FeedEvent] | None = ...,
    ) -> None: ...
    @property
    def events(self) -> RepeatedCompositeFieldContainer[FeedEvent]: ...

class GetBackendStatesRequest(Message):
    def __init__(self) -> None: ...

class GetBackendStatesResponse(Message):
    def __init__(
        self,
        *,
        states: Iterable[BackendState] | None = ...,
    ) -> None: ...
    @property
    def states(self) -> RepeatedCompositeFieldContainer[BackendState]: ...

class BackendState(Message):
    def __init__(
        self,
        *,
        duty: str | None = ...,
        backend: str | None = ...,
        address: str | None = ...,
        ok: bool | None = ...,
        latency_ms: float | None = ...,
        facts: Iterable[Fact] | None = ...,
        error: str | None = ...,
    ) -> None: ...
    duty: str
    backend: str
    address: str
    ok: bool
    latency_ms: float
    @property
    def facts(self) -> RepeatedCompositeFieldContainer[Fact]: ...
    error: str

class Fact(Message):
    def __init__(
        self,
        *,
        name: str | None = ...,
        value: str | None = ...,
    ) -> None: ...
    name: str
    value: str

class GetRawSourceRequest(Message):
    def __init__(
        self,
        *,
        key: WorkerKey | None = ...,
    ) -> None: ...
    @property
    def key(self) -> WorkerKey: ...
    def HasField(self, field_name: Literal["key"]) -> bool: ...

class GetRawModelRequest(Message):
    def __init__(
        self,
        *,
        key: EntryKey | None = ...,
    ) -> None: ...
    @property
    def key(self) -> EntryKey: ...
    def HasField(self, field_name: Literal["key"]) -> bool: ...

class GetRawRecordResponse(Message):
    def __init__(
        self,
        *,
        backend: str | None = ...,
        place: str | None = ...,
        text: str | None = ...,
    ) -> None: ...
    backend: str
    place: str
    text: str

class MarkSourceStaleRequest(Message):
    def __init__(
        self,
        *,
        key: WorkerKey | None = ...,
    ) -> None: ...
    @property
    def key(self) -> WorkerKey: ...
    def HasField(self, field_name: Literal["key"]) -> bool: ...

class MarkSourceStaleResponse(Message):
    def __init__(
        self,
        *,
        known: bool | None = ...,
    ) -> None: ...
    known: bool

class ReapSourcesRequest(Message):
    def __init__(
        self,
        *,
        dry_run: bool | None = ...,
    ) -> None: ...
    dry_run: bool

class ReapSourcesResponse(Message):
    def __init__(
        self,
        *,
        seen: int | None = ...,
        marked: Iterable[WorkerKey] | None = ...,
        removed: Iterable[WorkerKey] | None = ...,
    ) -> None: ...
    seen: int
    @property
    def marked(self) -> RepeatedCompositeFieldContainer[WorkerKey]: ...
    @property
    def removed(self) -> RepeatedCompositeFieldContainer[WorkerKey]: ...

class ListSettingsRequest(Message):
    def __init__(self) -> None: ...

class ListSettingsResponse(Message):
    def __init__(
        self,
        *,
        settings: Iterable[Setting] | None = ...,
    ) -> None: ...
    @property
    def settings(self) -> RepeatedCompositeFieldContainer[Setting]: ...

class Setting(Message):
    def __init__(
        self,
        *,
        key: str | None = ...,
        value: str | None = ...,
        origin: str | None = ...,
    ) -> None: ...
    key: str
    value: str
    origin: str

AdminService_NAME: Final[str]

class AdminServiceStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    GetServerStatus: grpc.UnaryUnaryMultiCallable[GetServerStatusRequest, GetServerStatusResponse]
    AnnouncePeer: grpc.UnaryUnaryMultiCallable[AnnouncePeerRequest, AnnouncePeerResponse]
    FindPeers: grpc.UnaryUnaryMultiCallable[FindPeersRequest, FindPeersResponse]
    ListSourceRows: grpc.UnaryUnaryMultiCallable[ListSourceRowsRequest, ListSourceRowsResponse]
    GetSource: grpc.UnaryUnaryMultiCallable[GetSourceRequest, GetSourceResponse]
    WithdrawSource: grpc.UnaryUnaryMultiCallable[WithdrawSourceRequest, WithdrawSourceResponse]
    ReportTransfer: grpc.UnaryUnaryMultiCallable[ReportTransferRequest, ReportTransferResponse]
    ListTransfers: grpc.UnaryUnaryMultiCallable[ListTransfersRequest, ListTransfersResponse]
    EnsureModel: grpc.UnaryStreamMultiCallable[EnsureModelRequest, EnsureProgress]
    OpenModelFiles: grpc.UnaryUnaryMultiCallable[OpenModelFilesRequest, OpenModelFilesResponse]
    RenewModelFiles: grpc.UnaryUnaryMultiCallable[RenewModelFilesRequest, RenewModelFilesResponse]
    CloseModelFiles: grpc.UnaryUnaryMultiCallable[CloseModelFilesRequest, CloseModelFilesResponse]
    ListModels: grpc.UnaryUnaryMultiCallable[ListModelsRequest, ListModelsResponse]
    ShowModel: grpc.UnaryUnaryMultiCallable[ShowModelRequest, ShowModelResponse]
    RemoveModel: grpc.UnaryStreamMultiCallable[RemoveModelRequest, RemoveModelUpdate]
    PlanRemoval: grpc.UnaryUnaryMultiCallable[PlanRemovalRequest, PlanRemovalResponse]
    PinModel: grpc.UnaryUnaryMultiCallable[PinModelRequest, PinModelResponse]
    PlanEviction: grpc.UnaryUnaryMultiCallable[PlanEvictionRequest, PlanEvictionResponse]
    RunEviction: grpc.UnaryStreamMultiCallable[RunEvictionRequest, RunEvictionUpdate]
    VerifyModels: grpc.UnaryStreamMultiCallable[VerifyModelsRequest, VerifyUpdate]
    GetCacheStats: grpc.UnaryUnaryMultiCallable[GetCacheStatsRequest, GetCacheStatsResponse]
    Watch: grpc.UnaryStreamMultiCallable[WatchRequest, WatchUpdate]
    ListEvents: grpc.UnaryUnaryMultiCallable[ListEventsRequest, ListEventsResponse]
    GetBackendStates: grpc.UnaryUnaryMultiCallable[GetBackendStatesRequest, GetBackendStatesResponse]
    GetRawSource: grpc.UnaryUnaryMultiCallable[GetRawSourceRequest, GetRawRecordResponse]
    GetRawModel: grpc.UnaryUnaryMultiCallable[GetRawModelRequest, GetRawRecordResponse]
    MarkSourceStale: grpc.UnaryUnaryMultiCallable[MarkSourceStaleRequest, MarkSourceStaleResponse]
    ReapSources: grpc.UnaryUnaryMultiCallable[ReapSourcesRequest, ReapSourcesResponse]
    ListSettings: grpc.UnaryUnaryMultiCallable[ListSettingsRequest, ListSettingsResponse]

class AdminServiceAsyncStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    GetServerStatus: grpc.aio.UnaryUnaryMultiCallable[GetServerStatusRequest, GetServerStatusResponse]
    AnnouncePeer: grpc.aio.UnaryUnaryMultiCallable[AnnouncePeerRequest, AnnouncePeerResponse]
    FindPeers: grpc.aio.UnaryUnaryMultiCallable[FindPeersRequest, FindPeersResponse]
    ListSourceRows: grpc.aio.UnaryUnaryMultiCallable[ListSourceRowsRequest, ListSourceRowsResponse]
    GetSource: grpc.aio.UnaryUnaryMultiCallable[GetSourceRequest, GetSourceResponse]
    WithdrawSource: grpc.aio.UnaryUnaryMultiCallable[WithdrawSourceRequest, WithdrawSourceResponse]
    ReportTransfer: grpc.aio.UnaryUnaryMultiCallable[ReportTransferRequest, ReportTransferResponse]
    ListTransfers: grpc.aio.UnaryUnaryMultiCallable[ListTransfersRequest, ListTransfersResponse]
    EnsureModel: grpc.aio.UnaryStreamMultiCallable[EnsureModelRequest, EnsureProgress]
    OpenModelFiles: grpc.aio.UnaryUnaryMultiCallable[OpenModelFilesRequest, OpenModelFilesResponse]
    RenewModelFiles: grpc.aio.UnaryUnaryMultiCallable[RenewModelFilesRequest, RenewModelFilesResponse]
    CloseModelFiles: grpc.aio.UnaryUnaryMultiCallable[CloseModelFilesRequest, CloseModelFilesResponse]
    ListModels: grpc.aio.UnaryUnaryMultiCallable[ListModelsRequest, ListModelsResponse]
    ShowModel: grpc.aio.UnaryUnaryMultiCallable[ShowModelRequest, ShowModelResponse]
    RemoveModel: grpc.aio.UnaryStreamMultiCallable[RemoveModelRequest, RemoveModelUpdate]
    PlanRemoval: grpc.aio.UnaryUnaryMultiCallable[PlanRemovalRequest, PlanRemovalResponse]
    PinModel: grpc.aio.UnaryUnaryMultiCallable[PinModelRequest, PinModelResponse]
    PlanEviction: grpc.aio.UnaryUnaryMultiCallable[PlanEvictionRequest, PlanEvictionResponse]
    RunEviction: grpc.aio.UnaryStreamMultiCallable[RunEvictionRequest, RunEvictionUpdate]
    VerifyModels: grpc.aio.UnaryStreamMultiCallable[VerifyModelsRequest, VerifyUpdate]
    GetCacheStats: grpc.aio.UnaryUnaryMultiCallable[GetCacheStatsRequest, GetCacheStatsResponse]
    Watch: grpc.aio.UnaryStreamMultiCallable[WatchRequest, WatchUpdate]
    ListEvents: grpc.aio.UnaryUnaryMultiCallable[ListEventsRequest, ListEventsResponse]
    GetBackendStates: grpc.aio.UnaryUnaryMultiCallable[GetBackendStatesRequest, GetBackendStatesResponse]
    GetRawSource: grpc.aio.UnaryUnaryMultiCallable[GetRawSourceRequest, GetRawRecordResponse]
    GetRawModel: grpc.aio.UnaryUnaryMultiCallable[GetRawModelRequest, GetRawRecordResponse]
    MarkSourceStale: grpc.aio.UnaryUnaryMultiCallable[MarkSourceStaleRequest, MarkSourceStaleResponse]
    ReapSources: grpc.aio.UnaryUnaryMultiCallable[ReapSourcesRequest, ReapSourcesResponse]
    ListSettings: grpc.aio.UnaryUnaryMultiCallable[ListSettingsRequest, ListSettingsResponse]

@type_check_only
class AdminServiceServicer(Protocol):
    def GetServerStatus(self, request: GetServerStatusRequest, context: grpc.ServicerContext, /) -> GetServerStatusResponse: ...
    def AnnouncePeer(self, request: AnnouncePeerRequest, context: grpc.ServicerContext, /) -> AnnouncePeerResponse: ...
    def FindPeers(self, request: FindPeersRequest, context: grpc.ServicerContext, /) -> FindPeersResponse: ...
    def ListSourceRows(self, request: ListSourceRowsRequest, context: grpc.ServicerContext, /) -> ListSourceRowsResponse: ...
    def GetSource(self, request: GetSourceRequest, context: grpc.ServicerContext, /) -> GetSourceResponse: ...
    def WithdrawSource(self, request: WithdrawSourceRequest, context: grpc.ServicerContext, /) -> WithdrawSourceResponse: ...
    def ReportTransfer(self, request: ReportTransferRequest, context: grpc.ServicerContext, /) -> ReportTransferResponse: ...
    def ListTransfers(self, request: ListTransfersRequest, context: grpc.ServicerContext, /) -> ListTransfersResponse: ...
    def EnsureModel(self, request: EnsureModelRequest, context: grpc.ServicerContext, /) -> Iterator[EnsureProgress]: ...
    def OpenModelFiles(self, request: OpenModelFilesRequest, context: grpc.ServicerContext, /) -> OpenModelFilesResponse: ...
    def RenewModelFiles(self, request: RenewModelFilesRequest, context: grpc.ServicerContext, /) -> RenewModelFilesResponse: ...
    def CloseModelFiles(self, request: CloseModelFilesRequest, context: grpc.ServicerContext, /) -> CloseModelFilesResponse: ...
    def ListModels(self, request: ListModelsRequest, context: grpc.ServicerContext, /) -> ListModelsResponse: ...
    def ShowModel(self, request: ShowModelRequest, context: grpc.ServicerContext, /) -> ShowModelResponse: ...
    def RemoveModel(self, request: RemoveModelRequest, context: grpc.ServicerContext, /) -> Iterator[RemoveModelUpdate]: ...
    def PlanRemoval(self, request: PlanRemovalRequest, context: grpc.ServicerContext, /) -> PlanRemovalResponse: ...
    def PinModel(self, request: PinModelRequest, context: grpc.ServicerContext, /) -> PinModelResponse: ...
    def PlanEviction(self, request: PlanEvictionRequest, context: grpc.ServicerContext, /) -> PlanEvictionResponse: ...
    def RunEviction(self, request: RunEvictionRequest, context: grpc.ServicerContext, /) -> Iterator[RunEvictionUpdate]: ...
    def VerifyModels(self, request: VerifyModelsRequest, context: grpc.ServicerContext, /) -> Iterator[VerifyUpdate]: ...
    def GetCacheStats(self, request: GetCacheStatsRequest, context: grpc.ServicerContext, /) -> GetCacheStatsResponse: ...
    def Watch(self, request: WatchRequest, context: grpc.ServicerContext, /) -> Iterator[WatchUpdate]: ...
    def ListEvents(self, request: ListEventsRequest, context: grpc.ServicerContext, /) -> ListEventsResponse: ...
    def GetBackendStates(self, request: GetBackendStatesRequest, context: grpc.ServicerContext, /) -> GetBackendStatesResponse: ...
    def GetRawSource(self, request: GetRawSourceRequest, context: grpc.ServicerContext, /) -> GetRawRecordResponse: ...
    def GetRawModel(self, request: GetRawModelRequest, context: grpc.ServicerContext, /) -> GetRawRecordResponse: ...
    def MarkSourceStale(self, request: MarkSourceStaleRequest, context: grpc.ServicerContext, /) -> MarkSourceStaleResponse: ...
    def ReapSources(self, request: ReapSourcesRequest, context: grpc.ServicerContext, /) -> ReapSourcesResponse: ...
    def ListSettings(self, request: ListSettingsRequest, context: grpc.ServicerContext, /) -> ListSettingsResponse: ...

@type_check_only
class AdminServiceAsyncServicer(Protocol):
    async def GetServerStatus(self, request: GetServerStatusRequest, context: grpc.aio.ServicerContext[GetServerStatusRequest, GetServerStatusResponse], /) -> GetServerStatusResponse: ...
    async def AnnouncePeer(self, request: AnnouncePeerRequest, context: grpc.aio.ServicerContext[AnnouncePeerRequest, AnnouncePeerResponse], /) -> AnnouncePeerResponse: ...
    async def FindPeers(self, request: FindPeersRequest, context: grpc.aio.ServicerContext[FindPeersRequest, FindPeersResponse], /) -> FindPeersResponse: ...
    async def ListSourceRows(self, request: ListSourceRowsRequest, context: grpc.aio.ServicerContext[ListSourceRowsRequest, ListSourceRowsResponse], /) -> ListSourceRowsResponse: ...
    async def GetSource(self, request: GetSourceRequest, context: grpc.aio.ServicerContext[GetSourceRequest, GetSourceResponse], /) -> GetSourceResponse: ...
    async def WithdrawSource(self, request: WithdrawSourceRequest, context: grpc.aio.ServicerContext[WithdrawSourceRequest, WithdrawSourceResponse], /) -> WithdrawSourceResponse: ...
    async def ReportTransfer(self, request: ReportTransferRequest, context: grpc.aio.ServicerContext[ReportTransferRequest, ReportTransferResponse], /) -> ReportTransferResponse: ...
    async def ListTransfers(self, request: ListTransfersRequest, context: grpc.aio.ServicerContext[ListTransfersRequest, ListTransfersResponse], /) -> ListTransfersResponse: ...
    def EnsureModel(self, request: EnsureModelRequest, context: grpc.aio.ServicerContext[EnsureModelRequest, EnsureProgress], /) -> AsyncIterator[EnsureProgress]: ...
    async def OpenModelFiles(self, request: OpenModelFilesRequest, context: grpc.aio.ServicerContext[OpenModelFilesRequest, OpenModelFilesResponse], /) -> OpenModelFilesResponse: ...
    async def RenewModelFiles(self, request: RenewModelFilesRequest, context: grpc.aio.ServicerContext[RenewModelFilesRequest, RenewModelFilesResponse], /) -> RenewModelFilesResponse: ...
    async def CloseModelFiles(self, request: CloseModelFilesRequest, context: grpc.aio.ServicerContext[CloseModelFilesRequest, CloseModelFilesResponse], /) -> CloseModelFilesResponse: ...
    async def ListModels(self, request: ListModelsRequest, context: grpc.aio.ServicerContext[ListModelsRequest, ListModelsResponse], /) -> ListModelsResponse: ...
    async def ShowModel(self, request: ShowModelRequest, context: grpc.aio.ServicerContext[ShowModelRequest, ShowModelResponse], /) -> ShowModelResponse: ...
    def RemoveModel(self, request: RemoveModelRequest, context: grpc.aio.ServicerContext[RemoveModelRequest, RemoveModelUpdate], /) -> AsyncIterator[RemoveModelUpdate]: ...
    async def PlanRemoval(self, request: PlanRemovalRequest, context: grpc.aio.ServicerContext[PlanRemovalRequest, PlanRemovalResponse], /) -> PlanRemovalResponse: ...
    async def PinModel(self, request: PinModelRequest, context: grpc.aio.ServicerContext[PinModelRequest, PinModelResponse], /) -> PinModelResponse: ...
    async def PlanEviction(self, request: PlanEvictionRequest, context: grpc.aio.ServicerContext[PlanEvictionRequest, PlanEvictionResponse], /) -> PlanEvictionResponse: ...
    def RunEviction(self, request: RunEvictionRequest, context: grpc.aio.ServicerContext[RunEvictionRequest, RunEvictionUpdate], /) -> AsyncIterator[RunEvictionUpdate]: ...
    def VerifyModels(self, request: VerifyModelsRequest, context: grpc.aio.ServicerContext[VerifyModelsRequest, VerifyUpdate], /) -> AsyncIterator[VerifyUpdate]: ...
    async def GetCacheStats(self, request: GetCacheStatsRequest, context: grpc.aio.ServicerContext[GetCacheStatsRequest, GetCacheStatsResponse], /) -> GetCacheStatsResponse: ...
    def Watch(self, request: WatchRequest, context: grpc.aio.ServicerContext[WatchRequest, WatchUpdate], /) -> AsyncIterator[WatchUpdate]: ...
    async def ListEvents(self, request: ListEventsRequest, context: grpc.aio.ServicerContext[ListEventsRequest, ListEventsResponse], /) -> ListEventsResponse: ...
    async def GetBackendStates(self, request: GetBackendStatesRequest, context: grpc.aio.ServicerContext[GetBackendStatesRequest, GetBackendStatesResponse], /) -> GetBackendStatesResponse: ...
    async def GetRawSource(self, request: GetRawSourceRequest, context: grpc.aio.ServicerContext[GetRawSourceRequest, GetRawRecordResponse], /) -> GetRawRecordResponse: ...
    async def GetRawModel(self, request: GetRawModelRequest, context: grpc.aio.ServicerContext[GetRawModelRequest, GetRawRecordResponse], /) -> GetRawRecordResponse: ...
    async def MarkSourceStale(self, request: MarkSourceStaleRequest, context: grpc.aio.ServicerContext[MarkSourceStaleRequest, MarkSourceStaleResponse], /) -> MarkSourceStaleResponse: ...
    async def ReapSources(self, request: ReapSourcesRequest, context: grpc.aio.ServicerContext[ReapSourcesRequest, ReapSourcesResponse], /) -> ReapSourcesResponse: ...
    async def ListSettings(self, request: ListSettingsRequest, context: grpc.aio.ServicerContext[ListSettingsRequest, ListSettingsResponse], /) -> ListSettingsResponse: ...

def AdminService_handler(
    implementation: AdminServiceServicer | AdminServiceAsyncServicer,
) -> grpc.GenericRpcHandler[Any, Any]: ...
