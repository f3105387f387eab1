"""Runs the demo: starts the server and the replicas, follows them, ends them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from mx.client.sync import SyncClient
from mx.demo import checkpoint
from mx.demo.replica import Task
from mx.errors import InternalError, InvalidArgumentError, MxError, UnavailableError

SERVER_S = 30.0
# A replica that says nothing for so long is given up: even 100 GiB reports its progress.
SILENT_S = 120.0
STOP_S = 15.0


@dataclass(slots=True)
class Replica:
    """What is known of one replica while it runs. ``row`` is its line of the report.

    ``since_done`` bytes had moved at ``since_s``, the first news of bytes in this state: what was
    waited for before them, such as the transfer library, is no part of the rate.
    """

    name: str
    state: str = "waiting"
    done: int = 0
    total: int = 0
    since_s: float = 0.0
    since_done: int = 0
    heard_s: float = 0.0
    row: dict[str, object] = field(default_factory=dict)
    error: str = ""
    process: subprocess.Popen[str] | None = None
    stderr: IO[bytes] | None = None

    @property
    def bytes_s(self) -> float:
        passed = time.monotonic() - self.since_s
        return max(self.done - self.since_done, 0) / passed if passed > 0 else 0.0

    @property
    def over(self) -> bool:
        return bool(self.row or self.error)


@dataclass(frozen=True, slots=True)
class DemoReport:
    """``replicas`` are rows as the replicas sent them, the one from disk first."""

    verified: bool
    seconds: float
    replicas: tuple[dict[str, object], ...]

    def document(self) -> dict[str, object]:
        return {"verified": self.verified, "seconds": self.seconds, "replicas": list(self.replicas)}


class Demo:
    """One run. ``replicas`` can be read from another thread while ``run`` works."""

    def __init__(
        self,
        *,
        size_bytes: int,
        count: int,
        model: Path | None,
        server: str | None = None,
        hold: bool = False,
    ) -> None:
        """``server`` is one that runs; None: one of its own. ``hold``: the replicas serve until Ctrl-C.

        Raises InvalidArgumentError for fewer than two replicas.
        """
        if count < 2:
            raise InvalidArgumentError("the demo needs two replicas or more: one to load, one to pull")
        self.replicas = tuple(Replica(f"replica-{i + 1}") for i in range(count))
        self.step = "starting"
        self._size_bytes = size_bytes
        self._model = model
        self._server = server
        self._hold = hold
        self._changed = threading.Condition()

    def run(self) -> DemoReport:
        """The whole demo. Raises the MxError of what failed; nothing is left running."""
        started = time.monotonic()
        with contextlib.ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mx-demo-")))
            directory = self._checkpoint(work)
            server = self._server
            if server is None:
                self.step = "starting the server"
                server = stack.enter_context(_server(work))
            logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in self.replicas]
            stack.callback(self._stop)
            first, *others = self.replicas
            self.step = f"{first.name} loads from disk"
            self._start(first, server, directory, logs[0], from_disk=True)
            self._wait((first,))
            self.step = "the others pull from memory"
            for replica, log in zip(others, logs[1:], strict=True):
                self._start(replica, server, directory, log, from_disk=False)
            self._wait(tuple(others))
            if self._hold:
                with contextlib.suppress(KeyboardInterrupt):
                    self._serve()
            self.step = "done"
        rows = tuple(replica.row for replica in self.replicas)
        return DemoReport(all(bool(row["verified"]) for row in rows), time.monotonic() - started, rows)

    def _serve(self) -> None:
        """Until Ctrl-C, or until no replica is left; who looks on may kill one."""
        pids = ", ".join(f"{one.name} is process {one.process.pid}" for one in self.replicas if one.process)
        self.step = f"the replicas serve until Ctrl-C: {pids}"
        with self._changed:
            while any(one.process is not None and one.process.poll() is None for one in self.replicas):
                self._changed.wait(0.5)

    def _checkpoint(self, work: Path) -> Path:
        if self._model is not None:
            checkpoint.read_headers(self._model)
            return self._model.resolve()
        self.step = "writing a checkpoint"
        directory = work / "demo-llama"
        directory.mkdir()
        try:
            return checkpoint.make(directory, self._size_bytes)
        except OSError as error:
            raise UnavailableError(
                f"a checkpoint can't be written to {directory}: {error.strerror}",
                remedy="free some disk, set TMPDIR, or ask for a smaller --size",
            ) from error

    def _start(
        self, replica: Replica, server: str, directory: Path, stderr: IO[bytes], *, from_disk: bool
    ) -> None:
        task = Task(replica.name, server, str(directory), directory.name, from_disk)
        replica.stderr = stderr
        replica.state = "starting"
        replica.heard_s = replica.since_s = time.monotonic()
        # UCX warns about transports that a machine without InfiniBand lacks; nobody can act on it.
        environment = {"UCX_LOG_LEVEL": "error", "NIXL_LOG_LEVEL": "ERROR", **os.environ}
        replica.process = subprocess.Popen(
            [sys.executable, "-m", "mx.demo.replica", json.dumps(asdict(task))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            text=True,
        )
        threading.Thread(target=self._follow, args=(replica,), daemon=True).start()

    def _follow(self, replica: Replica) -> None:
        process = replica.process
        assert process is not None
        assert process.stdout is not None
        for line in process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a library printed something
            with self._changed:
                self._take(replica, event)
                self._changed.notify_all()
        code = process.wait()
        with self._changed:
            if replica.state == "serving":
                replica.state = "gone"
            if not replica.over:
                replica.error = f"{replica.name} ended with code {code}: {_tail(replica.stderr)}"
            self._changed.notify_all()

    @staticmethod
    def _take(replica: Replica, event: dict[str, object]) -> None:
        replica.heard_s = time.monotonic()
        match event:
            case {"event": "state", "state": str(state), "done": int(done), "total": int(total)}:
                if state != replica.state or not replica.done:
                    replica.since_s, replica.since_done = time.monotonic(), done
                replica.state, replica.done, replica.total = state, done, total
            case {"event": "loaded", **row}:
                replica.row = {str(key): value for key, value in row.items()}
                replica.state = "serving"
            case {"event": "failed", "message": str(message), "remedy": str(remedy)}:
                replica.error = f"{message} ({remedy})" if remedy else message
                replica.state = "failed"

    def _wait(self, replicas: tuple[Replica, ...]) -> None:
        with self._changed:
            while not all(replica.over for replica in replicas):
                self._changed.wait(0.2)
                for replica in replicas:
                    if replica.error:
                        raise InternalError(replica.error)
                    if not replica.over and time.monotonic() - replica.heard_s > SILENT_S:
                        raise InternalError(f"{replica.name} said nothing for {SILENT_S:g} s")
            for replica in replicas:
                if replica.error:
                    raise InternalError(replica.error)

    def _stop(self) -> None:
        """Close every stdin first, so that all withdraw at once."""
        running = [r.process for r in self.replicas if r.process is not None]
        for process in running:
            with contextlib.suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()
        for process in running:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _server(work: Path) -> Iterator[str]:
    """An mx server on its embedded default and a free port, until the body ends."""
    endpoint = f"127.0.0.1:{_free_port()}"
    host, _, port = endpoint.rpartition(":")
    command = [sys.executable, "-m", "mx", "server", "start", "--host", host, "--port", port]
    command += ["--database-path", str(work / "models.db"), "--metrics-port", "0"]
    command += ["--cache-directory", str(work / "cache"), "--log-level", "warn"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=work
        )
        try:
            _wait_ready(endpoint, process, lambda: _tail(log))
            yield endpoint
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(endpoint: str, process: subprocess.Popen[bytes], log: Callable[[], str]) -> None:
    end = time.monotonic() + SERVER_S
    with contextlib.closing(SyncClient(endpoint, timeout_s=2, max_retries=0)) as client:
        while True:
            if process.poll() is not None:
                raise UnavailableError(f"the server ended with code {process.returncode}: {log()}")
            try:
                if client.health().status == "ok":
                    return
            except MxError as error:
                if time.monotonic() > end:
                    raise UnavailableError(
                        f"the server did not start within {SERVER_S:g} s: {log()}"
                    ) from error
            time.sleep(0.05)


def _tail(stream: IO[bytes] | None) -> str:
    """What a process said last: its error, not the hint below it."""
    if stream is None:
        return ""
    stream.seek(max(stream.seek(0, os.SEEK_END) - 2000, 0))
    lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it said nothing"])[-1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
