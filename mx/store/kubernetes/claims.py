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


class ClaimWatch:
    """What was last seen of the claim of each record. Times are the caller's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[Hashable, _Seen] = {}
        self._ours: dict[Hashable, dict[tuple[str, str], int]] = {}

    def writing(self, key: Hashable, claim_id: str, lease: str, *, expires_at_ms: int) -> None:
        """We are about to write this; several of our own may try at once."""
        self._ours.setdefault(key, {})[claim_id, lease] = expires_at_ms

    def wrote(self, key: Hashable, claim_id: str, lease: str, *, expires_at_ms: int) -> None:
        """It is there now; what was before is not."""
        self._ours[key] = {(claim_id, lease): expires_at_ms}

    def failed(self, key: Hashable, claim_id: str, lease: str) -> None:
        self._ours.get(key, {}).pop((claim_id, lease), None)

    def forget(self, key: Hashable) -> None:
        self._seen.pop(key, None)
        self._ours.pop(key, None)

    def expires_at_ms(self, key: Hashable, claim_id: str, lease: str, *, length_s: float) -> int:
        """When the claim ends, by the caller's clock; the past where it has ended."""
        if (ours := self._ours.get(key, {}).get((claim_id, lease))) is not None:
            return ours
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        seen = self._seen.get(key)
        if seen is None or (seen.claim_id, seen.lease) != (claim_id, lease):
            seen = _Seen(claim_id, lease, now_s, length_s, now_ms + round(length_s * 1000))
            self._seen[key] = seen
        else:
            left_ms = round((seen.since_s + seen.length_s - now_s) * 1000)
            if abs(now_ms + left_ms - seen.expires_at_ms) > _STEP_MS:  # the wall clock was set
                seen.expires_at_ms = now_ms + left_ms
        return seen.expires_at_ms
