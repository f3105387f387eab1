"""Time as Redis tells it: leases, freshness and last uses are judged by one clock on all servers."""

from __future__ import annotations

import time
from collections.abc import Callable


class RedisClock:
    """``mx.ports.Clock``. Between two answers of Redis it runs with this machine's monotonic clock,
    so a wall clock that is wrong here has no effect. ``now_ms`` never goes back.

    Not to be read before the first ``note``.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._offset_ms: float | None = None
        self._last_ms = 0

    @property
    def known(self) -> bool:
        return self._offset_ms is not None

    def now_ms(self) -> int:
        if self._offset_ms is None:
            raise AssertionError("the clock of Redis is read before Redis was asked")
        self._last_ms = max(self._last_ms, int(self._monotonic_s() * 1000 + self._offset_ms))
        return self._last_ms

    def monotonic_s(self) -> float:
        return self._monotonic_s()

    def note(self, told_ms: float, *, asked_s: float, heard_s: float) -> None:
        """Redis told this time between asking and hearing; an estimate that fits in between stays."""
        earliest, latest = told_ms - heard_s * 1000, told_ms - asked_s * 1000
        if self._offset_ms is None or not earliest <= self._offset_ms <= latest:
            self._offset_ms = (earliest + latest) / 2
