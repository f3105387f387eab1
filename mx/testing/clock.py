"""A clock that moves when told to."""

from __future__ import annotations


class FakeClock:
    """``mx.ports.Clock``. Both times advance together; ``set_back`` moves the wall clock only."""

    def __init__(self, *, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._monotonic_ms = 0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_s(self) -> float:
        return self._monotonic_ms / 1000

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("time does not go back; set_back is for the wall clock")
        self._now_ms += round(seconds * 1000)
        self._monotonic_ms += round(seconds * 1000)

    def set_back(self, seconds: float) -> None:
        self._now_ms -= round(seconds * 1000)
