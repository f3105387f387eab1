"""Reports on their way to the server: the newest of a running load, and every one that is final."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from mx.core.source import WorkerKey
from mx.core.transfer import Strategy, TransferReport, TransferState
from mx.errors import UnavailableError
from mx.transfer.report import FINAL_KEPT, FINAL_TRIES, Reporter, files_report

DONE = files_report(
    WorkerKey("source", "worker", 0),
    "org/model",
    Strategy.DISK,
    bytes_total=100,
    seconds=1.0,
    reason="no peer",
)
RUNNING = replace(DONE, transfer_id="running", state=TransferState.RUNNING, bytes_done=0)


class Sink:
    """A server that answers when a test lets it."""

    def __init__(self) -> None:
        self.taken: list[TransferReport] = []
        self.calls = 0
        self.waiting = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.down = False

    def report_transfer(self, report: TransferReport) -> None:
        self.calls += 1
        self.waiting.set()
        assert self.go.wait(20)
        if self.down:
            raise UnavailableError("can't reach the server")
        self.taken.append(report)

    @property
    def ids(self) -> list[str]:
        return [report.transfer_id for report in self.taken]


def until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.005)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def reporter(sink: Sink) -> Iterator[Reporter]:
    reporter = Reporter(sink)
    yield reporter
    sink.go.set()
    reporter.close(timeout_s=5)


def busy(sink: Sink, reporter: Reporter) -> None:
    """The thread hangs in a call from here on, until ``sink.go``."""
    sink.go.clear()
    sink.waiting.clear()
    reporter.send(replace(RUNNING, transfer_id="slow"))
    assert sink.waiting.wait(10)


def test_a_final_report_is_not_lost_to_the_next_load(sink: Sink, reporter: Reporter) -> None:
    """A pull that failed is followed by a load from disk at once, and the server is slow."""
    busy(sink, reporter)
    reporter.send(replace(DONE, transfer_id="pull", state=TransferState.FAILED))
    reporter.send(replace(RUNNING, transfer_id="next"))
    reporter.send(replace(DONE, transfer_id="disk"))
    sink.go.set()
    until(lambda: "disk" in sink.ids and "pull" in sink.ids)
    assert [name for name in sink.ids if name in ("pull", "disk")] == ["pull", "disk"]


def test_of_a_running_load_the_newest_report_is_enough(sink: Sink, reporter: Reporter) -> None:
    busy(sink, reporter)
    for done in range(50):
        reporter.send(replace(RUNNING, bytes_done=done))
    sink.go.set()
    until(lambda: len(sink.taken) >= 2)
    assert [report.bytes_done for report in sink.taken[1:2]] == [49]


def test_what_runs_is_never_told_after_its_end(sink: Sink, reporter: Reporter) -> None:
    busy(sink, reporter)
    reporter.send(replace(RUNNING, transfer_id="load", bytes_done=7))
    reporter.send(replace(DONE, transfer_id="load"))
    sink.go.set()
    reporter.close(timeout_s=5)
    assert [report.state for report in sink.taken if report.transfer_id == "load"] == [TransferState.DONE]


def test_a_final_report_does_not_wait_for_the_pause_of_a_running_one(sink: Sink, reporter: Reporter) -> None:
    reporter.send(RUNNING)
    until(lambda: len(sink.taken) == 1)
    began = time.monotonic()
    reporter.send(DONE)
    until(lambda: len(sink.taken) == 2)
    assert time.monotonic() - began < 0.4


def test_closing_lets_every_final_report_out(sink: Sink, reporter: Reporter) -> None:
    busy(sink, reporter)
    for number in range(5):
        reporter.send(replace(DONE, transfer_id=f"load {number}"))
    sink.go.set()
    reporter.close(timeout_s=5)
    assert sink.ids == ["slow", *(f"load {number}" for number in range(5))]


def test_a_server_that_is_away_for_long_costs_no_more_than_a_few_reports(
    sink: Sink, reporter: Reporter
) -> None:
    busy(sink, reporter)
    for number in range(2 * FINAL_KEPT):
        reporter.send(replace(DONE, transfer_id=f"load {number}"))
    sink.go.set()
    reporter.close(timeout_s=5)
    assert sink.ids[1:] == [f"load {number}" for number in range(FINAL_KEPT, 2 * FINAL_KEPT)], "the newest"


def test_a_final_report_is_tried_a_few_times_and_a_running_one_once(sink: Sink, reporter: Reporter) -> None:
    sink.down = True
    reporter.send(DONE)
    until(lambda: sink.calls == FINAL_TRIES)
    reporter.send(RUNNING)
    reporter.close(timeout_s=5)
    assert sink.calls == FINAL_TRIES + 1
    assert sink.taken == []
