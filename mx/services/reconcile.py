"""Records against disk: records are rebuilt from entries, and those without files go."""

from __future__ import annotations

from dataclasses import dataclass

from mx.core.model import EntryKey, EntryStatus, ModelRecord
from mx.core.transitions import is_claimed, is_pinned
from mx.errors import MxError
from mx.logs import EventLog
from mx.ports import Clock, EntryCache, ModelStore
from mx.services.removal import adopted, remove_entry
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
    # Records first: an entry that is published in between is then seen on disk at least.
    records = {record.key: record for record in await store.list_models()}
    entries = {entry.key: entry for entry in await in_thread(cache.scan)}
    found: dict[str, list[EntryKey]] = {"adopted": [], "without": [], "removed": [], "unfinished": []}
    failed: list[tuple[EntryKey, str]] = []
    for key, record in records.items():
        try:
            if (what := await _judge(record, store, cache, clock, owner)) is not None:
                found[what].append(key)
        except MxError as error:
            failed.append((key, str(error)))
    for key, entry in entries.items():
        if key in records or await store.get(key) is not None:
            continue
        if await in_thread(cache.entry, key) is not None:
            await store.put(adopted(entry, now_ms=clock.now_ms()))
            found["adopted"].append(key)
    return ReconcileReport(
        records=len(records),
        entries=len(entries),
        adopted=tuple(found["adopted"]),
        without_files=tuple(found["without"]),
        removals_finished=tuple(found["removed"]),
        unfinished=tuple(found["unfinished"]),
        failed=tuple(failed),
    )


async def _judge(
    record: ModelRecord, store: ModelStore, cache: EntryCache, clock: Clock, owner: str
) -> str | None:
    now_ms = clock.now_ms()
    if is_claimed(record, now_ms=now_ms):
        return None
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
            return await _drop(record, store, clock)


async def _drop(record: ModelRecord, store: ModelStore, clock: Clock) -> str | None:
    """A record without files goes; a pinned one stays, as an error that people can see."""
    now_ms = clock.now_ms()
    if not is_pinned(record, now_ms=now_ms):
        return "without" if await store.delete(record.key, observed=record) else None
    lost = ModelRecord(
        record.key,
        EntryStatus.ERROR,
        record.created_at_ms,
        record.last_used_at_ms,
        message="pinned, but its files are gone from the cache; download it again",
        requested_revision=record.requested_revision,
    )
    return "without" if await store.put(lost, observed=record) else None
