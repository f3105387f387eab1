"""The blocking twin of ``connection``: gRPC's blocking stubs, safe to share between threads."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import grpc

from mx.client import operations
from mx.client.connection import CHANNEL_OPTIONS, failed, metadata_of
from mx.client.operations import Call, Operation
from mx.client.retry import Attempts, RetryRule
from mx.errors import DeadlineError, MxError, UnavailableError
from mx.wire.v1 import admin, api, health, model, p2p

T = TypeVar("T")


class SyncConnection:
    """One connection, made with the first call. ``closed`` is set once it is."""

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
        self.timeout_s = timeout_s
        self.rule = rule
        self.token = token
        self.role = role
        self.closed = threading.Event()
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stubs: dict[str, Any] = {}

    def close(self) -> None:
        """End the connection; calls that wait in other threads end with UnavailableError."""
        self.closed.set()
        with self._lock:
            channel, self._channel, self._stubs = self._channel, None, {}
        if channel is not None:
            channel.close()

    def run(self, operation: Operation[T]) -> T:
        try:
            call = next(operation)
            while True:
                try:
                    reply = self._send(call)
                except MxError as error:
                    call = operation.throw(error)
                else:
                    call = operation.send(reply)
        except StopIteration as done:
            result: T = done.value
            return result

    def _send(self, call: Call) -> Any:
        method = getattr(self._stub(call.service), call.method)
        timeout_s = call.timeout_s(self.timeout_s)
        attempts = Attempts(call.rule or self.rule, timeout_s=timeout_s, begin_s=time.monotonic())
        while True:
            try:
                return method(
                    call.request,
                    timeout=attempts.timeout_s(time.monotonic()),
                    metadata=metadata_of(self.token, self.role),
                )
            except grpc.RpcError as error:
                if self.closed.is_set():
                    raise self.was_closed() from error
                failure = failed(error, call, self.target)
                pause_s = attempts.pause_s(failure, time.monotonic())
                if pause_s is None:
                    raise failure from error
            except ValueError as error:  # what gRPC raises on a closed channel
                if not self.closed.is_set():
                    raise
                raise self.was_closed() from error
            if self.closed.wait(pause_s):
                raise self.was_closed()

    def follow(self, call: Call, *, silence_s: float = math.inf) -> Generator[Any, None, None]:
        """The messages of a stream that is not asked for twice; DeadlineError after a longer silence."""
        stream = self.open(call)
        watch = Silence(stream, silence_s) if math.isfinite(silence_s) else None
        try:
            for message in stream:
                if watch is not None:
                    watch.pause()  # the time that our caller takes is not the server's
                yield message
                if watch is not None:
                    watch.listen()
        except grpc.RpcError as error:
            if self.closed.is_set():
                raise self.was_closed() from error
            if watch is not None and watch.expired:
                raise DeadlineError(f"{self.target} said nothing for {silence_s:g} s") from error
            raise failed(error, call, self.target) from error
        finally:
            if watch is not None:
                watch.end()
            stream.cancel()

    def open(self, call: Call) -> Any:
        """A stream without a deadline."""
        return getattr(self._stub(call.service), call.method)(
            call.request, metadata=metadata_of(self.token, self.role)
        )

    def _stub(self, service: str) -> Any:
        with self._lock:
            if self.closed.is_set():
                raise self.was_closed()
            if self._channel is None:
                channel = self._channel = grpc.insecure_channel(self.target, options=CHANNEL_OPTIONS)
                self._stubs = {
                    operations.API: api.ApiServiceStub(channel),
                    operations.HEALTH: health.HealthServiceStub(channel),
                    operations.P2P: p2p.P2pServiceStub(channel),
                    operations.ADMIN: admin.AdminServiceStub(channel),
                    operations.MODEL: model.ModelServiceStub(channel),
                }
            return self._stubs[service]

    def was_closed(self) -> UnavailableError:
        return UnavailableError(f"the connection to {self.target} was closed")


class Silence:
    """Cancels a stream that says nothing: gRPC bounds whole calls, not the time between messages."""

    def __init__(self, stream: Any, limit_s: float) -> None:
        self._stream = stream
        self._limit_s = limit_s
        self._since_s = time.monotonic()
        self._ended = threading.Event()
        self.expired = False
        threading.Thread(target=self._watch, name="mx-silence", daemon=True).start()

    def listen(self) -> None:
        self._since_s = time.monotonic()

    def pause(self) -> None:
        self._since_s = math.inf

    def end(self) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._limit_s)):
            if time.monotonic() - self._since_s >= self._limit_s:
                self.expired = True
                self._stream.cancel()
                return
