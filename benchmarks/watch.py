"""Watch under load: what fifty watchers cost a server while things change a thousand times a second.

    python benchmarks/watch.py [--watchers 50] [--rate 1000] [--seconds 60] [--format table|json]

The server is a process of its own, over SQLite in a new folder. Changes are transfer reports as workers
send them, over ``--reporters`` connections. Watchers are in two further processes; the first of each is
a real client, the others take in their bytes and no more: fifty clients that make values of fifty
thousand changes a second would measure this machine and not the server. Lag is the time from a report
being sent to a real client having it, by the wall clock. One more watcher reads nothing for two thirds
of the time: what it missed by then is counted, and that it is back with the others at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc.aio

from mx.client.grpc import GrpcClient
from mx.core.feed import FleetChanges, FleetSnapshot, LinkLost, TransferChanged
from mx.core.transfer import SourceShare, Strategy, TransferReport, TransferState
from mx.wire.v1 import admin

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
Case = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--watchers", type=int, default=50)
    options.add_argument("--rate", type=int, default=1000, help="changes a second, in all")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--transfers", type=int, default=1000, help="transfers that run at the same time")
    options.add_argument("--reporters", type=int, default=8)
    options.add_argument("--processes", type=int, default=2, help="that watch")
    options.add_argument("--format", choices=("table", "json"), default="table")
    options.add_argument("--watch", help=argparse.SUPPRESS)
    options.add_argument("--sleep", type=float, default=0.0, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.watch:
        asyncio.run(watch(chosen.watch, chosen.watchers, sleep_s=chosen.sleep))
        return
    case = asyncio.run(measure(chosen))
    if chosen.format == "json":
        about = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
        print(json.dumps({"machine": about, "cases": [case]}, indent=2))
    else:
        show(case)


async def measure(chosen: argparse.Namespace) -> Case:
    with tempfile.TemporaryDirectory() as folder:
        server = await start_server(Path(folder))
        try:
            return await under_load(chosen, *server)
        finally:
            server[0].terminate()
            await server[0].wait()


async def start_server(folder: Path) -> tuple[asyncio.subprocess.Process, str]:
    code = (
        "import asyncio, sys\n"
        "from mx.config import load_settings\n"
        "from mx.server.app import serve\n"
        "flags = {'database.path': sys.argv[1] + '/mx.db', 'cache.directory': sys.argv[1] + '/cache',"
        " 'server.host': '127.0.0.1', 'server.metrics_port': 0}\n"
        "settings = load_settings(flags=flags, environ={}, scope='server')\n"
        "ready = lambda server: print(server.listen, flush=True)\n"
        "asyncio.run(serve(settings, port=0, on_ready=ready))\n"
    )
    (folder / "cache").mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 60)
    return process, line.decode().strip()


async def under_load(chosen: argparse.Namespace, process: asyncio.subprocess.Process, address: str) -> Case:
    idle = await used(process.pid, 3.0)
    share = chosen.watchers // chosen.processes
    watchers = [await start_watchers(address, share) for _ in range(chosen.processes)]
    # Once every transfer is known, what is held in memory no longer grows by design.
    await report(address, chosen, seconds=chosen.transfers / chosen.rate + 2.0)
    slow = await start_watchers(address, 1, "--sleep", str(chosen.seconds * 2 / 3))
    rss_begin, cpu_begin, begin_s = rss(process.pid), cpu_s(process.pid), time.monotonic()
    sent = await report(address, chosen, seconds=chosen.seconds)
    took_s = time.monotonic() - begin_s
    cpu = (cpu_s(process.pid) - cpu_begin) / took_s
    rss_end, rss_peak = rss(process.pid), peak(process.pid)
    told = [await ended(watcher) for watcher in watchers]
    late = await ended(slow)
    lags = sorted(lag for one in told for lag in one["lags"])
    return {
        "case": "watch under load",
        "watchers": share * chosen.processes,
        "seconds": took_s,
        "changes": sent,
        "changes_s": sent / took_s,
        "server_cpu": cpu,
        "server_cpu_idle": idle,
        "rss_begin_bytes": rss_begin,
        "rss_end_bytes": rss_end,
        "rss_peak_bytes": rss_peak,
        "lag_p50_s": statistics.median(lags) if lags else None,
        "lag_p95_s": lags[int(len(lags) * 0.95)] if lags else None,
        "lags": len(lags),
        "updates": sum(one["updates"] for one in told),
        "bytes": sum(one["bytes"] for one in told),
        "dropped": sum(one["dropped"] for one in told),
        "links_lost": sum(one["lost"] for one in told),
        "slow_dropped": late["dropped"],
        "slow_snapshots": late["snapshots"],
        "slow_behind_s": late["behind_s"],
    }


async def start_watchers(address: str, count: int, *more: str) -> asyncio.subprocess.Process:
    """A process that watches so many times, once each has its first snapshot."""
    words = ("--watch", address, "--watchers", str(count), *more)
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, *words, **pipes)
    assert process.stdout is not None
    await asyncio.wait_for(process.stdout.readline(), 60)
    return process


async def ended(watcher: asyncio.subprocess.Process) -> dict[str, Any]:
    out, _ = await asyncio.wait_for(watcher.communicate(b"\n"), 60)
    said: dict[str, Any] = json.loads(out)
    return said


def show(case: Case) -> None:
    def ms(seconds: float | None) -> str:
        return "-" if seconds is None else f"{1000 * seconds:.0f} ms"

    print(f"watchers           {case['watchers']}, and one that is slow")
    print(
        f"changes            {case['changes']} in {case['seconds']:.1f} s, {case['changes_s']:.0f} a second"
    )
    print(
        f"server CPU         {100 * case['server_cpu']:.0f} % of a core; without watchers and changes "
        f"{100 * case['server_cpu_idle']:.1f} %"
    )
    begin, end, most = (case[f"rss_{at}_bytes"] >> 20 for at in ("begin", "end", "peak"))
    print(f"server RSS         {begin} MiB at the start, {end} MiB at the end, {most} MiB at most")
    print(f"lag                p50 {ms(case['lag_p50_s'])}, p95 {ms(case['lag_p95_s'])}, n {case['lags']}")
    print(
        f"updates            {case['updates']} taken in by the real clients, "
        f"{case['bytes'] >> 20} MiB by the others"
    )
    print(f"dropped            {case['dropped']} changes, links lost {case['links_lost']}")
    print(
        f"slow watcher       {case['slow_dropped']} changes dropped, {case['slow_snapshots']} snapshots, "
        f"{ms(case['slow_behind_s'])} behind at the end"
    )


async def report(address: str, chosen: argparse.Namespace, *, seconds: float) -> int:
    """Reports at the wanted rate from several connections; how many were sent."""
    end_s = time.monotonic() + seconds
    begin_s = time.monotonic()
    sent = 0

    async def one(number: int) -> None:
        nonlocal sent
        client = GrpcClient(address)
        try:
            while (now_s := time.monotonic()) < end_s:
                due = int((now_s - begin_s) * chosen.rate)
                if sent >= due:
                    await asyncio.sleep(0.002)
                    continue
                sent += 1
                await client.report_transfer(a_report(sent % chosen.transfers))
        finally:
            await client.close()

    # Several calls at a time on each connection: one waits for its answer before the next.
    await asyncio.gather(*(one(number) for number in range(chosen.reporters * 4)))
    return sent


def a_report(number: int) -> TransferReport:
    """``started_at_ms`` says when it was sent."""
    return TransferReport(
        transfer_id=f"t{number}",
        model_name="org/model",
        source_id="0" * 16,
        worker_id=f"worker-{number}",
        worker_rank=0,
        strategy=Strategy.PEER,
        state=TransferState.RUNNING,
        bytes_total=1 << 36,
        bytes_done=time.monotonic_ns() % (1 << 36),
        verified=False,
        started_at_ms=time.time_ns() // 1_000_000,
        seconds=1.0,
        segments=4096,
        stages_s={
            "agent": 0.1,
            "discover": 0.01,
            "connect": 0.02,
            "register": 0.3,
            "plan": 0.01,
            "read": 0.6,
        },
        sources=tuple(
            SourceShare(f"worker-{number + n}", "10.0.0.7:5555", 1 << 34, 180.0, 2048, True) for n in (1, 2)
        ),
    )


async def watch(address: str, count: int, *, sleep_s: float) -> None:
    """Watchers until a line comes on stdin; what they saw, as JSON. With ``sleep_s`` they sleep after
    their first snapshot."""
    begun = asyncio.Semaphore(0)
    seen: dict[str, Any] = {
        "updates": 0,
        "dropped": 0,
        "lost": 0,
        "snapshots": 0,
        "bytes": 0,
        "behind_s": None,
    }
    lags: list[float] = []

    async def one() -> None:
        client = GrpcClient(address)
        async with aclosing(client.watch()) as updates:
            async for update in updates:
                match update:
                    case FleetSnapshot():
                        seen["snapshots"] += 1
                        seen["dropped"] += update.dropped
                        if seen["snapshots"] == 1:
                            begun.release()
                            await asyncio.sleep(sleep_s)
                    case LinkLost():
                        seen["lost"] += 1
                    case FleetChanges():
                        seen["updates"] += 1
                        now_ms = time.time_ns() / 1e6
                        newest = update.changes[-1:]
                        told = [one.report for one in newest if isinstance(one, TransferChanged)]
                        late = [(now_ms - one.started_at_ms) / 1000 for one in told]
                        seen["behind_s"] = late[0] if late else seen["behind_s"]
                        lags.extend(late)

    async def bytes_only() -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            method = channel.unary_stream(f"/{admin.AdminService_NAME}/Watch")
            first = True
            async for part in method(b""):
                if first:
                    begun.release()
                first = False
                seen["bytes"] += len(part)

    tasks = [asyncio.create_task(bytes_only() if number else one()) for number in range(count)]
    for _ in tasks:
        await begun.acquire()
    print("watching", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps({**seen, "lags": lags}))


async def used(pid: int, seconds: float) -> float:
    begin = cpu_s(pid)
    await asyncio.sleep(seconds)
    return (cpu_s(pid) - begin) / seconds


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) << 10


def rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


if __name__ == "__main__":
    main()
