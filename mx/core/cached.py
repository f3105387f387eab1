"""What lies in the cache: complete entries, their files, and what they cost as the disk counts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mx.core.model import EntryKey, ListedFile, Listing


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file of a complete entry. ``digest`` is ``algorithm:hex`` as recorded on ingest, always a
    cryptographic one (sha256 or git-sha1); ``xxh3`` is the fast one, 128 bits in hex. ``block`` is
    where its bytes lie below the cache's root, the name that ``EntryUsage.shared`` has for them.
    ``etag`` is the provider's name for this version; another ``mtime_ns`` on disk means that somebody
    wrote there."""

    path: str
    size_bytes: int
    digest: str = ""
    xxh3: str = ""
    block: str = ""
    etag: str = ""
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class CachedEntry:
    """A complete entry: ``files`` sorted by path, below ``root``."""

    key: EntryKey
    root: Path
    files: tuple[CachedFile, ...]
    completed_at_ms: int = 0

    @property
    def total_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def changed_paths(entry: CachedEntry, listing: Listing) -> tuple[str, ...]:
    """Paths that are not the same in both, sorted. What only one of the two names no version of is told
    by its digest, else by its size."""
    cached = {file.path: file for file in entry.files}
    listed = {file.path: file for file in listing.files}
    return tuple(
        path
        for path in sorted(cached.keys() | listed.keys())
        if path not in cached or path not in listed or not _same_version(cached[path], listed[path])
    )


def _same_version(cached: CachedFile, listed: ListedFile) -> bool:
    if cached.size_bytes != listed.size_bytes:
        return False
    if cached.etag and listed.etag:
        return cached.etag == listed.etag
    comparable = cached.digest.partition(":")[0] == listed.digest.partition(":")[0]
    return cached.digest == listed.digest or not comparable


@dataclass(frozen=True, slots=True)
class OpenedFiles:
    """An entry at a server, open for reading: its files with their digests, and the ticket for HTTP.

    The ticket is a secret and lives for ``life_s`` unless it is renewed. ``port`` 0: the server does
    not serve files over HTTP. ``hosts`` are addresses of the very process that gave the ticket.
    """

    key: EntryKey
    files: tuple[CachedFile, ...]
    ticket: str = field(repr=False)
    life_s: float
    port: int = 0
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FilePiece:
    """Bytes of one file as a server streams them. ``commit`` is told with the first piece at most."""

    path: str
    data: bytes
    offset: int
    total_bytes: int
    commit: str = ""


@dataclass(frozen=True, slots=True)
class MissingFile:
    """A file that has to come; ``offset`` verified bytes of it are there."""

    file: ListedFile
    offset: int = 0

    @property
    def missing_bytes(self) -> int:
        return max(0, self.file.size_bytes - self.offset)


@dataclass(frozen=True, slots=True)
class StageHolder:
    """A process that stages an entry, as others of the cache's directory see it.

    ``pulse`` changes while it lives. ``ended``: it let go, or is surely dead; with ``failure``, code and
    words, when it gave up. ``bytes_done`` of the entry are there.
    """

    stage: str
    pulse: str
    ended: bool
    bytes_done: int = 0
    failure: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class EntryUsage:
    """What one entry occupies, unfinished downloads included. ``own_bytes`` goes with it; ``shared``
    names each block that other entries use too (by a name that is the same for all) and its bytes."""

    own_bytes: int = 0
    shared: tuple[tuple[str, int], ...] = ()

    @property
    def total_bytes(self) -> int:
        return self.own_bytes + sum(size for _, size in self.shared)


@dataclass(frozen=True, slots=True)
class CacheUsage:
    """The cache and its disk at one moment.

    ``used_bytes`` counts everything below the root once, unfinished downloads included;
    ``free_bytes`` is what the file system still gives to us, ``disk_bytes`` its size.
    """

    used_bytes: int
    free_bytes: int
    disk_bytes: int
    entries: Mapping[EntryKey, EntryUsage] = field(default_factory=dict)


class FaultKind(StrEnum):
    MISSING = "missing"
    LINK = "link"  # the bytes are there, the name that leads to them is not
    SIZE = "size"
    DIGEST = "digest"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class FileFault:
    """A file that is not what the completion record says; ``detail`` says in which way."""

    path: str
    kind: FaultKind
    detail: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Digests of an entry, computed anew. ``faults`` are the files to be fetched again, ``extras`` lie
    beside them and nobody recorded them."""

    key: EntryKey
    files: int
    bytes_read: int
    faults: tuple[FileFault, ...] = ()
    extras: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        return not self.faults
