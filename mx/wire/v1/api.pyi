# Written by protos/generate.py from api.proto; do not edit.

import grpc
import grpc.aio
from typing import Any, Final, Literal, Protocol, overload, type_check_only
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message

DESCRIPTOR: FileDescriptor

class ApiRequest(Message):
    def __init__(
        self,
        *,
        id: str | None = ...,
        action: str | None = ...,
        payload: bytes | None = ...,
    ) -> None: ...
    id: str
    action: str
    payload: bytes
    def HasField(self, field_name: Literal["payload"]) -> bool: ...

class ApiResponse(Message):
    def __init__(
        self,
        *,
        success: bool | None = ...,
        data: bytes | None = ...,
        error: str | None = ...,
    ) -> None: ...
    success: bool
    data: bytes
    error: str
    @overload
    def HasField(self, field_name: Literal["data"]) -> bool: ...
    @overload
    def HasField(self, field_name: Literal["error"]) -> bool: ...

ApiService_NAME: Final[str]

class ApiServiceStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    SendRequest: grpc.UnaryUnaryMultiCallable[ApiRequest, ApiResponse]

class ApiServiceAsyncStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    SendRequest: grpc.aio.UnaryUnaryMultiCallable[ApiRequest, ApiResponse]

@type_check_only
class ApiServiceServicer(Protocol):
    def SendRequest(self, request: ApiRequest, context: grpc.ServicerContext, /) -> ApiResponse: ...

@type_check_only
class ApiServiceAsyncServicer(Protocol):
    async def SendRequest(self, request: ApiRequest, context: grpc.aio.ServicerContext[ApiRequest, ApiResponse], /) -> ApiResponse: ...

def ApiService_handler(
    implementation: ApiServiceServicer | ApiServiceAsyncServicer,
) -> grpc.GenericRpcHandler[Any, Any]: ...
