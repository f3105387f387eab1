"""What every call goes through: request id, drain, limit, deadline, error translation, access log.

A guard wraps the generic handler of a service once, so that a call costs no look-ups and services
hold nothing but their own work. Requests that aren't messages get INVALID_ARGUMENT; a defect gets
INTERNAL with the request id, and its traceback goes to the log and nowhere else. Payloads, tokens
and addresses of tensors are never logged.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from mx.errors import DeadlineError, InternalError, InvalidArgumentError, MxError, UnavailableError
from mx.logs import event_log, log_context, new_request_id
from mx.server.readiness import Readiness
from mx.wire.status import to_status

log = event_log("mx.server.access")

# A call holds a request of up to 100 MiB; what is beyond this is told to come back.
MAX_IN_FLIGHT = 10_000
# Bound for a call whose client gave no deadline.
UNARY_LIMIT_S = 60.0
# And for one that walks over the whole cache, which a slow disk with many files makes long.
WALK_LIMIT_S = 600.0
REQUEST_ID_KEY = "mx-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

Context = grpc.aio.ServicerContext[Any, Any]
# Told of each call that ended: method, name of its status, seconds.
Called = Callable[[str, str, float], None]


def _nobody_counts(_method: str, _code: str, _seconds: float) -> None:
    return None


# Asked before each call: method, request, context.
Require = Callable[[str, Any, Context], None]


def _everybody_may(_method: str, _request: Any, _context: Context) -> None:
    return None


if TYPE_CHECKING:
    _GenericHandler = grpc.GenericRpcHandler[Any, Any]
else:  # generic in the type stubs only
    _GenericHandler = grpc.GenericRpcHandler


class Traffic:
    """The calls in flight, and whether new ones are let in."""

    def __init__(self, readiness: Readiness, *, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self.readiness = readiness
        self._max = max_in_flight
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def enter(self) -> None:
        """Raises UnavailableError while draining and beyond the limit: the caller may try again."""
        if self.readiness.draining:
            raise UnavailableError("the server is shutting down", remedy="try again in a moment")
        if self._in_flight >= self._max:
            raise UnavailableError(
                f"the server already answers {self._in_flight} calls", remedy="try again in a moment"
            )
        self._in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def wait_idle(self) -> None:
        await self._idle.wait()


class Guard(_GenericHandler):
    """One service's handler, guarded.

    ``open_while_draining`` are methods (/package.Service/Method) that are answered to the end and
    aren't counted as in flight; ``noted`` those whose success is worth a line at INFO instead of DEBUG.
    ``walks`` are those that may take WALK_LIMIT_S. ``called`` is told how each call ended; ``require``
    raises PermissionDeniedError for a request that its caller may not make.
    """

    def __init__(
        self,
        inner: grpc.GenericRpcHandler[Any, Any],
        traffic: Traffic,
        *,
        open_while_draining: frozenset[str] = frozenset(),
        noted: frozenset[str] = frozenset(),
        unary_limit_s: float = UNARY_LIMIT_S,
        walks: frozenset[str] = frozenset(),
        called: Called = _nobody_counts,
        require: Require = _everybody_may,
    ) -> None:
        self._inner = inner
        self._require = require
        self._called = called
        self._traffic = traffic
        self._open = open_while_draining
        self._noted = noted
        self._unary_limit_s = unary_limit_s
        self._walks = walks
        self._known: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = handler_call_details.method
        known = self._known.get(method)
        if known is None:
            inner = self._inner.service(handler_call_details)
            if inner is None:
                return None
            known = self._known[method] = self._wrap(method, inner)
        return known

    def _wrap(self, method: str, inner: Any) -> grpc.RpcMethodHandler[Any, Any]:
        if inner.request_streaming:
            raise InternalError(f"{method}: calls with a stream of requests aren't guarded yet")
        if inner.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(method, inner), response_serializer=inner.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method, inner), response_serializer=inner.response_serializer
        )

    def _unary(self, method: str, inner: Any) -> Callable[[bytes, Context], Awaitable[Any]]:
        behavior, parse = inner.unary_unary, inner.request_deserializer
        limit_s = WALK_LIMIT_S if method in self._walks else self._unary_limit_s

        async def call(data: bytes, context: Context) -> Any:
            async with self._guarded(method, context):
                request = _parsed(method, parse, data)
                self._require(method, request, context)
                try:
                    async with asyncio.timeout(limit_s) as bound:
                        return await behavior(request, context)
                except TimeoutError as error:
                    if not bound.expired():
                        raise
                    raise DeadlineError(f"{_name(method)} took longer than {limit_s:g} s") from error

        return call

    def _stream(self, method: str, inner: Any) -> Callable[[bytes, Context], Awaitable[None]]:
        """Writes, where a generator would be left to the garbage collector when its caller goes."""
        behavior, parse = inner.unary_stream, inner.request_deserializer

        async def call(data: bytes, context: Context) -> None:
            async with self._guarded(method, context):
                request = _parsed(method, parse, data)
                self._require(method, request, context)
                async with aclosing(behavior(request, context)) as replies:
                    async for reply in replies:
                        await context.write(reply)

        return call

    @asynccontextmanager
    async def _guarded(self, method: str, context: Context) -> AsyncIterator[None]:
        call_id = _request_id(context)
        context.set_trailing_metadata(((REQUEST_ID_KEY, call_id),))
        begin_s = time.monotonic()
        code = "OK"
        failure: MxError | None = None
        entered = False
        with log_context(request_id=call_id):
            try:
                if method not in self._open:
                    self._traffic.enter()
                    entered = True
                yield
            except MxError as error:
                failure = error
                code = to_status(error)[0].name
            except (asyncio.CancelledError, GeneratorExit):
                code = "CANCELLED"
                raise
            except Exception:  # the edge of the process
                log.exception("defect", method=method)
                code = grpc.StatusCode.INTERNAL.name
                failure = InternalError(
                    f"defect in mx while answering {_name(method)}, request id {call_id}",
                    remedy="the server's log has the details; please report it",
                )
            finally:
                if entered:
                    self._traffic.leave()
                seconds = time.monotonic() - begin_s
                self._called(method, code, seconds)
                self._tell(method, context, code, failure, seconds)
        if failure is None:
            return
        if entered and isinstance(failure, UnavailableError):
            self._traffic.readiness.doubt_store()
        status, details, trailing = to_status(failure)
        await context.abort(status, details, (*trailing, (REQUEST_ID_KEY, call_id)))

    def _tell(
        self, method: str, context: Context, code: str, failure: MxError | None, seconds: float
    ) -> None:
        if failure is None and method not in self._noted:
            write, level = log.debug, "debug"
        elif failure is None:
            write, level = log.info, "info"
        else:
            write, level = log.warn, "warn"
        if not log.enabled(level):
            return
        fields: dict[str, object] = {
            "method": method.removeprefix("/"),
            "code": code,
            "ms": round(seconds * 1000, 2),
            "peer": context.peer(),
        }
        if failure is not None:
            fields["error"] = failure.message
        write("call", **fields)


def _name(method: str) -> str:
    return method.rpartition("/")[2]


def _parsed(method: str, parse: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return parse(data)
    except (DecodeError, ValueError) as error:
        raise InvalidArgumentError(
            f"{_name(method)}: the {len(data)} bytes received are not a request",
            remedy="check that client and server speak the same protocol",
        ) from error


def _request_id(context: Context) -> str:
    """The caller's own id when it gave a harmless one, else a new one."""
    for key, value in context.invocation_metadata() or ():
        if (
            key in ("x-request-id", REQUEST_ID_KEY)
            and isinstance(value, str)
            and _REQUEST_ID.fullmatch(value)
        ):
            return value
    return new_request_id()
