"""When a failed attempt is made again: a pure rule, and the loop that waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from mx.errors import MxError

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RetryRule:
    """``attempts`` in a row without progress, the pause doubling from ``first_pause_s``.

    A provider that names its own pause is obeyed up to ``asked_max_s``; one that asks for longer
    is given up at once. ``jitter`` answers 0 to 1.
    """

    attempts: int = 8
    first_pause_s: float = 1.0
    pause_max_s: float = 30.0
    # The hub counts requests in windows of five minutes.
    asked_max_s: float = 310.0
    jitter: Callable[[], float] = random.random


# Somebody waits for the answer, so about 7 s of pauses where downloads take 90 s.
METADATA_CALLS = RetryRule(attempts=4)
DOWNLOADS = RetryRule()


class TransientError(Exception):
    """An attempt failed in a way that may pass. Never leaves this package: ``error`` does."""

    def __init__(self, error: MxError, *, after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = after_s


class Attempts:
    """The attempts of one call."""

    def __init__(self, rule: RetryRule) -> None:
        self._rule = rule
        self._failed = 0

    def progressed(self) -> None:
        """What failed before no longer counts."""
        self._failed = 0

    def pause_s(self, failure: TransientError) -> float:
        """How long to wait before the next attempt; raises the failure's error when there is none."""
        rule = self._rule
        self._failed += 1
        if self._failed >= rule.attempts or (failure.after_s or 0.0) > rule.asked_max_s:
            raise failure.error from None
        pause_s = min(rule.pause_max_s, rule.first_pause_s * 2.0 ** (self._failed - 1))
        # Everybody who met the same failure must not come back in the same instant, nor too early.
        if failure.after_s is not None:
            return failure.after_s + rule.jitter() * min(1.0, rule.first_pause_s)
        return pause_s * (0.5 + rule.jitter())


async def with_retries(
    attempt: Callable[[], Awaitable[T]], *, rule: RetryRule, sleep: Sleep = asyncio.sleep
) -> T:
    """The answer of the first attempt that gives one."""
    attempts = Attempts(rule)
    while True:
        try:
            return await attempt()
        except TransientError as failure:
            pause_s = attempts.pause_s(failure)
        await sleep(pause_s)
