"""What the server's records cost: publish, heartbeat, list by identity, fetch, on SQLite.

    python benchmarks/control_plane.py                  both ways, 10,000 workers of 1,000 sources
    python benchmarks/control_plane.py --direct         without gRPC: services and store only
    python benchmarks/control_plane.py --format json    {"machine": {...}, "cases": [...]}

Through gRPC the server is a process of its own and the load comes from this one over loopback.
"One caller" is the latency a worker sees; "64 callers" is the rate the server reaches.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from mx.client.base import Client
from mx.client.embedded import EmbeddedClient
from mx.client.grpc import GrpcClient
from mx.config import Settings, load_settings
from mx.core.source import (
    BackendFramework,
    PeerRecord,
    SourceFilter,
    SourceIdentity,
    SourceStatus,
    TensorSource,
    WorkerKey,
    WorkerRecord,
    source_id,
)
from mx.core.tensors import TensorDescriptor
from mx.server.app import serve
from mx.wiring import open_services

T = TypeVar("T")
CpuMeter = Callable[[], float]  # seconds of CPU the serving process has used so far

CROWD = 64
WORKERS_PER_SOURCE = 10
HEARTBEAT_INTERVAL_S = 30
PEER = PeerRecord("10.1.2.3:6555", "g1", "host", "0" * 32)


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table. Latencies are of single calls, ``per_second`` of all callers together.

    ``cpu_ms`` is processor time per call of the process that holds the store; without gRPC that is
    also the caller's.
    """

    case: str
    transport: str
    workers: int
    callers: int
    calls: int
    seconds: float
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """Workers to publish, ten to a source: ranks 0 to 9 of one identity."""

    identities: tuple[SourceIdentity, ...]
    ids: tuple[str, ...]
    worker: WorkerRecord

    def key(self, number: int) -> WorkerKey:
        return WorkerKey(
            self.ids[number // WORKERS_PER_SOURCE], f"w{number:07x}", number % WORKERS_PER_SOURCE
        )


def fleet(workers: int, *, tensors: int) -> Fleet:
    identities = tuple(
        SourceIdentity(
            model_name=f"org/Model-{number}",
            mx_version="0.7.0",
            backend_framework=BackendFramework.VLLM,
            tensor_parallel_size=WORKERS_PER_SOURCE,
            dtype="bfloat16",
            revision=f"{number:040x}",
        )
        for number in range(-(-workers // WORKERS_PER_SOURCE))
    )
    descriptors = tuple(
        TensorDescriptor(
            f"model.layers.{number}.mlp.down_proj.weight", number << 20, 1 << 20, 0, "torch.bfloat16"
        )
        for number in range(tensors)
    )
    worker = WorkerRecord(
        worker_rank=0,
        payload=TensorSource(descriptors) if descriptors else None,
        metadata_endpoint="10.1.2.3:5555",
        agent_name="agent-10.1.2.3",
        worker_grpc_endpoint="10.1.2.3:6555",
        accelerator="cuda",
        topology={"node": "node-17", "rack": "rack-3"},
    )
    return Fleet(identities, tuple(map(source_id, identities)), worker)


async def measure(
    case: str, call: Callable[[T], Awaitable[object]], items: Sequence[T], *, run: Run, callers: int
) -> Case:
    """Call once per item by so many callers, and check that every answer says yes."""
    waiting = iter(items)
    latencies: list[float] = []

    async def caller() -> None:
        for item in waiting:
            begin = time.perf_counter()
            answer = await call(item)
            latencies.append(time.perf_counter() - begin)
            if not answer:
                raise RuntimeError(f"{case}: {item} was answered {answer!r}")

    cpu_before = run.cpu()
    begin = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(caller())
    seconds = time.perf_counter() - begin
    cpu_ms = (run.cpu() - cpu_before) * 1000 / len(latencies)
    latencies.sort()
    return Case(
        case=case,
        transport=run.transport,
        workers=run.published,
        callers=callers,
        calls=len(latencies),
        seconds=round(seconds, 4),
        per_second=round(len(latencies) / seconds, 1),
        p50_ms=round(latencies[len(latencies) // 2] * 1000, 3),
        p99_ms=round(latencies[int(len(latencies) * 0.99)] * 1000, 3),
        max_ms=round(latencies[-1] * 1000, 3),
        cpu_ms=round(cpu_ms, 3),
    )


class Run:
    """One transport from the empty store to the full one."""

    def __init__(self, client: Client, fleet: Fleet, *, transport: str, cpu: CpuMeter, samples: int) -> None:
        self._client = client
        self.cpu = cpu
        self._samples = samples
        self._fleet = fleet
        self.transport = transport
        self.published = 0

    async def cases(self, steps: Sequence[int]) -> AsyncIterator[Case]:
        for workers in steps:
            numbers = range(self.published, workers)
            self.published = workers
            published = await measure("publish", self._publish, numbers, run=self, callers=CROWD)
            announced = await measure("announce", self._announce, numbers, run=self, callers=CROWD)
            await self._make_ready(numbers)
            if workers == steps[-1]:
                yield published
                yield announced
            yield await measure("list by identity", self._list, self._sample(), run=self, callers=1)
        everybody = range(self.published)
        sample = self._sample()
        yield await measure("list by identity", self._list, self._sample(2), run=self, callers=CROWD)
        yield await measure("find peers", self._find_peers, sample, run=self, callers=1)
        yield await measure("fetch", self._get, sample, run=self, callers=1)
        yield await measure("fetch", self._get, self._sample(2), run=self, callers=CROWD)
        yield await measure("publish again", self._publish, sample, run=self, callers=1)
        await self._make_ready(sample)
        yield await measure("heartbeat", self._heartbeat, sample, run=self, callers=1)
        yield await measure("heartbeat", self._heartbeat, everybody, run=self, callers=CROWD)
        yield await self._list_during_heartbeats(sample)

    async def _list_during_heartbeats(self, sample: Sequence[int]) -> Case:
        """With the heartbeats that a fleet of this size sends, one per worker every 30 s."""
        pause_s = HEARTBEAT_INTERVAL_S / self.published

        async def beat() -> None:
            due = time.perf_counter()
            for number in itertools.cycle(range(self.published)):
                await self._heartbeat(number)
                due += pause_s
                await asyncio.sleep(due - time.perf_counter())

        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(beat())
            case = await measure("list during heartbeats", self._list, sample, run=self, callers=1)
            beating.cancel()
        return case

    def _sample(self, times: int = 1) -> Sequence[int]:
        """Workers spread over all sources, the same ones in every run."""
        return [number * 7919 % self.published for number in range(self._samples * times)]

    async def _make_ready(self, numbers: Sequence[int]) -> None:
        await measure("make ready", self._heartbeat, numbers, run=self, callers=CROWD)

    async def _publish(self, number: int) -> object:
        key = self._fleet.key(number)
        identity = self._fleet.identities[number // WORKERS_PER_SOURCE]
        worker = replace(self._fleet.worker, worker_rank=key.worker_rank)
        return await self._client.publish(identity, worker, worker_id=key.worker_id) == key.source_id

    async def _announce(self, number: int) -> object:
        return await self._client.announce(self._fleet.key(number), PEER)

    async def _heartbeat(self, number: int) -> object:
        return await self._client.update_status(self._fleet.key(number), SourceStatus.READY, source_load=0.5)

    async def _list(self, number: int) -> object:
        identity = self._fleet.identities[number // WORKERS_PER_SOURCE]
        rows = await self._client.list_sources(SourceFilter(status=SourceStatus.READY), identity=identity)
        return len(rows) == WORKERS_PER_SOURCE

    async def _find_peers(self, number: int) -> object:
        identity = self._fleet.identities[number // WORKERS_PER_SOURCE]
        rows = await self._client.find_peers(identity, worker_rank=number % WORKERS_PER_SOURCE)
        return len(rows) == 1 and rows[0].peer is not None

    async def _get(self, number: int) -> object:
        key = self._fleet.key(number)
        return await self._client.get_source(key.source_id, key.worker_id)


def settings_for(folder: Path) -> Settings:
    return load_settings(
        flags={
            "metadata.backend": "sqlite",
            "database.path": str(folder / "models.db"),
            "server.host": "127.0.0.1",
        },
        environ={},
        cwd=folder,
        scope="server",
    )


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads, in ticks of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def direct_client(folder: Path) -> AsyncIterator[tuple[Client, CpuMeter]]:
    async with open_services(settings_for(folder)) as services:
        yield EmbeddedClient(services), time.process_time


@asynccontextmanager
async def grpc_client(folder: Path) -> AsyncIterator[tuple[Client, CpuMeter]]:
    server = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve", str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    try:
        client = GrpcClient((await server.stdout.readline()).decode().strip())
        try:
            yield client, lambda: cpu_seconds(server.pid)
        finally:
            await client.close()
    finally:
        server.terminate()
        await server.wait()


async def run_all(options: argparse.Namespace, show: Callable[[str], None]) -> list[Case]:
    steps = [count for count in (100, 1_000) if count < options.workers] + [options.workers]
    ways = {"direct": direct_client} if options.direct else {"direct": direct_client, "grpc": grpc_client}
    cases: list[Case] = []
    for transport, opened in ways.items():
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            async with opened(Path(folder)) as (client, cpu):
                workers = fleet(options.workers, tensors=options.tensors)
                run = Run(client, workers, transport=transport, cpu=cpu, samples=options.samples)
                async for case in run.cases(steps):
                    show(f"{transport}: {case.case}, {case.workers} workers")
                    cases.append(case)
    return cases


def machine() -> dict[str, object]:
    cpu = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def growth(cases: Sequence[Case], transport: str) -> str:
    """How the median listing of one caller changes from the smallest to the largest fleet."""
    lists = [case for case in cases if case.case == "list by identity" and case.callers == 1]
    mine = [case for case in lists if case.transport == transport]
    first, last = mine[0], mine[-1]
    return (
        f"{transport}: list by identity at {last.workers:,} workers takes "
        f"{last.p50_ms / first.p50_ms:.2f} times as long as at {first.workers:,} (medians)"
    )


def print_table(cases: Sequence[Case]) -> None:
    about = machine()
    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table(title=f"Control plane on SQLite: {about['cpu']}, {about['cores']} cores")
    for heading in ("case", "through"):
        table.add_column(heading, no_wrap=True)
    for heading in ("workers", "callers", "calls/s", "p50 ms", "p99 ms", "max ms", "CPU ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for case in cases:
        table.add_row(
            case.case,
            case.transport,
            f"{case.workers:,}",
            str(case.callers),
            f"{case.per_second:,.0f}",
            f"{case.p50_ms:.2f}",
            f"{case.p99_ms:.2f}",
            f"{case.max_ms:.1f}",
            f"{case.cpu_ms:.2f}",
        )
    console.print(table)
    for transport in dict.fromkeys(case.transport for case in cases):
        console.print(growth(cases, transport))
    console.print("CPU: of the process that holds the store, per call; without gRPC with the caller's")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=10_000, help="size of the largest fleet")
    parser.add_argument("--samples", type=int, default=1_000, help="calls of a single caller per case")
    parser.add_argument("--tensors", type=int, default=0, help="descriptors in each record (central mode)")
    parser.add_argument("--direct", action="store_true", help="leave gRPC out")
    parser.add_argument("--folder", help="where the databases are made (default: the temporary folder)")
    parser.add_argument("--format", choices=("human", "json"), default="human")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.workers < WORKERS_PER_SOURCE or options.workers % WORKERS_PER_SOURCE:
        parser.error(f"--workers must be a multiple of {WORKERS_PER_SOURCE}")
    if options.samples < 1 or options.tensors < 0:
        parser.error("--samples must be at least 1, --tensors at least 0")
    return options


def main() -> int:
    options = parse()
    if options.serve is not None:
        return asyncio.run(
            serve(
                settings_for(options.serve), port=0, on_ready=lambda server: print(server.listen, flush=True)
            )
        )
    as_json = options.format == "json"
    cases = asyncio.run(
        run_all(options, lambda line: None if as_json else print(line, file=sys.stderr, flush=True))
    )
    if as_json:
        print(json.dumps({"machine": machine(), "cases": [asdict(case) for case in cases]}, indent=2))
    else:
        print_table(cases)
    return 0


if __name__ == "__main__":
    sys.exit(main())
