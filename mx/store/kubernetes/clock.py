"""The clock of the API server, told by what it stamps on its answers.

Several servers write times into the same records, and their clocks may differ by an hour, or be set
while they run. All of them therefore tell the time of the API server.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final

from mx.ports import Clock

# ``Date`` has no fractions, and small differences are no reason to move the time.
_TOLERANCE_MS: Final = 2_000


class ClusterClock:
    """``mx.ports.Clock``, carried on by the monotonic clock and never going back.

    It starts with the machine's time, and moves when an answer shows a difference of more than 2 s.
    """

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self._ahead_ms = machine.now_ms() - self.elapsed_ms()  # of the monotonic clock
        self._last_ms = 0

    def now_ms(self) -> int:
        self._last_ms = max(self._last_ms, self.elapsed_ms() + self._ahead_ms)
        return self._last_ms

    def monotonic_s(self) -> float:
        return self._machine.monotonic_s()

    def elapsed_ms(self) -> int:
        return round(self._machine.monotonic_s() * 1000)

    def learn(self, date: str | None, *, sent_ms: int, received_ms: int) -> None:
        """From the ``Date`` of an answer that was stamped between two moments, in ``elapsed_ms``."""
        try:
            stamped_ms = round(parsedate_to_datetime(date or "").timestamp() * 1000)
        except (ValueError, OverflowError):
            return
        least, most = stamped_ms - received_ms, stamped_ms + 1_000 - sent_ms
        if not least - _TOLERANCE_MS <= self._ahead_ms <= most + _TOLERANCE_MS:
            self._ahead_ms = (least + most) // 2
