"""The HTTP listener beside gRPC: metrics, health, and files of complete entries in ranges.

    GET /metrics          what the exposition says; 404 without one
    GET /healthz          200 while the process answers
    GET /readyz           200 when it can serve, else 503 and why
    GET /files/{number}   a file of the entry that a ticket stands for: ``Authorization: Bearer TICKET``,
                          numbered as OpenModelFiles listed them; one ``Range`` at most

Only who may call gRPC gets a ticket, so files need no authorization of their own. The bytes go from
the file to the connection in the kernel; the event loop never waits for a disk or a slow reader.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from mx.core.cached import CachedFile
from mx.errors import ErrorCode, ExhaustedError, MxError, NotFoundError, SettingsError, UnavailableError
from mx.logs import event_log
from mx.ports import EntryCache
from mx.server.interceptors import Traffic
from mx.server.listen import check_address, join_address
from mx.server.readiness import Readiness
from mx.server.sendfile import CutError, send_range
from mx.services.threads import in_thread
from mx.services.tickets import FileTickets, Ticket

log = event_log(__name__)

Exposition = Callable[[], tuple[bytes, str]]  # the body and its content type

_STATUS = {
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.INVALID_ARGUMENT: 400,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.PERMISSION_DENIED: 403,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.EXHAUSTED: 503,
}
CODE_HEADER = "mx-error-code"
_NAME_LIMIT_S = 2.0  # to look our own name up


@dataclass(frozen=True, slots=True)
class HttpRules:
    """``transfers`` at once, each with a thread; more wait for their turn, ``turn_s`` at most.

    A connection without a request for ``idle_s`` is closed, one whose reader takes nothing for
    ``silence_s`` is cut.
    """

    transfers: int = 64
    turn_s: float = 10.0
    connections: int = 2048
    idle_s: float = 30.0
    silence_s: float = 30.0


@dataclass(slots=True)
class HttpCounts:
    """What went over this listener, for metrics; ``cut`` transfers ended early."""

    transfers: int = 0
    cut: int = 0
    bytes_sent: int = 0
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class RunningHttp:
    """A listener; ``port`` is the one really bound."""

    listen: str
    port: int
    counts: HttpCounts


@dataclass(slots=True)
class _Files:
    """Serves ranges. ``turns`` bounds them, ``traffic`` makes a drain wait for them."""

    tickets: FileTickets
    cache: EntryCache
    traffic: Traffic
    rules: HttpRules
    counts: HttpCounts
    threads: ThreadPoolExecutor
    turns: asyncio.Semaphore
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def get(self, request: web.Request) -> web.StreamResponse:
        ticket = self._ticket(request)
        file = _numbered(ticket, request.match_info["number"])
        offset, count = _wanted(request, file)
        self.traffic.enter()
        try:
            await self._take_turn()
            try:
                return await self._send(request, ticket, file, offset, count)
            finally:
                self.turns.release()
        finally:
            self.traffic.leave()

    def _ticket(self, request: web.Request) -> Ticket:
        scheme, _, secret = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        try:
            return self.tickets.find(secret.strip() if scheme.lower() == "bearer" else "")
        except NotFoundError as error:
            raise web.HTTPUnauthorized(text=f"{error}\n", headers={hdrs.WWW_AUTHENTICATE: "Bearer"}) from None

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(self.rules.turn_s):
                await self.turns.acquire()
        except TimeoutError:
            raise ExhaustedError(
                f"{self.rules.transfers} files are being read already", remedy="try again in a moment"
            ) from None

    async def _send(
        self, request: web.Request, ticket: Ticket, file: CachedFile, offset: int, count: int
    ) -> web.StreamResponse:
        fd = await in_thread(self.cache.open_file, ticket.entry, file.path)
        try:
            whole = count == file.size_bytes
            response = web.StreamResponse(status=200 if whole else 206)
            response.content_type = "application/octet-stream"
            response.content_length = count
            if not whole:
                response.headers[hdrs.CONTENT_RANGE] = (
                    f"bytes {offset}-{offset + count - 1}/{file.size_bytes}"
                )
            if file.xxh3:
                response.headers[hdrs.ETAG] = f'"{file.xxh3}"'
            await self._prepared(request, response)
            if count and request.method != hdrs.METH_HEAD:
                await self._move(request, ticket, file, fd, offset, count)
            await response.write_eof()
            return response
        finally:
            os.close(fd)

    async def _prepared(self, request: web.Request, response: web.StreamResponse) -> None:
        """Headers are with the kernel: what a thread sends must not overtake them."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the reader has gone")
        transport.set_write_buffer_limits(high=0)
        writer = await response.prepare(request)
        try:
            async with asyncio.timeout(self.rules.silence_s):
                if writer is not None:
                    await writer.drain()
        except TimeoutError:
            transport.abort()
        if transport.is_closing() or transport.get_write_buffer_size():
            raise ConnectionResetError("the reader does not take the headers")

    async def _move(
        self, request: web.Request, ticket: Ticket, file: CachedFile, fd: int, offset: int, count: int
    ) -> None:
        transport = request.transport
        connection = None if transport is None else transport.get_extra_info("socket")
        if transport is None or connection is None:
            raise ConnectionResetError("the reader has gone")
        # A descriptor of the thread's own: the number may be another connection's once this one closes.
        own = os.dup(connection.fileno())
        self.counts.in_flight += 1
        moving = asyncio.get_running_loop().run_in_executor(
            self.threads, lambda: self._send_now(own, fd, ticket, offset, count)
        )
        try:
            await _to_its_end(moving)
            self.counts.transfers += 1
            self.counts.bytes_sent += count
        except (CutError, OSError) as error:
            self.counts.cut += 1
            transport.abort()  # whatever the reader has is less than what was promised
            _tell_cut(ticket, file, request, error)
            raise ConnectionResetError(str(error)) from error
        finally:
            self.counts.in_flight -= 1
            os.close(own)

    def _send_now(self, connection: int, fd: int, ticket: Ticket, offset: int, count: int) -> None:
        send_range(
            connection,
            fd,
            offset=offset,
            count=count,
            silence_s=self.rules.silence_s,
            go_on=lambda: ticket.open and not self.stopped.is_set(),
        )


async def _to_its_end(moving: asyncio.Future[None]) -> None:
    """The descriptors must outlive the thread that uses them, whoever is cancelled."""
    try:
        await asyncio.shield(moving)
    except asyncio.CancelledError:
        await asyncio.wait([moving])
        raise


def _tell_cut(ticket: Ticket, file: CachedFile, request: web.Request, error: Exception) -> None:
    broken = isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT)
    write = log.debug if broken else log.warn
    write(
        "file not sent to its end",
        model=str(ticket.key),
        file=file.path,
        peer=request.remote,
        error=str(error),
    )


def _numbered(ticket: Ticket, text: str) -> CachedFile:
    number = int(text) if len(text) < 10 else len(ticket.files)
    if number >= len(ticket.files):
        raise NotFoundError(f"{ticket.key} has {len(ticket.files)} files, no number {text[:20]}")
    return ticket.files[number]


def _wanted(request: web.Request, file: CachedFile) -> tuple[int, int]:
    """Offset and length; HTTPRequestRangeNotSatisfiable for what is no single range within the file."""
    try:
        asked = request.http_range
        begin, end, _ = asked.indices(file.size_bytes)
    except ValueError:
        begin, end = 1, 0
    if hdrs.RANGE in request.headers and (end <= begin or (asked.start or 0) >= file.size_bytes):
        raise web.HTTPRequestRangeNotSatisfiable(
            headers={hdrs.CONTENT_RANGE: f"bytes */{file.size_bytes}"}, text="no such range\n"
        )
    return begin, end - begin


@web.middleware
async def _translated(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except MxError as error:
        status = _STATUS.get(error.code, 500)
        headers = {CODE_HEADER: error.code.value}
        if status == 503:
            headers[hdrs.RETRY_AFTER] = "1"
        if status == 500:
            log.error("request failed", path=request.path, code=error.code.value, error=str(error))
        return web.Response(status=status, text=f"{error}\n", headers=headers)


def _application(
    readiness: Readiness, exposition: Exposition | None, files: _Files | None
) -> web.Application:
    async def metrics(_request: web.Request) -> web.Response:
        if exposition is None:
            raise NotFoundError("this server tells no metrics")
        body, content_type = exposition()
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def health(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_request: web.Request) -> web.Response:
        if not readiness.serving:
            raise UnavailableError(readiness.reason)
        return web.Response(text="ok\n")

    async def sign(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers[hdrs.SERVER] = "mx"  # and no versions of what is inside

    app = web.Application(middlewares=[_translated], client_max_size=1)
    app.on_response_prepare.append(sign)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", health)
    app.router.add_get("/readyz", ready)
    if files is not None:
        app.router.add_get(r"/files/{number:\d+}", files.get)
    return app


@asynccontextmanager
async def running_http(
    *,
    host: str,
    port: int,
    traffic: Traffic,
    exposition: Exposition | None = None,
    tickets: FileTickets | None = None,
    cache: EntryCache | None = None,
    rules: HttpRules = HttpRules(),  # a frozen value
) -> AsyncIterator[RunningHttp]:
    """Listen while the body runs; ``port`` 0 takes a free one. Files need ``tickets`` and ``cache``.

    Transfers count as ``traffic``, so that a drain waits for them and lets no new ones in; those
    that still run at the end are cut. Raises SettingsError when nothing can listen there.
    """
    check_address(host, port, option="--metrics-port", variable="MODEL_EXPRESS_SERVER_METRICS_PORT")
    counts = HttpCounts()
    threads = ThreadPoolExecutor(rules.transfers, thread_name_prefix="mx-files")
    turns = asyncio.Semaphore(rules.transfers)
    files = None
    if tickets is not None and cache is not None:
        files = _Files(tickets, cache, traffic, rules, counts, threads, turns)
    runner = web.AppRunner(
        _application(traffic.readiness, exposition, files),
        handle_signals=False,
        access_log=None,
        keepalive_timeout=rules.idle_s,
        shutdown_timeout=0.5,
    )
    await runner.setup()
    server = None
    try:
        server = await _listen(runner, host, port, rules.connections)
        bound = server.sockets[0].getsockname()[1]
        yield RunningHttp(join_address(host, bound), bound, counts)
    finally:
        if server is not None:
            server.close()
        if files is not None:
            files.stopped.set()
        await runner.cleanup()
        threads.shutdown(wait=False)


async def _listen(runner: web.AppRunner, host: str, port: int, most: int) -> asyncio.Server:
    serve = runner.server
    assert serve is not None  # set up just now

    def accept() -> asyncio.Protocol:
        return serve() if len(serve.connections) < most else _Refusal()

    bare = host.removeprefix("[").removesuffix("]")
    every = bare in ("", "::")  # both families, as gRPC takes it
    try:
        return await asyncio.get_running_loop().create_server(
            accept, None if every else bare, port, backlog=512
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SettingsError((f"can't listen on {join_address(host, port)}: {reason.lower()}",)) from error


class _Refusal(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.abort()


async def local_hosts(host: str) -> tuple[str, ...]:
    """Where else this listener may be reached, for readers whose address for us leads to several servers."""
    if host not in ("0.0.0.0", "::", "[::]", ""):  # noqa: S104  # told apart, not bound
        return (host.removeprefix("[").removesuffix("]"),)
    try:
        async with asyncio.timeout(_NAME_LIMIT_S):
            found = await asyncio.get_running_loop().getaddrinfo(
                socket.gethostname(), None, type=socket.SOCK_STREAM
            )
    except (OSError, UnicodeError, TimeoutError):
        return ()
    addresses = dict.fromkeys(str(where[0]) for _, _, _, _, where in found)
    return tuple(a for a in addresses if not a.startswith(("127.", "::1", "fe80:")))
