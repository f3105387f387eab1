"""When the claims of others expire: judged by what we see, not by what their clocks wrote.

A claim whose id and lease stayed as they are for the length of the lease, by our own monotonic clock,
is over. A claim that we made ourselves expires when we said it would.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from mx.ports import Clock

PUBLISHED_LEASE_S: Final = 30.0
# Below this, wall and monotonic clock tell the same; what was answered before stays as it was.
_STEP_MS: Final = 2_000


@dataclass(slots=True)
class _Seen:
    claim_id: str
    lease: str
    since_s: float
    length_s: float
    expires_at_ms: int
    ours: bool


class ClaimWatch:
    """What was last seen of the claim of each record. Times are the caller's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[Hashable, _Seen] = {}

    def made(self, key: Hashable, claim_id: str, lease: str, *, expires_at_ms: int) -> None:
        """We are about to write this."""
        self._seen[key] = _Seen(claim_id, lease, 0.0, 0.0, expires_at_ms, ours=True)

    def forget(self, key: Hashable) -> None:
        self._seen.pop(key, None)

    def expires_at_ms(self, key: Hashable, claim_id: str, lease: str, *, length_s: float) -> int:
        """When the claim ends, by the caller's clock; the past where it has ended."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        seen = self._seen.get(key)
        if seen is None or (seen.claim_id, seen.lease) != (claim_id, lease):
            seen = _Seen(claim_id, lease, now_s, length_s, now_ms + round(length_s * 1000), ours=False)
            self._seen[key] = seen
        elif not seen.ours:
            left_ms = round((seen.since_s + seen.length_s - now_s) * 1000)
            if abs(now_ms + left_ms - seen.expires_at_ms) > _STEP_MS:  # the wall clock was set
                seen.expires_at_ms = now_ms + left_ms
        return seen.expires_at_ms
