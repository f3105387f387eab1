"""Removing entries: files first, record last, under a claim; and records for entries that have none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mx.core.cached import CachedEntry
from mx.core.eviction import EvictionPlan, plan_removal
from mx.core.model import Claim, EntryKey, EntryStatus, ModelRecord, ProviderName
from mx.core.transitions import is_claimed, is_pinned, live_leases
from mx.errors import ConflictError, MxError, NotFoundError
from mx.logs import event_log
from mx.ports import Clock, EntryCache, ModelStore
from mx.services.threads import in_thread

log = event_log(__name__)

# That of ``mark_evicting``.
REMOVAL_LEASE_S = 60.0
SOME_LEFT = "some of its files are gone or wrong; a download or mx cache verify --repair mends it"


@dataclass(frozen=True, slots=True)
class DeleteReport:
    """What a delete took away. ``bytes_freed`` as the disk counts them; 0 when files stay."""

    records: tuple[EntryKey, ...]
    bytes_freed: int = 0


Moved = Callable[[], None]  # something moved; from any thread


async def remove_entry(
    store: ModelStore,
    cache: EntryCache,
    clock: Clock,
    key: EntryKey,
    claim: Claim,
    *,
    moved: Moved | None = None,
    lease_s: float = REMOVAL_LEASE_S,
) -> int:
    """Files first, record last, under a claim of ``mark_evicting``; the bytes that the disk gained.

    The claim is kept for as long as files go, however long that takes: nobody downloads into it.

    When the files can't be removed the error leaves and the record says what is true: the entry is
    whole and stays, or it is not and the next pass goes on.
    """
    try:
        async with _kept(store, clock, key, claim, lease_s=lease_s):
            gained = await in_thread(cache.remove, key, moved=moved)
    except MxError:
        entry = await in_thread(cache.entry, key)
        if entry is not None:
            record = await store.get(key)
            await store.finish(
                key,
                claim,
                status=EntryStatus.DOWNLOADED,
                message="",
                bytes_on_disk=record.bytes_on_disk if record else 0,
                files=len(entry.files),
                retry_at_ms=0,
                now_ms=clock.now_ms(),
            )
        raise
    await store.delete(key, token=claim.token)
    return gained


@asynccontextmanager
async def _kept(
    store: ModelStore, clock: Clock, key: EntryKey, claim: Claim, *, lease_s: float
) -> AsyncIterator[None]:
    """Extend the claim while the body runs. An outage of the store is borne: the files go all the same."""

    async def keep() -> None:
        while True:
            await asyncio.sleep(lease_s / 3)
            try:
                renewed = await store.refresh(
                    key, claim, lease_s=lease_s, now_ms=clock.now_ms(), bytes_done=0, bytes_total=0, files=0
                )
            except MxError as error:
                log.warn("claim of a removal not extended", model=str(key), error=str(error))  # noqa: G010  # an EventLog
                continue
            if renewed is None:
                log.warn("claim of a removal lost", model=str(key))  # noqa: G010  # an EventLog
                return

    keeping = asyncio.create_task(keep(), name=f"claim of the removal of {key}")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


async def delete_model(
    store: ModelStore,
    cache: EntryCache,
    clock: Clock,
    provider: ProviderName,
    name: str,
    *,
    commit: str | None,
    force: bool,
    owner: str,
    moved: Moved | None = None,
) -> DeleteReport:
    """Remove files and records of a model, or of one revision.

    ConflictError, nothing removed, when an entry is pinned (unless ``force``), read or worked on;
    NotFoundError when there is none.
    """
    await _adopt_entries(store, cache, clock, provider, name)
    records = [
        record
        for record in await store.list_models(provider=provider, name=name)
        if commit in (None, record.key.commit)
    ]
    if not records:
        raise _not_there(name, commit)
    for record in records:
        _require_free(record, force=force, now_ms=clock.now_ms())
    gone: list[EntryKey] = []
    freed_bytes = 0
    for record in records:
        if force and record.pin is not None:
            await store.pin(record.key, None)
        claim = await store.mark_evicting(record.key, observed=record, now_ms=clock.now_ms(), owner=owner)
        if claim is None:
            raise ConflictError(f"{record.key} was used meanwhile; it stays", remedy="try again")
        freed_bytes += await remove_entry(store, cache, clock, record.key, claim, moved=moved)
        gone.append(record.key)
    return DeleteReport(tuple(gone), freed_bytes)


async def plan_removals(
    store: ModelStore,
    cache: EntryCache,
    clock: Clock,
    *,
    provider: ProviderName | None = None,
    name: str | None = None,
    commit: str | None = None,
    force: bool = False,
) -> EvictionPlan:
    """What ``delete_model`` would take away of one model, or of all; changes nothing.

    NotFoundError for a named model that is not there.
    """
    usage = await in_thread(cache.usage)
    records = [
        record
        for record in (*await store.list_models(), *await strangers(store, cache, clock))
        if provider in (None, record.key.provider)
        and name in (None, record.key.name)
        and commit in (None, record.key.commit)
    ]
    if name is not None and not records:
        raise _not_there(name, commit)
    return plan_removal(records, usage=usage, now_ms=clock.now_ms(), force=force)


def _not_there(name: str, commit: str | None) -> NotFoundError:
    what = f"{name}@{commit}" if commit else name
    return NotFoundError(f"{what} is not in the cache", remedy="mx cache list shows what is")


def adopted(entry: CachedEntry, *, now_ms: int) -> ModelRecord:
    """The record of an entry that has none.

    Its last use is not known, so it counts as used now: records that were lost must not make a
    cache look unused.
    """
    return ModelRecord(
        entry.key,
        EntryStatus.DOWNLOADED,
        created_at_ms=entry.completed_at_ms or now_ms,
        last_used_at_ms=now_ms,
        bytes_total=entry.total_bytes,
        bytes_done=entry.total_bytes,
        files=len(entry.files),
        bytes_on_disk=entry.total_bytes,
    )


def damaged(record: ModelRecord, message: str) -> ModelRecord:
    """The record of an entry that can't be served as it is; whoever asks may download it at once."""
    return ModelRecord(
        record.key,
        EntryStatus.ERROR,
        record.created_at_ms,
        record.last_used_at_ms,
        message=message,
        requested_revision=record.requested_revision,
    )


async def _adopt_entries(
    store: ModelStore, cache: EntryCache, clock: Clock, provider: ProviderName, name: str
) -> None:
    """Records for this model's entries that have none, so that nothing of it stays behind."""
    for record in await strangers(store, cache, clock):
        if (record.key.provider, record.key.name) == (provider, name):
            await store.put(record)


async def strangers(store: ModelStore, cache: EntryCache, clock: Clock) -> tuple[ModelRecord, ...]:
    """A record for each entry on the disk that has none in the store; nothing is written."""
    # Records first: an entry that is published in between is then seen on disk at least.
    known = {record.key for record in await store.list_models()}
    whole = {entry.key: entry for entry in await in_thread(cache.scan)}
    found = [adopted(entry, now_ms=clock.now_ms()) for key, entry in whole.items() if key not in known]
    for key in set(await in_thread(cache.recorded)) - whole.keys() - known:
        now_ms = clock.now_ms()
        found.append(damaged(ModelRecord(key, EntryStatus.ERROR, now_ms, now_ms), SOME_LEFT))
    return tuple(found)


def _require_free(record: ModelRecord, *, force: bool, now_ms: int) -> None:
    if is_claimed(record, now_ms=now_ms) and record.claim is not None:
        raise ConflictError(f"{record.key} is being worked on by {record.claim.owner}", remedy="wait for it")
    if leases := live_leases(record.leases, now_ms=now_ms):
        raise ConflictError(f"{record.key} is being read by {leases[0].holder}", remedy="wait for it")
    if is_pinned(record, now_ms=now_ms) and not force:
        raise ConflictError(f"{record.key} is pinned", remedy="mx cache unpin it first")
