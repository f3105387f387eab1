"""What the tests with vLLM share: an mx server process, waiting, scripts in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# One replica is ready after 35 to 80 s on two cores.
READY_S = 240.0


class Server:
    """``mx server start`` on a free port, its cache below ``folder``."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str] | None = None) -> None:
        from mx.engines.vllm.replica import free_port

        self.address = f"127.0.0.1:{free_port()}"
        self.cache = folder / "server-cache"
        self.log = folder / "server.log"
        self._metrics_port = free_port()
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        port = self.address.rpartition(":")[2]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    _mx(),
                    "server",
                    "start",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    port,
                    "--metrics-port",
                    str(self._metrics_port),
                    "--metadata-backend",
                    "memory",
                    "--cache-directory",
                    str(self.cache),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        deadline = time.monotonic() + 30
        while self.query("health", check=False) is None:
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def query(self, *command: str, check: bool = True) -> Any:
        done = subprocess.run(
            [_mx(), "--endpoint", self.address, "--format", "json", *command],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode:
            assert not check, done.stderr
            return None
        return json.loads(done.stdout)

    def ready_workers(self) -> set[str]:
        return {
            row["worker_id"] for row in self.query("source", "list")["sources"] if row["status"] == "ready"
        }

    def transfers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.query("transfer", "list")["transfers"]
        return found


def _mx() -> str:
    return str(Path(sys.executable).with_name("mx"))


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> float:
    """Seconds until ``condition`` holds."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, f"{what}: not within {timeout_s} s"
        time.sleep(0.05)
    return time.monotonic() - started


def once_command(model: Path, extra: str = "{}", *flags: str) -> list[str]:
    """``vllm_once.py`` for this model."""
    return [sys.executable, str(Path(__file__).with_name("vllm_once.py")), str(model), extra, *flags]


def once_environment(environment: dict[str, str]) -> dict[str, str]:
    """Ours without any setting of mx, vLLM in one process, and ``environment``."""
    from mx.engines.vllm.replica import QUIET_ENVIRONMENT

    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MX_", "MODEL_EXPRESS_"))}
    return {**clean, **QUIET_ENVIRONMENT, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", **environment}


def once(
    model: Path, extra: str = "{}", *flags: str, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Load ``model`` in a process of its own and let it answer."""
    return subprocess.run(
        once_command(model, extra, *flags),
        capture_output=True,
        text=True,
        timeout=READY_S,
        check=False,
        env=once_environment(environment),
    )
