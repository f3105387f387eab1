"""When a failed call is tried again: a pure rule; the drivers wait."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from mx.errors import DeadlineError, MxError, UnavailableError

_PAUSE_MAX_S = 5.0


@dataclass(frozen=True, slots=True)
class RetryRule:
    """``pauses_s`` between the attempts, and whether a deadline missed is worth another one.

    ``per_attempt``: the timeout holds for each attempt instead of for all together.
    """

    pauses_s: tuple[float, ...]
    on_deadline: bool = False
    per_attempt: bool = False


# Wire contract, section 4: what published workers do.
PUBLISH = RetryRule((1.0, 2.0), on_deadline=True, per_attempt=True)
ONCE = RetryRule(())


def usual(max_retries: int, delay_s: float) -> RetryRule:
    """``max_retries`` more attempts, the pause doubling from ``delay_s`` up to 5 s."""
    return RetryRule(tuple(min(_PAUSE_MAX_S, delay_s * 2**index) for index in range(max_retries)))


class Attempts:
    """One call's attempts. Times are seconds of a monotonic clock, given by the driver."""

    def __init__(
        self,
        rule: RetryRule,
        *,
        timeout_s: float,
        begin_s: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._rule = rule
        self._timeout_s = timeout_s
        self._end_s = begin_s + timeout_s
        self._jitter = jitter
        self._failed = 0

    def timeout_s(self, now_s: float) -> float:
        """For the next attempt."""
        return self._timeout_s if self._rule.per_attempt else max(self._end_s - now_s, 0.001)

    def pause_s(self, error: MxError, now_s: float) -> float | None:
        """How long to wait before another attempt; None when there is none."""
        retryable = isinstance(error, UnavailableError) or (
            self._rule.on_deadline and isinstance(error, DeadlineError)
        )
        if not retryable or self._failed >= len(self._rule.pauses_s):
            return None
        pause_s = self._rule.pauses_s[self._failed]
        self._failed += 1
        if self._rule.per_attempt:
            return pause_s
        # Workers that lost the same server must not come back in the same instant.
        pause_s *= 0.5 + self._jitter()
        return pause_s if now_s + pause_s < self._end_s else None
