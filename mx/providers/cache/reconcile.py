"""What dead downloads and deletes left behind: finished where it was decided, thrown away where not."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from mx.core.model import EntryKey
from mx.providers.cache.claimants import linked_slots, model_folders, withdraw
from mx.providers.cache.entry import CompletionRecord, parse_record, read_record, records_in
from mx.providers.cache.journal import read_story
from mx.providers.cache.layout import (
    BOOKS,
    COMPLETE,
    CONDEMNED,
    PLAIN_ROOTS,
    REMOVING,
    STAGE,
    TRASH,
    folder_of,
    has_view,
    key_at,
    label,
)
from mx.providers.cache.publish import DRAFT
from mx.providers.cache.remove import (
    empty_bin,
    finish_removal,
    prune,
    prune_parents,
    remove_empty,
    trash_slots,
)
from mx.providers.cache.tree import Folder, fresh_name

_DAY_S = 86_400.0
_MOST_BYTES = 64 << 20
_FOREIGN = ".modelexpress-"  # names of the published client's installs; abandoned after a day


def clean(root: Folder, *, older_than_s: float, now_s: float) -> int:
    """Remove what nobody touched for that long; the bytes that the disk gained."""
    before_s = now_s - older_than_s
    freed = 0
    for parts in list(model_folders(root)):
        key = key_at(parts)
        model = root.find(*parts)
        if model is None:
            continue
        with model:
            if key is not None and folder_of(key) == parts:
                freed += _clean_model(root, model, key, before_s)
            prune(model)
        prune_parents(root, parts)
    _remove_empty_models(root)
    return freed + _clean_foreign(root, min(before_s, now_s - _DAY_S))


def _remove_empty_models(root: Folder) -> None:
    """A download that died before its first file leaves a folder with nothing in it."""
    for name in root.names():
        if name in PLAIN_ROOTS.values() and (folder := root.find(name)) is not None:
            with folder:
                remove_empty(folder)
        if name.startswith("models--") or name in PLAIN_ROOTS.values():
            root.rmdir(name)


def _clean_model(root: Folder, model: Folder, key: EntryKey, before_s: float) -> int:
    freed = _clean_stages(root, model, before_s)
    for record in list(records_in(model, place=CONDEMNED)):
        if record.completed_at_ms / 1000 < before_s and _old(model, CONDEMNED, record, before_s):
            withdraw(model, record.key, out_of=CONDEMNED)
    for record in list(records_in(model, place=REMOVING)):
        if folder_of(record.key) == folder_of(key):
            freed += finish_removal(root, model, record.key)
    freed += _clean_trash(root, model, key, before_s)
    if has_view(key.provider):
        freed += trash_slots(root, model, key, _orphans(model, before_s))
    return freed + _clean_temporary(model, before_s)


def _old(model: Folder, place: str, record: CompletionRecord, before_s: float) -> bool:
    with model.child(BOOKS, place) as folder:
        found = folder.lstat(f"{label(record.key)}.json")
    # The time of the rename that brought it here.
    return found is not None and found.st_ctime < before_s


def _clean_stages(root: Folder, model: Folder, before_s: float) -> int:
    stages = model.find(BOOKS, STAGE)
    if stages is None:
        return 0
    freed = 0
    with stages:
        for name in stages.names():
            if _newest_s(stages, name) >= before_s and not _is_leftover(model, stages, name):
                continue
            with model.child(BOOKS, TRASH, create=True) as trash:
                away = fresh_name()
                with suppress(FileNotFoundError):
                    stages.rename(name, trash, away)
                    _hand_over_draft(model, trash, away)
                    freed += trash.remove_tree(away)
    return freed


def _is_leftover(model: Folder, stages: Folder, name: str) -> bool:
    """The download was published, and its process ended before it had tidied up."""
    complete = model.find(BOOKS, COMPLETE)
    if complete is None:
        return False
    with complete:
        if complete.lstat(f"{name.rpartition('.')[0]}.json") is None:
            return False
    stage = stages.find(name)
    if stage is None:
        return False
    with stage:
        story = read_story(stage)
    return story.released or (story.writer is not None and story.writer.surely_dead())


def _hand_over_draft(model: Folder, trash: Folder, name: str) -> None:
    """A publish that died half-way and that nobody repeated: what it installed goes with it."""
    stage = trash.find(name)
    if stage is None:
        return
    with stage:
        data = stage.read(DRAFT, most_bytes=_MOST_BYTES)
        draft = None if data is None else parse_record(data)
        if draft is None or read_record(model, draft.key) is not None:
            return
        if has_view(draft.key.provider) and not draft.made_view:
            return  # the snapshot was there before us: another tool's, and only its blobs are left
        with model.child(BOOKS, REMOVING, create=True) as removing:
            stage.rename(DRAFT, removing, f"{label(draft.key)}.json")
            removing.sync()


def _clean_trash(root: Folder, model: Folder, key: EntryKey, before_s: float) -> int:
    trash = model.find(BOOKS, TRASH)
    if trash is None:
        return 0
    with trash:
        old = [name for name in trash.names() if _changed_s(trash.lstat(name)) < before_s]
        return sum(empty_bin(root, model, key, trash, name) for name in old)


def _orphans(model: Folder, before_s: float) -> set[str]:
    """Blobs that no snapshot links to, old enough that nobody is about to."""
    blobs = model.find("blobs")
    if blobs is None:
        return set()
    with blobs:
        found = {
            f"blobs/{name}"
            for name in blobs.names()
            if not name.endswith(".incomplete") and _is_old_file(blobs, name, before_s)
        }
    return found - linked_slots(model)


def _is_old_file(folder: Folder, name: str, before_s: float) -> bool:
    found = folder.regular(name)
    return found is not None and found.st_mtime < before_s and found.st_ctime < before_s


def _clean_temporary(model: Folder, before_s: float) -> int:
    freed = 0
    for parts in ((), (COMPLETE,), (REMOVING,), (CONDEMNED,)):
        folder = model.find(BOOKS, *parts)
        if folder is None:
            continue
        with folder:
            for name in folder.names():
                if name.startswith(".mx-") and _is_old_file(folder, name, before_s):
                    freed += folder.unlink(name)
    return freed


def _clean_foreign(root: Folder, before_s: float) -> int:
    freed = 0
    for name in root.names():
        model = root.find(name) if name.startswith("models--") else None
        if model is None:
            continue
        with model:
            for left in model.names():
                if left.startswith(_FOREIGN) and _newest_s(model, left) < before_s:
                    freed += model.remove_tree(left)
    return freed


def _newest_s(folder: Folder, name: str) -> float:
    """When anything below was touched last, in Unix seconds."""
    found = folder.lstat(name)
    newest = _changed_s(found)
    if found is not None and stat.S_ISDIR(found.st_mode) and (below := folder.find(name)) is not None:
        with below:
            newest = max([newest, *(_newest_s(below, entry.name) for entry in below.entries())])
    return newest


def _changed_s(found: os.stat_result | None) -> float:
    return 0.0 if found is None else max(found.st_mtime, found.st_ctime)
