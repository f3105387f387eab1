"""Who else uses a file. Asked before anything is deleted or overwritten, and again afterwards.

Hugging Face: every link of every snapshot, whoever made it. Elsewhere: the completion records of
the model's folder, of the folders above it and of those below it, since ``s3://b/a`` holds the
files of ``s3://b/a/c`` too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from mx.core.model import EntryKey
from mx.providers.cache.entry import CompletionRecord, records_in
from mx.providers.cache.layout import (
    BOOKS,
    COMPLETE,
    PLAIN_ROOTS,
    REMOVING,
    folder_of,
    has_view,
    label,
    slot_behind,
)
from mx.providers.cache.tree import Folder


def used_slots(root: Folder, model: Folder, key: EntryKey) -> set[str]:
    """Slots of the model's folder that a snapshot or a complete entry uses at this moment."""
    if has_view(key.provider):
        return linked_slots(model)
    parts = folder_of(key)
    here = "/".join(parts) + "/"
    return {
        path.removeprefix(here)
        for record in plain_records(root, parts)
        for path in absolute_slots(record)
        if path.startswith(here)
    }


def linked_slots(model: Folder) -> set[str]:
    """Every blob that a link of a snapshot leads to."""
    found: set[str] = set()
    snapshots = model.find("snapshots")
    if snapshots is not None:
        with snapshots:
            collect_links(snapshots, found)
    return found


def collect_links(folder: Folder, found: set[str]) -> None:
    for entry in folder.entries():
        if entry.is_symlink():
            target = folder.readlink(entry.name)
            slot = None if target is None else slot_behind(target)
            if slot is not None:
                found.add(slot)
        elif entry.is_dir(follow_symlinks=False):
            below = folder.find(entry.name)
            if below is not None:
                with below:
                    collect_links(below, found)


def absolute_slots(record: CompletionRecord) -> Iterator[str]:
    folder = "/".join(folder_of(record.key))
    for file in record.files:
        yield f"{folder}/{file.slot}"


def plain_records(root: Folder, parts: tuple[str, ...]) -> Iterator[CompletionRecord]:
    """Complete records above, at and below a plain folder."""
    for length in range(1, len(parts) + 1):
        folder = root.find(*parts[:length])
        if folder is None:
            return
        with folder:
            yield from sound_records(folder, parts[:length])
            if length == len(parts):
                yield from _below(folder, parts)


def model_folders(root: Folder) -> Iterator[tuple[str, ...]]:
    """Every folder below the root that holds our bookkeeping."""
    plain = set(PLAIN_ROOTS.values())
    for name in root.names():
        if name.startswith("models--"):
            with suppress(OSError), root.child(name, BOOKS):
                yield (name,)
        elif name in plain and (folder := root.find(name)) is not None:
            with folder:
                yield from _kept_below(folder, (name,))


def _kept_below(folder: Folder, parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for entry in folder.entries():
        if not entry.is_dir(follow_symlinks=False):
            continue
        if entry.name == BOOKS:
            yield parts
        elif (below := folder.find(entry.name)) is not None:
            with below:
                yield from _kept_below(below, (*parts, entry.name))


def _below(folder: Folder, parts: tuple[str, ...]) -> Iterator[CompletionRecord]:
    for entry in folder.entries():
        if entry.name == BOOKS or not entry.is_dir(follow_symlinks=False):
            continue
        below = folder.find(entry.name)
        if below is not None:
            with below:
                yield from sound_records(below, (*parts, entry.name))
                yield from _below(below, (*parts, entry.name))


def sound_records(
    folder: Folder, parts: tuple[str, ...], *, place: str = COMPLETE
) -> Iterator[CompletionRecord]:
    """Completion records of one model's folder that speak of this folder."""
    # A record that was copied from elsewhere speaks of other files than those here.
    return (record for record in records_in(folder, place=place) if folder_of(record.key) == parts)


def withdraw_overwritten(root: Folder, new: CompletionRecord) -> tuple[EntryKey, ...]:
    """Entries that would hold other bytes than they say once ``new`` is installed stop being entries."""
    prefix = "/".join(folder_of(new.key))
    coming = {f"{prefix}/{file.slot}": file.digest for file in new.files}
    withdrawn = []
    for record in list(plain_records(root, folder_of(new.key))):
        folder = "/".join(folder_of(record.key))
        changed = any(
            coming.get(f"{folder}/{file.slot}", file.digest) != file.digest for file in record.files
        )
        # A record without these files is as stale: one commit of a plain folder at a time.
        other_commit = folder_of(record.key) == folder_of(new.key) and record.key.commit != new.key.commit
        if changed or other_commit:
            with root.child(*folder_of(record.key)) as there:
                if withdraw(there, record.key):
                    withdrawn.append(record.key)
    return tuple(withdrawn)


def withdraw(model: Folder, key: EntryKey, *, out_of: str = COMPLETE, into: str = REMOVING) -> bool:
    """The entry stops being one; its record waits in ``into`` until its files are gone, or whole again."""
    name = f"{label(key)}.json"
    complete = model.find(BOOKS, out_of)
    if complete is None:
        return False
    with complete, model.child(BOOKS, into, create=True) as removing:
        try:
            complete.rename(name, removing, name)
        except FileNotFoundError:
            return False
        complete.sync()
        removing.sync()
    return True
