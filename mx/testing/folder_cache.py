"""A cache for tests of what uses one: entries in plain folders, sizes as the files have them."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from mx.core.cached import CachedEntry, CachedFile, CacheUsage, EntryUsage, MissingFile, VerifyReport
from mx.core.model import EntryKey, ListedFile, Listing, ProviderName
from mx.errors import ConflictError, IntegrityError, MxError, NotFoundError, PreconditionError


class FolderCache:
    """``mx.ports.EntryCache``, gone with its directory. ``disk_bytes`` is a disk to run out of.

    ``digests`` says what a file must hold, by path (sha256 hex); without one its size is enough.
    ``refuse_removal`` is raised by ``remove`` while it is there. Files of equal content are shared
    when ``shared_paths`` names them.
    """

    def __init__(self, root: Path, *, disk_bytes: int = 1 << 40) -> None:
        self._root = root
        self.disk_bytes = disk_bytes
        self.digests: dict[str, str] = {}
        self.shared_paths: frozenset[str] = frozenset()
        self.refuse_removal: MxError | None = None
        self.entries: dict[EntryKey, CachedEntry] = {}
        self.refs: dict[tuple[ProviderName, str, str], str] = {}
        self._lock = threading.RLock()

    @property
    def root(self) -> Path:
        return self._root

    def entry(self, key: EntryKey) -> CachedEntry | None:
        with self._lock:
            found = self.entries.get(key)
            if found is None or not all((found.root / file.path).is_file() for file in found.files):
                return None
            return found

    def resolve(self, provider: ProviderName, name: str, revision: str | None) -> str | None:
        return self.refs.get((provider, name, revision or "main"))

    def commits(self, provider: ProviderName, name: str) -> tuple[str, ...]:
        with self._lock:
            return tuple(
                sorted({key.commit for key in self.entries if (key.provider, key.name) == (provider, name)})
            )

    def point(self, key: EntryKey, revision: str | None) -> None:
        self.refs[key.provider, key.name, revision or "main"] = key.commit

    def open_file(self, entry: CachedEntry, path: str) -> int:
        raise NotFoundError(f"{path} of {entry.key}: this cache opens no files")

    def verify(self, key: EntryKey, *, progress: Callable[[int], None] | None = None) -> VerifyReport:
        found = self.entry(key)
        if found is None:
            raise NotFoundError(f"{key} is not complete")
        if progress is not None:
            progress(found.total_bytes)
        return VerifyReport(key, len(found.files), found.total_bytes)

    def condemn(self, key: EntryKey, paths: Collection[str]) -> tuple[EntryKey, ...]:
        found = self.entry(key)
        if found is None:
            return ()
        for path in paths:
            (found.root / path).unlink(missing_ok=True)
        return (key,)

    def begin(self, listing: Listing) -> FolderStaging:
        return FolderStaging(self, listing)

    def remove(self, key: EntryKey, *, moved: Callable[[], None] | None = None) -> int:
        with self._lock:
            if moved is not None:
                moved()
            if self.refuse_removal is not None:
                raise self.refuse_removal
            before = self._used_bytes()
            found = self.entries.pop(key, None)
            if found is not None:
                shutil.rmtree(found.root)
            return before - self._used_bytes()

    def scan(self) -> tuple[CachedEntry, ...]:
        with self._lock:
            return tuple(entry for key in self.entries if (entry := self.entry(key)) is not None)

    def recorded(self) -> tuple[EntryKey, ...]:
        with self._lock:
            return tuple(self.entries)

    def usage(self) -> CacheUsage:
        with self._lock:
            users = Counter(self._shared_name(e.key, f) for e in self.entries.values() for f in e.files)
            sizes = {}
            for entry in self.entries.values():
                shared = {
                    name: file.size_bytes
                    for file in entry.files
                    if users[name := self._shared_name(entry.key, file)] > 1
                }
                own = sum(f.size_bytes for f in entry.files if users[self._shared_name(entry.key, f)] == 1)
                sizes[entry.key] = EntryUsage(own, tuple(shared.items()))
            used = self._used_bytes()
            return CacheUsage(used, max(0, self.disk_bytes - used), self.disk_bytes, sizes)

    def clean_abandoned(self, *, older_than_s: float) -> int:
        return 0

    def identity(self) -> str:
        return str(self.root)

    def folder(self, key: EntryKey) -> Path:
        return self.root / hashlib.sha256(repr(key).encode()).hexdigest()[:16]

    def install(self, listing: Listing, revision: str | None, stage: Path) -> CachedEntry:
        with self._lock:
            folder = self.folder(listing.key)
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists():
                shutil.rmtree(folder)
            stage.rename(folder)
            files = tuple(CachedFile(file.path, file.size_bytes, etag=file.etag) for file in listing.files)
            self.entries[listing.key] = CachedEntry(listing.key, folder, files)
            self.point(listing.key, revision)
            return self.entries[listing.key]

    def _shared_name(self, key: EntryKey, file: CachedFile) -> str:
        return f"{key.name}/{file.path}" if file.path in self.shared_paths else f"{key!r}/{file.path}"

    def _used_bytes(self) -> int:
        blobs = {
            self._shared_name(entry.key, file): file.size_bytes
            for entry in self.entries.values()
            for file in entry.files
        }
        return sum(blobs.values())


class FolderStaging:
    """``mx.ports.Staging``. Bytes that came stay in the folder and count as verified."""

    def __init__(self, cache: FolderCache, listing: Listing) -> None:
        self._cache = cache
        self._listing = listing
        self._stage = cache.folder(listing.key).with_suffix(".stage")
        self.checkpoints = 0

    @property
    def missing(self) -> tuple[MissingFile, ...]:
        found = []
        for file in self._listing.files:
            accepted = self._path(file.path, ".whole").exists()
            part = self._path(file.path, ".part")
            if not accepted:
                found.append(MissingFile(file, part.stat().st_size if part.exists() else 0))
        return tuple(found)

    def path_for(self, file: ListedFile) -> Path:
        part = self._path(file.path, ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        return part

    def accept(self, file: ListedFile) -> None:
        part = self._path(file.path, ".part")
        content = part.read_bytes()
        wanted = self._cache.digests.get(file.path)
        if len(content) != file.size_bytes or wanted not in (None, hashlib.sha256(content).hexdigest()):
            part.unlink()
            raise IntegrityError(f"{file.path} of {self._listing.key} has the wrong bytes")
        part.rename(self._path(file.path, ".whole"))

    def checkpoint(self, file: ListedFile) -> int:
        self.checkpoints += 1
        part = self._path(file.path, ".part")
        return part.stat().st_size if part.exists() else 0

    def close(self) -> None:
        pass

    def publish(self, *, revision: str | None, fence: Callable[[], bool]) -> CachedEntry:
        if self.missing:
            raise PreconditionError(f"{self._listing.key} is not whole")
        if not fence():
            raise ConflictError(f"{self._listing.key} belongs to somebody else")
        for file in self._listing.files:
            target = self._stage / "done" / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path(file.path, ".whole").rename(target)
        entry = self._cache.install(self._listing, revision, self._stage / "done")
        shutil.rmtree(self._stage)
        return entry

    def _path(self, path: str, suffix: str) -> Path:
        return self._stage / (hashlib.sha256(path.encode()).hexdigest()[:16] + suffix)
