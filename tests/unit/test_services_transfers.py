"""Transfers as reported: in place while running, bounded when done, failed when silent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mx.core.transfer import Strategy, TransferReport, TransferState
from mx.services.transfers import FINISHED_KEPT, NO_NEWS, RUNNING_KEPT, TransfersService
from mx.testing.clock import FakeClock

RUNNING, DONE, FAILED = TransferState.RUNNING, TransferState.DONE, TransferState.FAILED


def report(transfer_id: str = "t0", state: TransferState = RUNNING, *, bytes_done: int = 0) -> TransferReport:
    return TransferReport(
        transfer_id=transfer_id,
        model_name="org/m",
        source_id="0" * 16,
        worker_id="w0",
        worker_rank=0,
        strategy=Strategy.PEER,
        state=state,
        bytes_total=100,
        bytes_done=bytes_done,
        verified=False,
        started_at_ms=1,
        seconds=1.0,
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def service(clock: FakeClock) -> TransfersService:
    return TransfersService(clock)


def ids(service: TransfersService, limit: int = 0) -> list[str]:
    return [one.transfer_id for one in service.recent(limit)]


def test_nothing_reported_is_an_empty_list(service: TransfersService) -> None:
    assert service.recent() == ()


def test_a_running_transfer_is_replaced_in_place(service: TransfersService) -> None:
    service.record(report("a"))
    service.record(report("b"))
    service.record(report("a", bytes_done=50))
    assert service.recent() == (report("b"), report("a", bytes_done=50))
    service.record(report("a", DONE, bytes_done=100))
    assert service.recent() == (report("b"), report("a", DONE, bytes_done=100))


def test_the_limit_takes_the_newest(service: TransfersService) -> None:
    for number in range(5):
        service.record(report(f"t{number}", DONE if number % 2 else RUNNING))
    assert ids(service, 2) == ["t4", "t3"]
    assert ids(service) == ["t4", "t3", "t2", "t1", "t0"]


@pytest.mark.parametrize("final", [DONE, FAILED])
def test_late_running_news_does_not_undo_the_end(service: TransfersService, final: TransferState) -> None:
    service.record(report(state=final))
    service.record(report(bytes_done=50))
    assert service.recent() == (report(state=final),)
    service.record(report(state=final, bytes_done=100))
    assert service.recent() == (report(state=final, bytes_done=100),)


def test_silence_shows_as_failed_until_there_is_news(service: TransfersService, clock: FakeClock) -> None:
    service.record(report())
    clock.advance(60)
    assert service.recent() == (report(),)
    clock.advance(0.001)
    assert service.recent() == (replace(report(), state=FAILED, reason=NO_NEWS),)
    service.record(report(bytes_done=50))
    assert service.recent() == (report(bytes_done=50),)
    service.record(report(state=DONE))
    clock.advance(1000)
    assert service.recent() == (report(state=DONE),)


def test_only_so_many_finished_ones_are_kept(service: TransfersService) -> None:
    service.record(report("running"))
    for number in range(FINISHED_KEPT + 5):
        service.record(report(f"t{number}", DONE))
    kept = ids(service)
    assert len(kept) == FINISHED_KEPT + 1
    assert kept[0] == f"t{FINISHED_KEPT + 4}"
    assert kept[-2:] == ["t5", "running"]


def test_a_flood_of_running_ones_drops_the_longest_silent(service: TransfersService) -> None:
    service.record(report("first"))
    service.record(report("second"))
    service.record(report("first", bytes_done=1))
    for number in range(RUNNING_KEPT - 1):
        service.record(report(f"t{number}"))
    kept = ids(service)
    assert len(kept) == RUNNING_KEPT
    assert "second" not in kept
    assert kept[-1] == "first"
