"""Records against disk: records are rebuilt from entries, and those without files go."""

from __future__ import annotations

from dataclasses import dataclass

from mx.core.counts import CacheReconciled
from mx.core.model import EntryKey, EntryStatus, ModelRecord
from mx.core.transitions import is_claimed, is_older, is_pinned
from mx.errors import MxError
from mx.logs import EventLog
from mx.ports import Clock, EntryCache, ModelStore
from mx.services.removal import SOME_LEFT, damaged, remove_entry, strangers
from mx.services.threads import in_thread


@dataclass(frozen=True, slots=True)
class ReconcileReport:
    """What was found and mended. ``unfinished`` downloads belong to nobody and wait to be asked for."""

    records: int
    entries: int
    adopted: tuple[EntryKey, ...] = ()
    without_files: tuple[EntryKey, ...] = ()
    removals_finished: tuple[EntryKey, ...] = ()
    unfinished: tuple[EntryKey, ...] = ()
    failed: tuple[tuple[EntryKey, str], ...] = ()
    bytes_cleaned: int = 0

    @property
    def drift(self) -> int:
        return len(self.adopted) + len(self.without_files) + len(self.removals_finished) + len(self.failed)

    @property
    def count(self) -> CacheReconciled:
        """In figures."""
        return CacheReconciled(
            adopted=len(self.adopted),
            without_files=len(self.without_files),
            removals_finished=len(self.removals_finished),
            failed=len(self.failed),
            bytes_cleaned=self.bytes_cleaned,
        )

    def write_to(self, log: EventLog) -> None:
        for event, keys in (
            ("entry without a record, taken over", self.adopted),
            ("record without files, dropped", self.without_files),
            ("interrupted removal, finished", self.removals_finished),
        ):
            for key in keys:
                log.info(event, model=str(key))
        for key, reason in self.failed:
            log.error("not reconciled", model=str(key), reason=reason)
        log.info(
            "records and disk reconciled",
            records=self.records,
            entries=self.entries,
            drift=self.drift,
            unfinished=len(self.unfinished),
            bytes_cleaned=self.bytes_cleaned,
        )


async def reconcile(store: ModelStore, cache: EntryCache, clock: Clock, *, owner: str) -> ReconcileReport:
    """One pass. Each step is judged again by the store, so that work under way is never disturbed."""
    strange = await strangers(store, cache, clock)
    records = {record.key: record for record in await store.list_models()}
    remains = frozenset(await in_thread(cache.recorded))
    found: dict[str, list[EntryKey]] = {"adopted": [], "without": [], "removed": [], "unfinished": []}
    failed: list[tuple[EntryKey, str]] = []
    for key, record in records.items():
        try:
            if (what := await _judge(record, store, cache, clock, owner, remains)) is not None:
                found[what].append(key)
        except MxError as error:
            failed.append((key, str(error)))
    for record in strange:
        if await store.get(record.key) is not None:
            continue
        if record.status is EntryStatus.ERROR or await in_thread(cache.entry, record.key) is not None:
            await store.put(record)
            found["adopted"].append(record.key)
    return ReconcileReport(
        records=len(records),
        entries=len(remains),
        adopted=tuple(found["adopted"]),
        without_files=tuple(found["without"]),
        removals_finished=tuple(found["removed"]),
        unfinished=tuple(found["unfinished"]),
        failed=tuple(failed),
    )


async def _judge(
    record: ModelRecord,
    store: ModelStore,
    cache: EntryCache,
    clock: Clock,
    owner: str,
    remains: frozenset[EntryKey],
) -> str | None:
    now_ms = clock.now_ms()
    if is_claimed(record, now_ms=now_ms):
        return None
    if is_older(record):
        return "unfinished"  # ``older`` judges those
    match record.status:
        case EntryStatus.EVICTING:
            claim = await store.mark_evicting(record.key, observed=record, now_ms=now_ms, owner=owner)
            if claim is None:
                return None
            await remove_entry(store, cache, clock, record.key, claim)
            return "removed"
        case EntryStatus.DOWNLOADING:
            return "unfinished"
        case EntryStatus.ERROR:
            return None
        case EntryStatus.DOWNLOADED:
            if await in_thread(cache.entry, record.key) is not None:
                return None
            return await _drop(record, store, clock, some_left=record.key in remains)


async def _drop(record: ModelRecord, store: ModelStore, clock: Clock, *, some_left: bool) -> str | None:
    """A record without files goes; one that is pinned or has some left stays, as an error to be seen."""
    now_ms = clock.now_ms()
    if some_left:
        message = SOME_LEFT
    elif is_pinned(record, now_ms=now_ms):
        message = "pinned, but its files are gone from the cache; download it again"
    else:
        return "without" if await store.delete(record.key, observed=record) else None
    return "without" if await store.put(damaged(record, message), observed=record) else None
