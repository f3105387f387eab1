"""Refs: which commit a revision meant. One small file per name, nested names in sub-folders."""

from __future__ import annotations

import stat

from mx.providers.cache.layout import BOOKS, DEFAULT_REVISION
from mx.providers.cache.tree import Folder, fresh_name


def write_refs(model: Folder, commit: str, revision: str | None) -> None:
    """``refs/<revision>`` and ``refs/<commit>`` hold the commit, as other tools write them."""
    with model.child("refs", create=True) as refs, model.child(BOOKS, create=True) as books:
        for name in sorted({revision or DEFAULT_REVISION, commit}):
            _write_ref(refs, books, name, commit)


def _write_ref(refs: Folder, books: Folder, name: str, commit: str) -> None:
    *parents, last = name.split("/")
    here = refs.child()
    try:
        for part in parents:
            if here.lstat(part) is not None and here.find(part) is None:
                here.unlink(part)  # a branch "a" that is gone since there is a branch "a/b"
            below = here.child(part, create=True)
            here.close()
            here = below
        if here.read(last, most_bytes=4096) == commit.encode():
            return
        found = here.lstat(last)
        if found is not None and stat.S_ISDIR(found.st_mode):
            here.remove_tree(last)
        # Not beside its place: another tool would take a half-written file for a ref.
        temporary = fresh_name(".ref")
        books.write(temporary, commit.encode())
        books.rename(temporary, here, last)
        here.sync()
    finally:
        here.close()


def remove_refs(model: Folder, commit: str) -> None:
    """Every ref that means this commit, in sub-folders too; folders that are empty then go as well."""
    refs = model.find("refs")
    if refs is not None:
        with refs:
            _prune_refs(refs, commit.encode())


def _prune_refs(folder: Folder, commit: bytes) -> None:
    for entry in folder.entries():
        if entry.is_dir(follow_symlinks=False):
            below = folder.find(entry.name)
            if below is not None:
                with below:
                    _prune_refs(below, commit)
                folder.rmdir(entry.name)
        elif (folder.read(entry.name, most_bytes=4096) or b"").strip() == commit:
            folder.unlink(entry.name)


def read_ref(model: Folder, revision: str | None) -> str | None:
    *parents, last = (revision or DEFAULT_REVISION).split("/")
    folder = model.find("refs", *parents)
    if folder is None:
        return None
    with folder:
        data = folder.read(last, most_bytes=4096)
    return None if data is None else data.decode(errors="replace").strip()
