"""A model store that can be made unreachable, for everything that has to live through an outage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from mx.core.eviction import EvictionRun
from mx.core.model import Claim, EntryKey, EntryStatus, ModelRecord, Pin, ProviderName, ReadLease
from mx.core.transitions import ClaimResult
from mx.errors import UnavailableError
from mx.ports import ModelStore


class OutageModelStore:
    """``mx.ports.ModelStore`` in front of another one. While ``down``, every call is refused.

    ``refused`` counts the calls that failed, so that a test can wait until somebody tried.
    """

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self.down = False
        self.refused = 0

    async def claim(
        self,
        key: EntryKey,
        *,
        owner: str,
        lease_s: float,
        now_ms: int,
        force: bool = False,
        requested_revision: str = "",
    ) -> ClaimResult:
        return await self._up().claim(
            key,
            owner=owner,
            lease_s=lease_s,
            now_ms=now_ms,
            force=force,
            requested_revision=requested_revision,
        )

    async def refresh(
        self,
        key: EntryKey,
        claim: Claim,
        *,
        lease_s: float,
        now_ms: int,
        bytes_done: int,
        bytes_total: int,
        files: int,
    ) -> Claim | None:
        return await self._up().refresh(
            key,
            claim,
            lease_s=lease_s,
            now_ms=now_ms,
            bytes_done=bytes_done,
            bytes_total=bytes_total,
            files=files,
        )

    async def finish(
        self,
        key: EntryKey,
        claim: Claim,
        *,
        status: EntryStatus,
        message: str,
        bytes_on_disk: int,
        files: int,
        retry_at_ms: int,
        now_ms: int,
    ) -> bool:
        return await self._up().finish(
            key,
            claim,
            status=status,
            message=message,
            bytes_on_disk=bytes_on_disk,
            files=files,
            retry_at_ms=retry_at_ms,
            now_ms=now_ms,
        )

    async def release(self, key: EntryKey, claim: Claim, *, now_ms: int) -> bool:
        return await self._up().release(key, claim, now_ms=now_ms)

    async def touch(self, keys: Sequence[EntryKey], *, now_ms: int) -> None:
        await self._up().touch(keys, now_ms=now_ms)

    async def get(self, key: EntryKey) -> ModelRecord | None:
        return await self._up().get(key)

    async def list_models(
        self, *, provider: ProviderName | None = None, name: str | None = None
    ) -> tuple[ModelRecord, ...]:
        return await self._up().list_models(provider=provider, name=name)

    async def put(self, record: ModelRecord, *, observed: ModelRecord | None = None) -> bool:
        return await self._up().put(record, observed=observed)

    async def mark_evicting(
        self,
        key: EntryKey,
        *,
        observed: ModelRecord,
        now_ms: int,
        owner: str = "eviction",
        lease_s: float = 60.0,
    ) -> Claim | None:
        return await self._up().mark_evicting(
            key, observed=observed, now_ms=now_ms, owner=owner, lease_s=lease_s
        )

    async def delete(
        self, key: EntryKey, *, token: int | None = None, observed: ModelRecord | None = None
    ) -> bool:
        return await self._up().delete(key, token=token, observed=observed)

    async def pin(self, key: EntryKey, pin: Pin | None) -> bool:
        return await self._up().pin(key, pin)

    async def lease(self, key: EntryKey, lease: ReadLease, *, now_ms: int) -> bool:
        return await self._up().lease(key, lease, now_ms=now_ms)

    async def unlease(self, key: EntryKey, lease_id: str) -> None:
        await self._up().unlease(key, lease_id)

    async def record_eviction(self, run: EvictionRun) -> None:
        await self._up().record_eviction(run)

    async def eviction_runs(self, *, limit: int) -> tuple[EvictionRun, ...]:
        return await self._up().eviction_runs(limit=limit)

    async def watch(self, tell: Callable[[EntryKey | None], None]) -> NoReturn:
        await self._store.watch(tell)

    async def check(self) -> None:
        await self._up().check()

    async def close(self) -> None:
        await self._store.close()

    def _up(self) -> ModelStore:
        if self.down:
            self.refused += 1
            raise UnavailableError("the store is down", remedy="wait until it is back")
        return self._store
