"""What a client says to a server and how it reads the answer, without a connection.

Each operation is a generator: it yields a Call, is sent the reply or has the MxError thrown into
it, and returns the result. ``grpc`` drives them with asyncio, ``sync`` with blocking calls, so both
fall back alike. Nothing here waits or knows the time.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from google.protobuf.message import Message

from mx.client.base import ApiReply, ServerHealth, ServerStatus
from mx.client.retry import PUBLISH, RetryRule
from mx.core.source import (
    PeerRecord,
    PodReference,
    SourceEntry,
    SourceFilter,
    SourceIdentity,
    SourceStatus,
    SourceSummary,
    WorkerKey,
    WorkerRecord,
)
from mx.core.transfer import TransferReport
from mx.errors import InvalidArgumentError, PreconditionError
from mx.wire import admin_codec, codec, state_codec
from mx.wire.v1 import admin, api, health, model, p2p

T = TypeVar("T")

API, HEALTH, P2P, ADMIN, MODEL = (
    api.ApiService_NAME,
    health.HealthService_NAME,
    p2p.P2pService_NAME,
    admin.AdminService_NAME,
    model.ModelService_NAME,
)


class NotOfferedError(PreconditionError):
    """The server has no such call: it is a published one, or an older mx."""


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC to make; ``rule`` None means the client's usual retries.

    ``limit_s`` bounds it with all its retries, where the client's own bound is longer; ``least_s`` is
    what it may take at least, where that is shorter.
    """

    service: str
    method: str
    request: Message
    rule: RetryRule | None = None
    limit_s: float = math.inf
    least_s: float = 0.0

    def timeout_s(self, own_s: float) -> float:
        """The bound for this call of a client whose own bound is ``own_s``."""
        return min(max(own_s, self.least_s), self.limit_s)


# For calls that walk over a whole cache; the server's own limit is 600 s, and it is the one that speaks.
WALK_S = 610.0
# Between a cold worker and its disk, or between an ending process and its end: a server that is
# frozen accepts a connection and never answers.
_BRIEF_S = 3.0

Operation = Generator[Call, Any, T]


def get_health() -> Operation[ServerHealth]:
    reply: health.HealthResponse = yield Call(HEALTH, "GetHealth", health.HealthRequest())
    return ServerHealth(version=reply.version, status=reply.status, uptime_s=reply.uptime)


def send(action: str, payload: bytes | None, request_id: str) -> Operation[ApiReply]:
    request = codec.build(api.ApiRequest, id=request_id, action=action, payload=payload)
    reply: api.ApiResponse = yield Call(API, "SendRequest", request)
    return ApiReply(
        success=reply.success,
        data=reply.data if reply.HasField("data") else None,
        error=reply.error if reply.HasField("error") else None,
    )


def get_status() -> Operation[ServerStatus]:
    reply: admin.GetServerStatusResponse = yield Call(
        ADMIN, "GetServerStatus", admin.GetServerStatusRequest()
    )
    return state_codec.decode_status(reply)


def publish(
    identity: SourceIdentity, worker: WorkerRecord, *, worker_id: str, pod: PodReference
) -> Operation[str]:
    request = codec.encode_publish(identity, worker, worker_id=worker_id, pod=pod)
    reply: p2p.PublishMetadataResponse = yield Call(P2P, "PublishMetadata", request, PUBLISH)
    if not reply.success:
        raise InvalidArgumentError(f"the server refused worker {worker_id!r}: {reply.message}")
    return reply.mx_source_id


def announce(key: WorkerKey, peer: PeerRecord) -> Operation[bool]:
    request = admin.AnnouncePeerRequest(key=admin_codec.encode_key(key), peer=admin_codec.encode_peer(peer))
    reply: admin.AnnouncePeerResponse = yield Call(ADMIN, "AnnouncePeer", request)
    return reply.known


def update_status(key: WorkerKey, status: int, *, source_load: float | None) -> Operation[bool]:
    request = codec.encode_status(key, status, source_load=source_load)
    reply: p2p.UpdateStatusResponse = yield Call(P2P, "UpdateStatus", request)
    return reply.success


def list_sources(
    query: SourceFilter, identity: SourceIdentity | None
) -> Operation[tuple[SourceSummary, ...]]:
    try:
        request = admin_codec.encode_row_filter(query, identity=identity)
        reply: admin.ListSourceRowsResponse = yield Call(ADMIN, "ListSourceRows", request)
        return tuple(map(admin_codec.decode_row, reply.rows))
    except NotOfferedError:
        return (yield from _list_published(query, identity))


def find_peers(identity: SourceIdentity, worker_rank: int) -> Operation[tuple[SourceSummary, ...]]:
    try:
        request = codec.build(
            admin.FindPeersRequest, identity=codec.encode_identity(identity), worker_rank=worker_rank
        )
        reply: admin.FindPeersResponse = yield Call(ADMIN, "FindPeers", request, limit_s=_BRIEF_S)
        return tuple(map(admin_codec.decode_row, reply.rows))
    except NotOfferedError:
        query = SourceFilter(status=SourceStatus.READY, worker_rank=worker_rank)
        return (yield from _list_published(query, identity))


def get_source(source_id: str, worker_id: str) -> Operation[SourceEntry | None]:
    try:
        wanted = codec.build(admin.GetSourceRequest, source_id=source_id, worker_id=worker_id)
        reply: admin.GetSourceResponse = yield Call(ADMIN, "GetSource", wanted)
        return admin_codec.decode_full_entry(reply.entry) if reply.HasField("entry") else None
    except NotOfferedError:
        request = codec.build(p2p.GetMetadataRequest, mx_source_id=source_id, worker_id=worker_id)
        published: p2p.GetMetadataResponse = yield Call(P2P, "GetMetadata", request)
        return codec.decode_entry(published)


def withdraw(key: WorkerKey) -> Operation[bool]:
    try:
        request = admin.WithdrawSourceRequest(key=admin_codec.encode_key(key))
        reply: admin.WithdrawSourceResponse = yield Call(ADMIN, "WithdrawSource", request, limit_s=_BRIEF_S)
        return reply.removed
    except NotOfferedError:
        return (yield from update_status(key, SourceStatus.STALE, source_load=None))


def report_transfer(report: TransferReport) -> Operation[None]:
    request = admin.ReportTransferRequest(report=admin_codec.encode_report(report))
    try:
        yield Call(ADMIN, "ReportTransfer", request)
    except NotOfferedError:
        return


def list_transfers(limit: int) -> Operation[tuple[TransferReport, ...]]:
    request = codec.build(admin.ListTransfersRequest, limit=limit)
    reply: admin.ListTransfersResponse = yield Call(ADMIN, "ListTransfers", request)
    return tuple(map(admin_codec.decode_report, reply.reports))


def _list_published(
    query: SourceFilter, identity: SourceIdentity | None
) -> Operation[tuple[SourceSummary, ...]]:
    """Listing by the published call, which tells no status and filters by no source id."""
    rows = yield from _listed(query, identity)
    if query.status is None:
        known: dict[WorkerKey, int] = {}
        for status in (SourceStatus.INITIALIZING, SourceStatus.STALE, SourceStatus.READY):
            for row in (yield from _listed(replace(query, status=status), identity)):
                known[row.key] = status
        rows = [replace(row, status=known.get(row.key, SourceStatus.UNKNOWN)) for row in rows]
    if query.source_id is not None and not (identity and identity.model_name):
        rows = [row for row in rows if row.source_id == query.source_id]
    return tuple(rows[: query.limit] if query.limit else rows)


def _listed(query: SourceFilter, identity: SourceIdentity | None) -> Operation[list[SourceSummary]]:
    # Cut to the limit by the caller: it must not be applied before the filter by source id is.
    request = codec.encode_filter(replace(query, limit=0), identity=identity)
    reply: p2p.ListSourcesResponse = yield Call(P2P, "ListSources", request)
    status = SourceStatus.UNKNOWN if query.status is None else query.status
    return [codec.decode_instance(message, status=status) for message in reply.instances]
