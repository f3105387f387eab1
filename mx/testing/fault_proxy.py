"""A server in front of a real one that passes everything on, and answers wrongly on demand.

    with FaultProxy(store.endpoint) as proxy:
        proxy.fail(Fault("GET:/bucket/model/weights", cut_after=1000))
        ... AWS_ENDPOINT_URL=proxy.endpoint ...

The Host header is passed on as it came, so signatures hold. ``bytes_per_s`` bounds each answer, as
stores bound each connection.
"""

from __future__ import annotations

import http.client
import re
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from mx.testing.faults import Asked, Fault, Faults

_PIECE_BYTES = 1 << 16
# What the real server said about its own body does not hold for a changed one.
_OF_THE_BODY = frozenset({"content-length", "transfer-encoding", "connection"})


class FaultProxy:
    """See the head of this module. ``where`` of a fault matches ``METHOD:path``, query included."""

    def __init__(self, target: str, *, bytes_per_s: float = 0.0) -> None:
        self.target = urlsplit(target)
        self.bytes_per_s = bytes_per_s
        self.faults = Faults()
        self._server = _Server(self)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(
            target=self._server.serve_forever, args=(0.01,), name="fault proxy", daemon=True
        ).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.faults.mend()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, fault: Fault) -> None:
        self.faults.add(fault)

    def mend(self) -> None:
        self.faults.mend()

    def asked(self, where: str) -> list[Asked]:
        """The requests so far whose ``METHOD:path`` matches."""
        return self.faults.asked(where)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Exchange)


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(
            self.command,
            self.command,
            self.path,
            headers.get("authorization", ""),
            headers.get("range", ""),
            headers,
        )
        sent = self.rfile.read(int(headers.get("content-length", "0")))
        fault = self.server.proxy.faults.take(asked) or Fault("")
        if fault.status and fault.body is None:
            fault_body: bytes | None = b"a fault"
        else:
            fault_body = fault.body
        if fault_body is not None:
            self._send(fault.status or 200, {}, fault_body, fault)
            return
        if fault.ignore_range:
            headers.pop("range", None)
        target = self.server.proxy.target
        upstream = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
        try:
            upstream.request(self.command, self.path, body=sent or None, headers=headers)
            answer = upstream.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _OF_THE_BODY}
            if self.command == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            self._send(answer.status, kept, answer.read(), fault)
        finally:
            upstream.close()

    do_HEAD = do_POST = do_GET  # noqa: N815  # the base class's names

    def _send(self, status: int, headers: dict[str, str], body: bytes, fault: Fault) -> None:
        kept = body[: len(body) - fault.shorten_by]
        if fault.shorten_by and (
            found := re.match(r"(bytes \d+-\d+/)(\d+)", headers.get("Content-Range", ""))
        ):
            headers["Content-Range"] = f"{found[1]}{int(found[2]) - fault.shorten_by}"
        if fault.corrupt and kept:
            kept = kept[:-1] + bytes([kept[-1] ^ 1])
        if fault.etag is not None:
            headers = {n: v for n, v in headers.items() if n.lower() not in ("etag", "x-goog-generation")}
            headers |= {"ETag": f'"{fault.etag}"', "x-goog-generation": fault.etag}
        self.send_response_only(status)
        headers = {"Content-Length": str(len(kept))} | headers | dict(fault.headers)
        headers.setdefault("Date", self.date_time_string())
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._write(kept, fault)

    def _write(self, body: bytes, fault: Fault) -> None:
        first = len(body) if fault.cut_after is None else fault.cut_after
        if fault.gate is not None and fault.cut_after is None:
            fault.gate.wait()
        self._pass_on(body[:first])
        if fault.cut_after is not None:
            if fault.gate is not None:
                fault.gate.wait()
                self._pass_on(body[first:])
            else:
                self.close_connection = True

    def _pass_on(self, body: bytes) -> None:
        begin_s, rate = time.monotonic(), self.server.proxy.bytes_per_s
        for at in range(0, len(body), _PIECE_BYTES):
            try:
                self.wfile.write(body[at : at + _PIECE_BYTES])
            except OSError:
                self.close_connection = True
                return
            if rate:
                time.sleep(max(0.0, begin_s + (at + _PIECE_BYTES) / rate - time.monotonic()))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Nothing on stderr."""

    def handle(self) -> None:
        with suppress(OSError):  # the client went away
            super().handle()
