"""Deleting an entry: it stops being one first, then its files go by way of the trash.

record → ``removing``        from here on it is no entry, and a crash is finished by the next pass
refs, snapshot → away        other tools no longer find it
files nobody uses → trash    by rename; then who uses them is asked again, and those come back
trash → deleted              only now does the disk gain anything
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import replace

from mx.core.model import EntryKey
from mx.providers.cache.claimants import collect_links, used_slots, withdraw
from mx.providers.cache.entry import CompletionRecord, read_record
from mx.providers.cache.layout import (
    BOOKS,
    COMPLETE,
    CONDEMNED,
    REMOVING,
    STAGE,
    TRASH,
    folder_of,
    has_view,
    label,
    view_of,
)
from mx.providers.cache.refs import remove_refs
from mx.providers.cache.staged import stage_names
from mx.providers.cache.tree import Folder, Folders, fresh_name

_VIEW = "view"


def remove_entry(root: Folder, key: EntryKey) -> int:
    """Delete the entry and what a download of it left; the bytes that the disk gained."""
    model = root.find(*folder_of(key))
    if model is None:
        return 0
    with model:
        withdraw(model, key, out_of=CONDEMNED)
        withdraw(model, key)
        freed = finish_removal(root, model, key)
        freed += _remove_stages(model, key)
        prune(model)
    prune_parents(root, folder_of(key))
    return freed


def finish_removal(root: Folder, model: Folder, key: EntryKey) -> int:
    """Carry a withdrawn entry's removal to its end, from wherever it stopped."""
    record = read_record(model, key, place=REMOVING)
    if record is None:
        return 0
    with model.child(BOOKS, TRASH, create=True) as trash, trash.child(fresh_name(), create=True) as bin_:
        candidates = {file.slot for file in record.files}
        if has_view(key.provider):
            if _kept_paths(model, key) is None:
                candidates |= _trash_view(model, record, bin_)
            else:
                _unlink_from_view(model, record)
        _trash_slots(root, model, key, candidates, bin_)
        model.sync()
        _bring_back(root, model, key, bin_)
        freed = trash.remove_tree(bin_.path.name)
    with model.child(BOOKS, REMOVING) as removing:
        removing.unlink(f"{label(key)}.json")
    return freed


def empty_bin(root: Folder, model: Folder, key: EntryKey, trash: Folder, name: str) -> int:
    """Finish with what a dead remover left in the trash; files in use go back."""
    bin_ = trash.find(name)
    if bin_ is None:
        return trash.remove_tree(name)
    with bin_:
        _bring_back(root, model, key, bin_)
    return trash.remove_tree(name)


def trash_slots(root: Folder, model: Folder, key: EntryKey, slots: set[str]) -> int:
    """Delete files that no entry uses, by way of the trash."""
    with model.child(BOOKS, TRASH, create=True) as trash, trash.child(fresh_name(), create=True) as bin_:
        _trash_slots(root, model, key, slots, bin_)
        _bring_back(root, model, key, bin_)
        return trash.remove_tree(bin_.path.name)


def _kept_paths(model: Folder, key: EntryKey) -> set[str] | None:
    """Paths of the commit that an entry in either weight mode still has; None when there is none."""
    kept: set[str] | None = None
    for weights in (True, False):
        record = read_record(model, replace(key, weights=weights))
        if record is not None:
            kept = (kept or set()) | {file.path for file in record.files}
    return kept


def _unlink_from_view(model: Folder, record: CompletionRecord) -> None:
    """Take single files out of a snapshot that the other weight mode goes on using."""
    view = model.find(*view_of(record.key.commit))
    if view is None:
        return
    with view, Folders(view) as folders:
        for path in sorted({file.path for file in record.files} - (_kept_paths(model, record.key) or set())):
            folder, name = folders.of(path)
            if folder is not None:
                folder.unlink(name)
        remove_empty(view)


def _trash_view(model: Folder, record: CompletionRecord, bin_: Folder) -> set[str]:
    """Take the whole snapshot away at once; the blobs its links led to."""
    parent, commit = view_of(record.key.commit)
    remove_refs(model, commit)
    snapshots = model.find(parent)
    if snapshots is None:
        return set()
    with snapshots:
        with suppress(FileNotFoundError):
            snapshots.rename(commit, bin_, _VIEW)
        snapshots.sync()
        view = bin_.find(_VIEW)
        if view is None:
            return set()
        with view:
            found: set[str] = set()
            collect_links(view, found)
        if _kept_paths(model, record.key) is not None:
            # Published again at this very moment: its links are these.
            with suppress(OSError):
                bin_.rename(_VIEW, snapshots, commit)
    return found


def _trash_slots(root: Folder, model: Folder, key: EntryKey, slots: set[str], bin_: Folder) -> None:
    used = used_slots(root, model, key)
    with Folders(model) as folders, Folders(bin_) as into:
        for slot in sorted(slots - used):
            folder, name = folders.of(slot)
            if folder is None or folder.lstat(name) is None or in_use_elsewhere(root, model, folder, name):
                continue
            away, _ = into.made(slot)
            with suppress(FileNotFoundError):
                folder.rename(name, away, name)


def _bring_back(root: Folder, model: Folder, key: EntryKey, bin_: Folder) -> None:
    """Files that somebody began to use while they were taken away go back to their place."""
    away = sorted(_files_below(bin_, ""))
    if not away:
        return
    used = used_slots(root, model, key)
    with Folders(bin_) as folders, Folders(model) as places:
        for slot in away:
            if slot not in used:
                continue
            folder, name = folders.of(slot)
            place, _ = places.made(slot)
            if folder is None or place.lstat(name) is not None:
                continue
            with suppress(FileNotFoundError, FileExistsError):
                if not folder.link(name, place, name):
                    folder.rename(name, place, name)


def _files_below(folder: Folder, prefix: str) -> list[str]:
    found = []
    for entry in folder.entries():
        if entry.is_dir(follow_symlinks=False):
            if prefix or entry.name != _VIEW:
                below = folder.find(entry.name)
                if below is not None:
                    with below:
                        found += _files_below(below, f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            found.append(prefix + entry.name)
    return found


def in_use_elsewhere(root: Folder, model: Folder, folder: Folder, name: str) -> bool:
    """Another tool is at this blob: a partial file beside it, or its lock is held."""
    if folder.path.parent != model.path or folder.path.name != "blobs":
        return False
    if any(entry.name.startswith(f"{name}.") for entry in folder.entries()):
        return True
    locks = root.find(".locks", model.path.name)
    if locks is None:
        return False
    with locks:
        try:
            fd = locks.open(f"{name}.lock", os.O_RDWR | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
    return False


def _remove_stages(model: Folder, key: EntryKey) -> int:
    stages = model.find(BOOKS, STAGE)
    if stages is None:
        return 0
    freed = 0
    with stages, model.child(BOOKS, TRASH, create=True) as trash:
        for name in stage_names(stages, key):
            away = fresh_name()
            with suppress(FileNotFoundError):
                stages.rename(name, trash, away)
                freed += trash.remove_tree(away)
    return freed


def prune(model: Folder) -> None:
    """Take away what is empty; nothing at all while a download goes on here."""
    books = model.find(BOOKS)
    if books is not None:
        with books:
            if not books.rmdir(STAGE):
                return
            for name in (TRASH, REMOVING, CONDEMNED, COMPLETE):
                books.rmdir(name)
        model.rmdir(BOOKS)
    remove_empty(model)


def prune_parents(root: Folder, parts: tuple[str, ...]) -> None:
    """The model's folder and those above it, as far as they are empty."""
    for length in range(len(parts), 0, -1):
        parent = root.find(*parts[: length - 1])
        if parent is None:
            continue
        with parent:
            if not parent.rmdir(parts[length - 1]):
                return


def remove_empty(folder: Folder) -> None:
    """Take away empty folders below, however deep; not those of our bookkeeping."""
    for entry in folder.entries():
        if entry.is_dir(follow_symlinks=False) and entry.name != BOOKS:
            below = folder.find(entry.name)
            if below is not None:
                with below:
                    remove_empty(below)
                folder.rmdir(entry.name)
