"""A ``vllm serve`` process under our control: started, waited for, asked, ended. For demos and tests."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mx.errors import DeadlineError, InternalError, UnavailableError

# vLLM without network, telemetry and a KV cache of half the machine.
QUIET_ENVIRONMENT: Mapping[str, str] = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_PLUGINS": "modelexpress",
}
SMALL_ENGINE = ("--enforce-eager", "--max-model-len", "256")
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A loopback port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Replica:
    """One server. A context manager: leaving it kills the process and all its children."""

    def __init__(
        self,
        name: str,
        model: Path,
        *,
        log: Path,
        environment: Mapping[str, str],
        arguments: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.model = model
        self.log = log
        self.port = free_port()
        self._environment = {**os.environ, **QUIET_ENVIRONMENT, **environment}
        command = (str(Path(sys.executable).with_name("vllm")), "serve", str(model), "--load-format", "mx")
        self._command = (*command, "--port", str(self.port), *SMALL_ENGINE, *arguments)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the process in a group of its own; it dies with ours."""
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def wait_ready(self, *, timeout_s: float) -> float:
        """Seconds until it answers.

        Raises UnavailableError when the process ended, DeadlineError when it took longer.
        """
        assert self._process is not None
        started = time.monotonic()
        while time.monotonic() - started < timeout_s:
            if self._process.poll() is not None:
                raise UnavailableError(
                    f"{self.name} ended with code {self._process.returncode}:\n{self.tail()}"
                )
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2):
                    return time.monotonic() - started
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise DeadlineError(f"{self.name} was not ready after {timeout_s:.0f} s:\n{self.tail()}")

    def complete(self, prompt: str, *, tokens: int = 12) -> tuple[str, tuple[int, ...]]:
        """Greedy continuation: its text and token ids."""
        body = {
            "model": str(self.model),
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "return_token_ids": True,
            "ignore_eos": True,
        }
        request = urllib.request.Request(  # our own loopback address
            f"http://127.0.0.1:{self.port}/v1/completions",
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310
                choice: dict[str, Any] = json.load(reply)["choices"][0]
        except urllib.error.HTTPError as error:
            raise InternalError(f"{self.name} answered {error.code}: {error.read()[:200]!r}") from error
        return choice["text"], tuple(choice["token_ids"] or ())

    def lines(self, part: str) -> list[str]:
        """Lines of the log that hold ``part``."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if part in line]

    def loaded(self) -> list[str]:
        """What the loader said about where the weights came from, one sentence per rank."""
        return [line[line.index("weights of ") :] for line in self.lines("] weights of ")]

    def tail(self, count: int = 25) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def terminate(self, *, timeout_s: float = 30.0) -> int:
        """SIGTERM to the server, as an orchestrator does; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL to the whole group, workers included."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
