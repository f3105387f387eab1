"""An HTTP proxy that fails as it is told to: refusals, lost answers, cut and frozen connections, delays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp import web

_HOP_BY_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length", "host", "keep-alive"})


@dataclass(slots=True)
class Fault:
    """What happens to the next ``times`` requests of this method with ``path`` in their address.

    ``status`` answers instead of the server. Without one the connection is cut: before the request is
    passed on, or with ``late`` after it was carried out.
    """

    times: int = 1
    method: str = ""
    path: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    late: bool = False
    met: int = 0

    def fits(self, request: web.Request) -> bool:
        wanted = self.method in ("", request.method) and self.path in request.path_qs
        return wanted and self.met < self.times


class FlakyProxy:
    """In front of one server, on a loopback port of its own.

    ``seen`` has what was asked, in order; ``bodies`` has what came with it and was passed on.
    """

    def __init__(self, upstream: str) -> None:
        self.seen: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        self.faults: list[Fault] = []
        self.delay_s = 0.0
        self.down = False  # every connection is cut at once
        self._stalled: set[int] = set()
        self._upstream = upstream
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._live: dict[int, web.Request] = {}
        self.url = ""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=False, limit=0), auto_decompress=False
        )
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thawed.set()
        self.sever()
        await self._runner.cleanup()
        await self._session.close()

    def fail(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault

    def sever(self) -> None:
        """Cut every connection that is in use now."""
        for request in tuple(self._live.values()):
            _cut(request)

    def freeze(self, frozen: bool) -> None:
        """Nothing is passed on and nothing is closed, as when a network swallows everything."""
        self._thawed.clear() if frozen else self._thawed.set()

    def stall(self, path: str) -> None:
        """Nothing more comes of answers to such addresses that are under way, and they stay open."""
        self._stalled |= {key for key, request in self._live.items() if path in request.path_qs}

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path_qs))
        self._live[id(request)] = request
        try:
            return await self._answer(request)
        finally:
            del self._live[id(request)]
            self._stalled.discard(id(request))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        await self._thawed.wait()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        fault = next((one for one in self.faults if one.fits(request)), None)
        if fault is not None:
            fault.met += 1
            if fault.status:
                return web.json_response(fault.body or {}, status=fault.status, headers=fault.headers)
        if self.down or (fault is not None and not fault.late):
            return _cut(request)
        try:
            return await self._pass_on(request, lose=fault is not None)
        except (aiohttp.ClientError, ConnectionError):
            return _cut(request)

    async def _pass_on(self, request: web.Request, *, lose: bool) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        body = await request.read()
        self.bodies.append(body)
        timeout = aiohttp.ClientTimeout(total=None)
        url = f"{self._upstream}{request.path_qs}"
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, timeout=timeout
        ) as found:
            if lose:
                await found.read()
                return _cut(request)
            told = {k: v for k, v in found.headers.items() if k.lower() not in _HOP_BY_HOP}
            answer = web.StreamResponse(status=found.status, headers=told)
            await answer.prepare(request)
            async for chunk in found.content.iter_any():
                await self._thawed.wait()
                if id(request) not in self._stalled:
                    await answer.write(chunk)
            with contextlib.suppress(ConnectionError):
                await answer.write_eof()
            return answer


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
