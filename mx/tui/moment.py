"""What is painted now: columns look here, so that rows stay the very values that the feed told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo

from mx.core.fleet import NOTHING_TOLD, Fleet
from mx.core.units import format_age
from mx.tui.rates import Rates


@dataclass(slots=True)
class Moment:
    """``now_ms`` is the server's time; ``zone`` None: that of this machine."""

    fleet: Fleet = NOTHING_TOLD
    now_ms: int = 0
    rates: Rates = field(default_factory=Rates)
    zone: tzinfo | None = None

    def since_s(self, at_ms: int) -> float:
        return max(0.0, (self.now_ms - at_ms) / 1000)

    def ago(self, at_ms: int) -> str:
        return format_age(self.since_s(at_ms))

    def until(self, at_ms: int) -> str:
        return format_age((at_ms - self.now_ms) / 1000)

    def clock(self, at_ms: int) -> str:
        """As ``14:02:11``; with the day when it is not today's."""
        at, now = self._local(at_ms), self._local(self.now_ms)
        return at.strftime("%H:%M:%S" if at.date() == now.date() else "%m-%d %H:%M")

    def date(self, at_ms: int) -> str:
        return self._local(at_ms).strftime("%Y-%m-%d %H:%M:%S")

    def _local(self, at_ms: int) -> datetime:
        return datetime.fromtimestamp(at_ms / 1000, tz=UTC).astimezone(self.zone)


def gbit(rate: float) -> str:
    """A link rate, as ``358.2 Gbit/s``; what moves nothing is a dash."""
    if rate <= 0:
        return "-"
    return f"{rate:.1f} Gbit/s" if rate >= 0.05 else f"{rate * 1000:.1f} Mbit/s"
