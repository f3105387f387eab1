"""Models in this process: the reference for every other store, and the store of tests and demos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

from mx.core import transitions
from mx.core.eviction import EvictionRun
from mx.core.model import Claim, EntryKey, EntryStatus, ModelRecord, Pin, ProviderName, ReadLease
from mx.core.transitions import ClaimResult, Free
from mx.errors import UnavailableError
from mx.ports import EVICTION_RUNS_KEPT
from mx.store.listing import model_order
from mx.store.watchers import Watchers


class MemoryModelStore:
    """``mx.ports.ModelStore`` over dictionaries. Gone with the process."""

    def __init__(self) -> None:
        self._records: dict[EntryKey, ModelRecord] = {}
        self._runs: dict[str, EvictionRun] = {}
        self._last_token = 0
        self._watchers: Watchers[EntryKey] = Watchers("the memory store is closed")
        self._closed = False

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
        record = self._find(key)
        standing = transitions.standing(record, now_ms=now_ms, force=force)
        if standing is not Free.FREE:
            return standing
        claim = self._new_claim(owner, lease_s, now_ms)
        won = transitions.claimed(key, record, claim, requested_revision=requested_revision, now_ms=now_ms)
        self._write(won.record)
        return won

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
        record = self._find(key)
        if record is None or not transitions.holds(record, claim):
            return None
        renewed = transitions.refreshed(
            record,
            claim,
            lease_s=lease_s,
            now_ms=now_ms,
            bytes_done=bytes_done,
            bytes_total=bytes_total,
            files=files,
        )
        self._write(renewed)
        return renewed.claim

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
        transitions.require_final(status)
        record = self._find(key)
        if record is None or not transitions.holds(record, claim):
            return False
        done = transitions.finished(
            record,
            status=status,
            message=message,
            bytes_on_disk=bytes_on_disk,
            files=files,
            retry_at_ms=retry_at_ms,
            now_ms=now_ms,
        )
        self._write(done)
        return True

    async def release(self, key: EntryKey, claim: Claim, *, now_ms: int) -> bool:
        record = self._find(key)
        if record is None or not transitions.holds(record, claim):
            return False
        self._write(transitions.released(record))
        return True

    async def touch(self, keys: Sequence[EntryKey], *, now_ms: int) -> None:
        for key in keys:
            if (record := self._find(key)) is not None:
                self._records[key] = transitions.touched(record, now_ms=now_ms)

    async def get(self, key: EntryKey) -> ModelRecord | None:
        return self._find(key)

    async def list_models(
        self, *, provider: ProviderName | None = None, name: str | None = None
    ) -> tuple[ModelRecord, ...]:
        self._require_open()
        found = [
            record
            for key, record in self._records.items()
            if provider in (None, key.provider) and name in (None, key.name)
        ]
        return tuple(sorted(found, key=lambda record: model_order(record.key)))

    async def put(self, record: ModelRecord, *, observed: ModelRecord | None = None) -> bool:
        written = transitions.reconciled(self._find(record.key), record, observed=observed)
        if written is None:
            return False
        self._write(written)
        return True

    async def mark_evicting(
        self,
        key: EntryKey,
        *,
        observed: ModelRecord,
        now_ms: int,
        owner: str = "eviction",
        lease_s: float = 60.0,
    ) -> Claim | None:
        record = self._find(key)
        if record is None or not transitions.may_evict(record, observed, now_ms=now_ms):
            return None
        claim = self._new_claim(owner, lease_s, now_ms)
        self._write(transitions.evicting(record, claim))
        return claim

    async def delete(
        self, key: EntryKey, *, token: int | None = None, observed: ModelRecord | None = None
    ) -> bool:
        if not transitions.may_delete(self._find(key), token=token, observed=observed):
            return False
        del self._records[key]
        self._watchers.tell(key)
        return True

    async def pin(self, key: EntryKey, pin: Pin | None) -> bool:
        record = self._find(key)
        if record is None or record.status is EntryStatus.EVICTING:
            return False
        self._write(replace(record, pin=pin))
        return True

    async def lease(self, key: EntryKey, lease: ReadLease, *, now_ms: int) -> bool:
        record = self._find(key)
        leased = None if record is None else transitions.leased(record, lease, now_ms=now_ms)
        if leased is None:
            return False
        self._write(leased)
        return True

    async def unlease(self, key: EntryKey, lease_id: str) -> None:
        if (record := self._find(key)) is not None:
            kept = tuple(lease for lease in record.leases if lease.lease_id != lease_id)
            self._write(replace(record, leases=kept))

    async def record_eviction(self, run: EvictionRun) -> None:
        self._require_open()
        self._runs[run.run_id] = run
        self._runs = {kept.run_id: kept for kept in self._newest_runs()[:EVICTION_RUNS_KEPT]}

    async def eviction_runs(self, *, limit: int) -> tuple[EvictionRun, ...]:
        self._require_open()
        return tuple(self._newest_runs()[: max(limit, 0)])

    async def watch(self, tell: Callable[[EntryKey | None], None]) -> NoReturn:
        self._require_open()
        await self._watchers.watch(tell)

    async def check(self) -> None:
        self._require_open()

    async def close(self) -> None:
        self._closed = True
        self._watchers.close()

    def _write(self, record: ModelRecord) -> None:
        self._records[record.key] = record
        self._watchers.tell(record.key)

    def _find(self, key: EntryKey) -> ModelRecord | None:
        self._require_open()
        return self._records.get(key)

    def _new_claim(self, owner: str, lease_s: float, now_ms: int) -> Claim:
        self._last_token += 1
        return transitions.new_claim(owner, token=self._last_token, lease_s=lease_s, now_ms=now_ms)

    def _newest_runs(self) -> list[EvictionRun]:
        return sorted(self._runs.values(), key=lambda run: (run.started_at_ms, run.run_id), reverse=True)

    def _require_open(self) -> None:
        if self._closed:
            raise UnavailableError("the memory store is closed")
