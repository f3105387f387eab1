"""Numbers of a load on their way to the server: often while it runs, once more when it is over.

A thread of its own sends them, so that a slow or dead server never slows a pull.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from mx.core.source import WorkerKey
from mx.core.transfer import Strategy, TransferReport, TransferState
from mx.errors import MxError
from mx.transfer.book import FetchResult, Progress
from mx.transfer.outcome import LocalTensors

log = logging.getLogger(__name__)

# At most two updates a second while a load runs.
PERIOD_S = 0.5
# Tries for the last report, which the others only anticipate.
FINAL_TRIES = 3
# Last reports that wait for a slow server; the oldest goes first.
FINAL_KEPT = 16


class ReportSink(Protocol):
    """The part of a client that takes reports."""

    def report_transfer(self, report: TransferReport) -> None: ...


class Reporter:
    """Sends every last report in order, and of a running load the newest one."""

    def __init__(self, sink: ReportSink) -> None:
        self._sink = sink
        self._wake = threading.Condition()
        self._final: deque[TransferReport] = deque(maxlen=FINAL_KEPT)
        self._running: TransferReport | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="mx-reporter", daemon=True)
        self._thread.start()

    def send(self, report: TransferReport) -> None:
        """Queue a report. A finished one is sent at once."""
        with self._wake:
            if report.state is TransferState.RUNNING:
                self._running = report
            else:
                self._final.append(report)
                if self._running is not None and self._running.transfer_id == report.transfer_id:
                    self._running = None  # it would tell that a load runs which is over
            self._wake.notify_all()

    def close(self, *, timeout_s: float) -> None:
        """Let what is queued out, for at most ``timeout_s``."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._final or self._running or self._closed)
                report = self._take()
                if report is None:
                    return
            self._deliver(report)
            if report.state is TransferState.RUNNING:
                with self._wake:
                    self._wake.wait_for(lambda: self._final or self._closed, timeout=PERIOD_S)

    def _take(self) -> TransferReport | None:
        if self._final:
            return self._final.popleft()
        report, self._running = self._running, None
        return report

    def _deliver(self, report: TransferReport) -> None:
        for _ in range(FINAL_TRIES if report.state is not TransferState.RUNNING else 1):
            try:
                self._sink.report_transfer(report)
                return
            except MxError as error:
                log.debug("report not delivered", extra={"fields": {"error": error.message}})


class Load:
    """One load of one rank since its construction, told as reports."""

    def __init__(self, key: WorkerKey, model_name: str, local: LocalTensors, nonce: str) -> None:
        """``nonce`` differs for every process."""
        self.local = local
        self._key = key
        self._model_name = model_name
        self._started_s = time.monotonic()
        self._started_ms = time.time_ns() // 1_000_000
        self._id = f"{nonce}-{self._started_ms:x}"

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started_s

    def running(self, progress: Progress, stages_s: Mapping[str, float]) -> TransferReport:
        """A pull under way; ``stages_s`` are those that came before its plan."""
        stages = {**stages_s, "plan": progress.plan_s}
        if progress.read_s:
            stages["read"] = progress.read_s
        return replace(
            self._report(),
            bytes_total=progress.bytes_total,
            bytes_done=progress.bytes_done,
            stages_s=stages,
            sources=progress.shares,
            segments=progress.segments,
            segments_reread=progress.rereads,
        )

    def finished(self, result: FetchResult, stages_s: Mapping[str, float]) -> TransferReport:
        """The end of a pull that was complete; whoever knows that it failed says so with ``replace``."""
        return replace(
            self._report(),
            state=TransferState.DONE,
            bytes_done=result.bytes_done,
            verified=result.verified,
            stages_s=stages_s,
            sources=result.shares,
            segments=result.segments,
            segments_reread=result.rereads,
            verify_cpu_s=result.verify_cpu_s,
        )

    def _report(self) -> TransferReport:
        return TransferReport(
            transfer_id=self._id,
            model_name=self._model_name,
            source_id=self._key.source_id,
            worker_id=self._key.worker_id,
            worker_rank=self._key.worker_rank,
            strategy=Strategy.PEER,
            state=TransferState.RUNNING,
            bytes_total=self.local.total_bytes,
            bytes_done=0,
            verified=False,
            started_at_ms=self._started_ms,
            seconds=self.seconds,
            tensors=len(self.local.descriptors),
        )


def files_report(
    key: WorkerKey, model_name: str, strategy: Strategy, *, bytes_total: int, seconds: float, reason: str
) -> TransferReport:
    """A load from files that took ``seconds`` until now, and why no peer did it."""
    return TransferReport(
        transfer_id=secrets.token_hex(8),
        model_name=model_name,
        source_id=key.source_id,
        worker_id=key.worker_id,
        worker_rank=key.worker_rank,
        strategy=strategy,
        state=TransferState.DONE,
        bytes_total=bytes_total,
        bytes_done=bytes_total,
        verified=False,
        started_at_ms=time.time_ns() // 1_000_000 - int(seconds * 1000),
        seconds=seconds,
        reason=reason,
    )


def summary(report: TransferReport) -> dict[str, object]:
    """The one line that a load leaves in the log."""
    return {
        "model": report.model_name,
        "strategy": report.strategy.value,
        "bytes": report.bytes_done,
        "seconds": round(report.seconds, 3),
        "gbit_s": round(report.gbit_s, 1),
        "verified": report.verified,
        "segments": report.segments,
        "reread": report.segments_reread,
        "sources": ",".join(share.worker_id for share in report.sources if share.bytes),
    }
