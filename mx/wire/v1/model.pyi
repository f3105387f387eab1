# Written by protos/generate.py from model.proto; do not edit.

import grpc
import grpc.aio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final, Literal, Protocol, overload, type_check_only
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer, RepeatedScalarFieldContainer
from google.protobuf.message import Message

DESCRIPTOR: FileDescriptor

DOWNLOADING: Final[int]
DOWNLOADED: Final[int]
ERROR: Final[int]

HUGGING_FACE: Final[int]
NGC: Final[int]
GCS: Final[int]
S3: Final[int]

class DeleteModelRequest(Message):
    def __init__(
        self,
        *,
        model_name: str | None = ...,
        provider: int | None = ...,
    ) -> None: ...
    model_name: str
    provider: int

class DeleteModelResponse(Message):
    def __init__(
        self,
        *,
        success: bool | None = ...,
        message: str | None = ...,
    ) -> None: ...
    success: bool
    message: str
    def HasField(self, field_name: Literal["message"]) -> bool: ...

class ModelDownloadRequest(Message):
    def __init__(
        self,
        *,
        model_name: str | None = ...,
        provider: int | None = ...,
        ignore_weights: bool | None = ...,
        revision: str | None = ...,
    ) -> None: ...
    model_name: str
    provider: int
    ignore_weights: bool
    revision: str
    def HasField(self, field_name: Literal["revision"]) -> bool: ...

class ModelStatusUpdate(Message):
    def __init__(
        self,
        *,
        model_name: str | None = ...,
        status: int | None = ...,
        message: str | None = ...,
        provider: int | None = ...,
        resolved_revision: str | None = ...,
    ) -> None: ...
    model_name: str
    status: int
    message: str
    provider: int
    resolved_revision: str
    @overload
    def HasField(self, field_name: Literal["message"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["resolved_revision"]) -> bool: ...

class ModelFilesRequest(Message):
    def __init__(
        self,
        *,
        model_name: str | None = ...,
        provider: int | None = ...,
        chunk_size: int | None = ...,
        file_selector: ModelFileSelector | None = ...,
        ignore_weights: bool | None = ...,
        revision: str | None = ...,
    ) -> None: ...
    model_name: str
    provider: int
    chunk_size: int
    @property
    def file_selector(self) -> ModelFileSelector: ...
    ignore_weights: bool
    revision: str
    @overload
    def HasField(self, field_name: Literal["file_selector"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["revision"]) -> bool: ...

class ModelFileSelector(Message):
    def __init__(
        self,
        *,
        paths: Iterable[str] | None = ...,
    ) -> None: ...
    @property
    def paths(self) -> RepeatedScalarFieldContainer[str]: ...

class FileChunk(Message):
    def __init__(
        self,
        *,
        relative_path: str | None = ...,
        data: bytes | None = ...,
        offset: int | None = ...,
        total_size: int | None = ...,
        is_last_chunk: bool | None = ...,
        is_last_file: bool | None = ...,
        commit_hash: str | None = ...,
    ) -> None: ...
    relative_path: str
    data: bytes
    offset: int
    total_size: int
    is_last_chunk: bool
    is_last_file: bool
    commit_hash: str
    def HasField(self, field_name: Literal["commit_hash"]) -> bool: ...

class ModelFileList(Message):
    def __init__(
        self,
        *,
        model_name: str | None = ...,
        files: Iterable[ModelFileInfo] | None = ...,
        total_size: int | None = ...,
    ) -> None: ...
    model_name: str
    @property
    def files(self) -> RepeatedCompositeFieldContainer[ModelFileInfo]: ...
    total_size: int

class ModelFileInfo(Message):
    def __init__(
        self,
        *,
        relative_path: str | None = ...,
        size: int | None = ...,
    ) -> None: ...
    relative_path: str
    size: int

ModelService_NAME: Final[str]

class ModelServiceStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    EnsureModelDownloaded: grpc.UnaryStreamMultiCallable[ModelDownloadRequest, ModelStatusUpdate]
    StreamModelFiles: grpc.UnaryStreamMultiCallable[ModelFilesRequest, FileChunk]
    ListModelFiles: grpc.UnaryUnaryMultiCallable[ModelFilesRequest, ModelFileList]
    DeleteModel: grpc.UnaryUnaryMultiCallable[DeleteModelRequest, DeleteModelResponse]

class ModelServiceAsyncStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    EnsureModelDownloaded: grpc.aio.UnaryStreamMultiCallable[ModelDownloadRequest, ModelStatusUpdate]
    StreamModelFiles: grpc.aio.UnaryStreamMultiCallable[ModelFilesRequest, FileChunk]
    ListModelFiles: grpc.aio.UnaryUnaryMultiCallable[ModelFilesRequest, ModelFileList]
    DeleteModel: grpc.aio.UnaryUnaryMultiCallable[DeleteModelRequest, DeleteModelResponse]

@type_check_only
class ModelServiceServicer(Protocol):
    def EnsureModelDownloaded(self, request: ModelDownloadRequest, context: grpc.ServicerContext, /) -> Iterator[ModelStatusUpdate]: ...
    def StreamModelFiles(self, request: ModelFilesRequest, context: grpc.ServicerContext, /) -> Iterator[FileChunk]: ...
    def ListModelFiles(self, request: ModelFilesRequest, context: grpc.ServicerContext, /) -> ModelFileList: ...
    def DeleteModel(self, request: DeleteModelRequest, context: grpc.ServicerContext, /) -> DeleteModelResponse: ...

@type_check_only
class ModelServiceAsyncServicer(Protocol):
    def EnsureModelDownloaded(self, request: ModelDownloadRequest, context: grpc.aio.ServicerContext[ModelDownloadRequest, ModelStatusUpdate], /) -> AsyncIterator[ModelStatusUpdate]: ...
    def StreamModelFiles(self, request: ModelFilesRequest, context: grpc.aio.ServicerContext[ModelFilesRequest, FileChunk], /) -> AsyncIterator[FileChunk]: ...
    async def ListModelFiles(self, request: ModelFilesRequest, context: grpc.aio.ServicerContext[ModelFilesRequest, ModelFileList], /) -> ModelFileList: ...
    async def DeleteModel(self, request: DeleteModelRequest, context: grpc.aio.ServicerContext[DeleteModelRequest, DeleteModelResponse], /) -> DeleteModelResponse: ...

def ModelService_handler(
    implementation: ModelServiceServicer | ModelServiceAsyncServicer,
) -> grpc.GenericRpcHandler[Any, Any]: ...
