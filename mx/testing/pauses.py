"""Pauses between attempts that cost no time, and can be looked at."""

from __future__ import annotations

import asyncio

from mx.providers.retry import RetryRule

# Four attempts, and pauses that are known beforehand: 1, 2, 4 s.
FOUR_ATTEMPTS = RetryRule(attempts=4, first_pause_s=1.0, jitter=lambda: 0.5)


class Pauses:
    """Sleeps no time, and remembers for how long."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, pause_s: float) -> None:
        self.taken.append(pause_s)
        await asyncio.sleep(0)
