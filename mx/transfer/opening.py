"""Opens a session with one source, whatever kind of worker it is and however it was found.

An mx peer answers everything in one call of PeerService. A published peer is reached by the blob in its
record or by its NIXL listen thread. Behind a Kubernetes Service it is not known which worker will answer:
whoever does is asked for what is wanted, and one that has something else is met by a new connection.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import grpc

from mx.core.source import (
    NixlMetadata,
    SourceEntry,
    SourceIdentity,
    SourceSummary,
    TensorSource,
    WorkerRecord,
)
from mx.core.tensors import TensorDescriptor
from mx.errors import InvalidArgumentError, MxError, PreconditionError, UnavailableError
from mx.ports import TransferBackend
from mx.transfer.channel import HeldChannel, call
from mx.transfer.remote import RemoteManifest, columns_manifest, plain_manifest
from mx.transfer.session import CALL_S, CLOSE_S, Candidate, Session, release_published
from mx.wire import codec
from mx.wire.v1 import p2p, peer

# A Service's manifest comes with the first call (wire contract, section 4).
_ROUTED_CALL_S = 30.0


def open_session(
    candidate: Candidate,
    *,
    backend: TransferBackend,
    layout: str,
    target_id: str,
    segment_bytes: int,
    record: Callable[[SourceSummary], SourceEntry | None],
    deadline_s: float,
    retries: int = 0,
    backoff_s: float = 0.0,
) -> Session:
    """Connect to one source. ``record`` fetches a full record from the server, for published peers.

    ``retries`` are for candidates that may be anybody: each is a new connection, and so perhaps another
    worker. Raises an MxError that says what did not work; nothing stays open then.
    """
    if candidate.is_anybody:
        return _open_anybody(
            candidate, backend, layout, target_id, segment_bytes, deadline_s, retries, backoff_s
        )
    if candidate.row.peer is not None:
        return _open_mx(candidate, candidate.row.peer.endpoint, backend, layout, target_id, segment_bytes)
    return _open_published(candidate, backend, record, deadline_s)


def _open_anybody(
    candidate: Candidate,
    backend: TransferBackend,
    layout: str,
    target_id: str,
    segment_bytes: int,
    deadline_s: float,
    retries: int,
    backoff_s: float,
) -> Session:
    """Whoever answers, if it has what is wanted; else the next one (wire contract, section 8)."""
    row = candidate.row
    for left in range(retries, -1, -1):
        try:
            try:
                return _open_mx(candidate, candidate.endpoint, backend, layout, target_id, segment_bytes)
            except PreconditionError as error:
                if not _is_unimplemented(error):
                    raise
            worker = WorkerRecord(row.worker_rank, worker_grpc_endpoint=candidate.endpoint)
            entry = SourceEntry(row.source_id, "", SourceIdentity(row.model_name), worker)
            return _open_worker(candidate, entry, backend, deadline_s)
        except PreconditionError:
            if not left:
                raise
        time.sleep(backoff_s)
    raise AssertionError("the last try returns or raises")


def _named(candidate: Candidate, worker_id: str, *, target_id: str = "") -> Candidate:
    """The candidate as the worker that answered; PreconditionError when that is the target itself."""
    if not candidate.is_anybody:
        return candidate
    if worker_id and worker_id == target_id:
        raise PreconditionError(f"{candidate.name} leads back to this worker")
    return replace(candidate, row=replace(candidate.row, worker_id=worker_id or candidate.endpoint))


def _is_unimplemented(error: PreconditionError) -> bool:
    cause: Any = error.__cause__
    return isinstance(cause, grpc.Call) and cause.code() is grpc.StatusCode.UNIMPLEMENTED


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
            candidate = _named(candidate, reply.worker_id, target_id=target_id)
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
            candidate = _named(candidate, reply.worker_id)
            if reply.HasField("worker_id") and reply.worker_id != candidate.row.worker_id:
                raise PreconditionError(f"the endpoint of {candidate.name} now belongs to {reply.worker_id}")
            _require_rank(candidate, reply.worker_rank)
            tensors = tuple(codec.decode_tensor(tensor) for tensor in reply.tensors)
            manifest = _plain(candidate, tensors, reply.accelerator)
            agent = _connect_published(entry, reply.agent_name, reply.metadata_endpoint, backend, deadline_s)
        except MxError:
            # Published leases live for half an hour, and a source that is to sleep waits for them.
            with contextlib.suppress(MxError):
                release_published(held.channel, candidate, lease_id)
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


def _published_manifest(
    channel: grpc.Channel, candidate: Candidate
) -> tuple[str, p2p.GetTensorManifestResponse]:
    """A leased manifest; without lease from peers that are older than leases."""
    stub = p2p.WorkerServiceStub(channel)
    ids = {"mx_source_id": candidate.row.source_id}
    timeout_s = CALL_S
    if candidate.is_anybody:
        timeout_s = _ROUTED_CALL_S
    else:
        ids["worker_id"] = candidate.row.worker_id
    try:
        prepared = call(
            "PrepareTensorRead",
            candidate.endpoint,
            lambda: stub.PrepareTensorRead(p2p.PrepareTensorReadRequest(**ids), timeout=timeout_s),
        )
        return prepared.lease_id, prepared.manifest
    except PreconditionError as error:
        if not _is_unimplemented(error):
            raise
    manifest = call(
        "GetTensorManifest",
        candidate.endpoint,
        lambda: stub.GetTensorManifest(p2p.GetTensorManifestRequest(**ids), timeout=timeout_s),
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
