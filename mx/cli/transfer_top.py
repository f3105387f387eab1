"""``mx transfer top``: what the fleet moves, one line a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated

import typer

from mx.cli.link import Link, linked
from mx.cli.live import link_words
from mx.cli.options import Invocation, invocation_of, with_client
from mx.client.base import Client
from mx.core.feed import FeedUpdate
from mx.core.fleet import Fleet
from mx.core.transfer import TransferReport, TransferState
from mx.core.units import format_size

# Workers report once or twice a second; one that says nothing for longer stands still.
_SILENT_S = 3.0
_HEADER_EVERY = 20


@dataclass(slots=True)
class _Reading:
    """The last report of a transfer, when it came, and the rate since the one before, bytes a second."""

    report: TransferReport
    at_s: float
    rate: float


@dataclass(frozen=True, slots=True)
class WorkerRate:
    report: TransferReport
    rate: float


@dataclass(frozen=True, slots=True)
class TopLine:
    """One second. ``bytes_moved``, ``done`` and ``failed`` count since the first line; ``rate`` in bytes
    a second, what peers, the server and disks gave to workers."""

    rate: float
    running: int
    bytes_moved: int
    done: int
    failed: int
    workers: tuple[WorkerRate, ...]


@dataclass(slots=True)
class Meter:
    """Rates from reports, by the workers' own clocks. Transfers that ran before the first update count
    from there on."""

    _readings: dict[str, _Reading] = field(default_factory=dict)
    _ended: dict[str, None] = field(default_factory=dict)
    _just_ended: list[WorkerRate] = field(default_factory=list)
    _begun: bool = False
    _moved: int = 0
    _done: int = 0
    _failed: int = 0

    def take(self, fleet: Fleet, *, now_s: float) -> None:
        """Take in what is known after an update."""
        if not self._begun:
            self._begun = True
            self._ended = dict.fromkeys(fleet.finished)
            self._readings = {key: _Reading(one, now_s, 0.0) for key, one in fleet.running.items()}
            return
        for key, report in fleet.running.items():
            self._read(key, report, now_s)
        for key, report in fleet.finished.items():
            if key not in self._ended:
                self._end(key, report, now_s)
        self._ended = {key: None for key in self._ended if key in fleet.finished}
        # A worker that died without a word is in neither.
        for key in [key for key in self._readings if key not in fleet.running]:
            del self._readings[key]

    def _read(self, key: str, report: TransferReport, now_s: float) -> float:
        before = self._readings.get(key)
        if before is not None and before.report == report:
            return before.rate
        bytes_before, seconds_before = (
            (0, 0.0) if before is None else (before.report.bytes_done, before.report.seconds)
        )
        moved = max(0, report.bytes_done - bytes_before)
        passed_s = report.seconds - seconds_before
        rate = moved / passed_s if passed_s > 0 else 0.0
        self._moved += moved
        self._readings[key] = _Reading(report, now_s, rate)
        return rate

    def _end(self, key: str, report: TransferReport, now_s: float) -> None:
        rate = self._read(key, report, now_s)
        del self._readings[key]
        self._ended[key] = None
        self._done += report.state is TransferState.DONE
        self._failed += report.state is TransferState.FAILED
        self._just_ended.append(WorkerRate(report, rate))

    def line(self, *, now_s: float) -> TopLine:
        """What holds for the second that ends now; a transfer that ended within it is in its rate."""
        running = [
            WorkerRate(one.report, one.rate if now_s - one.at_s <= _SILENT_S else 0.0)
            for one in self._readings.values()
        ]
        workers, self._just_ended = (*running, *self._just_ended), []
        return TopLine(
            rate=sum(one.rate for one in workers),
            running=len(running),
            bytes_moved=self._moved,
            done=self._done,
            failed=self._failed,
            workers=tuple(sorted(workers, key=lambda one: (one.report.worker_id, one.report.worker_rank))),
        )


def top(
    ctx: typer.Context,
    count: Annotated[
        int | None, typer.Option("--count", min=1, metavar="COUNT", help="So many lines; else until Ctrl-C.")
    ] = None,
) -> None:
    """Show what the fleet moves now, one line a second; with -v each worker's transfer too.

    Rates are those between the last two reports of each worker. MOVED, DONE and FAILED count since the
    first line.

    JSON: a line a second {at_ms, link, running, gbit_s, bytes_moved, done, failed, workers: [{transfer_id,
    model_name, worker_id, worker_rank, state, bytes_done, bytes_total, gbit_s}]}.
    """
    run = invocation_of(ctx)
    with suppress(KeyboardInterrupt):
        with_client(ctx, lambda client: _top(run, client, count))


async def _top(
    run: Invocation, client: Client, count: int | None, *, clock: Callable[[], float] = time.monotonic
) -> None:
    meter = Meter()

    def told(update: FeedUpdate, fleet: Fleet) -> None:
        meter.take(fleet, now_s=clock())

    async def tell(link: Link) -> None:
        await link.first()
        told_lines, due_s = 0, clock()
        while count is None or told_lines < count:
            due_s = max(due_s + 1.0, clock())
            await asyncio.sleep(due_s - clock())
            _tell(run, meter.line(now_s=clock()), link.fleet, number=told_lines)
            told_lines += 1
            if link.ended:
                return

    await linked(client, tell, told=told)


def _tell(run: Invocation, line: TopLine, fleet: Fleet, *, number: int) -> None:
    if run.out.is_json:
        run.out.record(line_document(line, fleet))
        return
    if number % _HEADER_EVERY == 0:
        run.out.line(f"{'TIME':<8}  {'RUNNING':>7}  {'GBIT/S':>8}  {'MOVED':>9}  {'DONE':>6}  {'FAILED':>6}")
    at = time.strftime("%H:%M:%S", time.localtime(fleet.now_ms / 1000))
    numbers = f"{line.running:>7}  {_gbit(line.rate):>8.1f}  {format_size(line.bytes_moved):>9}"
    lost = f"  {link_words(fleet.lost)}" if fleet.lost is not None else ""
    run.out.line(f"{at:<8}  {numbers}  {line.done:>6}  {line.failed:>6}{lost}")
    if run.verbosity:
        for one in line.workers:
            run.out.line(f"  {_worker(one)}")


def _worker(one: WorkerRate) -> str:
    report = one.report
    part = f"{100 * report.bytes_done // report.bytes_total:>3} %" if report.bytes_total else "  - %"
    where = f"{report.worker_id} rank {report.worker_rank}"
    return f"{_gbit(one.rate):>8.1f} Gbit/s  {part}  {report.state.value:<7}  {where}  {report.model_name}"


def line_document(line: TopLine, fleet: Fleet) -> dict[str, object]:
    return {
        "at_ms": fleet.now_ms,
        "link": "up" if fleet.lost is None else "lost",
        "running": line.running,
        "gbit_s": _gbit(line.rate),
        "bytes_moved": line.bytes_moved,
        "done": line.done,
        "failed": line.failed,
        "workers": [
            {
                "transfer_id": one.report.transfer_id,
                "model_name": one.report.model_name,
                "worker_id": one.report.worker_id,
                "worker_rank": one.report.worker_rank,
                "state": one.report.state.value,
                "bytes_done": one.report.bytes_done,
                "bytes_total": one.report.bytes_total,
                "gbit_s": _gbit(one.rate),
            }
            for one in line.workers
        ],
    }


def _gbit(rate: float) -> float:
    return rate * 8 / 1e9
