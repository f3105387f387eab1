"""``Client`` over a gRPC connection, with asyncio."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import grpc
import grpc.aio

from mx.client import model_operations, operations
from mx.client.address import grpc_target
from mx.client.base import ApiReply, ServerHealth, ServerStatus
from mx.client.operations import Call, NotOfferedError, Operation
from mx.client.retry import Attempts, usual
from mx.core.cache_view import CacheListing, CacheStats, EntryDetail, Removed
from mx.core.cached import CachedFile
from mx.core.eviction import EvictionPlan, EvictionRun, EvictionStep, KeepLimits, Shrink
from mx.core.model import EntryKey, ModelRef, Pin, ProviderName
from mx.core.progress import EnsureUpdate
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
from mx.core.verification import OnFault, VerifyStep
from mx.errors import DeadlineError, MxError, UnavailableError
from mx.wire import cache_codec
from mx.wire.status import from_rpc_error
from mx.wire.v1 import admin, api, health, model, p2p

if TYPE_CHECKING:
    from mx.client.sync import SyncClient

T = TypeVar("T")

TIMEOUT_S = 30.0
MAX_RETRIES = 2
RETRY_DELAY_S = 0.25
# A server that works on a stream says so every 10 s.
_SILENCE_S = 60.0
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
        self._max_retries, self._retry_delay_s = max_retries, retry_delay_s
        self._rule = usual(max_retries, retry_delay_s)
        self._token = token
        self._channel: grpc.aio.Channel | None = None
        self._stubs: dict[str, Any] = {}
        self._closed = False

    @property
    def target(self) -> str:
        """host:port that calls go to."""
        return self._target

    def blocking(self) -> SyncClient:
        """A blocking client of the same server, over a connection of its own; close it."""
        from mx.client.sync import SyncClient  # it takes from here what both share

        return SyncClient(
            self._target,
            timeout_s=self._timeout_s,
            max_retries=self._max_retries,
            retry_delay_s=self._retry_delay_s,
            token=self._token,
        )

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

    async def ensure(
        self, ref: ModelRef, *, weights: bool = True, force: bool = False
    ) -> AsyncGenerator[EnsureUpdate, None]:
        call = model_operations.ensure(ref, weights=weights, force=force)
        attempts = Attempts(self._rule, timeout_s=math.inf, begin_s=time.monotonic())
        while True:
            try:
                async for message in self._open(call):
                    update = model_operations.read_update(message, weights=weights)
                    attempts = Attempts(self._rule, timeout_s=math.inf, begin_s=time.monotonic())
                    yield update
                    if update.is_last:
                        return
                failure: MxError = ended_early(ref, self._target)
            except grpc.RpcError as error:
                failure = failed(error, call, self._target)
            except grpc.aio.UsageError:
                failure = UnavailableError(f"the connection to {self._target} was closed")
            if isinstance(failure, NotOfferedError) and call.service == operations.ADMIN:
                call = published_ensure(ref, weights=weights, refused=failure)
                continue
            pause_s = attempts.pause_s(failure, time.monotonic())
            if pause_s is None or self._closed:
                raise failure
            await asyncio.sleep(pause_s)

    async def list_files(self, ref: ModelRef, *, weights: bool = True) -> tuple[CachedFile, ...]:
        return await self._run(model_operations.list_files(ref, weights=weights))

    async def delete_model(self, provider: ProviderName, name: str) -> str:
        return await self._run(model_operations.delete_model(provider, name))

    async def list_models(
        self, *, provider: ProviderName | None = None, name: str | None = None
    ) -> CacheListing:
        return await self._run(model_operations.list_models(provider, name))

    async def show_model(self, key: EntryKey) -> EntryDetail:
        return await self._run(model_operations.show_model(key))

    async def remove_model(
        self, provider: ProviderName, name: str, *, commit: str | None = None, force: bool = False
    ) -> Removed:
        call = model_operations.remove_model(provider, name, commit=commit, force=force)
        async with aclosing(self._follow(call)) as updates:
            async for update in updates:
                if (removed := model_operations.read_removal(update)) is not None:
                    return removed
        raise ended_early(name, self._target)

    async def plan_removal(
        self,
        *,
        provider: ProviderName | None = None,
        name: str | None = None,
        commit: str | None = None,
        force: bool = False,
    ) -> EvictionPlan:
        return await self._run(model_operations.plan_removal(provider, name, commit=commit, force=force))

    async def pin_model(self, key: EntryKey, pin: Pin | None) -> None:
        await self._run(model_operations.pin_model(key, pin))

    async def plan_eviction(self, goal: KeepLimits | Shrink = KeepLimits()) -> EvictionPlan:
        return await self._run(model_operations.plan_eviction(goal))

    async def run_eviction(
        self, plan: EvictionPlan, *, told: Callable[[EvictionStep], None] | None = None
    ) -> EvictionRun:
        async with aclosing(self._follow(model_operations.run_eviction(plan))) as updates:
            async for update in updates:
                if (run := model_operations.read_run(update, told)) is not None:
                    return run
        raise ended_early("the eviction", self._target)

    async def verify_models(
        self, keys: Sequence[EntryKey] | None = None, *, on_fault: OnFault = OnFault.REPORT
    ) -> AsyncGenerator[VerifyStep, None]:
        async with aclosing(self._follow(model_operations.verify_models(keys, on_fault))) as updates:
            async for update in updates:
                yield cache_codec.decode_verify_step(update)

    async def cache_stats(self, *, runs: int = 5) -> CacheStats:
        return await self._run(model_operations.cache_stats(runs))

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
        timeout_s = call.timeout_s(self._timeout_s)
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

    async def _follow(self, call: Call) -> AsyncGenerator[Any, None]:
        """The messages of a stream that is not asked for twice, each within the silence that is borne."""
        stream = self._open(call)
        messages = aiter(stream)
        try:
            while True:
                async with asyncio.timeout(_SILENCE_S):
                    message = await anext(messages, None)
                if message is None:
                    return
                yield message
        except TimeoutError as error:
            raise DeadlineError(
                f"{self._target} said nothing about {call.method} for {_SILENCE_S:g} s"
            ) from error
        except grpc.RpcError as error:
            raise failed(error, call, self._target) from error
        except grpc.aio.UsageError as error:
            raise UnavailableError(f"the connection to {self._target} was closed") from error
        finally:
            stream.cancel()

    def _open(self, call: Call) -> Any:
        """A stream without a deadline."""
        return getattr(self._stub(call.service), call.method)(call.request, metadata=bearer(self._token))

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
                operations.MODEL: model.ModelServiceAsyncStub(channel),
            }
        return self._stubs[service]


def published_ensure(ref: ModelRef, *, weights: bool, refused: NotOfferedError) -> Call:
    """The published call in the place of mx's own, where it can say the same."""
    if ref.provider is ProviderName.LOCAL:
        raise refused
    return model_operations.ensure_published(ref, weights=weights)


def ended_early(what: object, target: str) -> UnavailableError:
    """A stream of updates without its last one says nothing about how it ended."""
    return UnavailableError(f"{target} stopped telling about {what} before the end", remedy="ask again")


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
