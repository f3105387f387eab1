"""The cache as the services see it: one root, every call self-contained, errors in our words."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from mx.core.cached import CachedEntry, CachedFile, CacheUsage, StageHolder, VerifyReport
from mx.core.model import EntryKey, Listing, ProviderName, is_commit, safe_relative_path
from mx.errors import IntegrityError, NotFoundError, PreconditionError
from mx.providers.cache.begin import begin, begin_instead
from mx.providers.cache.claimants import sound_records
from mx.providers.cache.entry import complete_record, read_record
from mx.providers.cache.failures import disk_errors
from mx.providers.cache.identity import identity
from mx.providers.cache.layout import folder_of, has_view, model_folder, slot_behind, view_of
from mx.providers.cache.reconcile import clean
from mx.providers.cache.refs import read_ref, write_refs
from mx.providers.cache.remove import remove_entry
from mx.providers.cache.stage import DiskStaging
from mx.providers.cache.staged import find_holder
from mx.providers.cache.tree import Folder, Folders, Site, Step, no_step
from mx.providers.cache.usage import complete_records, measure, recorded_keys
from mx.providers.cache.verify import condemn_files, verify_entry


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


class DiskCache:
    """See ``mx.ports.EntryCache``. Holds no state and no descriptor between calls."""

    def __init__(self, site: Site) -> None:
        self._site = site

    @property
    def root(self) -> Path:
        return self._site.root

    def entry(self, key: EntryKey) -> CachedEntry | None:
        parts = folder_of(key)
        with self._errors(f"looking up {key}"), self._site.open() as root:
            model = root.find(*parts)
            if model is None:
                return None
            with model:
                record = complete_record(model, key)
        return None if record is None else record.entry(self.root)

    def resolve(self, provider: ProviderName, name: str, revision: str | None) -> str | None:
        if has_view(provider) and revision is not None and is_commit(revision):
            return revision
        parts = model_folder(provider, name)
        if revision is not None:
            safe_relative_path(revision)
        with self._errors(f"resolving {name}"), self._site.open() as root:
            model = root.find(*parts)
            if model is None:
                return None
            with model:
                if has_view(provider):
                    commit = read_ref(model, revision)
                    return commit if commit is not None and is_commit(commit) else None
                found = [(r.completed_at_ms, r.key.commit) for r in sound_records(model, parts)]
        return max(found)[1] if found else None

    def commits(self, provider: ProviderName, name: str) -> tuple[str, ...]:
        with self._errors(f"looking up {name}"), self._site.open() as root:
            model = root.find(*model_folder(provider, name))
            if model is None:
                return ()
            with model:
                if not has_view(provider):
                    return ("",) if any(not one.name.startswith(".") for one in model.entries()) else ()
                views = model.find("snapshots")
                if views is None:
                    return ()
                with views:
                    return tuple(sorted(name for name in views.names() if is_commit(name)))

    def point(self, key: EntryKey, revision: str | None) -> None:
        if not has_view(key.provider):
            return
        if revision is not None:
            safe_relative_path(revision)
        what = f"pointing {revision or 'the default revision'} at {key}"
        with self._errors(what), self._site.open() as root:
            model = root.find(*folder_of(key))
            if model is None:
                raise NotFoundError(f"{key} is not in the cache", remedy="download it")
            with model:
                write_refs(model, key.commit, revision)

    def open_file(self, entry: CachedEntry, path: str) -> int:
        safe_relative_path(path)
        wanted = next((file for file in entry.files if file.path == path), None)
        if wanted is None:
            raise NotFoundError(f"{entry.key} has no file {path[:80]!r}")
        with self._errors(f"opening {path} of {entry.key}"), self._site.open() as root:
            fd = _open_file(root, entry.key, path)
            found = os.fstat(fd)
            try:
                _require_recorded(root, entry, wanted, found)
            except BaseException:
                os.close(fd)
                raise
        return fd

    def verify(self, key: EntryKey, *, progress: Callable[[int], None] | None = None) -> VerifyReport:
        with self._errors(f"verifying {key}"), self._site.open() as root:
            return verify_entry(root, key, progress=progress)

    def condemn(self, key: EntryKey, paths: Collection[str]) -> tuple[EntryKey, ...]:
        with self._errors(f"throwing away files of {key}"), self._site.open() as root:
            return condemn_files(root, key, paths)

    def begin(self, listing: Listing) -> DiskStaging:
        return begin(self._site, listing)

    def holder(self, key: EntryKey) -> StageHolder | None:
        """Who stages the entry at the moment, or did so last and left a rest; None: nobody."""
        with self._errors(f"looking up {key}"), self._site.open() as root:
            model = root.find(*folder_of(key))
            if model is None:
                return None
            with model:
                return find_holder(model, key)

    def begin_instead(self, listing: Listing, holder: StageHolder | None) -> DiskStaging | None:
        """As ``begin``, but only in the place of ``holder`` (None: of nobody).

        None when somebody else was faster: processes that share nothing but this directory elect one
        of them by it, without locks.
        """
        return begin_instead(self._site, listing, holder)

    def remove(self, key: EntryKey, *, moved: Callable[[], None] | None = None) -> int:
        site = self._site if moved is None else replace(self._site, step=_both(self._site.step, moved))
        with self._errors(f"deleting {key}"), site.open() as root:
            return remove_entry(root, key)

    def scan(self) -> tuple[CachedEntry, ...]:
        with self._errors("reading the cache"), self._site.open() as root:
            return tuple(record.entry(self.root) for _, record in complete_records(root))

    def recorded(self) -> tuple[EntryKey, ...]:
        with self._errors("reading the cache"), self._site.open() as root:
            return tuple(recorded_keys(root))

    def usage(self) -> CacheUsage:
        with self._errors("measuring the cache"), self._site.open() as root:
            return measure(root)

    def clean_abandoned(self, *, older_than_s: float) -> int:
        # The next millisecond: what happened in this one is over.
        now_s = (self._site.now_ms() + 1) / 1000
        with self._errors("cleaning the cache"), self._site.open() as root:
            return clean(root, older_than_s=older_than_s, now_s=now_s)

    def identity(self) -> str:
        with self._errors("naming the cache"), self._site.open() as root:
            return identity(root)

    def _errors(self, what: str) -> AbstractContextManager[None]:
        return disk_errors(what, self._site.root)


def _both(step: Step, moved: Callable[[], None]) -> Step:
    def announce(name: str) -> None:
        step(name)
        moved()

    return announce


def open_cache(
    root: Path,
    *,
    now_ms: Callable[[], int] = _unix_ms,
    step: Step = no_step,
    only: frozenset[str] | None = None,
) -> DiskCache:
    """The cache below ``root``, made if it is not there.

    ``step`` is told the name of every change to the disk before it is made; ``only`` says which names
    below a shared root are the cache's. Raises PreconditionError when ``root`` is no folder,
    PermissionDeniedError, UnavailableError.
    """
    root = root.expanduser().absolute()
    with disk_errors("opening the cache", root):
        try:
            root.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise PreconditionError(
                f"the cache {root} is no folder", remedy="set cache.directory to a folder"
            ) from None
        site = Site(root, now_ms, step, only)
        site.open().close()
    return DiskCache(site)


def _open_file(root: Folder, key: EntryKey, path: str) -> int:
    """Through no link but one from a snapshot to a blob of the same model."""
    with root.child(*folder_of(key)) as model, Folders(model) as folders:
        place = "/".join((*view_of(key.commit), path)) if has_view(key.provider) else path
        folder, name = folders.of(place)
        target = None if folder is None else folder.readlink(name)
        if target is not None and has_view(key.provider):
            slot = slot_behind(target)
            if slot is None:
                raise NotFoundError(f"{path} of {key} is a link that leaves the model's folder")
            folder, name = folders.of(slot)
        if folder is None or folder.lstat(name) is None:
            raise NotFoundError(f"{path} of {key} is gone", remedy="download the model again")
        return folder.open(name, os.O_RDONLY | os.O_NONBLOCK)


def _require_recorded(root: Folder, entry: CachedEntry, file: CachedFile, found: os.stat_result) -> None:
    """What was opened belongs to the entry as it was looked up: files of two versions are never mixed."""
    as_recorded = stat.S_ISREG(found.st_mode) and found.st_size == file.size_bytes
    if as_recorded and found.st_mtime_ns == file.mtime_ns:
        return
    # Plain folders hold one version at a time. A copied cache has other times, and the same record.
    model = root.find(*folder_of(entry.key))
    if model is not None:
        with model:
            record = read_record(model, entry.key)
        if record is None or record.completed_at_ms != entry.completed_at_ms:
            raise NotFoundError(
                f"{entry.key} was replaced by a newer version while it was read", remedy="ask again"
            )
    if not as_recorded:
        raise IntegrityError(
            f"{file.path} of {entry.key} has {found.st_size} bytes, and {file.size_bytes} are recorded",
            remedy="verify the entry; mx cache verify --repair fetches single files again",
        )
