"""One entry on its way into the cache: what is missing, where it goes, checked file by file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mx.core.cached import CachedEntry, MissingFile
from mx.core.model import EntryKey, ListedFile, Listing
from mx.errors import ConflictError, IntegrityError, InvalidArgumentError, MxError, PreconditionError
from mx.providers.cache.entry import CompletionRecord, RecordedFile, records_in
from mx.providers.cache.failures import disk_errors
from mx.providers.cache.hashing import FileHash
from mx.providers.cache.journal import Held, Journal, Story, Writer
from mx.providers.cache.layout import BOOKS, COMPLETE, CONDEMNED, folder_of, has_view, kept_files, slot_of
from mx.providers.cache.publish import Publication
from mx.providers.cache.staged import held_name, open_stage, part_name, settle_parts, verified
from mx.providers.cache.tree import Folder, Folders, Site
from mx.providers.digests import check_digest

_ATTEMPTS = 20
_SYNC = getattr(os, "fdatasync", os.fsync)


@dataclass(slots=True)
class _State:
    """What we know of one listed file. ``in_slot``: verified, and only there (no second names here)."""

    listed: ListedFile
    offset: int = 0
    held: Held | None = None
    in_slot: bool = False
    hash: FileHash | None = None
    inode: int = 0


class DiskStaging:
    """See ``mx.ports.Staging``. Files may be accepted from several threads at once."""

    def __init__(
        self, site: Site, key: EntryKey, *, model: Folder, stage: Folder, files: tuple[ListedFile, ...]
    ) -> None:
        self.key = key
        self._site = site
        self._model = model
        self._stage = stage
        self._states = {file.path: _State(file) for file in files}
        self._journal = Journal.open(stage)
        self._lock = threading.Lock()
        self._open = True

    @property
    def missing(self) -> tuple[MissingFile, ...]:
        with self._lock:
            return tuple(MissingFile(s.listed, s.offset) for s in self._states.values() if s.held is None)

    def path_for(self, file: ListedFile) -> Path:
        state = self._state(file)
        with self._errors(f"staging {file.path} of {self.key}"):
            fd = self._open_part(state, os.O_WRONLY | os.O_CREAT)
            os.close(fd)
        return self._stage.path / part_name(file.path)

    def checkpoint(self, file: ListedFile) -> int:
        state = self._state(file)
        if state.held is not None:
            return file.size_bytes
        with self._errors(f"saving {file.path} of {self.key}"):
            fd = self._open_part(state, os.O_RDWR | os.O_CREAT)
            try:
                found = os.fstat(fd)
                progress = self._hash_of(state, found)
                progress.advance(fd, min(found.st_size, file.size_bytes))
                self._stage.step("sync part")
                _SYNC(fd)
            finally:
                os.close(fd)
            self._journal.marked(file.path, at=progress.at, xxh3=progress.xxh3)
        with self._lock:
            state.offset = progress.at
        return progress.at

    def accept(self, file: ListedFile) -> None:
        state = self._state(file)
        if state.held is not None:
            return
        with self._errors(f"checking {file.path} of {self.key}"):
            fd = self._open_part(state, os.O_RDWR | (os.O_CREAT if file.size_bytes == 0 else 0))
            try:
                held = self._check(state, fd)
                self._stage.step("sync file")
                os.fsync(fd)
            finally:
                os.close(fd)
            self._hold_part(state, held)
            self._hold_twins(state, held)

    def publish(self, *, revision: str | None, fence: Callable[[], bool]) -> CachedEntry:
        files = []
        for state in self._states.values():
            if state.held is None:
                raise PreconditionError(
                    f"{self.key} can't be published: {state.listed.path} and "
                    f"{len(self.missing) - 1} other files are missing",
                    remedy="fetch and accept what Staging.missing names",
                )
            files.append(_recorded(self.key, state.listed, state.held))
        record = CompletionRecord(self.key, tuple(files), self._site.now_ms())
        in_slot = frozenset(path for path, state in self._states.items() if state.in_slot)
        with self._errors(f"publishing {self.key}"):
            self._require_open()
            with self._site.open() as root:
                Publication(root, self._model, self._stage, record, in_slot=in_slot).carry_out(
                    revision, fence
                )
        self.close()
        return record.entry(self._site.root)

    def close(self) -> None:
        with self._lock:
            was_open, self._open = self._open, False
        if not was_open:
            return
        with self._errors(f"leaving {self.key}"):
            try:
                self._journal.released(stage=self._stage.path.name)
            finally:
                self._journal.close()
                self._stage.close()
                self._model.close()

    def resume(self, story: Story, offsets: dict[str, int]) -> None:
        """Take in what a predecessor reached and what the cache has; called once, before anything else."""
        # Who we are is written after the parts are ours alone: a successor must know whom to fear.
        self._journal.owned(Writer.this(), stage=self._stage.path.name)
        self._journal.begun(state.listed for state in self._states.values())
        for path, state in self._states.items():
            reached = story.files.get(path)
            if reached is not None and reached.listed == state.listed and reached.held is not None:
                held, size = reached.held, state.listed.size_bytes
                if verified(self._stage, path, size_bytes=size, mtime_ns=held.mtime_ns):
                    state.held = held
                    continue
            self._stage.unlink(held_name(path))
            state.offset = offsets.get(path, 0)
        self._adopt_slots()
        for state in self._states.values():
            if state.held is None and state.listed.size_bytes == 0:
                self._accept_empty(state)

    def _adopt_slots(self) -> None:
        known = {
            (file.slot, file.size_bytes, file.mtime_ns): file
            for place in (COMPLETE, CONDEMNED)
            for record in records_in(self._model, place=place)
            for file in record.files
        }
        with Folders(self._model) as slots:
            for state in self._states.values():
                if state.held is None and state.listed.size_bytes > 0:
                    self._adopt(state, slots, known)

    def _adopt(self, state: _State, slots: Folders, known: dict[tuple[str, int, int], RecordedFile]) -> None:
        file = state.listed
        if has_view(self.key.provider) and file.digest.partition(":")[0] not in ("sha256", "git-sha1"):
            return
        slot = slot_of(self.key.provider, file.path, file.digest)
        found = slots.regular(slot)
        if found is None or found.st_size != file.size_bytes:
            return
        folder, name = slots.of(slot)
        assert folder is not None
        recorded = known.get((slot, found.st_size, found.st_mtime_ns))
        if recorded is not None and _same(recorded, file):
            held: Held | None = Held(recorded.digest, recorded.xxh3, found.st_mtime_ns)
        else:
            held = _read_slot(folder, name, file) if file.digest else None
        if held is None:
            return
        try:
            linked = folder.link(name, self._stage, held_name(file.path))
        except FileNotFoundError:
            return  # removed at this moment
        with self._lock:
            state.held, state.in_slot = held, not linked
        if linked:
            self._stage.unlink(part_name(file.path))
            self._journal.held(file.path, held)

    def _accept_empty(self, state: _State) -> None:
        try:
            self.accept(state.listed)
        except IntegrityError:
            return  # the provider's digest is not that of nothing: let the fetch say so

    def _check(self, state: _State, fd: int) -> Held:
        file = state.listed
        found = os.fstat(fd)
        if found.st_size < file.size_bytes:
            raise IntegrityError(
                f"{file.path} of {self.key} ends short: {found.st_size} of {file.size_bytes} bytes",
                remedy="the rest can still be fetched",
            )
        if found.st_size == file.size_bytes:
            sums = self._hash_of(state, found) if file.digest else _fresh_hash(file)
            begun_at = sums.at
            sums.advance(fd, file.size_bytes)
            if file.digest and sums.listed != file.digest and begun_at > 0:
                # Bytes hashed earlier may have been replaced since: only the whole file counts.
                sums = _fresh_hash(file)
                sums.advance(fd, file.size_bytes)
            if sums.at == file.size_bytes and sums.listed in (file.digest, ""):
                return Held(sums.strong, sums.xxh3, found.st_mtime_ns)
        self._throw_away(state)
        raise IntegrityError(
            f"{file.path} of {self.key} is not what the provider lists "
            f"({found.st_size} bytes, expected {file.size_bytes}, {file.digest or 'no digest'})",
            remedy="it was thrown away; fetch it again",
        )

    def _throw_away(self, state: _State) -> None:
        self._stage.unlink(part_name(state.listed.path))
        self._require_open()
        self._journal.dropped(state.listed.path)
        with self._lock:
            state.offset, state.hash = 0, None

    def _hold_part(self, state: _State, held: Held) -> None:
        path = state.listed.path
        try:
            self._stage.rename(part_name(path), self._stage, held_name(path))
        except FileNotFoundError:
            raise self._taken_over() from None
        self._journal.held(path, held)
        with self._lock:
            state.held, state.hash = held, None

    def _hold_twins(self, source: _State, held: Held) -> None:
        """Other files of the listing with the same content need no download of their own."""
        for state in self._states.values():
            file = state.listed
            if state.held is not None or not file.digest or file.size_bytes != source.listed.size_bytes:
                continue
            if file.digest == source.listed.digest == held.digest and self._stage.link(
                held_name(source.listed.path), self._stage, held_name(file.path)
            ):
                self._journal.held(file.path, held)
                with self._lock:
                    state.held = held

    def _hash_of(self, state: _State, found: os.stat_result) -> FileHash:
        if state.hash is None or state.inode != found.st_ino or state.hash.at > found.st_size:
            state.hash, state.inode = _fresh_hash(state.listed), found.st_ino
        return state.hash

    def _state(self, file: ListedFile) -> _State:
        self._require_open()
        state = self._states.get(file.path)
        if state is None or state.listed != file:
            raise InvalidArgumentError(f"{file.path!r} of {self.key} is not in the listing being staged")
        return state

    def _open_part(self, state: _State, flags: int) -> int:
        try:
            return self._stage.open(part_name(state.listed.path), flags | os.O_NONBLOCK)
        except FileNotFoundError:
            if not self._still_ours():
                raise self._taken_over() from None
            raise IntegrityError(
                f"{state.listed.path} of {self.key} has not come: no byte of it is there"
            ) from None

    def _taken_over(self) -> MxError:
        return ConflictError(
            f"the download of {self.key} was taken over by another process",
            remedy="stop: the new owner goes on from the same bytes",
        )

    def _require_open(self) -> None:
        if not self._open:
            raise PreconditionError(f"the staging of {self.key} is closed", remedy="begin it again")
        if not self._still_ours():
            raise self._taken_over()

    def _still_ours(self) -> bool:
        return self._stage.lstat(".") is not None

    def _errors(self, what: str) -> AbstractContextManager[None]:
        return disk_errors(what, self._site.root)


def begin(site: Site, listing: Listing) -> DiskStaging:
    """Start or resume an entry."""
    key = listing.key
    files = kept_files(key, listing.files)
    for file in files:
        check_digest(file.digest, of=f"{file.path} of {key}")
    with disk_errors(f"staging {key}", site.root):
        model, stage, story = _open_both(site, key)
        try:
            offsets = settle_parts(stage, story, files)
            staging = DiskStaging(site, key, model=model, stage=stage, files=files)
        except BaseException:
            stage.close()
            model.close()
            raise
        try:
            staging.resume(story, offsets)
        except BaseException:
            staging.close()
            raise
        return staging


def _open_both(site: Site, key: EntryKey) -> tuple[Folder, Folder, Story]:
    """The model's folder and a stage in it; again when a delete takes the empty folders away meanwhile."""
    for attempt in range(1, _ATTEMPTS + 1):
        with site.open() as root:
            model = None
            try:
                model = root.child(*folder_of(key), create=True)
                # First, so that whatever a crash leaves is known to be ours.
                model.child(BOOKS, create=True).close()
                if has_view(key.provider):
                    for name in ("blobs", "refs", "snapshots"):
                        model.child(name, create=True).close()
                return (model, *open_stage(model, key))
            except FileNotFoundError:
                if model is not None:
                    model.close()
                if attempt == _ATTEMPTS:
                    raise
            except BaseException:
                if model is not None:
                    model.close()
                raise
    raise AssertionError


def _recorded(key: EntryKey, file: ListedFile, held: Held) -> RecordedFile:
    return RecordedFile(
        path=file.path,
        size_bytes=file.size_bytes,
        digest=held.digest,
        xxh3=held.xxh3,
        slot=slot_of(key.provider, file.path, held.digest),
        mtime_ns=held.mtime_ns,
        source=file.digest,
        etag=file.etag,
    )


def _same(recorded: RecordedFile, file: ListedFile) -> bool:
    if file.digest:
        return file.digest in (recorded.digest, recorded.source)
    return bool(file.etag) and file.etag == recorded.etag


def _fresh_hash(file: ListedFile) -> FileHash:
    return FileHash(size_bytes=file.size_bytes, listed=file.digest)


def _read_slot(folder: Folder, name: str, file: ListedFile) -> Held | None:
    """What lies in a slot nobody vouches for, if it is what the provider lists."""
    fd = folder.open(name, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        sums = _fresh_hash(file)
        sums.advance(fd, file.size_bytes)
    finally:
        os.close(fd)
    if sums.at != file.size_bytes or sums.listed != file.digest:
        return None
    return Held(sums.strong, sums.xxh3, found.st_mtime_ns)
