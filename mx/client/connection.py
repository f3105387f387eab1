"""One gRPC connection of a client: made with the first call, its calls retried, its errors in our words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from mx.client import operations
from mx.client.operations import Call, NotOfferedError, Operation
from mx.client.retry import Attempts, RetryRule
from mx.errors import DeadlineError, MxError, UnavailableError
from mx.wire.roles import ROLE_KEY
from mx.wire.status import from_rpc_error
from mx.wire.v1 import admin, api, health, model, p2p

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


class Connection:
    """Bound to the event loop of its first call. ``rule`` is what a call without one of its own follows."""

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float,
        rule: RetryRule,
        token: Callable[[], str | None] | None,
        role: str,
    ) -> None:
        self.target = target
        self.rule = rule
        self.closed = False
        self._timeout_s = timeout_s
        self._token = token
        self._role = role
        self._channel: grpc.aio.Channel | None = None
        self._stubs: dict[str, Any] = {}

    async def close(self) -> None:
        self.closed = True
        self._stubs = {}
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close(None)

    async def run(self, operation: Operation[T]) -> T:
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
        attempts = Attempts(call.rule or self.rule, timeout_s=timeout_s, begin_s=time.monotonic())
        while True:
            try:
                return await method(
                    call.request,
                    timeout=attempts.timeout_s(time.monotonic()),
                    metadata=metadata_of(self._token, self._role),
                )
            except grpc.RpcError as error:
                failure = failed(error, call, self.target)
                pause_s = attempts.pause_s(failure, time.monotonic())
                if pause_s is None:
                    raise failure from error
            except grpc.aio.UsageError as error:
                raise UnavailableError(f"the connection to {self.target} was closed") from error
            await asyncio.sleep(pause_s)

    async def follow(self, call: Call, *, silence_s: float = _SILENCE_S) -> AsyncGenerator[Any, None]:
        """The messages of a stream that is not asked for twice, each within the silence that is borne."""
        stream = self.open(call)
        messages = aiter(stream)
        try:
            while True:
                async with asyncio.timeout(silence_s):
                    message = await anext(messages, None)
                if message is None:
                    return
                yield message
        except TimeoutError as error:
            raise DeadlineError(
                f"{self.target} said nothing about {call.method} for {silence_s:g} s"
            ) from error
        except grpc.RpcError as error:
            raise failed(error, call, self.target) from error
        except grpc.aio.UsageError as error:
            raise UnavailableError(f"the connection to {self.target} was closed") from error
        finally:
            stream.cancel()

    def open(self, call: Call) -> Any:
        """A stream without a deadline."""
        return getattr(self._stub(call.service), call.method)(
            call.request, metadata=metadata_of(self._token, self._role)
        )

    def _stub(self, service: str) -> Any:
        if self.closed:
            raise UnavailableError(f"the connection to {self.target} was closed")
        if self._channel is None:
            channel = self._channel = grpc.aio.insecure_channel(self.target, options=CHANNEL_OPTIONS)
            self._stubs = {
                operations.API: api.ApiServiceAsyncStub(channel),
                operations.HEALTH: health.HealthServiceAsyncStub(channel),
                operations.P2P: p2p.P2pServiceAsyncStub(channel),
                operations.ADMIN: admin.AdminServiceAsyncStub(channel),
                operations.MODEL: model.ModelServiceAsyncStub(channel),
            }
        return self._stubs[service]


def ended_early(what: object, target: str) -> UnavailableError:
    """A stream of updates without its last one says nothing about how it ended."""
    return UnavailableError(f"{target} stopped telling about {what} before the end", remedy="ask again")


def metadata_of(token: Callable[[], str | None] | None, role: str) -> tuple[tuple[str, str], ...]:
    """Metadata of a call: the token if there is one, and whose call it is if that was said."""
    value = token() if token is not None else None
    bearer = (("authorization", f"Bearer {value}"),) if value else ()
    return (*bearer, (ROLE_KEY, role)) if role else bearer


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
