"""Duties in this process, where nobody else could take them: for tests, demos and a server alone."""

from __future__ import annotations

from mx.errors import UnavailableError


class MemoryDuties:
    """``mx.ports.Duties`` over a dictionary."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[str, int]] = {}  # owner, end of the lease
        self._closed = False

    async def take(self, duty: str, *, owner: str, lease_s: float, now_ms: int) -> bool:
        self._require_open()
        holder, until_ms = self.held.get(duty, (owner, 0))
        if holder != owner and until_ms > now_ms:
            return False
        self.held[duty] = (owner, now_ms + round(lease_s * 1000))
        return True

    async def give_up(self, duty: str, *, owner: str) -> None:
        self._require_open()
        if self.held.get(duty, ("", 0))[0] == owner:
            del self.held[duty]

    async def close(self) -> None:
        self._closed = True

    def _require_open(self) -> None:
        if self._closed:
            raise UnavailableError("the memory store is closed")
