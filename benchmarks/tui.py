#!/usr/bin/env python3
"""What ``mx tui`` costs: 1,000 entries and 1,000 workers, 10 changes a second, in a terminal of its own.

    python benchmarks/tui.py [--minutes 10] [--format json]

The real command replays a recording that is written first; a pty takes what it draws. A key is answered
when the terminal got what it is to show. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import platform
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mx.client.record import Recorder
from mx.core.cache_view import ListedEntry
from mx.core.feed import (
    EntryChanged,
    FeedPosition,
    FleetChanges,
    FleetSnapshot,
    SourceChanged,
    TransferChanged,
)
from mx.core.model import EntryKey, EntryStatus, ProviderName
from mx.core.source import PeerRecord, SourceStatus, SourceSummary
from mx.core.transfer import SourceShare, Strategy, TransferReport, TransferState
from mx.testing import fleet_samples as some

COLUMNS, LINES = 160, 48
_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
WARM_S = 8.0
DEADLINE_S = 60.0
SCREENS = {
    "overview": b"[1 Overview]",
    "cache": b"[2 Cache]",
    "sources": b"[4 Sources]",
    "workers": b"[5 Workers]",
}
GIB = 1 << 30


@dataclass(frozen=True)
class Case:
    """``limit`` is what the value must stay below; n values with their middle and 95th."""

    name: str
    unit: str
    n: int
    p50: float
    p95: float
    worst: float
    limit: float | None = None

    @property
    def holds(self) -> bool:
        return self.limit is None or self.p95 < self.limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--entries", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--changes", type=float, default=10.0, help="a second")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--keys", type=int, default=100, help="on each screen")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        long, many = Path(folder) / "long.jsonl", Path(folder) / "many.jsonl"
        seconds = chosen.minutes * 60 + 120 + 2 * DEADLINE_S
        write(long, chosen.entries, chosen.workers, seconds=seconds, rate=chosen.changes)
        write(many, 10_000, chosen.workers, seconds=300, rate=chosen.changes)
        cases = [*starts(long, chosen.starts), *under_feed(long, chosen.minutes * 60, chosen.keys)]
        cases += usable(many, chosen.keys)
    show(cases, chosen.format)
    sys.exit(0 if all(case.holds for case in cases) else 1)


# ---- the recording


def write(path: Path, entries: int, workers: int, *, seconds: float, rate: float) -> None:
    at_s = 0.0
    with Recorder(path, now_s=lambda: at_s) as recorder:
        snapshot = fleet(entries, workers)
        recorder.write(snapshot)
        running = [one for one in snapshot.transfers if one.state is TransferState.RUNNING]
        for number in range(1, round(seconds * rate)):
            at_s = number / rate
            now_ms = some.NOW_MS + round(at_s * 1000)
            position = FeedPosition(some.FEED, 1 + number)
            recorder.write(FleetChanges(position, now_ms, (change(number, snapshot, running, now_ms),)))


def change(
    number: int, snapshot: FleetSnapshot, running: list[TransferReport], now_ms: int
) -> EntryChanged | SourceChanged | TransferChanged:
    """Half of them reports of pulls, the rest heartbeats and uses."""
    match number % 4:
        case 0:
            entry = snapshot.entries[number * 7 % len(snapshot.entries)]
            return EntryChanged(replace(entry, last_used_at_ms=now_ms))
        case 1:
            source = snapshot.sources[number * 11 % len(snapshot.sources)]
            return SourceChanged(replace(source, updated_at_ms=now_ms, source_load=number % 100 / 100))
        case _:
            report = running[number % len(running)]
            seconds = (now_ms - some.NOW_MS) / 1000
            done = round(seconds * (20 + number % 17) * 1e9 / 8) % report.bytes_total
            return TransferChanged(replace(report, bytes_done=done, seconds=seconds))


def fleet(entries: int, workers: int) -> FleetSnapshot:
    def entry(number: int) -> ListedEntry:
        size = (number * 37 % 900 + 1) * GIB // 4
        return ListedEntry(
            key=EntryKey(ProviderName.HUGGING_FACE, f"org-{number % 40}/model-{number}", f"{number:040x}"),
            status=EntryStatus.DOWNLOADED,
            created_at_ms=some.NOW_MS - number * 3_600_000,
            last_used_at_ms=some.NOW_MS - number * 61_000,
            bytes_total=size,
            bytes_done=size,
            files=number % 50 + 3,
            disk_bytes=size,
            own_bytes=size,
            requested_revision="main",
        )

    def source(number: int) -> SourceSummary:
        return SourceSummary(
            source_id=f"{number // 16:016x}",
            worker_id=f"vllm-{number // 8}-w{number % 8}",
            worker_rank=number % 8,
            model_name=f"org-{number // 16 % 40}/model-{number // 16}",
            updated_at_ms=some.NOW_MS - number % 60 * 1000,
            status=SourceStatus.READY,
            accelerator="H100",
            source_load=number % 100 / 100,
            peer=PeerRecord(f"10.0.{number // 250}.{number % 250}:6555", "g1", host_id=f"host-{number // 8}"),
        )

    sources = tuple(source(number) for number in range(workers))

    def pull(number: int) -> TransferReport:
        target, giver = sources[number * 13 % workers], sources[(number * 13 + 8) % workers]
        return TransferReport(
            transfer_id=f"t{number:05}",
            model_name=target.model_name,
            source_id=target.source_id,
            worker_id=target.worker_id,
            worker_rank=target.worker_rank,
            strategy=Strategy.PEER,
            state=TransferState.RUNNING if number < 40 else TransferState.DONE,
            bytes_total=33 * GIB,
            bytes_done=33 * GIB if number >= 40 else 0,
            verified=number >= 40,
            started_at_ms=some.NOW_MS - number * 1000,
            seconds=2.0,
            stages_s={"discover": 0.02, "connect": 0.1, "read": 1.5},
            sources=(SourceShare(giver.worker_id, "10.0.0.1:6555", 33 * GIB, 140.0, 66, True),),
            segments=66,
        )

    return some.snapshot(
        entries=tuple(entry(number) for number in range(entries)),
        downloads=(),
        sources=sources,
        transfers=tuple(pull(number) for number in range(300)),
        events=(),
    )


# ---- the terminal


class Terminal:
    """``mx tui --replay`` at a pty; a thread takes what it draws."""

    def __init__(self, recording: Path) -> None:
        command = [sys.executable, "-m", "mx", "tui", "--replay", str(recording)]
        self._news = threading.Condition()
        self._text = bytearray()
        self.began_s = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
            for name in ("COLUMNS", "LINES"):
                os.environ.pop(name, None)
            os.execv(command[0], command)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # how Linux reports the end of a pty
            while select.select([self._fd], [], []) and (data := os.read(self._fd, 1 << 16)):
                with self._news:
                    self._text += data
                    self._news.notify_all()

    def forget(self) -> None:
        with self._news:
            self._text.clear()

    def wait(self, wanted: bytes) -> float:
        """Seconds on the clock when the terminal had it."""
        with self._news:
            if not self._news.wait_for(lambda: wanted in self._text, DEADLINE_S):
                sys.exit(f"never drawn: {wanted!r}\n{bytes(self._text[-2000:])!r}")
            return time.perf_counter()

    def press(self, key: bytes, wanted: bytes) -> float:
        """Milliseconds until it is answered."""
        self.forget()
        began_s = time.perf_counter()
        os.write(self._fd, key)
        return (self.wait(wanted) - began_s) * 1000

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def rss(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE

    def end(self) -> None:
        os.write(self._fd, b"\x11")  # Ctrl-Q, also where q is a letter
        end_s = time.monotonic() + DEADLINE_S
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > end_s:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.01)


# ---- the cases


def starts(recording: Path, count: int) -> list[Case]:
    """From the start of the process to the first screen with data on it."""
    frames, data = [], []
    for _ in range(count + 1):
        terminal = Terminal(recording)
        frames.append(terminal.wait(SCREENS["overview"]) - terminal.began_s)
        data.append(terminal.wait("● live".encode()) - terminal.began_s)
        terminal.end()
    return [
        case("first paint", "s", frames[1:], limit=0.7),
        case("first paint of 1,000 entries and 1,000 workers", "s", data[1:]),
    ]


def under_feed(recording: Path, seconds: float, keys: int) -> list[Case]:
    terminal = Terminal(recording)
    terminal.wait("● live".encode())
    for number, shown in zip((2, 4, 5, 1), (*list(SCREENS.values())[1:], SCREENS["overview"]), strict=True):
        terminal.press(str(number).encode(), shown)  # what a screen needs is there before memory counts
        time.sleep(WARM_S / 4)
    cases: list[Case] = []
    memory: list[float] = []
    every_s = max(1.0, min(10.0, seconds / 24))
    for number, (name, shown) in zip((1, 2, 4, 5), SCREENS.items(), strict=True):
        terminal.press(str(number).encode(), shown) if number > 1 else None
        time.sleep(2)
        shares: list[float] = []
        end_s = time.monotonic() + seconds / len(SCREENS)
        while time.monotonic() < end_s:
            cpu_s, began_s = terminal.cpu_s, time.monotonic()
            time.sleep(every_s)
            shares.append((terminal.cpu_s - cpu_s) / (time.monotonic() - began_s) * 100)
            memory.append(terminal.rss / (1 << 20))
        mean = statistics.mean(shares)
        cases.append(Case(f"CPU on {name}", "% of a core", len(shares), mean, mean, max(shares), limit=10.0))
    half = len(memory) // 2
    grown = statistics.mean(memory[-5:]) - statistics.mean(memory[half : half + 5])
    cases.append(Case("memory", "MiB", len(memory), statistics.median(memory), memory[-1], max(memory)))
    cases.append(
        Case("memory grown in the second half", "MiB", len(memory) - half, grown, grown, grown, limit=2.0)
    )
    terminal.press(b"2", SCREENS["cache"])
    cases.append(case("key to paint, mark", "ms", marks(terminal, keys), limit=50.0))
    cases.append(case("key to paint, screen", "ms", jumps(terminal, keys), limit=50.0))
    terminal.end()
    return cases


def usable(recording: Path, keys: int) -> list[Case]:
    terminal = Terminal(recording)
    terminal.wait("● live".encode())
    terminal.press(b"2", SCREENS["cache"])
    time.sleep(3)
    found = [case("key to paint, mark, 10,000 entries", "ms", marks(terminal, keys), limit=50.0)]
    terminal.press(b"/", b"words")
    letters = (b"m", b"o", b"d", *[b"\x7f"] * 3)
    typed = [terminal.press(letter, b"Cache") for _ in range(keys // 6) for letter in letters]
    found.append(case("key to paint, filter, 10,000 entries", "ms", typed))
    terminal.end()
    return found


def marks(terminal: Terminal, count: int) -> list[float]:
    found = []
    for number in range(1, count + 1):
        found.append(terminal.press(b" ", f"{number} marked".encode()))
        time.sleep(0.083)  # at any moment between two paints
    return found


def jumps(terminal: Terminal, count: int) -> list[float]:
    found = []
    for number in range(count):
        key, shown = ((b"5", SCREENS["workers"]), (b"2", SCREENS["cache"]))[number % 2]
        found.append(terminal.press(key, shown))
        time.sleep(0.217)
    return found


def case(name: str, unit: str, values: list[float], *, limit: float | None = None) -> Case:
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return Case(name, unit, len(values), statistics.median(ordered), p95, ordered[-1], limit)


def show(cases: list[Case], form: str) -> None:
    if form == "json":
        machine = {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
        }
        print(
            json.dumps({"machine": machine, "cases": [{**asdict(one), "holds": one.holds} for one in cases]})
        )
        return
    print(f"{'':48} {'n':>5} {'p50':>9} {'p95':>9} {'worst':>9}  unit         limit")
    for one in cases:
        limit = "" if one.limit is None else f"< {one.limit:g} {'ok' if one.holds else 'MISSED'}"
        print(
            f"{one.name:48} {one.n:5} {one.p50:9.2f} {one.p95:9.2f} {one.worst:9.2f}  {one.unit:12} {limit}"
        )


if __name__ == "__main__":
    main()
