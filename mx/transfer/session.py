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
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from mx.core.source import NixlMetadata, SourceEntry, SourceSummary, TensorSource
from mx.core.tensors import TensorDescriptor
from mx.errors import InvalidArgumentError, MxError, PreconditionError, UnavailableError
from mx.ports import TransferBackend
from mx.transfer.channel import HeldChannel, call
from mx.transfer.remote import RemoteManifest, columns_manifest, plain_manifest
from mx.transfer.served import bitmap
from mx.wire import codec, status
from mx.wire.manifest import unpack_u64
from mx.wire.v1 import p2p, peer

log = logging.getLogger(__name__)

# Wire contract, section 4: WorkerService calls have 5 s, manifests included.
CALL_S = 5.0
# Returning a lease is a courtesy, since it expires by itself: a frozen source must not cost more.
CLOSE_S = 1.0


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
    """An open transfer with one source. ``close`` returns the lease and frees agent and channel.

    ``disconnect`` undoes the backend's connect; it may raise an MxError.
    """

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
        disconnect: Callable[[], None] = lambda: None,
    ) -> None:
        self.candidate = candidate
        self.name = candidate.name
        self.agent_name = agent_name
        self.manifest = manifest
        self.digest_kind = digest_kind
        self.generation = generation
        self._disconnect = disconnect
        self._closed = False
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
        call("RenewLease", self.name, lambda: stub.RenewLease(request, timeout=CALL_S))
        self._renew_at = time.monotonic() + self._lease_s / 2

    def close(
        self, *, failed: bool = False, reason: str = "", bytes_read: int = 0, keep_agent: bool = False
    ) -> None:
        """Tell the source that the read is over. A source that is gone is no error; nor is a second time.

        No read of this session may be in flight, unless ``keep_agent``: then the agent stays connected.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = True
        if self._stream is not None:
            self._stream.cancel()
        release = partial(self._release, failed=failed, reason=reason, bytes_read=bytes_read)
        for end in (release,) if keep_agent else (self._disconnect, release):
            try:
                end()
            except MxError as error:
                fields = {"source": self.name, "error": error.message}
                log.debug("closing a transfer", extra={"fields": fields})
        if self._channel is not None:
            self._channel.close()

    def _release(self, *, failed: bool, reason: str, bytes_read: int) -> None:
        if self._channel is None:
            return
        if self.generation:
            close = peer.CloseTransferRequest(
                source_id=self._source_id,
                lease_id=self._lease_id,
                failed=failed,
                reason=reason,
                bytes_read=bytes_read,
            )
            stub = peer.PeerServiceStub(self._channel)
            call("CloseTransfer", self.name, lambda: stub.CloseTransfer(close, timeout=CLOSE_S))
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
    with HeldChannel(endpoint) as held:
        stub = peer.PeerServiceStub(held.channel)
        reply = call("OpenTransfer", endpoint, lambda: stub.OpenTransfer(request, timeout=CALL_S))
        try:
            if row.peer is not None and reply.generation != row.peer.generation:
                raise PreconditionError(f"worker {row.worker_id} has restarted since it was listed")
            _require_rank(candidate, reply.worker_rank)
            manifest = _checked(candidate, lambda: columns_manifest(reply, layout=layout))
            agent = backend.connect(reply.agent_metadata)
        except MxError as error:
            close = peer.CloseTransferRequest(
                source_id=row.source_id, lease_id=reply.lease_id, failed=True, reason=error.message
            )
            with contextlib.suppress(MxError):
                call("CloseTransfer", endpoint, lambda: stub.CloseTransfer(close, timeout=CLOSE_S))
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
            disconnect=partial(backend.disconnect, agent),
        )


def _require_rank(candidate: Candidate, rank: int) -> None:
    """A shard of another rank may have equal names and sizes, and other weights."""
    if rank != candidate.row.worker_rank:
        raise PreconditionError(f"worker {candidate.name} is rank {rank}, not {candidate.row.worker_rank}")


def _checked(candidate: Candidate, manifest: Callable[[], RemoteManifest]) -> RemoteManifest:
    try:
        return manifest()
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            f"the manifest of worker {candidate.name} can't be right: {error.message}"
        ) from error


def _open_published(
    candidate: Candidate,
    backend: TransferBackend,
    record: Callable[[SourceSummary], SourceEntry | None],
    deadline_s: float,
) -> Session:
    entry = record(candidate.row)
    if entry is None:
        raise UnavailableError(f"worker {candidate.name} is no longer listed")
    _require_rank(candidate, entry.worker.worker_rank)
    if entry.worker.worker_grpc_endpoint:
        return _open_worker(candidate, entry, backend, deadline_s)
    payload = entry.worker.payload
    if not isinstance(payload, TensorSource) or not payload.tensors:
        raise PreconditionError(f"worker {candidate.name} published neither tensors nor an endpoint")
    manifest = _plain(candidate, payload.tensors, entry.worker.accelerator)
    agent = _connect_published(
        entry, entry.worker.agent_name, entry.worker.metadata_endpoint, backend, deadline_s
    )
    return Session(
        candidate,
        agent_name=agent,
        manifest=manifest,
        digest_kind="",
        channel=None,
        disconnect=partial(backend.disconnect, agent),
    )


def _open_worker(
    candidate: Candidate, entry: SourceEntry, backend: TransferBackend, deadline_s: float
) -> Session:
    """A published worker that gives its manifest itself."""
    with HeldChannel(entry.worker.worker_grpc_endpoint) as held:
        lease_id, reply = _published_manifest(held.channel, candidate)
        try:
            if reply.mx_source_id != candidate.row.source_id:
                raise PreconditionError(f"worker {candidate.name} serves source {reply.mx_source_id}")
            if reply.HasField("worker_id") and reply.worker_id != candidate.row.worker_id:
                raise PreconditionError(f"the endpoint of {candidate.name} now belongs to {reply.worker_id}")
            _require_rank(candidate, reply.worker_rank)
            tensors = tuple(codec.decode_tensor(tensor) for tensor in reply.tensors)
            manifest = _plain(candidate, tensors, reply.accelerator)
            agent = _connect_published(entry, reply.agent_name, reply.metadata_endpoint, backend, deadline_s)
        except MxError:
            # Published leases live for half an hour, and a source that is to sleep waits for them.
            with contextlib.suppress(MxError):
                _release_published(held.channel, candidate, lease_id)
            raise
        return Session(
            candidate,
            agent_name=agent,
            manifest=manifest,
            digest_kind="",
            channel=held.keep(),
            lease_id=lease_id,
            disconnect=partial(backend.disconnect, agent),
        )


def _plain(candidate: Candidate, tensors: tuple[TensorDescriptor, ...], accelerator: str) -> RemoteManifest:
    return _checked(candidate, lambda: plain_manifest(tensors, accelerator))


def _release_published(channel: grpc.Channel, candidate: Candidate, lease_id: str) -> None:
    if not lease_id:
        return  # from a peer that is older than leases
    request = p2p.ReleaseTensorReadRequest(mx_source_id=candidate.row.source_id, lease_id=lease_id)
    stub = p2p.WorkerServiceStub(channel)
    call("ReleaseTensorRead", candidate.name, lambda: stub.ReleaseTensorRead(request, timeout=CLOSE_S))


def _published_manifest(
    channel: grpc.Channel, candidate: Candidate
) -> tuple[str, p2p.GetTensorManifestResponse]:
    """A leased manifest; without lease from peers that are older than leases."""
    stub = p2p.WorkerServiceStub(channel)
    ids = {"mx_source_id": candidate.row.source_id, "worker_id": candidate.row.worker_id}
    try:
        prepared = call(
            "PrepareTensorRead",
            candidate.endpoint,
            lambda: stub.PrepareTensorRead(p2p.PrepareTensorReadRequest(**ids), timeout=CALL_S),
        )
        return prepared.lease_id, prepared.manifest
    except PreconditionError as error:
        cause: Any = error.__cause__
        if cause.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise
    manifest = call(
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
