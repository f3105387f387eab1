# Written by protos/generate.py from mx/admin/v1/admin.proto; do not edit.

import grpc
import grpc.aio
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Protocol, overload, type_check_only
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer, ScalarMap
from google.protobuf.message import Message
import mx.wire.v1.p2p

DESCRIPTOR: FileDescriptor

STRATEGY_UNSPECIFIED: Final[int]
STRATEGY_PEER: Final[int]
STRATEGY_DISK: Final[int]

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

def AdminService_handler(
    implementation: AdminServiceServicer | AdminServiceAsyncServicer,
) -> grpc.GenericRpcHandler[Any, Any]: ...
