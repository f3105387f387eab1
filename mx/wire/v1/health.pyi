# Written by protos/generate.py from health.proto; do not edit.

import grpc
import grpc.aio
from typing import Any, Final, Protocol, type_check_only
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message

DESCRIPTOR: FileDescriptor

class HealthRequest(Message):
    def __init__(self) -> None: ...

class HealthResponse(Message):
    def __init__(
        self,
        *,
        version: str | None = ...,
        status: str | None = ...,
        uptime: int | None = ...,
    ) -> None: ...
    version: str
    status: str
    uptime: int

HealthService_NAME: Final[str]

class HealthServiceStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    GetHealth: grpc.UnaryUnaryMultiCallable[HealthRequest, HealthResponse]

class HealthServiceAsyncStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    GetHealth: grpc.aio.UnaryUnaryMultiCallable[HealthRequest, HealthResponse]

@type_check_only
class HealthServiceServicer(Protocol):
    def GetHealth(self, request: HealthRequest, context: grpc.ServicerContext, /) -> HealthResponse: ...

@type_check_only
class HealthServiceAsyncServicer(Protocol):
    async def GetHealth(self, request: HealthRequest, context: grpc.aio.ServicerContext[HealthRequest, HealthResponse], /) -> HealthResponse: ...

def HealthService_handler(
    implementation: HealthServiceServicer | HealthServiceAsyncServicer,
) -> grpc.GenericRpcHandler[Any, Any]: ...
