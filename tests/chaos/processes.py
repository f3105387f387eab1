"""Real processes for fault tests: an mx server, workers, and addresses where nobody answers.

Every child dies with this process, and every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

from mx.client.sync import SyncClient
from mx.core.source import SourceFilter, SourceSummary
from mx.errors import MxError

DEADLINE_S = 60.0
WORKER = Path(__file__).with_name("worker.py")
# Runs mx so that it dies with the test, by a wall clock as wrong as the test wants it; as root, without
# the right to ignore permission bits.
MX = (
    "import ctypes, os, runpy, sys, time\n"
    "libc = ctypes.CDLL(None)\n"
    "libc.prctl(1, 9)\n"
    "skew_s, now, now_ns = int(os.environ.get('CHAOS_SKEW_S', 0)), time.time, time.time_ns\n"
    "time.time, time.time_ns = lambda: now() + skew_s, lambda: now_ns() + skew_s * 10**9\n"
    "sys.argv[0] = 'mx'\n"
    "runpy.run_module('mx', run_name='__main__')\n"
)
# Loaded here: between fork and exec a lock that another thread held is never released.
_LIBC = ctypes.CDLL(None)
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2

SETTINGS = """\
sources:
  heartbeat_timeout_s: {heartbeat_timeout_s}
  reaper_interval_s: {reaper_interval_s}
  gc_timeout_s: {gc_timeout_s}
  status_ttl_s: 7d
"""


def until(condition: Callable[[], object], what: str, *, within_s: float = DEADLINE_S) -> None:
    """Return once ``condition`` holds; a server that is away is not there yet."""
    end = time.monotonic() + within_s
    while True:
        with contextlib.suppress(MxError):
            if condition():
                return
        assert time.monotonic() < end, f"not within {within_s:g} s: {what}"
        threading.Event().wait(0.02)


def free_port() -> int:
    """A port outside the range of outgoing connections.

    Inside it a client that tries to reach a server that is down may connect to itself.
    """
    draw = random.SystemRandom()
    while True:
        port = draw.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without any setting of mx."""
    foreign = {k: v for k, v in os.environ.items() if not k.startswith(("MX_", "MODEL_EXPRESS_", "UCX_"))}
    quiet = {"UCX_LOG_LEVEL": "error", "NIXL_LOG_LEVEL": "ERROR", "PYTHONUNBUFFERED": "1"}
    return foreign | quiet | changes


class Server:
    """``mx server start`` on one port and one database, as often as a test starts it.

    ``env`` are variables of its process; ``skew_s`` is how far ahead its wall clock is.
    """

    def __init__(
        self,
        home: Path,
        *,
        heartbeat_timeout_s: int = 90,
        reaper_interval_s: int = 30,
        gc_timeout_s: int = 3600,
        skew_s: int = 0,
        env: Mapping[str, str] = {},
    ) -> None:
        self.home = home
        self.env = {"CHAOS_SKEW_S": str(skew_s), **env}
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.database = home / "models.db"
        self.log = home / "server.log"
        self._config = home / "model-express.yaml"
        self._config.write_text(
            SETTINGS.format(
                heartbeat_timeout_s=heartbeat_timeout_s,
                reaper_interval_s=reaper_interval_s,
                gc_timeout_s=gc_timeout_s,
            )
        )
        self.process: subprocess.Popen[str] | None = None
        self.client = SyncClient(self.address, timeout_s=10, max_retries=0)

    def launch(self, *args: str) -> subprocess.Popen[str]:
        """The process, started and not waited for."""

        def give_up() -> None:
            for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
                _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)

        command = [sys.executable, "-c", MX, "--config", str(self._config), "server", "start"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--metrics-port", "0"]
        if "--database-path" not in args:
            command += ["--database-path", str(self.database)]
        with self.log.open("a") as log:
            return subprocess.Popen(
                [*command, *args],
                cwd=self.home,
                env=environment(**self.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=give_up if os.geteuid() == 0 else None,
            )

    def start(self) -> Self:
        self.begin()
        return self.wait_ready()

    def begin(self) -> None:
        """In the main thread: a process that shall die with the test dies with the thread that made it."""
        self.process = self.launch()
        threading.Thread(target=self._drain, args=(self.process.stderr,), daemon=True).start()

    def wait_ready(self) -> Self:
        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            return self.client.health().status == "ok"

        until(ready, "the server answers")
        return self

    def _drain(self, stderr: IO[str]) -> None:
        with self.log.open("a") as log:
            for line in stderr:
                log.write(line)
                log.flush()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def sources(self, *, model: str | None = None, status: int | None = None) -> dict[str, SourceSummary]:
        """Rows by worker id, straight from the server."""
        found = self.client.list_sources(SourceFilter(model_name=model, status=status))
        return {row.worker_id: row for row in found}

    def close(self) -> None:
        self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(DEADLINE_S)


class Worker:
    """One worker process; see worker.py for what it says."""

    def __init__(self, name: str, home: Path, task: dict[str, Any], env: dict[str, str]) -> None:
        self.name = name
        self._log = home / f"{name}-{random.randrange(1 << 32):08x}.log"
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(WORKER), json.dumps({"name": name, **task})],
                env=environment(**env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # a library printed something
                self._events.put(json.loads(line))
        self._events.put({"event": "ended"})

    @property
    def log(self) -> str:
        return self._log.read_text()

    def tell(self, do: str, **options: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self.process.stdin.flush()

    def next_event(self, *, within_s: float = DEADLINE_S) -> dict[str, Any]:
        """The next line, whatever it is."""
        try:
            return self._events.get(timeout=within_s)
        except queue.Empty:
            raise AssertionError(f"{self.name} said nothing for {within_s:g} s\n{self.log}") from None

    def hear(self, event: str, *, within_s: float = DEADLINE_S) -> dict[str, Any]:
        """The next line, which must be this event."""
        heard = self.next_event(within_s=within_s)
        assert heard["event"] == event, f"{self.name}: {heard} instead of {event}\n{self.log}"
        return heard

    def ask(self, do: str, event: str, *, within_s: float = DEADLINE_S, **options: object) -> dict[str, Any]:
        self.tell(do, **options)
        return self.hear(event, within_s=within_s)

    def publish(self) -> Self:
        assert self.ask("publish", "published")["ready"]
        return self

    def pull(self, *, within_s: float = DEADLINE_S, **options: object) -> dict[str, Any]:
        return self.ask("pull", "outcome", within_s=within_s, **options)

    def wrong_words(self) -> int:
        return int(self.ask("content", "content")["wrong"])

    def untouched(self) -> bool:
        return bool(self.ask("content", "content")["untouched"])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def end(self) -> float:
        """Ask it to close and wait for a clean end; seconds that closing took."""
        seconds = float(self.ask("close", "closed")["seconds"])
        assert self.process.wait(DEADLINE_S) == 0, self.log
        return seconds

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()


class Site:
    """The server and the workers of one test; they end with it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.model = f"org/{home.name}"
        self._ends: list[Callable[[], None]] = []
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        assert self._server is not None, "this test started no server"
        return self._server

    def use(self, server: Server) -> None:
        """A server that others use too and that ends later."""
        self._server = server

    def serve(self, **options: int) -> Server:
        self._server = Server(self.home, **options)
        self._ends.append(self._server.close)
        return self._server.start()

    def worker(
        self,
        name: str,
        *,
        sizes: list[int],
        filled: bool = False,
        address: str = "",
        transports: str = "",
        **task: object,
    ) -> Worker:
        """A worker, started and not waited for. ``transports`` is UCX_TLS."""
        told = {
            "server": address or self.server.address,
            "model": self.model,
            "sizes": sizes,
            "filled": filled,
        }
        env = {"UCX_TLS": transports} if transports else {}
        worker = Worker(name, self.home, told | task, env)
        self._ends.append(worker.close)
        return worker

    def done_bytes(self, worker: Worker) -> int:
        """Bytes that the newest load of this worker has verified, as the server knows it."""
        reports = self.server.client.list_transfers()
        mine = (r for r in reports if (r.model_name, r.worker_id) == (self.model, worker.name))
        return next((report.bytes_done for report in mine), 0)

    def close(self) -> None:
        for end in reversed(self._ends):
            end()


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """An address where connections are accepted and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        host, port = listener.getsockname()
        yield f"{host}:{port}"


@contextlib.contextmanager
def far_away(address: str, *, delay_s: float) -> Iterator[str]:
    """An address that leads to ``address``, with every byte of an answer late by ``delay_s``."""
    host, _, port = address.rpartition(":")

    def answers(near: socket.socket, far: socket.socket) -> None:
        late: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def deliver() -> None:
            with contextlib.suppress(OSError):
                while True:
                    due, data = late.get()
                    threading.Event().wait(max(due - time.monotonic(), 0))
                    if not data:
                        near.shutdown(socket.SHUT_RDWR)
                        return
                    near.sendall(data)

        threading.Thread(target=deliver, daemon=True).start()
        data = b"-"
        while data:
            try:
                data = far.recv(1 << 16)
            except OSError:
                data = b""
            late.put((time.monotonic() + delay_s, data))

    def asks(near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(1 << 16):
                far.sendall(data)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((host, int(port)))
                for pump in (answers, asks):
                    threading.Thread(target=pump, args=(near, far), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        name, bound = listener.getsockname()
        yield f"{name}:{bound}"
        listener.shutdown(socket.SHUT_RDWR)
