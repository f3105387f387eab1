"""Sites on loopback that answer as a provider does, with faults on demand: what they have in common.

Threads of their own, so blocking clients and other processes can use them. ``requests`` and
``bytes_served`` say what a site was asked for.
"""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from mx.testing.faults import Asked, Fault, Faults


@dataclass(slots=True)
class Answer:
    """What there is to say without faults."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class FakeSite:
    """Several servers that make up one provider; ``answer`` is the provider's own part."""

    def __init__(self, hosts: Sequence[str], *, tls: ssl.SSLContext | None = None) -> None:
        self.bytes_served = 0
        self._faults = Faults()
        self._lock = threading.Lock()
        self._servers = {host: _Server(self, host, tls) for host in hosts}

    def __enter__(self) -> Self:
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, args=(0.01,), name="fake site", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.mend()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def port(self, host: str) -> int:
        return int(self._servers[host].server_port)

    @property
    def requests(self) -> list[Asked]:
        return self._faults.requests

    def fail(self, fault: Fault) -> None:
        self._faults.add(fault)

    def mend(self) -> None:
        self._faults.mend()

    def asked(self, where: str) -> list[Asked]:
        """The requests so far whose ``host:path`` matches."""
        return self._faults.asked(where)

    def take_fault(self, asked: Asked) -> Fault | None:
        return self._faults.take(asked)

    def count(self, sent: int) -> None:
        with self._lock:
            self.bytes_served += sent

    def answer(self, asked: Asked) -> Answer:
        raise NotImplementedError("a site answers")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, site: FakeSite, host: str, tls: ssl.SSLContext | None) -> None:
        self.site, self.host, self._tls = site, host, tls
        super().__init__(("127.0.0.1", 0), _Exchange)

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the exchange's own thread: a client that is slow with its handshake keeps nobody waiting.
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        with self._tls.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing on stderr: a client may refuse our certificate."""


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body waits 40 ms for the receipt of its headers
    server: _Server

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(
            self.server.host,
            self.command,
            self.path,
            headers.get("authorization", ""),
            headers.get("range", ""),
            headers,
        )
        fault = self.server.site.take_fault(asked) or Fault("")
        answer = self.server.site.answer(asked)
        if fault.status:
            answer = Answer(fault.status, b"a fault", {})
        if fault.body is not None:
            answer = Answer(fault.status or 200, fault.body, {})
        if fault.etag is not None:
            answer.headers |= {"ETag": f'"{fault.etag}"', "X-Linked-ETag": f'"{fault.etag}"'}
        answer.body = answer.body[: len(answer.body) - fault.shorten_by]
        if fault.corrupt and answer.body:
            answer.body = answer.body[:-1] + bytes([answer.body[-1] ^ 1])
        answer.headers |= fault.headers
        self._send(answer, fault)

    do_HEAD = do_GET  # noqa: N815  # the base class's name

    def _send(self, answer: Answer, fault: Fault) -> None:
        body = self._part(answer) if answer.status == 200 and not fault.ignore_range else answer.body
        self.send_response_only(answer.status)
        answer.headers.setdefault("Date", self.date_time_string())
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        first = len(body) if fault.cut_after is None else fault.cut_after
        if fault.gate is not None and fault.cut_after is None:
            fault.gate.wait()
        self._write(body[:first])
        if fault.cut_after is not None:
            if fault.gate is not None:
                fault.gate.wait()
                self._write(body[first:])
            else:
                self.close_connection = True

    def _part(self, answer: Answer) -> bytes:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found is None:
            return answer.body
        begin, end = int(found[1]), min(int(found[2] or len(answer.body)) + 1, len(answer.body))
        if begin >= len(answer.body):
            answer.status = 416
            answer.headers["Content-Range"] = f"bytes */{len(answer.body)}"
            return b""
        answer.status = 206
        answer.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(answer.body)}"
        return answer.body[begin:end]

    def _write(self, body: bytes) -> None:
        view = memoryview(body)
        for at in range(0, len(view), 1 << 16):
            try:
                self.wfile.write(view[at : at + (1 << 16)])
            except OSError:
                self.close_connection = True
                return
            self.server.site.count(len(view[at : at + (1 << 16)]))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Nothing on stderr."""

    def handle(self) -> None:
        with suppress(OSError):  # the client went away
            super().handle()
