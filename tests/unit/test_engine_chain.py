"""The load chain: order, rebuilds, reasons, and the line it leaves."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from mx.core.transfer import SourceShare, Strategy, TransferReport, TransferState
from mx.engines.chain import ChainResult, LoadStep, PassedStep, explain, run_chain, summary
from mx.errors import InternalError, UnavailableError
from mx.transfer.outcome import Failed, Loaded, Outcome, Skipped

REPORT = TransferReport(
    transfer_id="t",
    model_name="org/model",
    source_id="0" * 16,
    worker_id="me",
    worker_rank=3,
    strategy=Strategy.PEER,
    state=TransferState.DONE,
    bytes_total=100 << 20,
    bytes_done=100 << 20,
    verified=True,
    started_at_ms=0,
    seconds=2.0,
    stages_s=MappingProxyType({"read": 0.5}),
    sources=(
        SourceShare("giver", "10.0.0.1:7", 100 << 20, 1.0, 2, True),
        SourceShare("idle", "10.0.0.2:7", 0, 0.0, 0, True, dropped="too slow"),
    ),
)


class Model:
    """Counts who wrote into it; a rebuild makes a new one."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.dirty = False


def step(strategy: Strategy, outcome: Outcome | BaseException, *, writes: bool = False) -> LoadStep[Model]:
    def run(model: Model) -> Outcome:
        assert not model.dirty, "a step must never get a model that another one wrote into"
        model.dirty = model.dirty or writes
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return LoadStep(strategy, run)


def rebuild(spoiled: Model) -> Model:
    return Model(spoiled.number + 1)


def run(*steps: LoadStep[Model]) -> ChainResult[Model]:
    return run_chain(Model(), steps, rebuild=rebuild)


DISK = step(Strategy.DISK, Loaded(REPORT))


def test_the_first_step_that_delivers_ends_the_chain() -> None:
    never = step(Strategy.DISK, AssertionError("must not run"))
    result = run(step(Strategy.PEER, Loaded(REPORT), writes=True), never)
    assert (result.strategy, result.passed, result.rebuilds) == (Strategy.PEER, (), 0)
    assert result.report is REPORT


def test_a_skipped_step_costs_no_rebuild_and_leaves_its_reason() -> None:
    result = run(step(Strategy.PEER, Skipped("no mx server at localhost:8001")), DISK)
    assert result.strategy is Strategy.DISK
    assert result.model.number == 0
    assert result.passed == (PassedStep(Strategy.PEER, "no mx server at localhost:8001"),)


@pytest.mark.parametrize(("mutated", "builds"), [(False, 0), (True, 1)])
def test_only_a_step_that_may_have_written_costs_a_rebuild(mutated: bool, builds: int) -> None:
    failed = step(Strategy.PEER, Failed("source died", mutated=mutated, blame="source"), writes=mutated)
    result = run(failed, DISK)
    assert (result.model.number, result.rebuilds) == (builds, builds)
    assert not result.model.dirty


@pytest.mark.parametrize("error", [ValueError("odd"), UnavailableError("gone")])
def test_an_error_that_nobody_foresaw_counts_as_written(error: Exception) -> None:
    result = run(step(Strategy.PEER, error, writes=True), DISK)
    assert result.model.number == 1
    assert str(error) in result.passed[0].reason


def test_the_last_step_s_error_is_the_caller_s_error() -> None:
    error = ValueError("no such file")
    with pytest.raises(ValueError, match="no such file") as caught:
        run(step(Strategy.PEER, Skipped("none")), step(Strategy.DISK, error))
    assert caught.value is error


def test_a_last_step_that_declines_is_an_error_with_every_reason() -> None:
    with pytest.raises(InternalError, match="peer: none; disk: broken"):
        run(
            step(Strategy.PEER, Skipped("none")),
            step(Strategy.DISK, Failed("broken", mutated=True, blame="local")),
        )
    with pytest.raises(InternalError, match="there are no steps"):
        run()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_the_end_of_the_process_is_not_a_failed_step(error: BaseException) -> None:
    with pytest.raises(type(error)):
        run(step(Strategy.PEER, error), DISK)


def test_the_summary_says_from_whom_how_much_and_how_fast() -> None:
    line = summary(ChainResult(Model(), Strategy.PEER, REPORT, (), 0))
    assert line == (
        "weights of org/model rank 3 from peer: 100.0 MiB in 2.00 s (1.7 Gbit/s, verified) "
        "from giver at 10.0.0.1:7"
    )
    assert "not verified" in summary(
        ChainResult(Model(), Strategy.PEER, replace(REPORT, verified=False), (), 0)
    )


def test_the_summary_says_why_not_from_a_peer() -> None:
    passed = (PassedStep(Strategy.PEER, "no peer holds rank 3"),)
    line = summary(ChainResult(Model(), Strategy.DISK, replace(REPORT, sources=()), passed, 0))
    assert line == "weights of org/model rank 3 from disk: 100.0 MiB in 2.00 s [peer: no peer holds rank 3]"
    assert explain(passed) == "peer: no peer holds rank 3"
