"""The cache as a person sees it: each record beside what its entry occupies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mx.core.cached import CacheUsage, EntryUsage
from mx.core.model import EntryKey, EntryStatus, ModelRecord, Pin
from mx.core.transitions import is_claimed, is_pinned, live_leases

_NOTHING = EntryUsage()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEntry:
    """One entry. ``disk_bytes`` as the disk counts them, of which ``own_bytes`` go with it alone.

    ``owner`` works on it now, ``readers`` hold leases; a pin that ended is None. Times are Unix ms.
    """

    key: EntryKey
    status: EntryStatus
    created_at_ms: int
    last_used_at_ms: int
    message: str = ""
    bytes_total: int = 0
    bytes_done: int = 0
    files: int = 0
    disk_bytes: int = 0
    own_bytes: int = 0
    owner: str = ""
    pin: Pin | None = None
    readers: tuple[str, ...] = ()
    requested_revision: str = ""
    retry_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheListing:
    """Entries, and the whole cache: ``used_bytes`` counts shared files once. Sizes of the whole cache
    do not follow a restriction of ``entries``; ``now_ms`` is the server's time."""

    entries: tuple[ListedEntry, ...]
    used_bytes: int
    free_bytes: int
    disk_bytes: int
    max_size_bytes: int | None
    now_ms: int


def listing_of(
    records: Iterable[ModelRecord], *, usage: CacheUsage, max_size_bytes: int | None, now_ms: int
) -> CacheListing:
    return CacheListing(
        entries=tuple(_listed(record, usage, now_ms) for record in records),
        used_bytes=usage.used_bytes,
        free_bytes=usage.free_bytes,
        disk_bytes=usage.disk_bytes,
        max_size_bytes=max_size_bytes,
        now_ms=now_ms,
    )


def _listed(record: ModelRecord, usage: CacheUsage, now_ms: int) -> ListedEntry:
    size = usage.entries.get(record.key, _NOTHING)
    claim = record.claim if is_claimed(record, now_ms=now_ms) else None
    return ListedEntry(
        key=record.key,
        status=record.status,
        created_at_ms=record.created_at_ms,
        last_used_at_ms=record.last_used_at_ms,
        message=record.message,
        bytes_total=record.bytes_total,
        bytes_done=record.bytes_done,
        files=record.files,
        disk_bytes=size.total_bytes,
        own_bytes=size.own_bytes,
        owner="" if claim is None else claim.owner,
        pin=record.pin if is_pinned(record, now_ms=now_ms) else None,
        readers=tuple(lease.holder for lease in live_leases(record.leases, now_ms=now_ms)),
        requested_revision=record.requested_revision,
        retry_at_ms=record.retry_at_ms,
    )


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal took away; ``bytes_freed`` as the disk counts them."""

    keys: tuple[EntryKey, ...]
    bytes_freed: int
