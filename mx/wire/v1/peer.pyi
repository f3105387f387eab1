# Written by protos/generate.py from mx/peer/v1/peer.proto; do not edit.

import grpc
import grpc.aio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final, Protocol, type_check_only
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.internal.containers import RepeatedScalarFieldContainer
from google.protobuf.message import Message

DESCRIPTOR: FileDescriptor

class OpenTransferRequest(Message):
    def __init__(
        self,
        *,
        source_id: str | None = ...,
        worker_id: str | None = ...,
        layout_digest: str | None = ...,
        segment_bytes: int | None = ...,
        target_id: str | None = ...,
    ) -> None: ...
    source_id: str
    worker_id: str
    layout_digest: str
    segment_bytes: int
    target_id: str

class OpenTransferReply(Message):
    def __init__(
        self,
        *,
        source_id: str | None = ...,
        worker_id: str | None = ...,
        worker_rank: int | None = ...,
        generation: str | None = ...,
        lease_id: str | None = ...,
        lease_s: int | None = ...,
        agent_name: str | None = ...,
        agent_metadata: bytes | None = ...,
        layout_digest: str | None = ...,
        same_layout: bool | None = ...,
        addrs: bytes | None = ...,
        sizes: bytes | None = ...,
        names: str | None = ...,
        dtypes: Iterable[str] | None = ...,
        dtype_index: bytes | None = ...,
        device_id: int | None = ...,
        host_memory: bool | None = ...,
        digest_kind: str | None = ...,
        accelerator: str | None = ...,
        total_bytes: int | None = ...,
        regions: bytes | None = ...,
    ) -> None: ...
    source_id: str
    worker_id: str
    worker_rank: int
    generation: str
    lease_id: str
    lease_s: int
    agent_name: str
    agent_metadata: bytes
    layout_digest: str
    same_layout: bool
    addrs: bytes
    sizes: bytes
    names: str
    @property
    def dtypes(self) -> RepeatedScalarFieldContainer[str]: ...
    dtype_index: bytes
    device_id: int
    host_memory: bool
    digest_kind: str
    accelerator: str
    total_bytes: int
    regions: bytes

class DigestsRequest(Message):
    def __init__(
        self,
        *,
        source_id: str | None = ...,
        generation: str | None = ...,
        segment_bytes: int | None = ...,
        first_segment: int | None = ...,
        skip: bytes | None = ...,
    ) -> None: ...
    source_id: str
    generation: str
    segment_bytes: int
    first_segment: int
    skip: bytes

class DigestsReply(Message):
    def __init__(
        self,
        *,
        first_segment: int | None = ...,
        digests: bytes | None = ...,
        last: bool | None = ...,
    ) -> None: ...
    first_segment: int
    digests: bytes
    last: bool

class RenewLeaseRequest(Message):
    def __init__(
        self,
        *,
        source_id: str | None = ...,
        lease_id: str | None = ...,
    ) -> None: ...
    source_id: str
    lease_id: str

class RenewLeaseReply(Message):
    def __init__(
        self,
        *,
        lease_s: int | None = ...,
    ) -> None: ...
    lease_s: int

class CloseTransferRequest(Message):
    def __init__(
        self,
        *,
        source_id: str | None = ...,
        lease_id: str | None = ...,
        failed: bool | None = ...,
        reason: str | None = ...,
        bytes_read: int | None = ...,
    ) -> None: ...
    source_id: str
    lease_id: str
    failed: bool
    reason: str
    bytes_read: int

class CloseTransferReply(Message):
    def __init__(self) -> None: ...

class GetStateRequest(Message):
    def __init__(self) -> None: ...

class GetStateReply(Message):
    def __init__(
        self,
        *,
        source_id: str | None = ...,
        worker_id: str | None = ...,
        generation: str | None = ...,
        draining: bool | None = ...,
        active_leases: int | None = ...,
        bytes_served: int | None = ...,
    ) -> None: ...
    source_id: str
    worker_id: str
    generation: str
    draining: bool
    active_leases: int
    bytes_served: int

PeerService_NAME: Final[str]

class PeerServiceStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    OpenTransfer: grpc.UnaryUnaryMultiCallable[OpenTransferRequest, OpenTransferReply]
    GetDigests: grpc.UnaryStreamMultiCallable[DigestsRequest, DigestsReply]
    RenewLease: grpc.UnaryUnaryMultiCallable[RenewLeaseRequest, RenewLeaseReply]
    CloseTransfer: grpc.UnaryUnaryMultiCallable[CloseTransferRequest, CloseTransferReply]
    GetState: grpc.UnaryUnaryMultiCallable[GetStateRequest, GetStateReply]

class PeerServiceAsyncStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    OpenTransfer: grpc.aio.UnaryUnaryMultiCallable[OpenTransferRequest, OpenTransferReply]
    GetDigests: grpc.aio.UnaryStreamMultiCallable[DigestsRequest, DigestsReply]
    RenewLease: grpc.aio.UnaryUnaryMultiCallable[RenewLeaseRequest, RenewLeaseReply]
    CloseTransfer: grpc.aio.UnaryUnaryMultiCallable[CloseTransferRequest, CloseTransferReply]
    GetState: grpc.aio.UnaryUnaryMultiCallable[GetStateRequest, GetStateReply]

@type_check_only
class PeerServiceServicer(Protocol):
    def OpenTransfer(self, request: OpenTransferRequest, context: grpc.ServicerContext, /) -> OpenTransferReply: ...
    def GetDigests(self, request: DigestsRequest, context: grpc.ServicerContext, /) -> Iterator[DigestsReply]: ...
    def RenewLease(self, request: RenewLeaseRequest, context: grpc.ServicerContext, /) -> RenewLeaseReply: ...
    def CloseTransfer(self, request: CloseTransferRequest, context: grpc.ServicerContext, /) -> CloseTransferReply: ...
    def GetState(self, request: GetStateRequest, context: grpc.ServicerContext, /) -> GetStateReply: ...

@type_check_only
class PeerServiceAsyncServicer(Protocol):
    async def OpenTransfer(self, request: OpenTransferRequest, context: grpc.aio.ServicerContext[OpenTransferRequest, OpenTransferReply], /) -> OpenTransferReply: ...
    def GetDigests(self, request: DigestsRequest, context: grpc.aio.ServicerContext[DigestsRequest, DigestsReply], /) -> AsyncIterator[DigestsReply]: ...
    async def RenewLease(self, request: RenewLeaseRequest, context: grpc.aio.ServicerContext[RenewLeaseRequest, RenewLeaseReply], /) -> RenewLeaseReply: ...
    async def CloseTransfer(self, request: CloseTransferRequest, context: grpc.aio.ServicerContext[CloseTransferRequest, CloseTransferReply], /) -> CloseTransferReply: ...
    async def GetState(self, request: GetStateRequest, context: grpc.aio.ServicerContext[GetStateRequest, GetStateReply], /) -> GetStateReply: ...

def PeerService_handler(
    implementation: PeerServiceServicer | PeerServiceAsyncServicer,
) -> grpc.GenericRpcHandler[Any, Any]: ...
