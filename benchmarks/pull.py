"""How close a verified pull comes to one raw NIXL read of the same bytes, on this machine.

    python benchmarks/pull.py [--size 2GiB] [--repeats 7] [--format table|json]

Two processes: one holds the tensors, this one reads them. In turn, `repeats` times:

    raw          one NIXL READ, one descriptor a tensor, everything prepared, timed from post to done,
                 in NIXL's best configuration: progress thread with a pause, one region, warm
    raw joined   the same bytes as one descriptor, for scale (a copy that no set of tensors allows)
    pull         mx from discovery to the last verified segment: server, lease, manifest, connection,
                 registration, plan, reads, digests; only the creation of the agent is left out, since it
                 overlaps the model build
    no verify    the same pull with verification off: its read stage is mx's reading by itself, and the
                 difference of the two pulls is what verification costs

Memory is touched before in all of them, tensors lie 64 bytes apart as an allocator leaves them.
`first touch` is a pull into fresh pages. Ratios are taken within a repeat and the median is shown.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import multiprocessing
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from mx.client.sync import SyncClient
from mx.config import Settings, load_settings
from mx.core.source import BackendFramework, SourceIdentity
from mx.core.tensors import HOST_DEVICE, Extents, Region, TensorDescriptor
from mx.core.units import format_size, parse_size
from mx.errors import MxError
from mx.ports import ReadState
from mx.transfer.engine import TransferEngine
from mx.transfer.nixl import NixlBackend
from mx.transfer.outcome import Loaded, LocalTensors

GAP_BYTES = 64
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Memory:
    """One anonymous mapping with tensors in it."""

    mapping: mmap.mmap
    addr: int
    tensors: tuple[TensorDescriptor, ...]


def mixed_sizes(total: int, count: int = 400) -> list[int]:
    """Sizes as a transformer has them: a few large matrices, many of middle size, small norms."""
    draw = random.Random(7)
    weights = [draw.choice((0.002, 0.3, 1.0, 1.0, 4.0)) for _ in range(count)]
    return scaled(weights, total)


def small_sizes(total: int, count: int = 20_000) -> list[int]:
    return scaled([1.0] * count, total)


def scaled(weights: list[float], total: int) -> list[int]:
    unit = total / sum(weights)
    return [max(256, int(weight * unit) // 64 * 64) for weight in weights]


def allocate(sizes: list[int], *, touch: bool = True) -> Memory:
    length = sum(sizes) + GAP_BYTES * len(sizes)
    mapping = mmap.mmap(-1, length)
    addr = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    if touch:
        ctypes.memset(addr, 1, length)
    tensors, at = [], addr
    for index, size in enumerate(sizes):
        tensors.append(TensorDescriptor(f"layers.{index}.weight", at, size, 0, "torch.bfloat16"))
        at += size + GAP_BYTES
    return Memory(mapping, addr, tuple(tensors))


def identity(case: str) -> SourceIdentity:
    return SourceIdentity(
        model_name=f"benchmark/{case}",
        mx_version="benchmark",
        backend_framework=BackendFramework.UNKNOWN,
        dtype="bfloat16",
    )


def settings_for(endpoint: str, *, verify: bool = True) -> Settings:
    return load_settings(
        flags={
            "worker.server_address": endpoint,
            "worker.host": "127.0.0.1",
            "worker.metadata_port": 0,
            "transfer.verify": verify,
        },
        environ={},
        scope="worker",
    )


def hold(pipe: Connection, endpoint: str, case: str, sizes: list[int]) -> None:
    """The source process: fill memory, publish, wait until its digests are known, serve."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 9)
    memory = allocate(sizes)
    draw = random.Random(1)
    for tensor in memory.tensors:
        block = draw.randbytes(min(tensor.size, 4096))
        ctypes.memmove(tensor.addr, block, len(block))
    engine = TransferEngine(
        settings_for(endpoint), client=SyncClient(endpoint), identity=identity(case), worker_rank=0
    )
    engine.publish(LocalTensors(memory.tensors, memory.mapping))
    published = engine.wait_published(30)
    pipe.send((published, engine.blob(), [tensor.addr for tensor in memory.tensors]))
    while pipe.recv() == "digest":
        draw = [(t.addr, t.size) for t in memory.tensors]
        from mx.transfer.digests import host_digest

        pipe.send(host_digest(draw))
    engine.close()


@contextmanager
def server() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "mx", "server", "start", "--host", "127.0.0.1", "--port", str(port),
             "-d", str(Path(directory, "models.db")), "--metrics-port", "0", "--log-level", "error"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            endpoint = f"127.0.0.1:{port}"
            client = SyncClient(endpoint, timeout_s=1)
            end = time.monotonic() + 30
            while True:
                try:
                    client.health()
                    break
                except MxError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.05)
            yield endpoint
        finally:
            process.terminate()
            process.wait(20)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RawReader:
    """NIXL alone: an agent of its own, connected, the request prepared before the clock starts."""

    def __init__(self, blob: bytes, remote: list[int], memory: Memory) -> None:
        self.backend = NixlBackend(f"raw-{os.getpid()}-{time.time_ns()}")
        last = memory.tensors[-1]
        self.backend.register([Region(memory.addr, last.addr + last.size - memory.addr, HOST_DEVICE)])
        self.peer = self.backend.connect(blob)
        sizes = [tensor.size for tensor in memory.tensors]
        self.apart = Extents(
            array("Q", [tensor.addr for tensor in memory.tensors]), array("Q", remote), array("Q", sizes),
            HOST_DEVICE, HOST_DEVICE,
        )  # fmt: skip
        span = last.addr + last.size - memory.addr
        self.joined = Extents(
            array("Q", [memory.addr]), array("Q", remote[:1]), array("Q", [span]), HOST_DEVICE, HOST_DEVICE
        )

    def read(self, extents: Extents) -> float:
        """Seconds from post to done."""
        prepared = self.backend.prepare(self.peer, extents)
        started = time.perf_counter()
        self.backend.post(prepared)
        while self.backend.poll(prepared) is not ReadState.DONE:
            pass
        seconds = time.perf_counter() - started
        self.backend.release(prepared)
        return seconds


def pull(endpoint: str, case: str, memory: Memory, *, verify: bool) -> tuple[float, Loaded]:
    engine = TransferEngine(
        settings_for(endpoint, verify=verify),
        client=SyncClient(endpoint),
        identity=identity(case),
        worker_rank=0,
    )
    engine.wait_started()
    started = time.perf_counter()
    outcome = engine.pull(LocalTensors(memory.tensors, memory.mapping))
    seconds = time.perf_counter() - started
    engine.close()
    if not isinstance(outcome, Loaded):
        raise SystemExit(f"{case}: the pull failed: {outcome.reason}")
    return seconds, outcome


def measure(case: str, sizes: list[int], endpoint: str, repeats: int) -> list[dict[str, object]]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    source = context.Process(target=hold, args=(there, endpoint, case, sizes), daemon=True)
    source.start()
    published, blob, remote = here.recv()
    if not published:
        raise SystemExit(f"{case}: the source could not publish")
    memory = allocate(sizes)
    raw = RawReader(blob, remote, memory)
    raw.read(raw.apart)
    pull(endpoint, case, memory, verify=True)  # warm: code, source digests
    rows: list[dict[str, float]] = []
    loaded: Loaded | None = None
    for _ in range(repeats):
        row = {"raw": raw.read(raw.apart), "joined": raw.read(raw.joined)}
        row["pull"], loaded = pull(endpoint, case, memory, verify=True)
        row.update({f"stage_{name}": seconds for name, seconds in loaded.report.stages_s.items()})
        row["verify_cpu"] = loaded.report.verify_cpu_s
        row["unverified"], plain = pull(endpoint, case, memory, verify=False)
        row["unverified_read"] = plain.report.stages_s["read"]
        rows.append(row)
    fresh = allocate(sizes, touch=False)
    first_touch, _ = pull(endpoint, case, fresh, verify=True)
    here.send("stop")
    source.join(20)
    total = sum(sizes)
    raw.backend.close()
    return [summarise(case, total, len(sizes), rows, first_touch)]


def summarise(
    case: str, total: int, tensors: int, rows: list[dict[str, float]], first_touch: float
) -> dict[str, object]:
    def median(of: str, over: str | None = None) -> float:
        return statistics.median(row[of] / row[over] if over else row[of] for row in rows)

    def ratio(part: str) -> float:
        return statistics.median(row["raw"] / row[part] for row in rows)

    return {
        "case": case,
        "bytes": total,
        "tensors": tensors,
        "n": len(rows),
        "raw_gb_s": total / median("raw") / 1e9,
        "raw_gb_s_spread": [
            total / max(r["raw"] for r in rows) / 1e9,
            total / min(r["raw"] for r in rows) / 1e9,
        ],
        "raw_joined_gb_s": total / median("joined") / 1e9,
        "pull_gb_s": total / median("pull") / 1e9,
        "read_over_raw": ratio("unverified_read"),
        "read_over_raw_while_verifying": ratio("stage_read"),
        "pull_over_raw": ratio("pull"),
        "pull_over_raw_spread": [
            min(r["raw"] / r["pull"] for r in rows),
            max(r["raw"] / r["pull"] for r in rows),
        ],
        "unverified_pull_over_raw": ratio("unverified"),
        "verification_cost": median("pull", "unverified") - 1,
        "verify_cpu_s": median("verify_cpu"),
        "first_touch_over_touched": first_touch / median("pull"),
        "stages_s": {
            name.removeprefix("stage_"): statistics.median(row[name] for row in rows)
            for name in rows[0]
            if name.startswith("stage_")
        },
    }


def machine() -> dict[str, object]:
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def show(result: dict[str, object]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="mx pull against one raw NIXL read")
    for column in (
        "case",
        "n",
        "raw GB/s",
        "pull GB/s",
        "read/raw",
        "pull/raw (min–max)",
        "verification",
        "stages ms",
    ):
        table.add_column(column)
    for case in result["cases"]:  # type: ignore[attr-defined]
        low, high = case["pull_over_raw_spread"]
        stages = " ".join(f"{name} {seconds * 1000:.0f}" for name, seconds in case["stages_s"].items())
        table.add_row(
            f"{case['case']} ({format_size(case['bytes'])}, {case['tensors']})", str(case["n"]),
            f"{case['raw_gb_s']:.1f}", f"{case['pull_gb_s']:.1f}", f"{case['read_over_raw']:.2f}",
            f"{case['pull_over_raw']:.2f} ({low:.2f}–{high:.2f})", f"{case['verification_cost']:+.0%}",
            stages,
        )  # fmt: skip
    console = Console()
    console.print(table)
    for case in result["cases"]:  # type: ignore[attr-defined]
        beside = case["read_over_raw_while_verifying"]
        console.print(
            f"{case['case']}: beside the computing of digests the read stage runs at {beside:.2f} of raw; "
            f"digests took {case['verify_cpu_s'] * 1000:.0f} ms of a core; "
            f"first touch makes the pull {case['first_touch_over_touched']:.1f} times as long; "
            f"one joined descriptor would run at {case['raw_joined_gb_s']:.1f} GB/s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="2GiB")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--format", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    size = parse_size(arguments.size)
    cases = []
    with server() as endpoint:
        cases += measure("mixed-400", mixed_sizes(size), endpoint, arguments.repeats)
        cases += measure("small-20000", small_sizes(size), endpoint, arguments.repeats)
    result = {"machine": machine(), "cases": cases}
    if arguments.format == "json":
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
