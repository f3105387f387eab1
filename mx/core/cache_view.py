"""The cache as a person sees it: entries, one entry with its files, and the whole in a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mx.core.cached import CachedEntry, CacheUsage, EntryUsage
from mx.core.eviction import EvictionPolicy, EvictionRun, plan_removal
from mx.core.model import Claim, EntryKey, EntryStatus, ModelRecord, Pin, ReadLease
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
        entries=tuple(listed(record, usage, now_ms) for record in records),
        used_bytes=usage.used_bytes,
        free_bytes=usage.free_bytes,
        disk_bytes=usage.disk_bytes,
        max_size_bytes=max_size_bytes,
        now_ms=now_ms,
    )


def listed(record: ModelRecord, usage: CacheUsage, now_ms: int) -> ListedEntry:
    """The row of a record."""
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


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A file of an entry. ``block`` is where its bytes lie below the cache's root, ``users`` the number
    of entries that use them."""

    path: str
    size_bytes: int
    digest: str
    xxh3: str
    block: str
    users: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryDetail:
    """Everything about one entry. ``root`` is a path on the machine that has the cache, empty while
    the entry isn't complete; then there are no ``files`` either."""

    listed: ListedEntry
    root: str = ""
    completed_at_ms: int = 0
    files: tuple[ShownFile, ...] = ()
    shares_with: tuple[EntryKey, ...] = ()
    claim: Claim | None = None
    leases: tuple[ReadLease, ...] = ()
    attempts: int = 0


def detail_of(
    record: ModelRecord, entry: CachedEntry | None, *, usage: CacheUsage, now_ms: int
) -> EntryDetail:
    users: Counter[str] = Counter()
    mine = {name for name, _ in usage.entries.get(record.key, _NOTHING).shared}
    shares_with: list[EntryKey] = []
    for key, size in usage.entries.items():
        names = {name for name, _ in size.shared} & mine
        users.update(names)
        if names and key != record.key:
            shares_with.append(key)
    files = () if entry is None else entry.files
    return EntryDetail(
        listed=listed(record, usage, now_ms),
        root="" if entry is None else str(entry.root),
        completed_at_ms=0 if entry is None else entry.completed_at_ms,
        files=tuple(
            ShownFile(f.path, f.size_bytes, f.digest, f.xxh3, f.block, users[f.block] or 1) for f in files
        ),
        shares_with=tuple(shares_with),
        claim=record.claim if is_claimed(record, now_ms=now_ms) else None,
        leases=live_leases(record.leases, now_ms=now_ms),
        attempts=record.attempts,
    )


@dataclass(frozen=True, slots=True)
class KindStats:
    """One kind of thing in the cache. ``active`` is pinned, read or worked on; ``reclaimable_bytes``
    is what a removal of the others would free."""

    kind: str  # models | metadata | unfinished | other
    total: int
    active: int
    bytes: int
    reclaimable_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """The cache in a few lines. ``other`` kinds of bytes are bookkeeping and files of other tools.

    ``next_run_at_ms`` None: nothing looks at the limits by itself. ``runs`` are the newest first.
    """

    root: str
    kinds: tuple[KindStats, ...]
    used_bytes: int
    free_bytes: int
    disk_bytes: int
    policy: EvictionPolicy
    eviction_enabled: bool
    next_run_at_ms: int | None
    runs: tuple[EvictionRun, ...]
    now_ms: int


def kinds_of(records: Sequence[ModelRecord], *, usage: CacheUsage, now_ms: int) -> tuple[KindStats, ...]:
    """What there is by kind; a file that several entries share counts once, with the first of them."""
    spare = {one.key: one.bytes for one in plan_removal(records, usage=usage, now_ms=now_ms).victims}
    seen: set[str] = set()
    kinds = {kind: [0, 0, 0, 0] for kind in ("models", "metadata", "unfinished")}
    known = {record.key: record for record in records}
    for key in dict.fromkeys((*known, *usage.entries)):
        size = usage.entries.get(key, _NOTHING)
        counted = size.own_bytes + sum(n for name, n in size.shared if name not in seen)
        seen.update(name for name, _ in size.shared)
        record = known.get(key)
        done = record is not None and record.status is EntryStatus.DOWNLOADED
        row = kinds["unfinished" if not done else "models" if key.weights else "metadata"]
        row[0] += 1
        row[1] += record is not None and key not in spare
        row[2] += counted
        row[3] += spare.get(key, 0)
    rest = usage.used_bytes - sum(row[2] for row in kinds.values())
    rows = [KindStats(kind, *row) for kind, row in kinds.items()]
    return (*rows, KindStats("other", 0, 0, max(0, rest), 0))
