# Written by protos/generate.py from p2p.proto; do not edit.

import grpc
import grpc.aio
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Protocol, overload, type_check_only
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer, ScalarMap
from google.protobuf.message import Message

DESCRIPTOR: FileDescriptor

BACKEND_FRAMEWORK_UNKNOWN: Final[int]
BACKEND_FRAMEWORK_VLLM: Final[int]
BACKEND_FRAMEWORK_SGLANG: Final[int]
BACKEND_FRAMEWORK_TRT_LLM: Final[int]

MX_SOURCE_TYPE_WEIGHTS: Final[int]
MX_SOURCE_TYPE_LORA: Final[int]
MX_SOURCE_TYPE_CUDA_GRAPH: Final[int]
MX_SOURCE_TYPE_TORCH_COMPILE_CACHE: Final[int]
MX_SOURCE_TYPE_TRITON_CACHE: Final[int]
MX_SOURCE_TYPE_DEEP_GEMM_CACHE: Final[int]
MX_SOURCE_TYPE_TILELANG_CACHE: Final[int]
MX_SOURCE_TYPE_CUTE_DSL_CACHE: Final[int]
MX_SOURCE_TYPE_FLASHINFER_CACHE: Final[int]
MX_SOURCE_TYPE_TVM_FFI_CACHE: Final[int]

SOURCE_STATUS_UNKNOWN: Final[int]
SOURCE_STATUS_INITIALIZING: Final[int]
SOURCE_STATUS_READY: Final[int]
SOURCE_STATUS_STALE: Final[int]

class SourceIdentity(Message):
    def __init__(
        self,
        *,
        mx_version: str | None = ...,
        mx_source_type: int | None = ...,
        model_name: str | None = ...,
        backend_framework: int | None = ...,
        tensor_parallel_size: int | None = ...,
        pipeline_parallel_size: int | None = ...,
        expert_parallel_size: int | None = ...,
        dtype: str | None = ...,
        quantization: str | None = ...,
        extra_parameters: Mapping[str, str] | None = ...,
        revision: str | None = ...,
        backend_framework_version: str | None = ...,
        torch_version: str | None = ...,
        cuda_version: str | None = ...,
        triton_version: str | None = ...,
        gpu_arch: str | None = ...,
        compile_config_digest: str | None = ...,
    ) -> None: ...
    mx_version: str
    mx_source_type: int
    model_name: str
    backend_framework: int
    tensor_parallel_size: int
    pipeline_parallel_size: int
    expert_parallel_size: int
    dtype: str
    quantization: str
    @property
    def extra_parameters(self) -> ScalarMap[str, str]: ...
    revision: str
    backend_framework_version: str
    torch_version: str
    cuda_version: str
    triton_version: str
    gpu_arch: str
    compile_config_digest: str

class TensorDescriptor(Message):
    def __init__(
        self,
        *,
        name: str | None = ...,
        addr: int | None = ...,
        size: int | None = ...,
        device_id: int | None = ...,
        dtype: str | None = ...,
    ) -> None: ...
    name: str
    addr: int
    size: int
    device_id: int
    dtype: str

class ArtifactSourceMetadata(Message):
    def __init__(
        self,
        *,
        artifact_id: str | None = ...,
        total_size: int | None = ...,
        file_count: int | None = ...,
        chunk_count: int | None = ...,
        node_rank: int | None = ...,
    ) -> None: ...
    artifact_id: str
    total_size: int
    file_count: int
    chunk_count: int
    node_rank: int

class TensorSourceMetadata(Message):
    def __init__(
        self,
        *,
        tensors: Iterable[TensorDescriptor] | None = ...,
    ) -> None: ...
    @property
    def tensors(self) -> RepeatedCompositeFieldContainer[TensorDescriptor]: ...

class ArtifactManifest(Message):
    def __init__(
        self,
        *,
        manifest_version: int | None = ...,
        mx_source_type: int | None = ...,
        chunk_size: int | None = ...,
        files: Iterable[ArtifactManifestFile] | None = ...,
        chunks: Iterable[ArtifactManifestChunk] | None = ...,
    ) -> None: ...
    manifest_version: int
    mx_source_type: int
    chunk_size: int
    @property
    def files(self) -> RepeatedCompositeFieldContainer[ArtifactManifestFile]: ...
    @property
    def chunks(self) -> RepeatedCompositeFieldContainer[ArtifactManifestChunk]: ...

class ArtifactManifestFile(Message):
    def __init__(
        self,
        *,
        file_index: int | None = ...,
        path: str | None = ...,
        size: int | None = ...,
        checksum: str | None = ...,
    ) -> None: ...
    file_index: int
    path: str
    size: int
    checksum: str

class ArtifactManifestChunk(Message):
    def __init__(
        self,
        *,
        chunk_index: int | None = ...,
        file_index: int | None = ...,
        file_offset: int | None = ...,
        length: int | None = ...,
        checksum: str | None = ...,
    ) -> None: ...
    chunk_index: int
    file_index: int
    file_offset: int
    length: int
    checksum: str

class WorkerMetadata(Message):
    def __init__(
        self,
        *,
        worker_rank: int | None = ...,
        nixl_metadata: bytes | None = ...,
        transfer_engine_session_id: str | None = ...,
        tensors: Iterable[TensorDescriptor] | None = ...,
        status: int | None = ...,
        updated_at: int | None = ...,
        metadata_endpoint: str | None = ...,
        agent_name: str | None = ...,
        worker_grpc_endpoint: str | None = ...,
        accelerator: str | None = ...,
        topology: Mapping[str, str] | None = ...,
        tensor_source: TensorSourceMetadata | None = ...,
        artifact_source: ArtifactSourceMetadata | None = ...,
    ) -> None: ...
    worker_rank: int
    nixl_metadata: bytes
    transfer_engine_session_id: str
    @property
    def tensors(self) -> RepeatedCompositeFieldContainer[TensorDescriptor]: ...
    status: int
    updated_at: int
    metadata_endpoint: str
    agent_name: str
    worker_grpc_endpoint: str
    accelerator: str
    @property
    def topology(self) -> ScalarMap[str, str]: ...
    @property
    def tensor_source(self) -> TensorSourceMetadata: ...
    @property
    def artifact_source(self) -> ArtifactSourceMetadata: ...
    @overload
    def HasField(self, field_name: Literal["nixl_metadata"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["transfer_engine_session_id"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["tensor_source"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["artifact_source"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["backend_metadata"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["source_payload"]) -> bool: ...
    @overload
    def WhichOneof(self, oneof_group: Literal["backend_metadata"]) -> Literal["nixl_metadata", "transfer_engine_session_id"] | None: ...
    @overload
    def WhichOneof(self, oneof_group: Literal["source_payload"]) -> Literal["tensor_source", "artifact_source"] | None: ...

class GetTensorManifestRequest(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        worker_id: str | None = ...,
    ) -> None: ...
    mx_source_id: str
    worker_id: str
    def HasField(self, field_name: Literal["worker_id"]) -> bool: ...

class GetTensorManifestResponse(Message):
    def __init__(
        self,
        *,
        tensors: Iterable[TensorDescriptor] | None = ...,
        mx_source_id: str | None = ...,
        metadata_endpoint: str | None = ...,
        agent_name: str | None = ...,
        worker_rank: int | None = ...,
        accelerator: str | None = ...,
        worker_id: str | None = ...,
    ) -> None: ...
    @property
    def tensors(self) -> RepeatedCompositeFieldContainer[TensorDescriptor]: ...
    mx_source_id: str
    metadata_endpoint: str
    agent_name: str
    worker_rank: int
    accelerator: str
    worker_id: str
    def HasField(self, field_name: Literal["worker_id"]) -> bool: ...

class PrepareTensorReadRequest(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        worker_id: str | None = ...,
    ) -> None: ...
    mx_source_id: str
    worker_id: str
    def HasField(self, field_name: Literal["worker_id"]) -> bool: ...

class PrepareTensorReadResponse(Message):
    def __init__(
        self,
        *,
        lease_id: str | None = ...,
        manifest: GetTensorManifestResponse | None = ...,
    ) -> None: ...
    lease_id: str
    @property
    def manifest(self) -> GetTensorManifestResponse: ...
    def HasField(self, field_name: Literal["manifest"]) -> bool: ...

class ReleaseTensorReadRequest(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        worker_id: str | None = ...,
        lease_id: str | None = ...,
    ) -> None: ...
    mx_source_id: str
    worker_id: str
    lease_id: str
    def HasField(self, field_name: Literal["worker_id"]) -> bool: ...

class ReleaseTensorReadResponse(Message):
    def __init__(self) -> None: ...

class GetArtifactManifestHeaderRequest(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        artifact_id: str | None = ...,
    ) -> None: ...
    mx_source_id: str
    artifact_id: str

class GetArtifactManifestHeaderResponse(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        artifact_id: str | None = ...,
        manifest_version: int | None = ...,
        mx_source_type: int | None = ...,
        total_size: int | None = ...,
        file_count: int | None = ...,
        chunk_count: int | None = ...,
        chunk_size: int | None = ...,
        metadata_endpoint: str | None = ...,
        agent_name: str | None = ...,
        worker_rank: int | None = ...,
        files: Iterable[ArtifactManifestFile] | None = ...,
    ) -> None: ...
    mx_source_id: str
    artifact_id: str
    manifest_version: int
    mx_source_type: int
    total_size: int
    file_count: int
    chunk_count: int
    chunk_size: int
    metadata_endpoint: str
    agent_name: str
    worker_rank: int
    @property
    def files(self) -> RepeatedCompositeFieldContainer[ArtifactManifestFile]: ...

class GetArtifactManifestChunksRequest(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        artifact_id: str | None = ...,
        start_chunk_index: int | None = ...,
        max_chunks: int | None = ...,
    ) -> None: ...
    mx_source_id: str
    artifact_id: str
    start_chunk_index: int
    max_chunks: int

class GetArtifactManifestChunksResponse(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        artifact_id: str | None = ...,
        start_chunk_index: int | None = ...,
        chunks: Iterable[ArtifactManifestChunk] | None = ...,
        next_page_token: str | None = ...,
    ) -> None: ...
    mx_source_id: str
    artifact_id: str
    start_chunk_index: int
    @property
    def chunks(self) -> RepeatedCompositeFieldContainer[ArtifactManifestChunk]: ...
    next_page_token: str

class ArtifactChunkTransferDescriptor(Message):
    def __init__(
        self,
        *,
        addr: int | None = ...,
        length: int | None = ...,
        device_id: int | None = ...,
    ) -> None: ...
    addr: int
    length: int
    device_id: int

class PrepareArtifactChunkRequest(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        artifact_id: str | None = ...,
        chunk_index: int | None = ...,
    ) -> None: ...
    mx_source_id: str
    artifact_id: str
    chunk_index: int

class PrepareArtifactChunkResponse(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        artifact_id: str | None = ...,
        lease_id: str | None = ...,
        chunk: ArtifactManifestChunk | None = ...,
        source: ArtifactChunkTransferDescriptor | None = ...,
        source_metadata: bytes | None = ...,
    ) -> None: ...
    mx_source_id: str
    artifact_id: str
    lease_id: str
    @property
    def chunk(self) -> ArtifactManifestChunk: ...
    @property
    def source(self) -> ArtifactChunkTransferDescriptor: ...
    source_metadata: bytes
    @overload
    def HasField(self, field_name: Literal["chunk"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["source"]) -> bool: ...

class ReleaseArtifactChunkRequest(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        artifact_id: str | None = ...,
        lease_id: str | None = ...,
    ) -> None: ...
    mx_source_id: str
    artifact_id: str
    lease_id: str

class ReleaseArtifactChunkResponse(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        artifact_id: str | None = ...,
        chunk: ArtifactManifestChunk | None = ...,
    ) -> None: ...
    mx_source_id: str
    artifact_id: str
    @property
    def chunk(self) -> ArtifactManifestChunk: ...
    def HasField(self, field_name: Literal["chunk"]) -> bool: ...

class PublishMetadataRequest(Message):
    def __init__(
        self,
        *,
        identity: SourceIdentity | None = ...,
        worker: WorkerMetadata | None = ...,
        worker_id: str | None = ...,
        pod_name: str | None = ...,
        pod_uid: str | None = ...,
        pod_namespace: str | None = ...,
    ) -> None: ...
    @property
    def identity(self) -> SourceIdentity: ...
    @property
    def worker(self) -> WorkerMetadata: ...
    worker_id: str
    pod_name: str
    pod_uid: str
    pod_namespace: str
    @overload
    def HasField(self, field_name: Literal["identity"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["worker"]) -> bool: ...

class PublishMetadataResponse(Message):
    def __init__(
        self,
        *,
        success: bool | None = ...,
        message: str | None = ...,
        mx_source_id: str | None = ...,
        worker_id: str | None = ...,
    ) -> None: ...
    success: bool
    message: str
    mx_source_id: str
    worker_id: str

class SourceInstanceRef(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        worker_id: str | None = ...,
        model_name: str | None = ...,
        worker_rank: int | None = ...,
        accelerator: str | None = ...,
        updated_at: int | None = ...,
        training_step: int | None = ...,
        layout_signature: str | None = ...,
        topology: Mapping[str, str] | None = ...,
        source_load: float | None = ...,
    ) -> None: ...
    mx_source_id: str
    worker_id: str
    model_name: str
    worker_rank: int
    accelerator: str
    updated_at: int
    training_step: int
    layout_signature: str
    @property
    def topology(self) -> ScalarMap[str, str]: ...
    source_load: float
    @overload
    def HasField(self, field_name: Literal["training_step"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["layout_signature"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["source_load"]) -> bool: ...

class ListSourcesRequest(Message):
    def __init__(
        self,
        *,
        identity: SourceIdentity | None = ...,
        status_filter: int | None = ...,
        model_name_filter: str | None = ...,
        worker_rank_filter: int | None = ...,
        min_training_step: int | None = ...,
        min_updated_at: int | None = ...,
        limit: int | None = ...,
    ) -> None: ...
    @property
    def identity(self) -> SourceIdentity: ...
    status_filter: int
    model_name_filter: str
    worker_rank_filter: int
    min_training_step: int
    min_updated_at: int
    limit: int
    @overload
    def HasField(self, field_name: Literal["identity"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["status_filter"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["model_name_filter"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["worker_rank_filter"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["min_training_step"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["min_updated_at"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["limit"]) -> bool: ...

class ListSourcesResponse(Message):
    def __init__(
        self,
        *,
        instances: Iterable[SourceInstanceRef] | None = ...,
    ) -> None: ...
    @property
    def instances(self) -> RepeatedCompositeFieldContainer[SourceInstanceRef]: ...

class GetMetadataRequest(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        worker_id: str | None = ...,
    ) -> None: ...
    mx_source_id: str
    worker_id: str

class GetMetadataResponse(Message):
    def __init__(
        self,
        *,
        found: bool | None = ...,
        worker: WorkerMetadata | None = ...,
        mx_source_id: str | None = ...,
        worker_id: str | None = ...,
        identity: SourceIdentity | None = ...,
    ) -> None: ...
    found: bool
    @property
    def worker(self) -> WorkerMetadata: ...
    mx_source_id: str
    worker_id: str
    @property
    def identity(self) -> SourceIdentity: ...
    @overload
    def HasField(self, field_name: Literal["worker"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["identity"]) -> bool: ...

class UpdateStatusRequest(Message):
    def __init__(
        self,
        *,
        mx_source_id: str | None = ...,
        worker_rank: int | None = ...,
        status: int | None = ...,
        worker_id: str | None = ...,
        source_load: float | None = ...,
    ) -> None: ...
    mx_source_id: str
    worker_rank: int
    status: int
    worker_id: str
    source_load: float
    def HasField(self, field_name: Literal["source_load"]) -> bool: ...

class UpdateStatusResponse(Message):
    def __init__(
        self,
        *,
        success: bool | None = ...,
        message: str | None = ...,
    ) -> None: ...
    success: bool
    message: str

P2pService_NAME: Final[str]

class P2pServiceStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    PublishMetadata: grpc.UnaryUnaryMultiCallable[PublishMetadataRequest, PublishMetadataResponse]
    ListSources: grpc.UnaryUnaryMultiCallable[ListSourcesRequest, ListSourcesResponse]
    GetMetadata: grpc.UnaryUnaryMultiCallable[GetMetadataRequest, GetMetadataResponse]
    UpdateStatus: grpc.UnaryUnaryMultiCallable[UpdateStatusRequest, UpdateStatusResponse]

class P2pServiceAsyncStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    PublishMetadata: grpc.aio.UnaryUnaryMultiCallable[PublishMetadataRequest, PublishMetadataResponse]
    ListSources: grpc.aio.UnaryUnaryMultiCallable[ListSourcesRequest, ListSourcesResponse]
    GetMetadata: grpc.aio.UnaryUnaryMultiCallable[GetMetadataRequest, GetMetadataResponse]
    UpdateStatus: grpc.aio.UnaryUnaryMultiCallable[UpdateStatusRequest, UpdateStatusResponse]

@type_check_only
class P2pServiceServicer(Protocol):
    def PublishMetadata(self, request: PublishMetadataRequest, context: grpc.ServicerContext, /) -> PublishMetadataResponse: ...
    def ListSources(self, request: ListSourcesRequest, context: grpc.ServicerContext, /) -> ListSourcesResponse: ...
    def GetMetadata(self, request: GetMetadataRequest, context: grpc.ServicerContext, /) -> GetMetadataResponse: ...
    def UpdateStatus(self, request: UpdateStatusRequest, context: grpc.ServicerContext, /) -> UpdateStatusResponse: ...

@type_check_only
class P2pServiceAsyncServicer(Protocol):
    async def PublishMetadata(self, request: PublishMetadataRequest, context: grpc.aio.ServicerContext[PublishMetadataRequest, PublishMetadataResponse], /) -> PublishMetadataResponse: ...
    async def ListSources(self, request: ListSourcesRequest, context: grpc.aio.ServicerContext[ListSourcesRequest, ListSourcesResponse], /) -> ListSourcesResponse: ...
    async def GetMetadata(self, request: GetMetadataRequest, context: grpc.aio.ServicerContext[GetMetadataRequest, GetMetadataResponse], /) -> GetMetadataResponse: ...
    async def UpdateStatus(self, request: UpdateStatusRequest, context: grpc.aio.ServicerContext[UpdateStatusRequest, UpdateStatusResponse], /) -> UpdateStatusResponse: ...

def P2pService_handler(
    implementation: P2pServiceServicer | P2pServiceAsyncServicer,
) -> grpc.GenericRpcHandler[Any, Any]: ...

WorkerService_NAME: Final[str]

class WorkerServiceStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    GetTensorManifest: grpc.UnaryUnaryMultiCallable[GetTensorManifestRequest, GetTensorManifestResponse]
    PrepareTensorRead: grpc.UnaryUnaryMultiCallable[PrepareTensorReadRequest, PrepareTensorReadResponse]
    ReleaseTensorRead: grpc.UnaryUnaryMultiCallable[ReleaseTensorReadRequest, ReleaseTensorReadResponse]
    GetArtifactManifestHeader: grpc.UnaryUnaryMultiCallable[GetArtifactManifestHeaderRequest, GetArtifactManifestHeaderResponse]
    GetArtifactManifestChunks: grpc.UnaryUnaryMultiCallable[GetArtifactManifestChunksRequest, GetArtifactManifestChunksResponse]
    PrepareArtifactChunk: grpc.UnaryUnaryMultiCallable[PrepareArtifactChunkRequest, PrepareArtifactChunkResponse]
    ReleaseArtifactChunk: grpc.UnaryUnaryMultiCallable[ReleaseArtifactChunkRequest, ReleaseArtifactChunkResponse]

class WorkerServiceAsyncStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    GetTensorManifest: grpc.aio.UnaryUnaryMultiCallable[GetTensorManifestRequest, GetTensorManifestResponse]
    PrepareTensorRead: grpc.aio.UnaryUnaryMultiCallable[PrepareTensorReadRequest, PrepareTensorReadResponse]
    ReleaseTensorRead: grpc.aio.UnaryUnaryMultiCallable[ReleaseTensorReadRequest, ReleaseTensorReadResponse]
    GetArtifactManifestHeader: grpc.aio.UnaryUnaryMultiCallable[GetArtifactManifestHeaderRequest, GetArtifactManifestHeaderResponse]
    GetArtifactManifestChunks: grpc.aio.UnaryUnaryMultiCallable[GetArtifactManifestChunksRequest, GetArtifactManifestChunksResponse]
    PrepareArtifactChunk: grpc.aio.UnaryUnaryMultiCallable[PrepareArtifactChunkRequest, PrepareArtifactChunkResponse]
    ReleaseArtifactChunk: grpc.aio.UnaryUnaryMultiCallable[ReleaseArtifactChunkRequest, ReleaseArtifactChunkResponse]

@type_check_only
class WorkerServiceServicer(Protocol):
    def GetTensorManifest(self, request: GetTensorManifestRequest, context: grpc.ServicerContext, /) -> GetTensorManifestResponse: ...
    def PrepareTensorRead(self, request: PrepareTensorReadRequest, context: grpc.ServicerContext, /) -> PrepareTensorReadResponse: ...
    def ReleaseTensorRead(self, request: ReleaseTensorReadRequest, context: grpc.ServicerContext, /) -> ReleaseTensorReadResponse: ...
    def GetArtifactManifestHeader(self, request: GetArtifactManifestHeaderRequest, context: grpc.ServicerContext, /) -> GetArtifactManifestHeaderResponse: ...
    def GetArtifactManifestChunks(self, request: GetArtifactManifestChunksRequest, context: grpc.ServicerContext, /) -> GetArtifactManifestChunksResponse: ...
    def PrepareArtifactChunk(self, request: PrepareArtifactChunkRequest, context: grpc.ServicerContext, /) -> PrepareArtifactChunkResponse: ...
    def ReleaseArtifactChunk(self, request: ReleaseArtifactChunkRequest, context: grpc.ServicerContext, /) -> ReleaseArtifactChunkResponse: ...

@type_check_only
class WorkerServiceAsyncServicer(Protocol):
    async def GetTensorManifest(self, request: GetTensorManifestRequest, context: grpc.aio.ServicerContext[GetTensorManifestRequest, GetTensorManifestResponse], /) -> GetTensorManifestResponse: ...
    async def PrepareTensorRead(self, request: PrepareTensorReadRequest, context: grpc.aio.ServicerContext[PrepareTensorReadRequest, PrepareTensorReadResponse], /) -> PrepareTensorReadResponse: ...
    async def ReleaseTensorRead(self, request: ReleaseTensorReadRequest, context: grpc.aio.ServicerContext[ReleaseTensorReadRequest, ReleaseTensorReadResponse], /) -> ReleaseTensorReadResponse: ...
    async def GetArtifactManifestHeader(self, request: GetArtifactManifestHeaderRequest, context: grpc.aio.ServicerContext[GetArtifactManifestHeaderRequest, GetArtifactManifestHeaderResponse], /) -> GetArtifactManifestHeaderResponse: ...
    async def GetArtifactManifestChunks(self, request: GetArtifactManifestChunksRequest, context: grpc.aio.ServicerContext[GetArtifactManifestChunksRequest, GetArtifactManifestChunksResponse], /) -> GetArtifactManifestChunksResponse: ...
    async def PrepareArtifactChunk(self, request: PrepareArtifactChunkRequest, context: grpc.aio.ServicerContext[PrepareArtifactChunkRequest, PrepareArtifactChunkResponse], /) -> PrepareArtifactChunkResponse: ...
    async def ReleaseArtifactChunk(self, request: ReleaseArtifactChunkRequest, context: grpc.aio.ServicerContext[ReleaseArtifactChunkRequest, ReleaseArtifactChunkResponse], /) -> ReleaseArtifactChunkResponse: ...

def WorkerService_handler(
    implementation: WorkerServiceServicer | WorkerServiceAsyncServicer,
) -> grpc.GenericRpcHandler[Any, Any]: ...
