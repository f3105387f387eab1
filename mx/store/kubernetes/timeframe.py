"""The clock of the API server beside ours.

Several servers write times into the same records, and their clocks may differ by an hour. All times
in the cluster are therefore those of the API server; this turns a caller's time into them and back.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final

# ``Date`` has no fractions, and small differences are no reason to move every time that is read.
_TOLERANCE_MS: Final = 2_000


class Timeframe:
    """Learns the difference from the ``Date`` of every answer; 0 until clocks differ by more than 2 s."""

    def __init__(self) -> None:
        self.ahead_ms = 0  # the API server's clock, less ours

    def learn(self, date: str | None, *, sent_ms: int, received_ms: int) -> None:
        """From an answer that was stamped between the two moments of ours."""
        try:
            stamped_ms = round(parsedate_to_datetime(date or "").timestamp() * 1000)
        except (ValueError, OverflowError):
            return
        least, most = stamped_ms - received_ms, stamped_ms + 1_000 - sent_ms
        if not least - _TOLERANCE_MS <= self.ahead_ms <= most + _TOLERANCE_MS:
            middle = (least + most) // 2
            self.ahead_ms = middle if abs(middle) > _TOLERANCE_MS else 0

    def stored(self, ours_ms: int) -> int:
        """A caller's time as the cluster's."""
        return ours_ms + self.ahead_ms

    def ours(self, stored_ms: int) -> int:
        """A time of the cluster as the caller's."""
        return stored_ms - self.ahead_ms
