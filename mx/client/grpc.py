"""``Client`` over a gRPC connection, with asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

import grpc
import grpc.aio

from mx.client import operations
from mx.client.address import grpc_target
from mx.client.base import ApiReply, ServerHealth, ServerStatus
from mx.client.operations import Call, NotOfferedError, Operation
from mx.client.retry import Attempts, usual
from mx.core.source import (
    PeerRecord,
    PodReference,
    SourceEntry,
    SourceFilter,
    SourceIdentity,
    SourceSummary,
    WorkerKey,
    WorkerRecord,
)
from mx.core.transfer import TransferReport
from mx.errors import MxError, UnavailableError
from mx.wire.status import from_rpc_error
from mx.wire.v1 import admin, api, health, p2p

T = TypeVar("T")

TIMEOUT_S = 30.0
MAX_RETRIES = 2
RETRY_DELAY_S = 0.25
_MESSAGE_LIMIT_BYTES = 100 * 1024 * 1024
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", _MESSAGE_LIMIT_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_LIMIT_BYTES),
    # By default a client that lost its server looks for it again after up to two minutes, and every
    # call in between fails: a restarted server would miss heartbeats until sources count as dead.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # How long one attempt may take, whatever the name says: a server far away or busy is there too.
    ("grpc.min_reconnect_backoff_ms", 2000),
    # A host that vanished without a word is noticed while a call waits, not after TCP's 15 minutes.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Each client its own connections: closing one must not touch another's.
    ("grpc.use_local_subchannel_pool", 1),
)


class GrpcClient:
    """``mx.client.base.Client``; connects with its first call, bound to that call's event loop.

    ``timeout_s`` bounds a call with all its retries (a publish: each of its three attempts).
    ``token`` gives the bearer token to send, or None.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        timeout_s: float = TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
        retry_delay_s: float = RETRY_DELAY_S,
        token: Callable[[], str | None] | None = None,
    ) -> None:
        self._target = grpc_target(endpoint)
        self._timeout_s = timeout_s
        self._rule = usual(max_retries, retry_delay_s)
        self._token = token
        self._channel: grpc.aio.Channel | None = None
        self._stubs: dict[str, Any] = {}
        self._closed = False

    @property
    def target(self) -> str:
        """host:port that calls go to."""
        return self._target

    async def health(self) -> ServerHealth:
        return await self._run(operations.get_health())

    async def send(self, action: str, *, payload: bytes | None = None) -> ApiReply:
        return await self._run(operations.send(action, payload, uuid4().hex))

    async def status(self) -> ServerStatus:
        return await self._run(operations.get_status())

    async def publish(
        self,
        identity: SourceIdentity,
        worker: WorkerRecord,
        *,
        worker_id: str,
        pod: PodReference = PodReference(),
    ) -> str:
        return await self._run(operations.publish(identity, worker, worker_id=worker_id, pod=pod))

    async def announce(self, key: WorkerKey, peer: PeerRecord) -> bool:
        return await self._run(operations.announce(key, peer))

    async def update_status(self, key: WorkerKey, status: int, *, source_load: float | None = None) -> bool:
        return await self._run(operations.update_status(key, status, source_load=source_load))

    async def list_sources(
        self, query: SourceFilter, *, identity: SourceIdentity | None = None
    ) -> tuple[SourceSummary, ...]:
        return await self._run(operations.list_sources(query, identity))

    async def find_peers(self, identity: SourceIdentity, *, worker_rank: int) -> tuple[SourceSummary, ...]:
        return await self._run(operations.find_peers(identity, worker_rank))

    async def get_source(self, source_id: str, worker_id: str) -> SourceEntry | None:
        return await self._run(operations.get_source(source_id, worker_id))

    async def withdraw(self, key: WorkerKey) -> bool:
        return await self._run(operations.withdraw(key))

    async def report_transfer(self, report: TransferReport) -> None:
        await self._run(operations.report_transfer(report))

    async def list_transfers(self, *, limit: int = 100) -> tuple[TransferReport, ...]:
        return await self._run(operations.list_transfers(limit))

    async def close(self) -> None:
        self._closed = True
        self._stubs = {}
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close(None)

    async def _run(self, operation: Operation[T]) -> T:
        try:
            call = next(operation)
            while True:
                try:
                    reply = await self._send(call)
                except MxError as error:
                    call = operation.throw(error)
                else:
                    call = operation.send(reply)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _send(self, call: Call) -> Any:
        method = getattr(self._stub(call.service), call.method)
        timeout_s = min(self._timeout_s, call.limit_s)
        attempts = Attempts(call.rule or self._rule, timeout_s=timeout_s, begin_s=time.monotonic())
        while True:
            try:
                return await method(
                    call.request, timeout=attempts.timeout_s(time.monotonic()), metadata=bearer(self._token)
                )
            except grpc.RpcError as error:
                failure = failed(error, call, self._target)
                pause_s = attempts.pause_s(failure, time.monotonic())
                if pause_s is None:
                    raise failure from error
            except grpc.aio.UsageError as error:
                raise UnavailableError(f"the connection to {self._target} was closed") from error
            await asyncio.sleep(pause_s)

    def _stub(self, service: str) -> Any:
        if self._closed:
            raise UnavailableError(f"the connection to {self._target} was closed")
        if self._channel is None:
            channel = self._channel = grpc.aio.insecure_channel(self._target, options=CHANNEL_OPTIONS)
            self._stubs = {
                operations.API: api.ApiServiceAsyncStub(channel),
                operations.HEALTH: health.HealthServiceAsyncStub(channel),
                operations.P2P: p2p.P2pServiceAsyncStub(channel),
                operations.ADMIN: admin.AdminServiceAsyncStub(channel),
            }
        return self._stubs[service]


def bearer(token: Callable[[], str | None] | None) -> tuple[tuple[str, str], ...]:
    """Metadata of a call: the token if there is one."""
    value = token() if token is not None else None
    return (("authorization", f"Bearer {value}"),) if value else ()


def failed(error: grpc.RpcError, call: Call, target: str) -> MxError:
    """The MxError of a failed attempt."""
    failure = from_rpc_error(error, call=call.method, target=target)
    if isinstance(error, grpc.Call | grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.UNIMPLEMENTED:
        ours = call.service == operations.ADMIN
        remedy = (
            "this call needs an mx server" if ours else "check that the address is a ModelExpress server's"
        )
        return NotOfferedError(failure.message, remedy=remedy)
    return failure
