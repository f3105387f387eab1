"""Records for the time of one command, where no file can keep them: found anew on the disk each time."""

from __future__ import annotations

from mx.core.model import Claim, EntryKey, ModelRecord, Pin
from mx.errors import ConflictError, PreconditionError
from mx.store.memory_models import MemoryModelStore


class PassingModelStore(MemoryModelStore):
    """``mx.ports.ModelStore`` that refuses what would be forgotten, or what others may forbid.

    ``why`` says why records can't be kept; PreconditionError for a pin. ``owner`` names another store
    that has the true records, which may hold pins and readers: ConflictError for a removal.
    """

    def __init__(self, *, why: str = "", owner: str = "", remedy: str = "") -> None:
        super().__init__()
        self._why = why
        self._owner = owner
        self._remedy = remedy

    async def pin(self, key: EntryKey, pin: Pin | None) -> bool:
        self._require_ours(key)
        raise PreconditionError(f"{key} can't be pinned: {self._why}", remedy=self._remedy)

    async def mark_evicting(
        self,
        key: EntryKey,
        *,
        observed: ModelRecord,
        now_ms: int,
        owner: str = "eviction",
        lease_s: float = 60.0,
    ) -> Claim | None:
        self._require_ours(key)
        return await super().mark_evicting(
            key, observed=observed, now_ms=now_ms, owner=owner, lease_s=lease_s
        )

    def _require_ours(self, key: EntryKey) -> None:
        if self._owner:
            raise ConflictError(
                f"{key} belongs to a cache whose records are elsewhere: {self._owner}", remedy=self._remedy
            )
