#!/usr/bin/env python3
"""Make the pictures of ``mx tui`` in the documents, from a run that really happens.

    python scripts/tui_pictures.py [--size 1GiB]

A server, a cache with models of a hub on this machine, and the replicas of ``mx demo``: one loads, the
others pull over NIXL, one is killed. The terminal UI watches all of it, writes it down
(docs/recordings/walk.jsonl), and its screen is taken at the moments that docs/howto/tui.md tells of.
Nothing on the pictures is invented; run it again and the figures are those of that run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path

from textual.pilot import Pilot

from mx.client.base import Client
from mx.client.grpc import GrpcClient
from mx.client.record import Recorder
from mx.client.replay import ReplayClient
from mx.client.sync import SyncClient
from mx.core.units import parse_size
from mx.demo.fleet import Demo
from mx.errors import MxError
from mx.testing.fake_hub import FakeHub
from mx.testing.screen_svg import Film, screen_svg, screen_text
from mx.tui.app import MxApp, Site

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs/images"
RECORDING = ROOT / "docs/recordings/walk.jsonl"
SIZE = (120, 32)
DEADLINE_S = 180.0
MIB = 1 << 20


class Watcher:
    """The app on a screen that nobody sees."""

    def __init__(self, app: MxApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause(0.8)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > end_s:
                sys.exit(f"never: {what}\n{screen_text(self.app)}")
            await self.pilot.pause(0.1)

    async def shows(self, *words: str) -> None:
        await self.until(lambda: all(word in screen_text(self.app) for word in words), f"{words}")

    def take(self, name: str, title: str) -> None:
        file = IMAGES / f"tui-{name}.svg"
        file.write_text(screen_svg(self.app, title=f"mx tui: {title}"), encoding="utf-8")
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1024:.0f} KiB")


async def walk(address: str, size_bytes: int) -> None:
    """As docs/howto/tui.md goes."""
    RECORDING.parent.mkdir(exist_ok=True)
    RECORDING.unlink(missing_ok=True)
    demo = Demo(size_bytes=size_bytes, count=4, model=None, server=address, hold=True)
    with Recorder(RECORDING) as recorder:
        app = MxApp([Site("demo", address, lambda: connected(address))], record=recorder.write)
        async with app.run_test(size=SIZE, notifications=True) as pilot:
            seen = Watcher(app, pilot)
            await seen.shows("● live")
            running = threading.Thread(target=run, args=(demo,), daemon=True)
            running.start()
            await pulls(seen)
            await one_dies(seen, demo)
            await cache(seen)
            await seen.press("6")
            seen.take("events", "the feed as a log")
        stop(demo)
        await asyncio.to_thread(running.join, 60)
    client = ReplayClient(RECORDING, speed=float("inf"), stays=False)
    app = MxApp([Site(RECORDING.name, str(RECORDING.name), lambda: nullcontext(client))])
    async with app.run_test(size=SIZE) as pilot:
        seen = Watcher(app, pilot)
        await seen.shows("■ end")
        await seen.press("5")
        seen.take("replay", "a recording at its end")
    print(f"{RECORDING.relative_to(ROOT)}: {RECORDING.stat().st_size / 1024:.0f} KiB")


async def pulls(seen: Watcher) -> None:
    def share() -> float:
        reports = list(seen.app.watched.fleet.running.values())
        if len(reports) < 3 or not all(one.sources for one in reports):
            return 0.0
        return min(one.bytes_done / max(1, one.bytes_total) for one in reports)

    film, begin_s = Film(), time.monotonic()

    def filmed(until: Callable[[], bool]) -> Callable[[], bool]:
        def one() -> bool:
            film.take(seen.app, at_s=time.monotonic() - begin_s)
            return until()

        return one

    await seen.press("5")
    await seen.shows("replica-1", "idle")
    begin_s = time.monotonic()
    await seen.until(filmed(lambda: share() > 0.3), "three pulls under way")
    seen.take("workers", "three replicas pull from the first")
    await seen.pilot.press("1")
    await seen.pilot.pause(0.3)
    seen.take("overview", "the fleet at a glance, while three replicas pull")
    await seen.pilot.press("5")
    await seen.pilot.pause(0.2)
    ended = lambda: len(seen.app.watched.fleet.finished) == 4 and not seen.app.watched.fleet.running  # noqa: E731
    await seen.until(filmed(ended), "all pulls ended")
    await seen.until(filmed(lambda: len(seen.app.watched.fleet.sources) == 4), "four sources")
    await seen.pilot.pause(1.0)
    film.take(seen.app, at_s=time.monotonic() - begin_s)
    file = IMAGES / "tui.svg"
    file.write_text(
        film.svg(title="Recording of mx tui: three replicas pull from the first"), encoding="utf-8"
    )
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1024:.0f} KiB")


async def one_dies(seen: Watcher, demo: Demo) -> None:
    await seen.press("4")
    await seen.shows("replica-4", "✓ 4 ready")
    victim = demo.replicas[2].process
    assert victim is not None
    victim.kill()
    # Its heartbeats stop; after three the server gives it up.
    await seen.shows("✗ stale")
    await seen.pilot.pause(1.0)
    seen.take("sources", "one replica was killed: its heartbeats stopped")


async def cache(seen: Watcher) -> None:
    await seen.press("2")
    await seen.shows("demo/embedder")
    await seen.press("slash", *"embedder", "enter", "i", *"canary", "enter")
    await seen.shows("pinned")
    await seen.press("escape", "v")
    await seen.shows("every digest")
    await seen.pilot.pause(0.5)
    seen.take("cache", "the cache; one entry was pinned and verified")
    await seen.press("3", "t", *"4mib", "enter")
    await seen.shows("down to 4.00 MiB", "✗ 1 evict")
    await seen.pilot.pause(1.0)
    seen.take("eviction", "the plan of an eviction, with a reason for each entry")
    await seen.press("x")
    await seen.shows("yes, evict")
    seen.take("plan", "the plan is shown before anything goes, and No is the default")
    await seen.press("y")
    await seen.shows("evicted,")
    await seen.pilot.pause(1.0)
    seen.take("evicted", "after the eviction")


def run(demo: Demo) -> None:
    with suppress(MxError):  # a replica was killed; the others end when they are stopped
        demo.run()


def stop(demo: Demo) -> None:
    for replica in demo.replicas:
        if replica.process is not None and replica.process.stdin is not None:
            with suppress(OSError):
                replica.process.stdin.close()


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Client]:
    client = GrpcClient(address)
    try:
        yield client
    finally:
        await client.close()


@contextmanager
def server(work: Path, hub: FakeHub) -> Iterator[str]:
    """A server whose cache has a few models; sources are given up after 6 s, not 90."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "mx", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--metrics-port", "0", "--database-path", str(work / "models.db"), "--log-level", "warn"]
    command += ["--cache-directory", str(work / "cache")]
    environment = os.environ | {
        "HF_ENDPOINT": hub.endpoint,
        "MX_HEARTBEAT_TIMEOUT_SECS": "6",
        "MODEL_EXPRESS_CACHE__EVICTION__POLICY__GRACE_TIME": "1s",
        "MODEL_EXPRESS_CACHE__MAX_SIZE_BYTES": "64MiB",
    }
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        with SyncClient(address) as client:
            end_s = time.monotonic() + 30
            while True:
                with suppress(MxError):
                    client.health()
                    break
                if time.monotonic() > end_s:
                    sys.exit("the server did not start")
                time.sleep(0.1)
        for name, size in (("demo/embedder", 2 * MIB), ("demo/reranker", 3 * MIB), ("demo/small", 8 * MIB)):
            hub.add(name, {"config.json": b"{}", "model.safetensors": name.encode() * (size // len(name))})
            words = [sys.executable, "-m", "mx", "-e", address, "-q", "model", "download", name]
            subprocess.run([*words, "-s", "server-only"], check=True, stdout=subprocess.DEVNULL)
        yield address
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1GiB", help="of the checkpoint that the replicas load")
    chosen = parser.parse_args()
    os.environ["MX_HEARTBEAT_INTERVAL_SECS"] = "2"
    with tempfile.TemporaryDirectory() as folder, FakeHub() as hub, server(Path(folder), hub) as address:
        asyncio.run(walk(address, parse_size(chosen.size)))


if __name__ == "__main__":
    main()
