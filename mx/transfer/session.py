"""One source as a target sees it: connected, leased, with a manifest and digests.

Two kinds behind one class: an mx peer, and a published peer, which has no segments and no digests and
is one complete source without verification. ``opening`` makes them.
"""

from __future__ import annotations

import logging
import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from mx.core.source import SourceSummary
from mx.errors import MxError, UnavailableError
from mx.transfer.channel import call
from mx.transfer.remote import RemoteManifest
from mx.transfer.served import bitmap
from mx.wire import status
from mx.wire.manifest import unpack_u64
from mx.wire.v1 import p2p, peer

log = logging.getLogger(__name__)

# Wire contract, section 4: WorkerService calls have 5 s, manifests included.
CALL_S = 5.0
# Returning a lease is a courtesy, since it expires by itself: a frozen source must not cost more.
CLOSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A source to try. ``distance`` 0 is this host. Without a worker id: whoever answers at its endpoint."""

    row: SourceSummary
    distance: int = 1

    @property
    def name(self) -> str:
        return self.row.worker_id or self.endpoint

    @property
    def is_anybody(self) -> bool:
        return not self.row.worker_id

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
            release_published(self._channel, self.candidate, self._lease_id)


def release_published(channel: grpc.Channel, candidate: Candidate, lease_id: str) -> None:
    if not lease_id:
        return  # from a peer that is older than leases
    request = p2p.ReleaseTensorReadRequest(mx_source_id=candidate.row.source_id, lease_id=lease_id)
    stub = p2p.WorkerServiceStub(channel)
    call("ReleaseTensorRead", candidate.name, lambda: stub.ReleaseTensorRead(request, timeout=CLOSE_S))
