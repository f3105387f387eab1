"""From verified files to a complete entry: install, then the completion record, then the refs.

The record becomes visible with one rename. What was installed is looked at once more after that:
somebody who deletes another entry of the same model looks at the records after each file he takes
away, so that one of the two notices whatever the other did, without a lock.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from mx.errors import ConflictError, PreconditionError
from mx.providers.cache.claimants import withdraw_overwritten
from mx.providers.cache.entry import CompletionRecord, RecordedFile, missing_files, whole
from mx.providers.cache.layout import (
    BOOKS,
    COMPLETE,
    CONDEMNED,
    folder_of,
    has_view,
    label,
    view_of,
    view_target,
)
from mx.providers.cache.refs import write_refs
from mx.providers.cache.remove import finish_removal
from mx.providers.cache.staged import held_name, verified
from mx.providers.cache.tree import Folder, Folders, fresh_name

DRAFT = "draft.json"
_ATTEMPTS = 5


class Publication:
    """Installs one staged entry. ``in_slot`` names files that lie in their slot only."""

    def __init__(
        self,
        root: Folder,
        model: Folder,
        stage: Folder,
        record: CompletionRecord,
        *,
        in_slot: frozenset[str],
    ) -> None:
        self._root = root
        self._model = model
        self._stage = stage
        self._record = record
        self._in_slot = in_slot
        self._viewed = has_view(record.key.provider)

    def carry_out(self, revision: str | None, fence: Callable[[], bool]) -> None:
        """Raises ConflictError when ``fence`` says no, PreconditionError when a held file is gone."""
        self._ask(fence)
        self._require_held()
        made = self._viewed and not self._view_exists()
        # The draft lies there before the first change: cleaning up after a crash goes by it.
        self._record = replace(self._record, made_view=made)
        self._stage.replace(DRAFT, whole(self._record.to_json()))
        overwritten = () if self._viewed else withdraw_overwritten(self._root, self._record)
        self._install()
        self._ask(fence)
        self._complete()
        for _ in range(_ATTEMPTS):
            if not missing_files(self._model, self._record):
                break
            self._install()
        else:
            raise ConflictError(
                f"{self._record.key} was deleted while it was published", remedy="download it again"
            )
        if self._viewed:
            write_refs(self._model, self._record.key.commit, revision)
        for key in overwritten:
            with self._root.child(*folder_of(key)) as model:
                finish_removal(self._root, model, key)
        self._leave()

    def _view_exists(self) -> bool:
        view = self._model.find(*view_of(self._record.key.commit))
        if view is None:
            return False
        view.close()
        return True

    def _ask(self, fence: Callable[[], bool]) -> None:
        if not fence():
            raise ConflictError(
                f"{self._record.key} was not published: its claim belongs to another owner by now",
                remedy="stop: the new owner goes on from the same bytes",
            )

    def _require_held(self) -> None:
        for file in self._record.files:
            if file.path in self._in_slot:
                continue
            if not verified(self._stage, file.path, size_bytes=file.size_bytes, mtime_ns=file.mtime_ns):
                raise PreconditionError(
                    f"{file.path} of {self._record.key} is no longer as it was verified",
                    remedy="begin again; only this file is asked for",
                )

    def _install(self) -> None:
        with Folders(self._model) as slots:
            for file in self._record.files:
                if file.path not in self._in_slot:
                    self._install_slot(slots, file)
            slots.sync()
        if self._viewed:
            self._install_view()

    def _install_slot(self, slots: Folders, file: RecordedFile) -> None:
        folder, name = slots.made(file.slot)
        ours = self._stage.regular(held_name(file.path))
        there = folder.regular(name)
        if ours is None:
            raise PreconditionError(f"{file.path} of {self._record.key} is no longer staged: begin again")
        if there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
            return
        temporary = fresh_name(".slot")
        if self._stage.link(held_name(file.path), self._stage, temporary):
            self._stage.rename(temporary, folder, name)
        elif there is None or there.st_mtime_ns != file.mtime_ns:
            # No second names here: what is installed lies in its slot only from now on.
            self._stage.rename(held_name(file.path), folder, name)

    def _install_view(self) -> None:
        commit = self._record.key.commit
        with self._model.child(view_of(commit)[0], create=True) as snapshots:
            if snapshots.lstat(commit) is None and self._install_whole_view(snapshots, commit):
                return
            with snapshots.child(commit, create=True) as view:
                self._link_files(view, renew=True)

    def _install_whole_view(self, snapshots: Folder, commit: str) -> bool:
        """All links at once, so that other tools see the snapshot whole or not at all."""
        name = fresh_name(".view")
        with self._stage.child(name, create=True) as view:
            self._link_files(view, renew=False)
        try:
            self._stage.rename(name, snapshots, commit)
        except OSError:
            # Somebody was faster, or this system can't rename onto what is there: link by link.
            self._stage.remove_tree(name)
            return False
        snapshots.sync()
        return True

    def _link_files(self, view: Folder, *, renew: bool) -> None:
        with Folders(view) as folders:
            for file in self._record.files:
                folder, name = folders.made(file.path)
                if not renew:
                    self._make_link(file, folder, name)
                elif folder.readlink(name) != view_target(file.path, file.slot):
                    temporary = fresh_name(".link")
                    self._make_link(file, self._stage, temporary)
                    self._stage.rename(temporary, folder, name)
            folders.sync()

    def _make_link(self, file: RecordedFile, folder: Folder, name: str) -> None:
        try:
            folder.symlink(view_target(file.path, file.slot), name)
        except PermissionError:
            # A file system without symbolic links: a second name does as well.
            blobs, _, blob = file.slot.partition("/")
            with self._model.child(blobs) as slots:
                if not slots.link(blob, folder, name):
                    raise

    def _complete(self) -> None:
        with self._model.child(BOOKS, COMPLETE, create=True) as complete:
            self._stage.rename(DRAFT, complete, f"{label(self._record.key)}.json")
            complete.sync()
        condemned = self._model.find(BOOKS, CONDEMNED)
        if condemned is not None:
            with condemned:
                condemned.unlink(f"{label(self._record.key)}.json")

    def _leave(self) -> None:
        """The second names of the staged files go; what is left of them later is only rubbish."""
        for entry in self._stage.entries():
            if entry.name != "journal.jsonl":
                self._stage.remove_tree(entry.name)
        self._stage.remove_tree("journal.jsonl")
        with suppress(FileNotFoundError), self._model.child(BOOKS, "stage") as stages:
            stages.rmdir(self._stage.path.name)
