"""HTTP/1.1 connections, read in threads: one call fills a large buffer, with nothing copied in between.

The standard library's client and not httpx2's: that one takes bodies apart in Python, on one core at
most and for twice the processor time of a GiB, 4.3 s where this takes 2.1 (``benchmarks/object_stores.py``).
Knows addresses, headers and bytes; what an answer means is ``answers``' subject.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import select
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import httpx2

from mx.core.redact import redact_text
from mx.errors import MxError, UnavailableError
from mx.providers.answers import host_of
from mx.providers.retry import TransientError

T = TypeVar("T")

_IDLE_S = 20.0  # servers and balancers close connections that are idle for a minute, some earlier
_NO_BODY = frozenset({204, 304})

Origin = tuple[str, str, int]


class Connections:
    """Open connections of one provider. ``threads`` bounds how many are read at the same moment."""

    def __init__(self, *, threads: int, connect_s: float, silence_s: float) -> None:
        self._connect_s = connect_s
        self._silence_s = silence_s
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="mx-http")
        self._idle: dict[Origin, list[tuple[float, http.client.HTTPConnection]]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._trust: ssl.SSLContext | None = None

    async def send(
        self, url: httpx2.URL, headers: Mapping[str, str], *, what: str, method: str = "GET"
    ) -> Exchange:
        """The head of the answer; the body can be read from there. TransientError, UnavailableError."""
        exchange = Exchange(self, self._threads, url, what)
        await exchange.run(lambda: exchange.begin(method, headers, self._take))
        return exchange

    async def close(self) -> None:
        with self._lock:
            self._closed = True
            left = [connection for idle in self._idle.values() for _, connection in idle]
            self._idle.clear()
        for connection in left:
            connection.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def give_back(self, url: httpx2.URL, connection: http.client.HTTPConnection) -> None:
        """For the next request to the same place; those that nobody asked for again are closed."""
        now_s = time.monotonic()
        with self._lock:
            old = [one for idle in self._idle.values() for one in idle if now_s - one[0] >= _IDLE_S]
            kept = {
                place: [one for one in idle if now_s - one[0] < _IDLE_S] for place, idle in self._idle.items()
            }
            self._idle = {place: idle for place, idle in kept.items() if idle}
            if self._closed:
                old.append((now_s, connection))
            else:
                self._idle.setdefault(_place(url), []).append((now_s, connection))
        for _, left in old:
            left.close()

    def _take(self, url: httpx2.URL, *, fresh: bool) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it has been used before. Blocks."""
        while not fresh:
            with self._lock:
                idle = self._idle.get(_place(url))
                if not idle:
                    break
                since_s, connection = idle.pop()
            if time.monotonic() - since_s < _IDLE_S and _is_quiet(connection):
                return connection, True
            connection.close()
        return self._connect(url), False

    def _connect(self, url: httpx2.URL) -> http.client.HTTPConnection:
        scheme, host, port = _place(url)
        proxy = _proxy_of(scheme, host, port)
        at_host, at_port = (proxy.hostname or "", proxy.port or 80) if proxy is not None else (host, port)
        connection: http.client.HTTPConnection
        if scheme == "https":
            connection = http.client.HTTPSConnection(
                at_host, at_port, timeout=self._connect_s, context=self._context()
            )
            if proxy is not None:
                connection.set_tunnel(host, port, headers=_proxy_headers(proxy.username, proxy.password))
        else:
            connection = http.client.HTTPConnection(at_host, at_port, timeout=self._connect_s)
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        assert connection.sock is not None
        connection.sock.settimeout(self._silence_s)
        return connection

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._trust is None:  # 20 ms, and not needed where everything is plain
                self._trust = httpx2.create_ssl_context()
            return self._trust


class Exchange:
    """One request and its answer. Cancelling a call ends its thread by closing the connection."""

    def __init__(self, pool: Connections, threads: Executor, url: httpx2.URL, what: str) -> None:
        self._pool = pool
        self._threads = threads
        self._url = url
        self._what = what
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None  # the connection forgets it when the answer is the last
        self._body: http.client.HTTPResponse | None = None
        self._left: int | None = 0  # bytes of the body still to come; None when nobody said
        self._ended = False
        self._failure: Exception | None = None
        self._abandoned = False
        self.answer = httpx2.Response(0)

    async def run(self, call: Callable[[], T]) -> T:
        """Run a blocking part of this exchange in a thread."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # The thread has only this connection and memory of its own: nobody waits for it.
            self._abandoned = True
            self._cut()
            future.add_done_callback(self._let_go)
            raise
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            raise _translate(error, self._url, self._what, connected=self._connection is not None) from error

    async def block(self, most_bytes: int) -> memoryview:
        """Bytes of the body: that many, or what came before its end or a failure; empty at its end."""
        return await self.run(lambda: self._read(most_bytes))

    async def close(self) -> None:
        """Keep the connection if the body was read to its end, else end it. Never blocks for long."""
        if self._abandoned or self._connection is None:
            return  # a thread may still be using it
        connection, self._connection = self._connection, None
        if self._body is not None:
            self._body.close()
        at_end = self._ended or self._left == 0
        if at_end and self._body is not None and not self._body.will_close:
            self._pool.give_back(self._url, connection)
        else:
            connection.close()

    def begin(
        self,
        method: str,
        headers: Mapping[str, str],
        take: Callable[..., tuple[http.client.HTTPConnection, bool]],
    ) -> None:
        connection, used = take(self._url, fresh=False)
        try:
            self._ask(connection, method, headers)
        except (http.client.RemoteDisconnected, ConnectionError):
            # Closed by the other side while it was idle: that is no failure of this request.
            if not used or self._abandoned:
                raise
            self._connection = self._socket = None
            connection, _ = take(self._url, fresh=True)
            self._ask(connection, method, headers)

    def _ask(self, connection: http.client.HTTPConnection, method: str, headers: Mapping[str, str]) -> None:
        self._connection, self._socket = connection, connection.sock
        if self._abandoned:
            connection.close()
            raise ConnectionAbortedError("nobody waits for the answer any more")
        try:
            connection.request(method, *_target(self._url, dict(headers)))
            self._body = body = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        if method == "HEAD" or body.status in _NO_BODY:
            self._left = 0
        else:
            self._left = None if body.chunked else body.length
        self.answer = httpx2.Response(
            body.status, headers=body.getheaders(), request=httpx2.Request(method, self._url)
        )

    def _read(self, most_bytes: int) -> memoryview:
        if self._failure is not None:
            raise self._failure
        want = most_bytes if self._left is None else min(most_bytes, self._left)
        buffer = memoryview(bytearray(want))
        got = 0
        try:
            while got < want and (count := self._read_into(buffer[got:])):
                got += count
        except (OSError, http.client.HTTPException) as error:
            if not got:
                raise
            self._failure = error  # told with the next call: these bytes came
        if got < want and self._failure is None:
            if self._left is None:
                self._ended = True
            else:
                self._failure = ConnectionError(f"it ended {self._left - got} bytes early")
                if not got:
                    raise self._failure
        if self._left is not None:
            self._left -= got
        return buffer[:got]

    def _read_into(self, buffer: memoryview) -> int:
        body = self._body
        assert body is not None
        if self._left is None:
            data = body.read1(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        # Not HTTPResponse.readinto: when a connection breaks, it forgets what came just before.
        return body.fp.readinto1(buffer)

    def _let_go(self, done: asyncio.Future[T]) -> None:
        if not done.cancelled():
            done.exception()  # looked at, so that asyncio does not complain that nobody did
        if self._connection is not None:
            self._connection.close()

    def _cut(self) -> None:
        """Wake the thread that reads."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def _place(url: httpx2.URL) -> Origin:
    return url.scheme, url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)


def _is_quiet(connection: http.client.HTTPConnection) -> bool:
    """Whether an idle connection still stands: bytes or an end on it would mean that it doesn't."""
    if connection.sock is None:
        return False
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _target(url: httpx2.URL, headers: dict[str, str]) -> tuple[str, None, dict[str, str]]:
    """The request line's part, no body, and the headers: a plain proxy wants the whole address."""
    path = url.raw_path.decode("ascii")
    proxy = _proxy_of(*_place(url)) if url.scheme == "http" else None
    if proxy is None:
        return path, None, headers
    return (
        f"http://{url.netloc.decode('ascii')}{path}",
        None,
        {**headers, **_proxy_headers(proxy.username, proxy.password), "Host": url.netloc.decode("ascii")},
    )


class _Proxy:
    """HTTP_PROXY, HTTPS_PROXY or ALL_PROXY of the environment."""

    def __init__(self, text: str) -> None:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        self.hostname, self.port = parts.hostname, parts.port
        self.username, self.password = parts.username, parts.password
        if parts.scheme != "http":
            raise UnavailableError(
                f"the proxy {host_of(text)} is of the kind {parts.scheme}, which is not known here",
                remedy="set HTTPS_PROXY to an http:// proxy, or NO_PROXY to the host that needs none",
            )


def _proxy_of(scheme: str, host: str, port: int) -> _Proxy | None:
    proxies = urllib.request.getproxies()
    text = proxies.get(scheme) or proxies.get("all")
    if not text or urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    return _Proxy(text)


def _proxy_headers(username: str | None, password: str | None) -> dict[str, str]:
    if username is None:
        return {}
    pair = f"{unquote(username)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _translate(error: Exception, url: httpx2.URL, what: str, *, connected: bool) -> MxError | TransientError:
    host = host_of(str(url))
    if isinstance(error, ssl.SSLCertVerificationError):
        return UnavailableError(
            f"{what}: the certificate of {host} is not trusted: {error.verify_message}",
            remedy="SSL_CERT_FILE names a file with further authorities",
        )
    reason = redact_text(str(error)).strip() or type(error).__name__
    if not connected:
        text = f"{what}: {host} can't be reached: {reason}"
    elif isinstance(error, TimeoutError):
        text = f"{what}: {host} stopped sending"
    elif isinstance(error, http.client.HTTPException) and not isinstance(
        error, http.client.IncompleteRead | http.client.RemoteDisconnected
    ):
        text = f"{what}: {host} answered wrongly: {reason}"
    else:
        text = f"{what}: the connection to {host} broke: {reason}"
    return TransientError(
        UnavailableError(text, remedy="check the network and the endpoint, or try again later")
    )
