"""The folder of one download: parts that grow, files that are whole, and how a successor takes over.

``.mx/stage/<label>.<unique>/`` holds ``<name>.part`` (growing), ``<name>.held`` (verified) and the
journal. Taking over is one rename, which one of several contenders wins; a dead owner that is not
dead after all then finds its folder gone, and what it still writes goes to a file nobody reads.
"""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from contextlib import suppress

from mx.core.cached import StageHolder
from mx.core.model import EntryKey, ListedFile
from mx.providers.cache.hashing import FileHash
from mx.providers.cache.journal import JOURNAL, Reached, Story, read_story
from mx.providers.cache.layout import BOOKS, STAGE, label
from mx.providers.cache.tree import Folder, fresh_name

_COPY_BYTES = 16 << 20
_FIRST = "0" * 32  # in the place of what makes a stage's name unique


def part_name(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:32] + ".part"


def held_name(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:32] + ".held"


def open_stage(model: Folder, key: EntryKey) -> tuple[Folder, Story]:
    """A folder of our own: the newest predecessor's with all it reached, or a fresh one."""
    for _ in range(100):
        with suppress(FileNotFoundError), model.child(BOOKS, STAGE, create=True) as stages:
            name = f"{label(key)}.{uuid.uuid4().hex}"
            if not _take_over(stages, key, name):
                stages.step("mkdir stage")
                os.mkdir(name, dir_fd=stages.fd)
            stage = stages.within(name)
            return stage, read_story(stage)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(model.path))


def open_stage_instead(
    model: Folder, key: EntryKey, holder: StageHolder | None
) -> tuple[Folder, Story] | None:
    """The stage of ``holder`` (None: a fresh one, if there is none at all) made our own; None when
    somebody else was faster."""
    with suppress(FileNotFoundError), model.child(BOOKS, STAGE, create=True) as stages:
        if holder is not None:
            name = f"{label(key)}.{uuid.uuid4().hex}"
            stages.rename(holder.stage, stages, name)
        else:
            name = f"{label(key)}.{_FIRST}"  # the same for all: one of several contenders makes it
            stages.step("mkdir stage")
            try:
                os.mkdir(name, dir_fd=stages.fd)
            except FileExistsError:
                return None
            if stage_names(stages, key) != [name]:
                stages.rmdir(name)
                return None
        stage = stages.within(name)
        return stage, read_story(stage)
    return None


def find_holder(model: Folder, key: EntryKey) -> StageHolder | None:
    """Whose stage is the newest; None when there is none."""
    with suppress(FileNotFoundError), model.child(BOOKS, STAGE) as stages:
        for name in stage_names(stages, key):
            with stages.child(name) as stage:
                story = read_story(stage)
                journal = stage.lstat(JOURNAL)
                sizes = [found.st_size for e in stage.entries() if (found := stage.regular(e.name))]
            here = story.stage == name  # else it was taken over just now, and the new owner says so soon
            ended = here and (story.released or (story.writer is not None and story.writer.surely_dead()))
            pulse = f"{name}:{journal.st_mtime_ns}:{journal.st_size}" if journal else name
            done = max(0, sum(sizes) - (journal.st_size if journal else 0))
            return StageHolder(name, pulse, ended, done, story.failure if ended else None)
    return None


def stage_names(stages: Folder, key: EntryKey) -> list[str]:
    """Stages of a key, newest first."""
    found = []
    for name in stages.names():
        if name.rpartition(".")[0] == label(key) and (folder := stages.find(name)) is not None:
            with folder:
                journal = folder.lstat(JOURNAL)
            found.append((journal.st_mtime_ns if journal else 0, name))
    return [name for _, name in sorted(found, reverse=True)]


def _take_over(stages: Folder, key: EntryKey, new: str) -> bool:
    for old in stage_names(stages, key):
        try:
            stages.rename(old, stages, new)
        except FileNotFoundError:
            continue  # another contender was faster
        return True
    return False


def settle_parts(stage: Folder, story: Story, files: tuple[ListedFile, ...]) -> dict[str, int]:
    """Keep what can be gone on from; per path the bytes that are surely right.

    Parts a living owner may still write to are copied away from it. Bytes that another machine
    wrote count up to its last checkpoint only: what came after may have holes.
    """
    quiet = story.released or story.writer is None or story.writer.surely_dead()
    coherent = story.writer is not None and story.writer.same_memory()
    wanted = {part_name(file.path): file for file in files}
    offsets: dict[str, int] = {}
    for entry in stage.entries():
        if entry.name == JOURNAL or entry.name.endswith(".held"):
            continue
        file = wanted.get(entry.name)
        reached = story.files.get(file.path) if file is not None else None
        keep = 0
        if file is not None and reached is not None and reached.listed == file:
            keep = _trusted_bytes(stage, entry.name, reached, coherent=coherent)
        if keep == 0 or file is None:
            stage.remove_tree(entry.name)
            continue
        if not quiet:
            _copy(stage, entry.name, keep)
        elif not _cut(stage, entry.name, keep):
            continue
        offsets[file.path] = keep
    return offsets


def _trusted_bytes(stage: Folder, name: str, reached: Reached, *, coherent: bool) -> int:
    found = stage.regular(name)
    if found is None or found.st_size > reached.listed.size_bytes:
        return 0
    if coherent:
        return found.st_size
    if not 0 < reached.mark_bytes <= found.st_size:
        return 0
    state = FileHash(size_bytes=reached.listed.size_bytes, listed="")
    fd = stage.open(name)
    try:
        state.advance(fd, reached.mark_bytes)
    finally:
        os.close(fd)
    return reached.mark_bytes if state.xxh3 == reached.mark_xxh3 else 0


def _cut(stage: Folder, name: str, size_bytes: int) -> bool:
    found = stage.regular(name)
    if found is None:
        return False
    if found.st_size == size_bytes:
        return True
    if found.st_nlink > 1:  # somebody else's file by its second name: never shorten it
        stage.unlink(name)
        return False
    stage.step("cut part")
    fd = stage.open(name, os.O_WRONLY)
    try:
        os.ftruncate(fd, size_bytes)
    finally:
        os.close(fd)
    return True


def _copy(stage: Folder, name: str, size_bytes: int) -> None:
    """The first bytes in a file of its own, under the same name; shares blocks where the disk can."""
    temporary = fresh_name(".copy")
    source = stage.open(name)
    try:
        stage.step("copy part")
        target = stage.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            _copy_bytes(source, target, size_bytes)
        finally:
            os.close(target)
    finally:
        os.close(source)
    stage.rename(temporary, stage, name)


def _copy_bytes(source: int, target: int, size_bytes: int) -> None:
    done = 0
    with suppress(OSError, AttributeError):
        while done < size_bytes:
            count = os.copy_file_range(source, target, size_bytes - done, done, done)
            if count == 0:
                break
            done += count
    while done < size_bytes:
        data = os.pread(source, min(_COPY_BYTES, size_bytes - done), done)
        if not data:
            raise OSError(errno.EIO, "a part became shorter while it was copied")
        written = 0
        while written < len(data):
            written += os.pwrite(target, data[written:], done + written)
        done += len(data)


def verified(stage: Folder, path: str, *, size_bytes: int, mtime_ns: int) -> bool:
    """The held file is there as it was when it was verified."""
    found = stage.regular(held_name(path))
    return found is not None and (found.st_size, found.st_mtime_ns) == (size_bytes, mtime_ns)
