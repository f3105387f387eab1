"""A published worker as a process, an mx server as a process, tensors in this one."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from mx.client.sync import SyncClient
from mx.config import load_settings
from mx.core.source import BackendFramework, SourceFilter, SourceIdentity, SourceStatus, SourceSummary
from mx.core.tensors import TensorDescriptor
from mx.transfer.engine import TransferEngine
from mx.transfer.outcome import LocalTensors

WORKER = Path(__file__).with_name("published_worker.py")
MODEL = "interop/model"
IDENTITY = SourceIdentity(
    model_name=MODEL,
    mx_version="0.7.0",
    backend_framework=BackendFramework.VLLM,
    tensor_parallel_size=1,
    pipeline_parallel_size=1,
    expert_parallel_size=1,
    dtype="bfloat16",
)
# Importing torch takes seconds on a busy machine.
ANSWER_S = 60.0
Rows = Sequence[tuple[str, str, int]]  # name, dtype, bytes

SERVER = """
import asyncio, sys
from pathlib import Path
from mx.config import load_settings
from mx.server.app import serve

flags = {"database.path": sys.argv[1], "server.host": "127.0.0.1"}
settings = load_settings(flags=flags, environ={}, cwd=Path(sys.argv[1]).parent)
port = int(sys.argv[2])
sys.exit(asyncio.run(serve(settings, port=port, on_ready=lambda server: print(server.listen, flush=True))))
"""

# What mx finds where the server is not its own: the published service and nothing else.
PUBLISHED_SERVER = """
import asyncio
import grpc.aio
from mx.server.sources import P2pService
from mx.services.sources import SourcesService
from mx.store.memory import MemorySourceStore
from mx.wire.v1 import p2p
from mx.wiring import SystemClock

async def main():
    sources = SourcesService(MemorySourceStore(), SystemClock(), heartbeat_timeout_s=90, gc_timeout_s=3600)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([p2p.P2pService_handler(P2pService(sources))])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()

asyncio.run(main())
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], *, what: str, within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)


@contextmanager
def mx_server(folder: Path, *, port: int = 0, program: str = SERVER) -> Iterator[str]:
    """A server of mx with its database in ``folder``; its address. It is killed at the end."""
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(folder / "models.db"), str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        readable, _, _ = select.select([child.stdout], [], [], 30)
        assert readable, "the server did not start"
        yield child.stdout.readline().strip()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


class PublishedWorker:
    """``published_worker.py`` in the environment of the published package."""

    def __init__(
        self,
        python: str,
        server: str,
        *,
        worker_id: str,
        tensors: Rows,
        log: Path,
        seed: int = 0,
        p2p_metadata: bool = True,
        model: str = MODEL,
        **environment: str,
    ) -> None:
        self.worker_id = worker_id
        self.log = log
        task = {"model": model, "worker_id": worker_id, "tensors": list(tensors), "seed": seed}
        inherited = {
            name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ
        }
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [python, str(WORKER), json.dumps(task)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=inherited
                | {
                    "MX_SERVER_ADDRESS": server,
                    "MX_P2P_METADATA": str(int(p2p_metadata)),
                    "MX_METADATA_PORT": str(free_port()),
                    "MX_WORKER_GRPC_PORT": "0",
                    "MX_WORKER_HOST": "127.0.0.1",
                    "MX_HEARTBEAT_INTERVAL_SECS": "1",
                    "OMP_NUM_THREADS": "1",
                }
                | environment,
            )

    def ask(self, command: str, *, within_s: float = ANSWER_S) -> dict[str, Any]:
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(command + "\n")
        process.stdin.flush()
        readable, _, _ = select.select([process.stdout], [], [], within_s)
        assert readable, f"no answer to {command!r} within {within_s:g} s\n{self.log.read_text()}"
        line = process.stdout.readline()
        assert line, f"the published worker ended at {command!r}\n{self.log.read_text()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class StartWorker(Protocol):
    """What the fixture ``published`` gives."""

    def __call__(
        self, worker_id: str, tensors: Rows, *, seed: int = 0, p2p_metadata: bool = True
    ) -> PublishedWorker: ...


class Tensors:
    """Tensors of this process, with bytes drawn from ``seed`` or, without one, all zero."""

    def __init__(self, rows: Rows, *, seed: int = 0) -> None:
        self._buffers = [ctypes.create_string_buffer(max(size, 1)) for _, _, size in rows]
        self._sizes = [size for _, _, size in rows]
        draw = random.Random(seed)
        if seed:
            for buffer, size in zip(self._buffers, self._sizes, strict=True):
                ctypes.memmove(buffer, draw.randbytes(size), size)
        descriptors = tuple(
            TensorDescriptor(name, ctypes.addressof(buffer), size, 0, dtype)
            for (name, dtype, size), buffer in zip(rows, self._buffers, strict=True)
        )
        self.local = LocalTensors(descriptors, self._buffers)

    def digests(self) -> list[str]:
        return [
            hashlib.sha256(bytes(buffer)[:size]).hexdigest()
            for buffer, size in zip(self._buffers, self._sizes, strict=True)
        ]


def mx_engine(server: str, *, worker_id: str, **flags: object) -> TransferEngine:
    """An engine of mx in this process, over NIXL."""
    defaults: dict[str, object] = {
        "worker.server_address": server,
        "worker.host": "127.0.0.1",
        "worker.metadata_port": 0,
        "worker.grpc_port": 0,
        "worker.heartbeat_interval_s": 1,
        "transfer.segment_bytes": 1 << 20,
    }
    settings = load_settings(flags=defaults | flags, environ={}, scope="worker")
    return TransferEngine(
        settings, client=SyncClient(server), identity=IDENTITY, worker_rank=0, worker_id=worker_id
    )


def ready_rows(server: str) -> tuple[SourceSummary, ...]:
    with SyncClient(server) as client:
        return client.list_sources(SourceFilter(status=SourceStatus.READY), identity=IDENTITY)
