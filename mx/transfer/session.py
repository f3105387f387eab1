"""One source as a target sees it: connected, leased, with a manifest and digests.

Two kinds behind one class. An mx peer answers everything in one call of PeerService. A published
peer has no segments and no digests: it is one complete source without verification, reached by
the blob in its record or by its NIXL listen thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import grpc

from mx.core.plan import RegionMap
from mx.core.source import NixlMetadata, SourceEntry, SourceSummary, TensorSource
from mx.core.tensors import HOST_DEVICE, Region, TensorDescriptor, layout_digest
from mx.errors import InvalidArgumentError, MxError, PreconditionError, UnavailableError
from mx.ports import TransferBackend
from mx.transfer.peer import MESSAGE_LIMIT_BYTES
from mx.transfer.served import bitmap
from mx.wire import codec, status
from mx.wire.manifest import ManifestColumns, unpack_manifest, unpack_u64
from mx.wire.v1 import p2p, peer

T = TypeVar("T")
log = logging.getLogger(__name__)

# Wire contract, section 4: WorkerService calls have 5 s, manifests included.
CALL_S = 5.0
# Returning a lease is a courtesy, since it expires by itself: a frozen source must not cost more.
CLOSE_S = 1.0


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """What a source holds, in its order. ``tensors`` is None when its layout equals the target's.

    ``regions`` None: each tensor is a region of its own. ``device`` is HOST_DEVICE or an ordinal.
    """

    addrs: array[int]
    tensors: tuple[TensorDescriptor, ...] | None
    layout_digest: str
    regions: RegionMap | None
    device: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A listed source to try. ``distance`` 0 is this host."""

    row: SourceSummary
    distance: int = 1

    @property
    def name(self) -> str:
        return self.row.worker_id

    @property
    def endpoint(self) -> str:
        return self.row.peer.endpoint if self.row.peer else self.row.worker_grpc_endpoint


class Session:
    """An open transfer with one source. ``close`` returns the lease and frees the channel."""

    def __init__(
        self,
        candidate: Candidate,
        *,
        agent_name: str,
        manifest: RemoteManifest,
        digest_kind: str,
        channel: grpc.Channel | None,
        lease_id: str = "",
        lease_s: float = 0.0,
        generation: str = "",
    ) -> None:
        self.candidate = candidate
        self.name = candidate.name
        self.agent_name = agent_name
        self.manifest = manifest
        self.digest_kind = digest_kind
        self.generation = generation
        self._channel = channel
        self._lease_id = lease_id
        self._lease_s = lease_s
        self._renew_at = time.monotonic() + lease_s / 2
        self._digests: array[int] = array("Q")
        self._changed = threading.Condition()
        self._digest_error = ""
        self._stream: Any = None  # grpc's call object, which is an iterator too

    @property
    def verifiable(self) -> bool:
        return bool(self.digest_kind)

    @property
    def _source_id(self) -> str:
        return self.candidate.row.source_id

    # --- digests ------------------------------------------------------------------------------
    def follow_digests(self, *, segment_bytes: int, skip: frozenset[int], tensors: int) -> None:
        """Collect the source's digests as they become known, in a thread of its own."""
        assert self._channel is not None
        request = peer.DigestsRequest(
            source_id=self._source_id,
            generation=self.generation,
            segment_bytes=segment_bytes,
            skip=bitmap(skip, tensors),
        )
        stream = peer.PeerServiceStub(self._channel).GetDigests(request)
        self._stream = stream
        threading.Thread(target=self._collect, args=(stream,), name="mx-digest-stream", daemon=True).start()

    def _collect(self, stream: Any) -> None:
        error = "the source ended its digests early"
        try:
            for reply in stream:
                known = unpack_u64(reply.digests)
                with self._changed:
                    if reply.first_segment != len(self._digests):
                        error = f"digests came out of order, at segment {reply.first_segment}"
                        break
                    self._digests.extend(known)
                    self._changed.notify_all()
                if reply.last:
                    error = ""
                    break
        except grpc.RpcError as failure:
            error = status.from_rpc_error(failure, call="GetDigests", target=self.name).message
        except MxError as failure:
            error = failure.message
        with self._changed:
            self._digest_error = self._digest_error or error
            self._changed.notify_all()

    def digest(self, segment: int, *, timeout_s: float) -> int:
        """The source's digest of one segment; UnavailableError when none at all came for ``timeout_s``.

        A source that has just published computes them in order: the one asked for may be far behind.
        """
        with self._changed:
            while len(self._digests) <= segment and not self._digest_error:
                more = partial(self._more_than, len(self._digests))
                if not self._changed.wait_for(more, timeout=timeout_s):
                    raise UnavailableError(f"no digest of segment {segment} within {timeout_s:g} s")
            if len(self._digests) > segment:
                return self._digests[segment]
            raise UnavailableError(self._digest_error)

    def known_digest(self, segment: int) -> int | None:
        """The digest if it has come already."""
        with self._changed:
            return self._digests[segment] if len(self._digests) > segment else None

    def _more_than(self, known: int) -> bool:
        return len(self._digests) > known or bool(self._digest_error)

    def abandon(self, reason: str) -> None:
        """Nobody wants digests of this source any more: whoever waits for one learns it now."""
        with self._changed:
            self._digest_error = self._digest_error or reason
            self._changed.notify_all()
        if self._stream is not None:
            self._stream.cancel()

    # --- lease ------------------------------------------------------------------------------
    def keep_lease(self) -> None:
        """Renew when half of the lease is gone. Raises when the source no longer knows it."""
        if not self._lease_id or not self.generation or time.monotonic() < self._renew_at:
            return
        assert self._channel is not None
        stub = peer.PeerServiceStub(self._channel)
        request = peer.RenewLeaseRequest(source_id=self._source_id, lease_id=self._lease_id)
        _call("RenewLease", self.name, lambda: stub.RenewLease(request, timeout=CALL_S))
        self._renew_at = time.monotonic() + self._lease_s / 2

    def close(self, *, failed: bool = False, reason: str = "", bytes_read: int = 0) -> None:
        """Tell the source that the read is over. A source that is gone is no error."""
        if self._stream is not None:
            self._stream.cancel()
        if self._channel is None:
            return
        try:
            self._release(failed=failed, reason=reason, bytes_read=bytes_read)
        except MxError as error:
            log.debug("closing a transfer", extra={"fields": {"source": self.name, "error": error.message}})
        finally:
            self._channel.close()

    def _release(self, *, failed: bool, reason: str, bytes_read: int) -> None:
        assert self._channel is not None
        if self.generation:
            close = peer.CloseTransferRequest(
                source_id=self._source_id,
                lease_id=self._lease_id,
                failed=failed,
                reason=reason,
                bytes_read=bytes_read,
            )
            stub = peer.PeerServiceStub(self._channel)
            _call("CloseTransfer", self.name, lambda: stub.CloseTransfer(close, timeout=CLOSE_S))
        else:
            _release_published(self._channel, self.candidate, self._lease_id)


# --- opening ------------------------------------------------------------------------------------
def open_session(
    candidate: Candidate,
    *,
    backend: TransferBackend,
    layout: str,
    target_id: str,
    segment_bytes: int,
    record: Callable[[SourceSummary], SourceEntry | None],
    deadline_s: float,
) -> Session:
    """Connect to one source. ``record`` fetches a full record from the server, for published peers.

    Raises an MxError that says what did not work; nothing stays open then.
    """
    if candidate.row.peer is not None:
        return _open_mx(candidate, candidate.row.peer.endpoint, backend, layout, target_id, segment_bytes)
    return _open_published(candidate, backend, record, deadline_s)


def _open_mx(
    candidate: Candidate,
    endpoint: str,
    backend: TransferBackend,
    layout: str,
    target_id: str,
    segment_bytes: int,
) -> Session:
    row = candidate.row
    request = peer.OpenTransferRequest(
        source_id=row.source_id,
        worker_id=row.worker_id,
        layout_digest=layout,
        target_id=target_id,
        segment_bytes=segment_bytes,
    )
    with _channel(endpoint) as held:
        stub = peer.PeerServiceStub(held.channel)
        reply = _call("OpenTransfer", endpoint, lambda: stub.OpenTransfer(request, timeout=CALL_S))
        if row.peer is not None and reply.generation != row.peer.generation:
            raise PreconditionError(f"worker {row.worker_id} has restarted since it was listed")
        if reply.worker_rank != row.worker_rank:
            raise PreconditionError(
                f"worker {row.worker_id} is rank {reply.worker_rank}, not {row.worker_rank}"
            )
        try:
            manifest = _columns_manifest(reply)
            agent = backend.connect(reply.agent_metadata)
        except MxError as error:
            close = peer.CloseTransferRequest(
                source_id=row.source_id, lease_id=reply.lease_id, failed=True, reason=error.message
            )
            with contextlib.suppress(MxError):
                _call("CloseTransfer", endpoint, lambda: stub.CloseTransfer(close, timeout=CLOSE_S))
            raise
        return Session(
            candidate,
            agent_name=agent,
            manifest=manifest,
            digest_kind=reply.digest_kind,
            channel=held.keep(),
            lease_id=reply.lease_id,
            lease_s=reply.lease_s,
            generation=reply.generation,
        )


def _columns_manifest(reply: peer.OpenTransferReply) -> RemoteManifest:
    device = HOST_DEVICE if reply.host_memory else reply.device_id
    addrs = unpack_u64(reply.addrs)
    tensors = None
    if not reply.same_layout:
        columns = ManifestColumns(
            addrs=reply.addrs,
            sizes=reply.sizes,
            names=reply.names,
            dtypes=tuple(reply.dtypes),
            dtype_index=reply.dtype_index,
        )
        tensors = unpack_manifest(columns, device_id=reply.device_id)
        if layout_digest(tensors) != reply.layout_digest:
            raise InvalidArgumentError("the source's manifest does not have the layout digest it names")
    pairs = unpack_u64(reply.regions)
    if len(pairs) % 2:
        raise InvalidArgumentError("the source's regions are no pairs of address and size")
    regions = [Region(pairs[i], pairs[i + 1], device) for i in range(0, len(pairs), 2)]
    return RemoteManifest(addrs, tensors, reply.layout_digest, RegionMap(regions), device)


def _open_published(
    candidate: Candidate,
    backend: TransferBackend,
    record: Callable[[SourceSummary], SourceEntry | None],
    deadline_s: float,
) -> Session:
    entry = record(candidate.row)
    if entry is None:
        raise UnavailableError(f"worker {candidate.name} is no longer listed")
    if not entry.worker.worker_grpc_endpoint:
        payload = entry.worker.payload
        if not isinstance(payload, TensorSource) or not payload.tensors:
            raise PreconditionError(f"worker {candidate.name} published neither tensors nor an endpoint")
        agent = _connect_published(
            entry, entry.worker.agent_name, entry.worker.metadata_endpoint, backend, deadline_s
        )
        return Session(
            candidate,
            agent_name=agent,
            manifest=_plain_manifest(payload.tensors, entry.worker.accelerator),
            digest_kind="",
            channel=None,
        )
    with _channel(entry.worker.worker_grpc_endpoint) as held:
        lease_id, reply = _published_manifest(held.channel, candidate)
        try:
            if reply.mx_source_id != candidate.row.source_id:
                raise PreconditionError(f"worker {candidate.name} serves source {reply.mx_source_id}")
            if reply.HasField("worker_id") and reply.worker_id != candidate.row.worker_id:
                raise PreconditionError(f"the endpoint of {candidate.name} now belongs to {reply.worker_id}")
            tensors = tuple(codec.decode_tensor(tensor) for tensor in reply.tensors)
            agent = _connect_published(entry, reply.agent_name, reply.metadata_endpoint, backend, deadline_s)
        except MxError:
            # Published leases live for half an hour, and a source that is to sleep waits for them.
            with contextlib.suppress(MxError):
                _release_published(held.channel, candidate, lease_id)
            raise
        return Session(
            candidate,
            agent_name=agent,
            manifest=_plain_manifest(tensors, reply.accelerator),
            digest_kind="",
            channel=held.keep(),
            lease_id=lease_id,
        )


def _release_published(channel: grpc.Channel, candidate: Candidate, lease_id: str) -> None:
    if not lease_id:
        return  # from a peer that is older than leases
    request = p2p.ReleaseTensorReadRequest(mx_source_id=candidate.row.source_id, lease_id=lease_id)
    stub = p2p.WorkerServiceStub(channel)
    _call("ReleaseTensorRead", candidate.name, lambda: stub.ReleaseTensorRead(request, timeout=CALL_S))


def _published_manifest(
    channel: grpc.Channel, candidate: Candidate
) -> tuple[str, p2p.GetTensorManifestResponse]:
    """A leased manifest; without lease from peers that are older than leases."""
    stub = p2p.WorkerServiceStub(channel)
    ids = {"mx_source_id": candidate.row.source_id, "worker_id": candidate.row.worker_id}
    try:
        prepared = _call(
            "PrepareTensorRead",
            candidate.endpoint,
            lambda: stub.PrepareTensorRead(p2p.PrepareTensorReadRequest(**ids), timeout=CALL_S),
        )
        return prepared.lease_id, prepared.manifest
    except PreconditionError as error:
        cause: Any = error.__cause__
        if cause.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise
    manifest = _call(
        "GetTensorManifest",
        candidate.endpoint,
        lambda: stub.GetTensorManifest(p2p.GetTensorManifestRequest(**ids), timeout=CALL_S),
    )
    return "", manifest


def _connect_published(
    entry: SourceEntry, agent_name: str, endpoint: str, backend: TransferBackend, deadline_s: float
) -> str:
    metadata = entry.worker.backend_metadata
    if isinstance(metadata, NixlMetadata) and metadata.blob:
        return backend.connect(metadata.blob)
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise PreconditionError(f"worker {entry.worker_id} published no usable NIXL endpoint: {endpoint!r}")
    backend.connect_endpoint(agent_name, host, int(port), deadline_s=deadline_s)
    return agent_name


def _plain_manifest(tensors: Sequence[TensorDescriptor], accelerator: str) -> RemoteManifest:
    filled = tuple(tensors)
    device = HOST_DEVICE if accelerator == "cpu" or not filled else filled[0].device_id
    return RemoteManifest(
        array("Q", [tensor.addr for tensor in filled]), filled, layout_digest(filled), None, device
    )


class _Held:
    """A channel that is closed on the way out unless somebody keeps it."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self._kept = False

    def keep(self) -> grpc.Channel:
        self._kept = True
        return self.channel

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            with contextlib.suppress(ValueError):
                self.channel.close()


def _channel(endpoint: str) -> _Held:
    return _Held(
        grpc.insecure_channel(
            endpoint,
            options=[
                ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
            ],
        )
    )


def _call(name: str, target: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except grpc.RpcError as error:
        raise status.from_rpc_error(error, call=name, target=target) from error
