"""The ordered ways to get weights into a model, and what becomes of the model between them.

A step answers Loaded, Skipped or Failed. After a step that may have written into the model
(``mutated``), and after one that raised what it should have answered, the model is built anew
before the next step: half a pull is never served. The last step's error is the caller's error.
Knows no engine, no torch and no network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, assert_never

from mx.core.transfer import Strategy, TransferReport
from mx.errors import InternalError, MxError
from mx.transfer.outcome import Failed, Loaded, Outcome, Skipped

log = logging.getLogger(__name__)

ModelT = TypeVar("ModelT")


@dataclass(frozen=True, slots=True)
class LoadStep(Generic[ModelT]):
    """One way to load. ``run`` fills the model it is given, in place."""

    strategy: Strategy
    run: Callable[[ModelT], Outcome]


@dataclass(frozen=True, slots=True)
class PassedStep:
    """A step that did not deliver, and why."""

    strategy: Strategy
    reason: str


@dataclass(frozen=True, slots=True)
class ChainResult(Generic[ModelT]):
    """The filled model, who filled it, and why the steps before did not. ``rebuilds`` counts new builds."""

    model: ModelT
    strategy: Strategy
    report: TransferReport
    passed: tuple[PassedStep, ...]
    rebuilds: int


def run_chain(
    model: ModelT, steps: Sequence[LoadStep[ModelT]], *, rebuild: Callable[[ModelT], ModelT]
) -> ChainResult[ModelT]:
    """Try ``steps`` in order until one answers Loaded.

    ``rebuild`` gets the spoiled model, so that it can free it, and returns an untouched one.
    Raises what the last step raised, or an MxError when the last step did not deliver.
    """
    passed: list[PassedStep] = []
    rebuilds = 0
    for position, step in enumerate(steps):
        last = position == len(steps) - 1
        outcome = _attempt(step, model, last=last)
        match outcome:
            case Loaded(report=report):
                return ChainResult(model, step.strategy, report, tuple(passed), rebuilds)
            case Skipped(reason=reason):
                passed.append(PassedStep(step.strategy, reason))
            case Failed(reason=reason, mutated=mutated):
                passed.append(PassedStep(step.strategy, reason))
                if mutated and not last:
                    log.warning(
                        "%s failed and may have written into the model: building it again", step.strategy
                    )
                    model = rebuild(model)
                    rebuilds += 1
            case _:
                assert_never(outcome)
    raise InternalError(f"no way left to load the weights: {explain(passed) or 'there are no steps'}")


def _attempt(step: LoadStep[ModelT], model: ModelT, *, last: bool) -> Outcome:
    try:
        return step.run(model)
    except MxError as error:
        if last:
            raise
        return Failed(reason=str(error), mutated=True, blame="local")
    except Exception as error:
        if last:
            raise
        log.warning("%s ended with an unexpected error", step.strategy, exc_info=True)
        return Failed(reason=f"{type(error).__name__}: {error}", mutated=True, blame="local")


def explain(passed: Sequence[PassedStep]) -> str:
    """One line: why each earlier step did not deliver."""
    return "; ".join(f"{step.strategy}: {step.reason}" for step in passed)


def summary(result: ChainResult[ModelT]) -> str:
    """One line for the log: strategy, bytes, seconds, rate, from whom, and why not otherwise."""
    report = result.report
    parts = [
        f"weights of {report.model_name} rank {report.worker_rank} from {result.strategy}:",
        f"{report.bytes_done / 2**20:.1f} MiB in {report.seconds:.2f} s",
    ]
    if result.strategy is Strategy.PEER:
        parts.append(f"({report.gbit_s:.1f} Gbit/s, {'verified' if report.verified else 'not verified'})")
        givers = [f"{share.worker_id} at {share.endpoint}" for share in report.sources if share.bytes]
        if givers:
            parts.append(f"from {', '.join(givers)}")
    if result.passed:
        parts.append(f"[{explain(result.passed)}]")
    return " ".join(parts)
