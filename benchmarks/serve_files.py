"""How fast a cached model reaches a machine without shared storage, beside raw TCP into files.

    python benchmarks/serve_files.py [--size 2GiB] [--repeats 7] [--directory DIR ...] [--format table|json]

A server and a client process on loopback; the model is one of several files, warm in the server's page
cache. In turn, `repeats` times, each into files that are not there yet:

    raw tcp            sendfile → recv_into → write on one connection; nothing is checked
    raw tcp, several   the same on as many connections as mx uses, each with files of its own
    grpc 32KiB …       StreamModelFiles in one stream, chunks of that size, written to files, unchecked
    mx                 receive(): asked, elected, received, every byte digested, installed, synced
    mx over grpc       the same where HTTP is not to be had

Ratios are taken within a repeat, their median is shown. `cpu` is processor time of both processes: on
loopback they share the cores, so what is spent there bounds the rate. `sync` is the time of fsync
alone for that much data in that directory, which raw TCP does not spend.

Last, 16 clients read at once for ten seconds and keep nothing: the server's peak memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import grpc

from mx.client.connection import CHANNEL_OPTIONS
from mx.client.receive import ReceiveRules, receive_blocking
from mx.client.receive.http import Door, HttpReader
from mx.client.sync import SyncClient
from mx.core.cached import CachedEntry
from mx.core.model import EntryKey, ListedFile, Listing, ModelRef, ProviderName
from mx.core.units import format_size, parse_size
from mx.errors import MxError
from mx.providers.cache import open_cache
from mx.wire.v1 import model

NAME, COMMIT = "benchmark/model", "b" * 40
KEY = EntryKey(ProviderName.HUGGING_FACE, NAME, COMMIT)
REF = ModelRef(ProviderName.HUGGING_FACE, NAME, COMMIT)
CLIENTS = 16
MIB = 1 << 20
BUFFER = MIB
MEMORY_S = 10.0
CHUNKS = {"32KiB": 32 << 10, "1MiB": MIB, "4MiB": 4 * MIB}


@dataclass(frozen=True)
class Site:
    """Where everything is: the server's model, its ports, and where a client writes."""

    endpoint: str
    server_pid: int
    raw_port: int
    raw_pid: int
    files: tuple[tuple[str, int], ...]  # path and size
    target: Path
    connections: int

    @property
    def total(self) -> int:
        return sum(size for _, size in self.files)


# ---- the server's side ------------------------------------------------------------------------


def fill_cache(root: Path, total: int) -> CachedEntry:
    """A model as checkpoints are: four large files of unequal size and some small ones."""
    shares = {"model-00001": 0.3, "model-00002": 0.3, "model-00003": 0.28}
    sizes = {f"{name}.safetensors": int(total * share) for name, share in shares.items()}
    sizes |= {"config.json": 900, "tokenizer.json": total // 1024, "nested/generation.json": 200}
    sizes["model-00004.safetensors"] = total - sum(sizes.values())
    listing = Listing(KEY, tuple(ListedFile(path, size) for path, size in sorted(sizes.items())))
    block = memoryview(random.Random(1).randbytes(8 * MIB))
    staging = open_cache(root).begin(listing)
    for missing in staging.missing:
        part = staging.open_part(missing.file)
        while part.missing_bytes:
            part.append(block[: min(len(block), part.missing_bytes)])
        part.close()
        staging.accept(missing.file)
    return staging.publish(revision=None, fence=lambda: True)


def serve_raw(paths: list[str], pipe: Connection) -> None:
    """One byte asks for one file; the kernel sends it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    pipe.send(listener.getsockname()[1])

    def answer(connection: socket.socket) -> None:
        with connection:
            while asked := connection.recv(1):
                with open(paths[asked[0]], "rb") as file:
                    size, at = os.fstat(file.fileno()).st_size, 0
                    while at < size:
                        at += os.sendfile(connection.fileno(), file.fileno(), at, size - at)

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


@contextmanager
def mx_server(root: Path, work: Path) -> Iterator[tuple[str, int]]:
    port, http_port = free_port(), free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "mx", "server", "start", "--host", "127.0.0.1", "--port", str(port),
         "-d", str(work / "models.db"), "--cache-directory", str(root), "--metrics-port", str(http_port),
         "--cache-eviction-enabled", "false", "--log-level", "error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with SyncClient(f"127.0.0.1:{port}", timeout_s=2) as client:
            end = time.monotonic() + 60
            while True:
                try:
                    if client.status().ready:
                        break
                except MxError:
                    if time.monotonic() > end or process.poll() is not None:
                        raise
                time.sleep(0.05)
        yield f"127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- the ways to fetch ------------------------------------------------------------------------


def fetch_raw(site: Site, connections: int) -> None:
    order = sorted(range(len(site.files)), key=lambda index: site.files[index][1], reverse=True)
    lock = threading.Lock()

    def take() -> int | None:
        with lock:
            return order.pop(0) if order else None

    def read() -> None:
        view = memoryview(bytearray(BUFFER))
        with socket.create_connection(("127.0.0.1", site.raw_port)) as connection:
            while (index := take()) is not None:
                path, left = site.files[index]
                into = site.target / path
                into.parent.mkdir(parents=True, exist_ok=True)
                connection.sendall(bytes([index]))
                with open(into, "wb", buffering=0) as file:
                    while left:
                        # A full buffer at a time: fewer, larger writes are the faster way.
                        count = connection.recv_into(view[: min(left, BUFFER)], 0, socket.MSG_WAITALL)
                        file.write(view[:count])
                        left -= count

    in_threads([read] * connections)


def fetch_stream(site: Site, chunk_bytes: int) -> None:
    with grpc.insecure_channel(site.endpoint, options=CHANNEL_OPTIONS) as channel:
        request = model.ModelFilesRequest(model_name=NAME, revision=COMMIT, chunk_size=chunk_bytes)
        into = None
        for chunk in model.ModelServiceStub(channel).StreamModelFiles(request):
            if into is None:
                path = site.target / chunk.relative_path
                path.parent.mkdir(parents=True, exist_ok=True)
                into = open(path, "wb", buffering=0)  # noqa: SIM115  # closed with its last chunk
            into.write(chunk.data)
            if chunk.is_last_chunk:
                into.close()
                into = None


def fetch_mx(site: Site, *, http: bool) -> None:
    with SyncClient(site.endpoint) as client:
        entry = receive_blocking(
            client,
            REF,
            cache=open_cache(site.target),
            rules=ReceiveRules(http=http, connections=site.connections),
        )
    if entry.total_bytes != site.total:
        raise SystemExit(f"received {entry.total_bytes} bytes of {site.total}")


def cases_of(site: Site) -> dict[str, Callable[[], None]]:
    cases: dict[str, Callable[[], None]] = {
        "raw tcp": lambda: fetch_raw(site, 1),
        "raw tcp, several": lambda: fetch_raw(site, site.connections),
    }
    for name, size in CHUNKS.items():
        cases[f"grpc {name}"] = lambda size=size: fetch_stream(site, size)  # type: ignore[misc]
    cases["mx"] = lambda: fetch_mx(site, http=True)
    cases["mx over grpc"] = lambda: fetch_mx(site, http=False)
    return cases


def in_threads(works: list[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(work) for work in works]:
            done.result()


# ---- measuring --------------------------------------------------------------------------------


def client(site: Site, pipe: Connection) -> None:
    """The process of all clients: does one case each time it is told to, into an empty folder."""
    cases = cases_of(site)
    while (case := pipe.recv()) is not None:
        shutil.rmtree(site.target, ignore_errors=True)
        site.target.mkdir(parents=True)
        cpu = cpu_s(os.getpid())
        begin_s = time.perf_counter()
        cases[case]()
        seconds = time.perf_counter() - begin_s
        pipe.send((seconds, cpu_s(os.getpid()) - cpu, sync_s(site.target)))


def sync_s(target: Path) -> float:
    """How long the files take to reach the disk; next to nothing where that was done already."""
    begin_s = time.perf_counter()
    for path in target.rglob("*"):
        if path.is_file() and not path.is_symlink():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
    return time.perf_counter() - begin_s


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(site: Site, repeats: int, place: str) -> list[dict[str, object]]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=client, args=(site, there), daemon=True)
    process.start()
    names = list(cases_of(site))

    def run(case: str) -> dict[str, float]:
        server_pid = site.raw_pid if case.startswith("raw") else site.server_pid
        cpu = cpu_s(server_pid)
        here.send(case)
        seconds, client_cpu, sync = here.recv()
        return {
            "seconds": seconds, "client_cpu": client_cpu, "server_cpu": cpu_s(server_pid) - cpu, "sync": sync
        }  # fmt: skip

    for case in names:
        run(case)  # code, page cache
    rows: list[dict[str, dict[str, float]]] = []
    for index in range(repeats):
        order = names[index % len(names) :] + names[: index % len(names)]
        rows.append({case: run(case) for case in order})
    here.send(None)
    process.join(20)
    return [summarise(case, place, site, rows) for case in names]


def summarise(
    case: str, place: str, site: Site, rows: list[dict[str, dict[str, float]]]
) -> dict[str, object]:
    seconds = [row[case]["seconds"] for row in rows]

    def over(other: str, *, with_sync: bool = False) -> list[float]:
        return [
            (row[other]["seconds"] + (row[other]["sync"] if with_sync else 0)) / row[case]["seconds"]
            for row in rows
        ]

    def median(of: str) -> float:
        return statistics.median(row[case][of] for row in rows)

    ratios = over("raw tcp")
    return {
        "case": case,
        "place": place,
        "bytes": site.total,
        "files": len(site.files),
        "connections": site.connections,
        "n": len(rows),
        "seconds": statistics.median(seconds),
        "gb_s": site.total / statistics.median(seconds) / 1e9,
        "gb_s_spread": [site.total / max(seconds) / 1e9, site.total / min(seconds) / 1e9],
        "over_raw_tcp": statistics.median(ratios),
        "over_raw_tcp_spread": [min(ratios), max(ratios)],
        "over_raw_tcp_several": statistics.median(over("raw tcp, several")),
        "over_raw_tcp_and_sync": statistics.median(over("raw tcp", with_sync=True)),
        "client_cpu_s": median("client_cpu"),
        "server_cpu_s": median("server_cpu"),
        "sync_s": median("sync"),
    }


# ---- memory -----------------------------------------------------------------------------------


def memory(site: Site, clients: int) -> list[dict[str, object]]:
    """The server's memory while so many clients read for a while and keep nothing."""
    found: list[dict[str, object]] = []
    ways: dict[str, Callable[[float], int]] = {
        "http": lambda end_s: read_http(site, end_s),
        "grpc 32KiB": lambda end_s: read_grpc(site, end_s, CHUNKS["32KiB"]),
        "grpc 4MiB": lambda end_s: read_grpc(site, end_s, CHUNKS["4MiB"]),
    }
    for case, read in ways.items():
        Path(f"/proc/{site.server_pid}/clear_refs").write_text("5")  # the peak begins anew
        end_s = time.monotonic() + MEMORY_S
        with ThreadPoolExecutor(clients) as pool:
            came = sum(pool.map(read, [end_s] * clients))
        found.append(
            {
                "case": f"memory, {clients} clients over {case}",
                "clients": clients,
                "seconds": MEMORY_S,
                "server_peak_bytes": peak_bytes(site.server_pid),
                "gb_s": came / MEMORY_S / 1e9,
            }
        )
    return found


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def read_http(site: Site, end_s: float) -> int:
    view, came = memoryview(bytearray(BUFFER)), 0
    with SyncClient(site.endpoint) as client:
        opened = client.open_files(KEY, holder="benchmark")
        reader = HttpReader(Door("127.0.0.1", opened.port), opened.ticket, connect_s=30, silence_s=120)
        number, file = max(enumerate(opened.files), key=lambda one: one[1].size_bytes)
        while time.monotonic() < end_s:
            left = min(file.size_bytes, 64 * MIB)
            fill = reader.get(number, file, offset=0, length=left)
            while left:
                count = fill(view[: min(left, BUFFER)])
                left, came = left - count, came + count
            client.renew_files(opened.ticket)
        reader.close()
        client.close_files(opened.ticket)
    return came


def read_grpc(site: Site, end_s: float, chunk_bytes: int) -> int:
    came = 0
    with grpc.insecure_channel(site.endpoint, options=CHANNEL_OPTIONS) as channel:
        request = model.ModelFilesRequest(model_name=NAME, revision=COMMIT, chunk_size=chunk_bytes)
        while time.monotonic() < end_s:
            stream = model.ModelServiceStub(channel).StreamModelFiles(request)
            for chunk in stream:
                came += len(chunk.data)
                if time.monotonic() >= end_s:
                    break
            stream.cancel()
    return came


# ---- the whole --------------------------------------------------------------------------------


def run(directory: Path, arguments: argparse.Namespace) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory(prefix="mx-serve-files-", dir=directory) as name:
        work = Path(name)
        entry = fill_cache(work / "server", parse_size(arguments.size))
        files = tuple((file.path, file.size_bytes) for file in entry.files)
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        raw = context.Process(
            target=serve_raw, args=([str(entry.root / path) for path, _ in files], there), daemon=True
        )
        raw.start()
        try:
            with mx_server(work / "server", work) as (endpoint, pid):
                site = Site(
                    endpoint, pid, here.recv(), raw.pid or 0, files, work / "client", arguments.connections
                )
                cases = measure(site, arguments.repeats, file_system(directory))
                shutil.rmtree(site.target, ignore_errors=True)
                if arguments.clients:
                    cases += memory(site, arguments.clients)
        finally:
            raw.terminate()
            raw.join(10)
        return cases


def file_system(directory: Path) -> str:
    """The kind of the file system, from the longest mount point above."""
    real, best = str(directory.resolve()), ("", "")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best[0]):
            best = point, kind
    return best[1]


def machine() -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def show(cases: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="One model from the server's cache to another machine's")
    for column in (
        "case",
        "on",
        "n",
        "GB/s (min–max)",
        "over raw TCP (min–max)",
        "… several",
        "cpu s",
        "sync s",
    ):
        table.add_column(column)
    console = Console()
    for case in cases:
        if "server_peak_bytes" in case:
            continue
        low, high = case["gb_s_spread"]  # type: ignore[misc]
        least, most = case["over_raw_tcp_spread"]  # type: ignore[misc]
        table.add_row(
            str(case["case"]), str(case["place"]), str(case["n"]),
            f"{case['gb_s']:.2f} ({low:.2f}–{high:.2f})",
            f"{case['over_raw_tcp']:.2f} ({least:.2f}–{most:.2f})",
            f"{case['over_raw_tcp_several']:.2f}",
            f"{case['client_cpu_s']:.1f} + {case['server_cpu_s']:.1f}",
            f"{case['sync_s']:.1f}",
        )  # fmt: skip
    console.print(table)
    for case in cases:
        if "server_peak_bytes" in case:
            peak = format_size(int(str(case["server_peak_bytes"])))
            console.print(f"{case['case']}: server at {peak} at most, {case['gb_s']:.2f} GB/s together")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="2GiB")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--connections", type=int, default=ReceiveRules().connections)
    parser.add_argument("--clients", type=int, default=CLIENTS, help="at once, for memory; 0 leaves it out")
    parser.add_argument(
        "--directory", type=Path, action="append", help="where server and client keep their files"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    directories = arguments.directory or [Path("/dev/shm"), Path(tempfile.gettempdir())]
    cases: list[dict[str, object]] = []
    for directory in directories:
        cases += run(directory, arguments)
    if arguments.format == "json":
        print(json.dumps({"machine": machine(), "cases": cases}, indent=2))
    else:
        show(cases)


if __name__ == "__main__":
    main()
