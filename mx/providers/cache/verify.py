"""Computing digests anew, and throwing away files that are not what they should be."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from mx.core.cached import FaultKind, FileFault, VerifyReport
from mx.core.model import EntryKey
from mx.errors import InvalidArgumentError, NotFoundError
from mx.providers.cache.claimants import plain_records, sound_records, withdraw
from mx.providers.cache.entry import CompletionRecord, RecordedFile, missing_files, read_record
from mx.providers.cache.hashing import FileHash
from mx.providers.cache.layout import BOOKS, COMPLETE, CONDEMNED, TRASH, folder_of, has_view, view_of
from mx.providers.cache.tree import Folder, Folders, fresh_name

Progress = Callable[[int], None]


def verify_entry(root: Folder, key: EntryKey, *, progress: Progress | None) -> VerifyReport:
    """Read every file of a recorded entry, condemned ones too; NotFoundError when there is no record."""
    model, record = _recorded(root, key, COMPLETE, CONDEMNED)
    read = 0
    faults: list[FileFault] = []
    with model, Folders(model) as slots:
        lost = {file.path for file in missing_files(model, record)}
        for file in record.files:
            fault, count = _check(slots, file, progress)
            read += count
            if fault is None and file.path in lost:
                fault = FileFault(file.path, FaultKind.LINK, "the snapshot has no link to it")
            if fault is not None:
                faults.append(fault)
        extras = _extras(model, key)
    return VerifyReport(key, len(record.files), read, tuple(faults), extras)


def _extras(model: Folder, key: EntryKey) -> tuple[str, ...]:
    """Files where readers of this commit look, in no record of it; other models below are not ours."""
    place = model.find(*view_of(key.commit)) if has_view(key.provider) else model.find()
    if place is None:
        return ()
    known: set[str] = set()
    for mode in (True, False):
        for state in (COMPLETE, CONDEMNED):
            record = read_record(model, replace(key, weights=mode), place=state)
            if record is not None:
                known.update(file.path for file in record.files)
    with place:
        return tuple(sorted(set(_names_below(place, "")) - known))


def _names_below(folder: Folder, prefix: str) -> Iterator[str]:
    for entry in folder.entries():
        if not entry.is_dir(follow_symlinks=False):
            yield prefix + entry.name
        elif entry.name != BOOKS and (below := folder.find(entry.name)) is not None:
            with below:
                if below.lstat(BOOKS) is None:
                    yield from _names_below(below, f"{prefix}{entry.name}/")


def _check(slots: Folders, file: RecordedFile, progress: Progress | None) -> tuple[FileFault | None, int]:
    folder, name = slots.of(file.slot)
    found = None if folder is None else folder.lstat(name)
    if folder is None or found is None:
        return FileFault(file.path, FaultKind.MISSING, "there is no such file"), 0
    if folder.regular(name) is None:
        return FileFault(file.path, FaultKind.MISSING, "it is no regular file"), 0
    if found.st_size != file.size_bytes:
        detail = f"{found.st_size} bytes instead of {file.size_bytes}"
        return FileFault(file.path, FaultKind.SIZE, detail), 0
    # The provider's own digest was checked on ingest; ours covers the same bytes.
    sums = FileHash(size_bytes=file.size_bytes, listed=file.digest)
    try:
        fd = folder.open(name, os.O_RDONLY | os.O_NONBLOCK)
        try:
            sums.advance(fd, file.size_bytes, progress=progress)
        finally:
            os.close(fd)
    except OSError as error:
        return FileFault(file.path, FaultKind.UNREADABLE, (error.strerror or "unreadable").lower()), sums.at
    if sums.strong != file.digest or sums.xxh3 != file.xxh3:
        detail = f"{sums.strong} instead of {file.digest}"
        return FileFault(file.path, FaultKind.DIGEST, detail), sums.at
    return None, sums.at


def condemn_files(root: Folder, key: EntryKey, paths: Collection[str]) -> tuple[EntryKey, ...]:
    """Withdraw every entry that uses these files, then delete the files."""
    model, record = _recorded(root, key, COMPLETE)
    with model:
        bad = {file.slot for file in record.files if file.path in set(paths)}
        unknown = set(paths) - {file.path for file in record.files}
        if unknown:
            raise InvalidArgumentError(f"{key} has no file {sorted(unknown)[0][:80]!r}")
        if not bad:
            return ()
        withdrawn = _withdraw_users(root, model, key, bad)
        with model.child(BOOKS, TRASH, create=True) as trash, Folders(model) as slots:
            for slot in sorted(bad):
                folder, name = slots.of(slot)
                if folder is not None and folder.lstat(name) is not None:
                    away = fresh_name()
                    folder.rename(name, trash, away)
                    trash.remove_tree(away)
            slots.sync()
    return withdrawn


def _withdraw_users(root: Folder, model: Folder, key: EntryKey, slots: set[str]) -> tuple[EntryKey, ...]:
    parts = folder_of(key)
    bad = {f"{'/'.join(parts)}/{slot}" for slot in slots}
    records = sound_records(model, parts) if has_view(key.provider) else plain_records(root, parts)
    withdrawn = []
    for record in list(records):
        folder = "/".join(folder_of(record.key))
        if any(f"{folder}/{file.slot}" in bad for file in record.files):
            with root.child(*folder_of(record.key)) as there:
                withdraw(there, record.key, into=CONDEMNED)
            withdrawn.append(record.key)
    return tuple(withdrawn)


def _recorded(root: Folder, key: EntryKey, *places: str) -> tuple[Folder, CompletionRecord]:
    model = root.find(*folder_of(key))
    if model is not None:
        for place in places:
            if (record := read_record(model, key, place=place)) is not None:
                return model, record
        model.close()
    raise NotFoundError(f"{key} is not complete in the cache", remedy="download it")
