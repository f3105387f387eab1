"""Numbers of a load on their way to the server: often while it runs, once more when it is over.

A thread of its own sends them, so that a slow or dead server never slows a pull.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from mx.core.transfer import TransferReport, TransferState
from mx.errors import MxError

log = logging.getLogger(__name__)

# At most two updates a second while a load runs.
PERIOD_S = 0.5
# Tries for the last report, which the others only anticipate.
FINAL_TRIES = 3


class ReportSink(Protocol):
    """The part of a client that takes reports."""

    def report_transfer(self, report: TransferReport) -> None: ...


class Reporter:
    """Sends the newest report; older ones that were not sent yet are left out."""

    def __init__(self, sink: ReportSink) -> None:
        self._sink = sink
        self._wake = threading.Condition()
        self._next: TransferReport | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="mx-reporter", daemon=True)
        self._thread.start()

    def send(self, report: TransferReport) -> None:
        """Queue a report. A finished one is sent at once."""
        with self._wake:
            self._next = report
            self._wake.notify_all()

    def close(self, *, timeout_s: float) -> None:
        """Let the last report out, for at most ``timeout_s``."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._next is not None or self._closed)
                report, self._next = self._next, None
                if report is None:
                    return
            self._deliver(report)
            if report.state is TransferState.RUNNING:
                with self._wake:
                    self._wake.wait_for(self._urgent, timeout=PERIOD_S)

    def _urgent(self) -> bool:
        return self._closed or (self._next is not None and self._next.state is not TransferState.RUNNING)

    def _deliver(self, report: TransferReport) -> None:
        for _ in range(FINAL_TRIES if report.state is not TransferState.RUNNING else 1):
            try:
                self._sink.report_transfer(report)
                return
            except MxError as error:
                log.debug("report not delivered", extra={"fields": {"error": error.message}})
