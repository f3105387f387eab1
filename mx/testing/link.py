"""A TCP link to a server that can be slow, hang, break, or be gone.

    with Link("127.0.0.1", 8001, bytes_per_s=2_000_000) as link:
        ... connect to link.host:link.port ...
        link.cut()

Threads of its own, so blocking clients and other processes can use it.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

_PIECE_BYTES = 1 << 14


class Link:
    """See the head of this module. ``bytes_per_s`` 0 is as fast as it goes; ``passed`` counts what the
    server sent through it. While ``refusing``, new connections end at once."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        listen: str = "127.0.0.1",
        listen_port: int = 0,
        bytes_per_s: float = 0.0,
    ) -> None:
        self.target = (host, port)
        self.bytes_per_s = bytes_per_s
        self.refusing = False
        self.passed = 0
        self.flowing = threading.Event()  # cleared: nothing goes on, nothing breaks
        self.flowing.set()
        self._lock = threading.Lock()
        self._free_at_s = 0.0
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server((listen, listen_port), backlog=64)
        self.host, self.port = self._listener.getsockname()[:2]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="link", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self.flowing.set()

    def cut(self) -> None:
        """Break every connection there is."""
        with self._lock:
            broken, self._sockets = self._sockets, set()
        for one in broken:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(near,), name="link", daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        try:
            if self.refusing:
                raise ConnectionRefusedError
            far = socket.create_connection(self.target, timeout=5)
            far.settimeout(None)
        except OSError:
            near.close()
            return
        with self._lock:
            self._sockets |= {near, far}
        threading.Thread(target=self._carry, args=(near, far, False), name="link", daemon=True).start()
        self._carry(far, near, True)

    def _carry(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE_BYTES):
                self.flowing.wait()
                if counted:
                    self._pace(len(data))
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _pace(self, count: int) -> None:
        """All connections share the rate."""
        with self._lock:
            self.passed += count
            if not self.bytes_per_s:
                return
            begin_s = max(self._free_at_s, time.monotonic())
            self._free_at_s = begin_s + count / self.bytes_per_s
        time.sleep(max(0.0, begin_s - time.monotonic()))
