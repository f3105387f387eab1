"""What entries occupy, as the disk counts it: blocks, each file once, second names for nothing."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator

from mx.core.cached import CacheUsage, EntryUsage
from mx.core.model import EntryKey
from mx.providers.cache.claimants import collect_links, model_folders, sound_records
from mx.providers.cache.entry import CompletionRecord, missing_files
from mx.providers.cache.layout import (
    BOOKS,
    COMPLETE,
    CONDEMNED,
    STAGE,
    folder_of,
    has_view,
    staged_key,
    view_of,
)
from mx.providers.cache.tree import Folder, Folders


def complete_records(root: Folder) -> Iterator[tuple[Folder, CompletionRecord]]:
    """Every complete entry with its model's folder, open until the next one."""
    for parts in model_folders(root):
        model = root.find(*parts)
        if model is None:
            continue
        with model:
            for record in sound_records(model, parts):
                if not missing_files(model, record):
                    yield model, record


def recorded_keys(root: Folder) -> Iterator[EntryKey]:
    """Every entry with a completion record, in its place or condemned, whatever became of its files."""
    for parts in model_folders(root):
        model = root.find(*parts)
        if model is None:
            continue
        with model:
            for place in (COMPLETE, CONDEMNED):
                yield from (record.key for record in sound_records(model, parts, place=place))


def measure(root: Folder) -> CacheUsage:
    """Walk everything below the root; OSError when it can't be read."""
    sizes: dict[EntryKey, dict[str, int]] = {}
    commits: dict[str, set[str]] = {}
    for parts in model_folders(root):
        model = root.find(*parts)
        if model is None:
            continue
        folder = "/".join(parts)
        with model:
            for record in _counted_records(model, parts):
                commits.setdefault(folder, set()).add(record.key.commit)
                sizes[record.key] = _blocks(model, record, folder)
            for key, name, size in _stages(model, parts):
                sizes.setdefault(key, {})[f"{folder}/{name}"] = size
    _leave_out_foreign(root, sizes, commits)
    users = Counter(slot for slots in sizes.values() for slot in slots)
    space = os.fstatvfs(root.fd)
    return CacheUsage(
        used_bytes=_walk(root, set()),
        free_bytes=space.f_bavail * space.f_frsize,
        disk_bytes=space.f_blocks * space.f_frsize,
        entries={key: _entry_usage(slots, users) for key, slots in sizes.items()},
    )


def _counted_records(model: Folder, parts: tuple[str, ...]) -> Iterator[CompletionRecord]:
    """Entries, and those that lost a file or wait for one: what is left of them costs disk too."""
    yield from sound_records(model, parts)
    yield from sound_records(model, parts, place=CONDEMNED)


def _stages(model: Folder, parts: tuple[str, ...]) -> Iterator[tuple[EntryKey, str, int]]:
    """Downloads under way or left behind: whose they are, a name for each, what they cost."""
    stages = model.find(BOOKS, STAGE)
    if stages is None:
        return
    with stages:
        for name in stages.names():
            key, stage = staged_key(parts, name), stages.find(name)
            if stage is None:
                continue
            with stage:
                if key is not None:
                    yield key, f"{BOOKS}/{STAGE}/{name}", _walk(stage, set(), single=True)


def _blocks(model: Folder, record: CompletionRecord, folder: str) -> dict[str, int]:
    """Bytes by name: slots, and the links to them, since a long link takes a block too."""
    places = [file.slot for file in record.files]
    if has_view(record.key.provider):
        view = "/".join(view_of(record.key.commit))
        places += [f"{view}/{file.path}" for file in record.files]
    found: dict[str, int] = {}
    with Folders(model) as folders:
        for place in places:
            holder, name = folders.of(place)
            state = None if holder is None else holder.lstat(name)
            if state is not None:
                # With another name outside (hard-linked, or being staged) deleting it gains nothing.
                found[f"{folder}/{place}"] = state.st_blocks * 512 if state.st_nlink == 1 else 0
    return found


def _entry_usage(slots: dict[str, int], users: Counter[str]) -> EntryUsage:
    shared = tuple(sorted((slot, size) for slot, size in slots.items() if users[slot] > 1 and size))
    own = sum(size for slot, size in slots.items() if users[slot] == 1)
    return EntryUsage(own_bytes=own, shared=shared)


def _leave_out_foreign(
    root: Folder, sizes: dict[EntryKey, dict[str, int]], commits: dict[str, set[str]]
) -> None:
    """Blobs that a snapshot of another tool uses stay whatever is evicted: they count nothing."""
    foreign = {folder: _foreign_slots(root, folder, ours) for folder, ours in commits.items()}
    for key, slots in sizes.items():
        if has_view(key.provider):
            for slot in foreign.get("/".join(folder_of(key)), set()) & slots.keys():
                slots[slot] = 0


def _foreign_slots(root: Folder, folder: str, ours: set[str]) -> set[str]:
    snapshots = root.find(*folder.split("/"), "snapshots") if folder.startswith("models--") else None
    found: set[str] = set()
    if snapshots is None:
        return found
    with snapshots:
        for entry in snapshots.entries():
            view = None if entry.name in ours else snapshots.find(entry.name)
            if view is not None:
                with view:
                    collect_links(view, found)
    return {f"{folder}/{slot}" for slot in found}


def _walk(folder: Folder, seen: set[tuple[int, int]], *, single: bool = False) -> int:
    """Blocks below a folder; with ``single`` only of files that have no second name."""
    total = 0
    for entry in folder.entries():
        try:
            state = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(state.st_mode):
            below = folder.find(entry.name)
            if below is not None:
                with below:
                    total += _walk(below, seen, single=single)
        elif state.st_nlink == 1:
            total += state.st_blocks * 512
        elif not single and (state.st_dev, state.st_ino) not in seen:
            seen.add((state.st_dev, state.st_ino))
            total += state.st_blocks * 512
    return total
