"""A worker's own gRPC server: the published WorkerService and mx's PeerService on one port.

Runs in threads beside the engine; calls are rare and short, and bytes never pass through it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, NoReturn, TypeVar

import grpc

from mx.core.tensors import HOST_DEVICE
from mx.errors import MxError, NotFoundError, PreconditionError, UnavailableError
from mx.transfer.served import READER_LEASE_S, Offer, ServedSource, from_bitmap
from mx.wire import codec, status
from mx.wire.manifest import pack_manifest, pack_u64
from mx.wire.runtime import service_handler
from mx.wire.v1 import p2p, peer

T = TypeVar("T")
log = logging.getLogger(__name__)

# A stream of digests holds a thread while it waits; past this, callers get RESOURCE_EXHAUSTED.
MAX_CALLS = 64
MESSAGE_LIMIT_BYTES = 100 << 20
# What published targets accept in one reply.
PUBLISHED_LIMIT_BYTES = 4 << 20


def serve(host: str, port: int, *, source: Callable[[], ServedSource | None]) -> tuple[grpc.Server, int]:
    """Start the server; (server, port really bound). ``source`` answers what is served now.

    Port 0 takes a free one, and so does a fixed port that is in use: it is published anyway.
    Raises UnavailableError when nothing can be bound.
    """
    server = grpc.server(
        ThreadPoolExecutor(max_workers=MAX_CALLS, thread_name_prefix="mx-peer"),
        options=[
            ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=MAX_CALLS,
    )
    server.add_generic_rpc_handlers(
        (
            service_handler(p2p.DESCRIPTOR, "WorkerService", WorkerService(source)),
            service_handler(peer.DESCRIPTOR, "PeerService", PeerService(source)),
        )
    )
    bound = _bind(server, host, port)
    server.start()
    return server, bound


def _bind(server: grpc.Server, host: str, port: int) -> int:
    for candidate in (port, 0) if port else (0,):
        try:
            bound = server.add_insecure_port(f"{host}:{candidate}")
        except RuntimeError:
            bound = 0
        if bound:
            if candidate != port:
                log.warning("worker port in use", extra={"fields": {"wanted": port, "bound": bound}})
            return bound
    raise UnavailableError(f"the worker's gRPC server can't bind {host}:{port}")


def abort(context: grpc.ServicerContext, error: MxError) -> NoReturn:
    code, details, trailing = status.to_status(error)
    context.set_trailing_metadata(trailing)
    context.abort(code, details)
    raise AssertionError("abort returned")


def _answer(context: grpc.ServicerContext, work: Callable[[], T]) -> T:
    try:
        return work()
    except MxError as error:
        abort(context, error)


class _Packed(Generic[T]):
    """A reply that is made once for a source: 20,000 tensors take many milliseconds, each time the same.

    Targets that come all at once wait for the first one's.
    """

    def __init__(self, pack: Callable[[Offer], T]) -> None:
        self._pack = pack
        self._lock = threading.Lock()
        self._made: tuple[ServedSource, T] | None = None

    def of(self, served: ServedSource) -> T:
        """For reading only. Raises InvalidArgumentError for what the wire can't carry."""
        with self._lock:
            if self._made is None or self._made[0] is not served:
                self._made = served, self._pack(served.offer)
            return self._made[1]


class WorkerService:
    """The published calls, for published peers (wire contract, section 8)."""

    def __init__(self, source: Callable[[], ServedSource | None]) -> None:
        self._source = source
        self._manifest = _Packed(manifest)

    def _served(
        self,
        request: p2p.GetTensorManifestRequest | p2p.PrepareTensorReadRequest | p2p.ReleaseTensorReadRequest,
    ) -> ServedSource:
        served = self._source()
        if served is None:
            raise UnavailableError("this worker serves nothing at the moment")
        served.require(request.mx_source_id, request.worker_id if request.HasField("worker_id") else None)
        return served

    def GetTensorManifest(
        self, request: p2p.GetTensorManifestRequest, context: grpc.ServicerContext
    ) -> p2p.GetTensorManifestResponse:
        def work() -> p2p.GetTensorManifestResponse:
            served = self._served(request)
            served.require_open()
            return self._manifest.of(served)

        return _answer(context, work)

    def PrepareTensorRead(
        self, request: p2p.PrepareTensorReadRequest, context: grpc.ServicerContext
    ) -> p2p.PrepareTensorReadResponse:
        def work() -> p2p.PrepareTensorReadResponse:
            served = self._served(request)
            served.require_open()
            packed = self._manifest.of(served)  # may fail, and a lease would stay
            lease_id = served.open_lease(context.peer(), served.published_lease_s)
            return p2p.PrepareTensorReadResponse(lease_id=lease_id, manifest=packed)

        return _answer(context, work)

    def ReleaseTensorRead(
        self, request: p2p.ReleaseTensorReadRequest, context: grpc.ServicerContext
    ) -> p2p.ReleaseTensorReadResponse:
        def work() -> p2p.ReleaseTensorReadResponse:
            self._served(request).close_lease(request.lease_id)
            return p2p.ReleaseTensorReadResponse()

        return _answer(context, work)

    # A weights source has no artifact: the contract's answer is NOT_FOUND for each of these.
    def GetArtifactManifestHeader(
        self, request: p2p.GetArtifactManifestHeaderRequest, context: grpc.ServicerContext
    ) -> p2p.GetArtifactManifestHeaderResponse:
        abort(context, _no_artifact())

    def GetArtifactManifestChunks(
        self, request: p2p.GetArtifactManifestChunksRequest, context: grpc.ServicerContext
    ) -> p2p.GetArtifactManifestChunksResponse:
        abort(context, _no_artifact())

    def PrepareArtifactChunk(
        self, request: p2p.PrepareArtifactChunkRequest, context: grpc.ServicerContext
    ) -> p2p.PrepareArtifactChunkResponse:
        abort(context, _no_artifact())

    def ReleaseArtifactChunk(
        self, request: p2p.ReleaseArtifactChunkRequest, context: grpc.ServicerContext
    ) -> p2p.ReleaseArtifactChunkResponse:
        abort(context, _no_artifact())


def _no_artifact() -> NotFoundError:
    return NotFoundError("this worker serves tensors and no artifact")


def manifest(offer: Offer) -> p2p.GetTensorManifestResponse:
    """The published form of a manifest; warns once it is more than published targets accept."""
    reply = p2p.GetTensorManifestResponse(
        tensors=[codec.encode_tensor(tensor) for tensor in offer.tensors],
        mx_source_id=offer.source_id,
        metadata_endpoint=offer.metadata_endpoint,
        agent_name=offer.agent_name,
        worker_rank=offer.worker_rank,
        accelerator=offer.accelerator,
        worker_id=offer.worker_id,
    )
    if reply.ByteSize() > PUBLISHED_LIMIT_BYTES:
        log.warning(
            "manifest is larger than published targets accept",
            extra={"fields": {"bytes": reply.ByteSize(), "limit": PUBLISHED_LIMIT_BYTES}},
        )
    return reply


class PeerService:
    """mx's calls, for mx peers: one round trip to a lease, an agent and a manifest in columns."""

    def __init__(self, source: Callable[[], ServedSource | None]) -> None:
        self._source = source
        self._packed = {same: _Packed(partial(_template, same_layout=same)) for same in (True, False)}

    def _served(self, source_id: str, worker_id: str = "") -> ServedSource:
        served = self._source()
        if served is None:
            raise UnavailableError("this worker serves nothing at the moment")
        served.require(source_id, worker_id or None)
        return served

    def OpenTransfer(
        self, request: peer.OpenTransferRequest, context: grpc.ServicerContext
    ) -> peer.OpenTransferReply:
        def work() -> peer.OpenTransferReply:
            served = self._served(request.source_id, request.worker_id)
            served.require_open()
            reply = peer.OpenTransferReply()
            reply.CopyFrom(self._packed[request.layout_digest == served.offer.layout_digest].of(served))
            reply.lease_id = served.open_lease(request.target_id or context.peer(), READER_LEASE_S)
            return reply

        return _answer(context, work)

    def GetDigests(
        self, request: peer.DigestsRequest, context: grpc.ServicerContext
    ) -> Iterator[peer.DigestsReply]:
        try:
            served = self._served(request.source_id)
            if request.generation != served.offer.generation:
                raise PreconditionError("this worker has restarted since the transfer was opened")
            rows = served.digests(
                segment_bytes=request.segment_bytes,
                first=request.first_segment,
                skip=from_bitmap(request.skip, len(served.offer.tensors)),
            )
            for first, digests, last in rows:
                yield peer.DigestsReply(first_segment=first, digests=pack_u64(digests), last=last)
        except MxError as error:
            abort(context, error)

    def RenewLease(
        self, request: peer.RenewLeaseRequest, context: grpc.ServicerContext
    ) -> peer.RenewLeaseReply:
        return _answer(
            context,
            lambda: peer.RenewLeaseReply(
                lease_s=self._served(request.source_id).renew_lease(request.lease_id)
            ),
        )

    def CloseTransfer(
        self, request: peer.CloseTransferRequest, context: grpc.ServicerContext
    ) -> peer.CloseTransferReply:
        def work() -> peer.CloseTransferReply:
            served = self._served(request.source_id)
            served.close_lease(request.lease_id, bytes_read=request.bytes_read, failed=request.failed)
            if request.failed:
                log.warning("a reader gave up on this worker", extra={"fields": {"reason": request.reason}})
            return peer.CloseTransferReply()

        return _answer(context, work)

    def GetState(self, request: peer.GetStateRequest, context: grpc.ServicerContext) -> peer.GetStateReply:
        served = self._source()
        if served is None:
            return peer.GetStateReply()
        offer = served.offer
        return peer.GetStateReply(
            source_id=offer.source_id,
            worker_id=offer.worker_id,
            generation=offer.generation,
            draining=served.draining,
            active_leases=served.active_leases,
            bytes_served=served.bytes_served,
        )


def _template(offer: Offer, *, same_layout: bool) -> peer.OpenTransferReply:
    """All of the reply but the lease."""
    columns = pack_manifest(offer.tensors)
    reply = peer.OpenTransferReply(
        source_id=offer.source_id,
        worker_id=offer.worker_id,
        worker_rank=offer.worker_rank,
        generation=offer.generation,
        lease_s=READER_LEASE_S,
        agent_name=offer.agent_name,
        agent_metadata=offer.agent_metadata,
        layout_digest=offer.layout_digest,
        same_layout=same_layout,
        addrs=columns.addrs,
        device_id=next((r.device_id for r in offer.regions if r.device_id != HOST_DEVICE), 0),
        host_memory=offer.host_memory,
        digest_kind=offer.digest_kind,
        accelerator=offer.accelerator,
        total_bytes=offer.total_bytes,
        regions=pack_u64(value for region in offer.regions for value in (region.addr, region.size)),
    )
    if not same_layout:
        reply.sizes = columns.sizes
        reply.names = columns.names
        reply.dtypes.extend(columns.dtypes)
        reply.dtype_index = columns.dtype_index
    return reply
