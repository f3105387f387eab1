"""Watch under load: what fifty watchers cost a server while things change a thousand times a second.

    python benchmarks/watch.py [--watchers 50] [--rate 1000] [--seconds 60] [--transfers 1000]

The server is a process of its own, over SQLite in a new folder. Changes are transfer reports as workers
send them, over ``--reporters`` connections; watchers are real clients in two further processes. Lag is
the time from a report being sent to a watcher having it, by the wall clock of this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

from mx.client.grpc import GrpcClient
from mx.core.feed import FleetChanges, FleetSnapshot, LinkLost, TransferChanged
from mx.core.transfer import Strategy, TransferReport, TransferState

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--watchers", type=int, default=50)
    options.add_argument("--rate", type=int, default=1000, help="changes a second, in all")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--transfers", type=int, default=1000, help="transfers that run at the same time")
    options.add_argument("--reporters", type=int, default=4)
    options.add_argument("--processes", type=int, default=2, help="that watch")
    options.add_argument("--watch", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.watch:
        asyncio.run(watch(chosen.watch, chosen.watchers))
    else:
        asyncio.run(measure(chosen))


async def measure(chosen: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = await start_server(Path(folder))
        try:
            await under_load(chosen, *server)
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


async def under_load(chosen: argparse.Namespace, process: asyncio.subprocess.Process, address: str) -> None:
    idle = await used(process.pid, 3.0)
    share = chosen.watchers // chosen.processes
    watchers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            *("--watch", address, "--watchers", str(share)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(chosen.processes)
    ]
    for watcher in watchers:
        assert watcher.stdout is not None
        await asyncio.wait_for(watcher.stdout.readline(), 60)
    # Once every transfer is known, what is held in memory no longer grows by design.
    await report(address, chosen, seconds=chosen.transfers / chosen.rate + 2.0)
    rss_begin, cpu_begin, begin_s = rss(process.pid), cpu_s(process.pid), time.monotonic()
    sent = await report(address, chosen, seconds=chosen.seconds)
    took_s = time.monotonic() - begin_s
    cpu, rss_end = (cpu_s(process.pid) - cpu_begin) / took_s, rss(process.pid)
    told = []
    for watcher in watchers:
        out, _ = await asyncio.wait_for(watcher.communicate(b"\n"), 60)
        told.append(json.loads(out))
    lags = sorted(lag for one in told for lag in one["lags"])
    print(f"watchers           {share * chosen.processes}, in {chosen.processes} processes")
    print(f"changes            {sent} in {took_s:.1f} s, {sent / took_s:.0f} a second")
    print(f"server CPU         {100 * cpu:.0f} % of a core; without watchers and changes {100 * idle:.1f} %")
    print(f"server RSS         {rss_begin >> 20} MiB at the start, {rss_end >> 20} MiB at the end")
    if lags:
        p95 = lags[int(len(lags) * 0.95)]
        print(f"lag                p50 {1000 * statistics.median(lags):.0f} ms, p95 {1000 * p95:.0f} ms")
    print(f"updates            {sum(one['updates'] for one in told)} taken in by all watchers")
    dropped, lost = (sum(one[what] for one in told) for what in ("dropped", "lost"))
    print(f"dropped            {dropped} changes, links lost {lost}")


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
    )


async def watch(address: str, count: int) -> None:
    """Watchers until a line comes on stdin; what they saw, as JSON."""
    begun = asyncio.Semaphore(0)
    seen: dict[str, int] = {"updates": 0, "dropped": 0, "lost": 0}
    lags: list[float] = []

    async def one() -> None:
        client = GrpcClient(address)
        async with aclosing(client.watch()) as updates:
            async for update in updates:
                match update:
                    case FleetSnapshot():
                        seen["dropped"] += update.dropped
                        begun.release()
                    case LinkLost():
                        seen["lost"] += 1
                    case FleetChanges():
                        seen["updates"] += 1
                        now_ms = time.time_ns() / 1e6
                        newest = update.changes[-1:] if seen["updates"] % 10 == 0 else ()
                        told = [one.report for one in newest if isinstance(one, TransferChanged)]
                        lags.extend((now_ms - one.started_at_ms) / 1000 for one in told)

    tasks = [asyncio.create_task(one()) for _ in range(count)]
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


def rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


if __name__ == "__main__":
    main()
